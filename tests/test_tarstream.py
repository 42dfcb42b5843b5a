"""Tar read strictly: the formats in use, and a refusal for each header that could mean two things."""

from __future__ import annotations

from typing import Any

import pytest

from packregistry.errors import PackInvalidError
from packregistry.tarstream import PADDING_MAX, Entry, TarStream
from tests.archives import END, GNU, V7, folder, header, long_name, member, pax, record

LONG = "/".join(["directory"] * 30) + "/file"


class Pieces:
    """A tar that comes in small pieces."""

    def __init__(self, data: bytes, piece: int = 700) -> None:
        self._left = memoryview(data)
        self._piece = piece
        self.announced = 0

    def take(self, limit: int) -> memoryview:
        count = min(limit, self._piece)
        taken, self._left = self._left[:count], self._left[count:]
        return taken

    def announce(self, count: int) -> None:
        self.announced = max(count, self.announced)
        if count > 10**6:
            raise PackInvalidError("too much", remedy="send less")


def read(*parts: bytes, piece: int = 700, members: int = 1000) -> list[tuple[Entry, bytes]]:
    stream = TarStream(Pieces(b"".join(parts), piece), members)
    return [(entry, b"".join(map(bytes, stream.content()))) for entry in stream.entries()]


def read_one(*parts: bytes) -> Entry:
    """The one member, after which another is found where it should be."""
    (entry, _), (last, content) = read(*parts, member("last", b"here"), END)
    assert (last.name, content) == ("last", b"here")
    return entry


def refusal(*parts: bytes) -> str:
    with pytest.raises(PackInvalidError) as caught:
        read(*parts)
    assert caught.value.remedy
    return caught.value.message


@pytest.mark.parametrize("piece", [1, 511, 512, 100_000])
@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 5000])
def test_contents_come_out_as_they_went_in(piece: int, size: int) -> None:
    content = bytes(index % 251 for index in range(size))
    found = read(folder("a/"), member("a/one", content, mode=0o755), member("a/two", b"2"), END, piece=piece)
    assert found == [
        (Entry("a/", "directory", 0, True), b""),
        (Entry("a/one", "file", size, True), content),
        (Entry("a/two", "file", 1, False), b"2"),
    ]


def test_content_that_is_not_asked_for_is_skipped() -> None:
    stream = TarStream(Pieces(member("one", b"1" * 3000) + member("two", b"2") + END), 10)
    names = []
    for entry in stream.entries():
        next(iter(stream.content()))
        names.append((entry.name, stream.current))
    assert names == [("one", "one"), ("two", "two")]
    assert stream.current == ""


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        pytest.param([header("a", kind=b"\0")], Entry("a", "file", 0, False), id="old type"),
        pytest.param([header("a/", kind=b"\0", magic=V7)], Entry("a/", "directory", 0, False), id="old directory"),
        pytest.param([header("a/", kind=b"5", magic=V7)], Entry("a/", "directory", 0, False), id="v7"),
        pytest.param([header("a", magic=GNU)], Entry("a", "file", 0, False), id="gnu"),
        pytest.param([header("a", prefix=b"b/c")], Entry("b/c/a", "file", 0, False), id="prefix"),
        pytest.param(
            [header("n" * 100, prefix=b"p" * 155)], Entry(f"{'p' * 155}/{'n' * 100}", "file", 0, False), id="full"
        ),
        pytest.param([header(b"a\0rest")], Entry("a", "file", 0, False), id="after the name"),
        pytest.param([header("ü")], Entry("ü", "file", 0, False), id="unicode"),
        pytest.param([header(b"\xfc")], Entry("\ufffd", "file", 0, False), id="latin-1"),
        pytest.param([long_name(LONG), header("short")], Entry(LONG, "file", 0, False), id="long name"),
        pytest.param(
            [long_name("t", b"K"), long_name(LONG), header("short")],
            Entry(LONG, "file", 0, False),
            id="long link and name",
        ),
        pytest.param([pax(record("path", LONG)), header("short")], Entry(LONG, "file", 0, False), id="pax path"),
        pytest.param(
            [pax(record("size", "3")), header("a") + b"abc" + bytes(509)], Entry("a", "file", 3, False), id="pax size"
        ),
        pytest.param(
            [pax(record("comment", "x"), kind=b"g"), header("a")], Entry("a", "file", 0, False), id="git archive"
        ),
        pytest.param([pax(), header("a")], Entry("a", "file", 0, False), id="empty pax"),
        pytest.param(
            [header("a", size=b"\x80" + (3).to_bytes(11, "big")) + b"abc" + bytes(509)],
            Entry("a", "file", 3, False),
            id="base 256",
        ),
        pytest.param([header("a", at={136: b"\xff" * 12})], Entry("a", "file", 0, False), id="before 1970"),
        pytest.param([header("a", size=bytes(12), mode=bytes(8))], Entry("a", "file", 0, False), id="empty numbers"),
        pytest.param(
            [header("a", size=b"          3 ") + b"abc" + bytes(509)], Entry("a", "file", 3, False), id="spaces"
        ),
        pytest.param([header("a", mode=b"0000001 ")], Entry("a", "file", 0, True), id="executable for others"),
        pytest.param([header("a", mode=0o1644)], Entry("a", "file", 0, False), id="sticky"),
    ],
)
def test_formats_in_use_are_read(parts: list[bytes], expected: Entry) -> None:
    assert read_one(*parts) == expected


