"""The values everything else speaks in: parsed at the edge, frozen, trusted inside.

`Digest`, `PackName` and `Tag` are strings that went through their `parse`; a plain `str` is not accepted where
one of them is meant. A `PackRecord` is all the registry knows of one pack name, and is what the storage replaces whole.
Times are UTC in ISO 8601, sizes are bytes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from packregistry.errors import DigestInvalidError, NameInvalidError, RegistryError, TagInvalidError

NAME_MAX = 128
TAG_MAX = 128
GROUP_SEPARATOR = "__"

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9]+(?:[._-]+[A-Za-z0-9]+)*", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*", re.ASCII)
_PARENT = re.compile(r"[0-9]+(?:\.[0-9]+)*\.x", re.ASCII)

Severity = Literal["error", "warning"]
Json = dict[str, Any]


def shown(text: str, limit: int = 80) -> str:
    """`text` as it may stand in a message or a log line: quoted, escaped to ASCII, cut after `limit` characters."""
    cut = text if len(text) <= limit else text[:limit] + "…"
    return json.dumps(cut)


class Digest(str):
    """`sha256:` and 64 lower-case hexadecimal digits."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the digest `text` is, or raise `DigestInvalidError`."""
        if not _DIGEST.fullmatch(text):
            raise DigestInvalidError(
                f"{shown(text)} is not a digest", remedy="write sha256: and 64 lower-case hexadecimal digits"
            )
        return cls(text)

    @classmethod
    def of(cls, data: bytes) -> Self:
        """Return the digest of `data`."""
        return cls("sha256:" + hashlib.sha256(data).hexdigest())

    @property
    def hex(self) -> str:
        """The 64 digits alone."""
        return self[7:]


class PackName(str):
    """What a pack is called: safe in a path, a URL and an OCI repository name (but for upper case)."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the name `text` is, or raise `NameInvalidError`."""
        if len(text) > NAME_MAX or not _NAME.fullmatch(text):
            raise NameInvalidError(
                f"{shown(text)} is not a pack name",
                remedy=f"use up to {NAME_MAX} letters, digits, '.', '_', '-', with a letter or digit at both ends",
            )
        return cls(text)


