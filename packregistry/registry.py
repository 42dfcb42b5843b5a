"""All policy of the registry, and no HTTP: publish, find, withdraw.

A pushed archive and a watched directory enter through `Registry.publish`; everything that reads goes through the
`Pack`s kept in memory, which follow the storage: `refresh` costs one look when nothing has changed.
"""

from __future__ import annotations

import asyncio
import bisect
import datetime as dt
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from packregistry import archive, manifests
from packregistry.catalog import Pack
from packregistry.errors import (
    NameUnknownError,
    PackInvalidError,
    RecordChangedError,
    ReleaseConflictError,
    StorageUnavailableError,
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

# A pack that changes hourly keeps six weeks of history; the record stays below half a megabyte.
HISTORY_MAX = 1000
DIRECTORY_USER = "directory"


@dataclass(frozen=True, slots=True)
class Incoming:
    """A pack on its way in, read and checked: what linting found, its files, and the archive's staged bytes."""

    reading: Reading
    files: Mapping[str, bytes]
    members: Sequence[Member]
    archive: Staged
    digest: Digest
    size: int


@dataclass(frozen=True, slots=True)
class Published:
    """What `publish` did: the release as it now is, and whether it is new, replaced another, or was there already."""

    release: Release
    action: Literal["created", "replaced", "unchanged"]


def utc_now() -> str:
    """The time as records keep it: UTC, ISO 8601, to the millisecond."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Registry:
    """The packs of one storage."""

    def __init__(self, storage: Storage, *, now: Callable[[], str] = utc_now) -> None:
        self.storage = storage
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
            raise NameUnknownError(f"no pack is called {name}", detail={"name": name})
        return pack

    def find(self, name: PackName, tag: Tag) -> Release | None:
        """The release whose own tag is `tag`, if there is one."""
        pack = self._packs.get(name)
        return pack.record.releases.get(tag) if pack else None

    async def publish(self, incoming: Incoming, *, origin: Origin, user: str, message: str = "") -> Published:
        """Make a pack available, durably, and visible to every process when this returns.

        The same content again is `unchanged`. Other content under an existing version replaces it only where both came
        from watched directories, whose files are the truth; otherwise it is refused.

        Raises:
            PackInvalidError: the pack has errors; `detail` lists every problem.
            ReleaseConflictError: the version exists with other content; `detail` names both digests.
        """
        reading = incoming.reading
        if reading.errors or reading.tag is None or reading.name is None:
            raise invalid(reading)
        release, blobs = await asyncio.to_thread(self._assemble, incoming, reading.name, reading.tag, origin)
        await self.storage.put(blobs)

        def change(record: PackRecord) -> tuple[PackRecord, Published]:
            before = record.releases.get(release.tag)
            if before is None:
                action: Literal["created", "replaced"] = "created"
            elif before.content.digest == release.content.digest:
                return self._keep(record, before, release)
            elif origin.kind == before.origin.kind == "directory":
                action = "replaced"
            else:
                raise conflict(record.name, before, release)
            entry = HistoryEntry(
                time=release.published,
                user=user,
                action="publish" if action == "created" else "replace",
                tag=release.tag,
                before=before.archive.digest if before else None,
                after=release.archive.digest,
                message=message,
            )
            changed = replace(record, releases={**record.releases, release.tag: release})
            return remembering(changed, [entry]), Published(release, action)

        return await self._update(reading.name, change)

    async def withdraw(self, name: PackName, tags: Collection[Tag], *, user: str, message: str = "") -> None:
        """Take releases away, with the tags that stand for nothing else. Tags that are gone already are no error."""
        now = self._now()

        def change(record: PackRecord) -> tuple[PackRecord, None]:
            gone = [release for tag, release in record.releases.items() if tag in tags]
            entries = [
                HistoryEntry(now, user, "withdraw", release.tag, before=release.archive.digest, message=message)
                for release in gone
            ]
            left = {tag: release for tag, release in record.releases.items() if tag not in tags}
            kept = {tag: target for tag, target in record.tags.items() if target in left}
            return remembering(replace(record, releases=left, tags=kept), entries), None

        await self._update(name, change)

    def _keep(self, record: PackRecord, before: Release, release: Release) -> tuple[PackRecord, Published]:
        """The same content again: nothing changes but where it comes from, or what is read in it."""
        moved = release.origin if release.origin.kind == before.origin.kind == "directory" else before.origin
        kept = replace(before, origin=moved, metadata=release.metadata, problems=release.problems)
        return replace(record, releases={**record.releases, kept.tag: kept}), Published(kept, "unchanged")

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
        manifest = manifests.pack_manifest(name, tag, packed, files)
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
        )
        blobs: list[tuple[Digest, bytes | Staged]] = [
            (packed.digest, incoming.archive),
            (release.content.digest, listing),
            (release.manifest.digest, manifest),
            *((file.digest, incoming.files[file.title]) for file in files),
        ]
        return release, blobs

    async def _update(self, name: PackName, change: Callable[[PackRecord], tuple[PackRecord, T]]) -> T:
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
                await self.refresh()
                return result


def remembering(record: PackRecord, entries: Sequence[HistoryEntry]) -> PackRecord:
    """The record with `entries` added to its history, whose oldest go once it is full."""
    return replace(record, history=(*record.history, *entries)[-HISTORY_MAX:])


def invalid(reading: Reading) -> PackInvalidError:
    """The refusal of a pack with errors, listing every problem."""
    errors = "; ".join(str(problem) for problem in reading.problems if problem.severity == "error")
    return PackInvalidError(
        f"the pack cannot be published: {errors}",
        detail=[problem_json(problem) for problem in reading.problems],
        remedy="correct it and publish again",
    )


def conflict(name: PackName, before: Release, release: Release) -> ReleaseConflictError:
    """The refusal of other content under a version that exists."""
    return ReleaseConflictError(
        f"{name}:{release.tag} exists with other content",
        detail={
            "name": name,
            "tag": release.tag,
            "existing": before.archive.digest,
            "offered": release.archive.digest,
        },
        remedy="publish it under another version",
    )
