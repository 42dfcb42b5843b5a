"""Where the parts meet: a request is matched, authorised, answered, and its refusals rendered, here and only here.

aiohttp's own router is given one route. Its matching decodes `%2F` before it splits, redirects doubled slashes, which
loses credentials, and invites a body (`100 Continue`) before anybody looked at who sends it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import ClientConnectionResetError, HttpVersion11, web

from packregistry.auth import Principal
from packregistry.blobcache import BlobCache
from packregistry.config import Config
from packregistry.errors import (
    ContentEncodingUnsupportedError,
    RegistryError,
    StartingError,
    StorageFullError,
    StorageUnavailableError,
    UnsupportedError,
)
from packregistry.health import Health
from packregistry.holdings import HOLDINGS, Holdings
from packregistry.pushes import Pushes
from packregistry.registry import Registry
from packregistry.tls import Tls
from packregistry.uploads import UPLOADS, Uploads
from packregistry.web.accesslog import BEGUN, PRINCIPAL, SEEN
from packregistry.web.call import CALL, Call, Site
from packregistry.web.guard import Access, check_access, refusal_for
from packregistry.web.headers import HEADERS, CommonHeaders
from packregistry.web.health import HEALTH, WHILE_STARTING
from packregistry.web.proxy import Vantage
from packregistry.web.render import error_response
from packregistry.web.router import Route, Router, unknown
from packregistry.web.routes import routes
from packregistry.web.security import Security

_log = logging.getLogger(__name__)

STARTED: web.RequestKey[web.StreamResponse] = web.RequestKey("started", web.StreamResponse)


def create_app(
    config: Config, registry: Registry, security: Security, *, stall: float | None = None
) -> web.Application:
    """Assemble an application that serves at once. The registry is open already, and whoever opened it closes it.

    `stall` is in seconds, and instead of the option `http.stalltimeout`.
    """
    app = closed_app(config, security.tls, Health())
    app[HEALTH].ready(registry.storage.local)
    app[DOOR].open(registry, security, stall=config.http.stalltimeout if stall is None else stall)
    return app


def closed_app(config: Config, tls: Tls | None, health: Health) -> web.Application:
    """Assemble an application that says of its health alone until its `DOOR` is opened."""
    vantage = Vantage(config.http)
    dispatcher = _Dispatcher(config, vantage, health)
    app = web.Application(client_max_size=0, middlewares=[dispatcher.render])
    app[HEALTH] = health
    app[DOOR] = dispatcher
    app[HEADERS] = CommonHeaders(config.http.headers, vantage, tls)
    app.on_cleanup.append(lambda _: dispatcher.close())
    app.on_response_prepare.append(_header_writer(app[HEADERS]))
    # Unlike `.*`, this also takes an encoded line end.
    app.router.add_route("*", "/{path:(?s:.*)}", dispatcher.handle, expect_handler=_wait)
    return app


class _Dispatcher:
    """Takes every request from its arrival to its response."""

    def __init__(self, config: Config, vantage: Vantage, health: Health) -> None:
        self._config = config
        self._vantage = vantage
        self._health = health
        self._router = Router(routes())
        self._site: Site | None = None
        self._has_warned = False

    def open(self, registry: Registry, security: Security, *, stall: float) -> None:
        """Serve an open registry from now on."""
        local, expire = registry.storage.local, self._config.storage.uploads.expire
        self._site = Site(
            self._config,
            registry,
            security,
            self._vantage,
            blobs=BlobCache(registry.storage),
            reading=asyncio.Semaphore(os.cpu_count() or 1),
            stall=stall,
            pushes=Pushes(registry, self._config.limits),
            uploads=Uploads(local / UPLOADS, expire=expire),
            holdings=Holdings(local / HOLDINGS, expire=expire),
        )

    async def close(self) -> None:
        """Wait for what pushes still do."""
        if self._site is not None:
            await self._site.pushes.close()

    @web.middleware
    async def render(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Answer one request. Whatever goes wrong before the first byte is out becomes an error response."""
        try:
            return await handler(request)
        except RegistryError as error:
            refusal = self._refused(request, error)
        except web.HTTPNotFound:
            # `OPTIONS *` and the like, which are no path at all.
            refusal = unknown(request.raw_path)
        except ClientConnectionResetError:
            # There is nobody to answer: the status is for the log alone, as nginx has it.
            return web.Response(status=499, reason="Client Closed Request")
        except Exception:  # noqa: BLE001 — logged and answered; nothing a handler does ends a connection without a word
            _log.exception("%s %s failed", request.method, request.raw_path)
            refusal = RegistryError("the registry made a mistake", remedy="its log says more")
        started: web.StreamResponse | None = request.get(STARTED)
        if started is None:
            return error_response(refusal)
        # An error page would be taken for a part of the body that is on its way.
        _log.warning("%s %s ended half-way: %s", request.method, request.raw_path, refusal)
        if request.transport is not None:
            request.transport.abort()
        return started

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request that may be answered."""
        site = self._site
        if site is None:
            return await self._say_of_health(request)
        route, call = await self._admit(request, site)
        if request.headers.get("Expect", "").lower() == "100-continue" and request.version >= HttpVersion11:
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if route.access is not Access.PUBLIC:
            await site.registry.refresh()
        return await route.handler(call)

    def _match(self, request: web.Request) -> tuple[Route, Mapping[str, str]]:
        request[BEGUN] = time.perf_counter()
        request[SEEN] = self._vantage.of(request)
        return self._router.match(request.method, self._vantage.path_of(request.rel_url.raw_path))

    async def _say_of_health(self, request: web.Request) -> web.StreamResponse:
        """Answer while there is nothing to serve yet."""
        route, _ = self._match(request)
        answer = WHILE_STARTING.get(route.handler)
        if answer is None:
            raise StartingError("the registry is starting", remedy="try again soon", headers={"Retry-After": "1"})
        return await answer(self._health)

    async def _admit(self, request: web.Request, site: Site) -> tuple[Route, Call]:
        """Find the route of a request and make sure that its sender may use it."""
        route, params = self._match(request)
        seen = request[SEEN]
        call = request[CALL] = Call(request, site, route.access, params, seen)
        if route.access is not Access.PUBLIC:
            call.principal = request[PRINCIPAL] = await self._principal(request, site.security, seen.address)
            check_access(site.security.policy, route.access, call.principal, params.get("name"))
        if "Content-Encoding" in request.headers:
            raise ContentEncodingUnsupportedError(
                "an encoded request body is not accepted",
                remedy="send the body as it is, without Content-Encoding",
                headers={"Accept-Encoding": "identity"},
            )
        return route, call

    async def _principal(self, request: web.Request, security: Security, address: str) -> Principal:
        """Who asks. Credentials count before a client certificate, also where they are wrong."""
        authorization = request.headers.get("Authorization")
        if authorization is None and security.certificates is not None and request.transport is not None:
            certified = security.certificates.principal(request.transport.get_extra_info("peercert"))
            if certified is not None:
                return certified
        principal = security.authenticator.remembered(authorization, address)
        return principal or await security.authenticator.verify(authorization, address)

    def _refused(self, request: web.Request, error: RegistryError) -> RegistryError:
        """What a refusal is answered with; it is noted for those who look after the registry."""
        call: Call | None = request.get(CALL)
        if call is None:
            if isinstance(error, UnsupportedError) and self._site is not None:
                # Somebody wanted more of a path than it has.
                Call(request, self._site, Access.ADMIN, {}, request[SEEN]).note("request", _asked(request), error)
            return error
        security = call.site.security
        refusal = refusal_for(call.principal, security.authenticator.challenge, error)
        if refusal.status in {401, 403, 429}:
            security.metrics.denied(call.access.name.lower())
            self._warn_of_proxy(request, call.seen.address)
        if refusal.status in {401, 403, 429} or call.access not in {Access.PUBLIC, Access.READ}:
            call.note("request", _asked(request), refusal)
        if isinstance(refusal, StorageFullError | StorageUnavailableError):
            _log.error("%s %s: %s", request.method, request.raw_path, refusal)
            if not call.is_admin:
                return type(refusal)("the storage cannot be used now", remedy="the registry's log says why")
        return refusal

    def _warn_of_proxy(self, request: web.Request, address: str) -> None:
        """Say once that there may be a proxy, behind which all clients have one address and wait for each other."""
        if not self._has_warned and "X-Forwarded-For" in request.headers and address == request.remote:
            self._has_warned = True
            _log.warning("X-Forwarded-For of %s is not believed: a proxy is named in http.trustedproxies", address)


def _asked(request: web.Request) -> str:
    return f"{request.method} {request.rel_url.raw_path}"


DOOR = web.AppKey("door", _Dispatcher)
"""What an application's registry is given to."""


async def _wait(request: web.Request) -> None:
    """Leave a body that a client holds back (`Expect: 100-continue`) where it is until the request is admitted."""


def _header_writer(common: CommonHeaders) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    async def write(request: web.Request, response: web.StreamResponse) -> None:
        request[STARTED] = response
        common.put(request, response)

    return write
