"""Pushed archives: received, checked without being unpacked, and published."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import BinaryIO

from packregistry.auth import Actor, denied
from packregistry.auth.rights import Action
from packregistry.changes import Published
from packregistry.config import Limits
from packregistry.errors import DigestInvalidError, ManifestInvalidError, PackInvalidError
from packregistry.inspection import Inspection, inspect
from packregistry.model import Descriptor, Digest, Origin, PackName, Tag, problem_json
from packregistry.pack import METADATA_FILES, Reading, lint
from packregistry.receive import received
from packregistry.registry import Incoming, Registry


@dataclass(frozen=True, slots=True)
class Terms:
    """Who pushes, and what they insist on; see `changes.Author`."""

    by: Actor
    force: bool = False
    message: str = ""
    skip_digest_check: bool = False


@dataclass(frozen=True, slots=True)
class Manifest:
    """A client's own manifest: which release it is for, its bytes, and the blobs that only it refers to."""

    name: PackName
    tag: Tag
    body: bytes
    extra: tuple[Descriptor, ...]


class Pushes:
    """Takes archives into one registry. A few are checked at once; the others wait on disk, not in memory."""

    def __init__(self, registry: Registry, limits: Limits) -> None:
        self._registry = registry
        self._limits = limits
        self._threads = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="pushes")

    async def close(self) -> None:
        """Wait for what is being checked."""
        await asyncio.to_thread(self._threads.shutdown)

    async def push(self, body: AsyncIterator[bytes], terms: Terms, digest: Digest | None) -> Published:
        """Receive an archive and publish the pack in it; the pack says its name and version itself.

        Raises `DigestInvalidError` where it is not what `digest` says, `SizeInvalidError`, and what `Registry.publish`
        raises. Whatever goes wrong, nothing is left.
        """
        with self._registry.storage.stage() as staged:
            found, size = await received(body, staged.file, self._limits.archive)
            check_digest(digest, found)
            reading, inspection = await self._check(staged.file, size)
            incoming = Incoming(reading, inspection.files, inspection.members, staged, found, size)
            return await self._publish(incoming, terms)

    async def publish_stored(self, archive: Descriptor, manifest: Manifest, terms: Terms) -> Published:
        """Publish a pack whose archive was uploaded before, under a client's own manifest.

        Raises `PackInvalidError` where the pack is another than the manifest is for, `ManifestInvalidError` where a
        layer is called as one of its files and is another, `DeniedError` where it is there under another manifest that
        the pusher may not replace, and what `push` raises.
        """
        opened = await self._registry.storage.open_blob(archive.digest)
        try:
            assert opened.descriptor is not None
            with os.fdopen(os.dup(opened.descriptor), "rb", buffering=0) as file:
                reading, inspection = await self._check(file, opened.size)
        finally:
            opened.close()
        if not reading.errors and (reading.name, reading.tag) != (manifest.name, manifest.tag):
            raise PackInvalidError(
                f"the archive is of {reading.name}:{reading.tag}, not of {manifest.name}:{manifest.tag}",
                detail=[problem_json(problem) for problem in reading.problems],
                remedy="push it under the name and version that its pack.json has",
            )
        if not reading.errors:
            _check_titles(manifest.extra, inspection.files)
        incoming = Incoming(
            reading,
            inspection.files,
            inspection.members,
            None,
            archive.digest,
            opened.size,
            manifest.body,
            manifest.extra,
        )
        published = await self._publish(incoming, terms)
        if published.release.manifest.digest != Digest.of(manifest.body):
            # The same archive is there under another manifest, which only an overwrite replaces.
            raise denied(terms.by.name, Action.OVERWRITE, manifest.name)
        return published

    async def _check(self, file: BinaryIO, size: int) -> tuple[Reading, Inspection]:
        return await asyncio.get_running_loop().run_in_executor(self._threads, check, file, size, self._limits)

    async def _publish(self, incoming: Incoming, terms: Terms) -> Published:
        return await self._registry.publish(
            incoming,
            origin=Origin("push"),
            by=terms.by,
            message=terms.message,
            force=terms.force,
            skip_digest_check=terms.skip_digest_check,
        )


def check(file: BinaryIO, size: int, limits: Limits) -> tuple[Reading, Inspection]:
    """Inspect the archive in `file` and lint the pack in it; the problems of both are the reading's."""
    file.seek(0)
    inspection = inspect(file, size, limits, METADATA_FILES)
    reading = lint(inspection.files, {member.path: member.size for member in inspection.members})
    # Of an archive that could not be read to its end, linting would only say what is missing.
    problems = (*inspection.problems, *reading.problems) if inspection.complete else inspection.problems
    return replace(reading, problems=tuple(dict.fromkeys(problems))), inspection


def _check_titles(layers: Sequence[Descriptor], files: Mapping[str, bytes]) -> None:
    """Make sure that nobody is shown other values, or another README, than those that the archive has."""
    for layer in layers:
        if layer.title in METADATA_FILES and layer.digest != Digest.of(files.get(layer.title, b"")):
            raise ManifestInvalidError(
                f"the manifest's layer {layer.title} is not the file of that name in the archive",
                detail={"title": layer.title, "digest": layer.digest},
                remedy="refer to the file as it is in the archive, or to none",
            )


def check_digest(expected: Digest | None, found: Digest) -> None:
    """Make sure that a body is what it was said to be. Raises `DigestInvalidError`."""
    if expected is not None and expected != found:
        raise DigestInvalidError(
            "the body is not what its digest says",
            detail={"expected": expected, "received": found},
            remedy="it was damaged on its way, or the digest is of something else: send it again",
        )
