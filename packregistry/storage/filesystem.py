"""Storage in a directory of a local file system, shared by any number of processes on one machine.

    ROOT/
    ├── format                  "1": what wrote this directory
    ├── blobs/sha256/<hex>      immutable; the name is the SHA-256 of the content
    ├── packs/<name>.json       one record a pack, replaced whole
    ├── changes                 a line a replaced record (its name, or *): what other processes look at
    ├── locks/<00…3f>           taken for the moment in which a record is compared and replaced
    └── staging/                files on their way in, each locked by the process that writes it

Every file is written to `staging`, synced, and renamed to its place; then the directory is synced. A name therefore
stands for complete and durable content, or for nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import logging
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ParamSpec, TypeVar

import aiofiles

from packregistry.errors import (
    BlobUnknownError,
    NameInvalidError,
    RecordChangedError,
    RegistryError,
    StorageFullError,
    StorageUnavailableError,
)
from packregistry.model import Digest, PackName, PackRecord
from packregistry.storage import OpenBlob, Staged, Version

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger(__name__)
_FORMAT = "1\n"
_SHARDS = 64
_THREADS = 8
_CHUNK = 1024 * 1024
_MODE = 0o640
_CHANGES_MAX = 1024 * 1024

Signature = tuple[int, int, int]


@dataclass(slots=True)
class StagedFile:
    """A locked file in `staging`."""

    path: Path
    file: BinaryIO


@dataclass(slots=True)
class BlobFile:
    """A blob's open file."""

    size: int
    descriptor: int | None
    path: Path

    async def chunks(self, start: int, stop: int) -> AsyncIterator[bytes]:
        """Yield the bytes from `start` up to `stop`."""
        async with aiofiles.open(self.path, "rb", buffering=0) as file:
            await file.seek(start)
            while start < stop and (chunk := await file.read(min(_CHUNK, stop - start))):
                start += len(chunk)
                yield chunk

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None


