"""What a handler is given, and what it shares with all others."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qsl

from aiohttp import web

from packregistry.audit import DONE, Event
from packregistry.auth import ANONYMOUS, Actor, Principal
from packregistry.auth.header import claimed
from packregistry.auth.rights import NOTHING, Action, Rights
from packregistry.blobcache import BlobCache
from packregistry.config import Config
from packregistry.errors import ParameterInvalidError, RegistryError
from packregistry.holdings import Holdings
from packregistry.model import PackName, shown
from packregistry.pushes import Pushes
from packregistry.registry import Registry
from packregistry.uploads import Uploads
from packregistry.web.guard import Access
from packregistry.web.proxy import Seen, Vantage
from packregistry.web.security import Security

_NOT_TEXT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Site:
    """What every request shares.

    `reading` bounds how many archives are searched for a file at once; `stall` is how many seconds a client may take
    nothing of what it asked for.
    """

    config: Config
    registry: Registry
    security: Security
    vantage: Vantage
    blobs: BlobCache
    reading: asyncio.Semaphore
    stall: float
    pushes: Pushes
    uploads: Uploads
    holdings: Holdings


SITE = web.AppKey("site", Site)


@dataclass(slots=True)
class Call:
    """One request, matched and authorised. `params` are the decoded path parameters, `seen` how the client sees us."""

    request: web.Request
    site: Site
    access: Access
    params: Mapping[str, str]
    seen: Seen
    principal: Principal = field(default=ANONYMOUS)

    @property
    def actor(self) -> Actor:
        """Whoever asks, as one who changes something."""
        return Actor(self.principal.name, self.principal.method, self.seen.address, self._rights_now)

    def _rights_now(self, pack: str) -> Rights:
        """What they may do after all that a request took: nothing, if they could not sign in any more."""
        security, transport = self.site.security, self.request.transport
        if not security.authenticator.holds(self.principal):
            return NOTHING
        context = transport.get_extra_info("sslcontext") if transport is not None else None
        if self.principal.method == "certificate" and security.tls is not None and security.tls.is_stale(context):
            return NOTHING
        return self.rights(pack)

    def rights(self, pack: str) -> Rights:
        """What whoever asks may do to a pack."""
        return self.site.security.policy.rights(self.principal, pack)

    @property
    def is_admin(self) -> bool:
        """Whether whoever asks administers the registry, and may see its directories."""
        return Action.ADMIN in self.site.security.policy.everywhere(self.principal)

    def readable(self, names: Iterable[PackName]) -> Iterator[PackName]:
        """Those of the packs that whoever asks may read."""
        if Action.READ in self.site.security.policy.everywhere(self.principal):
            return iter(names)
        return (name for name in names if Action.READ in self.rights(name))

    def note(self, action: str, what: str, refusal: RegistryError | None = None) -> None:
        """Keep an audit record of what was done to `what`, or was refused.

        Of somebody whose credentials were no good it has the name they gave, with the method `none`.
        """
        audit = self.site.security.audit
        if audit is None:
            return
        by = self.actor
        if self.principal is ANONYMOUS and (name := claimed(self.request.headers.get("Authorization"))):
            by = replace(by, name=name)
        result = (DONE, 0, "") if refusal is None else (refusal.code, refusal.status, str(refusal))
        audit.write(Event.of(by, action, what, *result))

    def url(self, path: str) -> str:
        """What a client asks for to get `path`, wherever it sees the registry."""
        return self.seen.base + path

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

CALL: web.RequestKey[Call] = web.RequestKey("call", Call)
