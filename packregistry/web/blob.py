"""Bytes leave through here: every manifest, archive and file, with its digest as its ETag.

Small ones come from memory. Large ones are sent by the kernel (`sendfile`) from the file to the socket, on a duplicate
of the connection's descriptor, since uvloop has no `loop.sendfile`; over TLS they are read and written in chunks.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web

from packregistry.errors import RegistryError, StorageUnavailableError
from packregistry.model import Descriptor, Digest
from packregistry.storage import OpenBlob
from packregistry.web.call import Call
from packregistry.web.conditional import byte_range, matches
from packregistry.web.progress import progress, queued

SENT: web.RequestKey[int] = web.RequestKey("sent", int)
_log = logging.getLogger(__name__)
_CHUNK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Head:
    """The beginning of an answer: its status, its header fields, and the bytes `[start, stop)` that belong to it."""

    status: int
    fields: Mapping[str, str]
    start: int
    stop: int


async def send(call: Call, blob: Descriptor, content_type: str, headers: Mapping[str, str]) -> web.StreamResponse:
    """Answer with the blob, a range of it, or 304 when the client has it.

    Raises `BlobUnknownError` when the storage lost it, `StorageUnavailableError` when what is stored has another size,
    and `RangeInvalidError`; nothing once bytes are out: a transfer that fails then ends the connection, which is the
    one thing that a client cannot mistake for success.
    """
    request = call.request
    head = _head(request, blob.digest, blob.size, content_type, headers)
    if head.status == 304:
        return web.Response(status=304, headers=head.fields)
    if call.site.blobs.fits(blob):
        data = await call.site.blobs.read(blob)
        _check(blob, len(data))
        return _whole(head, data)
    opened = await call.site.registry.storage.open_blob(blob.digest)
    try:
        _check(blob, opened.size)
        response = web.StreamResponse(status=head.status, headers=head.fields)
        response.content_length = head.stop - head.start
        await response.prepare(request)
        if request.method != "HEAD":
            await _transfer(request, opened, head.start, head.stop, call.site.stall)
    finally:
        opened.close()
    return response


def send_bytes(
    call: Call, digest: Digest, data: bytes, content_type: str, headers: Mapping[str, str]
) -> web.StreamResponse:
    """Answer with `data`, whose digest is known, as `send` does with a blob. Raises `RangeInvalidError`."""
    head = _head(call.request, digest, len(data), content_type, headers)
    return web.Response(status=304, headers=head.fields) if head.status == 304 else _whole(head, data)


def _head(request: web.Request, digest: Digest, size: int, content_type: str, headers: Mapping[str, str]) -> _Head:
    etag = f'"{digest}"'
    fields = {"ETag": etag, "Docker-Content-Digest": digest, "Accept-Ranges": "bytes", **headers}
    condition = _field(request, "If-None-Match")
    if condition is not None and matches(condition, etag):
        return _Head(304, fields, 0, 0)
    fields["Content-Type"] = content_type
    # A range is of a GET; any other method answers as if it had not been asked for.
    wanted = _field(request, "Range") if request.method == "GET" else None
    found = byte_range(wanted, _field(request, "If-Range"), etag, size)
    if found is None:
        return _Head(200, fields, 0, size)
    start, stop = found
    return _Head(206, {**fields, "Content-Range": f"bytes {start}-{stop - 1}/{size}"}, start, stop)


def _field(request: web.Request, name: str) -> str | None:
    """A header field; lines of the same name are one list."""
    return ", ".join(request.headers.getall(name)) if name in request.headers else None


def _whole(head: _Head, data: bytes) -> web.Response:
    # The length is written here, since aiohttp leaves it out of an answer to HEAD if it is 0.
    fields = {**head.fields, "Content-Length": str(head.stop - head.start)}
    return web.Response(status=head.status, body=data[head.start : head.stop], headers=fields)


def _check(blob: Descriptor, size: int) -> None:
    if size != blob.size:
        raise StorageUnavailableError(
            f"the blob {blob.digest} is damaged: {size} of its {blob.size} bytes are stored",
            remedy="restore it from a backup, or publish its pack again",
        )


async def _transfer(request: web.Request, opened: OpenBlob, start: int, stop: int, stall: float) -> None:
    transport = request.transport
    try:
        if transport is None:
            raise ConnectionResetError("the client is gone")
        if opened.descriptor is not None and transport.get_extra_info("sslcontext") is None:
            await _sendfile(request, transport, opened.descriptor, (start, stop), stall)
        else:
            await _write(request, transport, opened, (start, stop), stall)
    except (OSError, EOFError, RegistryError) as error:
        _log.info("%s ended after %d of %d bytes: %s", request.raw_path, request.get(SENT, 0), stop - start, error)
        if transport is not None:
            transport.abort()


async def _write(
    request: web.Request, transport: asyncio.Transport, opened: OpenBlob, span: tuple[int, int], stall: float
) -> None:
    """Send a span of the blob chunk by chunk, each when the one before has mostly gone."""
    async for chunk in opened.chunks(*span):
        if transport.is_closing():
            raise ConnectionResetError("the client is gone")
        transport.write(chunk)
        request[SENT] = request.get(SENT, 0) + len(chunk)
        await _drained(request, transport, stall)
    if request.get(SENT, 0) != span[1] - span[0]:
        raise EOFError("the blob became shorter")


async def _sendfile(
    request: web.Request, transport: asyncio.Transport, descriptor: int, span: tuple[int, int], stall: float
) -> None:
    """Send a span of `descriptor` behind what the transport still has to write."""
    transport.set_write_buffer_limits(0)
    try:
        await _drained(request, transport, stall)
    finally:
        transport.set_write_buffer_limits()
    if transport.is_closing():
        # Its descriptor may already be somebody else's.
        raise ConnectionResetError("the client is gone")
    socket = os.dup(transport.get_extra_info("socket").fileno())
    start, stop = span
    try:
        while start < stop:
            try:
                sent = os.sendfile(socket, descriptor, start, min(_CHUNK, stop - start))
            except BlockingIOError:
                await _writable(socket, stall)
                continue
            if sent == 0:
                raise EOFError("the blob became shorter")
            start += sent
            request[SENT] = request.get(SENT, 0) + sent
            # A client on a fast network keeps the socket writable: others get their turn all the same.
            await asyncio.sleep(0)
    finally:
        os.close(socket)


async def _drained(request: web.Request, transport: asyncio.Transport, stall: float) -> None:
    """Wait until the transport takes more. Raises `TimeoutError` when nothing more is taken for `stall` seconds."""
    if not request.protocol.writing_paused:
        return
    drained = asyncio.ensure_future(request.writer.drain())
    seen: tuple[int, int] | None = None
    try:
        while not (await asyncio.wait({drained}, timeout=stall))[0]:
            before, seen = seen, progress(transport)
            if seen == before:
                raise _stalled(stall)
        await drained
    finally:
        drained.cancel()


async def _writable(socket: int, stall: float) -> None:
    """Wait until the socket takes more. Raises `TimeoutError` when nothing leaves it for `stall` seconds."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    left = queued(socket)
    loop.add_writer(socket, ready.set)
    try:
        while not ready.is_set():
            try:
                async with asyncio.timeout(stall):
                    await ready.wait()
            except TimeoutError:
                # A slow client takes long to make room, and is not gone while it takes anything.
                before, left = left, queued(socket)
                if left >= before:
                    raise _stalled(stall) from None
    finally:
        loop.remove_writer(socket)


def _stalled(seconds: float) -> TimeoutError:
    return TimeoutError(f"the client took nothing for {seconds:g} s")
