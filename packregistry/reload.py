"""Files that are read again when they change, while everything goes on with what was read before.

A `Reloadable` is a file, or a few that belong together, and what was last read from them. `Reloader` looks at all of
them again and again. What cannot be used leaves the last good state in force, is logged once, and raises a gauge until
it is put right; it is tried again at every look, because a file may become readable without looking any different.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

LOOK_SECONDS = 0.5


class ReloadError(Exception):
    """Files that cannot be used; `str()` names the file, what is wrong with it, and what to do."""


class Reloadable(Protocol):
    """Something read from files. `load` never overlaps itself."""

    @property
    def what(self) -> str:
        """What it is, as the log and the metrics name it: `users`, `certificates`."""

    def changed(self) -> bool:
        """Whether the files are others than those last looked at by `load`; a `stat` or a few, quick enough for a loop."""

    def load(self) -> None:
        """Read the files, whole, and only then put what they say in place of what was there.

        Runs in a thread. Raises `ReloadError` and changes nothing where they cannot be used.
        """


def fingerprint(*paths: Path) -> tuple[int, ...]:
    """What files look like from outside: another tuple when one is replaced, rewritten, or reached by another link.

    (device, inode, bytes, mtime in ns) of each, or (errno,) of one that cannot be seen. Take it before reading, so that
    a change while reading is seen as one afterwards.
    """
    parts: list[int] = []
    for path in paths:
        try:
            status = os.stat(path)
        except OSError as error:
            parts.append(error.errno or 0)
        else:
            parts += (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    return tuple(parts)
