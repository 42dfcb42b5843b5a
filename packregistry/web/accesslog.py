"""One line a request, as text or JSON, where lines of level `info` are logged at all.

Lines are collected and written together, at the latest after a moment: writing each by itself through `logging` costs
more than answering the request. Secrets that a client put into its path or its user name are masked.
"""

from __future__ import annotations

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
from packregistry.linesink import LineBuffer, in_words
from packregistry.logs import text_fields
from packregistry.masking import masked
from packregistry.model import shown
from packregistry.web.blob import SENT
from packregistry.web.proxy import Seen

PRINCIPAL: web.RequestKey[Principal] = web.RequestKey("principal", Principal)
SEEN: web.RequestKey[Seen] = web.RequestKey("seen", Seen)
BEGUN: web.RequestKey[float] = web.RequestKey("begun", float)
PLAIN_MAX = 4096
PLAIN_LENGTH = 256
_WORD = re.compile(r"[!#-\[\]-~]+", re.ASCII)
# A line is flat, so that nobody has to look for circles in it.
_encoded = json.JSONEncoder(check_circular=False).encode
_log = logging.getLogger(__name__)


class AccessLog:
    """Writes lines to `stream`, with `fields` on every one. A stream that cannot be written to loses them.

    Requests are answered whether or not somebody reads about them (`linesink`).
    """

    def __init__(self, stream: TextIO, *, as_json: bool, fields: Mapping[str, str]) -> None:
        self._buffer = LineBuffer(stream, failed=_complain, dropped=self._dropped)
        self._as_json = as_json
        self._fields = {name: masked(value) for name, value in fields.items()}
        self._text_fields = text_fields(fields)
        self._second = 0
        self._stamp = ""
        # What is logged as it is: most requests are for a few paths, and to look twice at one costs more than the rest.
        self._plain_users: set[str] = set()
        self._plain_paths: set[str] = set()

    def write(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Note one answered request."""
        # The loop's own clock, which aiohttp measures with, has a resolution of a millisecond on uvloop.
        now = time.perf_counter()
        milliseconds = (now - request.get(BEGUN, now)) * 1000
        principal = request.get(PRINCIPAL)
        seen = request.get(SEEN)
        remote = seen.address if seen else self._word(request.remote or "-")
        user, path = principal.name if principal else "-", request.raw_path
        if user not in self._plain_users:
            user = _kept(self._plain_users, user, self._word(user))
        if path not in self._plain_paths:
            path = _kept(self._plain_paths, path, self._path(path))
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
                "path": path,
                "status": response.status,
                "bytes": sent,
                "milliseconds": round(milliseconds, 2),
            }
            line = _encoded(entry)
        else:
            line = (
                f'{self._time()} INFO access {remote} {user} "{request.method} {path}" {response.status}'
                f" {sent} {milliseconds:.2f}ms{self._text_fields}"
            )
        self._buffer.add(line)

    def flush(self) -> None:
        """Write what was collected."""
        self._buffer.flush()

    def _word(self, text: str) -> str:
        """A name without secrets; in text it is one word, so that it does not end its field or begin another."""
        name = masked(text)
        return name if self._as_json or _WORD.fullmatch(name) else shown(name)

    def _path(self, text: str) -> str:
        """A path without secrets; in text it is ASCII and has no quotes."""
        path = masked(text)
        if self._as_json:
            return path
        return path.replace('"', "%22") if path.isascii() and path.isprintable() else shown(path, len(path))[1:-1]

    def _dropped(self, count: int) -> str:
        message = in_words(count)
        if not self._as_json:
            return f"{self._time()} WARNING access {message}{self._text_fields}"
        level = {"level": "warning", "logger": "packregistry.access"}
        return _encoded({**self._fields, "time": self._time(), **level, "message": message})

    def _time(self) -> str:
        """UTC to the second, formatted once a second."""
        now = int(time.time())
        if now != self._second:
            self._second = now
            self._stamp = dt.datetime.fromtimestamp(now, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return self._stamp


def _complain(error: Exception) -> None:
    # A request is not refused because nobody reads about it.
    _log.warning("requests cannot be logged: %s", error)


def _kept(plain: set[str], text: str, rendered: str) -> str:
    """`rendered`. Text that is the same is noted in `plain`, and no other is: there may be a secret in it."""
    if text == rendered and len(text) <= PLAIN_LENGTH:
        if len(plain) >= PLAIN_MAX:
            plain.clear()
        plain.add(text)
    return rendered


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
