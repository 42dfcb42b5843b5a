"""The watched directories are looked at again and again, by one process, whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import watchfiles

from packregistry import watcher
from packregistry.errors import StorageUnavailableError
from packregistry.sources import Outcome, Sources
from packregistry.watcher import Watcher

DEADLINE = 20.0
NEVER = 3600.0
STILL = Outcome(0, 0, unsettled=False)
UNSETTLED = Outcome(0, 0, unsettled=True)


class Looked(Sources):
    """Sources that only count how often they are looked at; each look may be given a result or an error."""

    def __init__(self, *roots: Path, results: tuple[Outcome | Exception, ...] = ()) -> None:
        self.roots = list(roots)
        self.looks = 0
        self.opened = 0
        self.during: Callable[[], object] = lambda: None
        self._results = list(results)
        self._changed = asyncio.Condition()

    async def open(self) -> bool:
        self.opened += 1
        return True

    async def look(self) -> Outcome:
        self.looks += 1
        self.during()
        async with self._changed:
            self._changed.notify_all()
        result = self._results.pop(0) if self._results else STILL
        if isinstance(result, Exception):
            raise result
        return result

    async def reached(self, count: int, timeout: float = DEADLINE) -> None:  # noqa: ASYNC109 — bounds the waiting
        async with asyncio.timeout(timeout), self._changed:
            await self._changed.wait_for(lambda: self.looks >= count)


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "_DEBOUNCE_MS", 20)
    monkeypatch.setattr(watcher, "_STEP_MS", 5)
    monkeypatch.setattr(watcher, "_LOCK_SECONDS", 0.01)


@pytest.fixture
def followed(monkeypatch: pytest.MonkeyPatch) -> asyncio.Queue[tuple[Path, ...]]:
    """The roots that are listened to, each time that begins."""
    begun: asyncio.Queue[tuple[Path, ...]] = asyncio.Queue()
    real = watchfiles.awatch

    def awatch(*roots: Path, **options: Any) -> AsyncIterator[Any]:
        begun.put_nowait(roots)
        return real(*roots, **options)

    monkeypatch.setattr(watchfiles, "awatch", awatch)
    return begun


@contextlib.asynccontextmanager
async def watching(sources: Looked, lock: Path, rescan: float = NEVER, settle: float = 0.0) -> AsyncIterator[Watcher]:
    started = Watcher(sources, lock, rescan=rescan, settle=settle)
    async with started.running():
        async with asyncio.timeout(DEADLINE):
            await started.looked()
        yield started


async def seen(sources: Looked, root: Path) -> None:
    """Change something until that leads to a look: nobody tells when listening has really begun."""
    before = sources.looks
    for number in range(int(DEADLINE / 0.1)):
        (root / f"{before}-{number}").touch()
        with contextlib.suppress(TimeoutError):
            await sources.reached(before + 1, timeout=0.1)
            return
    raise AssertionError("no event has led to a look")


def moved_away(root: Path) -> None:
    root.rename(root.with_name("aside"))
    root.mkdir()


async def test_the_directories_are_looked_at_before_it_says_so(tmp_path: Path) -> None:
    sources = Looked(tmp_path)
    async with watching(sources, tmp_path / "lock"):
        assert sources.looks == 1


async def test_a_file_event_hastens_the_next_look(tmp_path: Path) -> None:
    (tmp_path / "packs").mkdir()
    sources = Looked(tmp_path / "packs")
    async with watching(sources, tmp_path / "lock"):
        await seen(sources, tmp_path / "packs")


async def test_without_events_there_is_a_look_every_rescan(tmp_path: Path) -> None:
    (tmp_path / "packs").mkdir()
    sources = Looked(tmp_path / "packs")
    async with watching(sources, tmp_path / "lock", rescan=0.01):
        await sources.reached(5)


async def test_what_is_not_settled_is_looked_at_soon(tmp_path: Path) -> None:
    sources = Looked(results=(UNSETTLED, UNSETTLED, STILL))
    async with watching(sources, tmp_path / "lock"):
        await sources.reached(3)
        with pytest.raises(TimeoutError):
            await sources.reached(4, timeout=0.15)


async def test_what_is_not_settled_is_given_the_time_it_takes_but_no_more_than_a_rescan(tmp_path: Path) -> None:
    sources = Looked(results=(UNSETTLED,) * 3)
    async with watching(sources, tmp_path / "lock", rescan=0.01, settle=NEVER):
        await sources.reached(3)
    sources = Looked(results=(UNSETTLED,) * 3)
    async with watching(sources, tmp_path / "lock", settle=NEVER):
        with pytest.raises(TimeoutError):
            await sources.reached(2, timeout=0.15)


async def test_what_happens_during_a_look_leads_to_another(tmp_path: Path) -> None:
    sources = Looked()
    started = Watcher(sources, tmp_path / "lock", rescan=NEVER, settle=0)
    sources.during = lambda: started._hint.set() if sources.looks == 1 else None
    async with started.running():
        await sources.reached(2)


@pytest.mark.parametrize(
    "error",
    [StorageUnavailableError("no disk"), OSError(5, "no disk"), ZeroDivisionError("no disk")],
    ids=lambda error: type(error).__name__,
)
async def test_a_look_that_fails_is_logged_and_does_not_end_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    sources = Looked(results=(error, error))
    async with watching(sources, tmp_path / "lock", rescan=0.01):
        await sources.reached(3)
    assert caplog.text.count("looking at the watched directories failed, and is tried again") == 2
    assert "no disk" in caplog.text
    assert ("Traceback" in caplog.text) == isinstance(error, ZeroDivisionError)


async def test_a_root_that_is_replaced_is_still_followed(
    tmp_path: Path, followed: asyncio.Queue[tuple[Path, ...]]
) -> None:
    root = tmp_path / "packs"
    root.mkdir()
    sources = Looked(root)
    async with watching(sources, tmp_path / "lock"):
        await seen(sources, root)
        moved_away(root)
        async with asyncio.timeout(DEADLINE):
            assert await followed.get() == (root,)
            assert await followed.get() == (root,)
        await seen(sources, root)


async def test_roots_that_are_not_there_are_followed_once_they_are(
    tmp_path: Path, followed: asyncio.Queue[tuple[Path, ...]]
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    sources = Looked(two, one)
    async with watching(sources, tmp_path / "lock", rescan=0.02), asyncio.timeout(DEADLINE):
        await sources.reached(3)
        assert followed.empty()
        make(two)
        assert await followed.get() == (two,)
        make(one)
        assert await followed.get() == (one, two)


def make(root: Path) -> None:
    root.mkdir()


async def test_without_any_root_there_are_looks_all_the_same(tmp_path: Path) -> None:
    sources = Looked()
    async with watching(sources, tmp_path / "lock", rescan=0.01):
        await sources.reached(3)


@pytest.mark.parametrize("error", [OSError(28, "limit reached"), RuntimeError("limit reached")], ids=["OS", "watcher"])
async def test_where_events_are_not_to_be_had_that_is_said_once_and_looks_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    tries = 0

    async def awatch(*_: Any, **__: Any) -> AsyncIterator[Any]:
        nonlocal tries
        tries += 1
        if tries:
            raise error
        yield

    monkeypatch.setattr(watchfiles, "awatch", awatch)
    sources = Looked(tmp_path)
    async with watching(sources, tmp_path / "lock", rescan=0.01):
        await sources.reached(8)
    assert tries > 1
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "no file events, so there is only a look every 0.01 s: " in warning
    assert "limit reached" in warning


async def test_only_one_of_two_looks_and_the_other_takes_over_when_it_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "packregistry")
    first, second = Looked(), Looked()
    async with contextlib.AsyncExitStack() as later:
        async with watching(first, tmp_path / "lock", rescan=0.01):
            await later.enter_async_context(watching(second, tmp_path / "lock", rescan=0.01))
            await first.reached(10)
            assert second.looks == 0
            assert caplog.text.count("another process looks after the watched directories") == 1
        ended = first.looks
        await second.reached(3)
        assert second.opened == 1, "what the first has seen is read again"
        assert first.looks == ended
    assert first.opened == 0


async def test_one_that_waits_can_be_stopped(tmp_path: Path) -> None:
    first, second = Looked(), Looked()
    async with watching(first, tmp_path / "lock"):
        async with watching(second, tmp_path / "lock"):
            pass
        assert second.looks == 0


async def test_the_lock_is_free_when_it_has_been_stopped(tmp_path: Path) -> None:
    for _ in range(2):
        sources = Looked()
        async with watching(sources, tmp_path / "lock"):
            assert sources.looks == 1


async def test_a_lock_that_cannot_be_used_is_an_error_at_once(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    with pytest.raises(IsADirectoryError):
        async with watching(Looked(), tmp_path / "lock"):
            pass


@pytest.mark.parametrize("error", [None, ZeroDivisionError], ids=["at its end", "after an error"])
def test_stopping_leaves_neither_tasks_nor_threads(tmp_path: Path, error: type[Exception] | None) -> None:
    before = set(threading.enumerate())

    async def run() -> None:
        sources = Looked(tmp_path)
        try:
            async with watching(sources, tmp_path / "lock"):
                await seen(sources, tmp_path)
                if error:
                    raise error
        finally:
            assert asyncio.all_tasks() == {asyncio.current_task()}

    with pytest.raises(error) if error else contextlib.nullcontext():
        asyncio.run(run())
    # A thread that has been told to end may still be on its way out.
    for thread in set(threading.enumerate()) - before:
        thread.join(DEADLINE)
    assert set(threading.enumerate()) == before


def test_stopping_during_a_look_waits_for_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        started = asyncio.Event()

        class Stuck(Looked):
            async def look(self) -> Outcome:
                started.set()
                await asyncio.Event().wait()
                return STILL

        async with Watcher(Stuck(tmp_path), tmp_path / "lock", rescan=NEVER, settle=0).running():
            await started.wait()

    asyncio.run(asyncio.wait_for(run(), DEADLINE))
