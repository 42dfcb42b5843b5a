"""All connections of a process: how many there are, one look at all of them about once a second, and their end."""

from __future__ import annotations

import asyncio
import heapq
import logging
import math
from collections.abc import Callable, Iterator
from typing import Any, Final

from aiohttp import web

from packregistry.config import Http
from packregistry.web.connection import Connection
from packregistry.web.headers import CommonHeaders

_log = logging.getLogger(__name__)

GRACE_SECONDS: Final = 1.0
"""How long a connection that has to end may wait for the request that it ends with."""

GRACE_LOOKS: Final = 10
"""How often it is looked for that request, at least: a machine that stands still for a second has not waited one."""

_LOOK_SECONDS = 0.02
_SWEEP_SECONDS = 1.0
_CANCEL_SECONDS = 0.1
_ROOM_SHARE = 64
# How long one that says nothing is left alone while others wait, which is looked for so often in that time.
_SILENT_SECONDS = 1.0
_SILENT_LOOKS = 4


class Server(web.Server):
    """Makes the connections of a process, looks after them, and ends them.

    `grace` is in seconds. `released` is called when there is one connection less.
    """

    def __init__(self, *args: Any, headers: CommonHeaders, http: Http, grace: float, **options: Any) -> None:
        super().__init__(*args, **options)
        self.http = http
        self.grace = grace
        self.released: Callable[[], None] = _ignore
        self._headers = headers
        self._held: set[Connection] = set()
        self._period = min(_SWEEP_SECONDS, http.headertimeout / 4, http.stalltimeout / 4)
        self._sweeping: asyncio.TimerHandle | None = None
        self._crowding: asyncio.TimerHandle | None = None
        self._is_ending = False

    def __call__(self) -> Connection:
        """Return what handles the next connection."""
        return Connection(self, self._headers, self.http, loop=self._loop, **self._kwargs)

    @property
    def is_full(self) -> bool:
        """Whether there are as many connections as there may be."""
        return len(self._held) >= self.http.maxconnections

    @property
    def is_crowded(self) -> bool:
        """Whether others wait for one of the connections to end."""
        return self._crowding is not None

    @is_crowded.setter
    def is_crowded(self, value: bool) -> None:
        if self._crowding is not None:
            self._crowding.cancel()
            self._crowding = None
        if value:
            self._crowding = self._loop.call_later(_SILENT_SECONDS / _SILENT_LOOKS, self._look_for_room)
        self._headers.is_last = value or self._is_ending

    def hold(self, connection: Connection) -> None:
        """Count a connection from here until it is lost, and look after it."""
        self._held.add(connection)
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(self._period, self._sweep)

    def release(self, connection: Connection) -> None:
        """Count a connection no longer."""
        self._held.discard(connection)
        self.released()

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Look after a connection."""
        super().connection_made(handler, transport)
        assert isinstance(handler, Connection)
        self.hold(handler)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        """Look no longer after a connection; what it asked for may still be under way."""
        super().connection_lost(handler, exc)
        assert isinstance(handler, Connection)
        self.release(handler)

    def make_room(self) -> bool:
        """Hang up on some of the connections that nothing is asked on, longest first; whether there was one.

        Those that never asked anything come after those that did, and have a moment to begin.
        """
        resting = ((since, id(each), each) for each in self._held if (since := each.resting_since) is not None)
        count = max(1, self.http.maxconnections // _ROOM_SHARE)
        chosen = [each for _, _, each in heapq.nsmallest(count, resting) if not each.has_unread]
        if len(chosen) < count:
            now = self._loop.time()
            silent = (each for each in self._held if each.is_silent(now, _SILENT_SECONDS))
            chosen += heapq.nsmallest(count - len(chosen), silent, key=lambda each: each.made_at)
        for each in chosen:
            each.make_room()
        return bool(chosen)

    def end(self, is_meant: Callable[[Connection], bool] = lambda _: True, *, looks: int = 0) -> bool:
        """Look at the connections that are meant (`Connection.look`); whether some of those are still open."""
        meant = [each for each in self._all() if is_meant(each)]
        for connection in meant:
            connection.look(looks)
        return any(connection.is_open for connection in meant)

    def pre_shutdown(self) -> None:
        """Have every answer say that it is the connection's last."""
        self._is_ending = self._headers.is_last = True

    async def shutdown(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 — as aiohttp calls it
        """Wait for the requests under way, for at most `timeout` seconds, and break off those that are left.

        Whoever has not heard that a connection ends may send a request on it for the time of `grace`.
        """
        self._is_ending = self._headers.is_last = True
        loop = asyncio.get_running_loop()
        deadline = math.inf if timeout is None else loop.time() + timeout
        step = min(_LOOK_SECONDS, self.grace / GRACE_LOOKS) or _LOOK_SECONDS
        while self.end(looks=math.ceil(self.grace / step)) and loop.time() < deadline:  # noqa: ASYNC110 — aiohttp has no event
            await asyncio.sleep(step)
        left = sum(each.is_busy for each in self._all())
        if left:
            _log.warning(
                "requests under way when the time to end was over, which are broken off: %d; "
                "raise http.draintimeout, which is %g s",
                left,
                timeout or 0,
            )
        handshakes = [each.handshake for each in self._held if each.handshake is not None]
        for task in handshakes:
            task.cancel()
        await asyncio.gather(*handshakes, return_exceptions=True)
        await super().shutdown(_CANCEL_SECONDS)
        if self._sweeping is not None:
            self._sweeping.cancel()
        self.is_crowded = False

    def _all(self) -> Iterator[Connection]:
        """Those that are held, and those that are lost while what they asked for is still under way."""
        yield from tuple(self._held)
        yield from (each for each in self.connections if isinstance(each, Connection) and each not in self._held)

    def _sweep(self) -> None:
        now = self._loop.time()
        for connection in tuple(self._held):
            connection.check(now)
        self._sweeping = self._loop.call_later(self._period, self._sweep) if self._held else None

    def _look_for_room(self) -> None:
        self.make_room()
        # For as long as it does not help.
        if self._crowding is not None:
            self.is_crowded = True


def _ignore() -> None:
    """Nobody waits for a connection to end."""
