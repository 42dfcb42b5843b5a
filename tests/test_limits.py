"""What a connection may take: time, room, memory. Each option of `http` that bounds one holds, with TLS and without."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import resource
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from packregistry.config import Config, Http, Limits
from packregistry.web import connection as connection_module
from packregistry.web import connections as connections_module
from packregistry.web import listener as listener_module
from packregistry.web import progress
from packregistry.web.connection import REST_MAX
from packregistry.web.connection import Connection as Served
from packregistry.web.descriptors import EACH, OTHERS, allow_connections
from packregistry.web.routes import routes
from tests import certificates
from tests.certificates import trusting
from tests.factories import make_pack
from tests.load import Load
from tests.test_listener import (
    ECHO,
    LARGE,
    LOOKS,
    NEVER,
    PUT,
    SOON,
    Files,
    Place,
    Wire,
    listening,
    looks_of,
    server_of,
    until,
)
from tests.web import Connection, Site, basic, request, serving

pytestmark = pytest.mark.timed

DEADLINE = 60
BRIEF = 0.1
STALL = 2.0
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}

Main = Callable[[Callable[..., contextlib.AbstractAsyncContextManager[Place]]], Coroutine[Any, Any, None]]
Run = Callable[[Main], None]


# The server runs on uvloop; that nothing depends on it is looked at when there is time.
_EACH_LOOP = [
    pytest.param(f"{loop} {way}", marks=[pytest.mark.thorough] if loop == "asyncio" else [])
    for loop in LOOPS
    for way in ("plain", "tls")
]


@pytest.fixture(params=_EACH_LOOP)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Runs a test on one of the loops; it is given what serves, with TLS or without."""
    loop, way = request.param.split()
    tls = Files(tmp_path).tls if way == "tls" else None

    def serve(**options: Any) -> contextlib.AbstractAsyncContextManager[Place]:
        return listening(tls, **{"grace": SOON, **options})

    async def bounded(main: Main) -> None:
        async with asyncio.timeout(DEADLINE):
            await main(serve)

    def run(main: Main) -> None:
        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            runner.run(bounded(main))

    return run


async def asked(connection: Connection, target: str = "/") -> int:
    await connection.send(request(target))
    return (await connection.answer()).status


async def gone(connection: Connection) -> bytes:
    """What comes until the connection ends, however it does."""
    received = b""
    with contextlib.suppress(OSError):
        while chunk := await connection.reader.read(65536):
            received += chunk
    return received


# http.headertimeout


@pytest.mark.parametrize("used", [True, False], ids=["used before", "never used"])
def test_a_request_whose_headers_do_not_come_is_refused(run: Run, used: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "packregistry.web.connection")

    async def main(serve: Any) -> None:
        async with serve(headertimeout=BRIEF) as place, place.connect() as connection:
            if used:
                assert await asked(connection) == 200
            await connection.send(b"GET / HTTP/1.1\r\nHo")
            answer = await connection.answer()
            assert (answer.status, answer.error) == (408, "REQUEST_STALLED")
            assert answer.message == "the headers of the request did not come in 0.1 seconds: ask again"
            assert answer.headers.getall("Connection") == ["close"]
            assert answer.headers.getall("Server") == ["packregistry"]
            assert await connection.ended() == b""

    run(main)
    assert [record.getMessage() for record in caplog.records] == ["the headers of 127.0.0.1 did not come in 0.1 s"]


def test_bytes_that_drip_do_not_put_it_off(run: Run) -> None:
    async def main(serve: Any) -> None:
        async with serve(headertimeout=BRIEF) as place, place.connect() as connection:
            await connection.send(b"GET / HTTP/1.1\r\nA: ")

            async def drip() -> None:
                with contextlib.suppress(OSError):
                    while True:
                        await connection.send(b"a")
                        await asyncio.sleep(BRIEF / 10)

            dripping = asyncio.create_task(drip())
            try:
                assert (await connection.answer()).status == 408
            finally:
                dripping.cancel()

    run(main)


def test_who_says_nothing_is_sent_away_without_a_word(run: Run) -> None:
    async def main(serve: Any) -> None:
        async with serve(headertimeout=BRIEF, keepalivetimeout=NEVER) as place, place.connect() as connection:
            assert await gone(connection) == b""

    run(main)


