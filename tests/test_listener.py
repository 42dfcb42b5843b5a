"""Connections: accepted with the certificates of the moment, ended with their trust, answered whatever they say."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import json
import logging
import re
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvloop
from aiohttp import web

from packregistry.config import Address, Http
from packregistry.config import Tls as Settings
from packregistry.logs import Malformed
from packregistry.reload import Reloader
from packregistry.start import bind
from packregistry.tls import Tls
from packregistry.web import connections
from packregistry.web import listener as module
from packregistry.web.connections import Server
from packregistry.web.headers import HEADERS, CommonHeaders
from packregistry.web.listener import Listener, Runner
from packregistry.web.proxy import Vantage
from tests import certificates
from tests.certificates import Pair, trusting
from tests.web import Connection, request

DEADLINE = 10
NEVER = 3600.0
pytestmark = pytest.mark.timed

SOON = 0.01
LARGE = 16 * 1024 * 1024
ECHO = 2048
LOOKS = 20
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}

Test = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=["uvloop", pytest.param("asyncio", marks=pytest.mark.thorough)])
def run(request: pytest.FixtureRequest) -> Test:
    """Runs a test on one of the event loops."""

    async def bounded(main: Coroutine[Any, Any, None]) -> None:
        async with asyncio.timeout(DEADLINE):
            await main

    def run(main: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(bounded(main))

    return run


class Files:
    """What a server's certificates are read from."""

    def __init__(self, directory: Path) -> None:
        self.cas = directory / "cas.pem"
        self.pair = certificates.server("one").copy(directory)
        self.trust("clients")
        self.tls = Tls(Settings(self.pair.certificate, self.pair.key, (self.cas,), "verify-client-cert-if-given"))
        self.tls.load()

    def show(self, name: str) -> None:
        certificates.server(name).copy(self.pair.key.parent)

    def trust(self, *names: str) -> None:
        self.cas.write_text("".join(certificates.authority(name).certificate.read_text() for name in names))


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@dataclass
class Work:
    """What requests are answered with."""

    begun: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    received: list[int] = field(default_factory=list)

    async def hello(self, request: web.Request) -> web.Response:
        return web.Response(text="hello")

    async def upload(self, request: web.Request) -> web.Response:
        self.begun.set()
        body = await request.read()
        self.received.append(len(body))
        return web.Response(text=str(len(body)))

    async def download(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "10"})
        await response.prepare(request)
        await response.write(b"01234")
        self.begun.set()
        await self.go.wait()
        await response.write(b"56789")
        return response

    async def large(self, request: web.Request) -> web.Response:
        self.begun.set()
        return web.Response(body=b"x" * LARGE)

    async def echo(self, request: web.Request) -> web.Response:
        """The last part of the path, made long."""
        return web.Response(text=request.match_info["text"].ljust(ECHO))

    async def failing(self, request: web.Request) -> web.Response:
        raise ValueError("<script>")


@dataclass
class Place:
    """A server, and what goes on in it."""

    runner: Runner
    listener: Listener
    address: tuple[str, int]
    tls: Tls | None
    work: Work

    async def reload(self) -> None:
        assert self.tls is not None
        await asyncio.to_thread(self.tls.load)
        await self.listener.switch()

    @contextlib.asynccontextmanager
    async def connect(self, own: Pair | None = None) -> AsyncIterator[Connection]:
        options: dict[str, Any] = {"ssl": _context(own), "server_hostname": "localhost"} if self.tls else {}
        reader, writer = await asyncio.open_connection(*self.address, **options)
        try:
            yield Connection(reader, writer)
        finally:
            writer.close()

    async def status(self, own: Pair | None = None) -> int:
        """The status of one request on a connection of its own; 0 where there is none to be had."""
        try:
            async with self.connect(own) as connection:
                await connection.send(request("/"))
                return (await connection.answer()).status
        except (OSError, asyncio.IncompleteReadError):
            return 0


