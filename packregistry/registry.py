"""All policy of the registry, and no HTTP: publish, find, withdraw.

A pushed archive and a watched directory enter through `Registry.publish`; everything that reads goes through the
`Pack`s kept in memory, which follow the storage: `refresh` costs one look when nothing has changed.
"""

from __future__ import annotations

import asyncio
import bisect
import dataclasses
import datetime as dt
import functools
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from packregistry import archive, changes, manifests
from packregistry.auth import Actor
from packregistry.auth.rights import NOTHING
from packregistry.catalog import Pack
from packregistry.changes import Published, Removed
from packregistry.errors import (
    NameUnknownError,
    PackInvalidError,
    RecordChangedError,
    StorageUnavailableError,
    UnsupportedError,
)
from packregistry.model import (
    Descriptor,
    Digest,
    HistoryEntry,
    Member,
    Origin,
    PackName,
    PackRecord,
    Release,
    Tag,
    problem_json,
)
from packregistry.pack import Reading
from packregistry.storage import Staged, Storage

T = TypeVar("T")

DIRECTORY = Actor.system("directory")
REGISTRY = Actor.system("registry")


@dataclass(frozen=True, slots=True)
class Incoming:
    """A pack on its way in, read and checked: what linting found, its files, and the archive's staged bytes.

    Without `archive` the storage has its bytes already. `manifest` is a client's own, which is kept byte for byte in
    place of ours, with the `extra` blobs that only it refers to.
    """

    reading: Reading
    files: Mapping[str, bytes]
    members: Sequence[Member]
    archive: Staged | None
    digest: Digest
    size: int
    manifest: bytes = b""
    extra: tuple[Descriptor, ...] = ()


