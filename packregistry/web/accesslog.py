"""One line a request, as text or JSON.

Lines are collected and written together, at the latest after `FLUSH_SECONDS`: writing each by itself through `logging`
costs more than answering the request.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import time
from collections.abc import Mapping
from typing import TextIO

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger

from packregistry.auth import Principal
from packregistry.web.blob import SENT

PRINCIPAL: web.RequestKey[Principal] = web.RequestKey("principal", Principal)
BEGUN: web.RequestKey[float] = web.RequestKey("begun", float)
FLUSH_SECONDS = 0.2
_FLUSH_LINES = 500


class AccessLog:
    """Writes lines to `stream`. `fields` are added to every JSON line."""

    def __init__(self, stream: TextIO, *, as_json: bool, fields: Mapping[str, str]) -> None:
        self._stream = stream
        self._as_json = as_json
        self._fields = dict(fields)
        self._lines: list[str] = []
        self._timer: asyncio.TimerHandle | None = None
        self._second = 0
        self._stamp = ""

    def write(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Note one answered request."""
        # The loop's own clock, which aiohttp measures with, has a resolution of a millisecond on uvloop.
        milliseconds = (time.perf_counter() - request.get(BEGUN, time.perf_counter())) * 1000
        principal = request.get(PRINCIPAL)
        user = principal.name if principal else "-"
        sent = _sent(request, response)
        path = request.raw_path if request.raw_path.isprintable() else json.dumps(request.raw_path)[1:-1]
        stamp = self._time()
        if self._as_json:
            entry = {
                "time": stamp,
                "level": "info",
                "logger": "packregistry.access",
                "remote": request.remote,
                "user": user,
                "method": request.method,
                "path": path,
                "status": response.status,
                "bytes": sent,
                "milliseconds": round(milliseconds, 2),
                **self._fields,
            }
            line = json.dumps(entry)
        else:
            quoted = path.replace('"', "%22")
            line = (
                f'{stamp} INFO access {request.remote} {user} "{request.method} {quoted}" {response.status} {sent}'
                f" {milliseconds:.2f}ms"
            )
        self._lines.append(line)
        if len(self._lines) >= _FLUSH_LINES:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)

    def flush(self) -> None:
        """Write what was collected."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, []
        if lines:
            self._stream.write("\n".join(lines) + "\n")
            self._stream.flush()

    def _time(self) -> str:
        """UTC to the second, formatted once a second."""
        now = int(time.time())
        if now != self._second:
            self._second = now
            self._stamp = dt.datetime.fromtimestamp(now, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return self._stamp


def _sent(request: web.BaseRequest, response: web.StreamResponse) -> int:
    """How many bytes of a body went out; what aiohttp counts includes the headers."""
    if request.method == "HEAD" or response.status == 304:
        return 0
    if isinstance(response, web.Response):
        return response.content_length or 0
    return request.get(SENT, 0)


def logger_class(log: AccessLog) -> type[AbstractAccessLogger]:
    """The class that aiohttp makes its access logger from, bound to `log`."""

    class Logger(AbstractAccessLogger):
        def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
            del time
            log.write(request, response)

    return Logger