def test_a_handshake_takes_no_longer_either(tmp_path: Path) -> None:
    async def main() -> None:
        tls = Files(tmp_path).tls
        async with asyncio.timeout(DEADLINE / 2), listening(tls, headertimeout=BRIEF, grace=SOON) as place:
            reader, writer = await asyncio.open_connection(*place.address)
            # The beginning of a greeting, which never ends.
            writer.write(b"\x16\x03\x01\x02\x00\x01")
            assert await gone(Connection(reader, writer)) == b""
            writer.close()
            await until(lambda: not server_of(place)._held)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def test_what_is_no_headers_may_take_its_time(run: Run) -> None:
    """A connection that waits, empty lines, a body and an answer are all older than those who are sent away."""

    async def main(serve: Any) -> None:
        async with contextlib.AsyncExitStack() as stack:
            place = await stack.enter_async_context(serve(headertimeout=BRIEF))
            idle = await stack.enter_async_context(place.connect())
            assert await asked(idle) == 200
            lines = await stack.enter_async_context(place.connect())
            assert await asked(lines) == 200
            await lines.send(b"\r\n")
            up = await stack.enter_async_context(place.connect())
            await up.send(PUT)
            down = await stack.enter_async_context(place.connect())
            await down.send(request("/download"))
            async with place.connect() as silent:
                assert await gone(silent) == b""
            assert await asked(idle) == await asked(lines) == 200
            await up.send(b"56789")
            assert (await up.answer()).body == b"10"
            place.work.go.set()
            assert (await down.answer()).body == b"0123456789"
            # The rest of what was sent is not taken for the beginning of a request.
            async with place.connect() as silent:
                assert await gone(silent) == b""
            assert await asked(up) == await asked(down) == 200

    run(main)


def test_headers_may_come_in_parts(run: Run) -> None:
    async def main(serve: Any) -> None:
        async with serve() as place, place.connect() as connection:
            for _ in range(2):
                await connection.send(b"GET / HT")
                await until(lambda: any(each._started_at for each in server_of(place)._held))
                await connection.send(b"TP/1.1\r\nHost: x\r\n\r\n")
                assert (await connection.answer()).status == 200
                assert not any(each._started_at for each in server_of(place)._held)

    run(main)


# http.keepalivetimeout


def test_a_connection_that_nothing_is_asked_on_is_kept_for_a_time(run: Run) -> None:
    async def main(serve: Any) -> None:
        async with serve(keepalivetimeout=BRIEF) as place, place.connect() as connection:
            assert await asked(connection) == 200
            assert await gone(connection) == b""

    run(main)


def test_the_first_request_and_one_that_has_begun_have_another_time_out(run: Run) -> None:
    async def main(serve: Any) -> None:
        async with serve(keepalivetimeout=5 * BRIEF) as place, place.connect() as fresh, place.connect() as begun:
            assert await asked(begun) == 200
            await begun.send(b"GET / HT")
            await until(lambda: any(each._started_at for each in server_of(place)._held))
            async with place.connect() as idle:
                assert await asked(idle) == 200
                assert await gone(idle) == b""
            await begun.send(b"TP/1.1\r\nHost: x\r\n\r\n")
            assert (await begun.answer()).status == 200
            assert await asked(fresh) == 200
            # It is kept no longer than others after that.
            assert await gone(begun) == b""

    run(main)


# http.stalltimeout


@contextlib.asynccontextmanager
async def lazy(place: Place) -> AsyncIterator[Connection]:
    """A connection whose machine takes little that nobody reads."""
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
    sock.setblocking(False)
    await loop.sock_connect(sock, place.address)
    options: dict[str, Any] = {"ssl": trusting(), "server_hostname": "localhost"} if place.tls else {}
    reader, writer = await asyncio.open_connection(sock=sock, limit=1024, **options)
    try:
        yield Connection(reader, writer)
    finally:
        writer.transport.abort()


def test_who_takes_nothing_of_an_answer_is_broken_off(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "packregistry.web.connection")

    async def main(serve: Any) -> None:
        async with serve(stalltimeout=BRIEF) as place, lazy(place) as deaf, place.connect() as idle:
            assert await asked(idle) == 200
            await deaf.send(request("/large"))
            await until(lambda: caplog.records)
            assert len(await gone(deaf)) < LARGE
            await until(lambda: len(server_of(place)._held) == 1)
            assert await asked(idle) == 200

    run(main)
    assert [record.getMessage() for record in caplog.records] == [
        "127.0.0.1 took nothing for 0.1 s, and its connection is broken off (http.stalltimeout)"
    ]


