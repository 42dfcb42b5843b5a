"""What may be done to a pack's record, as functions from one record to the next.

They hold the rules of publishing, tagging, removing and restoring, and touch no storage: whoever applies them reads the
record, calls one, and writes what it returns, as often as it takes. Each change adds to the history.

Which right a change takes depends on what the record holds: adding a version takes `create`, the same request on a
record that has it already `overwrite`. So it is decided here, on the very record that is replaced. All but `withdraw`,
which only the registry itself does, raise `DeniedError`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from packregistry.auth import denied
from packregistry.auth.rights import Action, Rights
from packregistry.catalog import Pack
from packregistry.errors import (
    DigestUnchangedError,
    ManifestUnknownError,
    ParameterInvalidError,
    ReleaseConflictError,
    TagInvalidError,
    WatchedReleaseError,
)
from packregistry.model import Digest, HistoryEntry, Origin, PackName, PackRecord, Release, Retired, Tag, shown

# A pack that changes hourly keeps six weeks of history; the record stays below half a megabyte.
HISTORY_MAX = 1000

# What does not say that a version had other content.
_SAME_CONTENT = frozenset({"tag", "untag", "adopt", "manifest"})


@dataclass(frozen=True, slots=True)
class Author:
    """Who changes something, when, and why; `rights` are theirs on this pack.

    `force` replaces other content under the same version and needs a message; of unchanged content it is refused,
    unless `skip_digest_check`.
    """

    user: str
    time: str
    rights: Rights
    message: str = ""
    force: bool = False
    skip_digest_check: bool = False


@dataclass(frozen=True, slots=True)
class Published:
    """What publishing did: the release as it now is, and whether it is new, replaced another, or was there already."""

    name: PackName
    release: Release
    action: Literal["created", "replaced", "unchanged"]


@dataclass(frozen=True, slots=True)
class Removed:
    """The tags that are gone, sorted, and the release that went with the last of its own, if one did."""

    tags: tuple[Tag, ...]
    release: Release | None


def check_publisher(user: str, rights: Rights, name: PackName) -> None:
    """Make sure that there is something they could publish under this name, before anybody looks what is there."""
    if rights.isdisjoint({Action.CREATE, Action.OVERWRITE}):
        raise denied(user, Action.CREATE, name)


def publish(record: PackRecord, release: Release, author: Author) -> tuple[PackRecord, Published]:
    """Add a release.

    The same content again changes nothing but what is known of it. Other content under an existing version replaces it
    where both came from watched directories, whose files are the truth, or by force.

    Raises `ReleaseConflictError` naming both digests, `DigestUnchangedError`, and `ParameterInvalidError` for a force
    without a message.
    """
    check_publisher(author.user, author.rights, record.name)
    if author.force and not author.message.strip():
        raise ParameterInvalidError("a forced push needs a message", remedy="say why with message=… (-m TEXT)")
    before = record.releases.get(release.tag)
    if before is None:
        _check(record, author, Action.CREATE)
        changed = _with(record, release)
        return _noted(changed, author, "publish", release.tag, None, release), Published(
            record.name, release, "created"
        )
    is_same = before.content.digest == release.content.digest
    if is_same and not author.force:
        return _keep(record, before, release, author)
    if is_same and not author.skip_digest_check:
        raise DigestUnchangedError(
            f"{record.name}:{release.tag} has this content already",
            detail={"name": record.name, "tag": release.tag, "existing": before.archive.digest},
            remedy="there is nothing to force; to publish it again all the same, add skipDigestCheck=true "
            "(--skip-digest-check)",
        )
    if not author.force and not release.origin.kind == before.origin.kind == "directory":
        raise conflict(record, before, release)
    _check(record, author, Action.OVERWRITE)
    changed = _retired(_with(record, release), before, author)
    return _noted(changed, author, "replace", release.tag, before, release), Published(record.name, release, "replaced")


def withdraw(record: PackRecord, tags: Collection[Tag], author: Author, origin: Origin | None = None) -> PackRecord:
    """Take away the releases whose own tags these are; those that are gone already are no error.

    With an `origin`, one that has come from elsewhere meanwhile stays.
    """
    for tag in sorted(set(tags)):
        release = record.releases.get(tag)
        if release is not None and origin in {None, release.origin}:
            record, _ = _without(record, release, author, "withdraw")
    return record


def remove(record: PackRecord, tag: Tag, author: Author, manifest: Digest | None = None) -> tuple[PackRecord, Removed]:
    """Remove the release that `tag` stands for, with all its tags.

    Raises `ManifestUnknownError`, also where it does not have the `manifest` that is given any more.
    """
    _check(record, author, Action.DELETE)
    release = Pack(record).release(tag)
    if manifest is not None and release.manifest.digest != manifest:
        raise ManifestUnknownError(
            f"{record.name}:{release.tag} has another manifest by now", detail={"digest": manifest}, remedy="look again"
        )
    _check_removable(record, release)
    return _without(record, release, author, "delete")


def tag(record: PackRecord, new: Tag, target: Tag, author: Author) -> tuple[PackRecord, Release]:
    """Let `new` stand for the release that `target` stands for now; it may have stood for another before.

    Raises `ManifestUnknownError` for an unknown target and `TagInvalidError` where `new` is another release's own tag.
    """
    check_publisher(author.user, author.rights, record.name)
    release = Pack(record).release(target)
    before = record.tags.get(new)
    if new == release.tag:
        changed = _with(record, replace(release, hidden=False))
    elif new in record.releases:
        raise TagInvalidError(f"{record.name} has a version {new}", remedy="choose another label")
    else:
        changed = replace(record, tags={**record.tags, new: release.tag})
    if changed == record:
        return record, release
    _check(record, author, Action.OVERWRITE if before else Action.CREATE)
    earlier = record.releases[before] if before else None
    return _noted(changed, author, "tag", new, earlier, release), changed.releases[release.tag]


def untag(record: PackRecord, old: Tag, author: Author) -> tuple[PackRecord, Removed]:
    """Remove one tag. The release goes with its last one; parent tags follow what is left.

    Raises `ManifestUnknownError`, and `TagInvalidError` for a parent tag.
    """
    _check(record, author, Action.DELETE)
    pack = Pack(record)
    release = pack.release(old)
    is_own = old == release.tag and not release.hidden
    if not is_own and old not in record.tags:
        raise TagInvalidError(
            f"{old} is a parent tag, which the registry maintains itself", remedy="delete the versions it stands for"
        )
    explicit = [item for item in pack.tags_of(release) if item not in pack.parents or item in record.tags]
    if explicit == [old]:
        _check_removable(record, release)
        return _without(record, release, author, "delete")
    if is_own:
        changed = _with(record, replace(release, hidden=True))
    else:
        changed = replace(record, tags={key: value for key, value in record.tags.items() if key != old})
    return _noted(changed, author, "untag", old, release, None), Removed((old,), None)


def restore(record: PackRecord, wanted: Tag, entry: int | None, author: Author) -> tuple[PackRecord, Release]:
    """Bring back what a version held after the history entry `entry`, or before its newest change.

    Raises `ManifestUnknownError` where that content is not kept any more, and `ParameterInvalidError`.
    """
    target = record.tags.get(wanted, wanted)
    current = record.releases.get(target)
    _check(record, author, Action.OVERWRITE if current else Action.CREATE)
    digest = _content_at(record, target, entry)
    if current is not None and current.archive.digest == digest:
        raise ParameterInvalidError(f"{record.name}:{target} holds that content now", detail={"digest": digest})
    found = next((item for item in reversed(record.retired) if _is(item.release, target, digest)), None)
    if found is None:
        raise ManifestUnknownError(
            f"what {record.name}:{target} held then is not kept any more",
            detail={"digest": digest, "restorable": [item.release.archive.digest for item in record.retired]},
            remedy="push it again",
        )
    release = replace(found.release, origin=Origin("push"), published=author.time, hidden=False)
    changed = replace(record, retired=tuple(item for item in record.retired if item is not found))
    changed = _with(changed, release)
    if current is not None:
        changed = _retired(changed, current, author)
    return _noted(changed, author, "restore", target, current, release), release


def forget(record: PackRecord, before: str) -> PackRecord:
    """Let go of what was retired before a time, after which it cannot be restored any more."""
    return replace(record, retired=tuple(item for item in record.retired if item.time >= before))


def conflict(record: PackRecord, before: Release, release: Release) -> ReleaseConflictError:
    """The refusal of other content under a version that exists."""
    return ReleaseConflictError(
        f"{record.name}:{release.tag} exists with other content",
        detail={
            "name": record.name,
            "tag": release.tag,
            "existing": before.archive.digest,
            "offered": release.archive.digest,
        },
        remedy="publish it under another version, or replace it with force=true and a message (--force -m TEXT)",
    )


def _keep(record: PackRecord, before: Release, release: Release, author: Author) -> tuple[PackRecord, Published]:
    """The same content again: nothing changes but where it comes from, what is read in it, and its manifest.

    That somebody takes over what came from a directory, and another manifest, takes the right to overwrite.
    """
    is_push, may_overwrite = release.origin.kind == "push", Action.OVERWRITE in author.rights
    # What somebody pushed stays when a directory with the same content goes.
    moved = before.origin if before.origin.kind == "push" or (is_push and not may_overwrite) else release.origin
    kept = replace(before, origin=moved, metadata=release.metadata, problems=release.problems)
    if is_push and may_overwrite and release.archive.digest == before.archive.digest:
        kept = replace(kept, manifest=release.manifest, extra=release.extra)
    if release.origin.kind == "push" and before.hidden:
        _check(record, author, Action.CREATE)
        kept = replace(kept, hidden=False)
        changed = _noted(_with(record, kept), author, "tag", kept.tag, None, kept)
        return changed, Published(record.name, kept, "created")
    changed = _with(record, kept)
    if is_push and before.origin.kind != kept.origin.kind:
        changed = _noted(changed, author, "adopt", kept.tag, before, kept)
    if before.manifest.digest != kept.manifest.digest:
        changed = _noted(changed, author, "manifest", kept.tag, before, kept)
    return changed, Published(record.name, kept, "unchanged")


def _check(record: PackRecord, author: Author, action: Action) -> None:
    if action not in author.rights:
        raise denied(author.user, action, record.name)


def _check_removable(record: PackRecord, release: Release) -> None:
    if release.origin.kind == "directory":
        raise WatchedReleaseError(
            f"{record.name}:{release.tag} comes from a watched directory",
            remedy="remove it from that directory: as long as it is there, the release would come back",
        )


def _content_at(record: PackRecord, target: Tag, entry: int | None) -> Digest:
    """The archive digest `target` had after the entry, or before its newest change."""
    own = [item for item in record.history if item.tag == target and item.action not in _SAME_CONTENT]
    if entry is None:
        digest = own[-1].before if own else None
    else:
        digest = next((item.after for item in own if item.id == entry), None)
    if digest is None:
        which = "before its newest change" if entry is None else f"after history entry {entry}"
        raise ParameterInvalidError(
            f"{record.name}:{shown(target)} held nothing {which}",
            detail={"entries": [item.id for item in own if item.after]},
            remedy="name an entry of its history that published something",
        )
    return digest


def _is(release: Release, tag: Tag, digest: Digest) -> bool:
    return release.tag == tag and release.archive.digest == digest


def _with(record: PackRecord, release: Release) -> PackRecord:
    return replace(record, releases={**record.releases, release.tag: release})


def _without(record: PackRecord, release: Release, author: Author, action: str) -> tuple[PackRecord, Removed]:
    pack = Pack(record)
    gone = tuple(item for item in pack.tags_of(release) if item not in pack.parents or item in record.tags)
    left = {key: value for key, value in record.releases.items() if key != release.tag}
    kept = {key: value for key, value in record.tags.items() if value != release.tag}
    changed = _retired(replace(record, releases=left, tags=kept), release, author)
    return _noted(changed, author, action, release.tag, release, None), Removed(gone, release)


def _retired(record: PackRecord, release: Release, author: Author) -> PackRecord:
    """Keep a release restorable; of the same content only the latest time counts."""
    others = [item for item in record.retired if not _is(item.release, release.tag, release.archive.digest)]
    return replace(record, retired=(*others, Retired(author.time, release)))


def _noted(
    record: PackRecord, author: Author, action: str, tag: Tag, before: Release | None, after: Release | None
) -> PackRecord:
    """The record with one more entry in its history, whose oldest go once it is full."""
    last = record.history[-1].id if record.history else 0
    entry = HistoryEntry(
        id=last + 1,
        time=author.time,
        user=author.user,
        action=action,
        tag=tag,
        before=before.archive.digest if before else None,
        after=after.archive.digest if after else None,
        message=author.message,
    )
    history: Sequence[HistoryEntry] = (*record.history, entry)
    return replace(record, history=tuple(history[-HISTORY_MAX:]))
