"""Archives are reproducible, are read the same by every tar, and bad ones are refused."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from packregistry import archive, directory
from packregistry.archive import Packed, listing, members_of, pack, read_member
from packregistry.config import Limits
from packregistry.errors import FileUnknownError, PackInvalidError
from packregistry.model import Digest, Member

FOLDER = "hello-1.0.0"


@dataclass(frozen=True)
class Content:
    """A file to be packed that is not on a disk."""

    path: str
    data: bytes
    executable: bool = False
    announced: int | None = None

    @property
    def size(self) -> int:
        return len(self.data) if self.announced is None else self.announced

    def chunks(self) -> Iterator[bytes]:
        half = len(self.data) // 2
        yield from (self.data[:half], self.data[half:])


def packed(*files: Content, folder: str = FOLDER) -> tuple[bytes, Packed]:
    out = io.BytesIO()
    result = pack(files, folder, out)
    return out.getvalue(), result


def read_back(data: bytes) -> dict[str, tuple[bytes, int]]:
    """Every file as `tarfile` reads it, strictly: path → content and mode."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz", errorlevel=2) as tar:
        for info in tar:
            assert (info.uid, info.gid, info.uname, info.gname, info.mtime) == (0, 0, "", "", 0)
            if info.isreg():
                content = tar.extractfile(info)
                assert content is not None
                found[info.name] = (content.read(), info.mode)
            else:
                assert info.isdir()
                assert info.mode == 0o755
    return found


SMALL = (
    Content("pack.json", b'{"name": "hello"}\n'),
    Content("manifests/a.yaml", b"".join(b"- {value: %d, square: %d}\n" % (n, n * n) for n in range(3000))),
    Content("manifests-x/ä.yaml", b""),
    Content("bin/run", b"#!/bin/sh\n", executable=True),
)


def test_the_digest_of_a_known_pack_never_changes() -> None:
    """Not on another day, machine or Python: digests that were handed out must stay right."""
    data, result = packed(*SMALL)
    plain = gzip.decompress(data)
    assert hashlib.sha256(plain).hexdigest() == "0b5dd86f7e3a79b1db495ac53082088cfa6cb0dd8ba1684c217a9db41679ef84"
    assert result.digest == "sha256:acfa34e04975eac58e292a36ab418c4e034922857ae01c0dae6c776c9379a98d"
    assert len(plain) % 10240 == 0


def test_what_is_returned_is_what_was_written() -> None:
    data, result = packed(*SMALL)
    assert result.digest == Digest.of(data)
    assert result.size == len(data)
    assert result.members == tuple(
        Member(file.path, len(file.data), Digest.of(file.data), file.executable)
        for file in sorted(SMALL, key=lambda file: file.path)
    )


def test_the_order_in_which_files_are_given_does_not_matter() -> None:
    assert packed(*SMALL) == packed(*reversed(SMALL))


def test_members_are_sorted_by_directory_and_each_follows_its_directories() -> None:
    data, _ = packed(*SMALL)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert tar.getnames() == [
            FOLDER,
            f"{FOLDER}/bin",
            f"{FOLDER}/bin/run",
            f"{FOLDER}/manifests",
            f"{FOLDER}/manifests/a.yaml",
            f"{FOLDER}/manifests-x",
            f"{FOLDER}/manifests-x/ä.yaml",
            f"{FOLDER}/pack.json",
        ]


def on_disk(root: Path, files: Mapping[str, bytes]) -> Path:
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root


def aged(root: Path) -> None:
    for path in root.rglob("*"):
        os.utime(path, (1, 1))


def restricted(root: Path) -> None:
    for path in root.rglob("*"):
        path.chmod(path.stat().st_mode & 0o700)


def given_away(root: Path) -> None:
    for path in root.rglob("*"):
        os.chown(path, 4242 if os.getuid() == 0 else -1, -1)


@pytest.mark.parametrize("change", [aged, restricted, given_away], ids=lambda change: change.__name__)
def test_a_copy_elsewhere_gives_the_same_archive(tmp_path: Path, change: Callable[[Path], None]) -> None:
    """Whatever its times, owners, umask, and the order in which its files were made."""
    files = {"pack.json": b"{}", "b/c": b"1", "a/run.sh": b"2"}
    first = on_disk(tmp_path / "here", files)
    second = on_disk(tmp_path / "else where", dict(reversed(files.items())))
    for root in (first, second):
        (root / "a/run.sh").chmod(0o755)
    change(second)
    digests = set()
    for root in (first, second):
        tree = directory.look(root, Limits())
        assert not tree.problems
        digests.add(pack(tree.files, FOLDER, io.BytesIO()).digest)
    assert len(digests) == 1


