"""Whether the server can do its work, and what is answered about it."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from packregistry.config import Config
from packregistry.health import (
    DRAINING,
    FULL,
    SILENT,
    STARTING,
    UNWRITABLE,
    Health,
    write_probe,
)
from packregistry.metrics import Metrics
from packregistry.web.accesslog import AccessLog, logger_class
from packregistry.web.app import DOOR, closed_app
from packregistry.web.listener import Runner
from packregistry.web.security import secured
from tests.factories import make_pack, open_registry
from tests.web import Answer, Connection, request


class Volume:
    """A volume that takes a probe, or does not."""

    def __init__(self, error: int = 0) -> None:
        self.error = error
        self.probes = 0

    def probe(self, directory: Path) -> None:
        self.probes += 1
        if self.error:
            raise OSError(self.error, "the reason")


async def test_it_is_starting_until_the_records_are_loaded_and_draining_when_it_stops(tmp_path: Path) -> None:
    health = Health()
    assert await health.problem() == STARTING
    health.ready(tmp_path)
    assert await health.problem() == ""
    health.drain()
    assert await health.problem() == DRAINING


@pytest.mark.parametrize(
    ("error", "problem"),
    [(errno.ENOSPC, FULL), (errno.EDQUOT, FULL), (errno.EROFS, UNWRITABLE), (errno.EACCES, UNWRITABLE)],
    ids=errno.errorcode.get,
)
async def test_a_volume_that_takes_no_files_is_a_problem_until_it_does(
    error: int, problem: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged when it begins and when it ends; whoever asks is not told where the volume is."""
    caplog.set_level(logging.INFO, "packregistry.health")
    volume = Volume(error)
    health = Health(volume.probe, fresh=0.0)
    health.ready(tmp_path)
    assert [await health.problem() for _ in range(3)] == [problem] * 3
    volume.error = 0
    assert [await health.problem() for _ in range(3)] == [""] * 3
    first, last = caplog.messages
    assert str(tmp_path) in first
    assert "the reason" in first
    assert last == f"ready again: {tmp_path} can be written"
    assert str(tmp_path) not in problem


async def test_what_was_found_lately_is_not_looked_for_again(tmp_path: Path) -> None:
    volume = Volume(errno.ENOSPC)
    health = Health(volume.probe, fresh=1000.0)
    health.ready(tmp_path)
    assert set(await asyncio.gather(*(health.problem() for _ in range(20)))) == {FULL}
    assert {await health.problem() for _ in range(20)} == {FULL}
    assert volume.probes == 1


async def test_a_volume_that_does_not_answer_makes_nobody_wait_for_long_and_one_thread_alone(tmp_path: Path) -> None:
    answer, begun = threading.Event(), []

    def hang(_: Path) -> None:
        begun.append(1)
        answer.wait(10)

    health = Health(hang, fresh=0.0, patience=0.01)
    health.ready(tmp_path)
    try:
        assert [await health.problem() for _ in range(3)] == [SILENT] * 3
        assert begun == [1]
    finally:
        answer.set()
        await health.close()


async def test_a_closed_one_waits_for_no_volume(tmp_path: Path) -> None:
    answer = threading.Event()

    def hang(_: Path) -> None:
        answer.wait(10)

    health = Health(hang, patience=0.01)
    health.ready(tmp_path)
    assert await health.problem() == SILENT
    async with asyncio.timeout(5):
        await health.close()
    answer.set()


def test_a_probe_leaves_nothing_behind_and_needs_a_directory(tmp_path: Path) -> None:
    write_probe(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        write_probe(tmp_path / "nowhere")


# What is answered


@asynccontextmanager
async def listening(health: Health) -> AsyncIterator[tuple[Runner, Connection]]:
    """A server whose door is closed, and a connection to it."""
    access = AccessLog(io.StringIO(), as_json=False, fields={})
    runner = Runner(closed_app(Config(), None, health), access_log_class=logger_class(access), auto_decompress=False)
    await runner.setup()
    assert runner.server is not None
    server = await asyncio.get_running_loop().create_server(runner.server, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    try:
        async with asyncio.timeout(10):
            yield runner, Connection(reader, writer)
    finally:
        writer.close()
        server.close()
        await runner.cleanup()


async def ask(connection: Connection, path: str, method: str = "GET") -> Answer:
    await connection.send(request(path, method))
    return await connection.answer(method)


async def test_before_there_is_anything_to_serve_health_is_answered_and_all_else_has_to_wait(tmp_path: Path) -> None:
    make_pack(tmp_path / "packs")
    health = Health()
    async with listening(health) as (runner, connection):
        for path in ("/health", "/livez", "//livez/"):
            answer = await ask(connection, path)
            assert (answer.status, answer.body) == (200, b'{"status":"UP"}')
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
        waiting = await ask(connection, "/readyz")
        assert (waiting.status, waiting.json()) == (503, {"status": "DOWN", "reason": STARTING})
        assert (await ask(connection, "/readyz", "HEAD")).status == 503
        for path in ("/v1/", "/v1/_catalog", "/", "/api/v1/packs"):
            answer = await ask(connection, path)
            assert (answer.status, answer.error, answer.headers["Retry-After"]) == (503, "UNAVAILABLE", "1")
        assert (await ask(connection, "/nowhere/at/all")).error == "NOT_FOUND"
        assert (await ask(connection, "/livez", "DELETE")).error == "UNSUPPORTED"
        async with open_registry(tmp_path / "data", tmp_path / "packs") as registry:
            security = await secured(Config(), registry.storage.local, Metrics(), None)
            runner.app[DOOR].open(registry, security, stall=10)
            health.ready(registry.storage.local)
            assert (await ask(connection, "/v1/_catalog")).json() == {"repositories": ["hello"]}
            assert (await ask(connection, "/readyz")).body == b'{"status":"UP"}'


async def test_a_problem_is_a_503_that_says_what_it_is_and_nothing_more(tmp_path: Path) -> None:
    health = Health(Volume(errno.ENOSPC).probe)
    health.ready(tmp_path)
    async with listening(health) as (_, connection):
        answer = await ask(connection, "/readyz")
        assert (answer.status, json.loads(answer.body)) == (503, {"status": "DOWN", "reason": FULL})
        assert answer.headers["Cache-Control"] == "no-store"
        assert (await ask(connection, "/livez")).status == 200
