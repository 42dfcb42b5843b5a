"""Watched directories: publish the packs in them that are new, replace what changed, withdraw what is gone.

The files are the truth: each look compares all of them with what the registry has, and nothing depends on having seen
an event. What was found is kept in `sources.json` in the storage's local directory, so that after a restart an
unchanged directory costs a `stat` a file, and so that every process can say what is wrong with which directory.

A directory is read only once it has been still: nothing in it changed for `settle` seconds, by the clock of its file
system or by two looks that far apart. The same goes for taking away what is gone. A root that cannot be read, or that
lost everything because another file system now lies there, withdraws nothing.

Which directory stands for a release is decided afresh by each look (`claims`): one that is fit to be published claims
what its pack.json says, any other keeps what the registry has from it. The first in the order of the roots, and then
of the paths, wins.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ParamSpec, TypeVar

from packregistry import archive, directory
from packregistry.changes import Published
from packregistry.config import Limits
from packregistry.directory import DirectoryChangedError, Tree
from packregistry.errors import PackInvalidError, RegistryError, ReleaseConflictError
from packregistry.model import Digest, Origin, PackName, Problem, Release
from packregistry.pack import METADATA_FILES, Reading, lint
from packregistry.registry import DIRECTORY, Incoming, Registry, invalid
from packregistry.sightings import Identity, Sighting, Sightings

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger(__name__)
STATE = "sources.json"
# More than this many directories at a time are not read any faster, but each needs memory.
_THREADS = 8


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a look did: how many releases it published or changed and withdrew, and whether to look again soon."""

    published: int
    withdrawn: int
    unsettled: bool


@dataclass(slots=True)
class _Survey:
    """All pack directories as they are now. What lies below `unread` is not known, so nothing there counts as gone."""

    trees: dict[Path, Tree] = field(default_factory=dict)
    problems: dict[Path, list[Problem]] = field(default_factory=dict)
    unread: list[Path] = field(default_factory=list)

    def may_have(self, path: Path) -> bool:
        """Whether there is a pack at `path`, or there is no telling."""
        return path in self.trees or any(path.is_relative_to(directory) for directory in self.unread)


@dataclass(frozen=True, slots=True)
class _Read:
    """A pack directory that was read and linted."""

    tree: Tree
    files: Mapping[str, bytes]
    reading: Reading


