"""How log lines look: text for people, JSON for collectors."""

from __future__ import annotations

import datetime as dt
import json
import logging
import sys
from collections.abc import Mapping
from typing import TextIO

from packregistry.config import Log

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}


class TextFormatter(logging.Formatter):
    """`TIME LEVEL logger message`, then the configured fields; what is not printable is escaped."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        super().__init__()
        self._fields = "".join(f" {name}={json.dumps(value)}" for name, value in fields.items())

    def format(self, record: logging.LogRecord) -> str:
        """Render one record on one line, a traceback on those that follow."""
        message = record.getMessage()
        if not message.isprintable():
            message = json.dumps(message, ensure_ascii=False)[1:-1]
        name = record.name.removeprefix("packregistry.")
        line = f"{_time(record)} {record.levelname} {name} {message}{self._fields}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """An object a line: `time`, `level`, `logger`, `message`, the configured fields, `traceback` where there is one."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        super().__init__()
        self._fields = dict(fields)

    def format(self, record: logging.LogRecord) -> str:
        """Render one record."""
        entry = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._fields,
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def set_up(config: Log, stream: TextIO | None = None) -> None:
    """Send every log line of this process to `stream` (standard error), as configured. Replaces what was set up."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter(config.fields) if config.formatter == "json" else TextFormatter(config.fields))
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(logging.WARNING)
    logging.getLogger("packregistry").setLevel(_LEVELS[config.level])


def _time(record: logging.LogRecord) -> str:
    return dt.datetime.fromtimestamp(record.created, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
