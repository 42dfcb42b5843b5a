"""Storage in a directory of a local file system, shared by any number of processes on one machine.

    ROOT/
    ├── format                  "1": what wrote this directory
    ├── blobs/sha256/<hex>      immutable; the name is the SHA-256 of the content
    ├── packs/<name>.json       one record a pack, replaced whole
    ├── changes                 a line a replaced record: what other processes look at (`storage.journal`)
    ├── locks/<00…3f>           taken for the moment in which a record is compared and replaced
    ├── locks/blobs             taken alone to remove a blob, shared to renew one's time
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
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

from packregistry.errors import (
    BlobUnknownError,
    DigestInvalidError,
    NameInvalidError,
    RecordChangedError,
    StorageUnavailableError,
)
from packregistry.model import Digest, PackName, PackRecord, shown
from packregistry.storage import OpenBlob, Staged, Version
from packregistry.storage.journal import EVERYTHING, Journal, Position
from packregistry.storage.oserrors import is_denied, is_full, translated
from packregistry.storage.staging import Staging, sync

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger(__name__)
_FORMAT = b"1\n"
_SHARDS = 64
_THREADS = 8
_CHUNK = 1024 * 1024

Signature = tuple[int, int, int]


@dataclass(slots=True)
class BlobFile:
    """A blob's open file: it can be read to its end even when the blob is removed meanwhile."""

    size: int
    descriptor: int | None

    async def chunks(self, start: int, stop: int) -> AsyncIterator[bytes]:
        """Yield the bytes from `start` up to `stop`."""
        assert self.descriptor is not None
        while start < stop:
            chunk = await asyncio.to_thread(os.pread, self.descriptor, min(_CHUNK, stop - start), start)
            if not chunk:
                break
            start += len(chunk)
            yield chunk

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None

    def __del__(self) -> None:
        # Where opening is awaited and cancelled, nobody gets the file and nobody else can close it.
        self.close()


@dataclass(frozen=True, slots=True)
class _Look:
    """What a look at the records found: those that changed, the signatures they have now, how far the journal went."""

    changed: Mapping[PackName, PackRecord]
    signatures: Mapping[PackName, Signature]
    position: Position