def utc_now() -> str:
    """The time as records keep it: UTC, ISO 8601, to the millisecond."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def unheard(_name: PackName, _entry: HistoryEntry, _by: Actor) -> None:
    """Tell nobody of a change."""


class Registry:
    """The packs of one storage.

    Args:
        storage: where they are; `open` opens it.
        can_delete: whether releases and tags can be removed at all.
        changed: is told of every entry that this process adds to a history, once it is durable.
        now: the time, as records keep it.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        can_delete: bool = True,
        changed: Callable[[PackName, HistoryEntry, Actor], None] = unheard,
        now: Callable[[], str] = utc_now,
    ) -> None:
        self.storage = storage
        self._changed = changed
        self._can_delete = can_delete
        self._now = now
        self._packs: dict[PackName, Pack] = {}
        self._names: list[PackName] = []
        self._refreshing = asyncio.Lock()
        self._writing: weakref.WeakValueDictionary[PackName, asyncio.Lock] = weakref.WeakValueDictionary()

    async def open(self) -> None:
        """Open the storage and load every record."""
        await self.storage.open()
        await self.refresh(everything=True)

    async def close(self) -> None:
        """Close the storage."""
        await self.storage.close()

    async def refresh(self, *, everything: bool = False) -> None:
        """Follow what any process has written. Returns at once when nothing has changed.

        With `everything` each record is looked at, whether or not a change was announced.
        """
        if not everything and not self.storage.stale():
            return
        async with self._refreshing:
            if not everything and not self.storage.stale():
                return
            for name, record in (await self.storage.refresh(everything=everything)).items():
                self._packs[name] = Pack(record)
            self._names = sorted(name for name, pack in self._packs.items() if pack.record.releases)

    def names(self, after: str = "", limit: int | None = None) -> list[PackName]:
        """The names of packs that have a release, sorted; those after `after`, at most `limit`."""
        start = bisect.bisect_right(self._names, after) if after else 0
        return self._names[start : None if limit is None else start + limit]

    def packs(self) -> list[Pack]:
        """The packs that have a release, sorted by name."""
        return [self._packs[name] for name in self._names]

    def pack(self, name: PackName) -> Pack:
        """The pack called `name`. Raises `NameUnknownError` where it has no release."""
        pack = self._packs.get(name)
        if pack is None and name in self.storage.damaged:
            raise StorageUnavailableError(self.storage.damaged[name], remedy="restore the record from a backup")
        if pack is None or not pack.releases:
            raise unknown_pack(name)
        return pack

    def find(self, name: PackName, tag: Tag) -> Release | None:
        """The release whose own tag is `tag`, if there is one."""
        pack = self._packs.get(name)
        return pack.record.releases.get(tag) if pack else None

    async def publish(
        self,
        incoming: Incoming,
        *,
        origin: Origin,
        by: Actor,
        message: str = "",
        force: bool = False,
        skip_digest_check: bool = False,
    ) -> Published:
        """Make a pack available, durably, and visible to every process when this returns; see `changes.publish`.

        Raises `PackInvalidError` where the pack has errors (`detail` lists every problem), and what `changes.publish`
        raises. Then the blobs that were put are nobody's, and are swept in time.
        """
        reading = incoming.reading
        if reading.errors or reading.tag is None or reading.name is None:
            raise invalid(reading)
        changes.check_publisher(by.name, by.rights(reading.name), reading.name)
        release, blobs = await asyncio.to_thread(self._assemble, incoming, reading.name, reading.tag, origin)
        await self.storage.put(blobs)
        await self.storage.keep([blob.digest for blob in release.blobs()])
        terms = changes.Author(by.name, release.published, NOTHING, message, force, skip_digest_check)
        author = functools.partial(self._author, by, reading.name, terms=terms)
        return await self._update(reading.name, by, lambda record: changes.publish(record, release, author()))

    async def withdraw(
        self,
        name: PackName,
        tags: Collection[Tag],
        *,
        by: Actor,
        message: str = "",
        origin: Origin | None = None,
    ) -> None:
        """Take releases away, with the tags that stand for nothing else; see `changes.withdraw`."""
        author = functools.partial(self._author, by, name, message)
        await self._update(name, by, lambda record: (changes.withdraw(record, tags, author(), origin), None))

    async def remove(
        self, name: PackName, tag: Tag, *, by: Actor, message: str = "", manifest: Digest | None = None
    ) -> Removed:
        """Remove the release that `tag` stands for, if it still has the `manifest` given; see `changes.remove`.

        Raises `UnsupportedError` where deletion is switched off.
        """
        self._check_deletion()
        self.pack(name)
        author = functools.partial(self._author, by, name, message)
        return await self._update(name, by, lambda record: changes.remove(record, tag, author(), manifest))

    async def tag(self, name: PackName, new: Tag, target: Tag, *, by: Actor, message: str = "") -> Release:
        """Let `new` stand for the release that `target` stands for; see `changes.tag`."""
        self.pack(name)
        author = functools.partial(self._author, by, name, message)
        return await self._update(name, by, lambda record: changes.tag(record, new, target, author()))

    async def untag(self, name: PackName, old: Tag, *, by: Actor, message: str = "") -> Removed:
        """Remove a tag; see `changes.untag`. Raises `UnsupportedError` where deletion is switched off."""
        self._check_deletion()
        self.pack(name)
        author = functools.partial(self._author, by, name, message)
        return await self._update(name, by, lambda record: changes.untag(record, old, author()))

    async def restore(self, name: PackName, wanted: Tag, entry: int | None, *, by: Actor, message: str = "") -> Release:
        """Bring back what a version held; see `changes.restore`. Also of a pack that has no release any more."""
        author = functools.partial(self._author, by, name, message)
        record, _ = await self.storage.read_record(name)
        if not record.history:
            raise unknown_pack(name)
        _, release = changes.restore(record, wanted, entry, author())
        # Before the record refers to them again: from now on no sweep takes them.
        await self.storage.keep([blob.digest for blob in release.blobs()])
        return await self._update(name, by, lambda record: changes.restore(record, wanted, entry, author()))

    async def forget(self, before: str) -> None:
        """Let go of everything that was retired before a time."""
        for name, pack in list(self._packs.items()):
            if any(item.time < before for item in pack.record.retired):
                await self._update(name, REGISTRY, lambda record: (changes.forget(record, before), None))

    def references(self, *, restorable_since: str) -> set[Digest]:
        """Every blob that a release needs, or one that was retired at that time or later."""
        return {
            blob.digest
            for pack in self._packs.values()
            for release in (
                *pack.releases,
                *(item.release for item in pack.record.retired if item.time >= restorable_since),
            )
            for blob in release.blobs()
        }

    def _check_deletion(self) -> None:
        if not self._can_delete:
            raise UnsupportedError("deletion is switched off", remedy="set storage.delete.enabled to allow it")

    def _assemble(
        self, incoming: Incoming, name: PackName, tag: Tag, origin: Origin
    ) -> tuple[Release, list[tuple[Digest, bytes | Staged]]]:
        """The release an incoming pack becomes, and its blobs. Hashes them, so it belongs in a thread."""
        reading = incoming.reading
        listing = archive.listing(incoming.members)
        packed = Descriptor(incoming.digest, incoming.size, archive.ARCHIVE_TYPE, f"{name}-{reading.version}.tar.gz")
        files = tuple(
            Descriptor(Digest.of(data), len(data), manifests.MEDIA_TYPES[title], title)
            for title, data in sorted(incoming.files.items())
        )
        manifest = incoming.manifest or manifests.pack_manifest(name, tag, packed, files)
        release = Release(
            tag=tag,
            version=reading.version,
            metadata=reading.metadata,
            archive=packed,
            content=Descriptor(Digest.of(listing), len(listing), archive.LISTING_TYPE),
            manifest=Descriptor(Digest.of(manifest), len(manifest), manifests.MANIFEST_TYPE),
            files=files,
            origin=origin,
            published=self._now(),
            problems=reading.problems,
            extra=incoming.extra,
        )
        blobs: list[tuple[Digest, bytes | Staged]] = [
            *([(packed.digest, incoming.archive)] if incoming.archive else []),
            (release.content.digest, listing),
            (release.manifest.digest, manifest),
            *((file.digest, incoming.files[file.title]) for file in files),
        ]
        return release, blobs

    def _author(
        self, by: Actor, name: PackName, message: str = "", terms: changes.Author | None = None
    ) -> changes.Author:
        """Whoever changes a record, with the rights they have now, however long what they sent was on its way."""
        terms = terms or changes.Author(by.name, self._now(), NOTHING, message)
        return dataclasses.replace(terms, rights=by.rights(name))

    async def _update(self, name: PackName, by: Actor, change: Callable[[PackRecord], tuple[PackRecord, T]]) -> T:
        """Read, change and write a record until no other writer comes between; then show it."""
        lock = self._writing.setdefault(name, asyncio.Lock())
        async with lock:
            while True:
                record, version = await self.storage.read_record(name)
                changed, result = change(record)
                if changed != record:
                    try:
                        await self.storage.write_record(changed, version)
                    except RecordChangedError:
                        continue
                known = record.history[-1].id if record.history else 0
                for entry in changed.history:
                    if entry.id > known:
                        self._changed(name, entry, by)
                await self.refresh()
                return result


def invalid(reading: Reading) -> PackInvalidError:
    """The refusal of a pack with errors, listing every problem."""
    errors = "; ".join(str(problem) for problem in reading.problems if problem.severity == "error")
    return PackInvalidError(
        f"the pack cannot be published: {errors}",
        detail=[problem_json(problem) for problem in reading.problems],
        remedy="correct it and publish again",
    )


def unknown_pack(name: PackName) -> NameUnknownError:
    """The refusal for a pack that has no release."""
    return NameUnknownError(f"no pack is called {name}", detail={"name": name})
