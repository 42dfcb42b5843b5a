"""What tells other processes that records have changed, and which: a file with a line for each change.

    <generation>        random: another one means another file, whatever its inode number
    <name>              the pack whose record was replaced, or * for "look at all records"
    ...

It saves looking at all records, and it is never the truth: where it is missing, is another file, or ends within a line,
all records are looked at. So whatever goes wrong in writing it, removing it is the remedy.
"""

from __future__ import annotations

import errno
import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

EVERYTHING = "*"
SIZE_MAX = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Position:
    """How far a journal has been read, and the state of the file then. The default is "never"."""

    state: tuple[int, int, int] = (0, 0, 0)
    generation: bytes = b""
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Journal:
    """The journal at `path`, which need not exist."""

    path: Path

    def has_news(self, since: Position) -> bool:
        """Whether anything was announced since: one `stat`."""
        try:
            return _state(os.stat(self.path)) != since.state
        except OSError:
            return True

    def read(self, since: Position) -> tuple[Position, list[str] | None]:
        """The lines announced since, or `None` where everything has to be looked at."""
        try:
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                generation = file.readline()
                is_same = generation == since.generation and since.offset <= status.st_size
                offset = since.offset if is_same else len(generation)
                file.seek(offset)
                # What is appended after the `fstat` is left for the next time, when it makes the state differ.
                news = file.read(max(0, status.st_size - offset))
        except FileNotFoundError:
            return Position(), None
        state = _state(status)
        if not generation.endswith(b"\n"):
            return Position(state), None
        news = news[: news.rfind(b"\n") + 1]
        lines = news.decode("ascii", "replace").split("\n")[:-1]
        position = Position(state, generation, offset + len(news))
        unexplained = not lines and state != since.state
        return position, None if not is_same or unexplained or EVERYTHING in lines else lines

    def announce(self, line: str) -> None:
        """Append a line; where there is no space for it, remove the file. Either is news to everybody."""
        try:
            while not self._append(line):
                pass
        except OSError:
            self.path.unlink(missing_ok=True)

    def _append(self, line: str) -> bool:
        """Append to the file, unless it had to go or has gone: then there is a new one to be made."""
        with self.path.open("a+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            status = os.fstat(file.fileno())
            if not status.st_nlink:
                return False
            size = status.st_size
            if size > SIZE_MAX or (size and os.pread(file.fileno(), 1, size - 1) != b"\n"):
                self.path.unlink()
                return False
            start = b"" if size else os.urandom(8).hex().encode() + b"\n"
            data = start + line.encode() + b"\n"
            if file.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(self.path))
            return True


def _state(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns
