"""Pushed archives: good ones are read as they are, and each way to lie is refused in one answer."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tracemalloc
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packregistry import archive
from packregistry.config import Limits
from packregistry.directory import look
from packregistry.inspection import PROBLEMS_MAX, Inspection, inspect
from packregistry.model import Digest, Member
from packregistry.pack import METADATA_FILES
from tests.archives import END, folder, header, long_name, member, pack_tar, pax, record, with_checksum, zipped
from tests.factories import CORPUS, make_pack, pack_files

MIB = 1024 * 1024
DEEP = "/".join(["charts", "a-chart", *["templates"] * 15, "deployment.yaml"])
FILES = {DEEP: b"kind: Deployment\n", "manifests/größe.yaml": b"", "charts/run.sh": b"#!/bin/sh\n" * 100}
NEEDS_TAR = pytest.mark.skipif(shutil.which("tar") is None, reason="needs the system's tar")


def inspected(data: bytes, **limits: int) -> Inspection:
    return inspect(io.BytesIO(data), len(data), Limits(**limits), METADATA_FILES)


def found(data: bytes, **limits: int) -> list[tuple[str, str]]:
    """The problems as file and message; each is an error with a remedy."""
    problems = inspected(data, **limits).problems
    assert all(problem.remedy and problem.severity == "error" for problem in problems)
    return [(problem.file, problem.message) for problem in problems]


def expected_members(root: Path) -> tuple[Member, ...]:
    files = sorted((path for path in root.rglob("*") if path.is_file()), key=lambda path: str(path.relative_to(root)))
    return tuple(
        Member(str(path.relative_to(root)), path.stat().st_size, Digest.of(path.read_bytes()), os.access(path, os.X_OK))
        for path in files
    )


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack with long, deep and accented paths, an executable file and an empty one."""
    root = make_pack(tmp_path_factory.mktemp("packs"), files=FILES)
    for path in root.rglob("*"):
        path.chmod(0o755 if path.is_dir() or path.suffix == ".sh" else 0o644)
    return root


def assert_is(directory: Path, data: bytes, inside: str) -> None:
    """Assert that an archive is the pack in `directory`, in the folder `inside`."""
    inspection = inspected(data)
    assert inspection.problems == ()
    assert inspection.complete
    assert inspection.folder == inside
    assert inspection.members == expected_members(directory)
    assert inspection.files == {title: (directory / title).read_bytes() for title in pack_files()}


# what is accepted


@pytest.mark.parametrize("piece", [archive.PIECE, 1000], ids=["one gzip member", "many gzip members"])
def test_our_own_archives_are_read(directory: Path, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "PIECE", piece)
    out = io.BytesIO()
    packed = archive.pack(look(directory, Limits()).files, "hello-1.0.0", out)
    assert_is(directory, out.getvalue(), "hello-1.0.0")
    assert inspected(out.getvalue()).members == packed.members


@NEEDS_TAR
@pytest.mark.real
@pytest.mark.parametrize("form", ["gnu", "oldgnu", "posix", "ustar"])
@pytest.mark.parametrize(
    ("arguments", "inside"),
    [
        pytest.param(["-C", "..", "hello-1.0.0"], "hello-1.0.0", id="folder"),
        pytest.param(["-C", "..", "./hello-1.0.0"], "hello-1.0.0", id="dotted folder"),
        pytest.param(["."], "", id="root"),
        pytest.param(["--transform", "s,^\\./,,", "."], "", id="root without dots"),
    ],
)
def test_what_gnu_tar_makes_is_read(directory: Path, form: str, arguments: list[str], inside: str) -> None:
    command = ["tar", "-czf", "-", f"--format={form}", *arguments]
    assert_is(directory, subprocess.run(command, cwd=directory, check=True, capture_output=True).stdout, inside)


