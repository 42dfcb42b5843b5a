"""One blob into a file, going on where an earlier download was broken off.

The file lies beside the target and is named after the digest, so what is in it can only be a beginning of that very
blob. It is locked while it is written. The digest of the whole is verified before anybody uses it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import re
from collections.abc import AsyncIterator, Iterator
from io import FileIO
from pathlib import Path

from packregistry.client.transport import ATTEMPTS, Progress, Transport
from packregistry.failures import DownloadError, TargetError, UnreachableError
from packregistry.model import Digest

_CHUNK = 1024 * 1024
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-\d{1,19}/(?:\d{1,19}|\*)", re.ASCII)


def partial_path(directory: Path, digest: Digest) -> Path:
    """Where what there is of a blob is kept."""
    return directory / f".packregistry-{digest.hex}.partial"


@contextlib.contextmanager
def partial_file(path: Path) -> Iterator[FileIO]:
    """The partial file, open and locked; it stays when the context ends with an error and there is something in it.

    Raises `TargetError` where it cannot be written, or another process is at it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        with FileIO(os.open(path, flags, 0o600), "r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                same = path.stat().st_ino == os.fstat(file.fileno()).st_ino
            except (BlockingIOError, FileNotFoundError):
                same = False
            if not same:
                raise TargetError(f"{path} is being downloaded by another process", remedy="wait for it")
            try:
                yield file
            except BaseException:
                if os.fstat(file.fileno()).st_size == 0:
                    path.unlink()
                raise
            path.unlink()
    except OSError as error:
        raise TargetError(f"{path.parent} cannot be written: {error.strerror}") from error


async def download(
    transport: Transport, path: str, file: FileIO, digest: Digest, size: int, progress: Progress
) -> None:
    """Make `file` the blob at `path` of the registry, which has `digest` and `size`, keeping what it already holds.

    A connection that breaks is taken up again as long as that brings anything. Raises `DownloadError` when what came
    is not the blob, and what the transport raises; what there is stays in the file in that case.
    """
    failures = 0
    while True:
        have = await asyncio.to_thread(_trim, file, size)
        if have == size:
            break
        try:
            await _go_on(transport, path, file, digest, size, have, progress)
        except UnreachableError:
            # Only what had begun is worth another try: where nothing comes at all, the user should know.
            brought = file.seek(0, os.SEEK_END) > have
            failures = 1 if brought else failures + 1
            if failures >= ATTEMPTS or (have == 0 and not brought):
                raise
            await transport.pause(min(2.0 ** (failures - 1), 30.0))
    found = await asyncio.to_thread(_digest, file)
    if found != digest:
        file.truncate(0)
        raise DownloadError(
            f"what {transport.server.name} sent is not {digest} but {found}", remedy="try again; it was thrown away"
        )


async def _go_on(
    transport: Transport, path: str, file: FileIO, digest: Digest, size: int, have: int, progress: Progress
) -> None:
    """Ask for what is missing and append it; begin anew where the registry sends the whole."""
    headers = {"Range": f"bytes={have}-", "If-Range": f'"{digest}"'} if have else {}
    async with transport.download(path, headers) as response:
        if response.status == 206:
            found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
            start = int(found[1]) if found else -1
            if start != have:
                raise DownloadError(f"{transport.server.name} sent another part than was asked for")
        else:
            have = 0
            file.truncate(0)
        if response.status == 416:
            if headers:
                return
            raise DownloadError(f"{transport.server.name} does not send the whole when asked for it")
        file.seek(have)
        progress(have, size)
        async for chunk in _chunks(response.content.iter_chunked(_CHUNK)):
            have += len(chunk)
            if have > size:
                raise DownloadError(f"{transport.server.name} sent more than the {size} bytes announced")
            await asyncio.to_thread(_write, file, chunk)
            progress(have, size)
        if have < size:
            raise UnreachableError(f"{transport.server.name} sent {have} of {size} bytes", remedy="try again")


async def _chunks(source: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in pieces of about a megabyte; what is there when the source fails is given first."""
    pending = bytearray()
    try:
        async for chunk in source:
            pending += chunk
            if len(pending) >= _CHUNK:
                yield bytes(pending)
                pending.clear()
    except Exception:
        if pending:
            yield bytes(pending)
        raise
    if pending:
        yield bytes(pending)


def _write(file: FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _trim(file: FileIO, size: int) -> int:
    """How much of the blob is there; more than all of it is none of it."""
    have = file.seek(0, os.SEEK_END)
    if have > size:
        file.truncate(0)
        return 0
    return have


def _digest(file: FileIO) -> Digest:
    file.seek(0)
    return Digest("sha256:" + hashlib.file_digest(file, "sha256").hexdigest())
