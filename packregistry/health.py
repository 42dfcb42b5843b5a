"""Whether the server can do its work: its records are loaded, and its storage takes files.

What is asked often is answered from what was found lately: a file is written and synced at most every few seconds, and
by one asker at a time. A volume that does not answer at all (NFS without its server) makes nobody wait for long.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

_log = logging.getLogger(__name__)

FRESH_SECONDS: Final = 5.0
PATIENCE_SECONDS: Final = 2.0
PROBE_BYTES: Final = 65536

STARTING: Final = "starting: the records are not loaded yet"
DRAINING: Final = "stopping: requests under way are finished, and no more are taken"
FULL: Final = "the storage is full"
UNWRITABLE: Final = "the storage cannot be written"
SILENT: Final = "the storage does not answer"


def write_probe(directory: Path) -> None:
    """Write a file of `PROBE_BYTES` in `directory`, sync and remove it. Raises `OSError`."""
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        file.write(bytes(PROBE_BYTES))
        os.fsync(file.fileno())


class Health:
    """The health of one server process, which is starting at first."""

    def __init__(
        self,
        probe: Callable[[Path], None] = write_probe,
        *,
        fresh: float = FRESH_SECONDS,
        patience: float | None = None,
    ) -> None:
        self._probe = probe
        self._fresh = fresh
        self._patience = PATIENCE_SECONDS if patience is None else patience
        self._directory: Path | None = None
        self._draining = False
        self._probing: asyncio.Task[str] | None = None
        self._found = ""
        self._looked = -fresh

    def ready(self, directory: Path) -> None:
        """The records are loaded; `directory` is where the storage writes."""
        self._directory = directory

    def drain(self) -> None:
        """The server stops."""
        self._draining = True

    async def problem(self) -> str:
        """What is wrong, for anybody to read; empty where nothing is."""
        if self._draining:
            return DRAINING
        if self._directory is None:
            return STARTING
        if self._probing is None and time.monotonic() - self._looked >= self._fresh:
            self._probing = asyncio.create_task(self._look(self._directory), name="probe")
        if self._probing is not None:
            try:
                # A thread that waits for a dead volume cannot be ended; it is not started twice.
                return await asyncio.wait_for(asyncio.shield(self._probing), self._patience)
            except TimeoutError:
                return SILENT
        return self._found

    async def close(self) -> None:
        """Wait for nobody any more."""
        if self._probing is not None:
            self._probing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._probing

    async def _look(self, directory: Path) -> str:
        found = ""
        try:
            await asyncio.to_thread(self._probe, directory)
        except OSError as error:
            found = FULL if error.errno in {errno.ENOSPC, errno.EDQUOT} else UNWRITABLE
            if found != self._found:
                _log.error("not ready: %s: %s: %s", found, directory, error.strerror)
        else:
            if self._found:
                _log.info("ready again: %s can be written", directory)
        self._found, self._looked, self._probing = found, time.monotonic(), None
        return found
