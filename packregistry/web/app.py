"""Where the parts meet: a request is matched, authorised, answered, and its refusals rendered, here and only here.

aiohttp's own router is given one route. Its matching decodes `%2F` before it splits, redirects doubled slashes, which
loses credentials, and invites a body (`100 Continue`) before anybody looked at who sends it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable

from aiohttp import web

from packregistry.auth import Access, Authenticator
from packregistry.blobcache import BlobCache
from packregistry.config import Config
from packregistry.errors import ContentEncodingUnsupportedError, DeniedError, RegistryError
from packregistry.registry import Registry
from packregistry.web.accesslog import BEGUN, PRINCIPAL
from packregistry.web.call import SITE, Call, Site
from packregistry.web.render import error_response
from packregistry.web.router import Route, Router
from packregistry.web.routes import routes

_log = logging.getLogger(__name__)

CALL: web.RequestKey[tuple[Route, Call]] = web.RequestKey("call", tuple)
STARTED: web.RequestKey[bool] = web.RequestKey("started", bool)
API_VERSION = "Docker-Distribution-Api-Version"


def create_app(config: Config, registry: Registry, authenticator: Authenticator) -> web.Application:
    """Assemble the application. The registry is open already, and whoever opened it closes it."""
    site = Site(config, registry, authenticator, BlobCache(registry.storage), asyncio.Semaphore(os.cpu_count() or 1))
    router = Router(routes())
    app = web.Application(client_max_size=0)
    app[SITE] = site
    app.on_response_prepare.append(_header_writer(config))
    dispatcher = _Dispatcher(site, router)
    app.router.add_route("*", "/{path:.*}", dispatcher.handle, expect_handler=dispatcher.expect)
    return app


class _Dispatcher:
    """Takes every request from its arrival to its response."""

    def __init__(self, site: Site, router: Router) -> None:
        self._site = site
        self._router = router

    async def expect(self, request: web.Request) -> web.StreamResponse | None:
        """Invite the body that a client holds back, unless the request is refused without it."""
        try:
            request[CALL] = await self._admit(request)
        except RegistryError as error:
            return error_response(error)
        if request.headers["Expect"].lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        return None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request. Whatever goes wrong before the first byte is out becomes an error response."""
        try:
            route, call = request.get(CALL) or await self._admit(request)
            if route.access is not Access.PUBLIC:
                await self._site.registry.refresh()
            return await route.handler(call)
        except RegistryError as error:
            return error_response(error)
        except (web.HTTPException, ConnectionError):
            raise
        except Exception as error:
            _log.exception("%s %s failed", request.method, request.raw_path)
            if request.get(STARTED) and request.transport is not None:
                # An error page would be taken for a part of the body that is on its way.
                request.transport.abort()
                raise ConnectionResetError("the response failed half-way") from error
            return error_response(RegistryError("the registry made a mistake", remedy="its log says more"))

    async def _admit(self, request: web.Request) -> tuple[Route, Call]:
        """Find the route of a request and make sure that its sender may use it."""
        request[BEGUN] = time.perf_counter()
        route, params = self._router.match(request.method, request.rel_url.raw_path)
        call = Call(request, self._site, params)
        if route.access is not Access.PUBLIC:
            authorization = request.headers.get("Authorization")
            authenticator = self._site.authenticator
            principal = authenticator.remembered(authorization)
            if principal is None:
                principal = await authenticator.verify(authorization, request.remote or "-")
            call.principal = request[PRINCIPAL] = principal
            if route.access is not Access.READ:
                raise DeniedError(f"{principal.name} may not do that")
        if "Content-Encoding" in request.headers:
            raise ContentEncodingUnsupportedError(
                "an encoded request body is not accepted", remedy="send the body as it is, without Content-Encoding"
            )
        return route, call


def _header_writer(config: Config) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """What puts the headers on every response that all have in common."""
    common = [(name, value) for name, values in config.http.headers.items() for value in values]
    if config.http.tls.certificate is None:
        common = [(name, value) for name, value in common if name.lower() != "strict-transport-security"]

    async def write(request: web.Request, response: web.StreamResponse) -> None:
        request[STARTED] = True
        headers = response.headers
        headers["Server"] = "packregistry"
        for name, value in common:
            headers.add(name, value)
        if request.rel_url.raw_path.lstrip("/").startswith(("v1", "v2")):
            headers[API_VERSION] = "registry/2.0"

    return write