@pytest.mark.thorough
def test_who_takes_a_little_now_and_then_is_served_to_the_end(run: Run) -> None:
    async def main(serve: Any) -> None:
        async with serve(stalltimeout=STALL) as place, lazy(place) as slow:
            loop = asyncio.get_running_loop()
            began = loop.time()
            await slow.send(request("/large"))
            await slow.head()
            left = LARGE
            while loop.time() < began + 1.5 * STALL:
                left -= len(await slow.reader.readexactly(65536))
                await asyncio.sleep(STALL / 40)
            assert left > LARGE // 2
            assert len(await slow.reader.readexactly(left)) == left

    run(main)


class Stubborn(Wire):
    """A transport that does not close, with `left` in its buffer; it counts how often it was broken off."""

    def __init__(self) -> None:
        super().__init__()
        self.left = 10
        self.aborted = 0

    def get_write_buffer_size(self) -> int:
        return self.left

    def abort(self) -> None:
        self.aborted += 1


@contextlib.asynccontextmanager
async def stubborn(**http: Any) -> AsyncIterator[tuple[Served, Stubborn]]:
    async with listening(**http) as place:
        connection, wire = server_of(place)(), Stubborn()
        connection.connection_made(wire)
        try:
            yield connection, wire
        finally:
            connection.connection_lost(None)


async def test_a_connection_that_does_not_end_is_broken_off_when_nothing_is_taken_any_more() -> None:
    async with stubborn(stalltimeout=10) as (connection, wire):
        for now in range(0, 100, 9):
            connection.check(now)
        assert wire.aborted == 0
        connection.force_close()
        for now in range(100, 200, 9):
            wire.left -= 1
            connection.check(now)
        assert wire.aborted == 0
        for now in (200, 203, 206, 209):
            connection.check(now)
            assert wire.aborted == (now == 209)


async def test_time_in_which_nobody_looked_does_not_count() -> None:
    """The machine stood still, or the virtual machine was moved."""
    async with stubborn(stalltimeout=10) as (connection, wire):
        connection.force_close()
        for now in (0, 1000, 1001):
            connection.check(now)
        assert wire.aborted == 0
        connection.check(1002)
        assert wire.aborted == 1


async def test_a_body_that_stands_still_is_given_up_after_the_configured_time(tmp_path: Path) -> None:
    config = dataclasses.replace(Config(), http=Http(stalltimeout=0.05))
    async with serving(tmp_path / "data", config=config, stall=None) as site, site.connect() as connection:  # type: ignore[arg-type]
        await connection.send(b"POST /api/v1/packs HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nx")
        answer = await connection.answer()
        assert (answer.status, answer.error) == (408, "BODY_STALLED")
        assert "0.05 seconds" in answer.message


# http.maxconnections


