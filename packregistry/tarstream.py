"""Tar read forward and strictly: one meaning for every archive, or none.

This does not use `tarfile`, which reads extended headers of any size into memory, takes much that other programs read
otherwise, and has a history of hostile archives getting past it (CVE-2007-4559, CVE-2019-20907, CVE-2024-6232,
CVE-2025-4517). Accepted are the members that packs consist of, files and directories, in the formats that are in use:
ustar, pax and GNU's with long names, as POSIX.1-2017 (pax, "ustar Interchange Format") and the manual of GNU tar
("Basic Tar Format") describe them, and the one before those. Wherever programs disagree about what a header means, it
is refused.

A member that is well-formed but not acceptable is an `Entry` with flaws, and reading goes on; damage raises
`PackInvalidError`, as where the next header is cannot be known.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, Protocol

from packregistry.errors import PackInvalidError
from packregistry.model import shown

BLOCK = 512
HEADER_MAX = 64 * 1024
# Tar programs fill their last record with zeros: 10 KiB of them as a rule, and 1 MiB with the largest in use.
PADDING_MAX = 1024 * 1024

_CHUNK = 256 * 1024
_ZERO = bytes(BLOCK)
_OCTAL = re.compile(rb" *([0-7]*)[ \0]*")
_RECORD = re.compile(rb"([1-9][0-9]{0,5}) ([^=\n\0]+)=")
_DECIMAL = re.compile(rb"[0-9]{1,19}")
_GNU = b"ustar  \0"
_RECORDS_MAX = 50
_UTF8 = (b"UTF-8", b"ISO-IR 10646 2000 UTF-8")
# mode, owner, group, time and the two device numbers; the size is read on its own
_NUMBERS = (slice(100, 108), slice(108, 116), slice(116, 124), slice(136, 148), slice(329, 337), slice(337, 345))
_SET_ID = 0o6000
_REMAKE = "make the archive again, or send it again"
_PLAINER = "make the archive with: tar --format=ustar"
_REMEDY_LINK = "put a copy of the file in its place, or make the archive with: tar --dereference --hard-dereference"
_REFUSED = {
    b"1": ("is a hard link", _REMEDY_LINK),
    b"2": ("is a symbolic link", _REMEDY_LINK),
    b"3": ("is a character device", "remove it"),
    b"4": ("is a block device", "remove it"),
    b"6": ("is a FIFO", "remove it"),
    b"S": ("is a sparse file", "make the archive with: tar without --sparse"),
}
_WITHOUT_CONTENT = b"123456"
# Owners and times mean nothing in a pack; `linkpath` comes with a link, which is refused as such.
_HARMLESS = {b"mtime", b"atime", b"ctime", b"uid", b"gid", b"uname", b"gname", b"comment", b"linkpath"}
_USED = {b"path", b"size"}
_HARMLESS_PREFIXES = (b"SCHILY.", b"LIBARCHIVE.", b"RHT.")
_SPARSE = (b"GNU.sparse.", b"SCHILY.realsize", b"SCHILY.offset", b"SCHILY.filetype")

Flaw = tuple[str, str]


class Plain(Protocol):
    """Where the bytes of a tar come from."""

    def take(self, limit: int) -> memoryview:
        """Return at least one and at most `limit` of the bytes that follow; none only at the end."""
        ...

    def announce(self, count: int) -> None:
        """Raise `PackInvalidError` where `count` more bytes are too many."""
        ...


@dataclass(frozen=True, slots=True)
class Entry:
    """A member: its name as it stands in the archive, and what is wrong with it, as messages with remedies.

    A name that is not UTF-8 has U+FFFD in it.
    """

    name: str
    kind: Literal["file", "directory", "other"]
    size: int
    executable: bool
    flaws: tuple[Flaw, ...] = ()


class TarStream:
    """The members of the tar that `plain` gives, at most `members_max` of them.

    `current` is the name of the member being read, or empty between members.
    """

    def __init__(self, plain: Plain, members_max: int) -> None:
        self.current = ""
        self._plain = plain
        self._members_max = members_max
        self._members = 0
        self._at = 0
        self._left = 0

    def entries(self) -> Iterator[Entry]:
        """Yield each member; its content is what `content` then yields, and is skipped where that is not asked for."""
        while (entry := self._next()) is not None:
            padding = -entry.size % BLOCK
            yield entry
            for _ in self.content():
                pass
            self._exactly(padding)
            self.current = ""

    def content(self) -> Iterator[memoryview]:
        """Yield the content of the current member in chunks, as far as it has not been."""
        while self._left:
            chunk = self._take(min(self._left, _CHUNK))
            self._left -= len(chunk)
            yield chunk

    def _next(self) -> Entry | None:
        """The next member with what its extended headers say, or nothing at the end."""
        extended = None
        while (block := self._exactly(BLOCK)) != _ZERO:
            header = _header(block, self._at - BLOCK)
            if header.kind in b"xLK":
                extended = self._extend(extended or _Extended(), header)
                continue
            self._members += 1
            if self._members > self._members_max:
                raise PackInvalidError(
                    f"there are more than {self._members_max} members",
                    remedy=f"limits.members allows {self._members_max}",
                )
            if header.kind != b"g":
                return self._entry(header, extended or _Extended())
            extended = self._extend(extended or _Extended(), header)
        if extended:
            raise PackInvalidError("the last extended header belongs to no member", remedy=_REMAKE)
        self._end()
        return None

    def _extend(self, extended: _Extended, header: _Header) -> _Extended:
        """Read a header that says more about the member that follows it (or, `g`, about all of them)."""
        if header.kind in extended.kinds or (extended.kinds and (header.kind in b"xg" or b"x" in extended.kinds)):
            raise PackInvalidError(f"two extended headers contradict each other {header.where}", remedy=_PLAINER)
        if header.size > HEADER_MAX:
            raise PackInvalidError(
                f"the extended header {header.where} has {header.size} bytes", remedy=f"at most {HEADER_MAX} are read"
            )
        data = self._exactly(header.size)
        self._exactly(-header.size % BLOCK)
        if header.kind == b"L":
            extended.path = data.rstrip(b"\0")
        elif header.kind == b"x":
            extended.take(_pax(data, header.where))
        elif header.kind == b"g":
            if not all(map(_is_harmless, _pax(data, header.where).items())):
                raise PackInvalidError(
                    f"the extended header {header.where} says something about all members", remedy=_PLAINER
                )
            return extended
        extended.kinds += header.kind
        return extended

    def _entry(self, header: _Header, extended: _Extended) -> Entry:
        raw = header.name if extended.path is None else extended.path
        size = header.size if extended.size is None else extended.size
        self.current = name = raw.decode(errors="replace")
        flaws = list(extended.flaws)
        kind: Literal["file", "directory", "other"] = "other"
        if header.kind == b"0":
            kind = "file"
        elif header.kind == b"5":
            kind = "directory"
        else:
            unknown = (f"is of the type {shown(header.kind.decode('latin-1'))}, which packs do not have", _PLAINER)
            flaws.append(_REFUSED.get(header.kind, unknown))
        # Of a directory, the set-group-ID bit only says which group new files get.
        if header.mode & (0o4000 if header.kind == b"5" else _SET_ID):
            flaws.append(("would run as its owner or group", "remove the bit: chmod -R ug-s"))
        if size and header.kind in _WITHOUT_CONTENT:
            raise PackInvalidError(f"announces {size} bytes of content, but is not a file", remedy=_REMAKE)
        self._plain.announce(size)
        if header.kind == b"S":
            while header.continued:
                header.continued = bool(self._exactly(BLOCK)[504])
        self._left = size
        return Entry(name, kind, size, bool(header.mode & 0o111), tuple(flaws))

    def _end(self) -> None:
        """Check that the end is marked, and that nothing but zeros follows, and not many of those."""
        if len(block := self._up_to(BLOCK)) < BLOCK:
            raise PackInvalidError("the end of the tar is not marked", remedy=_REMAKE)
        chunk = memoryview(block)
        padding = 0
        while chunk:
            padding += len(chunk)
            if bytes(chunk).strip(b"\0"):
                raise PackInvalidError("something follows the end of the tar", remedy="send the archive alone")
            if padding > PADDING_MAX:
                raise PackInvalidError(f"more than {PADDING_MAX} zeros follow the end of the tar", remedy=_REMAKE)
            chunk = self._plain.take(_CHUNK)

    def _take(self, limit: int) -> memoryview:
        chunk = self._plain.take(limit)
        if not chunk:
            what = "in the middle of this member" if self.current else "where a header should be"
            raise PackInvalidError(f"the tar ends {what}", remedy="make the archive again; it has been cut off")
        self._at += len(chunk)
        return chunk

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            data += self._take(count - len(data))
        return data

    def _up_to(self, count: int) -> bytes:
        data = b""
        while len(data) < count and (chunk := self._plain.take(count - len(data))):
            data += chunk
        return data


@dataclass(slots=True)
class _Header:
    """One header block. `kind` is the type flag, in which what older formats say otherwise is put as ustar does."""

    name: bytes
    kind: bytes
    size: int
    mode: int
    where: str
    continued: bool


@dataclass(slots=True)
class _Extended:
    """What the extended headers before a member say about it; `kinds` are their type flags."""

    kinds: bytes = b""
    path: bytes | None = None
    size: int | None = None
    flaws: list[Flaw] = field(default_factory=list)

    def take(self, records: dict[bytes, bytes]) -> None:
        """Take what the records of a pax header say."""
        self.path = records.get(b"path", self.path)
        if (size := records.get(b"size")) is not None:
            if not _DECIMAL.fullmatch(size):
                raise PackInvalidError(f"a size is {shown(size.decode('latin-1'))}", remedy=_REMAKE)
            self.size = int(size)
        unknown = [key for key, value in records.items() if not (key in _USED or _is_harmless((key, value)))]
        if any(key.startswith(_SPARSE) for key in unknown):
            self.flaws.append(_REFUSED[b"S"])
        elif unknown:
            names = shown(", ".join(key.decode(errors="replace") for key in unknown))
            self.flaws.append((f"has extended headers that are not known: {names}", _PLAINER))


def _is_harmless(record: tuple[bytes, bytes]) -> bool:
    key, value = record
    if key in {b"charset", b"hdrcharset"}:
        return value in _UTF8
    return key in _HARMLESS or (key.startswith(_HARMLESS_PREFIXES) and not key.startswith(_SPARSE))


def _pax(data: bytes, where: str) -> dict[bytes, bytes]:
    """The records of a pax header, each `LENGTH KEY=VALUE\\n`, where LENGTH counts all of it."""
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        match = _RECORD.match(data, at)
        end = at + int(match[1]) if match else 0
        if not match or data[end - 1 : end] != b"\n" or match[2] in records:
            raise PackInvalidError(f"the extended header {where} is damaged", remedy=_REMAKE)
        records[match[2]] = data[match.end() : end - 1]
        at = end
        if len(records) > _RECORDS_MAX:
            raise PackInvalidError(
                f"the extended header {where} has too many records", remedy=f"at most {_RECORDS_MAX} are read"
            )
    return records


def _header(block: bytes, at: int) -> _Header:
    """Read a header block, which begins at byte `at`."""
    where = f"at byte {at}"
    checksum = _number(block[148:156])
    if checksum != sum(block) - sum(block[148:156]) + 8 * ord(" "):
        if not at:
            raise PackInvalidError("what is compressed is not a tar archive", remedy="make it with: tar -czf")
        raise PackInvalidError(f"the header {where} has a wrong check sum", remedy=_REMAKE)
    size, (mode, *others) = _number(block[124:136]), (_number(block[part]) for part in _NUMBERS)
    if size is None or mode is None or None in others:
        raise PackInvalidError(f"the header {where} has a number that cannot be read", remedy=_REMAKE)
    if size < 0:
        raise PackInvalidError(f"the header {where} has the size {size}", remedy=_REMAKE)
    kind, name, prefix = block[156:157], _text(block[:100]), b""
    if block[257:263] == b"ustar\0" and not any(block[500:]):
        prefix = _text(block[345:500])
    elif not (block[257:265] == _GNU and (kind == b"S" or not any(block[345:]))) and any(block[257:]):
        raise PackInvalidError(f"the header {where} is of a format that is not known", remedy=_PLAINER)
    if kind == b"\0":
        kind = b"5" if name.endswith(b"/") else b"0"
    if prefix and name:
        name = prefix + b"/" + name
    return _Header(name, kind, size, mode, where, continued=bool(block[482]))


def _text(part: bytes) -> bytes:
    return part.partition(b"\0")[0]


def _number(part: bytes) -> int | None:
    """A number as octal digits, or in base 256 with the sign in front; nothing where it is neither."""
    if part[0] in {0x80, 0xFF}:
        return int.from_bytes(part[1:], "big") - (256 ** (len(part) - 1) if part[0] == 0xFF else 0)
    match = _OCTAL.fullmatch(part)
    return int(match[1] or b"0", 8) if match else None
