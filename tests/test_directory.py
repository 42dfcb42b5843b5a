"""What of a directory is a pack, which files of it are packed, and when it counts as changed."""

from __future__ import annotations

import errno
import os
import random
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from packregistry import directory
from packregistry.config import Limits
from packregistry.directory import DirectoryChangedError, Tree, TreeFile, find_packs, look
from packregistry.model import Problem
from tests.factories import make_pack

LIMITS = Limits()


def paths(tree: Tree) -> list[str]:
    return [file.path for file in tree.files]


def wrong(tree: Tree) -> list[tuple[str, str]]:
    """Every problem as its file and what is wrong."""
    return [(problem.file, problem.message) for problem in tree.problems]


def written(root: Path, *files: str) -> Path:
    """A directory with these files, each holding its own path."""
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A directory in which permissions count, even where the tests run as root."""
    with tempfile.TemporaryDirectory() as place:
        user = os.geteuid()
        Path(place).chmod(0o777)
        if user == 0:
            os.seteuid(65534)
        try:
            yield Path(place)
        finally:
            os.seteuid(user)


class TestLook:
    def test_every_regular_file_is_packed_hidden_ones_too(self, tmp_path: Path) -> None:
        files = [".helmignore", "charts/.x/y", "empty/", "pack.json"]
        root = written(tmp_path / "p", *(name for name in files if not name.endswith("/")))
        (root / "empty").mkdir()
        tree = look(root, LIMITS)
        assert paths(tree) == [".helmignore", "charts/.x/y", "pack.json"]
        assert not tree.problems
        assert tree.root == root
        assert [b"".join(file.chunks()).decode() for file in tree.files] == paths(tree)
        assert [file.size for file in tree.files] == [len(path) for path in paths(tree)]

    @pytest.mark.parametrize("name", [".git/config", "charts/.git/HEAD", ".git", "..data/x", "charts/..2024/x", "..x"])
    def test_what_is_not_the_packs_is_left_out(self, tmp_path: Path, name: str) -> None:
        root = written(tmp_path / "p", "pack.json", ".gitignore", ".github/x", ".a..b", name)
        tree = look(root, LIMITS)
        assert paths(tree) == [".a..b", ".github/x", ".gitignore", "pack.json"]
        assert not tree.problems

    def test_a_mounted_config_map_is_packed_as_its_keys_are_named(self, tmp_path: Path) -> None:
        """Kubernetes mounts links to `..data`, itself a link to a directory that is replaced as a whole."""
        root = written(tmp_path / "p", "..2024_01/pack.json", "..2024_01/charts/a.tgz").resolve()
        (root / "..data").symlink_to("..2024_01")
        for name in ("pack.json", "charts"):
            (root / name).symlink_to(f"..data/{name}")
        before = look(root, LIMITS)
        assert paths(before) == ["charts/a.tgz", "pack.json"]
        assert not before.problems
        written(root, "..2024_02/pack.json", "..2024_02/charts/a.tgz")
        (root / "..data_tmp").symlink_to("..2024_02")
        assert look(root, LIMITS).fingerprint == before.fingerprint
        (root / "..data_tmp").rename(root / "..data")
        after = look(root, LIMITS)
        assert paths(after) == paths(before)
        assert after.fingerprint != before.fingerprint

    def test_links_that_stay_inside_are_followed_wherever_the_pack_lies(self, tmp_path: Path) -> None:
        root = written(tmp_path / "real", "a/x", "pack.json")
        (root / "b").symlink_to("a")
        (root / "y").symlink_to(root / "a" / "x")
        (root / "z").symlink_to("y")
        (tmp_path / "link").symlink_to("real")
        tree = look(tmp_path / "link", LIMITS)
        assert paths(tree) == ["a/x", "b/x", "pack.json", "y", "z"]
        assert not tree.problems
        assert {b"".join(file.chunks()) for file in tree.files if file.path != "pack.json"} == {b"a/x"}

    @pytest.mark.parametrize(
        ("target", "message"),
        [
            ("/etc/passwd", "is a link that leads out of the pack"),
            ("..", "is a link that leads out of the pack"),
            ("../p-secret/x", "is a link that leads out of the pack"),
            ("a/../../p-secret", "is a link that leads out of the pack"),
            ("/proc/self/fd/0", "is a link that leads out of the pack"),
            ("chain", "is a link that leads out of the pack"),
            ("nothing", "cannot be read: No such file or directory"),
            ("odd", "cannot be read: Too many levels of symbolic links"),
            (".", "is a link to a directory that it lies in"),
            ("pack.json/x", "cannot be read: Not a directory"),
        ],
    )
    def test_a_link_that_leads_astray_is_an_error(self, tmp_path: Path, target: str, message: str) -> None:
        written(tmp_path / "p-secret", "x")
        root = written(tmp_path / "p", "pack.json", "a/x")
        (root / "odd").symlink_to(target)
        if target == "chain":
            (root / "chain").symlink_to("../p-secret/x")
        tree = look(root, LIMITS)
        assert paths(tree) == ["a/x", "pack.json"]
        assert ("odd" + "/" * (target == "."), message) in wrong(tree)

    def test_a_cycle_of_links_ends(self, tmp_path: Path) -> None:
        root = written(tmp_path / "p", "a/x", "b/y")
        (root / "a/b").symlink_to("../b")
        (root / "b/a").symlink_to("../a")
        tree = look(root, LIMITS)
        assert paths(tree) == ["a/b/y", "a/x", "b/a/x", "b/y"]
        assert wrong(tree) == [
            ("a/b/a/", "is a link to a directory that it lies in"),
            ("b/a/b/", "is a link to a directory that it lies in"),
        ]

    def test_links_that_multiply_without_end_are_cut_off(self, tmp_path: Path) -> None:
        """Thirty directories with two links each to the next are a thousand million directories, and not one file."""
        for level in range(30):
            (tmp_path / f"{level:02}").mkdir()
            for name in ("a", "b"):
                (tmp_path / f"{level:02}" / name).symlink_to(f"../{level + 1:02}")
        (tmp_path / "30").mkdir()
        tree = look(tmp_path, replace(LIMITS, members=500))
        assert wrong(tree) == [("", "there are more than 500 files and directories")]

    def test_what_is_neither_file_nor_directory_is_an_error_and_never_opened(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        root = written(tmp_path / "p", "pack.json")
        os.mkfifo(root / "fifo")
        monkeypatch.chdir(root)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("socket")
        names = ["fifo", "socket"]
        if os.geteuid() == 0:
            os.mknod(root / "device", 0o20666, os.makedev(1, 3))
            names.insert(0, "device")
        monkeypatch.setattr(os, "open", None)
        tree = look(root, LIMITS)
        assert wrong(tree) == [(name, "is neither a file nor a directory") for name in names]
        assert paths(tree) == ["pack.json"]

    @pytest.mark.parametrize(
        ("name", "file", "message"),
        [
            (b"\xff.yaml", '"a/\\udcff.yaml"', "the file name is not UTF-8"),
            (b"a\nb", '"a/a\\nb"', "the file name has a backslash or an unprintable character in it"),
            (b"\x1b[2J", '"a/\\u001b[2J"', "the file name has a backslash or an unprintable character in it"),
            ("a\u202eb".encode(), '"a/a\\u202eb"', "the file name has a backslash or an unprintable character in it"),
            (b"a\\b", "a/a\\b", "the file name has a backslash or an unprintable character in it"),
        ],
        ids=["not UTF-8", "line feed", "escape", "right to left", "backslash"],
    )
    def test_an_unsafe_file_name_is_an_error_that_is_safe_to_show(
        self, tmp_path: Path, name: bytes, file: str, message: str
    ) -> None:
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / os.fsdecode(name)).write_bytes(b"")
        tree = look(tmp_path, LIMITS)
        assert wrong(tree) == [(file, message)]
        assert str(tree.problems).isprintable()
        assert paths(tree) == []

    def test_unreadable_files_and_directories_are_errors_until_they_can_be_read(self, unprivileged: Path) -> None:
        root = written(unprivileged / "p", "pack.json", "closed/x", "secret", "listed/x")
        for name, mode in (("closed", 0), ("secret", 0), ("listed", 0o444)):
            (root / name).chmod(mode)
        before = look(root, LIMITS)
        assert wrong(before) == [
            (name, "cannot be read: Permission denied") for name in ("closed/", "listed/x", "secret")
        ]
        assert paths(before) == ["pack.json"]
        for name in ("closed", "secret", "listed"):
            (root / name).chmod(0o755)
        after = look(root, LIMITS)
        assert paths(after) == ["closed/x", "listed/x", "pack.json", "secret"]
        assert after.fingerprint != before.fingerprint

    def test_whether_a_file_may_be_run_by_anybody_is_kept(self, tmp_path: Path) -> None:
        root = written(tmp_path, "a", "b", "c")
        (root / "a").chmod(0o644)
        (root / "b").chmod(0o700)
        (root / "c").chmod(0o654)
        assert [file.executable for file in look(root, LIMITS).files] == [False, True, True]

    @pytest.mark.parametrize(
        ("limits", "message"),
        [
            (replace(LIMITS, members=3), ("", "there are more than 3 files and directories")),
            (replace(LIMITS, expanded=10), ("", "the files add up to 11 bytes")),
            (replace(LIMITS, path=4), ("d/four", "the path has 6 bytes")),
            (replace(LIMITS, path=5), ("d/four", "the path has 6 bytes")),
        ],
        ids=["members", "expanded", "path", "path just over"],
    )
    def test_each_limit_is_an_error_when_passed_and_none_when_reached(
        self, tmp_path: Path, limits: Limits, message: tuple[str, str]
    ) -> None:
        root = written(tmp_path, "a", "d/four", "ijkl")
        assert wrong(look(root, limits)) == [message]
        assert wrong(look(root, replace(LIMITS, members=4, expanded=11, path=6))) == []

    def test_directories_nested_too_deep_are_an_error(self, tmp_path: Path) -> None:
        root = written(tmp_path, "/".join(["d"] * 31 + ["x"]))
        assert wrong(look(root, LIMITS)) == []
        written(root, "/".join(["d"] * 32 + ["x"]))
        tree = look(root, LIMITS)
        assert wrong(tree) == [("d/" * 32, "lies more than 32 directories deep")]

    def test_no_more_problems_are_listed_than_anybody_reads(self, tmp_path: Path) -> None:
        for number in range(120):
            (tmp_path / f"{number:03}").symlink_to("nothing")
        assert len(look(tmp_path, LIMITS).problems) == 100

    def test_the_order_does_not_depend_on_the_file_system(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        root = written(tmp_path, "b/x", "a-b", "a/x", "a.b", "Z")
        (root / "broken").symlink_to("nothing")
        (root / "also broken").symlink_to("nothing")
        sorted_as_found = look(root, LIMITS)
        monkeypatch.setattr(os, "scandir", shuffled)
        for _ in range(5):
            assert look(root, LIMITS) == sorted_as_found
        assert paths(sorted_as_found) == ["Z", "a-b", "a.b", "a/x", "b/x"]


_scandir = os.scandir


class shuffled:  # noqa: N801 — stands in for a function
    """`os.scandir` in another order each time."""

    def __init__(self, path: str) -> None:
        self._entries = list(_scandir(path))
        random.shuffle(self._entries)

    def __enter__(self) -> list[os.DirEntry[str]]:
        return self._entries

    def __exit__(self, *_: object) -> None:
        pass


def renamed(root: Path) -> None:
    (root / "b").rename(root / "c")


def rewritten(root: Path) -> None:
    (root / "b").write_text("B")


def rewritten_quietly(root: Path) -> None:
    before = (root / "b").stat()
    (root / "b").write_text("B")
    os.utime(root / "b", ns=(before.st_atime_ns, before.st_mtime_ns))


def appended(root: Path) -> None:
    with (root / "b").open("a") as file:
        file.write("x")


def replaced(root: Path) -> None:
    (root / "b.tmp").write_text("B")
    (root / "b.tmp").rename(root / "b")


def exchanged(root: Path) -> None:
    (root / "a").rename(root / "t")
    (root / "b").rename(root / "a")
    (root / "t").rename(root / "b")


def swapped_for_a_link(root: Path) -> None:
    (root / "b").unlink()
    (root / "b").symlink_to("a")


CHANGES: dict[str, Callable[[Path], object]] = {
    "rewritten": rewritten,
    "rewritten with its time kept": rewritten_quietly,
    "replaced": replaced,
    "appended": appended,
    "truncated": lambda root: (root / "b").write_text(""),
    "renamed": renamed,
    "exchanged": exchanged,
    "added": lambda root: (root / "c").write_text("c"),
    "added below": lambda root: (root / "d/e").write_text("e"),
    "removed": lambda root: (root / "b").unlink(),
    "directory removed": lambda root: shutil.rmtree(root / "d"),
    "directory renamed": lambda root: (root / "d").rename(root / "e"),
    "executable": lambda root: (root / "b").chmod(0o755),
    "a link instead": swapped_for_a_link,
    "a problem": lambda root: (root / "broken").symlink_to("nothing"),
}


class TestChanges:
    @pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
    def test_every_change_of_a_file_changes_the_fingerprint(
        self, tmp_path: Path, change: Callable[[Path], object]
    ) -> None:
        root = written(tmp_path / "p", "a", "b", "d/x")
        (root / "b").chmod(0o644)
        before = look(root, LIMITS)
        wait_for_the_clock(tmp_path)
        change(root)
        after = look(root, LIMITS)
        assert after.fingerprint != before.fingerprint
        assert after.changed >= before.changed

    @pytest.mark.parametrize(
        "change",
        [
            lambda root: None,
            lambda root: (root / "empty").mkdir(),
            lambda root: (root / ".git").mkdir(),
            lambda root: (root / "..tmp").write_text(""),
            lambda root: (root / "a").read_bytes(),
            lambda root: ((root / "t").write_text(""), (root / "t").unlink()),
        ],
        ids=["nothing", "an empty directory", ".git", "a hidden link", "reading", "come and gone"],
    )
    def test_nothing_else_changes_the_fingerprint(self, tmp_path: Path, change: Callable[[Path], object]) -> None:
        root = written(tmp_path, "a", "d/x")
        before = look(root, LIMITS)
        change(root)
        assert look(root, LIMITS).fingerprint == before.fingerprint

    def test_other_limits_change_the_fingerprint(self, tmp_path: Path) -> None:
        """What was refused for its size gets another chance when the limit is raised."""
        root = written(tmp_path, "a")
        assert look(root, LIMITS).fingerprint != look(root, replace(LIMITS, metadata=1)).fingerprint

    def test_the_last_change_is_that_of_files_and_directories_alike(self, tmp_path: Path) -> None:
        root = written(tmp_path / "p", "a", "d/x")
        os.utime(root / "a", (0, 0))
        newest = max(path.stat().st_ctime_ns for path in (root, root / "a", root / "d", root / "d/x"))
        assert look(root, LIMITS).changed == newest / 1e9
        wait_for_the_clock(tmp_path)
        (root / "d" / "gone").write_text("")
        (root / "d" / "gone").unlink()
        assert look(root, LIMITS).changed == (root / "d").stat().st_ctime_ns / 1e9

    @pytest.mark.parametrize("gone", ["d", "a"])
    def test_what_vanishes_during_a_look_counts_as_changing_now(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: str
    ) -> None:
        root = written(tmp_path, "a", "d/x", "z")
        real = os.stat

        def vanishing(path: str | Path, *args: object, **kwargs: object) -> os.stat_result:
            if os.fspath(path) == str(root / gone):
                raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
            return real(path)

        monkeypatch.setattr(os, "stat", vanishing)
        tree = look(root, LIMITS)
        assert tree.changed > time.time() + 1e9
        assert tree.problems

    def test_a_directory_that_vanished_does_so_as_well(self, tmp_path: Path) -> None:
        tree = look(tmp_path / "gone", LIMITS)
        assert tree.changed > time.time() + 1e9
        assert wrong(tree) == [("", "cannot be read: No such file or directory")]


def wait_for_the_clock(place: Path) -> None:
    """Until the file system's clock has ticked: two changes within one tick, every few milliseconds, are one to it."""
    probe = place / "probe"
    probe.touch()
    before = probe.stat().st_ctime_ns
    while probe.stat().st_ctime_ns == before:
        probe.touch()