@NEEDS_TAR
@pytest.mark.real
@pytest.mark.parametrize(
    ("argument", "message"),
    [
        pytest.param("--format=gnu", "is a sparse file", id="sparse, gnu"),
        pytest.param("--format=posix", "is a sparse file", id="sparse, pax 1.0"),
        pytest.param("--sparse-version=0.1", "is a sparse file", id="sparse, pax 0.1"),
        pytest.param("--sparse-version=0.0", "the extended header", id="sparse, pax 0.0 repeats its keys"),
    ],
)
def test_sparse_files_by_gnu_tar_are_refused(tmp_path: Path, argument: str, message: str) -> None:
    root = make_pack(tmp_path)
    with (root / "sparse").open("wb") as file:
        for place in range(0, 10 * MIB, MIB):
            file.seek(place)
            file.write(b"x")
    command = ["tar", "-czf", "-", "--format=posix", argument, "--sparse", "-C", str(tmp_path), root.name]
    done = subprocess.run(command, check=True, capture_output=True)
    problems = inspected(done.stdout).problems
    assert any(problem.message.startswith(message) for problem in problems)


@pytest.mark.parametrize(
    "form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["ustar", "gnu", "pax"]
)
@pytest.mark.parametrize("inside", ["", "hello"], ids=["root", "folder"])
def test_what_python_makes_is_read(directory: Path, form: int, inside: str) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", format=form, pax_headers={"comment": "git"}) as tar:
        tar.add(directory, inside or ".")
    assert_is(directory, out.getvalue(), inside)


@pytest.mark.parametrize(
    ("data", "inside"),
    [
        pytest.param(zipped(pack_tar(), END), "hello", id="folder"),
        pytest.param(zipped(folder("hello/"), pack_tar(), END), "hello", id="folder with its directory"),
        pytest.param(zipped(folder("./"), pack_tar(inside="./"), END), "", id="dots"),
        pytest.param(zipped(folder("."), pack_tar(inside="././"), END), "", id="more dots"),
        pytest.param(zipped(folder("./hello/"), pack_tar(inside="./hello/"), END), "hello", id="dotted folder"),
        pytest.param(zipped(pax(record("comment", "1f"), kind=b"g"), pack_tar(), END), "hello", id="git archive"),
        pytest.param(zipped(pack_tar(), END, bytes(10 * 1024)) + bytes(512), "hello", id="padding"),
        pytest.param(zipped(pack_tar()) + zipped(END), "hello", id="two gzip members"),
        pytest.param(zipped(pack_tar(folder("charts/"), inside=""), END), "", id="root with a folder"),
    ],
)
def test_packs_lie_at_the_root_or_in_a_single_folder(data: bytes, inside: str) -> None:
    inspection = inspected(data)
    assert inspection.problems == ()
    assert (inspection.complete, inspection.folder) == (True, inside)
    assert inspection.files == pack_files()
    assert [file.path for file in inspection.members] == sorted(pack_files())


def test_the_archive_is_read_from_where_the_source_stands() -> None:
    data = zipped(pack_tar(), END)
    source = io.BytesIO(b"before" + data)
    source.seek(6)
    assert inspect(source, len(data), Limits(), METADATA_FILES).problems == ()


def test_a_pack_at_the_root_may_have_packs_below() -> None:
    """As the folder could have been the pack until `pack.json` came, its files must not be taken for the pack's."""
    below = pack_tar(inside="below/")
    for tar in (below + pack_tar(inside="", leave_out="README.md"), pack_tar(inside="", leave_out="README.md") + below):
        inspection = inspected(zipped(tar, END))
        assert inspection.problems == ()
        assert inspection.files == {title: data for title, data in pack_files().items() if title != "README.md"}
        assert "below/README.md" in {file.path for file in inspection.members}


def test_a_pack_in_a_folder_has_only_its_own_metadata_files() -> None:
    inspection = inspected(
        zipped(member("hello/sub/schema.yaml", b"x"), pack_tar(member("hello/two/schema.yaml", b"x")), END)
    )
    assert inspection.problems == ()
    assert inspection.files == pack_files()


def test_only_the_titles_asked_for_are_kept() -> None:
    data = zipped(pack_tar(), END)
    assert set(inspect(io.BytesIO(data), len(data), Limits(), ["values.yaml"]).files) == {"values.yaml"}