@pytest.mark.parametrize(
    "key",
    ["mtime", "atime", "ctime", "uid", "gid", "uname", "gname", "comment", "SCHILY.xattr.user.a", "LIBARCHIVE.xattr.b"],
)
@pytest.mark.parametrize("kind", [b"x", b"g"])
def test_times_owners_and_attributes_are_passed_over(key: str, kind: bytes) -> None:
    assert read_one(pax(record(key, "1\0é"), kind=kind), header("a")) == Entry("a", "file", 0, False)


@pytest.mark.parametrize("key", ["charset", "hdrcharset"])
@pytest.mark.parametrize(("value", "good"), [("UTF-8", True), ("ISO-IR 10646 2000 UTF-8", True), ("BINARY", False)])
def test_the_only_character_set_is_utf8(key: str, value: str, good: bool) -> None:
    assert (read_one(pax(record(key, value)), header("a")).flaws == ()) == good


SPARSE = header("a", kind=b"S", size=512, magic=GNU, at={386: b"00000000000\0" * 8, 482: b"\1"})
SPARSE_MORE = bytes(504) + b"\1" + bytes(7) + bytes(512)


@pytest.mark.parametrize(
    ("parts", "flaw"),
    [
        pytest.param([header("a", kind=b"1", at={157: b"b"})], "is a hard link", id="hard link"),
        pytest.param([header("a", kind=b"2", at={157: b"b"})], "is a symbolic link", id="symbolic link"),
        pytest.param(
            [pax(record("linkpath", LONG)), header("a", kind=b"2")], "is a symbolic link", id="symbolic link with pax"
        ),
        pytest.param([long_name(LONG, b"K"), header("a", kind=b"2")], "is a symbolic link", id="long symbolic link"),
        pytest.param([header("a", kind=b"3")], "is a character device", id="character device"),
        pytest.param([header("a", kind=b"4")], "is a block device", id="block device"),
        pytest.param([header("a", kind=b"6")], "is a FIFO", id="fifo"),
        pytest.param([SPARSE, SPARSE_MORE, bytes(512)], "is a sparse file", id="sparse, old"),
        pytest.param([pax(record("GNU.sparse.major", "1")), header("a")], "is a sparse file", id="sparse, pax"),
        pytest.param([pax(record("SCHILY.realsize", "9")), header("a")], "is a sparse file", id="sparse, star"),
        pytest.param([member("a", b"x", kind=b"7")], 'is of the type "7", which packs do not have', id="contiguous"),
        pytest.param([member("a", b"x", kind=b"V")], 'is of the type "V", which packs do not have', id="label"),
        pytest.param(
            [member("a", b"x", kind=b"\xe9")], 'is of the type "\\u00e9", which packs do not have', id="odd type"
        ),
        pytest.param([header("a", mode=0o4755)], "would run as its owner or group", id="set-user-id"),
        pytest.param(
            [header("a/", kind=b"5", mode=0o4755)], "would run as its owner or group", id="set-user-id, folder"
        ),
        pytest.param([header("a", mode=0o2755)], "would run as its owner or group", id="set-group-id"),
        pytest.param(
            [pax(record("foo", "1"), record("bär", "2")), header("a")],
            'has extended headers that are not known: "foo, b\\u00e4r"',
            id="unknown",
        ),
    ],
)
def test_what_is_no_part_of_packs_is_a_flaw_and_reading_goes_on(parts: list[bytes], flaw: str) -> None:
    ((message, remedy),) = read_one(*parts).flaws
    assert message == flaw
    assert remedy


