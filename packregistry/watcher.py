"""Looking at the watched directories again and again: every `rescan` seconds, and sooner when something happens there.

The periodic look is what the registry relies on. File events only hasten it: they are lost when a watched root is
replaced, when a tree is created faster than it can be watched, on network file systems, and when the kernel's limit of
watches is reached. Only one process looks at a time; another takes over when it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import watchfiles

from packregistry.errors import RegistryError
from packregistry.sources import Sources

_log = logging.getLogger(__name__)
_DEBOUNCE_MS = 400
_STEP_MS = 50
_LOCK_SECONDS = 1.0
_FIRST_SECONDS = 0.05

Identity = tuple[Path, int, int]


class Watcher:
    """Keeps one registry's sources looked at until it is stopped."""

    def __init__(self, sources: Sources, lock: Path, *, rescan: float, settle: float, waits: bool = False) -> None:
        self._sources = sources
        self._lock = lock
        self._rescan = rescan
        self._soon = max(settle, 0.1)
        self._waits = waits
        self._hint = asyncio.Event()
        self._first = asyncio.Event()
        self._without_events = ""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look in the background while the context is open. Raises `OSError` when the lock cannot be used."""
        with self._lock.open("ab") as lock:
            task = asyncio.create_task(self._run(lock.fileno(), taken=_taken(lock.fileno())), name="watcher")
            try:
                yield
            finally:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def looked(self) -> None:
        """Wait until the directories have been looked at once.

        Where another process does that, return at once, or with `waits` when it has done so for the first time.
        """
        await self._first.wait()

    async def _run(self, lock: int, *, taken: bool) -> None:
        if not taken:
            _log.info("another process looks after the watched directories; taking over when it ends")
            while not _taken(lock):
                if not self._waits or await self._sources.looked():
                    self._first.set()
                await asyncio.sleep(_LOCK_SECONDS if self._first.is_set() else _FIRST_SECONDS)
            await self._sources.open()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen())
            await self._look_forever()

    async def _look_forever(self) -> None:
        while True:
            self._hint.clear()
            pause = self._rescan
            try:
                outcome = await self._sources.look()
            except (RegistryError, OSError) as error:
                _log.error("looking at the watched directories failed, and is tried again: %s", error)
            except Exception:  # noqa: BLE001 — logged with its traceback; whatever it is, looking must go on
                _log.exception("looking at the watched directories failed, and is tried again")
            else:
                if outcome.unsettled:
                    pause = min(self._rescan, self._soon)
            self._first.set()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hint.wait(), pause)

    async def _listen(self) -> None:
        """Turn file events into hints. Begins anew when a root has been replaced."""
        while True:
            identities = await asyncio.to_thread(_identities, self._sources.roots)
            try:
                await self._follow(identities) if identities else await asyncio.sleep(self._rescan)
            except (OSError, RuntimeError) as error:
                if self._without_events != str(error):
                    _log.warning("no file events, so there is only a look every %g s: %s", self._rescan, error)
                    self._without_events = str(error)
                await asyncio.sleep(self._rescan)

    async def _follow(self, identities: set[Identity]) -> None:
        """Listen to what lies at the roots until it is something else."""
        events = watchfiles.awatch(
            *sorted(root for root, _, _ in identities),
            watch_filter=None,
            debounce=_DEBOUNCE_MS,
            step=_STEP_MS,
            rust_timeout=max(1, int(self._rescan * 1000)),
            yield_on_timeout=True,
            ignore_permission_denied=True,
        )
        async with contextlib.aclosing(events):
            async for changes in events:
                if changes:
                    self._hint.set()
                if await asyncio.to_thread(_identities, self._sources.roots) != identities:
                    return


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _identities(roots: list[Path]) -> set[Identity]:
    """The roots that are there, each with what tells it from another directory in its place."""
    found = set()
    for root in roots:
        with contextlib.suppress(OSError):
            status = root.stat()
            found.add((root, status.st_dev, status.st_ino))
    return found