def test_archives_in_archives_are_not_looked_into() -> None:
    bomb = zipped(member("../../etc/passwd", bytes(MIB)), END)
    assert found(zipped(pack_tar(member("hello/charts/bomb.tgz", bomb)), END)) == []


# what is refused: a good pack, then `parts`


def nfd(text: str) -> str:
    return unicodedata.normalize("NFD", text)


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        pytest.param([member("/etc/passwd")], ("/etc/passwd", "the path is absolute"), id="absolute"),
        pytest.param([member(".//etc")], ("/etc", "the path is absolute"), id="absolute behind a dot"),
        pytest.param([folder("/")], ("/", "the path is absolute"), id="absolute directory"),
        pytest.param([member("C:/x")], ("C:/x", "the path is absolute"), id="drive"),
        pytest.param([member("../x")], ("../x", "the path has '..' in it"), id="up"),
        pytest.param([member("hello/a/../x")], ("a/../x", "the path has '..' in it"), id="up in the middle"),
        pytest.param([folder("..")], ("..", "the path has '..' in it"), id="up directory"),
        pytest.param([folder("hello/../")], ("../", "the path has '..' in it"), id="up directory with a slash"),
        pytest.param(
            [pax(record("path", "../x")), member("hello/x")], ("../x", "the path has '..' in it"), id="up by pax"
        ),
        pytest.param([long_name("../x"), member("hello/x")], ("../x", "the path has '..' in it"), id="up by long name"),
        pytest.param([header("x", prefix=b"..")], ("../x", "the path has '..' in it"), id="up by prefix"),
        pytest.param(
            [member("hello//x")], ("/x", "the path has an empty component or '.' in it"), id="empty component"
        ),
        pytest.param(
            [member("hello/x/")], ("x/", "the path has an empty component or '.' in it"), id="file with a slash"
        ),
        pytest.param([folder("hello/x//")], ("x//", "the path has an empty component or '.' in it"), id="two slashes"),
        pytest.param([member("hello/./x")], ("./x", "the path has an empty component or '.' in it"), id="dot"),
        pytest.param([member(".")], (".", "the path has an empty component or '.' in it"), id="file called dot"),
        pytest.param(
            [header("", prefix=b"hello/x", kind=b"\0")],
            ("", "the path has an empty component or '.' in it"),
            id="prefix without a name",
        ),
        pytest.param([member("")], ("", "the path has an empty component or '.' in it"), id="no name"),
        pytest.param(
            [pax(record("path", "")), member("hello/x")],
            ("", "the path has an empty component or '.' in it"),
            id="no path",
        ),
        pytest.param(
            [member("hello/a\\b")],
            ("a\\b", "the file name has a backslash or a control character in it"),
            id="backslash",
        ),
        pytest.param(
            [member("hello/a\nb")],
            ('"hello/a\\nb"', "the file name has a backslash or a control character in it"),
            id="newline",
        ),
        pytest.param(
            [pax(record("path", "hello/a\0b")), member("x")],
            ('"hello/a\\u0000b"', "the file name has a backslash or a control character in it"),
            id="nul",
        ),
        pytest.param(
            [member("hello/\N{RIGHT-TO-LEFT OVERRIDE}gnp.exe")],
            ('"hello/\\u202egnp.exe"', "the file name has a backslash or a control character in it"),
            id="bidi",
        ),
        pytest.param(
            [member(b"hello/\xff")], ("\N{REPLACEMENT CHARACTER}", "the file name is not UTF-8"), id="not utf-8"
        ),
        pytest.param([member("hello/" + "d/" * 15 + "a")], ("d/" * 15 + "a", "the path has 31 bytes"), id="long path"),
        pytest.param(
            [pax(record("path", "hello/" + "ü" * 1000 + "\\//")), member("x")],
            ('"hello/' + "\\u00fc" * 194 + '\\u2026"', "the path has 2009 bytes"),
            id="very long path",
        ),
        pytest.param([header("hello/x", kind=b"2", at={157: b"/"})], ("x", "is a symbolic link"), id="symbolic link"),
        pytest.param([header("hello/x", kind=b"1", at={157: b"/"})], ("x", "is a hard link"), id="hard link"),
        pytest.param([header("hello/x", kind=b"3")], ("x", "is a character device"), id="character device"),
        pytest.param([header("hello/x", kind=b"4")], ("x", "is a block device"), id="block device"),
        pytest.param([header("hello/x", kind=b"6")], ("x", "is a FIFO"), id="fifo"),
        pytest.param([pax(record("GNU.sparse.name", "x")), member("hello/x")], ("x", "is a sparse file"), id="sparse"),
        pytest.param(
            [member("hello/x", kind=b"Z")], ("x", 'is of the type "Z", which packs do not have'), id="unknown type"
        ),
        pytest.param([member("hello/x", mode=0o4755)], ("x", "would run as its owner or group"), id="set-user-id"),
        pytest.param(
            [header("./", kind=b"5", mode=0o4755)],
            ("", "would run as its owner or group"),
            id="set-user-id of the root",
        ),
        pytest.param([member("hello/README.md", b"2")], ("README.md", "is in the archive more than once"), id="twice"),
        pytest.param(
            [member("./hello/README.md")], ("README.md", "is in the archive more than once"), id="twice, dotted"
        ),
        pytest.param(
            [folder("hello/README.md/")], ("README.md", "is in the archive more than once"), id="directory too"
        ),
        pytest.param(
            [member("hello/README.md/x")],
            ("README.md/x", 'lies in "hello/README.md", which is not a directory'),
            id="in a file",
        ),
        pytest.param(
            [member("hello/readme.md")],
            ("readme.md", 'differs from "hello/README.md" only in case or in how Unicode is written'),
            id="case",
        ),
        pytest.param(
            [member("hello/a/x"), member("hello/A/y")],
            ("A/y", 'differs from "hello/a" only in case or in how Unicode is written'),
            id="case of folders",
        ),
        pytest.param(
            [member("hello/ä"), member("hello/" + nfd("ä"))],
            ("ä", 'differs from "hello/a\\u0308" only in case or in how Unicode is written'),
            id="unicode form",
        ),
        pytest.param(
            [member("hello/\u03b1\u0301\u0345"), member("hello/\u03b1\u0345\u0301")],
            (
                "\u03b1\u0345\u0301",
                'differs from "hello/\\u03b1\\u0301\\u0345" only in case or in how Unicode is written',
            ),
            id="unicode order",
        ),
        pytest.param(
            [member("hello/straße"), member("hello/STRASSE")],
            ("straße", 'differs from "hello/STRASSE" only in case or in how Unicode is written'),
            id="case folding",
        ),
        pytest.param(
            [member("stray")], ("stray", 'lies beside the pack\'s folder "hello"'), id="file beside the folder"
        ),
        pytest.param(
            [folder("other")], ("other", 'lies beside the pack\'s folder "hello"'), id="folder beside the folder"
        ),
        pytest.param(
            [member("other/pack.json")],
            ("", 'there are 2 packs in the archive: "hello", "other"'),
            id="two packs",
        ),
        pytest.param(
            [member("b/pack.json"), member("c/pack.json")],
            ("", 'there are 3 packs in the archive: "b", "c", …'),
            id="three packs",
        ),
        pytest.param(
            [member("hello/schema.yaml", b"x" * 2001)], ("schema.yaml", "the file has 2001 bytes"), id="metadata"
        ),
        pytest.param(
            [header("hello/x", checksum=b"0000000 ")],
            ("", "the header at byte 4096 has a wrong check sum"),
            id="check sum",
        ),
        pytest.param(
            [header("hello/x", size=b"\xff" * 12)], ("", "the header at byte 4096 has the size -1"), id="negative"
        ),
        pytest.param(
            [header("hello/x", size=8**11 - 1)], ("x", "the archive expands to more than 100000 bytes"), id="huge size"
        ),
        pytest.param(
            [header("hello/x", size=b"\x80" + b"\x7f" * 11)],
            ("x", "the archive expands to more than 100000 bytes"),
            id="huge size in base 256",
        ),
        pytest.param([folder("hello/a/")] * 8, ("", "there are more than 10 members"), id="members"),
        pytest.param(
            [header("p", kind=b"x", size=2**33 - 1)],
            ("", "the extended header at byte 4096 has 8589934591 bytes"),
            id="pax",
        ),
        pytest.param(
            [header("hello/x", size=2000)], ("x", "the tar ends in the middle of this member"), id="truncated tar"
        ),
    ],
)
def test_each_way_to_lie_is_one_problem_with_its_file(parts: list[bytes], problem: tuple[str, str]) -> None:
    problems = found(zipped(pack_tar(*parts), END), path=30, members=10, metadata=2000, expanded=100_000)
    assert problem in problems
    others = {item for item in problems if item != problem}
    assert all("more than once" in message for _, message in others)  # the folder that fills the archive repeats


