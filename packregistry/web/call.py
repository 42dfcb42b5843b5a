"""What a handler is given, and what it shares with all others."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from aiohttp import web

from packregistry.auth import ANONYMOUS, Authenticator, Principal
from packregistry.blobcache import BlobCache
from packregistry.config import Config
from packregistry.errors import ParameterInvalidError
from packregistry.holdings import Holdings
from packregistry.model import PackName, shown
from packregistry.pushes import Pushes
from packregistry.registry import Registry
from packregistry.uploads import Uploads

_NOT_TEXT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Site:
    """What every request shares.

    `reading` bounds how many archives are searched for a file at once; `stall` is how many seconds a client may take
    nothing of what it asked for.
    """

    config: Config
    registry: Registry
    authenticator: Authenticator
    blobs: BlobCache
    reading: asyncio.Semaphore
    stall: float
    pushes: Pushes
    uploads: Uploads
    holdings: Holdings


SITE = web.AppKey("site", Site)


@dataclass(slots=True)
class Call:
    """One request, matched and authorised. `params` are the decoded path parameters."""

    request: web.Request
    site: Site
    params: Mapping[str, str]
    principal: Principal = field(default=ANONYMOUS)

    @property
    def name(self) -> PackName:
        """The path parameter `name`. Raises `NameInvalidError`."""
        return PackName.parse(self.params["name"])

    def options(self, *known: str) -> dict[str, str]:
        """Those of the query parameters that are `known`; others are left alone.

        What speaks the Distribution API adds parameters of its own. Raises `ParameterInvalidError`.
        """
        return self.query(*known, strict=False)

    def query(self, *known: str, strict: bool = True) -> dict[str, str]:
        """The query parameters, of which only `known` may appear, each once. Raises `ParameterInvalidError`."""
        text = self.request.rel_url.raw_query_string
        if not text:
            return {}
        try:
            pairs = parse_qsl(text, keep_blank_values=True, errors="strict")
        except UnicodeError as error:
            raise ParameterInvalidError("the query is not UTF-8", remedy="percent-encode UTF-8") from error
        found: dict[str, str] = {}
        for key, value in pairs:
            if key not in known and not strict:
                continue
            if key not in known:
                remedy = f"use {', '.join(known)}" if known else "this request takes none"
                raise ParameterInvalidError(f"there is no parameter {shown(key)}", remedy=remedy)
            if key in found:
                raise ParameterInvalidError(f"the parameter {shown(key)} is given twice", remedy="give it once")
            if _NOT_TEXT.search(value):
                raise ParameterInvalidError(f"the parameter {shown(key)} has a control character in it")
            found[key] = value
        return found


Handler = Callable[[Call], Awaitable[web.StreamResponse]]