class Tag(str):
    """`[group__]label`: what a release is asked for by."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the tag `text` is, or raise `TagInvalidError`."""
        if len(text) > TAG_MAX or not _TAG.fullmatch(text):
            raise TagInvalidError(
                f"{shown(text)} is not a tag",
                remedy=f"use up to {TAG_MAX} letters, digits, '_', '.' and '-', not beginning with '.' or '-'",
            )
        return cls(text)

    @classmethod
    def of_version(cls, version: str, group: str = "") -> Self:
        """Return the tag a release of `version` in `group` has, or raise `TagInvalidError`.

        Stricter than `parse`: what the server writes into tags itself (the group separator, the `.x` of
        parent tags) may not stand in a version or a group.
        """
        if not version:
            raise TagInvalidError("a version is empty", remedy="give it a number")
        for what, text in (("version", version), ("group", group)):
            if GROUP_SEPARATOR in text or text != text.strip("_"):
                raise TagInvalidError(
                    f"{what} {shown(text)} has '{GROUP_SEPARATOR}' in it or '_' at an end",
                    remedy="'__' separates a group from a label: use '-' or '.'",
                )
        if _PARENT.fullmatch(version.lstrip("vV")):
            raise TagInvalidError(
                f"version {shown(version)} looks like a parent tag",
                remedy="the server makes tags that end in '.x' itself: give the version a number",
            )
        return cls.parse(f"{group}{GROUP_SEPARATOR}{version}" if group else version)

    @property
    def group(self) -> str:
        """The part before `__`, or an empty string."""
        head, separator, _ = self.partition(GROUP_SEPARATOR)
        return head if separator else ""

    @property
    def label(self) -> str:
        """The part after `__`, or all of it."""
        head, separator, tail = self.partition(GROUP_SEPARATOR)
        return tail if separator else head


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A blob: its address, its size, and what it is."""

    digest: Digest
    size: int
    media_type: str
    title: str = ""


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a pack: `path` is relative to the pack's folder, with `/`, in NFC or as found."""

    path: str
    size: int
    digest: Digest
    executable: bool = False


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """Something wrong with a pack: an error keeps it out, a warning does not.

    `file` is relative to the pack (empty: the pack as a whole), `line` counts from 1 (0: unknown), `field` is a
    dotted path inside the file (empty: the file as a whole).
    """

    severity: Severity
    file: str
    line: int
    field: str
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        """Render as `file:line: field: message (remedy)`, leaving out what is not known."""
        where = self.file + (f":{self.line}" if self.line else "")
        text = ": ".join(part for part in (where, self.field, self.message) if part)
        return f"{text} ({self.remedy})" if self.remedy else text


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a release came from: pushed by somebody, or a watched directory (then `directory` is its absolute path)."""

    kind: Literal["push", "directory"]
    directory: str = ""


@dataclass(frozen=True, slots=True)
class Metadata:
    """What listings and filters show of a release, from pack.json."""

    display_name: str
    layer: str
    addon_type: str = ""
    addon_sub_type: str = ""
    cloud_types: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Release:
    """One version of a pack, as published.

    `content` is the listing of the files (canonical JSON, see `archive.listing`); its digest says whether two
    archives hold the same pack, however they were compressed. `files` are the small files clients read without the
    archive, by title. `extra` are blobs that only a manifest made by a client refers to. A `hidden` release has lost
    its own tag and lives on by others.
    """

    tag: Tag
    version: str
    metadata: Metadata
    archive: Descriptor
    content: Descriptor
    manifest: Descriptor
    files: tuple[Descriptor, ...]
    origin: Origin
    published: str
    problems: tuple[Problem, ...] = ()
    extra: tuple[Descriptor, ...] = ()
    hidden: bool = False

    def blobs(self) -> tuple[Descriptor, ...]:
        """Every blob the release needs."""
        return (self.archive, self.content, self.manifest, *self.files, *self.extra)

    def file(self, title: str) -> Descriptor | None:
        """The small file called `title`, if the pack has it."""
        return next((item for item in self.files if item.title == title), None)


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One change of a pack: `before` and `after` are archive digests, absent where there was or is nothing.

    `id` counts the changes of a pack from 1.
    """

    id: int
    time: str
    user: str
    action: str
    tag: Tag
    before: Digest | None = None
    after: Digest | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class Retired:
    """A release that was replaced or removed at `time`, and can be restored for a while."""

    time: str
    release: Release


@dataclass(frozen=True, slots=True)
class PackRecord:
    """All the registry knows of one pack name; replaced whole.

    `releases` is by primary tag, `tags` maps the tags an operator added to a primary tag. Parent tags are computed,
    never stored. `history` and `retired` are oldest first.
    """

    name: PackName
    releases: Mapping[Tag, Release] = field(default_factory=dict)
    tags: Mapping[Tag, Tag] = field(default_factory=dict)
    history: tuple[HistoryEntry, ...] = ()
    retired: tuple[Retired, ...] = ()

    def encode(self) -> bytes:
        """The record as the JSON that `decode` reads; ASCII, as paths may have bytes that are no text."""
        document = {
            "format": 1,
            "name": self.name,
            "releases": [_release_json(release) for release in self.releases.values()],
            "tags": dict(self.tags),
            "history": [_compact(dataclasses.asdict(entry)) for entry in self.history],
            "retired": [{"time": item.time, **_release_json(item.release)} for item in self.retired],
        }
        return json.dumps(document, indent=1).encode()

    @classmethod
    def decode(cls, data: bytes) -> PackRecord:
        """Read what `encode` wrote. Raises `ValueError` on anything else, so that what it returns can be trusted."""
        try:
            document = json.loads(data)
            if document["format"] != 1:
                what = f"record format {shown(repr(document['format']))} is not known"
                raise ValueError(f"{what}; it was written by a newer packregistry")
            releases = {release.tag: release for release in map(_release_of, document["releases"])}
            tags = {Tag.parse(tag): Tag.parse(target) for tag, target in document["tags"].items()}
            if dangling := set(tags.values()) - set(releases):
                raise ValueError(f"there are tags for {shown(min(dangling))}, which is not there")
            name = PackName.parse(document["name"])
            retired = tuple(Retired(_text(item["time"]), _release_of(item)) for item in document["retired"])
            return cls(name, releases, tags, tuple(map(_history_of, document["history"])), retired)
        except (KeyError, TypeError, IndexError, AttributeError, RecursionError, RegistryError) as error:
            raise ValueError(f"it is not a record: {type(error).__name__}: {error}") from error