@pytest.mark.parametrize("way", ["used", "silent"])
def test_who_says_nothing_makes_room_after_a_moment(
    run: Run, way: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After those that rest, and oldest first."""
    monkeypatch.setattr(connections_module, "_SILENT_SECONDS", BRIEF)

    async def main(serve: Any) -> None:
        async with serve(maxconnections=2) as place, place.connect() as first:
            await until(lambda: len(server_of(place).connections) == 1)
            (oldest,) = server_of(place)._held
            if way == "silent":
                # Its time comes, and nobody needs the room.
                await until(lambda: oldest.is_silent(asyncio.get_running_loop().time(), BRIEF))
            async with place.connect() as second:
                if way == "used":
                    assert await asked(second) == 200
                    await until(lambda: any(each.resting_since for each in server_of(place)._held))
                else:
                    await until(lambda: len(server_of(place).connections) == 2)
                assert await place.status() == 200
                assert await gone(second if way == "used" else first) == b""
                other = first if way == "used" else second
                assert await asked(other) == 200

    run(main)


def test_all_are_answered_although_silent_ones_have_taken_all_room(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections_module, "_SILENT_SECONDS", BRIEF)

    async def main(serve: Any) -> None:
        async with serve(maxconnections=2) as place:
            with contextlib.ExitStack() as stack:
                for _ in range(7):
                    stack.enter_context(socket.create_connection(place.address))
                assert await place.status() == 200
            await until(lambda: not server_of(place)._held)

    run(main)


def test_a_handshake_that_stands_still_makes_room_and_one_that_goes_on_does_not(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main(serve: Any) -> None:
        async with serve(maxconnections=1) as place:
            if place.tls is None:
                return
            server, loop = server_of(place), asyncio.get_running_loop()
            with socket.create_connection(place.address) as sock:
                await until(lambda: server._held)
                (served,) = server._held
                later = loop.time() + NEVER
                assert not served.is_silent(loop.time(), NEVER)
                await until(lambda: served.is_silent(later, BRIEF))
                sock.sendall(b"\x16\x03\x01\x02\x00\x01")
                # What has come counts, looked at or not.
                assert not served.is_silent(later, BRIEF)
                monkeypatch.setattr(connections_module, "_SILENT_SECONDS", BRIEF)
                assert await place.status() == 200

    run(main)


def test_a_first_request_that_has_arrived_or_begun_is_not_hung_up_on_for_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections_module, "_SILENT_SECONDS", 0.0)

    async def main() -> None:
        async with listening(maxconnections=1, grace=SOON) as place:
            server = server_of(place)
            with socket.create_connection(place.address) as sock:
                sock.setblocking(False)
                await until(lambda: any(each._is_waiting for each in server._held))
                sock.send(b"GET / HT")
                assert not server.make_room()
                await until(lambda: any(each._started_at for each in server._held))
                assert not server.make_room()
                sock.send(b"TP/1.1\r\nHost: x\r\n\r\n")
                loop = asyncio.get_running_loop()
                assert (await loop.sock_recv(sock, 65536)).startswith(b"HTTP/1.1 200 ")

    with asyncio.Runner() as runner:
        runner.run(main())


def test_the_connection_that_rests_longest_makes_room(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main(serve: Any) -> None:
        async with serve(maxconnections=2) as place, place.connect() as first, place.connect() as second:
            assert await asked(first) == 200
            # It is a millisecond that loops count in.
            await asyncio.sleep(0.005)
            assert await asked(second) == 200
            await asyncio.sleep(0.005)
            async with place.connect() as third:
                assert await asked(third) == 200
                assert len(server_of(place)._held) == 2
                assert await gone(first) == b""
                assert await asked(second) == 200

    run(main)
    assert caplog.messages == []


def test_where_no_connection_rests_others_wait(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main(serve: Any) -> None:
        async with serve(maxconnections=1) as place, place.connect() as up:
            await up.send(PUT)
            await place.work.begun.wait()
            waiting = [asyncio.create_task(place.status()) for _ in range(2)]
            await until(lambda: caplog.messages)
            await up.send(b"56789")
            answer = await up.answer()
            # It is told that others need the room, and others are not when they have it.
            assert (answer.body, answer.headers["Connection"]) == (b"10", "close")
            assert await asyncio.gather(*waiting) == [200, 200]
            assert not server_of(place).is_crowded
            async with place.connect() as after:
                await after.send(request("/"))
                assert "Connection" not in (await after.answer()).headers

    run(main)
    assert caplog.messages == ["all 1 connections are in use, and new ones wait: raise http.maxconnections"]


def test_who_was_not_told_makes_room_when_they_rest(run: Run) -> None:
    async def main(serve: Any) -> None:
        async with serve(maxconnections=1, stalltimeout=BRIEF) as place, place.connect() as down:
            await down.send(request("/download"))
            await place.work.begun.wait()
            waiting = asyncio.create_task(place.status())
            await until(lambda: server_of(place).is_crowded)
            place.work.go.set()
            answer = await down.answer()
            assert (answer.body, answer.headers.get("Connection")) == (b"0123456789", None)
            assert await waiting == 200
            assert await gone(down) == b""

    run(main)


def test_who_does_not_say_goodbye_makes_room_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "_FAREWELL_SECONDS", SOON)

    def resting(address: tuple[str, int]) -> ssl.SSLSocket:
        sock = trusting().wrap_socket(socket.create_connection(address), server_hostname="localhost")
        sock.sendall(request("/"))
        assert sock.recv(1) == b"H"
        return sock

    async def main() -> None:
        async with listening(Files(tmp_path).tls, maxconnections=1, grace=SOON) as place:
            loop = asyncio.get_running_loop()
            with await loop.run_in_executor(None, resting, place.address):
                assert await place.status() == 200

    for new_loop in LOOPS.values():
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(main())


def test_a_request_that_has_arrived_is_not_hung_up_on_for_room() -> None:
    async def main() -> None:
        async with listening(maxconnections=1, grace=SOON) as place:
            with socket.create_connection(place.address) as sock:
                sock.setblocking(False)
                loop = asyncio.get_running_loop()
                for _ in range(2):
                    await loop.sock_sendall(sock, request("/"))
                    assert (await loop.sock_recv(sock, 65536)).startswith(b"HTTP/1.1 200 ")
                sock.send(request("/"))
                assert not server_of(place).make_room()
                assert (await loop.sock_recv(sock, 65536)).startswith(b"HTTP/1.1 200 ")
                assert server_of(place).make_room()

    with asyncio.Runner() as runner:
        runner.run(main())


def test_that_others_wait_is_not_said_too_often(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    def said() -> list[str]:
        return [message for message in caplog.messages if message.startswith("all 1 connections")]

    async def main(serve: Any) -> None:
        async with serve(maxconnections=1) as place:
            for _ in range(3):
                place.work.begun.clear()
                async with place.connect() as up:
                    await up.send(PUT)
                    await place.work.begun.wait()
                    waiting = asyncio.create_task(place.status())
                    await until(lambda: server_of(place).is_crowded)
                assert await waiting == 200
            assert len(said()) == 1
            place.listener._said_at -= listener_module._SAY_SECONDS
            async with place.connect() as up:
                await up.send(PUT)
                await until(lambda: len(server_of(place)._held) == 1)
                waiting = asyncio.create_task(place.status())
                await until(lambda: len(said()) == 2)
            assert await waiting == 200

    run(main)


@pytest.mark.parametrize(
    ("limits", "raised", "warned"),
    [
        ((1024, 4096), 10 * EACH + OTHERS, False),
        ((100, 4096), 10 * EACH + OTHERS, False),
        ((100, resource.RLIM_INFINITY), 10 * EACH + OTHERS, False),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), None, False),
        ((100, 140), 140, True),
        ((10 * EACH + OTHERS, 10 * EACH + OTHERS), None, False),
    ],
    ids=["enough", "raised", "no hard limit", "no limit", "not enough", "just enough"],
)
def test_as_many_files_may_be_open_as_connections_need(
    limits: tuple[int, int],
    raised: int | None,
    warned: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    given: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, value: given.append(value))
    allow_connections(10)
    expected = [] if raised is None or limits[0] >= raised else [(raised, limits[1])]
    assert given == expected
    assert [record.levelname for record in caplog.records] == ["WARNING"] * warned
    if warned:
        assert "at most 140 files can be open, and http.maxconnections: 10 may need 158" in caplog.text
        assert "or set http.maxconnections to 4" in caplog.text


def test_a_limit_that_cannot_be_raised_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_: int, __: tuple[int, int]) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda _: (50, 4096))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    allow_connections(10)
    assert "at most 50 files can be open" in caplog.text
    assert "set http.maxconnections to 1" in caplog.text


# Requests sent ahead


@pytest.mark.thorough
@pytest.mark.parametrize("loop", LOOPS)
def test_ten_thousand_requests_sent_ahead_are_bounded_and_answered_in_order(loop: str) -> None:
    count = 10_000

    async def main() -> None:
        async with asyncio.timeout(DEADLINE), listening(grace=SOON) as place, place.connect() as connection:
            connection.writer.write(b"".join(request(f"/echo/{number}") for number in range(count)))
            (served,) = await held(place)
            # Nothing more is read or answered until somebody takes answers.
            await until(lambda: served._paused)
            before = -1
            while served._manager is not None and before != served._manager.requests_count:
                before = served._manager.requests_count
                await asyncio.sleep(0.02)
            assert before < count
            assert len(served._messages) <= 32
            assert served.transport is not None
            assert served.transport.get_write_buffer_size() < 100 * ECHO
            for number in range(count):
                answer = await connection.answer()
                assert (answer.status, answer.body.strip()) == (200, str(number).encode())

    async def held(place: Place) -> set[Served]:
        await until(lambda: server_of(place)._held)
        return server_of(place)._held

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(main())


# Bodies

ADMIN = {"admin": "one"}
DIGEST = "sha256:" + "0" * 64
SMALL_LIMITS = Limits(archive=100_000, expanded=1_000_000)
TAKEN = {
    ("PUT", "/v1/{name}/manifests/{reference}"): "/v1/hello/manifests/2.0.0",
    ("POST", "/v1/{name}/blobs/uploads"): f"/v1/hello/blobs/uploads/?digest={DIGEST}",
    ("PATCH", "/v1/{name}/blobs/uploads/{upload}"): "{upload}",
    ("PUT", "/v1/{name}/blobs/uploads/{upload}"): f"{{upload}}?digest={DIGEST}",
    ("POST", "/api/v1/packs"): "/api/v1/packs",
    ("PUT", "/api/v1/packs/{name}/tags/{tag}"): "/api/v1/packs/hello/tags/stable",
    ("POST", "/api/v1/packs/{name}/rollback"): "/api/v1/packs/hello/rollback",
    ("POST", "/api/v1/tokens"): "/api/v1/tokens",
}
NOT_TAKEN = {(route.method, route.path) for route in routes()} - set(TAKEN)
FILLED = {
    "name": "hello",
    "reference": "1.0.0",
    "digest": DIGEST,
    "upload": "0" * 32,
    "tag": "1.0.0",
    "path*": "pack.json",
    "token": "ci",
}
ENDLESS = 64 * 1024 * 1024
MOST = 24 * 1024 * 1024


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    make_pack(tmp_path / "packs", "hello")
    config = dataclasses.replace(Config(), limits=SMALL_LIMITS)
    async with serving(tmp_path / "data", tmp_path / "packs", config=config, users=ADMIN) as found:
        yield found


async def started(site: Site) -> str:
    """The path of an upload that has begun."""
    async with site.connect() as connection:
        await connection.send(request("/v1/hello/blobs/uploads/", "POST", {**site.headers, "Content-Length": "0"}))
        return (await connection.answer("POST")).headers["Location"].partition("?")[0]


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "endless"])
@pytest.mark.parametrize("route", TAKEN, ids=" ".join)
async def test_a_body_that_is_too_large_is_refused_and_not_kept(
    site: Site, route: tuple[str, str], announced: bool
) -> None:
    target = TAKEN[route]
    if "{upload}" in target:
        target = target.replace("{upload}", await started(site))
    length = {"Content-Length": str(ENDLESS)} if announced else {"Transfer-Encoding": "chunked"}
    part = bytes(65536)
    piece = part if announced else b"%x\r\n%s\r\n" % (len(part), part)
    sent = 0
    async with site.connect() as connection:
        await connection.send(request(target, route[0], {**site.headers, **length}))
        answering = asyncio.create_task(connection.answer())
        while not answering.done() and sent < ENDLESS - len(part):
            await connection.send(piece)
            sent += len(part)
            await asyncio.sleep(0)
        answer = await answering
        assert (answer.status, answer.error) == (413, "SIZE_INVALID")
        assert answer.headers["Connection"] == "close"
        # What is on its way in two kernels.
        assert sent < MOST


def filled(pattern: str) -> str:
    for name, value in FILLED.items():
        pattern = pattern.replace(f"{{{name}}}", value)
    return pattern


@pytest.mark.parametrize("route", sorted(NOT_TAKEN), ids=" ".join)
async def test_a_body_that_nobody_takes_does_no_harm(site: Site, route: tuple[str, str]) -> None:
    method, pattern = route
    assert "{" not in filled(pattern)
    async with site.connect() as connection:
        for length in (10, REST_MAX):
            head = request(filled(pattern), method, {**site.headers, "Content-Length": str(length)})
            await connection.send(head)
            answer = await connection.answer(method)
            assert answer.status != 413
            assert "Connection" not in answer.headers
            await connection.send(b"x" * length + request("/health"))
            assert (await connection.answer()).status == 200
        await connection.send(request(filled(pattern), method, {**site.headers, "Content-Length": str(REST_MAX + 1)}))
        answer = await connection.answer(method)
        assert answer.headers["Connection"] == "close"
        await connection.send(b"x" * (REST_MAX + 1))
        assert await connection.ended() == b""


def test_there_is_no_route_that_nobody_has_thought_of() -> None:
    assert {(route.method, route.path) for route in routes()} == set(TAKEN) | NOT_TAKEN
    assert {method for method, _ in NOT_TAKEN} == {"GET", "DELETE"}


async def test_a_body_that_waits_to_be_asked_for_and_is_not_ends_the_connection(site: Site) -> None:
    """The client may go on with another request, or send the body: nobody can know."""
    async with site.connect() as connection:
        headers = {**basic("admin", "wrong"), "Expect": "100-continue", "Content-Length": "10"}
        await connection.send(request("/api/v1/packs", "POST", headers))
        answer = await connection.answer()
        assert (answer.status, answer.headers["Connection"]) == (401, "close")


# The end of the server


def test_a_request_that_was_on_its_way_is_answered_and_the_answer_is_the_last(run: Run) -> None:
    async def main(serve: Any) -> None:
        async with serve(grace=NEVER, drain=NEVER) as place, place.connect() as used, place.connect() as fresh:
            assert await asked(used) == 200
            await until(lambda: len(server_of(place).connections) == 2)
            end = asyncio.create_task(place.runner.cleanup())
            await until(lambda: place.runner.sites == set())
            for connection in (used, fresh):
                await connection.send(request("/"))
                answer = await connection.answer()
                assert (answer.status, answer.headers.getall("Connection")) == (200, ["close"])
                assert await gone(connection) == b""
            await end

    run(main)


def test_an_answer_that_had_begun_does_not_cut_off_the_next_request(run: Run) -> None:
    """Nobody has told its client that there will be no next one."""

    async def main(serve: Any) -> None:
        async with serve(grace=NEVER, drain=NEVER) as place, place.connect() as down:
            await down.send(request("/download"))
            await place.work.begun.wait()
            end = asyncio.create_task(place.runner.cleanup())
            await until(lambda: place.runner.sites == set())
            place.work.go.set()
            answer = await down.answer()
            assert (answer.body, answer.headers.get("Connection")) == (b"0123456789", None)
            await down.send(request("/"))
            answer = await down.answer()
            assert (answer.status, answer.headers["Connection"]) == (200, "close")
            await end

    run(main)


def test_connections_that_wait_to_be_accepted_are_served_before_the_socket_is_closed(run: Run) -> None:
    async def main(serve: Any) -> None:
        async with serve(grace=NEVER, drain=NEVER) as place:
            socks = [socket.create_connection(place.address) for _ in range(100)]
            await place.listener.stop()
            end = asyncio.create_task(place.runner.cleanup())
            for sock in socks:
                options: dict[str, Any] = {"ssl": trusting(), "server_hostname": "localhost"} if place.tls else {}
                reader, writer = await asyncio.open_connection(sock=sock, **options)
                connection = Connection(reader, writer)
                assert await asked(connection) == 200
                assert await gone(connection) == b""
                writer.close()
            await end

    run(main)


def test_without_connections_the_end_is_immediate_and_with_idle_ones_it_comes_after_the_grace(run: Run) -> None:
    async def main(serve: Any) -> None:
        loop = asyncio.get_running_loop()
        async with serve(grace=NEVER, drain=NEVER) as place:
            await place.runner.cleanup()
        async with serve(grace=BRIEF, drain=NEVER) as place, place.connect() as used, place.connect():
            assert await asked(used) == 200
            began = loop.time()
            await place.runner.cleanup()
            assert loop.time() - began >= BRIEF * 0.9
            assert await gone(used) == b""

    run(main)


async def test_it_is_looks_that_count_and_what_has_arrived_counts_more() -> None:
    async with listening(grace=SOON) as place:
        loop = asyncio.get_running_loop()
        with socket.create_connection(place.address) as sock:
            sock.setblocking(False)
            await loop.sock_sendall(sock, request("/"))
            await loop.sock_recv(sock, 65536)
            server = server_of(place)
            assert server.end(looks=3)
            assert server.end(looks=3)
            sock.send(request("/"))
            assert server.end(looks=0)
            assert (await loop.sock_recv(sock, 65536)).startswith(b"HTTP/1.1 200 ")
            # The count begins again after that.
            assert server.end(looks=2)
            assert server.end(looks=2)
            server.end(looks=2)
            assert await loop.sock_recv(sock, 1) == b""


def test_an_answer_that_its_client_has_not_taken_is_waited_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has left the program, and would be lost with the process."""

    async def main(serve: Any) -> None:
        async with serve(drain=NEVER) as place, lazy(place) as slow:
            size = 60_000
            await slow.send(request("/"))
            await slow.answer()
            (served,) = server_of(place)._held
            assert served.transport is not None
            wire = served.transport
            while not wire.get_write_buffer_size():
                wire.write(bytes(size))
            served.force_close()
            assert served.is_open
            looks = looks_of(server_of(place), monkeypatch)
            end = asyncio.create_task(place.runner.cleanup())
            await until(lambda: len(looks) > LOOKS)
            assert not end.done()
            assert len(await gone(slow)) % size == 0
            await end

    run(main)


SERVER = """
import asyncio, pathlib, signal, socket, sys
import uvloop
from packregistry.config import Http, Tls as Settings
from packregistry.tls import Tls
from packregistry.web.listener import Listener, Runner
from tests.test_listener import Work, application

async def main():
    tls = None
    if len(sys.argv) > 2:
        tls = Tls(Settings(pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])))
        tls.load()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    runner = Runner(application(tls, Work()), http=Http(), access_log=None)
    await runner.setup()
    await Listener(runner, socket.socket(fileno=int(sys.argv[1])), tls, backlog=1024).start()
    print("ready", flush=True)
    await stop.wait()
    await runner.cleanup()

uvloop.run(main())
"""


@pytest.mark.process
@pytest.mark.thorough
@pytest.mark.parametrize("way", ["plain", "tls"])
def test_processes_that_share_a_socket_follow_each_other_and_no_request_fails(way: str, tmp_path: Path) -> None:
    pair = certificates.server("one")
    context = trusting()
    context.check_hostname = False
    files = [str(pair.certificate), str(pair.key)] if way == "tls" else []
    with contextlib.ExitStack() as stack:
        shared = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

        def start() -> subprocess.Popen[bytes]:
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", SERVER, str(shared.fileno()), *files],
                    pass_fds=[shared.fileno()],
                    cwd=Path(__file__).resolve().parents[1],
                    stdout=subprocess.PIPE,
                )
            )
            stack.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            return process

        running = start()
        host, port = shared.getsockname()
        url = f"{'https' if files else 'http'}://{host}:{port}"
        load = Load(url, "/", clients=4, context=context if files else None)
        with load.running():
            following = start()
            load.go_on(100)
            running.terminate()
            assert running.wait(DEADLINE) == 0
            load.go_on(100)
        following.terminate()
        assert following.wait(DEADLINE) == 0
    assert load.failures == []


