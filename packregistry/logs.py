"""How log lines look: text for people, JSON for collectors. Secrets are masked in both (`masking`)."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import logging
import sys
from collections.abc import Mapping
from typing import TextIO

from aiohttp.http_exceptions import HttpProcessingError

from packregistry.config import Log
from packregistry.linesink import LineSink, in_words
from packregistry.masking import masked

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}


def printable(text: str) -> str:
    """`text` with what is not printable escaped, so that nothing in it ends a line or moves a terminal's cursor."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


class TextFormatter(logging.Formatter):
    """`TIME LEVEL logger message`, then the configured fields; what is not printable is escaped."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        super().__init__()
        self._fields = text_fields(fields)

    def format(self, record: logging.LogRecord) -> str:
        """Render one record on one line, a traceback on those that follow, which are indented."""
        name = record.name.removeprefix("packregistry.")
        line = f"{_time(record)} {record.levelname} {name} {printable(masked(record.getMessage()))}{self._fields}"
        if not record.exc_info:
            return line
        traceback = masked(self.formatException(record.exc_info))
        return "\n".join([line, *("    " + printable(row) for row in traceback.split("\n"))])


class JsonFormatter(logging.Formatter):
    """An object a line: the configured fields, `time`, `level`, `logger`, `message`, `traceback` where there is one."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        super().__init__()
        self._fields = {name: masked(value) for name, value in fields.items()}

    def format(self, record: logging.LogRecord) -> str:
        """Render one record."""
        entry = {
            **self._fields,
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": masked(record.getMessage()),
        }
        if record.exc_info:
            entry["traceback"] = masked(self.formatException(record.exc_info))
        return json.dumps(entry)


class Handler(logging.Handler):
    """Writes records to `stream`. Whoever logs does not wait for its reader (`linesink`), nor hear that it is gone.

    What a pipe does not take stays for the next record, and for `flush`, which the process calls at its exit.
    """

    def __init__(self, stream: TextIO, formatter: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self._sink = LineSink(stream, self._dropped)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001 — a mistake in a call for the log is no reason to end what called
            self.handleError(record)
        else:
            with contextlib.suppress(OSError, ValueError):
                self._sink.write([line])

    def flush(self) -> None:
        """Write what was kept, as far as it is taken now."""
        self.acquire()
        try:
            with contextlib.suppress(OSError, ValueError):
                self._sink.flush()
        finally:
            self.release()

    def _dropped(self, count: int) -> str:
        return self.format(logging.LogRecord(__name__, logging.WARNING, "", 0, in_words(count), None, None))


class Malformed(logging.Filter):
    """Makes a request that is no HTTP one line at `info`: any port scan sends those, and no traceback explains them."""

    def __init__(self, level: int) -> None:
        super().__init__()
        self._level = level

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log the record, which may be changed."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            record.msg, record.args = f"{record.getMessage()}: {' '.join(error.message.split())}", ()
            record.exc_info = None
            record.levelno, record.levelname = logging.INFO, "INFO"
            return self._level <= logging.INFO
        return True


def set_up(config: Log, stream: TextIO | None = None) -> None:
    """Send every log line of this process to `stream` (standard error), as configured. Replaces what was set up.

    Libraries are heard from `warn` on, or from the configured level if that is higher.
    """
    level = _LEVELS[config.level]
    formatter = JsonFormatter(config.fields) if config.formatter == "json" else TextFormatter(config.fields)
    handler = Handler(stream or sys.stderr, formatter)
    handler.addFilter(Malformed(level))
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(max(level, logging.WARNING))
    logging.getLogger("packregistry").setLevel(level)


def text_fields(fields: Mapping[str, str]) -> str:
    """The configured fields as they stand at the end of a text line."""
    return "".join(f" {name}={json.dumps(masked(value))}" for name, value in fields.items())


def _time(record: logging.LogRecord) -> str:
    return dt.datetime.fromtimestamp(record.created, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