def test_each_path_below_a_file_is_refused() -> None:
    tar = pack_tar(*(member(f"hello/{name}") for name in ("a", "a/b", "a/c", "a/b/d", "a-")))
    assert [path for path, _ in found(zipped(tar, END))] == ["a/b", "a/b/d", "a/c"]


def test_a_link_and_what_would_go_through_it_are_both_refused() -> None:
    assert found(zipped(pack_tar(header("hello/a", kind=b"2"), member("hello/a/b")), END)) == [
        ("a", "is a symbolic link"),
        ("a/b", 'lies in "hello/a", which is not a directory'),
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"", "the archive is empty", id="empty"),
        pytest.param(pack_tar() + END, "the archive is not compressed", id="tar"),
        pytest.param(gzip.compress(b"hello"), "the tar ends where a header should be", id="compressed text"),
        pytest.param(zipped(pack_tar(), END)[:-9], "the gzip stream is cut off", id="truncated gzip"),
        pytest.param(zipped(pack_tar()), "the tar ends where a header should be", id="no end marker"),
        pytest.param(zipped(pack_tar(), bytes(512)), "the end of the tar is not marked", id="half an end marker"),
        pytest.param(zipped(pack_tar(), END, b"x"), "something follows the end of the tar", id="after the tar"),
        pytest.param(zipped(pack_tar(), END) + b"x", "something follows the gzip stream", id="after the gzip stream"),
        pytest.param(
            zipped(pack_tar(), END)[:-8] + bytes(8),
            "the gzip stream is damaged: Error -3 while decompressing data: incorrect data check",
            id="gzip check sum",
        ),
        pytest.param(
            zipped(pack_tar(), END) * 2, "something follows the end of the tar", id="two archives one after the other"
        ),
    ],
)
def test_damage_ends_the_pass_and_is_the_only_problem(data: bytes, message: str) -> None:
    assert found(data) == [("", message)]
    assert not inspected(data).complete


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        pytest.param({"archive": 1000}, "the archive has {size} bytes", id="archive"),
        pytest.param({"expanded": 100_000}, "the archive expands to more than 100000 bytes", id="expanded"),
        pytest.param({"ratio": 2}, "the archive expands to more than 2 times its size", id="ratio"),
    ],
)
def test_sizes_are_limited(limits: dict[str, int], message: str) -> None:
    data = zipped(pack_tar(member("hello/zeros", bytes(4 * MIB)), member("hello/noise", os.urandom(MIB))), END)
    assert found(data) == []
    assert [text for _, text in found(data, **limits)] == [message.format(size=len(data))]


