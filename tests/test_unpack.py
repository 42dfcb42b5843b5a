"""Archives become directories, whole or not at all."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

import pytest

from packregistry import archive, unpack
from packregistry.config import Limits
from packregistry.errors import PackInvalidError
from packregistry.failures import TargetError
from tests import archives as tar
from tests.factories import MemoryFile, noise, pack_files


def packed(files: dict[str, bytes], folder: str = "hello-1.0.0") -> io.BytesIO:
    out = io.BytesIO()
    archive.pack([MemoryFile(path, content, path.endswith(".sh")) for path, content in files.items()], folder, out)
    return out


def zipped(*parts: bytes) -> io.BytesIO:
    return io.BytesIO(tar.zipped(*parts, tar.END))


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def refused(source: io.BytesIO, parent: Path, limits: Limits | None = None) -> str:
    """Why the archive is not unpacked; nothing of it is left."""
    parent.mkdir(exist_ok=True)
    with pytest.raises(PackInvalidError) as caught:
        unpack.unpack(source, parent / "target", limits or Limits())
    assert list(parent.iterdir()) == []
    return str(caught.value)


def test_a_pack_comes_out_as_it_went_in(tmp_path: Path) -> None:
    files = pack_files(files={"charts/a/b.yaml": b"x: 1\n", "big": noise(700_000)})
    target = tmp_path / "new" / "target"
    unpack.unpack(packed(files), target, Limits())
    assert tree(target) == files
    assert list(target.parent.iterdir()) == [target]


def test_a_pack_at_the_root_of_its_archive_comes_out_too(tmp_path: Path) -> None:
    unpack.unpack(
        zipped(tar.folder("./"), tar.member("./pack.json", b"{}"), tar.member("a/b", b"1")), tmp_path / "t", Limits()
    )
    assert tree(tmp_path / "t") == {"pack.json": b"{}", "a/b": b"1"}


def test_directories_stay_also_when_they_are_empty(tmp_path: Path) -> None:
    parts = tar.folder("p/"), tar.folder("p/empty/"), tar.member("p/pack.json")
    unpack.unpack(zipped(*parts), tmp_path / "t", Limits())
    assert (tmp_path / "t" / "empty").is_dir()


def test_only_the_executable_bit_of_a_mode_is_kept(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        parts = tar.member("p/run", b"#!", mode=0o777), tar.member("p/odd", b"", mode=0o000), tar.folder("p/d/")
        unpack.unpack(zipped(*parts), tmp_path / "t", Limits())
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "t").iterdir()}
    assert modes == {"run": 0o750, "odd": 0o640, "d": 0o750}
    assert stat.S_IMODE((tmp_path / "t").stat().st_mode) == 0o750


def test_a_directory_with_a_set_group_id_bit_is_a_directory(tmp_path: Path) -> None:
    parts = tar.header("p/", kind=b"5", mode=0o2755), tar.member("p/Chart.yaml", b"a: b")
    unpack.unpack(zipped(*parts), tmp_path / "t", Limits())
    assert tree(tmp_path / "t") == {"Chart.yaml": b"a: b"}


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([tar.member("/etc/passwd", b"x")], "plain relative path"),
        ([tar.member("p/../../x", b"x")], "plain relative path"),
        ([tar.member("p//x", b"x")], "plain relative path"),
        ([tar.member("p/./x", b"x")], "plain relative path"),
        ([tar.member("p\\..\\x", b"x")], "plain relative path"),
        ([tar.member("p/\x1b[2J", b"x")], "plain relative path"),
        ([tar.folder("../")], "plain relative path"),
        ([tar.member(b"p/\xff", b"x")], "UTF-8"),
        ([tar.header("p/x", kind=b"2")], "symbolic link"),
        ([tar.header("p/x", kind=b"1")], "hard link"),
        ([tar.header("p/x", kind=b"3")], "character device"),
        ([tar.header("p/x", kind=b"6")], "FIFO"),
        ([tar.pax(tar.record("GNU.sparse.major", "1")), tar.member("p/x", b"x")], "sparse"),
        ([tar.member("p/x", b"x", mode=0o4755)], "owner or group"),
        ([tar.member("p/x", b"x"), tar.member("p/x", b"y")], "there twice"),
        ([tar.member("p/x", b"x"), tar.member("p/x/y", b"y")], "there twice"),
        ([tar.member("p/x/y", b"x"), tar.member("p/x", b"y")], "there twice"),
        ([tar.member("p/x", b"x"), tar.folder("p/x/")], "there twice"),
        ([tar.pax(tar.record("path", "/".join("p" * 65))), tar.member("p", b"x")], "too long a path"),
        ([tar.pax(tar.record("path", "p/" + "a/" * 20 + "x" * 900)), tar.member("p", b"x")], "too long a path"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_member_that_is_unsafe_refuses_the_whole(tmp_path: Path, parts: list[bytes], reason: str) -> None:
    assert reason in refused(zipped(tar.member("p/pack.json", b"{}"), *parts), tmp_path / "here")


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(members=3), "limits.members"),
        (Limits(expanded=2000), "limits.expanded"),
        (Limits(ratio=1), "limits.ratio"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_archive_beyond_a_limit_is_refused_with_the_limit(tmp_path: Path, limits: Limits, reason: str) -> None:
    files = pack_files(files={"zeros": bytes(1_200_000)})
    assert reason in refused(packed(files), tmp_path / "here", limits)


def test_a_long_folder_does_not_count_for_the_length_of_paths(tmp_path: Path) -> None:
    limits = Limits(path=20)
    unpack.unpack(packed({"pack.json": b"{}", "12345678901234567890": b""}, "f" * 90), tmp_path / "t", limits)
    assert len(tree(tmp_path / "t")) == 2


@pytest.mark.parametrize("cut", [10, 400, -20], ids=str)
def test_an_archive_that_is_cut_off_leaves_nothing(tmp_path: Path, cut: int) -> None:
    data = packed(pack_files(files={"big": noise(50_000)})).getvalue()
    assert refused(io.BytesIO(data[:cut]), tmp_path / "here")
    assert tree(tmp_path) == {}


def test_what_is_there_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "mine").write_text("1")
    with pytest.raises(TargetError, match="not empty"):
        unpack.unpack(packed(pack_files()), tmp_path / "t", Limits())
    assert tree(tmp_path) == {"t/mine": b"1"}


@pytest.mark.parametrize("kind", ["file", "link", "dangling"])
@pytest.mark.parametrize("replace", [False, True], ids=["keep", "replace"])
def test_what_is_no_directory_is_never_replaced(tmp_path: Path, kind: str, replace: bool) -> None:
    target = tmp_path / "t"
    (tmp_path / "elsewhere").mkdir()
    if kind == "file":
        target.write_text("1")
    else:
        target.symlink_to(tmp_path / ("elsewhere" if kind == "link" else "nowhere"))
    with pytest.raises(TargetError, match="in the way"):
        unpack.unpack(packed(pack_files()), target, Limits(), replace=replace)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_an_empty_directory_is_filled(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    unpack.unpack(packed(pack_files()), tmp_path / "t", Limits())
    assert tree(tmp_path / "t") == pack_files()


def test_replacing_leaves_nothing_of_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "old").write_text("1")
    unpack.unpack(packed(pack_files()), tmp_path / "t", Limits(), replace=True)
    assert tree(tmp_path / "t") == pack_files()
    assert list(tmp_path.iterdir()) == [tmp_path / "t"]


def test_a_refused_archive_replaces_nothing(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "old").write_text("1")
    with pytest.raises(PackInvalidError):
        unpack.unpack(zipped(tar.member("../x")), tmp_path / "t", Limits(), replace=True)
    assert tree(tmp_path) == {"t/old": b"1"}


def test_where_the_last_step_fails_the_old_directory_is_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "old").write_text("1")
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.name == "hello-1.0.0":
            raise OSError(5, os.strerror(5))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(TargetError, match="Input/output error"):
        unpack.unpack(packed(pack_files()), tmp_path / "t", Limits(), replace=True)
    assert tree(tmp_path) == {"t/old": b"1"}


def test_names_that_are_one_on_this_file_system_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file system that ignores case."""
    before = Path.open

    def blind(self: Path, mode: str = "r", *args: object) -> object:
        return before(self.with_name(self.name.lower()), mode, *args)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", blind)
    assert "there twice" in refused(zipped(tar.member("p/a"), tar.member("p/A")), tmp_path / "here")


def test_a_parent_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TargetError, match="file/t cannot be written"):
        unpack.unpack(packed(pack_files()), tmp_path / "file" / "t", Limits())
