"""Values and refusals as HTTP responses."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import urlencode

from aiohttp import web

from packregistry.errors import PaginationNumberInvalidError, RegistryError
from packregistry.model import shown

T = TypeVar("T")

# Pages are cut from what there is; nothing is allocated for what is asked.
ENTRIES_MAX = 10**18 - 1


def json_response(
    document: Any, *, status: int = 200, headers: Mapping[str, str] | None = None, indent: int | None = None
) -> web.Response:
    """`document` as JSON, without white space unless an `indent` is wanted."""
    separators = (",", ":") if indent is None else None
    text = json.dumps(document, ensure_ascii=False, indent=indent, separators=separators)
    body = text.encode("utf-8", "replace")
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


def error_response(error: RegistryError) -> web.Response:
    """A refusal as Distribution writes it: `{"errors": [{"code", "message", "detail"}]}`.

    Only ASCII: what it repeats of the request can do nothing to the terminal it is read on.
    """
    entry = {"code": error.code, "message": str(error), "detail": error.detail}
    body = json.dumps({"errors": [entry]}, separators=(",", ":")).encode()
    return web.Response(status=error.status, body=body, content_type="application/json", headers=error.headers)


def page_size(
    query: Mapping[str, str], name: str, *, default: int | None, least: int, maximum: int = ENTRIES_MAX
) -> int | None:
    """The number of entries that the parameter `name` asks for. Raises `PaginationNumberInvalidError`."""
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(maximum)) and least <= int(text) <= maximum):
        raise PaginationNumberInvalidError(
            f"{name}={shown(text)} is not a number of entries",
            detail={name: text[:80]},
            remedy=f"use a number from {least} to {maximum}",
        )
    return int(text)


def page(entries: Sequence[T], limit: int | None) -> tuple[Sequence[T], bool]:
    """The first `limit` entries, and whether there are more. No limit means all."""
    if limit is None or limit >= len(entries):
        return entries, False
    return entries[:limit], True


def next_link(path: str, query: Mapping[str, object]) -> dict[str, str]:
    """The `Link` header to the next page, which is at `path` as the client sees it."""
    return {"Link": f'<{path}?{urlencode(query)}>; rel="next"'}
