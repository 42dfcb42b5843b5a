"""Pack directories on disk: where they are, what is in them, and whether they have changed.

A look at a directory costs a `stat` and an `access` a file and opens none; `Tree.fingerprint` changes whenever a file
does. What is packed is every regular file below the directory, hidden ones included, but for what is not the pack's: a
`.git` directory, and entries that begin with `..`, which is where Kubernetes keeps the versions of a mounted ConfigMap.
Symbolic links are followed as long as they stay inside the pack's own directory (a ConfigMap is made of them).

Everything here is synchronous and meant for a thread.
"""

from __future__ import annotations

import errno
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
_READABLE = "make it readable for the user the registry runs as"
# More problems than anybody reads of one directory.
_PROBLEMS = 100
# When a directory changed that changes while it is looked at.
_NOW = 2**63 - 1


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
        """Yield the content; raise `DirectoryChangedError` when it is not, or not to the end, what was looked at."""
        try:
            descriptor = os.open(self.location, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb", buffering=0) as file:
                self._check(descriptor)
                left = self.size
                while left and (chunk := file.read(min(left, _CHUNK))):
                    left -= len(chunk)
                    yield chunk
                self._check(descriptor)
        except OSError as error:
            raise DirectoryChangedError(f"{self.location} cannot be read any more: {error.strerror}") from error

    def _check(self, descriptor: int) -> None:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or (found.st_size, found.st_ctime_ns) != (self.size, self.changed_ns):
            raise DirectoryChangedError(f"{self.location} changed while its pack was being read")


@dataclass(frozen=True, slots=True)
class Tree:
    """A pack directory as seen in one look.

    `fingerprint` is equal for two looks between which nothing changed, neither the files nor the limits; `changed` is
    when something last did (seconds since the epoch, by the file system's clock; far in the future when something
    changed during the look); `problems` are what keeps files of it from being packed.
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
    links to directories are followed, each directory once: where it is first found in sorted order.
    """
    search = _Search()
    search.visit(root, 0)
    return search.found, search.problems


def is_utf8(name: str) -> bool:
    """Whether a file name, as the operating system gave it, is text."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def look(root: Path, limits: Limits) -> Tree:
    """Look at the pack directory `root`. Never raises for what it finds; `Tree.problems` says what is wrong."""
    walk = _Walk(root, limits)
    walk.enter(os.fspath(root), "", ())
    walk.finish()
    digest = hashlib.sha256(repr(limits).encode())
    files = tuple(sorted(walk.files, key=lambda file: file.path))
    for file in files:
        row = f"{file.path}\0{file.size}\0{file.changed_ns}\0{file.executable}\0{file.location}\n"
        digest.update(row.encode("utf-8", "surrogateescape"))
    for problem in walk.problems:
        digest.update(str(problem).encode("utf-8", "surrogateescape"))
    return Tree(root, files, digest.hexdigest(), walk.changed_ns / 1e9, tuple(walk.problems))


class _Search:
    """One search for pack directories, with what it has found so far."""

    def __init__(self) -> None:
        self.found: list[Path] = []
        self.problems: list[tuple[Path, Problem]] = []
        self._seen: set[tuple[int, int]] = set()

    def visit(self, directory: Path, depth: int) -> None:
        """Search `directory`, which lies `depth` directories below the root and may be anything or nothing."""
        try:
            names = self._names(directory, depth)
        except OSError as error:
            # What is no longer there, or a link to nothing, is no concern; the root is.
            if depth == 0 or error.errno not in {errno.ENOENT, errno.ELOOP}:
                self._refuse(directory, f"cannot be read: {error.strerror}", _READABLE)
            return
        if (MARKER, False) in names:
            if is_utf8(os.fspath(directory)):
                self.found.append(directory)
            else:
                self._refuse(directory, "the path is not UTF-8", "rename the directory")
        elif depth == _DEPTH:
            message = f"lies more than {_DEPTH} directories deep"
            self._refuse(directory, message, "move the packs in it further up")
        else:
            for name, may_be_directory in names:
                if may_be_directory and not name.startswith("."):
                    self.visit(directory / name, depth + 1)

    def _names(self, directory: Path, depth: int) -> list[tuple[str, bool]]:
        """What is in the directory, sorted, and what of it is to be visited; nothing where that has been done."""
        status = directory.stat()
        key = (status.st_dev, status.st_ino)
        if key in self._seen or (depth and not stat.S_ISDIR(status.st_mode)):
            return []
        self._seen.add(key)
        with os.scandir(directory) as entries:
            return sorted((entry.name, self._may_be_directory(entry)) for entry in entries)

    @staticmethod
    def _may_be_directory(entry: os.DirEntry[str]) -> bool:
        """Whether to try and visit: a link may lead anywhere, and nowhere."""
        return entry.name != MARKER if entry.is_symlink() else entry.is_dir()

    def _refuse(self, directory: Path, message: str, remedy: str) -> None:
        name = os.fspath(directory).encode(errors="backslashreplace").decode()
        self.problems.append((Path(name), Problem("error", "", 0, "", message, remedy)))


class _Walk:
    """One walk over a pack directory, with what it has found so far."""

    def __init__(self, root: Path, limits: Limits) -> None:
        self._limits = limits
        self._home = os.path.realpath(root)
        self.files: list[TreeFile] = []
        self.problems: list[Problem] = []
        self.changed_ns = 0
        self._bytes = 0
        self._entries = 0
        self._full = False

    def enter(self, directory: str, relative: str, above: tuple[str, ...]) -> None:
        """Walk `directory`, whose files are at `relative` in the pack; `above` are the real paths it lies in."""
        real = os.path.realpath(directory)
        if real in above:
            self._refuse(relative, "is a link to a directory that it lies in", "remove the link")
            return
        if len(above) == _DEPTH:
            self._refuse(relative, f"lies more than {_DEPTH} directories deep", "move what is in it further up")
            return
        try:
            with os.scandir(directory) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
            self._note_change(os.stat(directory))
        except OSError as error:
            self._refuse_unreadable(relative, error, is_link=False)
            return
        for entry in entries:
            if entry.name == ".git" or entry.name.startswith(".."):
                continue
            self._count()
            if self._full:
                return
            self._add(entry, f"{relative}{entry.name}", (*above, real))

    def finish(self) -> None:
        """Check what only the whole can tell."""
        if self._bytes > self._limits.expanded:
            self._refuse(
                "", f"the files add up to {self._bytes} bytes", f"limits.expanded allows {self._limits.expanded}"
            )

    def _add(self, entry: os.DirEntry[str], path: str, above: tuple[str, ...]) -> None:
        location, is_link = entry.path, False
        try:
            is_link = entry.is_symlink()
            if is_link:
                location = os.path.realpath(location)
                if os.path.commonpath((self._home, location)) != self._home:
                    self._refuse(path, "is a link that leads out of the pack", "put a copy of the file in its place")
                    return
            status = os.stat(location)
        except OSError as error:
            self._refuse_unreadable(path, error, is_link=is_link)
            return
        if stat.S_ISDIR(status.st_mode):
            self.enter(location, path + "/", above)
        elif not stat.S_ISREG(status.st_mode):
            self._refuse(path, "is neither a file nor a directory", "remove it")
        elif not os.access(location, os.R_OK, effective_ids=os.access in os.supports_effective_ids):
            self._refuse(path, f"cannot be read: {os.strerror(errno.EACCES)}", _READABLE)
        elif self._is_good_path(path):
            self._note_change(status)
            self._bytes += status.st_size
            executable = bool(status.st_mode & 0o111)
            self.files.append(TreeFile(path, status.st_size, executable, location, status.st_ctime_ns))

    def _count(self) -> None:
        """Count an entry, and stop where there are too many: links can make a tree endless without a single file."""
        if self._entries == self._limits.members and not self._full:
            self._full = True
            message = f"there are more than {self._entries} files and directories"
            self._refuse("", message, f"limits.members allows {self._limits.members}")
        self._entries += 1

    def _is_good_path(self, path: str) -> bool:
        if not is_utf8(path):
            self._refuse(path, "the file name is not UTF-8", "rename it")
            return False
        if not path.isprintable() or "\\" in path:
            self._refuse(path, "the file name has a backslash or an unprintable character in it", "rename it")
            return False
        length = len(path.encode())
        if length > self._limits.path:
            self._refuse(path, f"the path has {length} bytes", f"limits.path allows {self._limits.path}")
            return False
        return True

    def _note_change(self, status: os.stat_result) -> None:
        self.changed_ns = max(self.changed_ns, status.st_ctime_ns)

    def _refuse_unreadable(self, path: str, error: OSError, *, is_link: bool) -> None:
        if error.errno == errno.ENOENT and not is_link:
            self.changed_ns = _NOW
        self._refuse(path, f"cannot be read: {error.strerror}", "remove the broken link" if is_link else _READABLE)

    def _refuse(self, path: str, message: str, remedy: str) -> None:
        if len(self.problems) == _PROBLEMS:
            return
        shown_path = path if path.isprintable() else shown(path)
        self.problems.append(Problem("error", shown_path, 0, "", message, remedy))
