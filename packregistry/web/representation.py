"""Packs and releases as the JSON API shows them. Keys are spelt as in pack.json, sizes are bytes, times UTC."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from packregistry.archive import members_of
from packregistry.catalog import Pack
from packregistry.model import Json, Release, Tag, problem_json
from packregistry.pack import images, presets, values_schema

LOGO = "logo.png"


@dataclass(frozen=True, slots=True)
class View:
    """For whom something is shown: what URLs begin with, and whether they may know directories and people.

    The server's own directories are for admins; who did what, and why, for those who have said who they are themselves.
    """

    base: str
    directories: bool
    people: bool = True

    def pack_url(self, pack: Pack, *more: str) -> str:
        """The URL of a pack, or of something in it, in the JSON API."""
        return self.base + "/".join(["/api/v1/packs", pack.name, *(quote(part) for part in more)])

    def logo_url(self, pack: Pack, release: Release) -> str | None:
        """The logo as Palette links to it."""
        logo = release.file(LOGO)
        return f"{self.base}/v1/{pack.name}/blobs/{logo.digest}?type=image/png" if logo else None

    def shows(self, key: str) -> bool:
        """Whether a part of a history entry is shown."""
        return self.people or key not in {"user", "message"}

    def origin(self, release: Release) -> Json:
        """Where a release comes from."""
        fields = dataclasses.asdict(release.origin)
        return {key: value for key, value in fields.items() if value and (key == "kind" or self.directories)}


def summary(view: View, pack: Pack) -> Json:
    """A pack in a list."""
    latest = pack.latest
    return {
        "name": pack.name,
        **_metadata(latest),
        "latest": {"version": latest.version, "tag": latest.tag},
        "versionCount": len(pack.releases),
        "updated": max(release.published for release in pack.releases),
        "logoUrl": view.logo_url(pack, latest),
        "url": view.pack_url(pack),
    }


def overview(view: View, pack: Pack) -> Json:
    """A pack with its versions (newest first), tags and history (newest first)."""
    return {
        **summary(view, pack),
        "versions": [release_summary(view, pack, release) for release in pack.releases],
        "tags": [{"tag": tag, "target": target, "parent": _is_parent(pack, tag)} for tag, target in pack.tags.items()],
        "history": [
            {key: value for key, value in dataclasses.asdict(entry).items() if value and view.shows(key)}
            for entry in reversed(pack.record.history)
        ],
    }


def release_summary(view: View, pack: Pack, release: Release) -> Json:
    """A release in a list."""
    tags = pack.tags_of(release)
    return {
        "tag": release.tag,
        "version": release.version,
        "group": release.tag.group,
        **_metadata(release),
        "published": release.published,
        "origin": view.origin(release),
        "archive": {"digest": release.archive.digest, "size": release.archive.size},
        "manifest": {"digest": release.manifest.digest, "size": release.manifest.size},
        "content": {"digest": release.content.digest},
        "tags": [tag for tag in tags if not _is_parent(pack, tag)],
        "parentTags": [tag for tag in tags if _is_parent(pack, tag)],
        "problemCount": len(release.problems),
        "logoUrl": view.logo_url(pack, release),
        "url": view.pack_url(pack, "versions", pack.handle(release)),
        "archiveUrl": view.pack_url(pack, "versions", pack.handle(release), "archive"),
    }


def details(view: View, pack: Pack, release: Release, files: Mapping[str, bytes], listing: bytes) -> Json:
    """Everything there is to show of a release. Parses its files, so it belongs in a thread."""
    document = json.loads(files["pack.json"].decode("utf-8-sig"))
    values = files.get("values.yaml", b"")
    return {
        "name": pack.name,
        **release_summary(view, pack, release),
        "pack": document,
        "annotations": document.get("annotations") or {},
        "constraints": document.get("constraints") or {},
        "values": text(values),
        "readme": text(files["README.md"]) if "README.md" in files else None,
        "schema": values_schema(files.get("schema.yaml", b"")),
        "presets": presets(files.get("presets.yaml", b"")),
        "images": images(values),
        "files": [
            {
                "path": member.path,
                "size": member.size,
                "digest": member.digest,
                "executable": member.executable,
                "url": view.pack_url(pack, "versions", pack.handle(release), "files", member.path),
            }
            for member in members_of(listing)
        ],
        "problems": problems(release),
    }


def problems(release: Release) -> list[Json]:
    """What linting found, errors first."""
    return [problem_json(problem) for problem in release.problems]


def text(data: bytes) -> str:
    """A text file's content; what is not UTF-8 becomes U+FFFD, which linting has warned of."""
    return data.decode("utf-8-sig", "replace")


def matching(packs: Iterable[Pack], wanted: Mapping[str, str]) -> list[Pack]:
    """The packs whose latest release fits every filter of `wanted`; see `FILTERS`."""
    return [pack for pack in packs if all(FILTERS[key](pack, value.casefold()) for key, value in wanted.items())]


def _has_text(pack: Pack, value: str) -> bool:
    metadata = pack.latest.metadata
    return any(value in part.casefold() for part in (pack.name, metadata.display_name, metadata.addon_type))


def _has_cloud(pack: Pack, value: str) -> bool:
    clouds = {cloud.casefold() for cloud in pack.latest.metadata.cloud_types}
    return value in clouds or "all" in clouds


FILTERS = {
    "name": lambda pack, value: pack.name.casefold() == value,
    "layer": lambda pack, value: pack.latest.metadata.layer.casefold() == value,
    "addonType": lambda pack, value: pack.latest.metadata.addon_type.casefold() == value,
    "cloudType": _has_cloud,
    "q": _has_text,
}
"""The filters of a list: all ignore case; `cloudType` also finds packs for all clouds, `q` is a part of a name."""


def _is_parent(pack: Pack, tag: Tag) -> bool:
    """Whether the server made the tag. A release's own tag, or an operator's, of the same name comes before it."""
    return tag in pack.parents and tag not in pack.record.releases and tag not in pack.record.tags


def _metadata(release: Release) -> Json:
    metadata = release.metadata
    return {
        "displayName": metadata.display_name,
        "layer": metadata.layer,
        "addonType": metadata.addon_type,
        "addonSubType": metadata.addon_sub_type,
        "cloudTypes": list(metadata.cloud_types),
    }
