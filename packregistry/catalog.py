"""What the registry knows of a pack, in memory: its record, and what is computed from it.

A `Pack` is made once for each state of a record and never changes, so everything in it is computed at most once.
"""

from __future__ import annotations

from functools import cached_property

from packregistry import versions
from packregistry.errors import BlobUnknownError, ManifestUnknownError
from packregistry.model import GROUP_SEPARATOR, TAG_MAX, Descriptor, Digest, PackName, PackRecord, Release, Tag, shown


class Pack:
    """A pack with its releases, tags and blobs."""

    def __init__(self, record: PackRecord) -> None:
        self.record = record
        self.name: PackName = record.name

    @cached_property
    def releases(self) -> tuple[Release, ...]:
        """All releases, newest first; of equal versions the one without a group first."""
        return tuple(
            sorted(
                sorted(self.record.releases.values(), key=lambda release: release.tag.group),
                key=lambda release: versions.version_key(release.version),
                reverse=True,
            )
        )

    @property
    def latest(self) -> Release:
        """The newest release. Only for packs that have one."""
        return self.releases[0]

    @cached_property
    def parents(self) -> dict[Tag, Tag]:
        """Parent tag → tag of the newest release it matches: `1.x` and `1.4.x`, for each group by itself.

        A version so long that its parent would not be a tag any more has none.
        """
        groups: dict[str, dict[str, Tag]] = {}
        for release in self.record.releases.values():
            if release.hidden:
                continue
            groups.setdefault(release.tag.group, {})[release.version] = release.tag
        return {
            Tag(_join(group, label)): tags[version]
            for group, tags in sorted(groups.items())
            for label, version in versions.parents(tags).items()
            if len(_join(group, label)) <= TAG_MAX
        }

    @cached_property
    def tags(self) -> dict[Tag, Tag]:
        """Every tag of the pack → the tag of the release it stands for, sorted by tag.

        A release's own tag comes before one an operator added, and that before a parent tag.
        """
        own = {tag: tag for tag, release in self.record.releases.items() if not release.hidden}
        return dict(sorted({**self.parents, **self.record.tags, **own}.items()))

    @cached_property
    def _tags_by_target(self) -> dict[Tag, list[Tag]]:
        found: dict[Tag, list[Tag]] = {}
        for tag, target in self.tags.items():
            found.setdefault(target, []).append(tag)
        return found

    def tags_of(self, release: Release) -> tuple[Tag, ...]:
        """The tags that stand for `release`, sorted."""
        return tuple(self._tags_by_target.get(release.tag, ()))

    @cached_property
    def _manifests(self) -> dict[Digest, Release]:
        return {release.manifest.digest: release for release in self.releases}

    @cached_property
    def _blobs(self) -> dict[Digest, Descriptor]:
        return {blob.digest: blob for release in self.releases for blob in release.blobs()}

    def handle(self, release: Release) -> Tag:
        """The tag to ask for a release by: its own, or if that is gone another that stands for it."""
        return next(iter(self.tags_of(release)), release.tag) if release.hidden else release.tag

    def release(self, tag: Tag) -> Release:
        """The release `tag` stands for. Raises `ManifestUnknownError`."""
        target = self.tags.get(tag)
        if target is None:
            raise ManifestUnknownError(
                f"{self.name} has no tag {shown(tag)}",
                detail={"name": self.name, "tag": tag},
                remedy=f"its newest version is {self.latest.tag}" if self.releases else "",
            )
        return self.record.releases[target]

    def release_of_manifest(self, digest: Digest) -> Release:
        """The release whose manifest has this digest. Raises `ManifestUnknownError`."""
        release = self._manifests.get(digest)
        if release is None:
            raise ManifestUnknownError(
                f"{self.name} has no manifest {digest}", detail={"name": self.name, "digest": digest}
            )
        return release

    def blob(self, digest: Digest) -> Descriptor:
        """The descriptor of a blob that a release of this pack needs. Raises `BlobUnknownError`.

        A digest alone opens nothing: what another pack holds is unknown here.
        """
        descriptor = self._blobs.get(digest)
        if descriptor is None:
            raise BlobUnknownError(f"{self.name} has no blob {digest}", detail={"name": self.name, "digest": digest})
        return descriptor


def _join(group: str, label: str) -> str:
    return f"{group}{GROUP_SEPARATOR}{label}" if group else label