def test_an_archive_over_its_limit_is_not_read() -> None:
    source = io.BytesIO(zipped(pack_tar(), END))
    assert len(inspect(source, 1001, Limits(archive=1000), METADATA_FILES).problems) == 1
    assert source.tell() == 0


def test_limits_are_what_is_still_allowed() -> None:
    path = "d/" * 14 + "abc"
    data = zipped(pack_tar(member("hello/" + path), member("hello/schema.yaml", b"x" * 2000)), END)
    limits = {"path": len(path), "metadata": 2000, "members": 6, "archive": len(data), "expanded": 4096 + 3072 + 1024}
    assert found(data, **limits) == []
    assert len(inspected(data, **limits).files["schema.yaml"]) == 2000
    for name, value in limits.items():
        assert len(found(data, **{**limits, name: value - 1})) == 1, name


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("._hello", "set COPYFILE_DISABLE=1 for tar on macOS"),
        (".DS_Store", "set COPYFILE_DISABLE=1 for tar on macOS"),
        ("__MACOSX/x", "set COPYFILE_DISABLE=1 for tar on macOS"),
        ("notes.txt", "leave it out"),
    ],
)
def test_what_macos_puts_beside_the_folder_has_its_own_remedy(name: str, remedy: str) -> None:
    inspection = inspected(zipped(member(name), pack_tar(), END))
    assert [problem.remedy for problem in inspection.problems] == [remedy]
    assert (inspection.complete, inspection.folder, inspection.files) == (True, "hello", pack_files())


