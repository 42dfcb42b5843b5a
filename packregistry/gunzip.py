"""Gzip read forward: bounded in memory, and in what may come out of it.

An archive is a sequence of gzip members (`archive.pack` writes several where there is much), which may be followed by
zeros and by nothing else. zlib verifies the check sum and the length at the end of each. What is wrong raises
`PackInvalidError`; what goes wrong with the source itself is its `OSError`.
"""

from __future__ import annotations

import zlib
from typing import BinaryIO

from packregistry.config import Limits
from packregistry.errors import PackInvalidError

HOW = "make the archive with: tar -czf PACK.tar.gz DIRECTORY"

# What follows the end of a gzip member is copied, so a source made of tiny members costs the product of the two.
_READ = 64 * 1024
_PIECE = 256 * 1024
_FREE = 1024 * 1024
_MAGIC = b"\x1f\x8b\x08"
_OTHERS = {
    b"PK": "a zip archive",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ": "compressed with xz",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
}


class Gunzip:
    """What a gzip file of `size` bytes in `source` expands to, up to `limits.expanded` and `limits.ratio`.

    The ratio is asked of the whole file, whose size is known, so that it does not matter what comes first in it; the
    first MiB is free.
    """

    def __init__(self, source: BinaryIO, size: int, limits: Limits) -> None:
        self._source = source
        self._limits = limits
        self._room = max(_FREE, size * limits.ratio)
        self._decoder: zlib._Decompress | None = None
        self._compressed = b""
        self._piece = memoryview(b"")
        self._members = 0
        self._expanded = 0
        self._taken = 0

    def take(self, limit: int) -> memoryview:
        """Return at least one and at most `limit` of the bytes that follow; none only at the verified end."""
        if not self._piece:
            self._piece = memoryview(self._expand())
            self._expanded += len(self._piece)
            self._check(self._expanded)
        taken, self._piece = self._piece[:limit], self._piece[limit:]
        self._taken += len(taken)
        return taken

    def announce(self, count: int) -> None:
        """Refuse at once what announces `count` more bytes than may come."""
        self._check(self._taken + count)

    def _check(self, expanded: int) -> None:
        if expanded > self._limits.expanded:
            raise PackInvalidError(
                f"the archive expands to more than {self._limits.expanded} bytes",
                remedy=f"limits.expanded allows {self._limits.expanded}",
            )
        if expanded > self._room:
            raise PackInvalidError(
                f"the archive expands to more than {self._limits.ratio} times its size",
                remedy=f"limits.ratio allows {self._limits.ratio}",
            )

    def _expand(self) -> bytes:
        """The next piece; none after the last member."""
        while True:
            if self._decoder is None:
                if not self._begin():
                    return b""
                self._decoder = zlib.decompressobj(wbits=31)
            data = self._compressed or self._source.read(_READ)
            try:
                piece = self._decoder.decompress(data, _PIECE)
            except zlib.error as error:
                raise PackInvalidError(
                    f"the gzip stream is damaged: {error}", remedy="make the archive again, or send it again"
                ) from error
            if self._decoder.eof:
                self._compressed, self._decoder = self._decoder.unused_data, None
            else:
                self._compressed = self._decoder.unconsumed_tail
                if not data:
                    raise PackInvalidError("the gzip stream is cut off", remedy="send the whole archive")
            if piece:
                return piece

    def _begin(self) -> bool:
        """Whether another gzip member begins here; otherwise what is left has to be zeros."""
        while len(self._compressed) < len(_MAGIC) and (data := self._source.read(_READ)):
            self._compressed += data
        if self._compressed.startswith(_MAGIC):
            self._members += 1
            if self._members > self._limits.members:
                raise PackInvalidError(
                    f"the gzip stream has more than {self._limits.members} parts",
                    remedy=f"limits.members allows {self._limits.members}",
                )
            return True
        if not self._members:
            raise _not_gzip(self._compressed)
        while self._compressed:
            if self._compressed.strip(b"\0"):
                raise PackInvalidError("something follows the gzip stream", remedy="send the archive and nothing else")
            self._compressed = self._source.read(_READ)
        return False


def _not_gzip(beginning: bytes) -> PackInvalidError:
    if not beginning:
        return PackInvalidError("the archive is empty", remedy=HOW)
    if beginning[257:262] == b"ustar":
        return PackInvalidError("the archive is not compressed", remedy=HOW)
    other = next((what for magic, what in _OTHERS.items() if beginning.startswith(magic)), "something else")
    return PackInvalidError(f"the archive is not compressed with gzip, it is {other}", remedy=HOW)
