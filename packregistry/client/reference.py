"""What a user asks for: a pack, one of its tags, or one of its manifests by digest."""

from __future__ import annotations

from dataclasses import dataclass

from packregistry.model import Digest, PackName, Tag


@dataclass(frozen=True, slots=True)
class Reference:
    """A pack by its name, and of it a tag or the digest of a manifest, or neither."""

    name: PackName
    tag: Tag | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read `NAME`, `NAME:TAG` or `NAME@DIGEST`.

        Raises `NameInvalidError`, `TagInvalidError` and `DigestInvalidError`.
        """
        name, at, digest = text.partition("@")
        if at:
            return cls(PackName.parse(name), digest=Digest.parse(digest))
        name, colon, tag = text.partition(":")
        return cls(PackName.parse(name), Tag.parse(tag) if colon else None)

    def __str__(self) -> str:
        if self.digest:
            return f"{self.name}@{self.digest}"
        return f"{self.name}:{self.tag}" if self.tag else self.name
