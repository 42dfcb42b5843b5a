"""One line a request."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import logging
import os
import re
import string
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from packregistry import linesink
from packregistry.auth import Principal
from packregistry.config import Config, Log
from packregistry.web import accesslog
from packregistry.web.accesslog import BEGUN, PRINCIPAL, SEEN, AccessLog, logger_class
from packregistry.web.proxy import Seen
from tests.factories import make_pack, noise
from tests.streams import Noticing
from tests.web import DEADLINE, Site, basic, request, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    root = tmp_path_factory.mktemp("site")
    make_pack(root / "packs", files={"manifests/noise": noise(90_000)})
    users = {"reader": "secret", 'odd name"\x1b': "secret"}
    async with serving(root / "data", root / "packs", users=users) as running:
        yield running


def last(site: Site) -> str:
    line = site.lines()[-1]
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ INFO access ", line)
    assert re.search(r" \d+\.\d\dms$", line)
    return " ".join(line.split(" ")[3:-1])


async def test_a_line_has_client_user_request_status_and_bytes_of_the_body(site: Site) -> None:
    answer = await site.catalog(n=1)
    assert last(site) == f'127.0.0.1 reader "GET /v1/_catalog?n=1" 200 {len(answer.body)}'


async def test_what_needs_no_credentials_has_no_user(site: Site) -> None:
    await site.health()
    assert last(site) == '127.0.0.1 - "GET /health" 200 15'


async def test_a_refusal_has_its_line(site: Site) -> None:
    answer = await site.ask("/v1/", Authorization="Basic bm9ib2R5Og==")
    assert last(site) == f'127.0.0.1 - "GET /v1/" 401 {len(answer.body)}'


async def test_head_and_304_send_no_bytes(site: Site) -> None:
    await site.ask("/health", "HEAD")
    assert last(site).endswith('health" 200 0')
    whole = await site.archive("hello", "1.0.0", "HEAD")
    assert last(site).endswith('archive" 200 0')
    await site.archive("hello", "1.0.0", If_None_Match=whole.headers["ETag"])
    assert last(site).endswith('archive" 304 0')


async def test_the_bytes_of_a_large_file_and_of_a_range_of_it_are_counted(site: Site) -> None:
    whole = await site.archive("hello", "1.0.0")
    assert last(site).endswith(f'archive" 200 {len(whole.body)}')
    await site.archive("hello", "1.0.0", Range="bytes=100-70099")
    assert last(site).endswith('archive" 206 70000')


async def test_a_user_name_with_a_space_and_a_quote_is_one_word(site: Site) -> None:
    await site.ask("/v1/", **basic('odd name"\x1b', "secret"))
    assert last(site) == '127.0.0.1 "odd name\\"\\u001b" "GET /v1/" 200 2'


async def test_quotes_in_a_path_stay_inside_theirs(site: Site) -> None:
    await site.ask('/v1/a"200%0d%0a"')
    assert last(site).startswith('127.0.0.1 - "GET /v1/a%22200%0d%0a%22" 404 ')


async def test_what_is_no_http_has_a_line_as_well(site: Site) -> None:
    await site.raw(b"GET /v1/\x00\n HTTP/1.1\r\n\r\n")
    assert last(site).startswith('127.0.0.1 - "UNKNOWN /" 400 ')


async def test_each_request_of_a_connection_has_one_line(site: Site) -> None:
    before = len(site.lines())
    async with site.connect() as connection:
        for path in ("/health", "/nowhere", "/health"):
            await connection.send(request(path))
            await connection.answer()
        await connection.send(request("/health", headers={"Connection": "close"}))
        await connection.ended()
    assert len(site.lines()) == before + 4


async def test_json_lines_have_the_same_and_the_configured_fields(tmp_path: Path) -> None:
    config = Config(log=Log(fields={"service": "registry", "status": "forged"}))
    async with serving(tmp_path / "data", config=config, as_json=True, users={"reader": "x"}) as site:
        answer = await site.ask('/v1/"%00')
        entry = json.loads(site.lines()[-1])
        await site.catalog()
        assert json.loads(site.lines()[-1])["user"] == "reader"
    assert entry.pop("time").endswith("Z")
    assert entry.pop("milliseconds") >= 0
    assert entry == {
        "service": "registry",
        "level": "info",
        "logger": "packregistry.access",
        "remote": "127.0.0.1",
        "user": "-",
        "method": "GET",
        "path": '/v1/"%00',
        "status": 404,
        "bytes": len(answer.body),
    }


async def test_text_lines_end_with_the_configured_fields(tmp_path: Path) -> None:
    async with serving(tmp_path / "data", config=Config(log=Log(fields={"service": "a b"}))) as site:
        await site.health()
        assert site.lines()[-1].endswith('ms service="a b"')


# What follows needs no server.


def fake(path: str = "/health", *, remote: str | None = "192.0.2.1", name: str = "", seen: str = "") -> Any:
    """As much of a request as the log looks at."""
    state: dict[object, object] = {BEGUN: 0.0}
    if name:
        state[PRINCIPAL] = Principal(name, "basic")
    if seen:
        state[SEEN] = Seen(seen, False, "")
    return SimpleNamespace(get=state.get, method="GET", raw_path=path, remote=remote)


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
@pytest.mark.parametrize(
    ("path", "remote", "name"),
    [
        ("/a\n2030-01-01T00:00:00Z INFO access", "192.0.2.1", ""),
        ("/\x85\u2028\x1b[2J\udc80é", "192.0.2.1", ""),
        ("/", None, "a\nb"),
        ("/", "a b\r\n", "\u202e"),
    ],
    ids=["line end", "terminal", "user", "client"],
)
async def test_nothing_a_client_sends_ends_a_line(path: str, remote: str | None, name: str, as_json: bool) -> None:
    stream = io.StringIO()
    log = AccessLog(stream, as_json=as_json, fields={})
    log.write(fake(path, remote=remote, name=name), web.Response())
    log.flush()
    (line,) = stream.getvalue().splitlines()
    assert line.isascii()
    assert line.isprintable()


def logged(*requests: Any, as_json: bool = False, **fields: str) -> list[str]:
    stream = io.StringIO()
    log = AccessLog(stream, as_json=as_json, fields=fields)
    for each in requests:
        log.write(each, web.Response())
    log.flush()
    return stream.getvalue().splitlines()


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
async def test_a_client_behind_a_trusted_proxy_is_logged_and_not_the_proxy(as_json: bool) -> None:
    (line,) = logged(fake(remote="192.0.2.1", seen="198.51.100.7"), as_json=as_json)
    assert "198.51.100.7" in line
    assert "192.0.2.1" not in line


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (fake("/v1/?token=pkr_Abcdefgh&n=1"), "/v1/?token=pkr_***&n=1"),
        (fake("http://user:Abcdefgh@host/v1/"), "http://***@host/v1/"),
        (fake("/v1/?auth=Basic%20Abcdefgh"), "/v1/?auth=Basic%20***"),
        (fake("/v1/", name="pkr_Abcdefgh"), "pkr_***"),
        (fake("/v1/", remote="pkr_Abcdefgh"), "pkr_***"),
    ],
    ids=["query", "absolute URL", "header in a query", "user", "address"],
)
async def test_no_secret_is_logged_however_often_it_is_sent(request_: Any, expected: str, as_json: bool) -> None:
    lines = logged(request_, request_, fake(), as_json=as_json)
    assert "Abcdefgh" not in "".join(lines)
    assert [expected in line for line in lines] == [True, True, False]


async def test_json_has_names_and_paths_as_they_were_sent() -> None:
    (line,) = logged(fake('/"é', name='a b"'), as_json=True)
    assert (json.loads(line)["path"], json.loads(line)["user"]) == ('/"é', 'a b"')


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
async def test_no_secret_is_in_the_configured_fields(as_json: bool) -> None:
    (line,) = logged(fake(), as_json=as_json, field="pkr_Abcdefgh")
    assert "pkr_***" in line
    assert "Abcdefgh" not in line


@given(
    st.text(max_size=19),
    st.text(string.ascii_letters + string.digits, min_size=20, max_size=50),
    st.text(max_size=19),
    st.booleans(),
)
async def test_whatever_surrounds_a_token_it_is_in_no_line(before: str, token: str, after: str, as_json: bool) -> None:
    text = f"{before}pkr_{token}{after}"
    (line,) = logged(fake(text, name=text), as_json=as_json)
    assert token not in line
    assert line.count("pkr_***") == 2


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
async def test_a_path_or_a_user_that_comes_again_is_logged_as_before(as_json: bool) -> None:
    requests = [fake(path, name=name) for path in ("/a", '/a"\u00e9') for name in ("ann", "a b", '"')]
    first, again = logged(*requests, as_json=as_json), logged(*requests, *requests, as_json=as_json)
    shown = [re.sub(r'^\S+|"time": "[^"]*"|[0-9.]+ms$|"milliseconds": [0-9.]+', "", line) for line in first + again]
    assert shown == shown[: len(requests)] * 3


async def test_what_is_remembered_of_paths_and_users_is_bounded_and_has_no_secrets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(accesslog, "PLAIN_MAX", 10)
    log = AccessLog(io.StringIO(), as_json=False, fields={})
    sizes = set()
    for number in range(25):
        log.write(fake(f"/{number}", name=f"user{number}"), web.Response())
        log.write(fake(f"/{number}?pkr_Abcdefgh", name="pkr_Abcdefgh"), web.Response())
        log.write(fake("/" * (accesslog.PLAIN_LENGTH + 1)), web.Response())
        sizes.add(len(log._plain_paths))
    assert sizes == set(range(1, 11))
    assert log._plain_paths == {"/20", "/21", "/22", "/23", "/24"}
    assert len(log._plain_users) <= 10
    assert "pkr_Abcdefgh" not in log._plain_users


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
async def test_lines_that_were_dropped_are_counted_in_a_line_like_any_other(
    as_json: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linesink, "KEPT_MAX", 200_000)
    reader, writer = os.pipe()
    received = b""
    with os.fdopen(writer, "w") as stream, os.fdopen(reader, "rb", buffering=0) as source:
        os.set_blocking(source.fileno(), False)
        log = AccessLog(stream, as_json=as_json, fields={"service": "registry"})
        for _ in range(5000):
            log.write(fake(), web.Response())
        while chunk := source.read(1 << 20):
            received += chunk
            log.flush()
    *lines, last = received.decode().splitlines()
    message = f"{5000 - len(lines)} lines were dropped here, as nobody read them"
    if as_json:
        entry = json.loads(last)
        assert (entry["level"], entry["message"], entry["service"]) == ("warning", message, "registry")
    else:
        assert last.endswith(f'Z WARNING access {message} service="registry"')


async def test_lines_are_written_together_after_a_moment_or_when_there_are_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(linesink, "FLUSH_SECONDS", 0)
    stream = Noticing()
    log = AccessLog(stream, as_json=False, fields={})
    log.write(fake(), web.Response())
    log.write(fake(), web.Response())
    assert stream.getvalue() == ""
    await asyncio.wait_for(stream.written.wait(), DEADLINE)
    assert len(stream.getvalue().splitlines()) == 2
    monkeypatch.setattr(linesink, "FLUSH_SECONDS", 3600)
    for _ in range(500):
        log.write(fake(), web.Response())
    assert len(stream.getvalue().splitlines()) == 502
    log.flush()
    assert len(stream.getvalue().splitlines()) == 502


async def test_what_a_stalled_reader_left_is_written_later_without_another_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(linesink, "FLUSH_SECONDS", 0)
    reader, writer = os.pipe()
    received = b""
    with os.fdopen(writer, "w") as stream, os.fdopen(reader, "rb", buffering=0) as source:
        log = AccessLog(stream, as_json=False, fields={})
        for _ in range(5000):
            log.write(fake(), web.Response())
        log.write(fake(), web.Response())
        os.set_blocking(source.fileno(), False)
        async with asyncio.timeout(DEADLINE):
            while received.count(b"\n") < 5001:
                received += source.read(1 << 20) or b""
                await asyncio.sleep(0)
    assert received.count(b"GET") == 5001


class Broken(io.StringIO):
    def write(self, text: str, /) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


async def test_a_request_is_answered_though_its_line_cannot_be_written(caplog: pytest.LogCaptureFixture) -> None:
    log = AccessLog(Broken(), as_json=False, fields={})
    for _ in range(1000):
        log.write(fake(), web.Response())
    log.flush()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "No space left" in caplog.text


@pytest.mark.parametrize(("level", "enabled"), [(logging.INFO, True), (logging.WARNING, False)], ids=["info", "warn"])
async def test_lines_are_of_level_info(level: int, enabled: bool) -> None:
    logger = logging.getLogger("packregistry.test")
    logger.setLevel(level)
    assert logger_class(AccessLog(io.StringIO(), as_json=False, fields={}))(logger, "").enabled is enabled
