"""A record of each change and each refusal: one JSON object a line, in a file of its own or on standard output.

    {"time": "2026-01-31T12:00:00.123Z", "audit": true, "subject": "ann", "method": "basic", "address": "192.0.2.7",
     "action": "publish", "object": "nginx:1.2.3", "after": "sha256:…", "result": "done"}

What is not known is left out. `result` is `done`, or the code that a request was refused with; `reason` says why.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TextIO

from packregistry.config import Audit as Settings
from packregistry.linesink import KEPT_MAX, LineBuffer
from packregistry.masking import masked
from packregistry.model import HistoryEntry, PackName

_log = logging.getLogger(__name__)

DONE: Final = "done"
TEXT_MAX: Final = 500

# Not to wait for the reader of a pipe, should the path be one; a file is written as ever.
_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK


class AuditError(Exception):
    """The audit file cannot be written; `str()` names it and says what to do."""


class Subject(Protocol):
    """Whoever does something; an `auth.Actor` is one."""

    @property
    def name(self) -> str:
        """What they are called."""

    @property
    def method(self) -> str:
        """How that was proven: `none`, `basic`, `token`, `certificate`, or `system` for the registry itself."""

    @property
    def address(self) -> str:
        """Where the request came from, `-` if there was none."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that was done or refused: by whom, from where, to what, and what came of it.

    `before` and `after` are digests of archives. `status` is the HTTP status, 0 where nobody was answered; `time` is
    UTC in milliseconds, empty for now.
    """

    subject: str
    method: str
    address: str
    action: str
    object: str
    result: str = DONE
    status: int = 0
    reason: str = ""
    before: str | None = None
    after: str | None = None
    time: str = ""

    @classmethod
    def of(
        cls, subject: Subject, action: str, what: str, result: str = DONE, status: int = 0, reason: str = ""
    ) -> Event:
        """What `subject` did to `what`, or was refused."""
        return cls(subject.name, subject.method, subject.address, action, what, result, status, reason)

    def line(self, fields: Mapping[str, str]) -> str:
        """The record as one line of ASCII, without secrets; no text in it is longer than `TEXT_MAX`."""
        known = {
            "subject": self.subject,
            "method": self.method,
            "address": "" if self.address == "-" else self.address,
            "action": self.action,
            "object": self.object,
            "before": self.before,
            "after": self.after,
            "result": self.result,
            "status": self.status,
            "reason": self.reason,
        }
        entry: dict[str, object] = {**fields, "time": self.time or _now(), "audit": True}
        for name in known:
            entry.pop(name, None)
        entry |= {name: _text(value) if isinstance(value, str) else value for name, value in known.items() if value}
        return json.dumps(entry)


class Audit:
    """Writes records, to the configured file or else to `stream` (standard output), with `fields` on each.

    Nothing waits for it: to a file it writes in a thread, to a stream what that takes at once (`linesink`). A record
    that cannot be written is lost; that is logged once, until one can be, and `lost` is told how many.

    Belongs to one thread, that of the event loop if there is one.
    """

    def __init__(
        self,
        settings: Settings,
        fields: Mapping[str, str],
        *,
        stream: TextIO | None = None,
        lost: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._fields = {name: masked(value) for name, value in fields.items()}
        self._sink: AuditFile | LineBuffer
        if settings.path is not None:
            self._sink = AuditFile(settings.path, lost)
        else:
            self._sink = LineBuffer(stream or sys.stdout, failed=_complain, lost=lost, dropped=self._dropped)

    def open(self) -> None:
        """Make sure that the file can be written, and make it if it is not there. Raises `AuditError`."""
        if isinstance(self._sink, AuditFile):
            self._sink.open()

    def write(self, event: Event) -> None:
        """Keep a record. Never raises for want of somewhere to keep it."""
        self._sink.write(event.line(self._fields))

    def changed(self, name: PackName, entry: HistoryEntry, by: Subject) -> None:
        """Keep a record of a change to a pack, as its history has it."""
        self.write(
            Event(
                by.name,
                by.method,
                by.address,
                entry.action,
                f"{name}:{entry.tag}",
                reason=entry.message,
                before=entry.before,
                after=entry.after,
                time=entry.time,
            )
        )

    def flush(self) -> None:
        """Wait until the file has all records, or write what a slow reader of the stream takes of them now."""
        self._sink.flush()

    def close(self) -> None:
        """`flush`, and close the file; a record that comes later is lost."""
        if isinstance(self._sink, AuditFile):
            self._sink.close()
        else:
            self._sink.flush()

    def _dropped(self, count: int) -> str:
        reason = "nobody read standard output"
        return Event("registry", "system", "", "drop", f"{count} audit records", "lost", 0, reason).line(self._fields)


class AuditFile:
    """A file that records are appended to, by a thread, each with one write so that several processes may share it.

    Moved away or removed, as a log rotation does it, it is made anew for the next record. Any thread may use it.
    """

    def __init__(self, path: Path, lost: Callable[[int], None]) -> None:
        self._path = path
        self._lost = lost
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="audit")
        self._changed = threading.Condition()
        self._records: list[bytes] = []
        self._size = 0
        self._is_writing = False
        self._is_closed = False
        # What follows belongs to the thread that writes.
        self._file = -1
        self._is_torn = False
        self._has_failed = False
        self._has_warned = False

    def open(self) -> None:
        """Open the file, make it (0600) if it is not there. Raises `AuditError`. Before the first `write`."""
        try:
            self._file = os.open(self._path, _FLAGS, 0o600)
        except OSError as error:
            raise AuditError(
                f"the audit file {self._path} cannot be written: {error.strerror}\n"
                f"Make sure that its directory exists and that uid {os.geteuid()} may write both, or name another file "
                "with log.audit.path."
            ) from error

    def write(self, line: str) -> None:
        """Have a record written; beyond `KEPT_MAX` bytes that wait for a slow disk it is lost."""
        record = line.encode() + b"\n"
        with self._changed:
            if self._is_closed or self._size >= KEPT_MAX:
                self._lost(1)
                return
            self._records.append(record)
            self._size += len(record)
            if not self._is_writing:
                self._is_writing = True
                self._thread.submit(self._write_all)

    def flush(self) -> None:
        """Wait until every record is written or lost."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_writing)

    def close(self) -> None:
        """Write what there is, and close the file."""
        with self._changed:
            self._is_closed = True
        self._thread.shutdown()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _write_all(self) -> None:
        while True:
            with self._changed:
                records, self._records, self._size = self._records, [], 0
                if not records:
                    self._is_writing = False
                    self._changed.notify_all()
                    return
            self._write(records)

    def _write(self, records: list[bytes]) -> None:
        written = 0
        try:
            self._follow()
            for record in records:
                self._append(record)
                written += 1
        except OSError as error:
            self._lost(len(records) - written)
            if not self._has_failed:
                _complain(error)
            self._has_failed = True
        else:
            self._has_failed = False

    def _follow(self) -> None:
        """Open what is at the path, if that is another file than the one that is open."""
        if self._file >= 0 and _is_at(self._path, self._file):
            return
        try:
            file = os.open(self._path, _FLAGS, 0o600)
        except OSError as error:
            if self._file < 0 or not os.fstat(self._file).st_nlink:
                raise
            if not self._has_warned:
                _log.warning("audit records still go to what was %s, which cannot be made anew: %s", self._path, error)
            self._has_warned = True
            return
        self._has_warned = False
        if self._file >= 0:
            os.close(self._file)
        self._file, self._is_torn = file, False

    def _append(self, record: bytes) -> None:
        rest = memoryview(b"\n" + record if self._is_torn else record)
        while rest:
            sent = os.write(self._file, rest)
            # Of a record that a full disk takes a part of, the next one must not be the end.
            self._is_torn = rest[sent - 1] != ord("\n")
            rest = rest[sent:]


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except OSError:
        return False


def _complain(error: Exception) -> None:
    _log.error("audit records cannot be written and are lost: %s", error)


def _text(value: str) -> str:
    # Masked before it is cut: half a token does not look like one.
    shown = masked(value)
    return shown if len(shown) <= TEXT_MAX else shown[:TEXT_MAX] + "…"


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
