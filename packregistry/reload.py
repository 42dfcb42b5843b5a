"""Files that are read again when they change, while everything goes on with what was read before.

A `Reloadable` is a file, or a few that belong together, and what was last read from them. `Reloader` looks at all of
them again and again, and reads what has changed a moment after it did. What cannot be used leaves the last good state
in force, is logged once, and raises a gauge until it is put right; it is tried again at every look, because a file may
become readable without looking any different.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol

_log = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
WAITS_MAX = 8


class ReloadError(Exception):
    """Files that cannot be used; `str()` names the file, what is wrong with it, and what to do."""


class Reloadable(Protocol):
    """Something read from files. `load` never overlaps itself."""

    @property
    def what(self) -> str:
        """What it is, as the log and the metrics name it: `users`, `certificates`."""

    def changed(self) -> bool:
        """Whether the files are others than those `load` last looked at; a `stat` or a few, quick enough for a loop."""

    def state(self) -> object:
        """What the files look like from outside, as `fingerprint` has it."""

    def load(self) -> None:
        """Read the files, whole, and only then put what they say in place of what was there.

        Runs in a thread. Raises `ReloadError` and changes nothing where they cannot be used.
        """


async def nothing() -> None:
    """Do nothing after a load."""


def ignore(_what: str, _ok: bool, /) -> None:
    """Do nothing about the outcome of a load."""


class Reloader:
    """Keeps sources as their files are. All of them have been loaded once already.

    Args:
        sources: what is looked at; `add` takes more.
        observe: called on the loop with the name of a source and whether it is in order, after each time it was loaded.
        interval: seconds from one look at a source to the next.
        sleep: waits that long.
    """

    def __init__(
        self,
        sources: Sequence[Reloadable],
        *,
        observe: Callable[[str, bool], None] = ignore,
        interval: float = LOOK_SECONDS,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._observe = observe
        self._interval = interval
        self._sleep = sleep
        self._entries: list[_Entry] = []
        for source in sources:
            self.add(source)

    def add(self, source: Reloadable, after: Callable[[], Awaitable[None]] = nothing) -> None:
        """Look at one more source, from the next `running` on.

        `after` runs on the loop whenever the source was loaded, and makes others use what it gives now. Where that
        raises an exception, the load counts as failed, and both are tried again at the next look.
        """
        self._entries.append(_Entry(source, after))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look in the background while the context is open. A source that takes long keeps no other one waiting."""
        tasks = [
            asyncio.create_task(self._follow(entry), name=f"reload {entry.source.what}") for entry in self._entries
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def look(self, *, everything: bool = False) -> None:
        """Load what has changed or failed last time, or else `everything`. Raises nothing that a source raises."""
        await asyncio.gather(*(self._look(entry, everything=everything) for entry in self._entries))

    async def _follow(self, entry: _Entry) -> None:
        while True:
            await self._sleep(self._interval)
            await self._look(entry, is_patient=True)

    async def _look(self, entry: _Entry, *, everything: bool = False, is_patient: bool = False) -> None:
        async with entry.lock:
            try:
                if not await asyncio.to_thread(entry.load, everything=everything, is_patient=is_patient):
                    return
                await entry.after()
            except ReloadError as error:
                entry.fail(str(error))
            except Exception as error:  # noqa: BLE001 — logged with its traceback; whatever it is, looking must go on
                entry.break_down(error)
            else:
                entry.succeed()
            self._observe(entry.source.what, entry.failure is None)


class _Entry:
    """A source, and how it fared: `failure` is what was wrong at its last load, `None` if nothing was."""

    def __init__(self, source: Reloadable, after: Callable[[], Awaitable[None]]) -> None:
        self.source = source
        self.after = after
        self.lock = asyncio.Lock()
        self.failure: str | None = None
        self._reported: set[str] = set()
        self._looked: object = None
        self._waits = 0

    def load(self, *, everything: bool, is_patient: bool) -> bool:
        """Load the source if that is due; whether it was. To be called in a thread.

        Whoever is patient leaves a change alone until two looks in a row find the same, or `WAITS_MAX` were in vain: a
        file that is written in place is seen with a part of what belongs into it, and some of the users are good users.
        """
        is_due = everything or self.failure is not None
        if not is_due and self.source.changed():
            state = self.source.state()
            is_due = not is_patient or state == self._looked or self._waits >= WAITS_MAX
            self._looked = state
            self._waits += 1
        if is_due:
            self._waits = 0
            self._looked = None
            self.source.load()
        return is_due

    def fail(self, failure: str) -> None:
        """Note a failure. Files written one after the other do not match for a moment, so one alone is not reported."""
        if failure == self.failure and failure not in self._reported:
            problems = "; ".join(failure.splitlines())
            _log.error("%s: %s: what was read before stays in force", self.source.what, problems)
            self._reported.add(failure)
        self.failure = failure

    def break_down(self, error: Exception) -> None:
        """Note an exception that nobody foresaw, which no second look explains."""
        kind = type(error).__name__
        if kind not in self._reported:
            _log.error("%s: what was read before stays in force", self.source.what, exc_info=error)
            self._reported.add(kind)
        self.failure = kind

    def succeed(self) -> None:
        """Note that all is well."""
        if self._reported:
            _log.info("%s: in order again", self.source.what)
        self._reported.clear()
        self.failure = None


def fingerprint(*paths: Path) -> tuple[int, ...]:
    """What files look like from outside: another tuple when one is replaced, rewritten, or reached by another link.

    (device, inode, bytes, mtime in ns) of each, or (errno,) of one that cannot be seen. Take it before reading, so that
    a change while reading is seen as one afterwards.
    """
    parts: list[int] = []
    for path in paths:
        try:
            status = os.stat(path)
        except OSError as error:
            parts.append(error.errno or 0)
        else:
            parts += (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    return tuple(parts)