@pytest.mark.parametrize(
    ("tar", "hint"),
    [
        pytest.param(b"", "", id="nothing"),
        pytest.param(pack_tar(leave_out="pack.json"), "", id="other files"),
        pytest.param(folder("pack.json/"), "", id="a directory of that name"),
        pytest.param(header("pack.json", kind=b"2"), "", id="a link of that name"),
        pytest.param(pack_tar(inside="a/b/"), '; there is one in "a/b"', id="too deep"),
    ],
)
def test_an_archive_without_a_pack_says_where_one_should_be(tar: bytes, hint: str) -> None:
    inspection = inspected(zipped(tar, END))
    message = f"there is no pack.json, neither at the root of the archive nor in a single folder there{hint}"
    assert message in [problem.message for problem in inspection.problems]
    assert not inspection.complete


def test_what_is_wrong_is_told_all_at_once() -> None:
    parts = [
        member("/a"),
        header("hello/b", kind=b"2"),
        member("hello/readme.md"),
        member("c"),
        member("hello/d", mode=0o4000),
    ]
    assert len(found(zipped(pack_tar(*parts), END))) == 5


def test_what_ended_the_pass_comes_first_and_what_was_found_before_it_follows() -> None:
    data = zipped(member("/a"), pack_tar(member("hello/pack.json"), header("hello/x", size=8**11 - 1)))
    assert found(data, expanded=10**6) == [
        ("x", "the archive expands to more than 1000000 bytes"),
        ("/a", "the path is absolute"),
        ("pack.json", "is in the archive more than once"),
    ]
    inspection = inspected(data)
    assert (inspection.folder, inspection.complete) == ("hello", False)
    assert set(pack_files()) <= set(inspection.files)


def test_nothing_is_said_to_be_missing_from_an_archive_that_was_not_read_to_its_end() -> None:
    for tar in (b"", member("hello/values.yaml"), pack_tar() + pack_tar(inside="other/"), pack_tar(member("stray"))):
        assert len(found(zipped(tar))) == 1


@pytest.mark.parametrize(("count", "left_out"), [(PROBLEMS_MAX, 0), (PROBLEMS_MAX + 1, 2), (1000, 901)])
@pytest.mark.parametrize("damaged", [False, True])
def test_of_too_many_problems_the_last_says_how_many_are_left_out(count: int, left_out: int, damaged: bool) -> None:
    tar = pack_tar(*(member(f"/{number}") for number in range(count - damaged)))
    problems = inspected(zipped(tar, b"" if damaged else END)).problems
    assert len(problems) == PROBLEMS_MAX
    assert problems[0].message == ("the tar ends where a header should be" if damaged else "the path is absolute")
    assert problems[-1].message == (f"{left_out} more problems are not listed" if left_out else "the path is absolute")


def test_a_metadata_file_before_the_packs_folder_leaves_the_pack_unread() -> None:
    """Only one folder's files are kept; what then is not there must not be said to be missing."""
    inspection = inspected(zipped(member("docs/README.md"), pack_tar(), END))
    assert [(problem.file) for problem in inspection.problems] == ["docs"]
    assert (inspection.folder, inspection.complete, inspection.files) == ("hello", False, {})


