"""What is served and pushed: packs made from a seed, the same on every machine, and a data directory full of records.

A synthetic pack looks like a real one in what matters for speed: small files that are read by themselves, manifests
that compress, and a chart that does not.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import random
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from packregistry import archive, manifests
from packregistry.model import (
    Descriptor,
    Digest,
    HistoryEntry,
    Metadata,
    Origin,
    PackName,
    PackRecord,
    Release,
    Tag,
)

_WORDS = ("image", "replicas", "port", "name", "namespace", "template", "metadata", "selector", "labels", "container")
_FORMAT = b"1\n"
_MEMBER = 1024 * 1024


@dataclass(frozen=True, slots=True)
class File:
    """A file of a synthetic pack, in memory."""

    path: str
    content: bytes
    executable: bool = False

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return len(self.content)

    def chunks(self) -> Iterator[bytes]:
        """Yield the content."""
        yield self.content


@dataclass(frozen=True, slots=True)
class Pack:
    """A pack as a client has it: its archive, and the small files beside it."""

    name: str
    version: str
    archive: bytes
    files: Mapping[str, bytes]

    @property
    def digest(self) -> str:
        """The archive's digest."""
        return digest(self.archive)


def digest(data: bytes) -> str:
    """The digest that stands for some bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def metadata(name: str, version: str, seed: int = 0) -> dict[str, bytes]:
    """The files of a pack that are read by themselves."""
    document = {
        "name": name,
        "displayName": name.title(),
        "version": version,
        "layer": "addon",
        "addonType": "app services",
        "cloudTypes": ["all"],
        "annotations": {"source": "synthetic"},
    }
    return {
        "pack.json": json.dumps(document, indent=2).encode(),
        "values.yaml": f"pack:\n  namespace: {name}\nmanifests:\n  main:\n".encode() + yaml_text(1500, seed, indent=4),
        "README.md": f"# {name}\n\n".encode() + b"A pack that a benchmark made.\n" * 20,
        "logo.png": png(32, seed),
    }


def pack_files(name: str, version: str, size: int, seed: int = 0) -> dict[str, bytes]:
    """The files of a pack whose archive has about `size` bytes: a tenth is text, the rest does not compress."""
    small = metadata(name, version, seed)
    rest = max(size - sum(map(len, small.values())) // 2 - 1024, 256)
    return {
        **small,
        "manifests/main.yaml": yaml_text(rest // 2, seed),
        "charts/main-1.0.0.tgz": random.Random(seed).randbytes(rest - rest // 10),
    }


def make(name: str, version: str, size: int, seed: int = 0) -> Pack:
    """A pack whose archive has about `size` bytes, as a client packs it."""
    files = pack_files(name, version, size, seed)
    return Pack(name, version, packed(name, version, files), {title: files[title] for title in metadata(name, version)})


def packed(name: str, version: str, files: Mapping[str, bytes]) -> bytes:
    """The archive of some files."""
    out = io.BytesIO()
    archive.pack([File(path, data) for path, data in files.items()], f"{name}-{version}", out)
    return out.getvalue()


def write(directory: Path, name: str, version: str, files: Mapping[str, bytes]) -> Path:
    """Write a pack directory below `directory`, and return it."""
    root = directory / f"{name}-{version}"
    for path, content in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return root


def catalogue(directory: Path, count: int, size: int) -> list[str]:
    """Write `count` pack directories with archives of about `size` bytes; return their names, sorted."""
    names = [f"pack-{number:04}" for number in range(count)]
    for number, name in enumerate(names):
        write(directory, name, "1.2.3", pack_files(name, "1.2.3", size, number))
    return names


def compressible(directory: Path, count: int, size: int) -> int:
    """Write `count` pack directories of about `size` bytes that compress as real ones do; return the bytes of all.

    Real packs compress to three tenths: a quarter is noise, the rest text.
    """
    for number in range(count):
        name = f"full-{number:04}"
        files = {
            **metadata(name, "1.0.0", number),
            "charts/main-1.0.0.tgz": random.Random(number).randbytes(size // 4),
            **{f"manifests/part-{part}.yaml": yaml_text(size // 8, number * 10 + part) for part in range(6)},
        }
        write(directory, name, "1.0.0", files)
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def yaml_text(size: int, seed: int, *, indent: int = 0) -> bytes:
    """About `size` bytes of YAML, whose lines have all sorts of words and numbers."""
    rng = random.Random(seed)
    space = " " * indent
    lines: list[str] = []
    length = 0
    while length < size:
        lines.append(f"{space}{rng.choice(_WORDS)}-{len(lines)}: {rng.choice(_WORDS)}-{rng.randrange(10_000)}\n")
        length += len(lines[-1])
    return "".join(lines).encode()


def png(side: int, seed: int) -> bytes:
    """A square grey image full of noise."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rng = random.Random(seed)
    rows = b"".join(b"\0" + rng.randbytes(side) for _ in range(side))
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def large_archive(name: str, size: int, seed: int = 0) -> tuple[bytes, bytes]:
    """An archive of about `size` bytes in two parts: the second is the same for every pack, so it is kept once.

    A gzip file may consist of several members; the first has the pack's own files, the second one that is all noise.
    """
    files = metadata(name, "1.0.0", seed)
    blob = _noise(size)
    # The folder's files are sorted: `z` comes last.
    entries = [File(path, data) for path, data in files.items()]
    whole = io.BytesIO()
    archive.pack([*entries, File("z/noise.bin", b"")], f"{name}-1.0.0", whole)
    plain = zlib.decompress(whole.getvalue(), wbits=31)
    # The last header, of the empty file, gets the size of what follows in the second member.
    at = plain.index(f"{name}-1.0.0/z/noise.bin".encode())
    header = bytearray(plain[at : at + 512])
    header[124:136] = b"%011o\0" % len(blob)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return _gzipped(plain[:at] + bytes(header)), _second_member(size)


