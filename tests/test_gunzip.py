"""Gzip read forward: all of it or a refusal, and never more than the limits allow."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import zlib

import pytest

from packregistry.config import Limits
from packregistry.errors import PackInvalidError
from packregistry.gunzip import Gunzip

MIB = 1024 * 1024
NOISE = random.Random(1).randbytes(3 * MIB)


def opened(data: bytes, limits: Limits | None = None) -> Gunzip:
    return Gunzip(io.BytesIO(data), len(data), limits or Limits())


def read(data: bytes, limits: Limits | None = None, limit: int = 100_000) -> bytes:
    stream = opened(data, limits)
    pieces = []
    while piece := stream.take(limit):
        assert len(piece) <= limit
        pieces.append(bytes(piece))
    return b"".join(pieces)


@pytest.mark.parametrize(
    ("data", "plain"),
    [
        pytest.param(gzip.compress(b"hello"), b"hello", id="small"),
        pytest.param(gzip.compress(b""), b"", id="nothing"),
        pytest.param(gzip.compress(NOISE), NOISE, id="large"),
        pytest.param(gzip.compress(bytes(MIB)), bytes(MIB), id="much from little"),
        pytest.param(gzip.compress(b"a") + gzip.compress(b"") + gzip.compress(b"b"), b"ab", id="several members"),
        pytest.param(gzip.compress(NOISE) * 2, NOISE * 2, id="several large members"),
        pytest.param(gzip.compress(b"a") + bytes(MIB), b"a", id="zeros at the end"),
    ],
)
@pytest.mark.parametrize("limit", [512, MIB])
def test_what_was_compressed_comes_out(data: bytes, plain: bytes, limit: int) -> None:
    assert read(data, limit=limit) == plain


GOOD = gzip.compress(NOISE[:1000])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"", "the archive is empty", id="empty"),
        pytest.param(b"\x1f\x8b", "not compressed with gzip, it is something else", id="two bytes"),
        pytest.param(b"\x1f\x8b\x07" + GOOD[3:], "it is something else", id="another method"),
        pytest.param(b"hello world", "it is something else", id="text"),
        pytest.param(b"PK\x03\x04", "it is a zip archive", id="zip"),
        pytest.param(bz2.compress(b"a"), "it is compressed with bzip2", id="bzip2"),
        pytest.param(lzma.compress(b"a"), "it is compressed with xz", id="xz"),
        pytest.param(b"\x28\xb5\x2f\xfd0", "it is compressed with zstd", id="zstd"),
        pytest.param(bytes(257) + b"ustar\0", "the archive is not compressed", id="plain tar"),
        pytest.param(GOOD[:9], "cut off", id="cut in the header"),
        pytest.param(GOOD[:500], "cut off", id="cut in the middle"),
        pytest.param(GOOD[:-1], "cut off", id="cut at the end"),
        pytest.param(GOOD + GOOD[:20], "cut off", id="cut in the second member"),
        pytest.param(GOOD[:500] + b"\0" * 20 + GOOD[520:], "damaged", id="other bytes"),
        pytest.param(GOOD[:-8] + b"\0\0\0\0" + GOOD[-4:], "incorrect data check", id="wrong check sum"),
        pytest.param(GOOD[:-4] + b"\0\0\0\0", "incorrect length check", id="wrong length"),
        pytest.param(GOOD + b"x", "something follows", id="one byte after"),
        pytest.param(GOOD + b"\x1f\x8b\x09", "something follows", id="almost a member after"),
        pytest.param(GOOD + bytes(MIB) + b"x", "something follows", id="garbage after zeros"),
        pytest.param(GOOD + bytes(5) + GOOD, "something follows", id="a member after zeros"),
    ],
)
def test_what_is_not_whole_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(PackInvalidError, match=message) as refusal:
        read(data)
    assert refusal.value.remedy


def test_expanding_stops_at_the_limit_of_bytes() -> None:
    data = gzip.compress(NOISE)
    assert read(data, Limits(expanded=3 * MIB)) == NOISE
    with pytest.raises(PackInvalidError, match=f"more than {3 * MIB - 1} bytes"):
        read(data, Limits(expanded=3 * MIB - 1))


def test_expanding_stops_at_the_limit_of_the_ratio() -> None:
    data = gzip.compress(bytes(16 * MIB))
    stream = opened(data, Limits(ratio=100))
    sizes: list[int] = []
    with pytest.raises(PackInvalidError, match="more than 100 times its size"):
        sizes.extend(len(piece) for piece in iter(lambda: stream.take(MIB), b""))
    assert 100 * len(data) - MIB < sum(sizes) <= 100 * len(data)


def test_the_ratio_is_that_of_the_whole_whatever_comes_first() -> None:
    assert len(read(gzip.compress(bytes(2 * MIB) + NOISE), Limits(ratio=2))) == 5 * MIB


def test_the_first_mib_may_have_any_ratio() -> None:
    data = gzip.compress(bytes(MIB))
    assert len(read(data, Limits(ratio=1))) == MIB
    with pytest.raises(PackInvalidError, match="more than 1 times"):
        read(gzip.compress(bytes(MIB + 1)), Limits(ratio=1))


def test_what_is_announced_is_refused_before_it_comes() -> None:
    stream = opened(GOOD, Limits(expanded=1000))
    stream.take(400)
    stream.announce(600)
    with pytest.raises(PackInvalidError, match="more than 1000 bytes"):
        stream.announce(601)
    with pytest.raises(PackInvalidError, match="more than 200 times"):
        opened(GOOD).announce(len(GOOD) * 200 + MIB)


def test_a_source_of_tiny_members_is_refused_early() -> None:
    """Every member costs time even when nothing is in it."""
    source = io.BytesIO(gzip.compress(b"") * 100_000)
    limits = Limits(members=1000)
    with pytest.raises(PackInvalidError, match="more than 1000 parts"):
        Gunzip(source, len(source.getvalue()), limits).take(1)
    assert source.tell() == 64 * 1024
    assert read(gzip.compress(b"a") * 1000, limits) == b"a" * 1000


def test_memory_does_not_grow_with_what_a_few_bytes_expand_to() -> None:
    data = gzip.compress(bytes(MIB)) * 64
    stream = opened(data, Limits(ratio=100_000))
    assert max(len(stream.take(2**40)) for _ in range(200)) <= 256 * 1024


def test_an_error_of_the_source_is_passed_on() -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        Gunzip(Broken(), 100, Limits()).take(1)


def test_names_and_comments_in_gzip_headers_are_passed_over() -> None:
    raw = zlib.compressobj(wbits=-15)
    body = raw.compress(b"hello") + raw.flush()
    trailer = zlib.crc32(b"hello").to_bytes(4, "little") + (5).to_bytes(4, "little")
    named = b"\x1f\x8b\x08\x18" + bytes(6) + b"name" * 50_000 + b"\0comment\0"
    assert read(named + body + trailer) == b"hello"
