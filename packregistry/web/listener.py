"""Accepting connections: with TLS that changes while they are open, and answers in our words to what is no HTTP.

What a connection is encrypted with is decided when it is accepted. So other certificates mean another listener on the
same socket: it takes the next connections, those there are go on, and none that waits to be accepted is lost.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Final

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from packregistry.errors import RegistryError, RequestInvalidError
from packregistry.tls import Tls
from packregistry.web.headers import HEADERS, CommonHeaders
from packregistry.web.render import error_response

GRACE_SECONDS: Final = 1.0
"""How long a connection that rests on trust which is gone may wait for the request that it ends with."""


class Protocol(RequestHandler):
    """One connection. What aiohttp itself refuses is answered as all else is."""

    __slots__ = ("_headers",)

    def __init__(self, manager: Server, headers: CommonHeaders, **kwargs: Any) -> None:
        super().__init__(manager, **kwargs)
        self._headers = headers

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a request that is malformed, or that not even the application could answer. The connection ends."""
        # It logs, and raises where the answer has begun; what it makes is not for our clients.
        super().handle_error(request, status, exc, message)
        refusal = (
            RegistryError("the registry made a mistake", remedy="its log says more")
            if status >= 500
            else RequestInvalidError(
                "the request is not HTTP that can be read", remedy="its line or its headers are malformed or too long"
            )
        )
        response = error_response(refusal)
        self._headers.put(request, response)
        response.force_close()
        return response


class Server(web.Server):
    """Makes a `Protocol` of each connection."""

    def __init__(self, *args: Any, headers: CommonHeaders, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._headers = headers
        self._arguments = {key: value for key, value in kwargs.items() if key not in {"request_factory", "loop"}}

    def __call__(self) -> RequestHandler:
        """Return what handles the next connection."""
        return Protocol(self, self._headers, loop=asyncio.get_running_loop(), **self._arguments)


class Runner(web.AppRunner):
    """Runs an application that has `CommonHeaders`."""

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return Server(
            made.request_handler,
            request_factory=made.request_factory,
            loop=asyncio.get_running_loop(),
            headers=self.app[HEADERS],
            **self._kwargs,
        )


class Listener:
    """Accepts connections on a bound socket for a runner that is set up; whoever bound the socket closes it."""

    def __init__(self, runner: web.AppRunner, listening: socket.socket, tls: Tls | None, *, backlog: int = 128) -> None:
        self._runner = runner
        self._listening = listening
        self._tls = tls
        self._backlog = backlog
        self._site: web.SockSite | None = None
        self._ending: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Accept connections."""
        context = self._tls.context if self._tls else None
        # Each site closes its own socket; the connections that wait belong to what all of them share.
        site = web.SockSite(self._runner, self._listening.dup(), ssl_context=context, backlog=self._backlog)
        await site.start()
        self._site = site

    async def switch(self) -> None:
        """Accept the next connections with what certificates there are now."""
        former = self._site
        await self.start()
        if former is not None:
            await former.stop()
        if self._ending is not None:
            self._ending.cancel()
        self._ending = asyncio.get_running_loop().call_later(GRACE_SECONDS, self._end_stale)

    async def stop(self) -> None:
        """Accept no more connections; those there are go on."""
        if self._ending is not None:
            self._ending.cancel()
        if self._site is not None:
            await self._site.stop()
            self._site = None

    def _end_stale(self) -> None:
        """End the connections of clients that nobody trusted now has signed for, once they wait for a request."""
        server = self._runner.server
        if server is None or self._tls is None:
            return
        for connection in server.connections:
            transport = connection.transport
            if transport is not None and self._tls.is_stale(transport.get_extra_info("sslcontext")):
                connection.close()
