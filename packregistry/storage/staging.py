"""A directory of files on their way in, each locked by the process that writes it, for as long as that lives."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from packregistry.storage import Staged
from packregistry.storage.oserrors import full, is_full, translated

_log = logging.getLogger(__name__)
_MODE = 0o640


@dataclass(slots=True)
class StagedFile:
    """A locked file."""

    path: Path
    file: BinaryIO


@dataclass(frozen=True, slots=True)
class Staging:
    """The staging area in the directory `path`, which is made by its user."""

    path: Path

    @contextlib.contextmanager
    def file(self) -> Iterator[Staged]:
        """Make a file, which goes when the context ends unless it was renamed. Raises `StorageFullError`."""
        with translated(self.path):
            staged = self._make()
        try:
            yield staged
        except OSError as error:
            # Any other error may as well be of what the bytes come from.
            if is_full(error):
                raise full(self.path) from error
            raise
        finally:
            staged.path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # what has not been synced by now need not reach the disk
                staged.file.close()

    def clear(self) -> None:
        """Remove the files of processes that have ended."""
        for path in self.path.iterdir():
            if path.is_symlink() or not path.is_file():
                continue
            with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                _log.info("removing %s, left by a process that ended", path)
                path.unlink()

    def _make(self) -> StagedFile:
        while True:
            descriptor, name = tempfile.mkstemp(dir=self.path)
            file = os.fdopen(descriptor, "w+b")
            path = Path(name)
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                os.fchmod(descriptor, _MODE)
                if os.fstat(descriptor).st_nlink:
                    return StagedFile(path, file)
            except OSError:
                file.close()
                path.unlink()
                raise
            # In the moment before it was locked, it looked like a leftover to another process.
            file.close()


def sync(staged: Staged) -> None:
    """Make durable what was written to the file."""
    staged.file.flush()
    os.fsync(staged.file.fileno())
