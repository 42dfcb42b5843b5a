"""Bytes leave through here: every manifest, archive and file, with its digest as its ETag.

Small ones come from memory. Large ones are sent by the kernel (`sendfile`) from the file to the socket, on a duplicate
of the connection's descriptor, since uvloop has no `loop.sendfile`; over TLS they are read and written in chunks.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping

from aiohttp import web

from packregistry.model import Descriptor
from packregistry.storage import OpenBlob
from packregistry.web.call import Call
from packregistry.web.conditional import byte_range, matches

SENT: web.RequestKey[int] = web.RequestKey("sent", int)
_log = logging.getLogger(__name__)
_CHUNK = 1024 * 1024
_STALL = 60.0


async def send(call: Call, blob: Descriptor, content_type: str, headers: Mapping[str, str]) -> web.StreamResponse:
    """Answer with the blob, a range of it, or 304 when the client has it.

    Raises `BlobUnknownError` when the storage lost it, and `RangeInvalidError`; nothing once bytes are out: a transfer
    that fails then ends the connection, which is the one thing that a client cannot mistake for success.
    """
    request = call.request
    etag = f'"{blob.digest}"'
    fields = {"ETag": etag, "Docker-Content-Digest": blob.digest, "Accept-Ranges": "bytes", **headers}
    condition = request.headers.get("If-None-Match")
    if condition is not None and matches(condition, etag):
        return web.Response(status=304, headers=fields)
    fields["Content-Type"] = content_type
    wanted = None
    if request.method == "GET":
        wanted = byte_range(request.headers.get("Range"), request.headers.get("If-Range"), etag, blob.size)
    start, stop = wanted or (0, blob.size)
    if wanted:
        fields["Content-Range"] = f"bytes {start}-{stop - 1}/{blob.size}"
    status = 206 if wanted else 200
    if call.site.blobs.fits(blob):
        data = await call.site.blobs.read(blob)
        return web.Response(status=status, body=data[start:stop] if wanted else data, headers=fields)
    opened = await call.site.registry.storage.open_blob(blob.digest)
    try:
        response = web.StreamResponse(status=status, headers=fields)
        response.content_length = stop - start
        await response.prepare(request)
        if request.method != "HEAD":
            await _transfer(request, response, opened, start, stop)
    finally:
        opened.close()
    return response


async def _transfer(
    request: web.Request, response: web.StreamResponse, opened: OpenBlob, start: int, stop: int
) -> None:
    transport = request.transport
    try:
        if transport is None:
            raise ConnectionResetError("the client is gone")
        if opened.descriptor is not None and transport.get_extra_info("sslcontext") is None:
            await _sendfile(request, transport, opened.descriptor, start, stop)
        else:
            async for chunk in opened.chunks(start, stop):
                await response.write(chunk)
                request[SENT] = request.get(SENT, 0) + len(chunk)
            if request.get(SENT, 0) != stop - start:
                raise EOFError(f"{request[SENT]} of {stop - start} bytes could be read")
    except (OSError, EOFError) as error:
        _log.info("%s ended after %d of %d bytes: %s", request.path, request.get(SENT, 0), stop - start, error)
        if transport is not None:
            transport.abort()


async def _sendfile(request: web.Request, transport: asyncio.Transport, descriptor: int, start: int, stop: int) -> None:
    """Send `[start, stop)` of `descriptor` behind what the transport still has to write."""
    loop = asyncio.get_running_loop()
    transport.set_write_buffer_limits(0)
    try:
        await request.writer.drain()
    finally:
        transport.set_write_buffer_limits()
    socket = os.dup(transport.get_extra_info("socket").fileno())
    try:
        while start < stop:
            try:
                sent = os.sendfile(socket, descriptor, start, min(_CHUNK, stop - start))
            except BlockingIOError:
                await _writable(loop, socket)
                continue
            if sent == 0:
                raise EOFError("the file became shorter")
            start += sent
            request[SENT] = request.get(SENT, 0) + sent
    finally:
        os.close(socket)


async def _writable(loop: asyncio.AbstractEventLoop, socket: int) -> None:
    """Wait until the socket takes more. Raises `TimeoutError`, which is an `OSError`, when the client stalls."""
    ready = loop.create_future()

    def resume() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_writer(socket, resume)
    try:
        async with asyncio.timeout(_STALL):
            await ready
    finally:
        loop.remove_writer(socket)
