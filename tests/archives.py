"""Archives as nobody should write them: tar headers and gzip members put together by hand."""

from __future__ import annotations

import gzip
from typing import Any

from tests.factories import pack_files

USTAR = b"ustar\x0000"
GNU = b"ustar  \0"
V7 = bytes(8)
END = bytes(1024)


def header(
    name: bytes | str,
    *,
    kind: bytes = b"0",
    size: int | bytes = 0,
    mode: int | bytes = 0o644,
    prefix: bytes = b"",
    magic: bytes = USTAR,
    at: dict[int, bytes] | None = None,
    checksum: bytes = b"",
) -> bytes:
    """A header block. Numbers may be given as the bytes of their field, `at` puts bytes wherever one likes."""
    block = bytearray(512)
    raw = name.encode() if isinstance(name, str) else name
    block[: len(raw)] = raw
    block[100:108] = mode if isinstance(mode, bytes) else b"%07o\0" % mode
    block[108:124] = b"0000000\0" * 2
    block[124:136] = size if isinstance(size, bytes) else b"%011o\0" % size
    block[136:148] = b"00000000000\0"
    block[156:157] = kind
    block[257:265] = magic
    block[345 : 345 + len(prefix)] = prefix
    for offset, data in (at or {}).items():
        block[offset : offset + len(data)] = data
    return with_checksum(bytes(block)) if not checksum else bytes(block[:148]) + checksum + bytes(block[156:])


def with_checksum(block: bytes) -> bytes:
    """The header `block` with the check sum it should have."""
    total = sum(block[:148]) + sum(block[156:]) + 8 * ord(" ")
    return block[:148] + b"%06o\0 " % total + block[156:]


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def member(name: bytes | str, content: bytes = b"", **fields: Any) -> bytes:
    """A file: its header, which says what `fields` say, and its content."""
    return header(name, **{"size": len(content), **fields}) + padded(content)


def folder(name: str) -> bytes:
    return header(name, kind=b"5", mode=0o755)


def record(key: str, value: str | bytes) -> bytes:
    """One record of a pax header."""
    body = b" " + key.encode() + b"=" + (value.encode() if isinstance(value, str) else value) + b"\n"
    length = len(body) + 1
    while len(str(length)) + len(body) != length:
        length += 1
    return str(length).encode() + body


def pax(*records: bytes, kind: bytes = b"x") -> bytes:
    """An extended header of the pax format."""
    return member("PaxHeaders/x", b"".join(records), kind=kind)


def long_name(name: str, kind: bytes = b"L") -> bytes:
    """A long name as GNU tar writes it."""
    return member("././@LongLink", name.encode() + b"\0", kind=kind, magic=GNU)


def pack_tar(*more: bytes, inside: str = "hello/", leave_out: str = "") -> bytes:
    """A pack in a folder, with further members; the end is not marked."""
    files = pack_files()
    files.pop(leave_out, None)
    return b"".join(member(inside + path, content) for path, content in sorted(files.items())) + b"".join(more)


def zipped(*parts: bytes) -> bytes:
    """The parts, as a gzip file of one member."""
    return gzip.compress(b"".join(parts), 6, mtime=0)
