"""The listener for whoever runs the server."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession, ClientTimeout

from packregistry.config import Address, Debug
from packregistry.config.settings import Prometheus
from packregistry.metrics import Metrics
from packregistry.web.debug import debug_server

LOOPBACK = Address("127.0.0.1", 0)
DEADLINE = 10


def debug(addr: Address | None = LOOPBACK, *, enabled: bool = True, path: str = "/metrics") -> Debug:
    return Debug(addr, Prometheus(enabled, path))


@pytest.fixture
async def client() -> AsyncIterator[ClientSession]:
    async with ClientSession(timeout=ClientTimeout(DEADLINE)) as session:
        yield session


@pytest.mark.parametrize("path", ["/metrics", "/a/b"])
async def test_metrics_are_at_the_path_that_is_configured(client: ClientSession, path: str) -> None:
    metrics = Metrics()
    async with debug_server(debug(path=path), metrics) as url:
        assert url.startswith("http://127.0.0.1:")
        assert url.endswith(path)
        async with client.get(url) as answer:
            assert answer.status == 200
            assert (await answer.read(), answer.headers["Content-Type"]) == metrics.text()
            assert answer.headers["Server"] == "packregistry"
        metrics.denied("read")
        async with client.get(f"{url}?name[]=x") as answer:
            assert b'denied_total{access="read"} 1.0' in await answer.read()


async def test_head_has_the_same_headers_and_no_body(client: ClientSession) -> None:
    metrics = Metrics()
    async with debug_server(debug(), metrics) as url, client.head(url) as answer:
        text, content_type = metrics.text()
        assert (answer.status, answer.headers["Content-Type"]) == (200, content_type)
        assert answer.headers["Content-Length"] == str(len(text))
        assert await answer.read() == b""


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/metrics/"),
        ("GET", "/metric"),
        ("GET", "/v1/"),
        ("POST", "/metrics"),
        ("DELETE", "/metrics"),
        ("OPTIONS", "/metrics"),
    ],
)
async def test_anything_else_is_refused_as_everywhere(client: ClientSession, method: str, path: str) -> None:
    async with debug_server(debug(), Metrics()) as url:
        base = url.removesuffix("/metrics")
        async with client.request(method, base + path) as answer:
            assert (answer.status, answer.headers["Server"]) == (404, "packregistry")
            (error,) = (await answer.json())["errors"]
            assert error["code"] == "NOT_FOUND"
            assert error["message"] == f'there is no {method} "{path}" here: metrics are at GET /metrics'


async def test_nothing_listens_any_more_when_the_context_is_left() -> None:
    async with debug_server(debug(), Metrics()) as url:
        host, port = url.removeprefix("http://").removesuffix("/metrics").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(host, int(port))
    writer.close()


@pytest.mark.parametrize(
    ("host", "shown"),
    [("", "localhost"), ("0.0.0.0", "localhost"), ("localhost", ""), ("::1", "[::1]")],
    ids=["every interface", "every IPv4 interface", "name", "IPv6"],
)
async def test_it_listens_where_it_is_told_and_says_how_to_get_there(
    client: ClientSession, host: str, shown: str
) -> None:
    async with debug_server(debug(Address(host, 0)), Metrics()) as url:
        assert url.startswith(f"http://{shown}")
        async with client.get(url) as answer:
            assert answer.status == 200


async def test_an_address_in_use_is_an_error_that_names_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = Address(*other.getsockname())
        message = re.escape(f"http.debug.addr: cannot listen on {address}: Address already in use")
        with pytest.raises(OSError, match=f"^{message}$"):
            async with debug_server(debug(address), Metrics()):
                pytest.fail("it listens")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "Name or service not known"),
        (UnicodeError("label empty or too long"), "label empty or too long"),
    ],
    ids=["unknown", "impossible"],
)
async def test_a_name_that_is_nobodys_is_an_error_that_names_it(
    monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    def unknown(*_args: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    message = re.escape(f"http.debug.addr: cannot listen on nowhere.invalid:0: {reason}")
    with pytest.raises(OSError, match=f"^{message}$"):
        async with debug_server(debug(Address("nowhere.invalid", 0)), Metrics()):
            pytest.fail("it listens")


@pytest.mark.parametrize(
    ("config", "warning"),
    [
        (debug(None, enabled=False), ""),
        (debug(None), "metrics are not served (http.debug.prometheus): say where with http.debug.addr"),
        (
            debug(Address("127.0.0.1", 5001), enabled=False),
            "nothing is served on 127.0.0.1:5001 (http.debug.addr): enable http.debug.prometheus",
        ),
    ],
    ids=["neither", "no address", "no metrics"],
)
async def test_half_a_configuration_listens_nowhere_and_says_so(
    config: Debug, warning: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        async with debug_server(config, Metrics()) as url:
            assert url == ""
    assert [entry.getMessage() for entry in caplog.records] == ([warning] if warning else [])
    assert all(entry.levelno == logging.WARNING for entry in caplog.records)
