"""Blobs that were uploaded to a pack and that no release of it refers to yet.

    ROOT/<pack>/<hex>       empty; since when the pack holds the blob is the file's time, its size is in the storage

An upload and the manifest that refers to it are separate requests, perhaps to separate processes. A holding says that
this pack may refer to the blob, and keeps the blob from being swept, until it expires.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

from packregistry.errors import BlobUnknownError, DigestInvalidError
from packregistry.model import Digest, PackName

HOLDINGS = "holdings"


class Holdings:
    """The holdings below `root`, each for `expire` seconds."""

    def __init__(self, root: Path, *, expire: float) -> None:
        self._root = root
        self._expire = expire

    async def hold(self, name: PackName, digest: Digest) -> None:
        """Let the pack refer to the blob from now on, for as long as a holding lasts."""

        def touch() -> None:
            path = self._path(name, digest)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o640)

        await asyncio.to_thread(touch)

    async def check(self, name: PackName, digest: Digest) -> None:
        """Make sure that the pack holds the blob. Raises `BlobUnknownError`."""
        if not await asyncio.to_thread(self._holds, name, digest):
            raise BlobUnknownError(f"{name} has no blob {digest}", detail={"name": name, "digest": digest})

    async def digests(self) -> set[Digest]:
        """Every blob that some pack holds."""
        return await asyncio.to_thread(lambda: set(self._current()))

    async def remove_expired(self) -> None:
        """Forget holdings that nobody made use of."""

        def remove() -> None:
            for path in self._root.glob("*/*"):
                with contextlib.suppress(FileNotFoundError):  # another process was faster
                    if time.time() - path.stat().st_mtime >= self._expire:
                        path.unlink()

        await asyncio.to_thread(remove)

    def _path(self, name: PackName, digest: Digest) -> Path:
        return self._root / name / digest.hex

    def _holds(self, name: PackName, digest: Digest) -> bool:
        try:
            return time.time() - self._path(name, digest).stat().st_mtime < self._expire
        except FileNotFoundError:
            return False

    def _current(self) -> list[Digest]:
        found = []
        for path in self._root.glob("*/*"):
            with contextlib.suppress(DigestInvalidError, FileNotFoundError):
                digest = Digest.parse(f"sha256:{path.name}")
                if time.time() - path.stat().st_mtime < self._expire:
                    found.append(digest)
        return found
