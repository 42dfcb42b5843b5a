"""Packs and the things around them, made to order."""

from __future__ import annotations

import io
import json
import random
import struct
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packregistry import archive
from packregistry.auth import Actor
from packregistry.auth.rights import ALL
from packregistry.changes import Published
from packregistry.config import Limits
from packregistry.model import Descriptor, Digest, Metadata, Origin, PackName, PackRecord, Release, Tag
from packregistry.pack import METADATA_FILES, lint
from packregistry.registry import Incoming, Registry
from packregistry.sources import Sources
from packregistry.storage import Staged
from packregistry.storage.filesystem import FilesystemStorage

ANN = Actor("ann", "basic", "192.0.2.7", lambda _: ALL)
CORPUS = Path(__file__).resolve().parents[2] / "shared" / "corpus" / "packs"


def png(width: int = 1, height: int = 1) -> bytes:
    """A grey PNG image."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = (b"\0" + b"\x80" * width) * height
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes that do not compress, the same each time."""
    return random.Random(seed).randbytes(size)


def pack_json(name: str = "hello", version: str = "1.0.0", **more: Any) -> bytes:
    """A pack.json; `more` adds to it, and `None` takes a key away."""
    document = {
        "name": name,
        "displayName": name.title(),
        "version": version,
        "layer": "addon",
        "addonType": "app services",
        "cloudTypes": ["all"],
        "annotations": {},
        **more,
    }
    return json.dumps({key: value for key, value in document.items() if value is not None}, indent=2).encode()


def pack_files(
    name: str = "hello", version: str = "1.0.0", files: Mapping[str, bytes] | None = None, **more: Any
) -> dict[str, bytes]:
    """The files of a pack without problems, by path; `files` adds and replaces, `more` goes to pack.json."""
    return {
        "pack.json": pack_json(name, version, **more),
        "values.yaml": f"pack:\n  namespace: {name}\n".encode(),
        "README.md": f"# {name}\n".encode(),
        "logo.png": png(),
        **(files or {}),
    }


def make_pack(
    parent: Path,
    name: str = "hello",
    version: str = "1.0.0",
    *,
    directory: str = "",
    files: Mapping[str, bytes] | None = None,
    **more: Any,
) -> Path:
    """Write a pack directory below `parent` (`<name>-<version>`, if not told otherwise) and return it."""
    root = parent / (directory or f"{name}-{version}")
    for path, content in pack_files(name, version, files, **more).items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return root


@asynccontextmanager
async def open_registry(data: Path, *roots: Path, limits: Limits | None = None, **more: Any) -> AsyncIterator[Registry]:
    """A registry on a filesystem storage at `data`, with the packs below `roots` published; `more` goes to it."""
    registry = Registry(FilesystemStorage(data), **more)
    await registry.open()
    try:
        if roots:
            sources = Sources(registry, list(roots), limits or Limits(), settle=0)
            await sources.open()
            await sources.look()
            await sources.close()
        yield registry
    finally:
        await registry.close()


PUSHED = Origin("push")


@dataclass(frozen=True)
class MemoryFile:
    """A file to be packed that is nowhere but in memory."""

    path: str
    content: bytes
    executable: bool = False

    @property
    def size(self) -> int:
        return len(self.content)

    def chunks(self) -> Iterator[bytes]:
        yield self.content


def incoming(files: Mapping[str, bytes], staged: Staged) -> Incoming:
    """A pack of these files, read, linted and packed into `staged`."""
    reading = lint(
        {title: files[title] for title in METADATA_FILES if title in files},
        {path: len(content) for path, content in files.items()},
    )
    packed = archive.pack(
        [MemoryFile(path, content) for path, content in files.items()], f"{reading.name}-{reading.version}", staged.file
    )
    small = {title: files[title] for title in METADATA_FILES if title in files}
    return Incoming(reading, small, packed.members, staged, packed.digest, packed.size)


def tarball(
    version: str = "1.0.0", files: Mapping[str, bytes] | None = None, name: str = "hello", **more: Any
) -> bytes:
    """The archive of a pack made by `pack_files`, as a client packs it."""
    out = io.BytesIO()
    contents = pack_files(name, version, files, **more)
    archive.pack([MemoryFile(path, data) for path, data in contents.items()], f"{name}-{version}", out)
    return out.getvalue()


async def publish(
    registry: Registry,
    name: str = "hello",
    version: str = "1.0.0",
    *,
    origin: Origin = PUSHED,
    by: Actor = ANN,
    message: str = "",
    force: bool = False,
    files: Mapping[str, bytes] | None = None,
    **more: Any,
) -> Published:
    """Publish a pack made by `pack_files`."""
    with registry.storage.stage() as staged:
        return await registry.publish(
            incoming(pack_files(name, version, files, **more), staged),
            origin=origin,
            by=by,
            message=message,
            force=force,
        )


def descriptor(content: str, title: str = "", media_type: str = "text/plain") -> Descriptor:
    """A descriptor of some bytes."""
    return Descriptor(Digest.of(content.encode()), len(content), media_type, title)


def release(version: str = "1.0.0", group: str = "", **more: Any) -> Release:
    """A release whose blobs are nowhere; `more` replaces fields."""
    tag = Tag.of_version(version, group)
    fields: dict[str, Any] = {
        "tag": tag,
        "version": version,
        "metadata": Metadata("Hello", "addon", "app services", "", ("all",)),
        "archive": descriptor(f"archive {tag}", f"hello-{version}.tar.gz", "application/gzip"),
        "content": descriptor(f"listing {tag}"),
        "manifest": descriptor(f"manifest {tag}"),
        "files": (descriptor(f"pack.json {tag}", "pack.json", "application/json"),),
        "origin": PUSHED,
        "published": "2024-05-01T12:00:00.000Z",
    }
    return Release(**{**fields, **more})


def record(name: str = "hello", *releases: Release, tags: Mapping[str, str] | None = None) -> PackRecord:
    """A record with these releases; `tags` maps added tags to the tags of releases."""
    added = {Tag(tag): Tag(target) for tag, target in (tags or {}).items()}
    return PackRecord(PackName.parse(name), {item.tag: item for item in releases}, added)