class Sources:
    """The watched directories of one registry. One process at a time looks at them."""

    def __init__(
        self,
        registry: Registry,
        roots: list[Path],
        limits: Limits,
        *,
        settle: float,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.roots = [Path(os.path.abspath(root)) for root in roots]
        self._registry = registry
        self._limits = limits
        self._settle = settle
        self._clock = clock
        self._monotonic = monotonic
        self._state_file = registry.storage.local / STATE
        self._state = Sightings()
        self._saved: Sightings | None = None
        self._devices: dict[Path, int] = {}
        # What has not been still for long enough: its state, and since when. What the last look found, and this one.
        self._waited: dict[object, tuple[object, float]] = {}
        self._waiting: dict[object, tuple[object, float]] = {}
        threads = min(_THREADS, os.cpu_count() or 1)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="sources")
        # Each directory being packed has a file open; while some wait for the disk, others are packed.
        self._packing = asyncio.Semaphore(2 * threads)

    async def open(self) -> bool:
        """Read what was last known of the directories; return whether all roots had been looked at then.

        To be called again before the first look where another process may have looked since.
        """
        self._state = await self._thread(Sightings.load, self._state_file)
        return set(self.roots) <= set(self._state.roots)

    async def looked(self) -> bool:
        """Whether any process has looked at directories for this registry, be they these or others."""
        return await self._thread(self._state_file.exists)

    async def close(self) -> None:
        """Wait for what is being read."""
        await asyncio.to_thread(self._threads.shutdown)

    async def look(self) -> Outcome:
        """Compare the directories with the registry once, and make the registry follow."""
        await self._registry.refresh()
        before = self._state
        survey = await self._thread(self._survey)
        self._waited, self._waiting = self._waiting, {}
        known = {path: sighting for path, sighting in before.directories.items() if survey.may_have(path)}
        news = [tree for tree in survey.trees.values() if is_news(tree, known) and self._is_still(tree)]
        read = await self._read(news, known)
        published = await self._publish_all(survey, known, read)
        winners = self._claims(survey, known)
        withdrawn = await self._withdraw(survey, winners)
        duplicates = self._duplicates(survey, winners, known)
        problems = {path: tuple(items) for path, items in survey.problems.items()}
        for path, items in problems.items():
            if items != before.problems.get(path):
                _log.error("%s: %s", path, "; ".join(map(str, items)))
        self._state = Sightings(tuple(self.roots), known, duplicates, problems)
        if self._state != self._saved:
            await self._thread(self._state.save, self._state_file)
            self._saved = self._state
        return Outcome(published, withdrawn, bool(self._waiting))

    def _survey(self) -> _Survey:
        survey = _Survey()
        for root in self.roots:
            try:
                device = root.stat().st_dev
            except OSError as error:
                remedy = "create it, or take it out of packs.directories"
                survey.problems[root] = [Problem("error", "", 0, "", f"cannot be read: {error.strerror}", remedy)]
                survey.unread.append(root)
                continue
            found, unread = directory.find_packs(root)
            for path, problem in unread:
                survey.problems.setdefault(path, []).append(problem)
                survey.unread.append(path)
            if not found and self._devices.get(root, device) != device:
                message = "another file system lies here now, with no pack in it: what was published stays"
                survey.problems[root] = [Problem("error", "", 0, "", message, "mount the old one again, or restart")]
                survey.unread.append(root)
                continue
            self._devices[root] = device
            for path in found:
                if path not in survey.trees:
                    survey.trees[path] = directory.look(path, self._limits)
        return survey

    def _is_still(self, tree: Tree) -> bool:
        """Whether the directory has been as it is for `settle` seconds, by its own times or by our looks."""
        return self._clock() - tree.changed >= self._settle or self._has_waited(tree.root, tree.fingerprint)

    def _has_waited(self, key: object, state: object) -> bool:
        """Whether `key` has been in this same `state` for `settle` seconds; if not, look again soon."""
        now = self._monotonic()
        before, since = self._waited.get(key, (None, now))
        if before != state:
            since = now
        if now - since >= self._settle:
            return True
        self._waiting[key] = (state, since)
        return False

    def _changed_meanwhile(self, path: Path, error: DirectoryChangedError) -> None:
        _log.info("%s is read again: %s", path, error)
        self._waiting[path] = (None, self._monotonic())

    async def _read(self, trees: list[Tree], known: dict[Path, Sighting]) -> dict[Path, _Read]:
        """Read and lint directories: what is found of each is noted in `known`, those without errors are returned."""
        good = {}
        results = await asyncio.gather(
            *(self._thread(read, tree, self._limits) for tree in trees), return_exceptions=True
        )
        for tree, result in zip(trees, results, strict=True):
            if isinstance(result, DirectoryChangedError):
                self._changed_meanwhile(tree.root, result)
                continue
            if isinstance(result, BaseException):
                _log.error("%s cannot be read, and will be tried again", tree.root, exc_info=result)
                continue
            reading = result.reading
            identity = (reading.name, reading.tag) if reading.name and reading.tag else None
            known[tree.root] = Sighting(tree.fingerprint, identity, reading.problems)
            if known[tree.root].claim:
                good[tree.root] = result
            else:
                _log.error("%s is not published: %s", tree.root, invalid(reading).message)
        return good

    async def _publish_all(self, survey: _Survey, known: dict[Path, Sighting], read: dict[Path, _Read]) -> int:
        """Publish what the registry lacks, or has otherwise than the directories that stand for it."""
        due = [
            survey.trees[path]
            for identity, path in self._claims(survey, known).items()
            if path in survey.trees and self._is_due(path, identity, known)
        ]
        read |= await self._read([tree for tree in due if tree.root not in read and self._is_still(tree)], known)
        done = await asyncio.gather(*(self._publish(read[tree.root], known) for tree in due if tree.root in read))
        return sum(done)

    def _is_due(self, path: Path, identity: Identity, known: Mapping[Path, Sighting]) -> bool:
        if path not in known or known[path].claim != identity:
            return False
        release = self._registry.find(*identity)
        if release is None or release.archive.digest != known[path].standing:
            return True
        return release.origin.kind == "directory" and release.origin.directory != os.fspath(path)

    async def _publish(self, item: _Read, known: dict[Path, Sighting]) -> bool:
        """Publish one directory; return whether that changed anything.

        Where that does not come to an end, nothing is known of the directory, so that the next look tries once more.
        """
        path = item.tree.root
        sighting = known.pop(path)
        try:
            published = await self._pack(item)
        except DirectoryChangedError as error:
            self._changed_meanwhile(path, error)
            return False
        except (PackInvalidError, ReleaseConflictError) as error:
            problem = Problem("error", "", 0, "", error.message, error.remedy)
            if isinstance(error, ReleaseConflictError):
                known[path] = replace(sighting, standing=error.detail["existing"], conflict=problem)
            else:
                known[path] = replace(sighting, problems=(*sighting.problems, problem))
            _log.error("%s is not published: %s", path, error)
            return False
        except (RegistryError, OSError) as error:
            _log.error("%s is not published, and will be tried again: %s", path, error)
            return False
        except Exception:  # noqa: BLE001 — logged with its traceback; one odd pack must not hold up all others
            _log.exception("%s is not published, and will be tried again", path)
            return False
        known[path] = replace(sighting, standing=published.release.archive.digest)
        if published.action == "unchanged":
            return False
        _log.info("%s %s:%s from %s", published.action, item.reading.name, item.reading.tag, path)
        return True

    async def _pack(self, item: _Read) -> Published:
        tree, reading = item.tree, item.reading
        async with self._packing:
            with self._registry.storage.stage() as staged:
                folder = f"{reading.name}-{reading.version}"
                packed = await self._thread(archive.pack, tree.files, folder, staged.file)
                for member in packed.members:
                    if member.path in item.files and member.digest != Digest.of(item.files[member.path]):
                        raise DirectoryChangedError(f"{tree.root / member.path} changed while its pack was being read")
                if packed.size > self._limits.archive:
                    remedy = f"limits.archive allows {self._limits.archive}"
                    raise PackInvalidError(f"the archive has {packed.size} bytes", remedy=remedy)
                incoming = Incoming(reading, item.files, packed.members, staged, packed.digest, packed.size)
                origin = Origin("directory", os.fspath(tree.root))
                return await self._registry.publish(incoming, origin=origin, by=DIRECTORY)

    async def _withdraw(self, survey: _Survey, winners: Mapping[Identity, Path]) -> int:
        """Withdraw releases whose directory is gone or stands for something else now."""
        count = 0
        for name, release, origin in list(self._from_directories()):
            identity = (name, release.tag)
            if identity in winners or not (origin in survey.trees or self._has_waited(identity, "gone")):
                continue
            message = f"{origin} " + ("is another version now" if origin in survey.trees else "is gone")
            try:
                await self._registry.withdraw(name, [release.tag], by=DIRECTORY, message=message, origin=release.origin)
            except RegistryError as error:
                _log.error("%s:%s is not withdrawn, and will be tried again: %s", name, release.tag, error)
                continue
            _log.info("withdrew %s:%s: %s", name, release.tag, message)
            count += 1
        return count

    def _from_directories(self) -> Iterator[tuple[PackName, Release, Path]]:
        for pack in self._registry.packs():
            for release in pack.releases:
                if release.origin.kind == "directory":
                    yield pack.name, release, Path(release.origin.directory)

    def _claims(self, survey: _Survey, known: Mapping[Path, Sighting]) -> dict[Identity, Path]:
        held: dict[Path, list[Identity]] = {}
        for name, release, path in self._from_directories():
            if survey.may_have(path):
                held.setdefault(path, []).append((name, release.tag))
        return claims(self.roots, known, held)

    def _duplicates(
        self, survey: _Survey, winners: Mapping[Identity, Path], known: Mapping[Path, Sighting]
    ) -> dict[Path, Path]:
        """Directory → the other one that its pack is published from."""
        duplicates = {}
        for path in survey.trees:
            claim = known[path].claim if path in known else None
            if claim and winners[claim] != path:
                duplicates[path] = winners[claim]
                if self._state.duplicates.get(path) != duplicates[path]:
                    _log.warning("%s is not used: %s:%s is published from %s", path, *claim, duplicates[path])
        return duplicates

    async def _thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        call = functools.partial(function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


def is_news(tree: Tree, known: Mapping[Path, Sighting]) -> bool:
    """Whether the directory is not as it was when it was last read."""
    return tree.root not in known or known[tree.root].fingerprint != tree.fingerprint


def claims(
    roots: Sequence[Path], known: Mapping[Path, Sighting], held: Mapping[Path, Sequence[Identity]]
) -> dict[Identity, Path]:
    """Which directory stands for which release: the first that claims it, in the order of `roots` and then of paths.

    A directory that is not known to be fit claims what it holds: the releases that the registry has from it.
    """

    def place(path: Path) -> tuple[int, Path]:
        return next((index for index, root in enumerate(roots) if path.is_relative_to(root)), len(roots)), path

    winners: dict[Identity, Path] = {}
    for path in sorted({*known, *held}, key=place):
        claim = known[path].claim if path in known else None
        for identity in [claim] if claim else held.get(path, []):
            winners.setdefault(identity, path)
    return winners


def read(tree: Tree, limits: Limits) -> _Read:
    """Read a directory's metadata files and lint it. Raises `DirectoryChangedError`."""
    files, large = tree.read(METADATA_FILES, limits.metadata)
    reading = lint(files, {file.path: file.size for file in tree.files})
    # To linting, what is too large to be read is missing.
    found = [problem for problem in reading.problems if problem.file not in {item.file for item in large}]
    problems = tuple(sorted({*tree.problems, *large, *found}))
    return _Read(tree, files, replace(reading, problems=problems))
