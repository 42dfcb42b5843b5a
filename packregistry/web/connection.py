"""One connection: what has to come and to be taken in time, what is said to no HTTP, and how it ends without a loss.

It has no timer of its own for each request; somebody looks now and then (`connections`). aiohttp bounds what a client
can send ahead: while 32 requests wait it reads no more.
"""

from __future__ import annotations

import asyncio
import logging
import re
import select
import socket
import ssl
import struct
from collections.abc import Coroutine
from typing import Any, Final, cast

from aiohttp import web
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import _ErrInfo

from packregistry.config import Http
from packregistry.errors import RegistryError, RequestInvalidError, RequestStalledError
from packregistry.web.headers import CommonHeaders
from packregistry.web.progress import progress, unread, unsent
from packregistry.web.render import error_response

_log = logging.getLogger(__name__)

REST_MAX: Final = 64 * 1024
"""How much of a body that nobody wanted is read so that the connection can go on."""

# Where the machine stood still, the client did not.
_STALL_LOOKS = 3
_FAREWELL_SECONDS = 0.25
_WHY_MAX = 120
# After it comes what the client has sent, as Python writes bytes.
_QUOTED = re.compile(r"[:\s]+\"?(?:bytearray\()?b['\"]|\n")
# `tcpi_last_data_sent` and `tcpi_last_data_recv` of Linux's `struct tcp_info`, in milliseconds.
_QUIET = struct.Struct("44xI4xI")


