"""Lines for a stream whose reader may have stopped reading.

A log collector that stalls fills the pipe, and writing to a full pipe waits. The event loop must not, so a pipe is
given only what it takes at once; the rest is kept, up to `KEPT_MAX` bytes, and what is beyond is dropped and counted.
"""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Sequence
from io import UnsupportedOperation
from typing import TextIO

KEPT_MAX = 4 * 1024 * 1024
# What a pipe that polls as writable takes without waiting.
_PIECE = select.PIPE_BUF


class LineSink:
    """Writes to `stream`. What is written elsewhere to the same stream is not held back by it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._pipe = _pipe_of(stream)
        self._kept = bytearray()
        self._dropped = 0

    def write(self, lines: Sequence[str]) -> None:
        """Write lines after what was kept of earlier ones. Raises `OSError` where nobody can read any more."""
        if self._pipe is None:
            self._stream.write("".join(f"{line}\n" for line in lines))
            self._stream.flush()
            return
        for line in lines:
            if len(self._kept) < KEPT_MAX:
                self._kept += line.encode("utf-8", "replace") + b"\n"
            else:
                self._dropped += 1
        self._push(self._pipe)
        if self._dropped and not self._kept:
            self._kept += b"%d lines were dropped here, as nobody read them\n" % self._dropped
            self._dropped = 0
            self._push(self._pipe)

    @property
    def is_waiting(self) -> bool:
        """Whether something is kept for a reader that does not read."""
        return bool(self._kept)

    def _push(self, pipe: int) -> None:
        poll = select.poll()
        poll.register(pipe, select.POLLOUT)
        sent = 0
        try:
            while sent < len(self._kept) and poll.poll(0):
                sent += os.write(pipe, self._kept[sent : sent + _PIECE])
        except OSError:
            self._kept.clear()
            raise
        del self._kept[:sent]


def _pipe_of(stream: TextIO) -> int | None:
    """The descriptor of a stream that is a pipe or a socket; a file or a terminal does not stall for long."""
    try:
        descriptor = stream.fileno()
        mode = os.fstat(descriptor).st_mode
    except (OSError, ValueError, UnsupportedOperation):
        return None
    return descriptor if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) else None
