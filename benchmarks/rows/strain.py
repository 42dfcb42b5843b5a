"""Rows about what a server does meanwhile: its memory under large transfers, and how long others wait beside work."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field

from benchmarks import client, content, servers, wrk
from benchmarks.figures import Spread, ratios
from benchmarks.processes import ProgramError, resident
from benchmarks.report import Outcome, Target
from benchmarks.stage import LARGE, Competitor, Stage

MB = 1e6
SAMPLE_SECONDS = 0.02
_PIECE = 256 * 1024


@dataclass
class Memory:
    """The memory of processes, looked at again and again in a thread."""

    pids: Sequence[int]
    seen: list[float] = field(default_factory=list)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look while the context is open."""
        stop = threading.Event()

        def look() -> None:
            while not stop.wait(SAMPLE_SECONDS):
                try:
                    self.seen.append(max(resident(pid) for pid in self.pids) / MB)
                except ProgramError:
                    return

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def memory(stage: Stage) -> list[Outcome]:
    """Many large archives out, and many larger ones in, at the same time."""
    readers, writers = stage.size(64, 16), stage.size(16, 4)
    size = stage.size(100_000_000, 20_000_000)
    work = f"serving {readers} x 12 MB while receiving {writers} x {size / MB:.0f} MB"
    with ExitStack() as stack:
        place = stack.enter_context(stage.scratch("memory"))
        large = content.make("large", "1.0.0", LARGE, 12)
        server = stack.enter_context(servers.ours(place, [stage.server_core]))
        client.run(lambda: client.push_all(server.url, [large], 1, client.push_ours))
        watch = Memory(server.workers())
        ask = wrk.Ask([f"/v1/large/blobs/{large.digest}"], {}, readers, stage.size(25, 4))
        rounds = stage.size(2, 1)
        with watch.watched(), wrk.loading(server.url, ask, stage.directory, stage.load_core) as served:
            for number in range(rounds):
                begun = time.perf_counter()
                client.run(_receiving(server.url, number, writers, size))
                taken = time.perf_counter() - begun
                stage.say(f"    {writers * size / MB / taken:,.0f} MB/s in, {max(watch.seen):.0f} MB at most")
            load = served()
        stage.say(f"    {load.bytes_rate / MB:,.0f} MB/s out")
    half = len(watch.seen) // 2
    # The first second is spent on getting there.
    first, second = watch.seen[min(half // 4, int(1 / SAMPLE_SECONDS)) : half], watch.seen[half:]
    flat = max(second) / max(first)
    return [
        Outcome("memory", work, Target(150, "MB RSS a worker", "at most"), Spread.of([max(watch.seen)])),
        Outcome("memory", f"{work}, flat", Target(1.1, "x the first half's peak", "at most"), Spread.of([flat])),
    ]


def _receiving(url: str, number: int, writers: int, size: int) -> client.Work[None]:
    """Push packs that share most of their bytes, each on a connection of its own."""

    async def push(session: client.Client, name: str) -> None:
        first, second = content.large_archive(name, size)

        async def body() -> AsyncIterator[bytes]:
            yield first
            view = memoryview(second)
            for start in range(0, len(view), _PIECE):
                yield bytes(view[start : start + _PIECE])

        await session.request("POST", "/api/v1/packs", (201,), body())

    async def all_of_them() -> None:
        async with client.connected(url, writers) as session, asyncio.TaskGroup() as group:
            for place in range(writers):
                group.create_task(push(session, f"in-{number}-{place:02}"))

    return all_of_them


def latency(stage: Stage) -> list[Outcome]:
    """How long requests wait that have nothing to do with what the server does meanwhile."""
    target = Target(3, "x idle p99", "at most")
    count = stage.size(300, 40)
    outcomes = []
    with ExitStack() as stack:
        place = stack.enter_context(stage.scratch("latency"))
        content.catalogue(place / "packs", count, 20_000)
        directories = {"packs": {"directories": [str(place / "packs")], "settle": 0}}
        sweeps: dict[str, object] = {"storage": {"sweep": {"interval": "1s"}}}
        looks: dict[str, object] = {"packs": {"rescan": "1s"}}
        kinds: dict[str, tuple[dict[str, object], Callable[[servers.Server], AbstractContextManager[None]]]] = {
            f"rescans of {count} packs, one a second": (looks, lambda _: nullcontext()),
            f"sweeps of {count * 7:,} blobs, one a second": (sweeps, lambda _: nullcontext()),
            "16 running pushes of 1 MB packs": ({}, pushing),
        }
        idle_server = stack.enter_context(servers.ours(place / "idle", [stage.server_core], directories))
        for number, (name, (settings, beside)) in enumerate(kinds.items()):
            more = servers.merged(directories, settings)
            with servers.ours(place / f"busy-{number}", [stage.server_core], more) as busy:
                idle, p99 = _beside(stage, idle_server, busy, beside)
            details = {"idle": Spread.of(idle), "beside": Spread.of(p99)}
            work = f"GET p99, 16 connections, beside {name}"
            outcomes.append(Outcome("latency", work, target, ratios(p99, idle), details, "ms"))
    return outcomes


def _beside(
    stage: Stage,
    idle_server: servers.Server,
    busy: servers.Server,
    beside: Callable[[servers.Server], AbstractContextManager[object]],
) -> tuple[list[float], list[float]]:
    """The latencies in turns: of a server that does nothing else, and of one that is busy."""
    paths = ["/v1/pack-0001/tags/list", "/v1/pack-0002/manifests/1.2.3"]
    idle, found = [], []
    # A look or a sweep a second: fewer than two of them say nothing.
    seconds = max(stage.options.seconds, 2)
    for _ in range(stage.options.rounds):
        idle.append(stage.load(Competitor("idle", idle_server, paths), 16, seconds).p99)
        with beside(busy):
            found.append(stage.load(Competitor("busy", busy, paths), 16, seconds).p99)
        stage.say(f"    p99 {idle[-1]:.2f} ms idle, {found[-1]:.2f} ms beside")
    return idle, found


_ROUND = itertools.count()


@contextmanager
def pushing(server: servers.Server) -> Iterator[None]:
    """Have 16 clients push packs of 1 MB, again and again, while the context is open."""
    stop = threading.Event()
    number = next(_ROUND)
    failures: list[BaseException] = []

    async def work(session: client.Client, place: int) -> None:
        for version in itertools.count():
            if stop.is_set():
                return
            first, second = content.large_archive(f"busy-{number}-{place}-{version}", 1024 * 1024)
            await session.request("POST", "/api/v1/packs", (201,), first + second)

    async def all_of_them() -> None:
        async with client.connected(server.url, 16) as session, asyncio.TaskGroup() as group:
            for place in range(16):
                group.create_task(work(session, place))

    def run() -> None:
        try:
            client.run(all_of_them)
        except BaseException as error:  # noqa: BLE001 — told to whoever waits for it
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if failures:
        raise ProgramError(f"pushing failed: {failures[0]!r}")