_KEPT: dict[int, tuple[bytes, bytes]] = {}


def _noise(size: int) -> bytes:
    return _large(size)[0]


def _second_member(size: int) -> bytes:
    return _large(size)[1]


def _large(size: int) -> tuple[bytes, bytes]:
    if size not in _KEPT:
        piece = random.Random(7).randbytes(_MEMBER)
        noise = piece * (size // _MEMBER)
        _KEPT[size] = noise, _gzipped(noise + b"\0" * 1024, level=0)
    return _KEPT[size]


def _gzipped(data: bytes, level: int = 6) -> bytes:
    squeeze = zlib.compressobj(level, zlib.DEFLATED, 31)
    return squeeze.compress(data) + squeeze.flush()


def release(name: str, version: str, number: int) -> tuple[Release, bytes]:
    """A release with digests of its own, and the bytes of its manifest; its other blobs are nowhere."""
    tag = Tag.of_version(version)

    def descriptor(what: str, media_type: str, title: str = "") -> Descriptor:
        return Descriptor(Digest.of(f"{name} {number} {what}".encode()), 2000, media_type, title)

    titles = ("README.md", "logo.png", "pack.json", "values.yaml")
    files = tuple(descriptor(title, manifests.MEDIA_TYPES[title], title) for title in titles)
    packed_as = descriptor("archive", archive.ARCHIVE_TYPE, f"{name}-{version}.tar.gz")
    manifest = manifests.pack_manifest(PackName.parse(name), tag, packed_as, files)
    made = Release(
        tag=tag,
        version=version,
        metadata=Metadata(name.title(), "addon", "app services", "", ("all",)),
        archive=packed_as,
        content=descriptor("listing", archive.LISTING_TYPE),
        manifest=Descriptor(Digest.of(manifest), len(manifest), manifests.MANIFEST_TYPE),
        files=files,
        origin=Origin("push"),
        published="2024-05-01T12:00:00.000Z",
    )
    return made, manifest


def records(data: Path, packs: int, versions: int) -> list[str]:
    """Fill a data directory as a server leaves it, with `packs` names of so many versions each; return the names.

    Only manifests have their bytes there: that is what there is to be asked for.
    """
    blobs, directory = data / "blobs" / "sha256", data / "packs"
    for path in (blobs, directory):
        path.mkdir(parents=True)
    (data / "format").write_bytes(_FORMAT)
    names = [f"pack-{number:05}" for number in range(packs)]
    for name in names:
        releases, history = {}, []
        for number in range(versions):
            made, manifest = release(name, f"1.{number}.0", number)
            releases[made.tag] = made
            history.append(
                HistoryEntry(number + 1, made.published, "admin", "created", made.tag, None, made.archive.digest, "")
            )
            (blobs / made.manifest.digest.hex).write_bytes(manifest)
        record = dataclasses.replace(PackRecord(PackName.parse(name)), releases=releases, history=tuple(history))
        (directory / f"{name}.json").write_bytes(record.encode())
    return names