class Connection(web.RequestHandler):
    """One connection. What aiohttp itself refuses is answered as all else is.

    `context` is what it was accepted with, where that is TLS. Until `connection_made`, `handshake` is the task that
    gets it there, `shaking` the socket, and `accepted` the same until that has begun.
    """

    __slots__ = (
        "_body",
        "_headers",
        "_http",
        "_is_half_closed",
        "_looks",
        "_made_at",
        "_progress",
        "_progress_at",
        "_progress_looks",
        "_started_at",
        "_taken",
        "_wire",
        "accepted",
        "context",
        "handshake",
        "shaking",
    )

    def __init__(self, manager: web.Server, headers: CommonHeaders, http: Http, **options: Any) -> None:
        super().__init__(manager, **options)
        self.accepted: socket.socket | None = None
        self.context: ssl.SSLContext | None = None
        self.handshake: asyncio.Task[None] | None = None
        self.shaking: socket.socket | None = None
        self._headers = headers
        self._http = http
        # When it was accepted, and then when the handshake was over.
        self._made_at = self._loop.time()
        # The client will ask nothing more, and waits for answers.
        self._is_half_closed = False
        # Of the request whose headers were last complete.
        self._body: StreamReader = EMPTY_PAYLOAD
        # When the first byte of headers came that are not complete; 0: there are none.
        self._started_at = 0.0
        # Unlike `transport`, it is there until the connection is lost.
        self._wire: asyncio.Transport | None = None
        self._progress: tuple[int, int] | None = None
        self._progress_at = 0.0
        self._progress_looks = 0
        # How many requests there had been when all answers were seen to be with their client.
        self._taken = 0
        self._looks = 0

    @property
    def is_open(self) -> bool:
        """Whether a request is under way or may still come, or an answer is not yet with its client."""
        if self._request_in_progress or self.handshake is not None:
            return True
        if self._wire is None:
            return False
        return (self.transport is not None and not self._wire.is_closing()) or unsent(self._wire)

    @property
    def is_busy(self) -> bool:
        """Whether a request is under way, or waits for its turn."""
        return self._request_in_progress or bool(self._messages)

    @property
    def is_made(self) -> bool:
        """Whether it is through its handshake, and not lost since."""
        return self._wire is not None

    @property
    def resting_since(self) -> float | None:
        """When its last request was answered, if nothing came since then that was looked at."""
        if self._is_waiting and self._request_count and not self._started_at:
            return self._waiting_since
        return None

    def is_silent(self, now: float, seconds: float) -> bool:
        """Whether it never asked anything, and nothing has come for so many `seconds`; `now` is the loop's time."""
        if now - self._made_at < seconds:
            return False
        if self.shaking is not None:
            return _quiet(self.shaking) >= seconds
        return self._is_waiting and not (self._request_count or self._started_at or self.has_unread)

    @property
    def made_at(self) -> float:
        """When it was accepted, or its handshake was over, in seconds of the loop."""
        return self._made_at

    @property
    def has_unread(self) -> bool:
        """Whether something has come that was not looked at yet."""
        return self.transport is not None and unread(self.transport)

    @property
    def _is_waiting(self) -> bool:
        return self._waiter is not None and not self._waiter.done()

    @property
    def _waiting_since(self) -> float:
        return self._next_keepalive_close_time - self._keepalive_timeout

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for requests."""
        # uvloop's are no subclass.
        self._wire = cast("asyncio.Transport", transport)
        self.shaking = None
        self._made_at = self._loop.time()
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget what cannot be reached any more."""
        self._wire = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what has come, and note when headers begin."""
        count, body = self._request_count, self._body
        # Most requests have none, and this is done for each.
        was_body = body is not EMPTY_PAYLOAD and not body.is_eof()
        web.RequestHandler.data_received(self, data)
        if self._request_count != count:
            self._started_at = 0.0
            self._body = self._messages[-1][1]
        # Empty lines before a request mean nothing (RFC 9112, 2.2).
        elif not (self._started_at or was_body or self._upgraded) and data.strip(b"\r\n"):
            self._started_at = self._loop.time()

    # aiohttp always hangs up.
    def eof_received(self) -> bool:  # type: ignore[override]
        """Whether the client, who sends nothing more, is still to get answers: to all that it has asked completely.

        `nc -N` and some health checks wait for them like that. TLS knows no such thing in Python.
        """
        is_asked = self._request_count > 0 and not self._is_waiting
        if self.context is not None or not is_asked or self._upgraded or not self._body.is_eof():
            return False
        self._is_half_closed = True
        self._close = not self._messages
        return True

    def look(self, looks: int) -> None:
        """Hang up if this is more than the number of `looks` in a row at which no request was there or on its way.

        aiohttp's `close` drops what is still to come of a request's body, and leaves connections open that wait.
        """
        is_idle = (self._is_waiting or not self._request_count) and not self._started_at
        if not is_idle or self.has_unread:
            self._looks = 0
            return
        self._looks += 1
        if self._looks <= looks:
            return
        if self.handshake is not None:
            self.handshake.cancel()
        else:
            self.force_close()

    def make_room(self) -> None:
        """Hang up, and do not wait long for what TLS has the client answer to that."""
        if self.handshake is not None:
            self.shaking = None
            self.handshake.cancel()
            return
        self.force_close()
        self._loop.call_later(_FAREWELL_SECONDS, self._leave)

    def _leave(self) -> None:
        if self._wire is None:
            return
        if unsent(self._wire):
            # The last answer is still on its way; who does not take it is found by `check`.
            self._loop.call_later(_FAREWELL_SECONDS, self._leave)
        else:
            self._wire.abort()

    def check(self, now: float) -> None:
        """Break off what has stood still for too long; `now` is in seconds of the loop."""
        wire = self._wire
        if wire is None:
            return
        if self._is_sending(wire):
            self._check_progress(wire, now)
        else:
            self._progress = None
        if self._is_waiting:
            self._check_headers(now)

    def _is_sending(self, wire: asyncio.Transport) -> bool:
        """Whether the client has still to take something. While an answer is made, only what waits for it knows."""
        if self._paused or self.transport is None or wire.is_closing():
            return True
        if not self._is_waiting or self._taken == self._request_count:
            return False
        # Over TLS, all of an answer may be in a buffer that nothing says is full.
        if unsent(wire):
            return True
        self._taken = self._request_count
        return False

    def _check_progress(self, wire: asyncio.Transport, now: float) -> None:
        seen = progress(wire)
        self._progress_looks += 1
        if seen != self._progress:
            self._progress, self._progress_at, self._progress_looks = seen, now, 0
        elif now - self._progress_at >= self._http.stalltimeout and self._progress_looks >= _STALL_LOOKS:
            # Who only does not say goodbye has everything.
            level = logging.INFO if unsent(wire) else logging.DEBUG
            message = "%s took nothing for %g s, and its connection is broken off (http.stalltimeout)"
            _log.log(level, message, self._client, self._http.stalltimeout)
            wire.abort()

    def _check_headers(self, now: float) -> None:
        is_first = not self._request_count
        if not (is_first or self._started_at):
            return
        since = self._waiting_since if is_first else max(self._waiting_since, self._started_at)
        if now - since < self._http.headertimeout or self.has_unread:
            return
        if self._started_at:
            self._refuse_headers()
        else:
            _log.debug("%s asked nothing for %g s (http.headertimeout)", self._client, self._http.headertimeout)
            self.force_close()

    def _refuse_headers(self) -> None:
        """Have the request answered that does not come. What comes of it from now on is not looked at."""
        assert self._waiter is not None
        self._started_at = 0.0
        self._request_count += 1
        self._messages.append((_ErrInfo(RequestStalledError.status, TimeoutError(), ""), EMPTY_PAYLOAD))
        self._close = True
        self._waiter.set_result(None)

    @property
    def _client(self) -> str:
        """The client's address."""
        return str(self.peername[0]) if isinstance(self.peername, tuple) else "a client"

    def _process_keepalive(self) -> None:
        """Hang up after the time that a connection is kept, but not on a request that comes at the last moment."""
        if self._is_waiting and (self.resting_since is None or self.has_unread):
            # For headers, and for the first request, there is another time-out.
            self._keepalive_handle = None
            return
        if self._is_waiting and self._wire is not None and unsent(self._wire):
            # Who still reads has not begun to do nothing.
            self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        super()._process_keepalive()

    def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> Coroutine[Any, Any, tuple[web.StreamResponse, bool]]:
        """Send the rest of an answer, which is the last one where too much of the request's body is left.

        It is as well where the client has said that nothing more will come.
        """
        if self._is_half_closed and not self._messages:
            self._close = True
            resp.force_close()
        content = request.content
        if content is not EMPTY_PAYLOAD and not content.is_eof() and _has_rest(request, content):
            resp.force_close()
        return web.RequestHandler.finish_response(self, request, resp, start_time)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a request that is malformed, or that not even the application could answer. The connection ends."""
        if status == RequestStalledError.status:
            _log.info("the headers of %s did not come in %g s", self._client, self._http.headertimeout)
        else:
            # It logs, and raises where the answer has begun; what it makes is not for our clients.
            super().handle_error(request, status, exc, message)
        response = error_response(self._refusal(status, message or ""))
        self._headers.put(request, response)
        response.headers["Connection"] = "close"
        response.force_close()
        return response

    def _refusal(self, status: int, message: str) -> RegistryError:
        if status == RequestStalledError.status:
            return RequestStalledError(
                f"the headers of the request did not come in {self._http.headertimeout:g} seconds", remedy="ask again"
            )
        if status >= 500:
            return RegistryError("the registry made a mistake", remedy="its log says more")
        return RequestInvalidError(
            "the request is not HTTP that can be read",
            detail={"reason": _QUOTED.split(message, 1)[0].rstrip(":")[:_WHY_MAX]},
            remedy=f"send HTTP/1.1 with at most {self.max_headers} headers, and no line longer than "
            f"{self.max_line_size} bytes",
        )


def _has_rest(request: web.BaseRequest, content: StreamReader) -> bool:
    """Whether so much of the body is left that reading it costs more than another connection."""
    received = content.total_bytes
    if not received and "Expect" in request.headers:
        # The client may never send it, and what comes instead would be taken for it.
        return True
    return max(received, (request.content_length or 0) - received) > REST_MAX


def _quiet(sock: socket.socket) -> float:
    """For how many seconds nothing has come nor was sent; 0 where something waits to be looked at, or nobody knows."""
    try:
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        if poll.poll(0):
            return 0.0
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _QUIET.size)
    except (OSError, ValueError):
        return 0.0
    return min(_QUIET.unpack(info)) / 1000 if len(info) == _QUIET.size else 0.0
