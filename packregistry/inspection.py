"""Pushed archives: what is in one, and everything that is wrong with it, without unpacking it.

One pass from the first byte to the last. Memory holds 64 KiB of what was read, 256 KiB of what that expands to, the
metadata files at the root and in one folder (each within `limits.metadata`), and the paths (`limits.members` times
`limits.path`). The pass ends early where going on makes no sense: the archive is damaged, or larger than a limit.

Everything here is synchronous and meant for a thread.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from packregistry.config import Limits
from packregistry.errors import PackInvalidError
from packregistry.gunzip import Gunzip
from packregistry.model import NAME_MAX, TAG_MAX, Digest, Member, Problem, shown
from packregistry.tarstream import Entry, Flaw, TarStream

MARKER = "pack.json"
PROBLEMS_MAX = 100

# `limits.path` is about paths in the pack; how long the folder's name is, is known when all has been seen.
_FOLDER_MAX = NAME_MAX + 1 + TAG_MAX
_SHOWN_MAX = 200
_HERE = re.compile(r"\A(?:\./)+")
_DRIVE = re.compile(r"[A-Za-z]:")
_MACOS = re.compile(r"\._.*|\.DS_Store|__MACOSX")
_REMEDY_NAME = "rename it"
_REMEDY_PATH = "make the archive from the directory the pack's folder lies in: tar -czf PACK.tar.gz FOLDER"


@dataclass(frozen=True, slots=True)
class Inspection:
    """What an archive holds.

    Attributes:
        files: the contents of the titles asked for that lie at the pack's root and are not too large.
        members: the pack's files, sorted by path.
        folder: the top-level folder that is the pack, or empty where the pack is at the root of the archive.
        problems: what is wrong, all of it errors; the first is what ended the pass, if something did.
        complete: whether the archive was read to its end and the pack in it was found. Otherwise nothing is to be
            concluded from a file that is not there.
    """

    files: Mapping[str, bytes]
    members: tuple[Member, ...]
    folder: str
    problems: tuple[Problem, ...]
    complete: bool


def inspect(source: BinaryIO, size: int, limits: Limits, titles: Collection[str]) -> Inspection:
    """Read the archive of `size` bytes in `source`, from where that stands to its end.

    Never raises for what it finds; an `OSError` of the source is passed on.
    `titles` are the metadata files whose contents are wanted, by their names at the pack's root.
    """
    contents = _Contents(limits, titles)
    stream = TarStream(Gunzip(source, size, limits), limits.members)
    damage = None
    try:
        if size > limits.archive:
            raise PackInvalidError(f"the archive has {size} bytes", remedy=f"limits.archive allows {limits.archive}")
        for entry in stream.entries():
            contents.add(entry, stream.content())
    except PackInvalidError as error:
        damage = _problem(stream.current, (error.message, error.remedy))
    return contents.inspection(damage)


class _Contents:
    """What has been seen of one archive so far."""

    def __init__(self, limits: Limits, titles: Collection[str]) -> None:
        self._limits = limits
        self._titles = titles
        self._problems: list[Problem] = []
        self._left_out = 0
        self._files: list[Member] = []
        self._paths: list[tuple[str, bool]] = []
        self._kept: dict[str, dict[str, bytes]] = {"": {}}

    def add(self, entry: Entry, content: Iterator[memoryview]) -> None:
        """Take a member, and its content where it is a file of a pack."""
        path = _relative(entry)
        is_root = path == "." and entry.kind == "directory"
        flaws = () if is_root else tuple(self._path_flaws(path))
        for flaw in (*entry.flaws, *flaws):
            self._refuse(entry.name, flaw)
        if flaws or is_root:
            return
        self._paths.append((path, entry.kind == "directory"))
        if entry.kind != "file":
            return
        keep = self._keep(path, entry.size)
        digest = hashlib.sha256()
        chunks = []
        for chunk in content:
            digest.update(chunk)
            if keep is not None:
                chunks.append(bytes(chunk))
        self._files.append(Member(path, entry.size, Digest("sha256:" + digest.hexdigest()), entry.executable))
        if keep is not None:
            keep[path.rpartition("/")[2]] = b"".join(chunks)

    def inspection(self, damage: Problem | None) -> Inspection:
        """What was found, and what only the whole can tell; `damage` is what kept the rest from being seen."""
        for path, flaw in _collisions(self._paths):
            self._refuse(path, flaw)
        folder = self._folder(complete=damage is None)
        inside = f"{folder}/" if folder else ""
        members = [
            dataclasses.replace(file, path=file.path.removeprefix(inside))
            for file in self._files
            if file.path.startswith(inside)
        ]
        members.sort(key=lambda member: member.path)
        for member in members:
            self._check(member)
        return Inspection(
            files=self._kept.get(folder or "", {}),
            members=tuple(members),
            folder=folder or "",
            problems=self._all(damage, inside),
            complete=damage is None and folder in self._kept,
        )

    def _path_flaws(self, path: str) -> Iterator[Flaw]:
        if (length := len(path.encode())) > self._limits.path + _FOLDER_MAX:
            yield f"the path has {length} bytes", f"limits.path allows {self._limits.path}"
            return
        parts = path.split("/")
        if ".." in parts:
            yield "the path has '..' in it", _REMEDY_PATH
        if path.startswith("/") or _DRIVE.match(path):
            yield "the path is absolute", _REMEDY_PATH
        elif "" in parts or "." in parts:
            yield "the path has an empty component or '.' in it", _REMEDY_PATH
        if "\ufffd" in path:
            yield "the file name is not UTF-8", _REMEDY_NAME
        if not path.isprintable() or "\\" in path:
            yield "the file name has a backslash or a control character in it", _REMEDY_NAME

    def _keep(self, path: str, size: int) -> dict[str, bytes] | None:
        """Where to keep the content of a file that may be a metadata file; nowhere where it cannot be.

        Those at the root and those of one folder are kept, so that many folders do not fill the memory.
        """
        folder, _, title = path.rpartition("/")
        if title not in self._titles or size > self._limits.metadata:
            return None
        if "/" not in folder and len(self._kept) < 2:
            self._kept.setdefault(folder, {})
        return self._kept.get(folder)

    def _folder(self, *, complete: bool) -> str | None:
        """The folder that is the pack, empty where it is the root; None, and a problem, where there is no pack."""
        tops = sorted({path.partition("/")[0] for path, _ in self._paths})
        files = {file.path for file in self._files}
        if MARKER in files:
            return ""
        packs = [top for top in tops if f"{top}/{MARKER}" in files]
        if not complete:
            return packs[0] if len(packs) == 1 else None
        if not packs:
            deep = min((path for path in files if path.endswith(f"/{MARKER}")), key=len, default="")
            hint = f"; there is one in {shown(deep.rpartition('/')[0])}" if deep else ""
            message = f"there is no {MARKER}, neither at the root of the archive nor in a single folder there{hint}"
            self._refuse("", (message, _REMEDY_PATH))
            return None
        if len(packs) > 1:
            message = f"there are {len(packs)} packs in the archive: {shown(packs[0])}, {shown(packs[1])}"
            self._refuse("", (f"{message}{', …' if len(packs) > 2 else ''}", "push each in an archive of its own"))
            return None
        for top in tops:
            if top != packs[0]:
                remedy = "set COPYFILE_DISABLE=1 for tar on macOS" if _MACOS.fullmatch(top) else "leave it out"
                self._refuse(top, (f"lies beside the pack's folder {shown(packs[0])}", remedy))
        return packs[0]

    def _check(self, member: Member) -> None:
        if (length := len(member.path.encode())) > self._limits.path:
            self._refuse(member.path, (f"the path has {length} bytes", f"limits.path allows {self._limits.path}"))
        if member.path in self._titles and member.size > self._limits.metadata:
            remedy = f"limits.metadata allows {self._limits.metadata}"
            self._refuse(member.path, (f"the file has {member.size} bytes", remedy))

    def _refuse(self, name: str, flaw: Flaw) -> None:
        if len(self._problems) < PROBLEMS_MAX:
            self._problems.append(_problem(name, flaw))
        else:
            self._left_out += 1

    def _all(self, damage: Problem | None, inside: str) -> tuple[Problem, ...]:
        """The problems, with paths in the pack; of too many the last one says how many are left out."""
        problems = [
            dataclasses.replace(problem, file=problem.file.removeprefix("./").removeprefix(inside))
            for problem in ([damage] if damage else []) + self._problems
        ]
        total = len(problems) + self._left_out
        if total <= PROBLEMS_MAX:
            return tuple(problems)
        message = f"{total - PROBLEMS_MAX + 1} more problems are not listed"
        return (*problems[: PROBLEMS_MAX - 1], _problem("", (message, "mend the ones above first")))


def _problem(name: str, flaw: Flaw) -> Problem:
    readable = name if name.isprintable() and len(name) <= _SHOWN_MAX else shown(name, _SHOWN_MAX)
    return Problem("error", readable, 0, "", *flaw)


def _relative(entry: Entry) -> str:
    """A member's path: without `./` in front and, of a directory, without `/` at the end; `.` is the archive's root."""
    is_marked = entry.kind == "directory" and entry.name.endswith("/") and entry.name != "/"
    return _HERE.sub("", entry.name[:-1] if is_marked else entry.name)


def _collisions(paths: Iterable[tuple[str, bool]]) -> Iterator[tuple[str, Flaw]]:
    """What cannot lie side by side in a directory, given paths and whether each is a directory.

    Sorted by what a file system that ignores case sees, with the separator before all else, a path stands right before
    those below it, and paths that share a folder stand together: comparing neighbours finds everything.
    """
    ordered = sorted((_folded(path), path, directory) for path, directory in paths)
    before_key = before = file_key = file = ""
    for key, path, directory in ordered:
        if key == before_key and path == before:
            yield path, ("is in the archive more than once", "leave one of them out")
        elif other := _likeness(before_key, before, key, path):
            yield path, (f"differs from {shown(other)} only in case or in how Unicode is written", _REMEDY_NAME)
        if file and key.startswith(file_key + "\0"):
            yield path, (f"lies in {shown(file)}, which is not a directory", "rename one of them")
        elif not directory:
            file_key, file = key, path
        before_key, before = key, path


def _folded(path: str) -> str:
    folded = (
        path.lower() if path.isascii() else unicodedata.normalize("NFC", unicodedata.normalize("NFD", path).casefold())
    )
    return folded.replace("/", "\0")


def _likeness(before_key: str, before: str, key: str, path: str) -> str:
    """As much of `before` as is the same as `path` when folded, if it is not so as it stands; otherwise nothing."""
    shared = 0
    for one, other in zip(before_key.split("\0"), key.split("\0"), strict=False):
        if one != other:
            break
        shared += 1
    head = "/".join(before.split("/")[:shared])
    return head if head != "/".join(path.split("/")[:shared]) else ""
