"""The storage contract: immutable blobs by digest, and one record per pack name that is replaced whole.

A backend promises what the docstrings below say and knows nothing of policy; `tests/storage_contract.py` holds every
backend to it. What is awaited never blocks the event loop.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Protocol

from packregistry.model import Digest, PackName, PackRecord

Version = Hashable
"""Which state of a record was read; opaque, compared for equality only. `None` stands for "there is no record"."""


class Staged(Protocol):
    """A local file that is being made or received, seen by nobody else, gone when its context ends."""

    path: Path
    file: BinaryIO


class OpenBlob(Protocol):
    """A blob opened for reading, to its end even when it is removed meanwhile. Whoever opened it closes it."""

    size: int
    descriptor: int | None
    """A file descriptor that `sendfile` may read from at any offset, where the blob is a local file."""

    def chunks(self, start: int, stop: int) -> AsyncIterator[bytes]:
        """Yield the bytes from `start` up to `stop`."""
        ...

    def close(self) -> None:
        """Release what reading needs. May be called twice."""
        ...


class Storage(Protocol):
    """Where blobs and records are kept."""

    local: Path
    """A local directory of this registry's own, for state that need not be shared."""

    @property
    def damaged(self) -> Mapping[PackName, str]:
        """Records that cannot be read, and why, as of now. They are left as they are and cannot be written."""
        ...

    async def open(self) -> None:
        """Make ready. Raises `StorageUnavailableError` naming what cannot be read or written and by whom."""
        ...

    async def close(self) -> None:
        """Release everything. No other call may follow."""
        ...

    def stale(self) -> bool:
        """Whether a record may have changed since the last `refresh`: one cheap look, good enough for every request.

        A `write_record` that has returned, in any process, makes this true in every other one.
        """
        ...

    async def refresh(self, *, everything: bool = False) -> Mapping[PackName, PackRecord]:
        """The records that changed since the last call (all of them on the first).

        With `everything` nothing is taken on trust: each record is looked at, which also finds what was changed
        behind the registry's back. A record never vanishes while it is in use; one that cannot be read appears in
        `damaged` and its last good state stays valid. A call that fails or is cancelled takes nothing away from the
        next one. One call at a time.
        """
        ...

    async def read_record(self, name: PackName) -> tuple[PackRecord, Version]:
        """The record as it is now (an empty one, and `None`, where there is none).

        Raises `StorageUnavailableError` when it is damaged.
        """
        ...

    async def write_record(self, record: PackRecord, expected: Version) -> None:
        """Replace the record, if it still is what `expected` was read with; durable when this returns.

        Raises `RecordChangedError` when somebody else was faster; nothing has happened then.
        """
        ...

    def stage(self) -> AbstractContextManager[Staged]:
        """Open a local file to put bytes into, on the file system where blobs end up if that is local.

        Leaving the context removes whatever was not given to `put`. A file left by a killed process is removed when
        the storage is opened next. Having no space for what is put into it leaves the context as `StorageFullError`.
        """
        ...

    async def put(self, blobs: Sequence[tuple[Digest, bytes | Staged]]) -> None:
        """Store blobs whose digests have been computed from the very bytes; all are durable when this returns.

        A blob that is there already is left alone, but counts as new again for the sweep. Raises `StorageFullError`
        when there is no space. Whatever goes wrong, a digest stands for all of its bytes or for nothing.
        """
        ...

    async def keep(self, digests: Sequence[Digest]) -> None:
        """Have blobs count as new for the sweep, before something refers to them again.

        Raises `BlobUnknownError` when one is not there; when this returns, none of them is swept for a grace period.
        """
        ...

    async def blobs(self) -> Mapping[Digest, tuple[int, float]]:
        """Every blob: its size in bytes, and since when it is new, in seconds by the clock of `time.time`."""
        ...

    async def discard(self, digest: Digest, before: float) -> bool:
        """Remove a blob, unless it became new again at or after `before`; return whether it is gone by this call.

        Decided and done in one step: no `put` or `keep` that returns can be of a blob that this removes afterwards.
        """
        ...

    async def open_blob(self, digest: Digest) -> OpenBlob:
        """Open a blob. Raises `BlobUnknownError` when it is not there."""
        ...

    async def read_blob(self, digest: Digest) -> bytes:
        """The whole blob, which is known to be small. Raises `BlobUnknownError` when it is not there."""
        ...
