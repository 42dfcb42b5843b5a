"""A downloaded archive, unpacked where nobody ever sees half of it.

An archive is somebody else's work, whatever its digest: each member is checked before a byte of it is written, and one
that is wrong refuses the whole. Files and directories are all there may be, each once, with plain relative paths. Of
modes only the executable bit is kept; owners and times are the reader's own. What there is at most says `Limits`.

Files go into a temporary directory beside the target, which one rename makes the target when all of them are there.
Everything here is synchronous and meant for a thread.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from packregistry.config import Limits
from packregistry.errors import PackInvalidError
from packregistry.failures import TargetError
from packregistry.gunzip import Gunzip
from packregistry.model import NAME_MAX, TAG_MAX, shown
from packregistry.tarstream import Entry, TarStream

_DEPTH = 64
# `limits.path` is about paths in the pack; the name of its folder comes in front.
_FOLDER_MAX = NAME_MAX + 1 + TAG_MAX


def unpack(source: BinaryIO, target: Path, limits: Limits, *, replace: bool = False) -> None:
    """Make `target` the directory that the `.tar.gz` archive in `source` holds.

    If all members lie in one top-level folder, that is it; its name is of no importance.

    Raises:
        PackInvalidError: the archive is damaged, unsafe or too large; nothing is left of it.
        TargetError: `target` exists and `replace` is not wanted, or it cannot be written.
    """
    check_free(target, replace=replace)
    with scratch(target) as temporary:
        root = temporary / "root"
        extract(source, root, limits)
        put(content_root(root), target, temporary)


def check_free(target: Path, *, replace: bool = False) -> None:
    """Raise `TargetError` where there is something at `target`, unless it is an empty directory or to be replaced."""
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise TargetError(f"{target} is in the way: it is not a directory", remedy="move it away")
    if not replace and target.is_dir() and any(target.iterdir()):
        raise TargetError(f"{target} exists and is not empty", remedy="remove it, or choose another directory")


@contextlib.contextmanager
def scratch(target: Path) -> Iterator[Path]:
    """A temporary directory beside `target`, on its file system, that is gone when the context ends.

    Any `OSError` inside becomes a `TargetError`: it is the disk that refuses.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name[:64]}.", dir=target.parent))
        try:
            yield temporary
        finally:
            shutil.rmtree(temporary)
    except OSError as error:
        raise TargetError(f"{target} cannot be written: {error.strerror}") from error


def put(directory: Path, target: Path, temporary: Path) -> None:
    """Make `directory` the target, in one step; what was there goes with the directory `temporary`."""
    old = temporary / "old"
    if target.exists():
        target.rename(old)
    try:
        directory.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise


def content_root(root: Path) -> Path:
    """The only top-level folder of what was extracted to `root`, or `root` itself where there is no such folder."""
    entries = list(root.iterdir())
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else root


def extract(source: BinaryIO, root: Path, limits: Limits) -> None:
    """Write the members of the archive in `source` below the new directory `root`.

    Raises `PackInvalidError`, and the `OSError`s of the disk.
    """
    size = source.seek(0, os.SEEK_END)
    source.seek(0)
    root.mkdir()
    places = _Places(limits)
    stream = TarStream(Gunzip(source, size, limits), limits.members)
    for entry in stream.entries():
        path = places.take(entry)
        if entry.kind == "directory":
            (root / path).mkdir(parents=True, exist_ok=True)
        else:
            _write(stream.content(), root / path, executable=entry.executable)


def _write(content: Iterator[memoryview], path: Path, *, executable: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        file = path.open("xb")
    except FileExistsError as error:
        # Only on a file system to which other letters are the same name.
        raise PackInvalidError(f"{shown(path.name)} is there twice") from error
    with file:
        for chunk in content:
            file.write(chunk)
        if executable:
            mode = os.fstat(file.fileno()).st_mode
            os.fchmod(file.fileno(), mode | (mode & 0o444) >> 2)


class _Places:
    """Where members go: each path once, none out of the root, none through a file."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._files: set[str] = set()
        self._directories: set[str] = set()

    def take(self, entry: Entry) -> str:
        """The path of a member relative to the root, `.` for the root itself. Raises `PackInvalidError`."""
        name = shown(entry.name)
        # Of a directory only its name is used, so that a set-group-ID bit, which real charts have there, is no matter.
        for message, remedy in entry.flaws if entry.kind != "directory" else ():
            raise PackInvalidError(f"{name} {message}", remedy=remedy)
        path = entry.name.removeprefix("./")
        if entry.kind == "directory":
            path = path.removesuffix("/") or "."
            if path == ".":
                return path
        parts = path.split("/")
        if any(part in {"", ".", ".."} for part in parts) or "\\" in path or not path.isprintable():
            raise PackInvalidError(f"{name} is not a plain relative path")
        if "\ufffd" in path:
            raise PackInvalidError(f"{name} is not a UTF-8 name")
        if len(path.encode()) > self._limits.path + _FOLDER_MAX or len(parts) > _DEPTH:
            raise PackInvalidError(f"{name} is too long a path", remedy=f"limits.path allows {self._limits.path} bytes")
        parents = {"/".join(parts[:count]) for count in range(1, len(parts))}
        is_file = entry.kind == "file"
        if path in self._files or (is_file and path in self._directories) or not self._files.isdisjoint(parents):
            raise PackInvalidError(f"{name} is there twice")
        self._directories |= parents
        (self._files if is_file else self._directories).add(path)
        return path