def application(tls: Tls | None, work: Work) -> web.Application:
    app = web.Application()
    app[HEADERS] = common = CommonHeaders(
        {"X-Frame-Options": ("DENY",), "Strict-Transport-Security": ("max-age=1",)}, Vantage(Http()), tls
    )

    async def put(request: web.Request, response: web.StreamResponse) -> None:
        common.put(request, response)

    app.on_response_prepare.append(put)
    app.router.add_get("/", work.hello)
    app.router.add_put("/upload", work.upload)
    app.router.add_put("/refused", work.hello)
    app.router.add_get("/download", work.download)
    app.router.add_get("/large", work.large)
    app.router.add_get("/echo/{text}", work.echo)
    app.router.add_get("/failing", work.failing)
    return app


@contextlib.asynccontextmanager
async def listening(
    tls: Tls | None = None,
    *,
    grace: float = NEVER,
    drain: float = 0.0,
    bound: socket.socket | None = None,
    app: Callable[[Tls | None, Work], web.Application] | None = None,
    **http: Any,
) -> AsyncIterator[Place]:
    """Serve on a socket of its own; `http` are options of that section."""
    sock = bound or socket.socket()
    sock.bind(("127.0.0.1", 0))
    work = Work()
    http = {"draintimeout": drain, **http}
    runner = Runner((app or application)(tls, work), http=Http(**http), grace=grace, access_log=None)
    await runner.setup()
    listener = Listener(runner, sock, tls)
    place = Place(runner, listener, sock.getsockname(), tls, work)
    await listener.start()
    try:
        yield place
    finally:
        await runner.cleanup()


async def until(condition: Callable[[], object]) -> None:
    """Let the loop run until the condition holds."""
    while not condition():  # noqa: ASYNC110 — not all conditions have an event
        await asyncio.sleep(0)


@functools.cache
def _context(own: Pair | None) -> ssl.SSLContext:
    return trusting(own=own)


PUT = b"PUT /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n01234"


# Accepting


def test_connections_are_accepted_until_the_listener_stops(run: Test, files: Files) -> None:
    async def main() -> None:
        for tls in (None, files.tls):
            async with listening(tls) as place, place.connect() as kept:
                await kept.send(request("/"))
                assert (await kept.answer()).body == b"hello"
                await place.listener.stop()
                with pytest.raises(ConnectionRefusedError):
                    await asyncio.open_connection(*place.address)
                await kept.send(request("/"))
                assert (await kept.answer()).status == 200

    run(main())


def test_who_is_still_shaking_hands_is_sent_away_by_the_end(run: Test, files: Files) -> None:
    async def main() -> None:
        async with listening(files.tls) as place:
            reader, writer = await asyncio.open_connection(*place.address)
            # Once another was accepted, this one was, too.
            assert await place.status() == 200
            await place.runner.cleanup()
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()

    run(main())


def test_the_end_of_the_runner_is_the_listeners(run: Test, files: Files) -> None:
    async def main() -> None:
        for tls in (None, files.tls):
            async with listening(tls) as place:
                assert place.runner.sites == {place.listener}
            assert place.runner.sites == set()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(*place.address)

    run(main())


def handshakes(place: Place) -> list[object]:
    return [each for each in server_of(place)._held if each.handshake is not None]


def test_nothing_is_left_of_a_handshake_and_of_a_listener(run: Test, files: Files) -> None:
    def retiring() -> bool:
        return any(task.get_name() == "retire" for task in asyncio.all_tasks())

    async def main() -> None:
        for tls in (None, files.tls):
            async with listening(tls) as place:
                assert await place.status() == 200
                await until(lambda place=place: not handshakes(place))  # type: ignore[misc]
                await place.listener.switch()
                assert retiring() is (tls is not None)
                await place.listener.stop()
                assert not retiring()

    run(main())


class Scarce(socket.socket):
    """A socket that cannot accept anything a few times."""

    failures = 2

    def accept(self) -> tuple[socket.socket, Any]:
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


