"""Where connections are accepted: with TLS that changes meanwhile, and no more of them than there may be.

aiohttp's own sites keep the context they were started with, and a second one on the same socket is no help: asyncio
drops connections that it has accepted for a server that is closed in the same moment. Nor do they ever stop to accept.
So connections are accepted here, each with what certificates there are at that moment, and when there is room.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from typing import Any, Final

from aiohttp import web

from packregistry.config import Http
from packregistry.tls import Tls, reason
from packregistry.web.connection import Connection
from packregistry.web.connections import GRACE_LOOKS, GRACE_SECONDS, Server
from packregistry.web.headers import HEADERS

_log = logging.getLogger(__name__)

GOODBYE_SECONDS: Final = 86400.0
"""How long a connection over TLS may take to end as long as the client takes what is left (`Connection.check`)."""

_AT_ONCE = 64
_RETRY_SECONDS = 1.0
_SAY_SECONDS = 60.0


class Runner(web.AppRunner):
    """Runs an application that has `CommonHeaders`; more options are those of `web.AppRunner`.

    `http` has the limits and time-outs of connections; `grace` is how many seconds those that have to end may wait.
    """

    def __init__(
        self, app: web.Application, *, http: Http | None = None, grace: float = GRACE_SECONDS, **options: Any
    ) -> None:
        self._http = http or Http()
        self._grace = grace
        own = {"keepalive_timeout": self._http.keepalivetimeout, "shutdown_timeout": self._http.draintimeout}
        super().__init__(app, **{**own, **options})

    def hurry(self) -> None:
        """Have `cleanup` wait for no requests any more."""
        self._shutdown_timeout = 0.0

    async def _make_server(self) -> Server:
        made = await super()._make_server()
        return Server(
            made.request_handler,
            request_factory=made.request_factory,
            headers=self.app[HEADERS],
            http=self._http,
            grace=self._grace,
            **self._kwargs,
        )


class Listener(web.BaseSite):
    """Accepts connections on a bound socket for a runner that is set up, and whose `cleanup` stops it.

    With `tls`, each connection is accepted with what that gives then. Other processes may listen on the same socket,
    and have their part of many connections at once if it is `shared`.
    """

    def __init__(
        self, runner: Runner, listening: socket.socket, tls: Tls | None, *, backlog: int = 128, shared: bool = False
    ) -> None:
        super().__init__(runner, backlog=backlog)
        assert isinstance(runner.server, Server)
        self._made = runner.server
        self._listening = listening
        self._tls = tls
        # After each the others' turn comes.
        self._at_once = 1 if shared else _AT_ONCE
        self._retiring: asyncio.Task[None] | None = None
        self._pause: asyncio.TimerHandle | None = None
        self._said_at = -_SAY_SECONDS

    @property
    def name(self) -> str:
        """Where it listens."""
        host, port = self._listening.getsockname()[:2]
        return f"{host}:{port}"

    async def start(self) -> None:
        """Accept connections."""
        await super().start()
        self._listening.setblocking(False)
        self._listening.listen(self._backlog)
        self._made.released = self._go_on
        self._resume()

    async def switch(self) -> None:
        """See to connections that rest on trust which is gone, after `tls` was loaded anew.

        Each ends with the next answer (`CommonHeaders`), and without one after the grace. Other certificates of the
        server's own end no connection.
        """
        # One that has not ended sees to what has become so since, and two would look twice as often.
        if self._tls is not None and (self._retiring is None or self._retiring.done()):
            self._retiring = asyncio.create_task(self._retire(self._tls), name="retire")

    async def stop(self) -> None:
        """Accept no more connections, and close the socket; connections there are go on.

        Those that wait are accepted first: nobody else may have the socket, and they would break with it.
        """
        asyncio.get_running_loop().remove_reader(self._listening)
        if self._pause is not None:
            self._pause.cancel()
        self._made.released = _ignore
        self._made.is_crowded = False
        try:
            for _ in range(self._backlog):
                if self._made.is_full or not self._take():
                    break
        except OSError as error:
            _log.error("connections that wait cannot be accepted any more: %s", error)
        await super().stop()
        self._listening.close()
        if self._retiring is not None:
            self._retiring.cancel()
            await asyncio.gather(self._retiring, return_exceptions=True)

    def _resume(self) -> None:
        self._pause = None
        asyncio.get_running_loop().add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        """Accept what waits, but not so much that all others wait for it."""
        for count in range(self._at_once):
            if self._made.is_full:
                # Only the first time it is known that somebody waits.
                if count == 0:
                    self._wait_for_room()
                return
            try:
                if not self._take():
                    return
            except OSError as error:
                # The socket stays readable, and asking again at once would take all the time there is.
                _log.error("no connection can be accepted, which is tried again in %g s: %s", _RETRY_SECONDS, error)
                self._made.make_room()
                loop = asyncio.get_running_loop()
                loop.remove_reader(self._listening)
                self._pause = loop.call_later(_RETRY_SECONDS, self._resume)
                return

    def _take(self) -> bool:
        """Accept one connection, if one waits. Raises `OSError` when the system has no room for it."""
        try:
            accepted, address = self._listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        connection = self._made()
        connection.accepted = connection.shaking = accepted
        connection.context = self._tls.context if self._tls is not None else None
        self._made.hold(connection)
        task = asyncio.get_running_loop().create_task(self._shake(connection, address[0]))
        connection.handshake = task
        task.add_done_callback(lambda _: self._shaken(connection))
        return True

    async def _shake(self, connection: Connection, address: str) -> None:
        """Take a connection through its handshake, after which it belongs to the server."""
        accepted, connection.accepted = connection.accepted, None
        assert accepted is not None
        options: dict[str, Any] = {}
        if connection.context is not None:
            options = {
                "ssl": connection.context,
                "ssl_handshake_timeout": self._made.http.headertimeout,
                "ssl_shutdown_timeout": GOODBYE_SECONDS,
            }
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: connection, accepted, **options)
        except ssl.SSLError as error:
            _log.info("no TLS with %s: %s", address, reason(error))
        except OSError as error:
            # Whoever only looks whether the port is open hangs up before they say anything.
            _log.debug("no connection with %s: %s", address, error)

    def _shaken(self, connection: Connection) -> None:
        connection.handshake = connection.shaking = None
        if connection.accepted is not None:
            connection.accepted.close()
        if not connection.is_made:
            self._made.release(connection)

    def _wait_for_room(self) -> None:
        """Accept nothing until a connection ends, and see to it that one does that nothing is asked on."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._listening)
        self._made.is_crowded = True
        if not self._made.make_room() and loop.time() - self._said_at >= _SAY_SECONDS:
            self._said_at = loop.time()
            _log.warning(
                "all %d connections are in use, and new ones wait: raise http.maxconnections",
                self._made.http.maxconnections,
            )

    def _go_on(self) -> None:
        """Accept connections again as soon as there is room."""
        if self._made.is_crowded and not self._made.is_full:
            self._made.is_crowded = False
            self._resume()

    async def _retire(self, tls: Tls) -> None:
        """End the connections that rest on trust which is gone.

        A handshake may take long, and who began it with a certificate of before must not get through with it now.
        """

        def is_stale(connection: Connection) -> bool:
            return tls.is_stale(connection.context)

        while self._made.end(is_stale, looks=GRACE_LOOKS):  # noqa: ASYNC110 — aiohttp has no event for it
            await asyncio.sleep(self._made.grace / GRACE_LOOKS)


def _ignore() -> None:
    """Nobody accepts connections any more."""
