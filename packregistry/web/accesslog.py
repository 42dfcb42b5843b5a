"""One line a request, as text or JSON, where lines of level `info` are logged at all.

Lines are collected and written together, at the latest after `FLUSH_SECONDS`: writing each by itself through `logging`
costs more than answering the request.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import logging
import re
import time
from collections.abc import Mapping
from typing import TextIO

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger

from packregistry.auth import Principal
from packregistry.logs import text_fields
from packregistry.model import shown
from packregistry.web.blob import SENT
from packregistry.web.linesink import LineSink

PRINCIPAL: web.RequestKey[Principal] = web.RequestKey("principal", Principal)
BEGUN: web.RequestKey[float] = web.RequestKey("begun", float)
FLUSH_SECONDS = 0.2
_FLUSH_LINES = 500
_PLAIN = re.compile(r"[!#-\[\]-~]+", re.ASCII)
_log = logging.getLogger(__name__)


class AccessLog:
    """Writes lines to `stream`, with `fields` on every one. A stream that cannot be written to loses them.

    Requests are answered whether or not somebody reads about them (`linesink`).
    """

    def __init__(self, stream: TextIO, *, as_json: bool, fields: Mapping[str, str]) -> None:
        self._sink = LineSink(stream)
        self._as_json = as_json
        self._fields = dict(fields)
        self._text_fields = text_fields(fields)
        self._lines: list[str] = []
        self._timer: asyncio.TimerHandle | None = None
        self._second = 0
        self._stamp = ""
        self._failed = False

    def write(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Note one answered request."""
        # The loop's own clock, which aiohttp measures with, has a resolution of a millisecond on uvloop.
        now = time.perf_counter()
        milliseconds = (now - request.get(BEGUN, now)) * 1000
        principal = request.get(PRINCIPAL)
        user = principal.name if principal else "-"
        remote = request.remote or "-"
        sent = _sent(request, response)
        if self._as_json:
            entry = {
                **self._fields,
                "time": self._time(),
                "level": "info",
                "logger": "packregistry.access",
                "remote": remote,
                "user": user,
                "method": request.method,
                "path": request.raw_path,
                "status": response.status,
                "bytes": sent,
                "milliseconds": round(milliseconds, 2),
            }
            line = json.dumps(entry)
        else:
            path = _escaped(request.raw_path)
            line = (
                f'{self._time()} INFO access {_word(remote)} {_word(user)} "{request.method} {path}" {response.status}'
                f" {sent} {milliseconds:.2f}ms{self._text_fields}"
            )
        self._lines.append(line)
        if len(self._lines) >= _FLUSH_LINES:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._tick)

    def flush(self) -> None:
        """Write what was collected."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, []
        if not lines and not self._sink.is_waiting:
            return
        try:
            self._sink.write(lines)
            self._failed = False
        except (OSError, ValueError) as error:
            # A request is not refused because nobody reads about it.
            if not self._failed:
                _log.warning("requests cannot be logged: %s", error)
            self._failed = True

    def _tick(self) -> None:
        self.flush()
        if self._sink.is_waiting:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._tick)

    def _time(self) -> str:
        """UTC to the second, formatted once a second."""
        now = int(time.time())
        if now != self._second:
            self._second = now
            self._stamp = dt.datetime.fromtimestamp(now, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return self._stamp


def _word(text: str) -> str:
    """`text` where it is one plain word, else quoted: no name ends its field or begins another."""
    return text if _PLAIN.fullmatch(text) else shown(text)


def _escaped(path: str) -> str:
    """A path in ASCII, without quotes."""
    return path.replace('"', "%22") if path.isascii() and path.isprintable() else shown(path, len(path))[1:-1]


def _sent(request: web.BaseRequest, response: web.StreamResponse) -> int:
    """How many bytes of a body went out; what aiohttp counts includes the headers."""
    if request.method == "HEAD" or response.status == 304:
        return 0
    if isinstance(response, web.Response):
        return response.content_length or 0
    sent: int = request.get(SENT, 0)
    return sent


def logger_class(log: AccessLog) -> type[AbstractAccessLogger]:
    """The class that aiohttp makes its access logger from, bound to `log`."""

    class Logger(AbstractAccessLogger):
        @property
        def enabled(self) -> bool:
            """Whether lines of level `info` are wanted."""
            return self.logger.isEnabledFor(logging.INFO)

        def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
            del time
            log.write(request, response)

    return Logger
