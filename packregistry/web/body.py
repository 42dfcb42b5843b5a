"""Request bodies: bounded, never waited for in vain, and never taken for more than they are."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
from collections.abc import AsyncIterator

from aiohttp import ClientConnectionResetError, web

from packregistry.errors import BodyInvalidError, BodyStalledError, DigestInvalidError, SizeInvalidError
from packregistry.model import Digest, Json, shown
from packregistry.web.call import Call

JSON_MAX = 64 * 1024
_ITEM = re.compile(r"\s*([a-z0-9*.+-]+)\s*=\s*:?([A-Za-z0-9+/=]+):?\s*", re.ASCII)


async def chunks(call: Call) -> AsyncIterator[bytes]:
    """The body as it arrives.

    Raises `BodyStalledError` when nothing comes for the stall time, `BodyInvalidError` when it is malformed, and
    `ClientConnectionResetError` when the client goes away.
    """
    content = call.request.content
    while True:
        try:
            async with asyncio.timeout(call.site.stall):
                part = await content.readany()
        except TimeoutError:
            message = f"nothing of the body came for {call.site.stall:g} seconds"
            raise BodyStalledError(
                message, remedy="send it again, or go on with an upload that can be resumed"
            ) from None
        except ConnectionError as error:
            raise ClientConnectionResetError(str(error)) from error
        except web.RequestPayloadError as error:
            raise BodyInvalidError(f"the body is malformed: {error}") from error
        if not part:
            return
        yield part


async def whole(call: Call, limit: int) -> bytes:
    """The whole body. Raises `SizeInvalidError` beyond `limit` bytes, and what `chunks` raises."""
    body = bytearray()
    async for part in chunks(call):
        body += part
        if len(body) > limit:
            raise SizeInvalidError(f"the body is larger than the {limit} bytes that are taken here")
    return bytes(body)


async def json_object(call: Call, *known: str, limit: int = JSON_MAX) -> Json:
    """The body as a JSON object with no other members than `known`; none at all is an empty object."""
    text = await whole(call, limit)
    try:
        document = json.loads(text) if text else {}
    except (ValueError, RecursionError) as error:
        raise BodyInvalidError(f"the body is not JSON: {error}", remedy="send a JSON object") from error
    if not isinstance(document, dict):
        raise BodyInvalidError("the body is not a JSON object", remedy="send an object: {…}")
    if unknown := sorted(set(document) - set(known)):
        raise BodyInvalidError(f"the body has a member {shown(unknown[0])}", remedy=f"use {', '.join(known)}")
    return document


def text_of(document: Json, key: str) -> str:
    """A text in a JSON body; empty where it is absent. Raises `BodyInvalidError` for anything else."""
    value = document.get(key, "")
    if not isinstance(value, str):
        raise BodyInvalidError(f"{shown(key)} is not a text")
    return value


def announced_digest(call: Call) -> Digest | None:
    """The SHA-256 that a `Content-Digest` (RFC 9530) or `Digest` (RFC 3230) header gives, if one does.

    Other algorithms are left alone. Raises `DigestInvalidError` for what should be SHA-256 and is not.
    """
    for header in ("Content-Digest", "Digest"):
        for item in call.request.headers.get(header, "").split(","):
            found = _ITEM.fullmatch(
                item.lower() if "=" not in item else item.split("=")[0].lower() + item[item.index("=") :]
            )
            if found is None or found[1] != "sha-256":
                continue
            try:
                value = base64.b64decode(found[2], validate=True)
            except binascii.Error:
                value = b""
            if len(value) != 32:
                raise DigestInvalidError(
                    f"the {header} header is not the base64 of a SHA-256", detail={header: item[:80]}
                )
            return Digest("sha256:" + value.hex())
    return None
