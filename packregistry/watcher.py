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


class Watcher:
    """Keeps one registry's sources looked at until it is stopped."""

    def __init__(self, sources: Sources, lock: Path, *, rescan: float, settle: float) -> None:
        self._sources = sources
        self._lock = lock
        self._rescan = rescan
        self._soon = max(settle, 0.1)
        self._hint = asyncio.Event()
        self._first = asyncio.Event()
        self._waiting_logged = False

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look in the background while the context is open."""
        task = asyncio.create_task(self._run(), name="watcher")
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def looked(self) -> None:
        """Wait until the directories have been looked at once, here or by the process that does it."""
        await self._first.wait()

    async def _run(self) -> None:
        with self._lock.open("ab") as lock:
            while not _taken(lock.fileno()):
                if not self._waiting_logged:
                    _log.info("another process looks after the watched directories; taking over when it ends")
                    self._waiting_logged = True
                self._first.set()
                await asyncio.sleep(1)
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
            else:
                if outcome.unsettled:
                    pause = min(self._rescan, self._soon)
            self._first.set()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hint.wait(), pause)

    async def _listen(self) -> None:
        """Turn file events into hints. Begins anew when a root has been replaced."""
        while True:
            roots = [root for root in self._sources.roots if root.is_dir()]
            try:
                await self._follow(roots) if roots else await asyncio.sleep(self._rescan)
            except (OSError, RuntimeError) as error:
                _log.warning("no file events, so there is only a look every %g s: %s", self._rescan, error)
                await asyncio.sleep(self._rescan)

    async def _follow(self, roots: list[Path]) -> None:
        """Listen to `roots` until what lies there is something else."""
        identities = _identities(self._sources.roots)
        events = watchfiles.awatch(
            *roots,
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
                if _identities(self._sources.roots) != identities:
                    return


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _identities(roots: list[Path]) -> set[tuple[Path, int, int]]:
    found = set()
    for root in roots:
        with contextlib.suppress(OSError):
            status = root.stat()
            found.add((root, status.st_dev, status.st_ino))
    return found
