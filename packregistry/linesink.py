"""Lines for a stream whose reader may have stopped reading.

A log collector that stalls fills the pipe, and writing to a full pipe waits. The event loop must not, so a pipe is
given only what it takes at once; the rest is kept, up to `KEPT_MAX` bytes, and what is beyond is dropped and counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import stat
import threading
import weakref
from collections.abc import Callable, Sequence
from io import UnsupportedOperation
from typing import TextIO

KEPT_MAX = 4 * 1024 * 1024
FLUSH_SECONDS = 0.2
FLUSH_LINES = 500
# What a pipe that polls as writable takes without waiting, and without anything in between.
_PIECE = select.PIPE_BUF
# Two sinks may end in one pipe, whose room must not be gone between the look at it and the write. Held for no wait.
_writing = threading.Lock()


def in_words(count: int) -> str:
    """What stands in a text log in place of `count` lines."""
    return f"{count} lines were dropped here, as nobody read them"


class LineSink:
    """Writes to `stream`. What is written elsewhere to the same stream is not held back by it.

    Lines up to `PIPE_BUF` bytes stay whole, whoever else writes to the same pipe. `dropped` makes the line that stands
    for so many that were dropped. One thread at a time may use it.
    """

    def __init__(self, stream: TextIO, dropped: Callable[[int], str] = in_words) -> None:
        self._stream = stream
        self._pipe = _pipe_of(stream)
        if self._pipe is not None and (own := _own(self._pipe)) is not None:
            self._pipe = own
            # Not at the exit of the process, when what is kept is still written.
            weakref.finalize(self, os.close, own).atexit = False
        self._dropped_line = dropped
        self._kept = bytearray()
        self._dropped = 0
        self.lost = 0

    def write(self, lines: Sequence[str]) -> None:
        """Write lines after what was kept of earlier ones; `lost` counts those that nobody will ever read.

        Raises `OSError` where nobody can read any more, and `ValueError` where the stream was closed.
        """
        if self._pipe is None:
            self._write_all(lines)
            return
        for line in lines:
            if len(self._kept) < KEPT_MAX:
                self._kept += line.encode("utf-8", "replace") + b"\n"
            else:
                self._dropped += 1
                self.lost += 1
        self._push(self._pipe)
        if self._dropped and not self._kept:
            self._kept += self._dropped_line(self._dropped).encode() + b"\n"
            self._dropped = 0
            self._push(self._pipe)

    def flush(self) -> None:
        """Write what was kept, as far as it is taken now. Raises what `write` does."""
        self.write(())

    @property
    def is_waiting(self) -> bool:
        """Whether something is kept for a reader that does not read."""
        return bool(self._kept)

    def _write_all(self, lines: Sequence[str]) -> None:
        try:
            self._stream.write("".join(f"{line}\n" for line in lines))
            self._stream.flush()
        except (OSError, ValueError):
            self.lost += len(lines)
            raise

    def _push(self, pipe: int) -> None:
        poll = select.poll()
        poll.register(pipe, select.POLLOUT)
        sent = 0
        try:
            while sent < len(self._kept):
                end = self._kept.rfind(b"\n", sent, sent + _PIECE) + 1 or sent + _PIECE
                with _writing:
                    if not poll.poll(0):
                        break
                    try:
                        sent += os.write(pipe, self._kept[sent:end])
                    except BlockingIOError:
                        break
        except OSError:
            self.lost += self._kept.count(b"\n", sent)
            self._kept.clear()
            raise
        del self._kept[:sent]


class LineBuffer:
    """Collects lines and writes them together: after `FLUSH_SECONDS`, or when there are `FLUSH_LINES`.

    Belongs to one thread, that of the event loop. `failed` is told when lines cannot be written, once until they can be
    again, and `lost` how many nobody will read.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        failed: Callable[[Exception], None],
        lost: Callable[[int], None] = lambda _: None,
        dropped: Callable[[int], str] = in_words,
    ) -> None:
        self._sink = LineSink(stream, dropped)
        self._tell_failed = failed
        self._tell_lost = lost
        self._told = 0
        self._lines: list[str] = []
        self._timer: asyncio.TimerHandle | None = None
        self._has_failed = False

    def add(self, line: str) -> None:
        """Write a line in a moment."""
        self._lines.append(line)
        if len(self._lines) >= FLUSH_LINES:
            self.flush()
            self._try_again()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._tick)

    def write(self, line: str) -> None:
        """Write a line now, after those that were collected. Needs no event loop."""
        self._lines.append(line)
        self.flush()
        self._try_again()

    def flush(self) -> None:
        """Write what was collected, now, but for what a pipe does not take."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, []
        if not lines and not self._sink.is_waiting:
            return
        try:
            self._sink.write(lines)
            self._has_failed = False
        except (OSError, ValueError) as error:
            if not self._has_failed:
                self._tell_failed(error)
            self._has_failed = True
        if self._sink.lost > self._told:
            self._tell_lost(self._sink.lost - self._told)
            self._told = self._sink.lost

    def _tick(self) -> None:
        self.flush()
        self._try_again()

    def _try_again(self) -> None:
        if self._sink.is_waiting:
            with contextlib.suppress(RuntimeError):  # no loop: the next line pushes what is kept
                self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._tick)


def _own(pipe: int) -> int | None:
    """The same pipe, opened anew so that a write to it never waits: another process may have filled it since the look.

    The one there is has to stay as it is, being shared with others. None where it cannot be opened: it is another
    user's, a socket, or nobody reads it any more.
    """
    try:
        return os.open(f"/proc/self/fd/{pipe}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None


def _pipe_of(stream: TextIO) -> int | None:
    """The descriptor of a stream that is a pipe or a socket; a file or a terminal does not stall for long."""
    try:
        descriptor = stream.fileno()
        mode = os.fstat(descriptor).st_mode
    except (OSError, ValueError, UnsupportedOperation):
        return None
    return descriptor if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) else None