def test_all_flaws_of_a_member_are_told() -> None:
    entry = read_one(pax(record("foo", "")), header("a", kind=b"2", mode=0o6777))
    assert len(entry.flaws) == 3


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        pytest.param([b"hello" * 200], "what is compressed is not a tar archive", id="text"),
        pytest.param([b"hello"], "the tar ends where a header should be", id="short text"),
        pytest.param([], "the tar ends where a header should be", id="nothing"),
        pytest.param([header("a")], "the tar ends where a header should be", id="no end"),
        pytest.param([header("a"), bytes(512)], "the end of the tar is not marked", id="half an end"),
        pytest.param([header("a"), bytes(1023)], "the end of the tar is not marked", id="almost an end"),
        pytest.param([header("a"), header("b")[:500]], "the tar ends where a header should be", id="in a header"),
        pytest.param([header("a", size=600), bytes(599)], "the tar ends in the middle of this member", id="in content"),
        pytest.param([header("a", size=600), bytes(700)], "the tar ends in the middle of this member", id="in padding"),
        pytest.param([pax(record("path", "b"))[:600]], "the tar ends where a header should be", id="in pax"),
        pytest.param([bytes(512), bytes(PADDING_MAX + 1)], "more than 1048576 zeros follow", id="zeros without end"),
        pytest.param([END, b"x"], "something follows the end of the tar", id="a byte after"),
        pytest.param(
            [END, bytes(50_000), header("b"), END], "something follows the end of the tar", id="a member after"
        ),
        pytest.param(
            [bytes(512), header("b"), END], "something follows the end of the tar", id="a member at half the end"
        ),
        pytest.param(
            [header("a"), header("b", checksum=b"000000\0 ")], "at byte 512 has a wrong check sum", id="check sum"
        ),
        pytest.param(
            [header("a"), header("b", checksum=b"zzzzzz\0 ")], "at byte 512 has a wrong check sum", id="no sum"
        ),
        pytest.param([header("a", size=b"0000000008\0\0")], "at byte 0 has a number that cannot be read", id="size 8"),
        pytest.param([header("a", size=b"0000 00001\0\0")], "has a number that cannot be read", id="size with gap"),
        pytest.param([header("a", size=b"\x81" + bytes(11))], "has a number that cannot be read", id="base 256, 81"),
        pytest.param([header("a", size=b"-0000000001\0")], "has a number that cannot be read", id="minus"),
        pytest.param([header("a", size=b"0_000000001\0")], "has a number that cannot be read", id="underscore"),
        *(
            pytest.param([header("a", at={offset: b"z"})], "has a number that cannot be read", id=f"field at {offset}")
            for offset in (100, 108, 116, 136, 329, 337)
        ),
        pytest.param([header("a", size=b"\xff" * 12)], "at byte 0 has the size -1", id="negative"),
        pytest.param([header("a", size=b"\x80" + b"\xff" * 11)], "too much", id="huge"),
        pytest.param([header("a", size=10**6 + 1)], "too much", id="over the limit"),
        pytest.param([pax(record("size", str(10**18))), header("a")], "too much", id="huge by pax"),
        pytest.param(
            [header("a/", kind=b"5", size=1)], "announces 1 bytes of content, but is not a file", id="directory"
        ),
        pytest.param([header("a", kind=b"1", size=1)], "announces 1 bytes of content, but is not a file", id="link"),
        pytest.param([header("a", kind=b"3", size=1)], "announces 1 bytes of content, but is not a file", id="device"),
        pytest.param([header("a", magic=b"ustar!00")], "at byte 0 is of a format that is not known", id="magic"),
        pytest.param([header("a", magic=GNU, prefix=b"b")], "is of a format that is not known", id="gnu with prefix"),
        pytest.param([header("a", magic=V7, prefix=b"b")], "is of a format that is not known", id="v7 with prefix"),
        pytest.param([header("a", at={508: b"tar\0"})], "is of a format that is not known", id="star"),
        pytest.param(
            [header("p", kind=b"x", size=65537)], "the extended header at byte 0 has 65537 bytes", id="pax size"
        ),
        pytest.param([header("p", kind=b"L", size=8**11 - 1)], "at byte 0 has 8589934591 bytes", id="long name size"),
        pytest.param([pax(record("path", "b")), END], "the last extended header belongs to no member", id="pax at end"),
        pytest.param([pax(kind=b"g"), END], "the last extended header belongs to no member", id="global at end"),
        pytest.param([long_name("b"), END], "the last extended header belongs to no member", id="name at end"),
        pytest.param([pax(record("foo", "b"), kind=b"g"), END], "says something about all members", id="global"),
        pytest.param([pax(record("path", "b"), kind=b"g"), END], "says something about all members", id="global path"),
        pytest.param([pax(record("size", "1"), kind=b"g"), END], "says something about all members", id="global size"),
    ],
)
def test_damage_and_what_could_mean_two_things_end_the_pass(parts: list[bytes], message: str) -> None:
    assert message in refusal(*parts)


