"""Request bodies on their way to a file: collected to large chunks, hashed while they pass, and bounded.

Chunks of a mebibyte keep the trips to the thread pool few; hashing one takes under a millisecond, so it stays on the
event loop.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import BinaryIO

from aiofiles.threadpool import wrap

from packregistry.errors import SizeInvalidError
from packregistry.model import Digest

CHUNK = 1024 * 1024


async def collected(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in chunks of at least `CHUNK`, but for the last.

    When `body` fails, what was collected comes out before the error, so that nothing that arrived is lost.
    """
    waiting: list[bytes] = []
    size = 0
    failure: BaseException | None = None
    try:
        async for part in body:
            waiting.append(part)
            size += len(part)
            if size >= CHUNK:
                yield b"".join(waiting)
                waiting, size = [], 0
    except (OSError, EOFError) as error:
        failure = error
    if waiting:
        yield b"".join(waiting)
    if failure is not None:
        raise failure


async def written(file: BinaryIO, chunk: bytes) -> None:
    """Write all of `chunk` in a thread."""
    view = memoryview(chunk)
    target = wrap(file)
    while view:
        view = view[await target.write(view) :]


async def received(body: AsyncIterator[bytes], file: BinaryIO, limit: int) -> tuple[Digest, int]:
    """Write a body to `file`; return its digest and size. Raises `SizeInvalidError` beyond `limit` bytes."""
    digest = hashlib.sha256()
    size = 0
    async for chunk in collected(body):
        size += len(chunk)
        if size > limit:
            raise SizeInvalidError(f"the body is larger than {limit} bytes", remedy="raise limits.archive")
        digest.update(chunk)
        await written(file, chunk)
    return Digest("sha256:" + digest.hexdigest()), size