def the_file(tmp_path: Path, content: bytes = b"content") -> TreeFile:
    (tmp_path / "f").write_bytes(content)
    (file,) = look(tmp_path, LIMITS).files
    return file


def turned_into_a_link(path: Path) -> None:
    path.rename(path.with_name("g"))
    path.symlink_to("g")


def turned_into_a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def turned_into_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def overwritten(path: Path) -> None:
    """With as many bytes, once the file system's clock has ticked: it does so every few milliseconds."""
    before = path.stat().st_ctime_ns
    while path.stat().st_ctime_ns == before:
        path.write_bytes(b"CONTENT")
        os.utime(path, (0, 0))


def grown(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


BETWEEN: dict[str, Callable[[Path], object]] = {
    "vanished": Path.unlink,
    "grown": grown,
    "shrunk": lambda path: os.truncate(path, 3),
    "rewritten": overwritten,
    "a link": turned_into_a_link,
    "a fifo": turned_into_a_fifo,
    "a directory": turned_into_a_directory,
}


class TestChunks:
    @pytest.mark.parametrize("change", BETWEEN.values(), ids=BETWEEN)
    def test_a_file_that_changed_since_the_look_is_not_read(
        self, tmp_path: Path, change: Callable[[Path], object]
    ) -> None:
        file = the_file(tmp_path)
        change(tmp_path / "f")
        with pytest.raises(DirectoryChangedError, match=str(tmp_path / "f")):
            b"".join(file.chunks())

    @pytest.mark.parametrize("name", ["grown", "shrunk", "rewritten"])
    def test_a_file_that_changes_while_it_is_read_is_noticed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        monkeypatch.setattr(directory, "_CHUNK", 2)
        file = the_file(tmp_path)
        reading = file.chunks()
        assert next(reading) == b"co"
        BETWEEN[name](tmp_path / "f")
        with pytest.raises(DirectoryChangedError, match="changed while its pack was being read"):
            list(reading)

    def test_a_disk_that_cannot_be_read_is_no_end_of_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = the_file(tmp_path)

        def broken(self: TreeFile, descriptor: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(TreeFile, "_check", broken)
        with pytest.raises(DirectoryChangedError, match="f cannot be read any more: Input/output error"):
            list(file.chunks())

    def test_no_file_stays_open(self, tmp_path: Path) -> None:
        file = the_file(tmp_path, b"x" * 100)
        before = sorted(Path("/proc/self/fd").iterdir())
        b"".join(file.chunks())
        next(reading := file.chunks())
        del reading
        assert sorted(Path("/proc/self/fd").iterdir()) == before

    def test_content_comes_in_chunks(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(directory, "_CHUNK", 3)
        assert list(the_file(tmp_path).chunks()) == [b"con", b"ten", b"t"]
        assert list(the_file(tmp_path, b"").chunks()) == []


class TestRead:
    def test_files_at_the_root_are_read_and_large_ones_are_a_problem(self, tmp_path: Path) -> None:
        tree = look(written(tmp_path, "pack.json", "README.md", "d/pack.json", "other"), LIMITS)
        assert tree.read(("pack.json", "README.md", "logo.png"), 9) == (
            {"pack.json": b"pack.json", "README.md": b"README.md"},
            (),
        )
        contents, problems = tree.read(("pack.json",), 8)
        assert contents == {}
        assert problems == (Problem("error", "pack.json", 0, "", "the file has 9 bytes", "limits.metadata allows 8"),)


class TestFindPacks:
    def test_packs_are_found_at_any_depth_in_order_and_not_inside_each_other(self, tmp_path: Path) -> None:
        for name in ("z", "a/b/c", "a-b", "a/a", "a/a/charts/inner", "Z"):
            written(tmp_path, f"{name}/pack.json")
        written(tmp_path, "no/pack.yaml", "loose.json")
        found, problems = find_packs(tmp_path)
        assert [str(path.relative_to(tmp_path)) for path in found] == ["Z", "a/a", "a/b/c", "a-b", "z"]
        assert not problems

    def test_the_root_itself_may_be_a_pack(self, tmp_path: Path) -> None:
        written(tmp_path / ".hidden", "pack.json", "inner/pack.json")
        assert find_packs(tmp_path / ".hidden") == ([tmp_path / ".hidden"], [])

    def test_hidden_directories_are_not_entered(self, tmp_path: Path) -> None:
        written(tmp_path, ".git/pack.json", ".a/b/pack.json", "..data/c/pack.json")
        assert find_packs(tmp_path) == ([], [])

    def test_links_are_followed_and_each_directory_is_found_once(self, tmp_path: Path) -> None:
        written(tmp_path / "root", "..2024/hello/pack.json", "z/pack.json")
        written(tmp_path / "elsewhere", "far/pack.json")
        for name, target in {
            "..data": "..2024",
            "hello": "..data/hello",
            "a": "z",
            "b": "z",
            "out": "../elsewhere",
            "loop": "../root",
            "self": "self",
            "broken": "nothing",
            "file": "z/pack.json",
        }.items():
            (tmp_path / "root" / name).symlink_to(target)
        (tmp_path / "elsewhere" / "back").symlink_to("../root")
        found, problems = find_packs(tmp_path / "root")
        assert [str(path.relative_to(tmp_path / "root")) for path in found] == ["a", "hello", "out/far"]
        assert not problems

    def test_a_link_named_pack_json_makes_a_pack(self, tmp_path: Path) -> None:
        """As in a mounted ConfigMap."""
        written(tmp_path, "p/..data/pack.json")
        (tmp_path / "p" / "pack.json").symlink_to("..data/pack.json")
        assert find_packs(tmp_path)[0] == [tmp_path / "p"]

    def test_a_directory_named_pack_json_does_not(self, tmp_path: Path) -> None:
        written(tmp_path, "p/pack.json/pack.json")
        assert find_packs(tmp_path)[0] == [tmp_path / "p" / "pack.json"]

    def test_what_cannot_be_entered_is_named_and_the_rest_is_found(self, unprivileged: Path) -> None:
        written(unprivileged, "closed/p/pack.json", "open/pack.json")
        (unprivileged / "linked").symlink_to("closed/p")
        (unprivileged / "closed").chmod(0)
        try:
            found, problems = find_packs(unprivileged)
        finally:
            (unprivileged / "closed").chmod(0o755)
        assert found == [unprivileged / "open"]
        assert [path for path, _ in problems] == [unprivileged / "closed", unprivileged / "linked"]
        assert {problem.message for _, problem in problems} == {"cannot be read: Permission denied"}
        assert all(problem.remedy for _, problem in problems)

    @pytest.mark.parametrize("kind", ["missing", "file", "fifo"])
    def test_a_root_that_is_no_directory_is_a_problem(self, tmp_path: Path, kind: str) -> None:
        root = tmp_path / "root"
        if kind == "file":
            root.write_text("")
        if kind == "fifo":
            os.mkfifo(root)
        found, problems = find_packs(root)
        assert found == []
        assert [path for path, _ in problems] == [root]

    def test_directories_nested_too_deep_are_a_problem(self, tmp_path: Path) -> None:
        written(tmp_path, "d/" * 33 + "pack.json", "d/" * 31 + "p/pack.json")
        found, problems = find_packs(tmp_path)
        assert found == [tmp_path / ("d/" * 31 + "p")]
        assert [(path, problem.message) for path, problem in problems] == [
            (tmp_path / ("d/" * 32), "lies more than 32 directories deep")
        ]

    def test_a_pack_whose_path_is_no_text_is_refused_in_text(self, tmp_path: Path) -> None:
        make_pack(tmp_path, directory=os.fsdecode(b"odd\xff"))
        make_pack(tmp_path, directory="good")
        found, problems = find_packs(tmp_path)
        assert found == [tmp_path / "good"]
        assert [(path, problem.message) for path, problem in problems] == [
            (tmp_path / "odd\\udcff", "the path is not UTF-8")
        ]

    def test_the_order_does_not_depend_on_the_file_system(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("z", "a/b", "a-b", "a/a"):
            written(tmp_path, f"{name}/pack.json")
        (tmp_path / "b").symlink_to("z")
        expected = find_packs(tmp_path)
        monkeypatch.setattr(os, "scandir", shuffled)
        for _ in range(5):
            assert find_packs(tmp_path) == expected