def test_an_error_of_the_source_is_passed_on() -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        inspect(Broken(), 100, Limits(), METADATA_FILES)


# bounded in memory and in time

ZEROS = gzip.compress(bytes(16 * MIB), mtime=0)
MIB_OF_ZEROS = gzip.compress(bytes(MIB), mtime=0)
HUGE = b"\x80" + (2**33).to_bytes(11, "big")


@pytest.mark.parametrize(
    ("data", "limits", "message", "share"),
    [
        pytest.param(
            zipped(header("a", size=2**30 - MIB)) + ZEROS * 64, {}, "more than 200 times its size", 0.1, id="1 GiB file"
        ),
        pytest.param(ZEROS * 64, {}, "zeros follow the end of the tar", 0.1, id="1 GiB of zeros"),
        pytest.param(
            zipped(header("p", kind=b"x", size=HUGE)) + ZEROS,
            {},
            "the extended header at byte 0 has 8589934592 bytes",
            1.0,
            id="pax header of 8 GiB",
        ),
        pytest.param(
            zipped(header("a") * 10_000) * 100,
            {"members": 5000},
            "more than 5000 members",
            0.1,
            id="10^6 empty members",
        ),
        pytest.param(
            b"".join(zipped(header(f"{number}/values.yaml", size=MIB)) + MIB_OF_ZEROS for number in range(30)),
            {"ratio": 2000},
            "the tar ends where a header should be",
            1.0,
            id="metadata in many folders",
        ),
        pytest.param(
            zipped(header("values.yaml", size=64 * MIB)) + ZEROS * 4,
            {"ratio": 2000},
            "the tar ends where a header should be",
            1.0,
            id="a large metadata file",
        ),
        pytest.param(gzip.compress(b"") * 100_000, {}, "more than 20000 parts", 0.3, id="tiny gzip members"),
        pytest.param(
            zipped(*(long_name("./" * 30_000) + header("a") for _ in range(200))), {}, "the path has ", 1.0, id="dots"
        ),
    ],
)
def test_hostile_archives_are_refused_early_and_within_the_memory(
    data: bytes, limits: dict[str, int], message: str, share: float
) -> None:
    source = io.BytesIO(data)
    tracemalloc.start()
    try:
        problems = inspect(source, len(data), Limits(**limits), METADATA_FILES).problems
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert any(message in problem.message for problem in problems)
    assert source.tell() <= len(data) * share + 64 * 1024
    assert peak < 16 * MIB


# differences to other readers


def by_tarfile(data: bytes) -> dict[str, tuple[int, str, bool]]:
    """The regular files of an archive as Python reads them."""
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as tar:
        files = {}
        for info in tar:
            if info.isreg():
                content = tar.extractfile(info)
                assert content is not None
                digest = hashlib.sha256(content.read()).hexdigest()
                files[info.name.removeprefix("./")] = (info.size, f"sha256:{digest}", bool(info.mode & 0o111))
        return files


def assert_read_as_by_tarfile_or_refused(data: bytes) -> None:
    inspection = inspected(data)
    if not inspection.problems:
        inside = f"{inspection.folder}/" if inspection.folder else ""
        ours = {inside + file.path: (file.size, str(file.digest), file.executable) for file in inspection.members}
        assert ours == by_tarfile(data)


SAMPLE = (
    folder("hello/")
    + pack_tar()
    + long_name("hello/" + "long/" * 30 + "name")
    + member("hello/short", b"1" * 700, mode=0o755)
    + pax(record("path", "hello/päx"), record("size", "3"), record("mtime", "1.5"))
    + member("hello/other", b"abc", prefix=b"hello")
    + END
)
SAMPLE_HEADERS = [
    at for at in range(0, len(SAMPLE), 512) if with_checksum(SAMPLE[at : at + 512]) == SAMPLE[at : at + 512]
]
BYTES = st.sampled_from([*b"\0 /.0123456789ax5LKgS\n=-", 0x80, 0xFF]) | st.integers(0, 255)