@pytest.mark.parametrize("second", "xgLK")
@pytest.mark.parametrize("first", "xLK")
def test_a_member_has_one_extended_header_or_a_long_name_and_a_long_link(first: str, second: str) -> None:
    made: dict[str, Any] = {
        "x": pax(record("mtime", "1")),
        "g": pax(record("mtime", "1"), kind=b"g"),
        "L": long_name("a"),
        "K": long_name("b", b"K"),
    }
    parts = (made[first], made[second], header("a"), member("last", b"here"), END)
    if {first, second} == {"L", "K"}:
        assert len(read(*parts)) == 2
    else:
        assert "two extended headers contradict each other at byte 1024" in refusal(*parts)


@pytest.mark.parametrize(
    "data",
    [
        b"hello",
        b"0 a=\n",
        b"5 a=b",
        b"5 a=bX",
        b"4 a=b\n",
        b"7 a=b\n",
        b"99 a=b\n",
        b"06 a=b\n",
        b"+6 a=b\n",
        b"6  a=b\n",
        b"6 aab\n",
        b"5 =b\n",
        b"3 a=\n",
        record("a", "1") + record("a", "2"),
        record("a", "1") + b"\0\0",
        record("size", "0x1"),
        record("size", ""),
        record("size", "-1"),
        record("size", "1_0"),
        record("size", "\N{ARABIC-INDIC DIGIT ONE}"),
        b"9999999 a=b\n",
        b"".join(record(f"SCHILY.{number}", "") for number in range(51)),
    ],
    ids=lambda data: repr(data[:30]),
)
def test_records_that_are_not_exactly_as_they_should_be_end_the_pass(data: bytes) -> None:
    message = refusal(member("p", data, kind=b"x"), header("a"), END)
    assert message.startswith(("the extended header at byte 0", "a size is"))


def test_extended_headers_are_read_up_to_their_limits() -> None:
    records = [record(f"SCHILY.{number}", "v" * 1000) for number in range(49)]
    records.append(record("comment", "c" * (65536 - 15 - len(b"".join(records)))))
    assert len(b"".join(records)) == 65536
    assert read_one(pax(*records), header("a")).flaws == ()


def test_the_last_record_may_be_filled_with_zeros() -> None:
    assert len(read(header("a"), bytes(512), bytes(PADDING_MAX))) == 1


def test_members_are_counted_without_their_extended_headers() -> None:
    one = pax(record("mtime", "1")) + header("a")
    assert len(read(one * 5, END, members=5)) == 5
    with pytest.raises(PackInvalidError, match="more than 4 members"):
        read(one * 5, END, members=4)
    with pytest.raises(PackInvalidError, match="more than 4 members"):
        read(pax(kind=b"g") * 5, END, members=4)


def test_sizes_are_announced_before_content_is_read() -> None:
    plain = Pieces(header("a", size=1000) + bytes(1024) + END)
    next(TarStream(plain, 10).entries())
    assert plain.announced == 1000