def test_what_cannot_be_accepted_now_is_later(
    run: Test, files: Files, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_RETRY_SECONDS", SOON)

    async def main() -> None:
        for tls in (None, files.tls):
            async with listening(tls, bound=Scarce()) as place:
                assert await place.status() == 200

    run(main())
    assert [record.getMessage().partition(", ")[0] for record in caplog.records] == [
        "no connection can be accepted"
    ] * 4


def test_stopping_while_nothing_can_be_accepted_is_for_good(
    run: Test, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RETRY_SECONDS", SOON)
    mistakes: list[dict[str, Any]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: mistakes.append(context))
        sock, passed = Scarce(), asyncio.Event()
        async with listening(files.tls, bound=sock) as place:
            reader, writer = await asyncio.open_connection(*place.address)
            await until(lambda: sock.failures < Scarce.failures)
            await place.listener.stop()
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
            loop.call_later(2 * SOON, passed.set)
            await passed.wait()

    run(main())
    assert mistakes == []


def test_why_there_is_no_tls_is_logged(run: Test, files: Files, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "packregistry.web.listener")

    async def main() -> None:
        async with listening(files.tls) as place:
            assert await place.status(certificates.client("ann", "others")) == 0

    run(main())
    (record,) = caplog.records
    assert record.levelname == "INFO"
    assert (
        record.getMessage()
        == "no TLS with 127.0.0.1: certificate verify failed: unable to get local issuer certificate"
    )


def test_who_only_looks_whether_the_port_is_open_is_not_logged(
    run: Test, files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "packregistry.web.listener")

    async def main() -> None:
        async with listening(files.tls) as place:
            _, writer = await asyncio.open_connection(*place.address)
            writer.close()
            await until(lambda: caplog.records)

    run(main())
    assert {record.levelname for record in caplog.records} == {"DEBUG"}


# Certificates that change


@pytest.mark.thorough
@pytest.mark.parametrize("change", ["certificate", "authorities"])
def test_no_connection_fails_while_certificates_are_switched(run: Test, files: Files, change: str) -> None:
    seen: set[object] = set()
    failures: list[str] = []
    answered, over = 0, False
    own = certificates.client("ann", "clients")

    async def ask(place: Place) -> None:
        nonlocal answered
        while not over:
            try:
                async with place.connect(own) as connection:
                    seen.add(connection.writer.get_extra_info("peercert")["serialNumber"])
                    await connection.send(request("/"))
                    assert (await connection.answer()).status == 200
            except (OSError, asyncio.IncompleteReadError, AssertionError) as error:
                failures.append(repr(error))
            answered += 1

    async def main() -> None:
        nonlocal over
        async with listening(files.tls) as place:
            askers = [asyncio.create_task(ask(place)) for _ in range(4)]
            for number in range(50):
                if change == "certificate":
                    files.show("two" if number % 2 == 0 else "one")
                else:
                    files.trust("clients", *(["others"] if number % 2 == 0 else []))
                await place.reload()
                enough = answered + 4
                await until(lambda enough=enough: answered >= enough)  # type: ignore[misc]
            over = True
            await asyncio.gather(*askers)

    run(main())
    assert failures == []
    assert answered > 200
    assert len(seen) == (2 if change == "certificate" else 1)


def test_a_kept_connection_outlives_the_servers_own_certificate(run: Test, files: Files) -> None:
    async def main() -> None:
        async with listening(files.tls, grace=0) as place, place.connect() as kept:
            await kept.send(request("/"))
            assert (await kept.answer()).status == 200
            files.show("two")
            await place.reload()
            async with place.connect() as other:
                shown = [each.writer.get_extra_info("peercert")["serialNumber"] for each in (kept, other)]
            assert shown[0] != shown[1]
            for _ in range(2):
                await kept.send(request("/"))
                answer = await kept.answer()
                assert answer.status == 200
                assert "Connection" not in answer.headers

    run(main())


def test_certificates_of_a_mounted_volume_are_followed(run: Test, tmp_path: Path) -> None:
    """Kubernetes replaces `..data`, a link to the directory that holds the files."""
    for name in ("one", "two"):
        certificates.server(name).copy(tmp_path / name)
    (tmp_path / "..data").symlink_to("one")
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    tls = Tls(Settings(tmp_path / "tls.crt", tmp_path / "tls.key"))
    tls.load()

    async def main() -> None:
        async with listening(tls) as place:
            reloader = Reloader([])
            reloader.add(tls, place.listener.switch)
            shown = []
            for name in ("one", "two", "one"):
                (tmp_path / "..next").symlink_to(name)
                (tmp_path / "..next").replace(tmp_path / "..data")
                await reloader.look()
                async with place.connect() as connection:
                    shown.append(connection.writer.get_extra_info("peercert")["serialNumber"])
            assert shown[0] == shown[2] != shown[1]

    run(main())


# Trust that is gone


def test_who_is_no_longer_trusted_is_refused_and_who_is_now_is_not(run: Test, files: Files) -> None:
    goes, comes = certificates.client("ann", "clients"), certificates.client("ann", "others")

    async def main() -> None:
        async with listening(files.tls) as place:
            assert [await place.status(own) for own in (goes, comes, None)] == [200, 0, 200]
            files.trust("others")
            await place.reload()
            assert [await place.status(own) for own in (goes, comes, None)] == [0, 200, 200]

    run(main())


def test_a_kept_connection_ends_with_the_next_answer(run: Test, files: Files) -> None:
    async def main() -> None:
        async with listening(files.tls) as place, place.connect(certificates.client("ann", "clients")) as kept:
            await kept.send(request("/"))
            assert "Connection" not in (await kept.answer()).headers
            files.trust("others")
            await place.reload()
            # The second one is never looked at.
            await kept.send(request("/") + request("/"))
            answer = await kept.answer()
            assert (answer.status, answer.headers.getall("Connection")) == (200, ["close"])
            assert await kept.ended() == b""

    run(main())


@pytest.mark.parametrize("asked", [True, False], ids=["used before", "never used"])
def test_a_kept_connection_ends_without_a_request(run: Test, files: Files, asked: bool) -> None:
    async def main() -> None:
        own = certificates.client("ann", "clients")
        async with listening(files.tls, grace=SOON) as place, place.connect(own) as kept:
            if asked:
                await kept.send(request("/"))
                await kept.answer()
            else:
                assert await place.status() == 200
            files.trust("others")
            await place.reload()
            assert await kept.ended() == b""

    run(main())


def test_two_changes_in_a_row_do_not_shorten_the_grace(run: Test, files: Files) -> None:
    async def main() -> None:
        async with listening(files.tls) as place:
            for _ in range(2):
                await place.listener.switch()
            assert sum(task.get_name() == "retire" for task in asyncio.all_tasks()) == 1
            # With nobody to see to it ends, and another change is seen to.
            await until(lambda: all(task.get_name() != "retire" for task in asyncio.all_tasks()))
            async with place.connect() as stale:
                await stale.send(request("/"))
                await stale.answer()
                files.trust("others")
                await place.reload()
                await until(lambda: any(each._looks for each in server_of(place)._held))

    run(main())


def server_of(place: Place) -> Server:
    assert isinstance(place.runner.server, Server)
    return place.runner.server


def test_a_connection_of_those_trusted_now_goes_on(run: Test, files: Files) -> None:
    async def main() -> None:
        own = certificates.client("ann", "clients")
        async with listening(files.tls, grace=SOON) as place, place.connect(own) as stale:
            files.trust("clients", "others")
            await asyncio.to_thread(files.tls.load)
            async with place.connect(own) as fresh:
                await place.listener.switch()
                assert await stale.ended() == b""
                await fresh.send(request("/"))
                assert "Connection" not in (await fresh.answer()).headers

    run(main())


def test_what_is_being_sent_and_received_is_so_to_its_end(run: Test, files: Files) -> None:
    own = certificates.client("ann", "clients")

    async def main() -> None:
        async with listening(files.tls, grace=SOON) as place, place.connect(own) as up, place.connect(own) as down:
            await up.send(PUT)
            await place.work.begun.wait()
            place.work.begun.clear()
            await down.send(request("/download"))
            await place.work.begun.wait()
            async with place.connect(own) as idle:
                files.trust("others")
                await place.reload()
                # From here on, both have been told to end.
                assert await idle.ended() == b""
            await up.send(b"56789")
            answer = await up.answer()
            assert (answer.status, answer.body) == (200, b"10")
            assert answer.headers["Connection"] == "close"
            assert await up.ended() == b""
            place.work.go.set()
            assert (await down.answer()).body == b"0123456789"
            assert await down.ended() == b""

    run(main())


def test_a_connection_that_is_told_to_end_does_so_with_an_answer_that_has_begun(run: Test) -> None:
    async def main() -> None:
        async with listening(None) as place, place.connect() as down:
            await down.send(request("/download"))
            await place.work.begun.wait()
            server = place.runner.server
            assert isinstance(server, Server)
            assert server.end()
            place.work.go.set()
            assert (await down.answer()).body == b"0123456789"
            await until(lambda: not server.end())
            assert await down.ended() == b""

    run(main())


def test_a_connection_that_is_told_to_end_does_so_with_an_answer_that_waits_for_its_reader(run: Test) -> None:
    async def main() -> None:
        async with listening() as place, place.connect() as down:
            await down.send(request("/large"))
            assert (await down.head())[0] == 200
            server = place.runner.server
            assert isinstance(server, Server)
            assert server.end()
            assert len(await down.reader.readexactly(LARGE)) == LARGE
            await until(lambda: not server.end())
            assert await down.ended() == b""

    run(main())


def test_a_connection_whose_request_has_more_to_come_ends_after_that(run: Test) -> None:
    """The answer is out, and what nobody wanted of the body is awaited."""

    async def main() -> None:
        async with listening() as place, place.connect() as up:
            await up.send(PUT.replace(b"/upload", b"/refused"))
            assert (await up.answer()).status == 200
            server = place.runner.server
            assert isinstance(server, Server)
            assert server.end()
            await up.send(b"56789")
            await until(lambda: not server.end())
            assert await up.ended() == b""

    run(main())


def test_a_connection_that_could_not_end_yet_does_so_later(run: Test, files: Files) -> None:
    own = certificates.client("ann", "clients")

    async def main() -> None:
        async with listening(files.tls, grace=SOON) as place, place.connect(own) as up, place.connect(own) as idle:
            await up.send(PUT.replace(b"/upload", b"/refused"))
            assert "Connection" not in (await up.answer()).headers
            files.trust("others")
            await place.reload()
            assert await idle.ended() == b""
            await up.send(b"56789")
            assert await up.ended() == b""

    run(main())


def test_a_handshake_that_takes_too_long_is_broken_off(run: Test, files: Files) -> None:
    """Whoever began it while they were trusted must not get through with it when they are no longer."""

    async def main() -> None:
        async with listening(files.tls, grace=SOON) as place:
            reader, writer = await asyncio.open_connection(*place.address)
            assert await place.status() == 200
            files.trust("others")
            await place.reload()
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()

    run(main())


def test_a_handshake_of_others_may_take_its_time(run: Test, files: Files) -> None:
    async def main() -> None:
        async with listening(files.tls, grace=SOON) as place:
            async with place.connect(certificates.client("ann", "clients")) as stale:
                files.trust("others")
                await asyncio.to_thread(files.tls.load)
                reader, writer = await asyncio.open_connection(*place.address)
                assert await place.status() == 200
                await place.listener.switch()
                assert await stale.ended() == b""
            await writer.start_tls(trusting(), server_hostname="localhost")
            writer.write(request("/"))
            assert (await Connection(reader, writer).answer()).status == 200
            writer.close()

    run(main())


# What is no HTTP


@dataclass(frozen=True)
class Bad:
    name: str
    data: bytes
    reason: str


BAD: Sequence[Bad] = [
    Bad("no http", b"<script>alert(1)</script>\r\n\r\n", "Invalid method encountered"),
    Bad("tls", b"\x16\x03\x01\x02\x00\x01", "Received HTTPS traffic on an HTTP port"),
    Bad("version", b"GET / HTTP/9.9\r\n\r\n", "Bad status line"),
    Bad("control", b"GET / HTTP/1.1\r\nHost: x\r\nA\x1b[31m: b\r\n\r\n", "Invalid header token"),
    Bad("many", b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 500 + b"\r\n", "Too many headers received"),
    Bad(
        "long line",
        b"GET /" + b"\x7e" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        "Got more than 8190 bytes when reading",
    ),
    Bad("long header", b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 9000 + b"\r\n\r\n", "Got more than 8190 bytes"),
    Bad("long header with a quote", b"GET / HTTP/1.1\r\nHost: x\r\nA: '" + b"b" * 9000 + b"\r\n\r\n", "Got more than"),
    Bad("target", b"GET http://[\x80 HTTP/1.1\r\nHost: x\r\n\r\n", ""),
]


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("bad", BAD, ids=[bad.name for bad in BAD])
def test_what_is_no_http_is_answered_in_our_words(
    run: Test, files: Files, bad: Bad, secure: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with listening(files.tls if secure else None) as place, place.connect() as connection:
            await connection.send(bad.data)
            answer = await connection.answer()
            assert (answer.status, answer.error) == (400, "REQUEST_INVALID")
            assert "at most 128 headers, and no line longer than 8190 bytes" in answer.message
            reason = answer.json()["errors"][0]["detail"]["reason"]
            assert reason.startswith(bad.reason)
            assert len(reason) <= 120
            assert "\n" not in reason
            assert not reason.endswith(":")
            # What was sent is not repeated, and not as Python writes it.
            assert not re.search(r"""b['"]|bytearray|bbb""", reason)
            assert answer.body.isascii()
            assert all(byte >= 0x20 for byte in answer.body)
            assert answer.headers.getall("Server") == ["packregistry"]
            assert answer.headers.getall("X-Frame-Options") == ["DENY"]
            assert answer.headers.getall("Connection") == ["close"]
            assert ("Strict-Transport-Security" in answer.headers) is secure
            assert await connection.ended() == b""

    run(main())
    for record in caplog.records:
        assert Malformed(logging.INFO).filter(record)
        assert (record.levelname, record.exc_info) == ("INFO", None)


def test_a_malformed_request_ends_a_connection_that_had_good_ones(run: Test) -> None:
    async def main() -> None:
        async with listening() as place, place.connect() as connection:
            await connection.send(request("/"))
            assert (await connection.answer()).status == 200
            await connection.send(b"no http\r\n\r\n" + request("/"))
            assert (await connection.answer()).error == "REQUEST_INVALID"
            assert await connection.ended() == b""

    run(main())


def test_what_not_even_the_application_answers_is_a_mistake_without_details(
    run: Test, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with listening() as place, place.connect() as connection:
            await connection.send(request("/failing", headers={"Accept": "text/html"}))
            answer = await connection.answer()
            assert (answer.status, answer.error) == (500, "UNKNOWN")
            assert answer.message == "the registry made a mistake: its log says more"
            assert b"script" not in answer.body
            assert answer.headers.getall("Server") == ["packregistry"]
            assert await connection.ended() == b""

    run(main())
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["<script>"]


# The end


def test_an_upload_under_way_is_received_to_its_end_when_the_server_stops(run: Test, files: Files) -> None:
    async def main() -> None:
        for tls in (None, files.tls):
            async with contextlib.AsyncExitStack() as stack:
                place = await stack.enter_async_context(listening(tls, drain=NEVER, grace=SOON))
                up, idle = [await stack.enter_async_context(place.connect()) for _ in range(2)]
                await up.send(PUT)
                await place.work.begun.wait()
                end = asyncio.create_task(place.runner.cleanup())
                assert await idle.ended() == b""
                assert not end.done()
                await up.send(b"56789")
                answer = await up.answer()
                assert (answer.status, answer.body, answer.headers["Connection"]) == (200, b"10", "close")
                await end

    run(main())


def looks_of(server: Server, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What each look from now on has found."""
    found: list[bool] = []
    look = server.end

    def noted(*args: Any, **options: Any) -> bool:
        found.append(look(*args, **options))
        return found[-1]

    monkeypatch.setattr(server, "end", noted)
    return found


def reset(connection: Connection) -> None:
    """Leave at once, so that the other side can tell it from one that still listens."""
    sock = connection.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.writer.transport.abort()


def test_what_goes_on_after_its_client_has_left_may_end_too(run: Test, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_CANCEL_SECONDS", 0.001)

    async def main() -> None:
        async with listening(drain=NEVER, grace=SOON) as place:
            async with place.connect() as down:
                await down.send(request("/download"))
                await place.work.begun.wait()
                reset(down)
            server = place.runner.server
            assert isinstance(server, Server)
            await until(lambda: not any(each.transport for each in server.connections))
            looks = looks_of(server, monkeypatch)
            end = asyncio.create_task(place.runner.cleanup())
            await until(lambda: len(looks) > LOOKS)
            assert not end.done()
            place.work.go.set()
            await end

    run(main())


def test_who_takes_too_long_is_broken_off_at_the_end(run: Test) -> None:
    async def main() -> None:
        async with listening(drain=0) as place, place.connect() as up:
            await up.send(PUT)
            await place.work.begun.wait()
            await place.runner.cleanup()
            with contextlib.suppress(ConnectionError):
                assert await up.ended() == b""
            assert place.work.received == []

    run(main())


def test_what_is_broken_off_at_the_end_is_said(run: Test, files: Files, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        for tls in (None, files.tls):
            async with contextlib.AsyncExitStack() as stack:
                place = await stack.enter_async_context(listening(tls, drain=SOON))
                up, down, idle = [await stack.enter_async_context(place.connect()) for _ in range(3)]
                await idle.send(request("/"))
                await idle.answer()
                await up.send(PUT)
                await place.work.begun.wait()
                place.work.begun.clear()
                await down.send(request("/download"))
                await place.work.begun.wait()
                await place.runner.cleanup()

    run(main())
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    said = "requests under way when the time to end was over, which are broken off: 2; raise http.draintimeout"
    assert set(caplog.messages) == {f"{said}, which is 0.01 s"}


def test_nothing_is_said_of_connections_that_nothing_is_asked_on(run: Test, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with listening(drain=SOON) as place, place.connect() as used, place.connect():
            await used.send(request("/"))
            await used.answer()
            await place.runner.cleanup()

    run(main())
    assert caplog.messages == []


# Clients that send no more, and wait for answers


async def half_closed(connection: Connection, data: bytes) -> None:
    await connection.send(data)
    connection.writer.write_eof()


def test_who_sends_no_more_gets_all_answers_and_then_the_end(run: Test) -> None:
    async def main() -> None:
        async with listening() as place:
            for count in (1, 3):
                async with place.connect() as connection:
                    await half_closed(connection, request("/") * count)
                    for _ in range(count):
                        assert (await connection.answer()).body == b"hello"
                    assert await connection.ended() == b""
            async with place.connect() as connection:
                await half_closed(connection, PUT + b"56789")
                assert (await connection.answer()).body == b"10"
                assert await connection.ended() == b""
            await until(lambda: not server_of(place)._held)

    run(main())


def test_who_sends_no_more_while_the_answer_is_made_gets_it_to_its_end(run: Test) -> None:
    async def main() -> None:
        async with listening() as place:
            async with place.connect() as down:
                await half_closed(down, request("/download"))
                await place.work.begun.wait()
                await until(lambda: any(each._is_half_closed for each in server_of(place)._held))
                place.work.go.set()
                assert (await down.answer()).body == b"0123456789"
                assert await down.ended() == b""
            async with place.connect() as down:
                await half_closed(down, request("/large"))
                assert (await down.head())[0] == 200
                assert len(await down.reader.readexactly(LARGE)) == LARGE
                assert await down.ended() == b""

    run(main())


@pytest.mark.parametrize(
    ("sent", "answers"),
    [
        (b"", 0),
        (b"GET / HT", 0),
        (request("/"), 1),
        (PUT, 0),
        (request("/") + b"GET / HT", 1),
    ],
    ids=["nothing", "headers that are incomplete", "answered", "body that is incomplete", "answered, and a beginning"],
)
def test_a_connection_that_nothing_more_comes_on_ends(run: Test, sent: bytes, answers: int) -> None:
    async def main() -> None:
        async with listening() as place, place.connect() as connection:
            await connection.send(sent)
            for _ in range(answers):
                assert (await connection.answer()).body == b"hello"
            await half_closed(connection, b"")
            assert await connection.ended() == b""
            await until(lambda: not server_of(place)._held)

    run(main())


def test_over_tls_the_end_of_what_is_sent_is_the_end(run: Test, files: Files) -> None:
    async def main() -> None:
        async with listening(files.tls) as place, place.connect() as down:
            await down.send(request("/download"))
            await place.work.begun.wait()
            (served,) = server_of(place)._held
            assert not served.eof_received()
            place.work.go.set()

    run(main())


def test_clients_that_do_not_read_do_not_hold_up_the_end(run: Test, files: Files) -> None:
    """TLS asks them to say goodbye, too."""

    async def main() -> None:
        async with listening(files.tls, drain=NEVER, grace=SOON) as place:
            loop = asyncio.get_running_loop()
            connecting = [loop.run_in_executor(None, _connected, place.address) for _ in range(2)]
            idle, busy = await asyncio.gather(*connecting)
            with idle, busy:
                busy.sendall(PUT)
                await place.work.begun.wait()
                end = asyncio.create_task(place.runner.cleanup())
                await until(lambda: place.runner.sites == set())
                busy.sendall(b"56789")
                await end
        assert place.work.received == [10]

    run(main())


def _connected(address: tuple[str, int]) -> ssl.SSLSocket:
    return _context(None).wrap_socket(socket.create_connection(address), server_hostname="localhost")


class Wire(asyncio.Transport):
    """A transport that only knows whether it was closed."""

    is_closed = False

    def close(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed

    def get_write_buffer_size(self) -> int:
        return 0


def test_a_connection_that_nothing_has_come_from_ends_at_once(run: Test) -> None:
    async def main() -> None:
        async with listening() as place:
            assert isinstance(place.runner.server, Server)
            connection, wire = place.runner.server(), Wire()
            connection.connection_made(wire)
            connection.look(0)
            assert wire.is_closed
            connection.connection_lost(None)

    run(main())


def test_the_answer_to_no_http_is_json_that_programs_read(run: Test) -> None:
    async def main() -> None:
        async with listening() as place, place.connect() as connection:
            await connection.send(b"GET / HTTP/1.1\r\n\r\n")
            document = json.loads((await connection.answer()).body)
            assert document == {
                "errors": [
                    {
                        "code": "REQUEST_INVALID",
                        "message": "the request is not HTTP that can be read: send HTTP/1.1 with at most 128 headers, "
                        "and no line longer than 8190 bytes",
                        "detail": {"reason": "Missing 'Host' header in request."},
                    }
                ]
            }

    run(main())


@pytest.mark.parametrize(("shared", "taken"), [(True, 1), (False, 3)], ids=["shared", "alone"])
async def test_a_listener_that_shares_its_socket_leaves_connections_to_the_others(shared: bool, taken: int) -> None:
    """Of those that wait, it takes one in a turn of the loop."""
    async with contextlib.AsyncExitStack() as stack:
        runner = Runner(web.Application())
        runner.app[HEADERS] = CommonHeaders({}, Vantage(Http()), None)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        bound = bind(Address("127.0.0.1", 0))
        listener = Listener(runner, bound, None, shared=shared)
        await listener.start()
        for _ in range(3):
            stack.enter_context(socket.create_connection(bound.getsockname()))
        listener._accept()
        assert len(listener._made._held) == taken