# What the kernel knows


async def test_what_a_client_takes_is_seen_although_nothing_else_changes() -> None:
    def taking(sock: socket.socket, size: int) -> None:
        while size:
            size -= len(sock.recv(size))

    async with listening(grace=SOON) as place:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        sock.connect(place.address)
        with sock:
            await until(lambda: server_of(place).connections)
            (served,) = server_of(place)._held
            wire = served.transport
            assert wire is not None
            assert not progress.unsent(wire)
            assert not progress.unread(wire)
            wire.write(bytes(LARGE))
            await until(lambda: progress.unsent(wire))
            # What had been on its way may only add to it: that the client takes all that there is is always seen.
            seen = progress.progress(wire)
            await asyncio.to_thread(taking, sock, 8 * 1024 * 1024)
            assert progress.progress(wire) != seen
            wire.abort()


@pytest.mark.parametrize("loop", LOOPS)
def test_nothing_is_to_be_seen_of_what_was_closed_twice(loop: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with listening(Files(tmp_path).tls, grace=SOON) as place, place.connect() as connection:
            await asked(connection)
            (served,) = server_of(place)._held
            wire = served.transport
            assert wire is not None
            wire.close()
            wire.close()
            assert not progress.unread(wire)
            await until(lambda: not progress.unsent(wire))
            assert progress.progress(wire)[0] == 0
            connection.writer.transport.abort()

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(main())


def test_what_cannot_be_asked_for_is_looked_for_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """No descriptor is free, or the kernel does not count."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        client.sendall(b"x")
        assert progress._acknowledged(client.fileno()) > 0

        def refuse(_: int) -> int:
            raise OSError(24, "Too many open files")

        monkeypatch.setattr(os, "dup", refuse)
        assert progress._acknowledged(client.fileno()) == -progress.queued(client.fileno())
        number = client.fileno()
    assert progress.queued(number) == 0
    assert progress._acknowledged(-1) == 0
