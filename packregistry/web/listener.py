"""Connections: how they are accepted, with TLS that changes meanwhile, how they end, and what is said to no HTTP.

aiohttp's own sites keep the context they were started with, and a second one on the same socket is no help: asyncio
drops connections that it has accepted for a server that is closed in the same moment. So connections with TLS are
accepted here, each with what certificates there are at that moment.
"""

from __future__ import annotations

import asyncio
import logging
import math
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web

from packregistry.errors import RegistryError, RequestInvalidError
from packregistry.tls import Tls, reason
from packregistry.web.headers import HEADERS, CommonHeaders
from packregistry.web.render import error_response

_log = logging.getLogger(__name__)

GRACE_SECONDS: Final = 1.0
"""How long a connection that rests on trust which is gone may wait for the request that it ends with."""

_AT_ONCE = 64
_RETRY_SECONDS = 1.0
_LOOK_SECONDS = 0.02
_CANCEL_SECONDS = 0.1
_WHY_MAX = 120


class Connection(web.RequestHandler):
    """One connection. What aiohttp itself refuses is answered as all else is."""

    __slots__ = ("_headers", "_is_last")

    def __init__(self, manager: Server, headers: CommonHeaders, **options: Any) -> None:
        super().__init__(manager, **options)
        self._headers = headers
        self._is_last = False

    @property
    def is_open(self) -> bool:
        """Whether a request is under way, or may still come."""
        transport = self.transport
        return self._request_in_progress or (transport is not None and not transport.is_closing())

    def end(self) -> None:
        """Hang up, where a request is under way after its answer.

        aiohttp's `close` drops what is still to come of the request's body, and leaves connections open that wait.
        """
        self._is_last = True
        is_waiting = self._waiter is not None and not self._waiter.done()
        if is_waiting or not self._request_count:
            self.force_close()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send the rest of an answer, which may be the last one."""
        if self._is_last:
            resp.force_close()
        sent, is_reset = await super().finish_response(request, resp, start_time)
        # It may have become so while the body went out.
        if self._is_last:
            sent.force_close()
        return sent, is_reset

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
                "the request is not HTTP that can be read",
                detail={"reason": (message or "").partition("\n")[0].rstrip(":")[:_WHY_MAX]},
                remedy=f"send HTTP/1.1 with at most {self.max_headers} headers, and no line longer than "
                f"{self.max_line_size} bytes",
            )
        )
        response = error_response(refusal)
        self._headers.put(request, response)
        response.headers["Connection"] = "close"
        response.force_close()
        return response


class Server(web.Server):
    """Makes a `Connection` of each connection, and ends them."""

    def __init__(self, *args: Any, headers: CommonHeaders, **options: Any) -> None:
        super().__init__(*args, **options)
        self._headers = headers

    def __call__(self) -> Connection:
        """Return what handles the next connection."""
        return Connection(self, self._headers, loop=self._loop, **self._kwargs)

    def end(self, is_meant: Callable[[Connection], bool] = lambda _: True) -> bool:
        """End the connections that are meant; whether some of those still have a request under way."""
        meant = [each for each in self.connections if isinstance(each, Connection) and is_meant(each)]
        for connection in meant:
            connection.end()
        return any(connection.is_open for connection in meant)

    def pre_shutdown(self) -> None:
        """Take no more requests."""
        self.end()

    async def shutdown(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 — as aiohttp calls it
        """Wait for the requests under way, for at most `timeout` seconds, and break off those that are left."""
        loop = asyncio.get_running_loop()
        deadline = math.inf if timeout is None else loop.time() + timeout
        while self.end() and loop.time() < deadline:  # noqa: ASYNC110 — aiohttp has no event for it
            await asyncio.sleep(_LOOK_SECONDS)
        await super().shutdown(_CANCEL_SECONDS)


class Runner(web.AppRunner):
    """Runs an application that has `CommonHeaders`; the options are those of `web.AppRunner`."""

    async def _make_server(self) -> Server:
        made = await super()._make_server()
        return Server(
            made.request_handler, request_factory=made.request_factory, headers=self.app[HEADERS], **self._kwargs
        )


class Listener(web.BaseSite):
    """Accepts connections on a bound socket for a runner that is set up, and whose `cleanup` stops it.

    With `tls`, each connection is accepted with what that gives then. `grace` is in seconds.
    """

    def __init__(
        self,
        runner: Runner,
        listening: socket.socket,
        tls: Tls | None,
        *,
        backlog: int = 128,
        grace: float = GRACE_SECONDS,
    ) -> None:
        super().__init__(runner, backlog=backlog)
        assert isinstance(runner.server, Server)
        self._made = runner.server
        self._listening = listening
        self._tls = tls
        self._grace = grace
        self._shaking: dict[asyncio.Task[None], ssl.SSLContext] = {}
        self._retiring: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None

    @property
    def name(self) -> str:
        """Where it listens."""
        host, port = self._listening.getsockname()[:2]
        return f"{host}:{port}"

    async def start(self) -> None:
        """Accept connections."""
        await super().start()
        if self._tls is None:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(self._made, sock=self._listening, backlog=self._backlog)
            return
        self._listening.setblocking(False)
        self._listening.listen(self._backlog)
        self._resume(self._tls)

    async def switch(self) -> None:
        """See to connections that rest on trust which is gone, after `tls` was loaded anew.

        Each ends with the next answer (`CommonHeaders`), and without one after `grace`, or after the answer that is
        under way then. Other certificates of the server's own end no connection.
        """
        if self._tls is None:
            return
        task = asyncio.create_task(self._retire(self._tls), name="retire")
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def stop(self) -> None:
        """Accept no more connections, and close the socket; connections there are go on."""
        if self._pause is not None:
            self._pause.cancel()
        if self._tls is not None:
            asyncio.get_running_loop().remove_reader(self._listening)
        await super().stop()
        self._listening.close()
        tasks = [*self._shaking, *self._retiring]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _resume(self, tls: Tls) -> None:
        asyncio.get_running_loop().add_reader(self._listening, self._accept, tls)

    def _accept(self, tls: Tls) -> None:
        """Accept what waits, but not so much that all others wait for it."""
        loop = asyncio.get_running_loop()
        for _ in range(_AT_ONCE):
            try:
                accepted, address = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                # The socket stays readable, and asking again at once would take all the time there is.
                _log.error("no connection can be accepted, which is tried again in %g s: %s", _RETRY_SECONDS, error)
                loop.remove_reader(self._listening)
                self._pause = loop.call_later(_RETRY_SECONDS, self._resume, tls)
                return
            context = tls.context
            task = loop.create_task(self._shake(accepted, address[0], context))
            self._shaking[task] = context
            task.add_done_callback(self._shaking.pop)

    async def _shake(self, accepted: socket.socket, address: str, context: ssl.SSLContext) -> None:
        """Take a connection through its handshake, after which it belongs to the server."""
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(self._made, accepted, ssl=context)
        except ssl.SSLError as error:
            _log.info("no TLS with %s: %s", address, reason(error))
        except OSError as error:
            # Whoever only looks whether the port is open hangs up before they say anything.
            _log.debug("no TLS with %s: %s", address, error)

    async def _retire(self, tls: Tls) -> None:
        """End the connections that rest on trust which is gone."""
        await asyncio.sleep(self._grace)
        # A handshake may take long, and who began it with a certificate of before must not get through with it now.
        for task, context in self._shaking.items():
            if tls.is_stale(context):
                task.cancel()
        while self._made.end(lambda connection: tls.is_stale(connection.ssl_context)):  # noqa: ASYNC110 — as above
            await asyncio.sleep(self._grace)