def test_the_sample_is_good_and_has_headers() -> None:
    assert len(by_tarfile(zipped(SAMPLE))) == 6
    assert len(SAMPLE_HEADERS) == 9
    assert_read_as_by_tarfile_or_refused(zipped(SAMPLE))
    assert found(zipped(SAMPLE)) == []


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_bytes_changed_in_the_archive_never_raise(data: st.DataObject) -> None:
    changed = bytearray(zipped(SAMPLE))
    for place, byte in data.draw(
        st.lists(st.tuples(st.integers(0, len(changed) - 1), st.integers(0, 255)), max_size=4)
    ):
        changed[place] = byte
    cut = data.draw(st.integers(0, len(changed)) | st.just(len(changed)))
    assert_read_as_by_tarfile_or_refused(bytes(changed[:cut]))


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_bytes_changed_in_the_tar_are_refused_or_mean_to_others_what_they_mean_to_us(data: st.DataObject) -> None:
    """The check sums of the headers are made right, so that it is the fields that are looked at."""
    changed = bytearray(SAMPLE)
    for block in data.draw(st.lists(st.sampled_from(SAMPLE_HEADERS), min_size=1, max_size=3)):
        offsets = st.sampled_from([0, 99, 100, 124, 134, 135, 156, 257, 263, 345, 499, 500]) | st.integers(0, 511)
        for offset, byte in data.draw(st.lists(st.tuples(offsets, BYTES), min_size=1, max_size=3)):
            changed[block + offset] = byte
        changed[block : block + 512] = with_checksum(bytes(changed[block : block + 512]))
    for place, byte in data.draw(st.lists(st.tuples(st.integers(0, len(changed) - 1), BYTES), max_size=2)):
        changed[place] = byte
    cut = data.draw(st.just(len(changed)) | st.integers(0, len(changed)))
    assert_read_as_by_tarfile_or_refused(gzip.compress(bytes(changed[:cut]), 1))


NAMES = st.sampled_from(
    ["hello/a", "hello/a/", "a", "", ".", "./", "hello", "hello/a/b", "/a", "hello/../a", "hello/A"]
)
PARTS = st.one_of(
    st.builds(
        member,
        NAMES,
        st.sampled_from([b"", b"abc", b"x" * 513]),
        kind=st.sampled_from([b"0", b"\0", b"5", b"1", b"7", b"S", b"V"]),
        prefix=st.sampled_from([b"", b"hello", b"hello/"]),
        magic=st.sampled_from([b"ustar\x0000", b"ustar  \0", bytes(8)]),
    ),
    st.builds(long_name, NAMES, st.sampled_from([b"L", b"K"])),
    st.builds(
        lambda key, value, kind: pax(record(key, value), kind=kind),
        st.sampled_from(["path", "size", "linkpath", "comment", "hdrcharset", "GNU.sparse.name"]),
        NAMES | st.sampled_from(["0", "3", "513", "BINARY"]),
        st.sampled_from([b"x", b"g"]),
    ),
)


@settings(deadline=None, max_examples=100)
@given(st.lists(PARTS, max_size=5))
def test_members_in_any_order_are_refused_or_mean_to_others_what_they_mean_to_us(parts: list[bytes]) -> None:
    assert_read_as_by_tarfile_or_refused(gzip.compress(pack_tar() + b"".join(parts) + END, 1))


# real packs


@pytest.mark.thorough
@pytest.mark.corpus
@pytest.mark.skipif(not CORPUS.is_dir(), reason=f"the corpus of real packs is not at {CORPUS}")
def test_every_real_pack_is_read_as_it_was_packed() -> None:
    directories = sorted(path.parent for path in CORPUS.glob("*/pack.json"))
    assert directories
    for root in directories:
        out = io.BytesIO()
        packed = archive.pack(look(root, Limits()).files, root.name, out)
        inspection = inspected(out.getvalue())
        assert (inspection.problems, inspection.folder) == ((), root.name)
        assert inspection.members == packed.members
        titles: dict[str, Any] = {
            title: (root / title).read_bytes() for title in METADATA_FILES if (root / title).is_file()
        }
        assert inspection.files == titles
