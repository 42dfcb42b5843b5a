"""Removing what nothing refers to any more, while everything goes on.

A blob goes when no release, no restorable release and no holding refers to it and it has not been new for the grace
period. The order is what makes this safe beside publishing in any process: first the old blobs are listed, then the
references are read, and a blob is removed only if it still is old in the moment of its removal. Whoever is about to
refer to a blob makes it new first (`Storage.put`, `Storage.keep`), and then it is either not listed or not removed.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import fcntl
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from packregistry.errors import RegistryError, StorageUnavailableError
from packregistry.holdings import Holdings
from packregistry.model import Digest
from packregistry.registry import Registry
from packregistry.uploads import Uploads

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep removed, or would remove: blobs with their sizes in bytes, and uploads as `pack/id`."""

    blobs: tuple[tuple[Digest, int], ...]
    uploads: tuple[str, ...]

    @property
    def size(self) -> int:
        """How many bytes the blobs have."""
        return sum(size for _, size in self.blobs)


class Sweeper:
    """Sweeps one registry. `grace` is in seconds."""

    def __init__(self, registry: Registry, uploads: Uploads, holdings: Holdings, *, grace: float) -> None:
        self._registry = registry
        self._uploads = uploads
        self._holdings = holdings
        self._grace = grace

    async def sweep(self, *, dry_run: bool = False) -> Swept:
        """Remove what is not needed; with `dry_run` only say what that is.

        Raises `StorageUnavailableError` while a record is damaged: nobody knows what that one refers to.
        """
        before = time.time() - self._grace
        uploads = await self._uploads.remove_expired(dry_run=dry_run)
        old = {
            digest: size for digest, (size, since) in (await self._registry.storage.blobs()).items() if since < before
        }
        await self._registry.refresh(everything=True)
        if damaged := self._registry.storage.damaged:
            raise StorageUnavailableError(
                f"nothing is swept while records are damaged: {', '.join(sorted(damaged))}",
                remedy="restore them from a backup, or move them away",
            )
        expired = dt.datetime.fromtimestamp(before, dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if not dry_run:
            await self._registry.forget(expired)
            await self._holdings.remove_expired()
        needed = self._registry.references(restorable_since=expired) | await self._holdings.digests()
        found = []
        for digest, size in sorted(old.items()):
            if digest not in needed and (dry_run or await self._registry.storage.discard(digest, before)):
                found.append((digest, size))
        return Swept(tuple(found), tuple(uploads))


@contextlib.asynccontextmanager
async def sweeping(sweeper: Sweeper, lock: Path, interval: float) -> AsyncIterator[None]:
    """Sweep every `interval` seconds while the context is open, unless another process does."""
    task = asyncio.create_task(_run(sweeper, lock, interval), name="sweep")
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _run(sweeper: Sweeper, lock: Path, interval: float) -> None:
    while True:
        await asyncio.sleep(interval)
        try:
            with lock.open("ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                swept = await sweeper.sweep()
                if swept.blobs or swept.uploads:
                    what = f"{len(swept.blobs)} blobs of {swept.size} bytes and {len(swept.uploads)} uploads"
                    _log.info("swept %s", what)
        except BlockingIOError:
            _log.debug("another process sweeps")
        except (RegistryError, OSError) as error:
            _log.error("sweeping failed, and is tried again: %s", error)
