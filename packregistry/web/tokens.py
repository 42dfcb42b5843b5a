"""`/api/v1/tokens`: what admins do with tokens. A token's text is in the answer to its making, and nowhere else."""

from __future__ import annotations

import asyncio
import datetime as dt

from aiohttp import web

from packregistry.auth.expiry import EXPIRY, expiry
from packregistry.auth.tokens import TokenFile
from packregistry.errors import BodyInvalidError, UnsupportedError
from packregistry.model import Json
from packregistry.web.body import json_object, text_of
from packregistry.web.call import Call
from packregistry.web.render import json_response

_PRIVATE = {"Cache-Control": "no-store"}


async def listing(call: Call) -> web.StreamResponse:
    """All tokens, those that are not in force any more for a while, by name."""
    call.query()
    found = await asyncio.to_thread(_tokens(call).tokens)
    now = dt.datetime.now(dt.UTC)
    return json_response({"tokens": [token.as_json(now, used) for token, used in found]}, headers=_PRIVATE)


async def create(call: Call) -> web.StreamResponse:
    """Make a token, which is shown this once."""
    call.query()
    tokens = _tokens(call)
    document = await json_object(call, "name", "role", "packs", "expires")
    name, role = text_of(document, "name"), text_of(document, "role")
    now = dt.datetime.now(dt.UTC)
    expires = expiry(text_of(document, "expires") or EXPIRY, now)
    token, secret = await asyncio.to_thread(
        tokens.create, name, call.principal.name, role, patterns_of(document), expires
    )
    call.note("token.create", token.principal.name)
    shown = {**token.as_json(now, None), "token": secret}
    location = {"Location": call.url(f"/api/v1/tokens/{token.name}")}
    return json_response(shown, status=201, headers=location | _PRIVATE)


async def revoke(call: Call) -> web.StreamResponse:
    """Let a token be void from now on."""
    call.query()
    token = await asyncio.to_thread(_tokens(call).revoke, call.params["token"])
    call.note("token.revoke", token.principal.name)
    return json_response(token.as_json(dt.datetime.now(dt.UTC), None), headers=_PRIVATE)


def patterns_of(document: Json) -> list[str]:
    """The patterns of packs in a JSON body; all packs without any. Raises `BodyInvalidError`."""
    patterns = document.get("packs", ["*"])
    if not isinstance(patterns, list) or not all(isinstance(pattern, str) for pattern in patterns):
        raise BodyInvalidError('"packs" is not a list of texts', remedy='write like ["nginx-*", "redis"]')
    return patterns


def _tokens(call: Call) -> TokenFile:
    tokens = call.site.security.tokens
    if tokens is None:
        raise UnsupportedError("there are no tokens, as nobody signs in", remedy="configure auth.htpasswd")
    return tokens
