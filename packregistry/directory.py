"""Pack directories on disk: where they are, what is in them, and whether they have changed.

A look at a directory costs a `stat` a file and opens none; `Tree.fingerprint` changes whenever a file does. What is
packed is every regular file below the directory, hidden ones included, but for what is not the pack's: a `.git`
directory, and entries that begin with `..`, which is where Kubernetes keeps the versions of a mounted ConfigMap.
Symbolic links are followed as long as they stay inside the pack's own directory (a ConfigMap is made of them).

Everything here is synchronous and meant for a thread.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from packregistry.config import Limits
from packregistry.errors import RegistryError
from packregistry.model import Problem, shown

MARKER = "pack.json"
_CHUNK = 1024 * 1024
_DEPTH = 32


class DirectoryChangedError(RegistryError):
    """A file changed while it was being read: whatever was made of the directory is to be thrown away."""

    code, status = "DIRECTORY_CHANGED", 409


@dataclass(frozen=True, slots=True)
class TreeFile:
    """A file of a pack directory, as it was when looked at."""

    path: str
    size: int
    executable: bool
    location: str
    changed_ns: int

    def chunks(self) -> Iterator[bytes]:
        """Yield the content; raise `DirectoryChangedError` when it is not what was looked at any more."""
        try:
            descriptor = os.open(self.location, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise DirectoryChangedError(f"{self.location} cannot be opened: {error.strerror}") from error
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or (found.st_size, found.st_ctime_ns) != (self.size, self.changed_ns):
                raise DirectoryChangedError(f"{self.location} changed while its pack was being read")
            left = self.size
            while left and (chunk := file.read(min(left, _CHUNK))):
                left -= len(chunk)
                yield chunk
            if left:
                raise DirectoryChangedError(f"{self.location} became shorter while its pack was being read")


@dataclass(frozen=True, slots=True)
class Tree:
    """A pack directory as seen in one look.

    `fingerprint` is equal for two looks between which nothing changed, `changed` is when something last did (seconds
    since the epoch, by the file system's clock), `problems` are what keeps files of it from being packed.
    """

    root: Path
    files: tuple[TreeFile, ...]
    fingerprint: str
    changed: float
    problems: tuple[Problem, ...]

    def read(self, titles: Sequence[str], limit: int) -> tuple[dict[str, bytes], tuple[Problem, ...]]:
        """The contents of those of `titles` that lie at the root, and a problem for each larger than `limit` bytes."""
        contents, problems = {}, []
        for file in self.files:
            if file.path not in titles:
                continue
            if file.size > limit:
                problems.append(too_large(file.path, file.size, limit))
            else:
                contents[file.path] = b"".join(file.chunks())
        return contents, tuple(problems)


def too_large(title: str, size: int, limit: int) -> Problem:
    """The problem of a metadata file of `size` bytes where `limit` are allowed."""
    return Problem("error", title, 0, "", f"the file has {size} bytes", f"limits.metadata allows {limit}")


def find_packs(root: Path) -> tuple[list[Path], list[tuple[Path, Problem]]]:
    """The pack directories below `root` (or `root` itself), sorted, and directories that could not be entered.

    A directory with a `pack.json` is a pack and is not searched further; hidden directories are not entered. Symbolic
    links to directories are followed, each directory once.
    """
    found: list[Path] = []
    problems: list[tuple[Path, Problem]] = []
    seen: set[tuple[int, int]] = set()

    def visit(directory: Path, depth: int) -> None:
        try:
            status = directory.stat()
            if (status.st_dev, status.st_ino) in seen:
                return
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(directory) as entries:
                names = sorted((entry.name, entry.is_dir()) for entry in entries)
        except OSError as error:
            remedy = "make it readable for the user the registry runs as"
            problems.append((directory, Problem("error", "", 0, "", f"cannot be read: {error.strerror}", remedy)))
            return
        if (MARKER, False) in names:
            found.append(directory)
            return
        if depth == _DEPTH:
            message = f"lies more than {_DEPTH} directories deep"
            problems.append((directory, Problem("error", "", 0, "", message, "move the packs in it further up")))
            return
        for name, is_directory in names:
            if is_directory and not name.startswith("."):
                visit(directory / name, depth + 1)

    visit(root, 0)
    return found, problems


def look(root: Path, limits: Limits) -> Tree:
    """Look at the pack directory `root`. Never raises for what it finds; `Tree.problems` says what is wrong."""
    walk = _Walk(root, limits)
    walk.enter(os.fspath(root), "", ())
    walk.finish()
    digest = hashlib.sha256()
    files = tuple(sorted(walk.files, key=lambda file: file.path))
    for file in files:
        row = f"{file.path}\0{file.size}\0{file.changed_ns}\0{file.executable}\0{file.location}\n"
        digest.update(row.encode("utf-8", "surrogateescape"))
    for problem in walk.problems:
        digest.update(str(problem).encode("utf-8", "surrogateescape"))
    return Tree(root, files, digest.hexdigest(), walk.changed_ns / 1e9, tuple(walk.problems))


class _Walk:
    """One walk over a pack directory, with what it has found so far."""

    def __init__(self, root: Path, limits: Limits) -> None:
        self._limits = limits
        self._home = os.path.realpath(root)
        self.files: list[TreeFile] = []
        self.problems: list[Problem] = []
        self.changed_ns = 0
        self._bytes = 0
        self._full = False

    def enter(self, directory: str, relative: str, above: tuple[str, ...]) -> None:
        """Walk `directory`, whose files are at `relative` in the pack; `above` are the real paths it lies in."""
        real = os.path.realpath(directory)
        if real in above or len(above) >= _DEPTH:
            self._refuse(relative, "the directory contains itself or is nested too deeply", "remove the link")
            return
        try:
            with os.scandir(directory) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
            self._note_change(os.stat(directory))
        except OSError as error:
            self._refuse(relative, f"cannot be read: {error.strerror}", "make it readable for the registry's user")
            return
        for entry in entries:
            if self._full or entry.name == ".git" or entry.name.startswith(".."):
                continue
            self._add(entry, f"{relative}{entry.name}", (*above, real))

    def finish(self) -> None:
        """Check what only the whole can tell."""
        if self._bytes > self._limits.expanded:
            self._refuse(
                "", f"the files add up to {self._bytes} bytes", f"limits.expanded allows {self._limits.expanded}"
            )

    def _add(self, entry: os.DirEntry[str], path: str, above: tuple[str, ...]) -> None:
        try:
            location = entry.path
            if entry.is_symlink():
                location = os.path.realpath(location)
                if os.path.commonpath((self._home, location)) != self._home:
                    self._refuse(path, "is a link that leads out of the pack", "put a copy of the file in its place")
                    return
            status = os.stat(location)
        except OSError as error:
            self._refuse(path, f"cannot be read: {error.strerror}", "remove the broken link, or make it readable")
            return
        if stat.S_ISDIR(status.st_mode):
            self.enter(location, path + "/", above)
        elif not stat.S_ISREG(status.st_mode):
            self._refuse(path, "is neither a file nor a directory", "remove it")
        elif self._is_good_path(path):
            self._note_change(status)
            self._bytes += status.st_size
            executable = bool(status.st_mode & 0o111)
            self.files.append(TreeFile(path, status.st_size, executable, location, status.st_ctime_ns))

    def _is_good_path(self, path: str) -> bool:
        if len(self.files) >= self._limits.members:
            self._full = True
            self._refuse(
                "", f"there are more than {len(self.files)} files", f"limits.members allows {self._limits.members}"
            )
            return False
        try:
            length = len(path.encode())
        except UnicodeEncodeError:
            self._refuse(path, "the file name is not UTF-8", "rename it")
            return False
        if not path.isprintable() or "\\" in path:
            self._refuse(path, "the file name has a backslash or a control character in it", "rename it")
            return False
        if length > self._limits.path:
            self._refuse(path, f"the path has {length} bytes", f"limits.path allows {self._limits.path}")
            return False
        return True

    def _note_change(self, status: os.stat_result) -> None:
        self.changed_ns = max(self.changed_ns, status.st_ctime_ns)

    def _refuse(self, path: str, message: str, remedy: str) -> None:
        shown_path = path if path.isprintable() else shown(path)
        self.problems.append(Problem("error", shown_path, 0, "", message, remedy))
