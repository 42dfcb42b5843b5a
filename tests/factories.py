"""Packs and the things around them, made to order."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from packregistry.config import Limits
from packregistry.registry import Registry
from packregistry.sources import Sources
from packregistry.storage.filesystem import FilesystemStorage

CORPUS = Path(__file__).resolve().parents[2] / "shared" / "corpus" / "packs"


def png(width: int = 1, height: int = 1) -> bytes:
    """A grey PNG image."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = (b"\0" + b"\x80" * width) * height
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


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
async def open_registry(data: Path, *roots: Path, limits: Limits | None = None) -> AsyncIterator[Registry]:
    """A registry on a filesystem storage at `data`, with the packs below `roots` published."""
    registry = Registry(FilesystemStorage(data))
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
