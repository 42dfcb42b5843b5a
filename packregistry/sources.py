"""Watched directories: publish the packs in them that are new, replace what changed, withdraw what is gone.

The files are the truth: each look compares all of them with what the registry has, and nothing depends on having seen
an event. What was found is kept in `sources.json` in the storage's local directory, so that after a restart an
unchanged directory costs a `stat` a file, and so that every process can say what is wrong with which directory.

A directory is read only once it has been still: nothing in it changed for `settle` seconds, by the clock of its file
system or by two looks that far apart. The same goes for taking away what is gone. A root that cannot be read, or that
lost everything because another file system now lies there, withdraws nothing. A directory that was published and now
has errors keeps its last good release.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ParamSpec, TypeVar

from packregistry import archive, directory
from packregistry.config import Limits
from packregistry.directory import DirectoryChangedError, Tree
from packregistry.errors import PackInvalidError, RegistryError, ReleaseConflictError
from packregistry.model import Digest, Origin, PackName, Problem, Release
from packregistry.pack import METADATA_FILES, Reading, lint
from packregistry.registry import DIRECTORY_USER, Incoming, Registry, invalid
from packregistry.sightings import Identity, Sighting, Sightings

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger(__name__)
STATE = "sources.json"


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
        self._devices: dict[Path, int] = {}
        self._waiting: dict[object, tuple[object, float]] = {}
        self._threads = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="sources")

    async def open(self) -> bool:
        """Read what was known when the registry last ran; return whether these roots were looked at then."""
        self._state = await self._thread(Sightings.load, self._state_file)
        return set(self.roots) <= set(self._state.roots)

    async def close(self) -> None:
        """Wait for what is being read."""
        await asyncio.to_thread(self._threads.shutdown)

    async def look(self) -> Outcome:
        """Compare the directories with the registry once, and make the registry follow."""
        await self._registry.refresh()
        before = self._state
        survey = await self._thread(self._survey)
        known = {
            path: sighting
            for path, sighting in before.directories.items()
            if path in survey.trees or survey_lacks(survey, path)
        }
        for key in [key for key in self._waiting if isinstance(key, Path) and key not in survey.trees]:
            del self._waiting[key]
        news = [tree for tree in survey.trees.values() if self._is_news(tree, known.get(tree.root))]
        read = await self._read([tree for tree in news if self._is_still(tree)], known)
        winners = claims(survey.trees, known)
        published = await self._publish_all(survey, winners, known, read)
        withdrawn = await self._withdraw(survey, winners)
        duplicates = self._duplicates(survey, winners, known, before.duplicates)
        problems = {path: tuple(items) for path, items in survey.problems.items()}
        for path, items in problems.items():
            if items != before.problems.get(path):
                _log.error("%s: %s", path, "; ".join(map(str, items)))
        self._state = Sightings(tuple(self.roots), known, duplicates, problems)
        if self._state != before:
            await self._thread(self._state.save, self._state_file)
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

    def _is_news(self, tree: Tree, known: Sighting | None) -> bool:
        news = known is None or known.fingerprint != tree.fingerprint
        if not news:
            self._waiting.pop(tree.root, None)
        return news

    def _is_still(self, tree: Tree) -> bool:
        """Whether the directory has been as it is for `settle` seconds, by its own times or by our looks."""
        if self._clock() - tree.changed >= self._settle:
            self._waiting.pop(tree.root, None)
            return True
        return self._waited(tree.root, tree.fingerprint)

    def _waited(self, key: object, state: object) -> bool:
        """Whether `key` has been in this same `state` for `settle` seconds; if not, look again soon."""
        now = self._monotonic()
        before, since = self._waiting.get(key, (None, now))
        if before != state:
            since = now
        if now - since >= self._settle:
            self._waiting.pop(key, None)
            return True
        self._waiting[key] = (state, since)
        return False

    def _look_again(self, path: Path) -> None:
        self._waiting[path] = (None, self._monotonic())

    async def _read(self, trees: list[Tree], known: dict[Path, Sighting]) -> dict[Path, _Read]:
        """Read and lint directories: what is found of each is noted in `known`, those without errors are returned."""
        good = {}
        results = await asyncio.gather(
            *(self._thread(read, tree, self._limits) for tree in trees), return_exceptions=True
        )
        for tree, result in zip(trees, results, strict=True):
            if isinstance(result, DirectoryChangedError):
                self._look_again(tree.root)
                continue
            if isinstance(result, BaseException):
                raise result
            reading = result.reading
            if reading.errors or reading.name is None or reading.tag is None:
                before = known.get(tree.root)
                identity = before.identity if before else None
                _log.error("%s is not published: %s", tree.root, invalid(reading).message)
            else:
                identity = (reading.name, reading.tag)
                good[tree.root] = result
            known[tree.root] = Sighting(tree.fingerprint, identity, reading.problems)
        return good

    async def _publish_all(
        self,
        survey: _Survey,
        winners: dict[Identity, Path],
        known: dict[Path, Sighting],
        read: dict[Path, _Read],
    ) -> int:
        """Publish what was read, and what the registry lacks or has from a directory that lost its claim."""
        missing = [
            survey.trees[path]
            for identity, path in winners.items()
            if path not in read and path in survey.trees and self._is_lacking(known[path], path, identity)
        ]
        read |= await self._read([tree for tree in missing if self._is_still(tree)], known)
        wanted = [read[path] for path in winners.values() if path in read]
        done = await asyncio.gather(*(self._publish(item, known) for item in wanted))
        return sum(done)

    def _is_lacking(self, sighting: Sighting, path: Path, identity: Identity) -> bool:
        release = self._registry.find(*identity)
        if sighting.has_errors:
            return sighting.refused and release is None
        return release is None or (release.origin.kind == "directory" and release.origin.directory != os.fspath(path))

    async def _publish(self, item: _Read, known: dict[Path, Sighting]) -> bool:
        """Publish one directory; return whether that changed anything."""
        path = item.tree.root
        try:
            action = await self._pack(item)
        except DirectoryChangedError:
            known[path] = replace(known[path], fingerprint="")
            self._look_again(path)
            return False
        except (PackInvalidError, ReleaseConflictError) as error:
            problem = Problem("error", "", 0, "", error.message, error.remedy)
            known[path] = replace(known[path], problems=(*known[path].problems, problem), refused=True)
            _log.error("%s is not published: %s", path, error)
            return False
        except RegistryError as error:
            known[path] = replace(known[path], fingerprint="")
            self._look_again(path)
            _log.error("%s is not published, and will be tried again: %s", path, error)
            return False
        if action == "unchanged":
            return False
        _log.info("%s %s:%s from %s", action, item.reading.name, item.reading.tag, path)
        return True

    async def _pack(self, item: _Read) -> str:
        tree, reading = item.tree, item.reading
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
            published = await self._registry.publish(incoming, origin=origin, user=DIRECTORY_USER)
            return published.action

    async def _withdraw(self, survey: _Survey, winners: dict[Identity, Path]) -> int:
        """Withdraw releases whose directory is gone or stands for something else now."""
        count = 0
        for name, release in list(self._from_directories()):
            identity = (name, release.tag)
            origin = Path(release.origin.directory)
            if identity in winners or survey_lacks(survey, origin):
                self._waiting.pop(identity, None)
            elif origin in survey.trees or self._waited(identity, "gone"):
                message = f"{origin} " + ("is another version now" if origin in survey.trees else "is gone")
                await self._registry.withdraw(name, [release.tag], user=DIRECTORY_USER, message=message)
                _log.info("withdrew %s:%s: %s", name, release.tag, message)
                count += 1
        return count

    def _from_directories(self) -> Iterator[tuple[PackName, Release]]:
        for pack in self._registry.packs():
            for release in pack.releases:
                if release.origin.kind == "directory":
                    yield pack.name, release

    def _duplicates(
        self,
        survey: _Survey,
        winners: dict[Identity, Path],
        known: dict[Path, Sighting],
        before: Mapping[Path, Path],
    ) -> dict[Path, Path]:
        """Directory → the other one that its pack is published from."""
        duplicates = {}
        for path in survey.trees:
            sighting = known.get(path)
            if sighting and sighting.identity and winners[sighting.identity] != path:
                duplicates[path] = winners[sighting.identity]
                if before.get(path) != duplicates[path]:
                    name, tag = sighting.identity
                    _log.warning("%s is not used: %s:%s is published from %s", path, name, tag, duplicates[path])
        return duplicates

    async def _thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        call = functools.partial(function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


def claims(trees: Mapping[Path, Tree], known: Mapping[Path, Sighting]) -> dict[Identity, Path]:
    """Which directory stands for which release: the first that claims it, in the order of roots and then of paths.

    What lies where nothing can be read now keeps its claim, after all others.
    """
    winners: dict[Identity, Path] = {}
    for path in [*trees, *(path for path in known if path not in trees)]:
        sighting = known.get(path)
        if sighting and sighting.identity:
            winners.setdefault(sighting.identity, path)
    return winners


def survey_lacks(survey: _Survey, path: Path) -> bool:
    """Whether the survey cannot tell if there is a pack at `path`."""
    return any(path.is_relative_to(root) for root in survey.unread)


def read(tree: Tree, limits: Limits) -> _Read:
    """Read a directory's metadata files and lint it. Raises `DirectoryChangedError`."""
    files, large = tree.read(METADATA_FILES, limits.metadata)
    reading = lint(files, {file.path: file.size for file in tree.files})
    problems = tuple(sorted({*tree.problems, *large, *reading.problems}))
    return _Read(tree, files, replace(reading, problems=problems))
