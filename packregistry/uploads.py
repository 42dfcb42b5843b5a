"""Uploads that take several requests: files that grow until they are finished, cancelled, or too old.

    ROOT/<pack>/<id>        what has arrived so far of one upload

The size of the file is the offset to go on from, so an upload survives a broken connection and a killed server alike.
While a request writes to an upload its file is locked, which holds across processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from packregistry.errors import (
    BlobUploadInvalidError,
    BlobUploadUnknownError,
    NameInvalidError,
    RangeInvalidError,
    SizeInvalidError,
)
from packregistry.model import Digest, PackName, shown
from packregistry.receive import CHUNK, collected, written
from packregistry.storage.oserrors import translated

UPLOADS = "uploads"
_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)


@dataclass(slots=True)
class Upload:
    """One upload, opened and locked. It satisfies `storage.Staged`, so it can be given to `Storage.put`."""

    id: str
    path: Path
    file: BinaryIO

    @property
    def size(self) -> int:
        """How many bytes have arrived."""
        return os.fstat(self.file.fileno()).st_size

    async def append(self, body: AsyncIterator[bytes], *, start: int | None, limit: int) -> int:
        """Add a request's body; return the new size. What arrived before a connection broke is kept.

        Raises `RangeInvalidError` where `start` is given and is not the size, `SizeInvalidError` beyond `limit` bytes.
        """
        size = self.size
        if start is not None and start != size:
            raise RangeInvalidError(
                f"the upload has {size} bytes, so the next part does not begin at {start}",
                remedy="ask for its state with GET and go on from there",
                headers={"Range": range_of(size)},
            )
        self.file.seek(0, os.SEEK_END)
        async for chunk in collected(body):
            if size + len(chunk) > limit:
                raise SizeInvalidError(f"the upload is larger than {limit} bytes", remedy="raise limits.archive")
            with translated(self.path):
                await written(self.file, chunk)
            size += len(chunk)
        return size

    async def digest(self) -> Digest:
        """The digest of all that has arrived."""

        def compute() -> Digest:
            found = hashlib.sha256()
            self.file.seek(0)
            while chunk := self.file.read(CHUNK):
                found.update(chunk)
            return Digest("sha256:" + found.hexdigest())

        return await asyncio.to_thread(compute)

    async def remove(self) -> None:
        """Forget what has arrived; not an error where it has become a blob."""
        await asyncio.to_thread(self.path.unlink, missing_ok=True)


class Uploads:
    """The uploads below `root`; those untouched for `expire` seconds are removed."""

    def __init__(self, root: Path, *, expire: float) -> None:
        self._root = root
        self._expire = expire

    async def start(self, name: PackName) -> str:
        """Begin an upload and return its id."""
        identity = secrets.token_hex(16)

        def create() -> None:
            directory = self._root / name
            with translated(self._root):
                directory.mkdir(parents=True, exist_ok=True)
                (directory / identity).touch(mode=0o640, exist_ok=False)

        await asyncio.to_thread(create)
        return identity

    @contextlib.asynccontextmanager
    async def open(self, name: PackName, identity: str) -> AsyncIterator[Upload]:
        """Open and lock an upload. Raises `BlobUploadUnknownError`, or `BlobUploadInvalidError` while it is in use."""
        upload = await asyncio.to_thread(self._open, name, identity)
        try:
            yield upload
        finally:
            await asyncio.to_thread(upload.file.close)

    def _open(self, name: PackName, identity: str) -> Upload:
        path = self._root / name / identity
        try:
            if not _ID.fullmatch(identity):
                raise FileNotFoundError(identity)
            file = path.open("r+b", buffering=0)
        except FileNotFoundError:
            raise BlobUploadUnknownError(
                f"{name} has no upload {shown(identity)}", remedy="it was finished, cancelled or expired: begin anew"
            ) from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not path.exists():
                raise BlobUploadUnknownError(f"{name} has no upload {identity} any more", remedy="begin anew")
        except BlockingIOError:
            file.close()
            raise BlobUploadInvalidError(
                "another request is writing to this upload",
                remedy="wait for it to end, then ask for the state with GET",
            ) from None
        except BlobUploadUnknownError:
            file.close()
            raise
        return Upload(identity, path, file)

    async def cancel(self, name: PackName, identity: str) -> None:
        """Forget an upload and what arrived of it."""
        async with self.open(name, identity) as upload:
            await upload.remove()

    async def remove_expired(self, *, dry_run: bool = False) -> list[str]:
        """Remove uploads that nobody has written to for long; return `pack/id` of each."""
        return await asyncio.to_thread(self._remove_expired, dry_run)

    def _remove_expired(self, dry_run: bool) -> list[str]:
        removed = []
        for path in sorted(self._root.glob("*/*")):
            with contextlib.suppress(
                BlobUploadInvalidError, BlobUploadUnknownError, NameInvalidError, FileNotFoundError
            ):
                if time.time() - path.stat().st_mtime < self._expire:
                    continue
                upload = self._open(PackName.parse(path.parent.name), path.name)
                with contextlib.closing(upload.file):
                    if not dry_run:
                        path.unlink()
                    removed.append(f"{path.parent.name}/{path.name}")
        return removed

    async def count(self) -> int:
        """How many uploads there are."""
        return await asyncio.to_thread(lambda: sum(1 for _ in self._root.glob("*/*")))


def range_of(size: int) -> str:
    """What `Range` says of an upload with `size` bytes, after the Distribution API: `0-LAST`, and `0-0` for nothing."""
    return f"0-{max(0, size - 1)}"