@pytest.mark.parametrize(
    "other",
    [
        Content("a", b"2"),
        Content("b", b"1"),
        Content("a", b"1", executable=True),
        Content("d/a", b"1"),
        Content("a", b"1\0"),
    ],
    ids=["content", "name", "executable", "directory", "length"],
)
def test_another_file_gives_another_archive(other: Content) -> None:
    assert packed(Content("a", b"1"))[1].digest != packed(other)[1].digest


def test_an_archive_of_nothing_is_an_empty_tar_archive() -> None:
    data, result = packed()
    assert read_back(data) == {}
    assert result.members == ()


@pytest.mark.parametrize("announced", [2, 4], ids=["more", "fewer"])
def test_a_file_that_gives_other_than_its_size_is_an_error(announced: int) -> None:
    with pytest.raises(ValueError, match=f"f gave 3 bytes where {announced} were announced"):
        packed(Content("f", b"abc", announced=announced))


def long_path(length: int, part: int = 60, letter: str = "p") -> str:
    """A path of `length` bytes whose parts have up to `part` each."""
    size = len(letter.encode())
    whole = "/".join([letter * (part // size)] * (length // (part // size * size + 1) + 1))
    return whole.encode()[:length].decode(errors="ignore").strip("/").ljust(3, "x")


ODD_PATHS = {
    "100 bytes with the folder": "x" * (100 - len(FOLDER) - 1),
    "101 bytes with the folder": "x" * (101 - len(FOLDER) - 1),
    "prefix of 155 bytes": f"{'d' * (155 - len(FOLDER) - 1)}/{'n' * 100}",
    "prefix of 156 bytes": f"{'d' * (156 - len(FOLDER) - 1)}/{'n' * 100}",
    "name of 101 bytes": f"d/{'n' * 101}",
    "directory of 200 bytes": f"{'d' * 200}/n",
    "256 bytes": long_path(256),
    "over 256 bytes": long_path(300),
    "500 bytes": long_path(500),
    "non-ASCII": "charts/Größe/日本.yaml",
    "long non-ASCII": long_path(300, letter="日"),
    "spaces and quotes": "a b/'c' \"d\" $e *",
    "like an option": "--help",
    "like a header": "PaxHeaders/0",
    "hidden": ".helmignore",
    "equals signs": "a=b=c",
}


@pytest.mark.parametrize("path", ODD_PATHS.values(), ids=ODD_PATHS)
def test_odd_paths_are_read_back_as_they_were(path: str) -> None:
    data, _ = packed(Content(path, b"content", executable=True), Content("z", b"after"))
    assert read_back(data) == {f"{FOLDER}/{path}": (b"content", 0o755), f"{FOLDER}/z": (b"after", 0o644)}
    assert read_member(io.BytesIO(data), path, 100) == b"content"


SIZES = st.sampled_from([0, 1, 511, 512, 513, 1023, 1024, 1025, 10240])
NAMES = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cf", "Cs", "Co", "Cn"), exclude_characters="/\\"),
    min_size=1,
    max_size=30,
)


@st.composite
def file_sets(draw: st.DrawFn) -> dict[str, Content]:
    """Files of which none is where another needs a directory."""
    files: dict[str, Content] = {}
    for parts in draw(
        st.lists(st.lists(NAMES.filter(lambda name: name not in {".", ".."}), min_size=1, max_size=9), max_size=6)
    ):
        path = "/".join(parts)
        taken = any(path == other or path.startswith(other + "/") or other.startswith(path + "/") for other in files)
        if not taken and len(path.encode()) <= Limits().path and all(len(part.encode()) <= 255 for part in parts):
            data = draw(st.binary(min_size=1, max_size=3)) * 10240
            files[path] = Content(path, data[: draw(SIZES)], draw(st.booleans()))
    return files


@given(files=file_sets(), piece=st.sampled_from([512, 700, 4096]))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_files_are_read_back_as_they_were(
    files: dict[str, Content], piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By `tarfile`, and in as many compressed pieces as it takes."""
    with monkeypatch.context() as patch:
        patch.setattr(archive, "PIECE", piece)
        data, result = packed(*files.values())
    assert read_back(data) == {
        f"{FOLDER}/{file.path}": (file.data, 0o755 if file.executable else 0o644) for file in files.values()
    }
    assert members_of(listing(result.members)) == result.members
    assert {member.path for member in result.members} == set(files)


@given(files=file_sets())
@settings(max_examples=6, deadline=None)
def test_any_files_are_unpacked_by_system_tar_without_a_word(files: dict[str, Content]) -> None:
    with tempfile.TemporaryDirectory() as place:
        found = unpacked_by_tar(Path(place), tuple(files.values()))
        assert found == expected(tuple(files.values()))


def unpacked_by_tar(place: Path, files: tuple[Content, ...]) -> dict[str, tuple[bytes, int]]:
    """What the system's tar makes of an archive of these files, without a word: content and mode of each, by path."""
    data, _ = packed(*files)
    done = subprocess.run(
        ["tar", "-xzpf", "-", "-C", place],
        input=data,
        capture_output=True,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    found = {str(path.relative_to(place / FOLDER)): path for path in place.rglob("*") if path.is_file()}
    return {name: (path.read_bytes(), path.stat().st_mode & 0o777) for name, path in found.items()}


def expected(files: tuple[Content, ...]) -> dict[str, tuple[bytes, int]]:
    return {file.path: (file.data, 0o755 if file.executable else 0o644) for file in files}


def test_odd_paths_are_unpacked_by_system_tar_without_a_word(tmp_path: Path) -> None:
    files = tuple(Content(path, path.encode()) for path in ODD_PATHS.values() if path != "PaxHeaders/0")
    assert unpacked_by_tar(tmp_path, files) == expected(files)


def test_an_archive_longer_than_a_piece_is_made_of_several_and_is_the_same_inside(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole, _ = packed(*SMALL)
    monkeypatch.setattr(archive, "PIECE", 1024)
    pieces, result = packed(*SMALL)
    assert result.digest == Digest.of(pieces)
    assert len(pieces) > len(whole)
    assert gzip.decompress(pieces) == gzip.decompress(whole)
    assert unpacked_by_tar(tmp_path, SMALL) == expected(SMALL)


def test_pieces_do_not_depend_on_how_content_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "PIECE", 1000)
    data = os.urandom(5000)

    class Bytewise(Content):
        def chunks(self) -> Iterator[bytes]:
            return (bytes([byte]) for byte in self.data)

    assert packed(Content("f", data)) == packed(Bytewise("f", data))


@pytest.mark.parametrize("size", [8**11 - 1, 8**11, 3 * 8**11], ids=["the last that fits", "8 GiB", "24 GiB"])
def test_a_size_of_gigabytes_is_written_so_that_it_is_read(size: int) -> None:
    header = archive._header("d/f", size, directory=False, executable=False)
    with tarfile.open(fileobj=io.BytesIO(header), mode="r:") as tar:
        info = tar.next()
    assert info is not None
    assert (info.name, info.size) == ("d/f", size)


@pytest.mark.parametrize("length", [5, 95, 96, 97, 98, 990, 991, 992, 993])
def test_the_length_of_a_pax_record_counts_itself(length: int) -> None:
    record = archive._pax_record("path", b"x" * length)
    assert record.split(b" ")[0] == b"%d" % len(record)


def test_a_listing_is_sorted_and_leaves_out_what_is_usual() -> None:
    digest = Digest.of(b"")
    members = (Member("b", 1, digest), Member("ä", 0, digest, executable=True), Member("a/b", 2, digest))
    assert (
        listing(members)
        == (
            f'[{{"path":"a/b","size":2,"digest":"{digest}"}},'
            f'{{"path":"b","size":1,"digest":"{digest}"}},'
            f'{{"path":"ä","size":0,"digest":"{digest}","executable":true}}]'
        ).encode()
    )
    assert members_of(listing(members)) == (members[2], members[0], members[1])
    assert listing(members) == listing(reversed(members))


def foreign(*files: tuple[str, bytes], kind: bytes = tarfile.REGTYPE, folders: tuple[str, ...] = ()) -> bytes:
    """An archive as somebody else makes it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name in folders:
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE
            tar.addfile(info)
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname = kind, len(data), "pack.json"
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "path"),
    [
        (packed(Content("a/b", b"found"))[0], "a/b"),
        (foreign(("folder/a/b", b"found")), "a/b"),
        (foreign(("./folder/a/b", b"found"), folders=("./", "./folder")), "a/b"),
        (foreign(("./a/b", b"found"), folders=(".",)), "a/b"),
        (foreign(("pack.json", b""), ("a/b", b"found")), "a/b"),
        (foreign(("a/pack.json", b""), ("a/b", b"found")), "a/b"),
    ],
    ids=["ours", "no entry of its own", "dot and folder", "dot and no folder", "no folder", "looks like a folder"],
)
def test_a_file_is_found_however_the_archive_names_it(data: bytes, path: str) -> None:
    assert read_member(io.BytesIO(data), path, 5) == b"found"


@pytest.mark.parametrize("path", [f"{FOLDER}/a", "a"])
def test_a_folder_inside_that_is_called_like_the_pack_is_not_confused_with_it(path: str) -> None:
    data, _ = packed(Content("a", b"a"), Content(f"{FOLDER}/a", f"{FOLDER}/a".encode()))
    assert read_member(io.BytesIO(data), path, 100) == path.encode()


@pytest.mark.parametrize("path", ["", "b", "a", "a/", "a/b/c", "/a/b", "../a/b", FOLDER, "A/B", "\0"])
def test_a_file_that_is_not_there_is_unknown(path: str) -> None:
    data, _ = packed(Content("a/b", b"found"))
    with pytest.raises(FileUnknownError):
        read_member(io.BytesIO(data), path, 5)


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE],
    ids=["symlink", "link", "device", "fifo"],
)
def test_what_is_no_regular_file_is_not_read(kind: bytes) -> None:
    with pytest.raises(FileUnknownError):
        read_member(io.BytesIO(foreign(("f/a", b""), kind=kind)), "a", 5)


def test_a_file_over_the_limit_is_refused_without_being_read() -> None:
    data, _ = packed(Content("bomb", b"\0" * 5_000_001))
    with pytest.raises(PackInvalidError, match=r"bomb.* has 5000001 bytes, more than the 5000000") as caught:
        read_member(io.BytesIO(data), "bomb", 5_000_000)
    assert "archive" in caught.value.remedy
    assert len(read_member(io.BytesIO(data), "bomb", 5_000_001)) == 5_000_001


def test_an_archive_is_read_no_further_than_needed() -> None:
    data = foreign(("f/first", b"first"), ("f/noise", os.urandom(3_000_000)), ("f/last", b""))[:2_500_000]
    assert read_member(io.BytesIO(data), "first", 5) == b"first"
    with pytest.raises(PackInvalidError):
        read_member(io.BytesIO(data), "last", 5)


def raw(name: str, size: bytes, pax: bytes = b"") -> bytes:
    """A compressed archive of one header with any size field, after any pax records."""
    header = bytearray(archive._ustar(name.encode(), b"", 0, b"0", 0o644))
    header[124:136] = size
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header)
    extended = archive._ustar(b"x", b"", len(pax), b"x", 0o644) + pax + b"\0" * (-len(pax) % 512) if pax else b""
    return gzip.compress(extended + bytes(header) + b"\0" * 10240)


WHOLE = packed(Content("a", os.urandom(3000)), Content("b", b"b"))[0]
SPARSE = archive._pax_record("GNU.sparse.major", b"0") + archive._pax_record("GNU.sparse.minor", b"1")
DAMAGED = {
    "empty": b"",
    "not gzip": b"PK\3\4" + bytes(1000),
    "gzip of something else": gzip.compress(b"hello" * 1000),
    "gzip of nothing": gzip.compress(b""),
    "header alone": WHOLE[:10],
    "truncated": WHOLE[: len(WHOLE) // 2],
    "flipped": WHOLE[:1000] + bytes([WHOLE[1000] ^ 255]) + WHOLE[1001:],
    "negative size": raw("f/a", b"\xff" * 12),
    "no number for a size": raw("f/a", b"not a number"),
    "sparse map of words": raw("f/a", b"00000000001\0", SPARSE + archive._pax_record("GNU.sparse.map", b"a,b")),
    "headers without end": gzip.compress((archive._ustar(b"x", b"", 1, b"L", 0o644) + b"y".ljust(512, b"\0")) * 2000),
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_archive_is_refused(data: bytes) -> None:
    with pytest.raises((PackInvalidError, FileUnknownError)):
        read_member(io.BytesIO(data), "a", 10_000)


def test_system_tar_is_there() -> None:
    """Where it is not, the tests above say nothing."""
    assert shutil.which("tar")