def _compact(document: Json) -> Json:
    return {key: value for key, value in document.items() if value not in (None, "", 0, ())}


def _descriptor_json(descriptor: Descriptor) -> list[Any]:
    return [descriptor.digest, descriptor.size, descriptor.media_type, descriptor.title]


def _descriptor_of(item: list[Any]) -> Descriptor:
    return Descriptor(Digest.parse(item[0]), _number(item[1]), _text(item[2]), _text(item[3]))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{shown(repr(value))} is not text")
    return value


def _number(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{shown(repr(value))} is not a number")
    return value


def _release_json(release: Release) -> Json:
    return {
        "tag": release.tag,
        "version": release.version,
        "metadata": _compact(dataclasses.asdict(release.metadata)),
        "archive": _descriptor_json(release.archive),
        "content": _descriptor_json(release.content),
        "manifest": _descriptor_json(release.manifest),
        "files": [_descriptor_json(item) for item in release.files],
        "origin": _compact(dataclasses.asdict(release.origin)),
        "published": release.published,
        "problems": [_compact(dataclasses.asdict(problem)) for problem in release.problems],
        "extra": [_descriptor_json(item) for item in release.extra],
        "hidden": release.hidden,
    }


def _release_of(item: Json) -> Release:
    metadata = item["metadata"]
    tag = Tag.parse(item["tag"])
    if tag.label != item["version"]:
        raise ValueError(f"{tag} is not a tag of version {shown(repr(item['version']))}")
    return Release(
        tag=tag,
        version=tag.label,
        metadata=Metadata(
            display_name=_text(metadata.get("display_name", "")),
            layer=_text(metadata.get("layer", "")),
            addon_type=_text(metadata.get("addon_type", "")),
            addon_sub_type=_text(metadata.get("addon_sub_type", "")),
            cloud_types=tuple(map(_text, metadata.get("cloud_types", ()))),
        ),
        archive=_descriptor_of(item["archive"]),
        content=_descriptor_of(item["content"]),
        manifest=_descriptor_of(item["manifest"]),
        files=tuple(map(_descriptor_of, item["files"])),
        origin=_origin_of(item["origin"]),
        published=_text(item["published"]),
        problems=tuple(map(problem_of, item["problems"])),
        extra=tuple(map(_descriptor_of, item["extra"])),
        hidden={False: False, True: True}[item["hidden"]],
    )


def _origin_of(item: Json) -> Origin:
    kind = item["kind"]
    if kind not in {"push", "directory"}:
        raise TypeError(f"{shown(repr(kind))} is not an origin")
    return Origin(kind, _text(item.get("directory", "")))


def problem_json(problem: Problem) -> Json:
    """A problem as JSON, without what is not known."""
    return _compact(dataclasses.asdict(problem))


def problem_of(item: Json) -> Problem:
    """Read what `problem_json` wrote. Raises `KeyError`, `TypeError` or `AttributeError` on anything else."""
    severity = item["severity"]
    if severity not in {"error", "warning"}:
        raise TypeError(f"{shown(repr(severity))} is not a severity")
    return Problem(
        severity=severity,
        file=_text(item.get("file", "")),
        line=_number(item.get("line", 0)),
        field=_text(item.get("field", "")),
        message=_text(item.get("message", "")),
        remedy=_text(item.get("remedy", "")),
    )


def _history_of(item: Json) -> HistoryEntry:
    return HistoryEntry(
        id=_number(item["id"]),
        time=_text(item["time"]),
        user=_text(item.get("user", "")),
        action=_text(item["action"]),
        tag=Tag.parse(item["tag"]),
        before=Digest.parse(item["before"]) if "before" in item else None,
        after=Digest.parse(item["after"]) if "after" in item else None,
        message=_text(item.get("message", "")),
    )