class FilesystemStorage:
    """The storage contract on the directory `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.local = root
        self._blobs = root / "blobs" / "sha256"
        self._packs = root / "packs"
        self._locks = root / "locks"
        self._staging = root / "staging"
        self._changes = root / "changes"
        self._known: dict[str, Signature] = {}
        self._damaged: dict[PackName, str] = {}
        self._seen = (0, 0, 0)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="storage")

    @property
    def damaged(self) -> Mapping[PackName, str]:
        """Records that cannot be read, and why."""
        return self._damaged

    async def open(self) -> None:
        """Make the directories, clear what killed processes left, and have every process look at all records."""
        await self._run(self._open)

    async def close(self) -> None:
        """Wait for what is being written."""
        await asyncio.to_thread(self._threads.shutdown)

    def stale(self) -> bool:
        """Whether `changes` has grown or been replaced since it was read."""
        try:
            status = os.stat(self._changes)
        except OSError:
            return True
        return (status.st_ino, status.st_size, status.st_mtime_ns) != self._seen

    async def refresh(self, *, everything: bool = False) -> Mapping[PackName, PackRecord]:
        """Read the records named in `changes` since the last call, or look at all."""
        return await self._run(self._refresh, everything)

    async def read_record(self, name: PackName) -> tuple[PackRecord, Version]:
        """Read a record with the signature of its file."""
        return await self._run(self._read_record, name)

    async def write_record(self, record: PackRecord, expected: Version) -> None:
        """Replace the record's file if its signature still is `expected`."""
        await self._run(self._write_record, record, expected)

    @contextlib.contextmanager
    def stage(self) -> Iterator[Staged]:
        """Make a locked file in `staging`; a quick local operation, so it is not awaited."""
        with translated(self._staging):
            descriptor, name = tempfile.mkstemp(dir=self._staging)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            os.fchmod(descriptor, _MODE)
        path = Path(name)
        with os.fdopen(descriptor, "w+b") as file:
            try:
                yield StagedFile(path, file)
            finally:
                path.unlink(missing_ok=True)

    async def put(self, blobs: Sequence[tuple[Digest, bytes | Staged]]) -> None:
        """Sync each new blob, rename all, sync the directory."""
        await self._run(self._put, blobs)

    async def open_blob(self, digest: Digest) -> OpenBlob:
        """Open the blob's file."""
        return await self._run(self._open_blob, digest)

    async def read_blob(self, digest: Digest) -> bytes:
        """Read the blob's file."""
        return await self._run(self._read_blob, digest)

    async def _run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        def call() -> T:
            with translated(self.root):
                return function(*args, **kwargs)

        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    # What follows runs in a thread.

    def _open(self) -> None:
        try:
            for directory in (self._blobs, self._packs, self._locks, self._staging):
                directory.mkdir(parents=True, exist_ok=True)
            marker = self.root / "format"
            if not marker.exists():
                marker.write_text(_FORMAT)
            written = marker.read_text()
            self._announce("*")
        except OSError as error:
            raise StorageUnavailableError(
                f"{self.root} cannot be used: {error.strerror} ({error.filename})",
                remedy=f"make it a directory that uid {os.getuid()} can write, or name another with --data",
            ) from error
        if written != _FORMAT:
            raise StorageUnavailableError(
                f"{self.root} was written by another version of packregistry (format {written.strip()[:20]!r})",
                remedy="upgrade packregistry, or name another directory with --data",
            )
        self._clear_staging()

    def _clear_staging(self) -> None:
        for path in self._staging.iterdir():
            with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                _log.info("removing %s, left by a process that ended", path)
                path.unlink()

    def _announce(self, line: str) -> None:
        """Append to `changes`, starting it afresh when it has grown long."""
        while True:
            with self._changes.open("ab", buffering=0) as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                status = os.fstat(file.fileno())
                current = signature_of(self._changes)
                if current is None or current[2] != status.st_ino:
                    continue
                if status.st_size > _CHANGES_MAX:
                    with self.stage() as staged:
                        staged.path.rename(self._changes)
                    return
                try:
                    file.write(line.encode() + b"\n")
                except OSError:
                    # No space for a line: a new time on the same size says "look at everything" as well.
                    os.utime(self._changes)
                return

    def _refresh(self, everything: bool) -> dict[PackName, PackRecord]:
        inode, size, stamp = self._seen
        try:
            with self._changes.open("rb") as file:
                status = os.fstat(file.fileno())
                grown = status.st_ino == inode and status.st_size >= size
                file.seek(size if grown else 0)
                news = file.read()
        except FileNotFoundError:
            self._announce("*")
            return self._refresh(everything)
        news = news[: news.rfind(b"\n") + 1]
        lines = news.decode("ascii", "replace").splitlines()
        unexplained = not lines and status.st_mtime_ns != stamp
        if everything or not grown or unexplained or "*" in lines:
            names = sorted(entry.name[:-5] for entry in os.scandir(self._packs) if entry.name.endswith(".json"))
        else:
            names = sorted(set(lines))
        changed = dict(self._changed(names))
        self._seen = (status.st_ino, (size if grown else 0) + len(news), status.st_mtime_ns)
        return changed

    def _changed(self, names: Sequence[str]) -> Iterator[tuple[PackName, PackRecord]]:
        for text in names:
            try:
                name = PackName.parse(text)
                signature = signature_of(self._path(name))
            except NameInvalidError:
                _log.warning("%s is not a record of this registry: move it elsewhere", self._packs / f"{text}.json")
                continue
            if signature is None or signature == self._known.get(name):
                continue
            try:
                record, read = self._read_record(name)
            except RegistryError:
                self._known[name] = signature
                continue
            assert isinstance(read, tuple)
            self._known[name] = read
            yield name, record

    def _path(self, name: PackName) -> Path:
        return self._packs / f"{name}.json"

    def _read_record(self, name: PackName) -> tuple[PackRecord, Version]:
        path = self._path(name)
        try:
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                data = file.read()
        except FileNotFoundError:
            return PackRecord(name), None
        try:
            record = PackRecord.decode(data)
            if record.name != name:
                raise ValueError(f"it is the record of {record.name!r}")
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RegistryError) as error:
            if name not in self._damaged:
                _log.error("%s is damaged: %s", path, error)
            self._damaged[name] = f"{path} is damaged: {error}"
            raise StorageUnavailableError(
                f"the record of {name} is damaged", remedy=f"restore {path} from a backup, or move it away"
            ) from error
        self._damaged.pop(name, None)
        return record, (status.st_mtime_ns, status.st_size, status.st_ino)

    def _write_record(self, record: PackRecord, expected: Version) -> None:
        path = self._path(record.name)
        shard = int(hashlib.sha256(record.name.encode()).hexdigest()[:8], 16) % _SHARDS
        with self.stage() as staged:
            staged.file.write(record.encode())
            staged.file.flush()
            os.fsync(staged.file.fileno())
            with (self._locks / f"{shard:02x}").open("ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                current = signature_of(path)
                if current != expected:
                    raise RecordChangedError(f"the record of {record.name} was changed by somebody else")
                # Strictly later than the state it replaces: two states never share a signature.
                stamp = max(time.time_ns(), current[0] + 1 if current else 0)
                os.utime(staged.path, ns=(stamp, stamp))
                staged.path.rename(path)
                self._announce(record.name)
        sync_directory(self._packs)

    def _put(self, blobs: Sequence[tuple[Digest, bytes | Staged]]) -> None:
        with contextlib.ExitStack() as stack:
            ready: list[tuple[Path, Path]] = []
            for digest, content in blobs:
                final = self._blobs / digest.hex
                try:
                    os.utime(final)
                except FileNotFoundError:
                    staged = content
                    if isinstance(content, bytes):
                        staged = stack.enter_context(self.stage())
                        staged.file.write(content)
                    assert not isinstance(staged, bytes)
                    staged.file.flush()
                    os.fsync(staged.file.fileno())
                    ready.append((staged.path, final))
            for path, final in ready:
                path.rename(final)
        sync_directory(self._blobs)

    def _open_blob(self, digest: Digest) -> BlobFile:
        path = self._blobs / digest.hex
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise missing_blob(digest) from None
        return BlobFile(os.fstat(descriptor).st_size, descriptor, path)

    def _read_blob(self, digest: Digest) -> bytes:
        try:
            return (self._blobs / digest.hex).read_bytes()
        except FileNotFoundError:
            raise missing_blob(digest) from None


def signature_of(path: Path) -> Signature | None:
    """What identifies a state of the file, or `None` where there is none."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def sync_directory(path: Path) -> None:
    """Make the names in `path` durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def missing_blob(digest: Digest) -> BlobUnknownError:
    """The refusal for a blob that is not stored."""
    return BlobUnknownError(f"no blob has the digest {digest}")


@contextlib.contextmanager
def translated(root: Path) -> Iterator[None]:
    """Turn the file system's errors into the registry's."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise StorageFullError(
                f"there is no space left below {root}", remedy="free some, or give the volume more"
            ) from error
        raise StorageUnavailableError(
            f"{error.filename or root} cannot be used: {error.strerror}",
            remedy=f"check that the volume is mounted and that uid {os.getuid()} can write it",
        ) from error
