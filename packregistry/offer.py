"""A pack directory on its way to a registry: looked at, linted and packed as the server does it with its own.

The verdict is the server's, since the code is; so what is refused here would have been refused there.
Everything here is synchronous and meant for a thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from packregistry import archive, directory
from packregistry.config import Limits
from packregistry.directory import DirectoryChangedError, Tree
from packregistry.errors import PackInvalidError
from packregistry.model import Digest, problem_json
from packregistry.pack import METADATA_FILES, Reading, lint


@dataclass(frozen=True, slots=True)
class Offer:
    """A pack directory that was read: its files, the contents of the small ones, and what linting found."""

    tree: Tree
    files: Mapping[str, bytes]
    reading: Reading

    @property
    def label(self) -> str:
        """`name:tag`, or the directory where the pack does not say what it is."""
        reading = self.reading
        return f"{reading.name}:{reading.tag}" if reading.name and reading.tag else str(self.tree.root)


def inspect(root: Path, limits: Limits) -> Offer:
    """Read and lint the pack directory `root`. Raises `DirectoryChangedError` when somebody writes to it meanwhile."""
    tree = directory.look(root, limits)
    files, large = tree.read(METADATA_FILES, limits.metadata)
    reading = lint(files, {file.path: file.size for file in tree.files})
    problems = tuple(sorted({*tree.problems, *large, *reading.problems}))
    return Offer(tree, files, replace(reading, problems=problems))


def pack(offer: Offer, out: BinaryIO, limits: Limits) -> archive.Packed:
    """Write the archive of a pack to `out`.

    Raises:
        PackInvalidError: the pack has errors (`detail` lists every problem) or is too large.
        DirectoryChangedError: somebody wrote to it meanwhile.
    """
    reading = offer.reading
    if reading.errors or reading.name is None or reading.tag is None:
        raise PackInvalidError(
            f"{offer.tree.root} cannot be published",
            detail=[problem_json(problem) for problem in reading.problems],
            remedy="correct it and push again",
        )
    packed = archive.pack(offer.tree.files, f"{reading.name}-{reading.version}", out)
    for member in packed.members:
        if member.path in offer.files and member.digest != Digest.of(offer.files[member.path]):
            raise DirectoryChangedError(f"{offer.tree.root / member.path} changed while its pack was being read")
    if packed.size > limits.archive:
        remedy = f"limits.archive allows {limits.archive}"
        raise PackInvalidError(f"the archive has {packed.size} bytes", remedy=remedy)
    return packed