class FilesystemStorage:
    """The storage contract on the directory `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.local = root
        self._blobs = root / "blobs" / "sha256"
        self._packs = root / "packs"
        self._locks = root / "locks"
        self._staging = Staging(root / "staging")
        self._journal = Journal(root / "changes")
        self._position = Position()
        self._known: dict[PackName, Signature] = {}
        self._damaged: dict[PackName, str] = {}
        self._strange: set[str] = set()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="storage")

    @property
    def damaged(self) -> Mapping[PackName, str]:
        """Records that cannot be read, and why, as of now."""
        return dict(self._damaged)

    async def open(self) -> None:
        """Make the directories, clear what killed processes left, and have every process look at all records."""
        await self._run(self._open)

    async def close(self) -> None:
        """Wait for what is being written."""
        await asyncio.to_thread(self._threads.shutdown)

    def stale(self) -> bool:
        """Whether `changes` has grown or been replaced since it was read."""
        return self._journal.has_news(self._position)

    async def refresh(self, *, everything: bool = False) -> Mapping[PackName, PackRecord]:
        """Read the records named in `changes` since the last call, or look at all.

        What was seen is noted only here, where the caller is certain to get it: a look that fails or is cancelled
        half-way is as if it had not been.
        """
        look = await self._run(self._look, everything)
        self._position = look.position
        self._known.update(look.signatures)
        return look.changed

    async def read_record(self, name: PackName) -> tuple[PackRecord, Version]:
        """Read a record with the signature of its file."""
        return await self._run(self._read_record, name)

    async def write_record(self, record: PackRecord, expected: Version) -> None:
        """Replace the record's file if its signature still is `expected`."""
        await self._run(self._write_record, record, expected)

    def stage(self) -> AbstractContextManager[Staged]:
        """Make a locked file in `staging`; a quick local operation, so it is not awaited."""
        return self._staging.file()

    async def put(self, blobs: Sequence[tuple[Digest, bytes | Staged]]) -> None:
        """Sync each new blob, rename all, sync the directory."""
        await self._run(self._put, blobs)

    async def keep(self, digests: Sequence[Digest]) -> None:
        """Renew the times of the blobs' files."""
        await self._run(self._keep, digests)

    async def blobs(self) -> Mapping[Digest, tuple[int, float]]:
        """Sizes and times of all blobs' files."""
        return await self._run(self._all_blobs)

    async def discard(self, digest: Digest, before: float) -> bool:
        """Remove the blob's file if its time is before `before`."""
        return await self._run(self._discard, digest, before)

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
            has_format = self._has_format()
            directories = (self._blobs, self._packs, self._locks, self._staging.path)
            for directory in directories:
                directory.mkdir(parents=True, exist_ok=True)
            for directory in (self.root, *directories):
                if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(directory))
            if not has_format:
                with self.stage() as staged:
                    staged.file.write(_FORMAT)
                    sync(staged)
                    staged.path.rename(self.root / "format")
                for directory in (self._blobs.parent, self.root, self.root.parent):
                    if os.access(directory, os.R_OK):
                        sync_directory(directory)
            self._journal.announce(EVERYTHING)
        except OSError as error:
            if is_full(error) or is_denied(error):
                raise
            raise StorageUnavailableError(
                f"{self.root} cannot be used: {error.strerror} ({error.filename})",
                remedy=f"make it a directory that uid {os.getuid()} can write, or name another with --data",
            ) from error
        self._staging.clear()

    def _has_format(self) -> bool:
        """Whether the directory was written by us, or by nobody yet. Raises `StorageUnavailableError` otherwise."""
        try:
            written = (self.root / "format").read_bytes()
        except FileNotFoundError:
            return False
        if written != _FORMAT:
            raise StorageUnavailableError(
                f"{self.root} was written by another version of packregistry "
                f"(format {shown(written.decode(errors='replace').strip(), 20)})",
                remedy="upgrade packregistry, or name another directory with --data",
            )
        return True

    def _look(self, everything: bool) -> _Look:
        position, lines = self._journal.read(self._position)
        if everything or lines is None:
            lines = [entry.name[:-5] for entry in os.scandir(self._packs) if entry.name.endswith(".json")]
        changed: dict[PackName, PackRecord] = {}
        signatures: dict[PackName, Signature] = {}
        for name in self._names(lines):
            with contextlib.suppress(StorageUnavailableError):  # which is noted in `damaged`
                if self._is_new(name):
                    record, signature = self._read_record(name)
                    if signature:
                        changed[name], signatures[name] = record, signature
        if not position.generation:
            self._journal.announce(EVERYTHING)
        return _Look(changed, signatures, position)

    def _names(self, lines: Iterable[str]) -> Iterator[PackName]:
        for text in sorted(set(lines)):
            try:
                name = PackName.parse(text)
            except NameInvalidError:
                if text not in self._strange:
                    self._strange.add(text)
                    what = shown(f"{text}.json")
                    _log.warning("%s in %s is not a record of this registry: move it elsewhere", what, self._packs)
                continue
            yield name

    def _is_new(self, name: PackName) -> bool:
        """Whether the record is not the one last read, as far as its file's signature says."""
        try:
            is_new = signature_of(self._path(name)) != self._known.get(name)
        except OSError:
            return True
        if not is_new:
            self._damaged.pop(name, None)
        return is_new

    def _path(self, name: PackName) -> Path:
        return self._packs / f"{name}.json"

    def _read_record(self, name: PackName) -> tuple[PackRecord, Signature | None]:
        path = self._path(name)
        try:
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                record = PackRecord.decode(file.read())
            if record.name != name:
                raise ValueError(f"it is the record of {record.name}")
        except FileNotFoundError:
            self._damaged.pop(name, None)
            return PackRecord(name), None
        except (OSError, ValueError) as error:
            reason = f"{path} is damaged: {error.strerror if isinstance(error, OSError) else error}"
            if self._damaged.get(name) != reason:
                _log.error("%s", reason)
            self._damaged[name] = reason
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
            sync(staged)
            with (self._locks / f"{shard:02x}").open("ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                current = signature_of(path)
                if current != expected:
                    raise RecordChangedError(f"the record of {record.name} was changed by somebody else")
                # Strictly later than the state it replaces: two states never share a signature.
                stamp = max(time.time_ns(), current[0] + 1 if current else 0)
                os.utime(staged.path, ns=(stamp, stamp))
                staged.path.rename(path)
                self._journal.announce(record.name)
        sync_directory(self._packs)

    def _put(self, blobs: Sequence[tuple[Digest, bytes | Staged]]) -> None:
        with contextlib.ExitStack() as stack:
            ready: list[tuple[Path, Path]] = []
            for digest, content in blobs:
                final = self._blobs / digest.hex
                if not self._renewed(digest):
                    if isinstance(content, bytes):
                        staged = stack.enter_context(self.stage())
                        staged.file.write(content)
                    else:
                        staged = content
                    sync(staged)
                    ready.append((staged.path, final))
            for path, final in ready:
                path.rename(final)
        # Also for what is there already: whoever put it may not have come this far yet.
        sync_directory(self._blobs)

    def _keep(self, digests: Sequence[Digest]) -> None:
        for digest in digests:
            if not self._renewed(digest):
                raise missing_blob(digest)

    def _renewed(self, digest: Digest) -> bool:
        """Renew the time of a blob's file; return whether there is one. Never while `_discard` decides."""
        with self._blob_lock(fcntl.LOCK_SH):
            try:
                os.utime(self._blobs / digest.hex)
            except FileNotFoundError:
                return False
            return True

    def _all_blobs(self) -> dict[Digest, tuple[int, float]]:
        found = {}
        for entry in os.scandir(self._blobs):
            with contextlib.suppress(DigestInvalidError, FileNotFoundError):
                digest = Digest.parse(f"sha256:{entry.name}")
                status = entry.stat()
                found[digest] = (status.st_size, status.st_mtime)
        return found

    def _discard(self, digest: Digest, before: float) -> bool:
        path = self._blobs / digest.hex
        with self._blob_lock(fcntl.LOCK_EX):
            try:
                if path.stat().st_mtime >= before:
                    return False
                path.unlink()
            except FileNotFoundError:
                return False
            return True

    @contextlib.contextmanager
    def _blob_lock(self, kind: int) -> Iterator[None]:
        with (self._locks / "blobs").open("ab") as lock:
            fcntl.flock(lock, kind)
            yield

    def _open_blob(self, digest: Digest) -> BlobFile:
        path = self._blobs / digest.hex
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise missing_blob(digest) from None
        return BlobFile(os.fstat(descriptor).st_size, descriptor)

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
