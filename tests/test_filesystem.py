"""What only the filesystem storage does: files in their order, damage, leftovers, full disks, several processes."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import gc
import json
import logging
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from packregistry.errors import (
    BlobUnknownError,
    RegistryError,
    StorageFullError,
    StorageUnavailableError,
)
from packregistry.model import Digest, PackName, PackRecord, Tag
from packregistry.storage import Storage
from packregistry.storage.filesystem import FilesystemStorage, sync_directory
from packregistry.storage.journal import Journal
from tests.factories import record, release
from tests.storage_contract import DATA, DIGEST, HELLO, append, joined


@pytest.fixture(autouse=True)
def _no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for no disk: what is synced when is seen by the tests that look at it."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
async def storage(root: Path) -> AsyncIterator[FilesystemStorage]:
    storage = FilesystemStorage(root)
    await storage.open()
    yield storage
    await storage.close()


@pytest.fixture
async def other(storage: FilesystemStorage, root: Path) -> AsyncIterator[FilesystemStorage]:
    """A second storage on the same directory, up to date."""
    other = FilesystemStorage(root)
    await other.open()
    await other.refresh()
    await storage.refresh()
    yield other
    await other.close()


def blobs(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "blobs" / "sha256").iterdir())


def staged(root: Path) -> list[Path]:
    return within(root / "staging")


def within(directory: Path) -> list[Path]:
    return sorted(directory.iterdir())


def new_directory(path: Path, mode: int = 0o755) -> Path:
    path.mkdir(mode=mode)
    return path


def allow_everybody_in(directory: Path) -> None:
    directory.chmod(0o755)


def replace_by_empty_directory(root: Path) -> None:
    root.rename(root.parent / "away")
    root.mkdir()


def failing(number: int) -> OSError:
    return OSError(number, os.strerror(number))


# The directory


async def test_the_layout_is_as_documented(storage: FilesystemStorage, root: Path) -> None:
    await storage.put([(DIGEST, DATA)])
    await storage.write_record(record("hello", release()), None)
    assert [path.name for path in within(root)] == ["blobs", "changes", "format", "locks", "packs", "staging"]
    assert (root / "format").read_text() == "1\n"
    assert blobs(root) == [DIGEST.hex]
    assert json.loads((root / "packs" / "hello.json").read_bytes())["name"] == "hello"
    assert staged(root) == []


async def test_files_are_readable_by_owner_and_group_only(storage: FilesystemStorage, root: Path) -> None:
    await storage.put([(DIGEST, DATA)])
    await storage.write_record(record("hello", release()), None)
    for path in (root / "packs" / "hello.json", root / "blobs" / "sha256" / DIGEST.hex):
        assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("found", [b"2\n", b"", b"\xff\xfe"], ids=["newer", "empty", "binary"])
async def test_a_directory_of_another_format_is_refused_and_left_as_it_is(root: Path, found: bytes) -> None:
    (new_directory(root) / "format").write_bytes(found)
    storage = FilesystemStorage(root)
    with pytest.raises(StorageUnavailableError, match=r"another version.*--data"):
        await storage.open()
    assert within(root) == [root / "format"]
    await storage.close()


@pytest.mark.parametrize("where", ["", "blobs", "packs", "staging"])
async def test_a_file_in_the_place_of_a_directory_is_named(root: Path, where: str) -> None:
    path = root / where
    path.parent.mkdir(exist_ok=True)
    path.write_text("")
    storage = FilesystemStorage(root)
    with pytest.raises(StorageUnavailableError, match=str(path)) as caught:
        await storage.open()
    assert f"uid {os.getuid()}" in caught.value.remedy
    await storage.close()


@pytest.mark.parametrize("where", ["", "blobs/sha256", "packs", "staging", "locks"])
async def test_a_directory_that_cannot_be_written_is_named_with_the_user(
    storage: FilesystemStorage, root: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != root / where)
    with pytest.raises(StorageUnavailableError) as caught:
        await storage.open()
    uid, gid = os.geteuid(), os.getegid()
    assert caught.value.message.startswith(
        f"{root / where} cannot be used: Permission denied: this process is uid {uid}, gid {gid}, and "
    )
    assert caught.value.remedy.startswith(f"run `chown -R {uid}:{gid} {root}` as root")


async def test_permissions_are_really_looked_at() -> None:
    """As another user, since root may do everything."""
    with tempfile.TemporaryDirectory() as name:
        root = new_directory(Path(name) / "data", mode=0o555)
        allow_everybody_in(Path(name))
        storage = FilesystemStorage(root)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            with pytest.raises(StorageUnavailableError, match="Permission denied"):
                await storage.open()
        finally:
            os.seteuid(user)
        await storage.close()


async def test_many_may_open_a_new_directory_at_once(root: Path) -> None:
    storages = [FilesystemStorage(root) for _ in range(8)]
    await asyncio.gather(*(storage.open() for storage in storages))
    assert staged(root) == []
    await asyncio.gather(*(storage.close() for storage in storages))


# Errors


@pytest.mark.parametrize(
    ("number", "expected", "message"),
    [
        (errno.ENOSPC, StorageFullError, "no space left below"),
        (errno.EDQUOT, StorageFullError, "no space left below"),
        (errno.EACCES, StorageUnavailableError, "Permission denied"),
        (errno.EROFS, StorageUnavailableError, "Read-only file system"),
        (errno.EIO, StorageUnavailableError, "Input/output error"),
        (errno.EMFILE, StorageUnavailableError, "Too many open files"),
    ],
    ids=lambda value: errno.errorcode[value] if isinstance(value, int) else "",
)
async def test_what_the_system_refuses_is_translated(
    storage: FilesystemStorage,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    expected: type[RegistryError],
    message: str,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise failing(number)

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(expected, match=message) as caught:
        await storage.put([(DIGEST, DATA)])
    assert str(root) in caught.value.message
    assert caught.value.remedy
    with pytest.raises(expected):
        await storage.write_record(record("hello", release()), None)
    assert blobs(root) == []
    assert within(root / "packs") == []
    assert staged(root) == []


@pytest.mark.parametrize("call", ["mkdir", "scandir"])
async def test_no_space_for_a_new_directory_is_a_refusal(
    root: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise failing(errno.ENOSPC)

    monkeypatch.setattr(os, call, refuse)
    storage = FilesystemStorage(root)
    with pytest.raises(StorageFullError, match=f"no space left below {root}"):
        await (storage.open() if call == "mkdir" else storage.refresh())
    await storage.close()


async def test_a_refusal_names_file_user_and_remedy(storage: FilesystemStorage, root: Path) -> None:
    blob = root / "blobs" / "sha256" / DIGEST.hex
    blob.mkdir()
    with pytest.raises(StorageUnavailableError, match=rf"{blob} cannot be used: .*uid {os.getuid()} can write it"):
        await storage.read_blob(DIGEST)


async def test_no_space_while_staging_is_a_refusal(storage: FilesystemStorage, root: Path) -> None:
    def fill() -> None:
        with storage.stage() as file, Path("/dev/full").open("wb", buffering=0) as full:
            file.file.write(DATA)
            full.write(DATA)

    with pytest.raises(StorageFullError, match="no space left"):
        fill()
    assert staged(root) == []


async def test_another_error_while_staging_is_none_of_the_storage(storage: FilesystemStorage, root: Path) -> None:
    def fail() -> None:
        with storage.stage():
            Path("/nowhere/at/all").read_bytes()

    with pytest.raises(FileNotFoundError):
        fail()
    assert staged(root) == []


@pytest.mark.parametrize("call", ["flock", "mkstemp"])
async def test_staging_that_is_not_possible_leaves_nothing(
    storage: FilesystemStorage, root: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise failing(errno.ENOLCK)

    monkeypatch.setattr({"flock": "fcntl.flock", "mkstemp": "tempfile.mkstemp"}[call], refuse)
    with pytest.raises(StorageUnavailableError, match="No locks available"):
        storage.stage().__enter__()
    assert staged(root) == []


@pytest.mark.parametrize("nth", range(4))
async def test_a_failure_half_way_leaves_nothing_under_a_digest(
    storage: FilesystemStorage, root: Path, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    """Three blobs and then their directory are synced, one by one; whichever fails, no name is of lost bytes."""
    contents = [b"one", b"two", b"three"]
    sync, calls = os.fsync, iter(range(100))

    def fsync(descriptor: int) -> None:
        if next(calls) == nth:
            raise failing(errno.EIO)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StorageUnavailableError):
        await storage.put([(Digest.of(content), content) for content in contents])
    assert blobs(root) == ([] if nth < 3 else sorted(Digest.of(content).hex for content in contents))
    assert staged(root) == []
    await storage.put([(Digest.of(content), content) for content in contents])
    for content in contents:
        assert await storage.read_blob(Digest.of(content)) == content


async def test_a_journal_without_space_does_not_lose_the_change(
    storage: FilesystemStorage, other: FilesystemStorage, root: Path
) -> None:
    """The record is replaced by then, so everybody has to look at all of them."""
    (root / "changes").unlink()
    (root / "changes").symlink_to("/dev/full")
    written = record("hello", release())
    await storage.write_record(written, None)
    await storage.write_record(record("more", release()), None)
    assert other.stale()
    assert (await other.refresh())[HELLO] == written


# Order


class Calls:
    """Which files were synced, renamed and announced, in order."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[tuple[str, str]] = []
        sync, rename, announce = os.fsync, Path.rename, Journal.announce

        def fsync(descriptor: int) -> None:
            path = Path(f"/proc/self/fd/{descriptor}").readlink()
            self.seen.append(("sync", path.parent.name if path.parent.name == "staging" else path.name))
            sync(descriptor)

        def renamed(path: Path, target: Path) -> Path:
            self.seen.append(("rename", target.name))
            return rename(path, target)

        def announced(journal: Journal, line: str) -> None:
            self.seen.append(("announce", line))
            announce(journal, line)

        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(Path, "rename", renamed)
        monkeypatch.setattr(Journal, "announce", announced)


async def test_blobs_are_durable_before_they_have_a_name(
    storage: FilesystemStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Calls(root, monkeypatch)
    two = Digest.of(b"two")
    await storage.put([(DIGEST, DATA), (two, b"two")])
    assert calls.seen == [
        ("sync", "staging"),
        ("sync", "staging"),
        ("rename", DIGEST.hex),
        ("rename", two.hex),
        ("sync", "sha256"),
    ]


async def test_a_blob_that_is_there_is_not_written_again_but_counts_as_new(
    storage: FilesystemStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name may not be durable yet, when whoever put it is still at it."""
    await storage.put([(DIGEST, DATA)])
    path = root / "blobs" / "sha256" / DIGEST.hex
    os.utime(path, (1, 1))
    inode = path.stat().st_ino
    calls = Calls(root, monkeypatch)
    await storage.put([(DIGEST, DATA)])
    assert calls.seen == [("sync", "sha256")]
    assert path.stat().st_ino == inode
    assert path.stat().st_mtime > 1_000_000


async def test_a_record_is_durable_before_it_is_seen_and_seen_before_it_is_announced(
    storage: FilesystemStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Calls(root, monkeypatch)
    await storage.write_record(record("hello", release()), None)
    assert calls.seen == [
        ("sync", "staging"),
        ("rename", "hello.json"),
        ("announce", "hello"),
        ("sync", "packs"),
    ]


async def test_a_new_directory_is_durable(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(root, monkeypatch)
    storage = FilesystemStorage(root)
    await storage.open()
    assert calls.seen == [
        ("sync", "staging"),
        ("rename", "format"),
        ("sync", "blobs"),
        ("sync", "data"),
        ("sync", root.parent.name),
        ("announce", "*"),
    ]
    await storage.close()


async def test_states_differ_though_the_clock_stands_still(
    storage: FilesystemStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or goes backwards; inode numbers come again, and the size is the same."""
    monkeypatch.setattr("time.time_ns", lambda: 10**18)
    times = []
    for _ in range(3):
        _, state = await storage.read_record(HELLO)
        await storage.write_record(record("hello", release()), state)
        times.append((root / "packs" / "hello.json").stat().st_mtime_ns)
    assert times == [10**18, 10**18 + 1, 10**18 + 2]


# Records that are not as they should be


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "no JSON": lambda good: good[:-5],
    "not UTF-8": lambda good: good.replace(b"Hello", b"\xff\xff"),
    "another name": lambda good: good.replace(b'"hello"', b'"other"', 1),
    "newer format": lambda good: good.replace(b'"format": 1', b'"format": 2'),
    "a list": lambda _: b"[]",
    "nested too deeply": lambda _: b"[" * 100_000,
    "no releases": lambda good: good.replace(b'"releases"', b'"r"'),
    "a number for a version": lambda good: good.replace(b'"version": "1.0.0"', b'"version": 1'),
    "a bad digest": lambda good: good.replace(b"sha256:", b"sha512:"),
}


@pytest.fixture(params=DAMAGE)
def damage(request: pytest.FixtureRequest) -> Callable[[bytes], bytes]:
    return DAMAGE[request.param]


async def test_a_damaged_record_is_reported_once_and_picked_up_when_repaired(
    storage: FilesystemStorage,
    root: Path,
    damage: Callable[[bytes], bytes],
    caplog: pytest.LogCaptureFixture,
) -> None:
    good = record("hello", release())
    await storage.write_record(good, None)
    await storage.write_record(record("more", release()), None)
    await storage.refresh()
    path = root / "packs" / "hello.json"
    content = path.read_bytes()
    path.write_bytes(damage(content))
    for _ in range(3):
        assert await storage.refresh(everything=True) == {}
    assert set(storage.damaged) == {"hello"}
    assert str(path) in storage.damaged[HELLO]
    assert [entry.levelno for entry in caplog.records].count(logging.ERROR) == 1
    path.write_bytes(content)
    assert await storage.refresh(everything=True) == {"hello": good}
    assert storage.damaged == {}


async def test_a_damaged_record_does_not_keep_the_others_out(
    storage: FilesystemStorage, root: Path, damage: Callable[[bytes], bytes]
) -> None:
    await storage.write_record(record("hello", release()), None)
    await storage.write_record(record("more", release()), None)
    path = root / "packs" / "hello.json"
    path.write_bytes(damage(path.read_bytes()))
    later = FilesystemStorage(root)
    await later.open()
    assert set(await later.refresh()) == {"more"}
    assert set(later.damaged) == {"hello"}
    await later.close()


async def test_a_damaged_record_is_not_written_over(storage: FilesystemStorage, root: Path) -> None:
    path = root / "packs" / "hello.json"
    path.write_bytes(b"damaged")
    with pytest.raises(StorageUnavailableError, match=f"restore {path} from a backup, or move it away"):
        await storage.read_record(HELLO)
    with pytest.raises(RegistryError):
        await storage.write_record(record("hello", release()), None)
    assert path.read_bytes() == b"damaged"


async def test_what_is_damaged_can_be_gone_through_while_more_is_found(storage: FilesystemStorage, root: Path) -> None:
    (root / "packs" / "hello.json").write_bytes(b"damaged")
    await storage.refresh(everything=True)
    damaged = storage.damaged
    (root / "packs" / "more.json").write_bytes(b"damaged")
    await storage.refresh(everything=True)
    assert set(damaged) == {"hello"}
    assert set(storage.damaged) == {"hello", "more"}


async def test_a_damaged_record_may_be_moved_away(storage: FilesystemStorage, root: Path) -> None:
    path = root / "packs" / "hello.json"
    path.write_bytes(b"damaged")
    await storage.refresh(everything=True)
    path.unlink()
    assert await storage.read_record(HELLO) == (PackRecord(HELLO), None)
    assert storage.damaged == {}


async def test_moving_a_damaged_record_away_is_found_out(storage: FilesystemStorage, root: Path) -> None:
    good = record("hello", release())
    await storage.write_record(good, None)
    await storage.refresh()
    path = root / "packs" / "hello.json"
    original = path.rename(root / "original")
    path.write_bytes(b"damaged")
    await storage.refresh(everything=True)
    assert set(storage.damaged) == {"hello"}
    original.rename(path)
    await storage.refresh(everything=True)
    assert storage.damaged == {}


@pytest.mark.parametrize("kind", ["directory", "loop"])
async def test_what_cannot_be_read_as_a_record_does_not_keep_the_others_out(
    storage: FilesystemStorage, root: Path, kind: str
) -> None:
    await storage.write_record(record("more", release()), None)
    path = root / "packs" / "hello.json"
    if kind == "directory":
        path.mkdir()
    else:
        path.symlink_to(path)
    assert set(await storage.refresh(everything=True)) == {"more"}
    assert set(storage.damaged) == {"hello"}


async def test_a_record_that_could_not_be_read_for_a_moment_is_read_later(
    storage: FilesystemStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = record("hello", release())
    await storage.write_record(good, None)
    with monkeypatch.context() as patch:

        def refuse(path: Path, *args: Any) -> Any:
            raise failing(errno.EIO)

        patch.setattr(PackRecord, "decode", refuse)
        assert await storage.refresh(everything=True) == {}
    assert await storage.refresh(everything=True) == {"hello": good}


async def test_a_look_that_fails_takes_nothing_away(
    storage: FilesystemStorage, other: FilesystemStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("hello", "more"):
        await storage.write_record(record(name, release()), None)
    decode = PackRecord.decode

    def refuse(data: bytes) -> PackRecord:
        if b'"more"' in data:
            raise MemoryError
        return decode(data)

    with monkeypatch.context() as patch:
        patch.setattr(PackRecord, "decode", refuse)
        with pytest.raises(MemoryError):
            await other.refresh()
    assert other.stale()
    assert set(await other.refresh()) == {"hello", "more"}


@pytest.mark.parametrize(
    "name", ["not a name.json", "_catalog.json", ".hello.json", os.fsdecode(b"h\xe9llo.json")], ids=ascii
)
async def test_a_file_that_is_no_record_is_left_alone_and_mentioned_once(
    storage: FilesystemStorage, root: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    (root / "packs" / name).write_bytes(b"{}")
    (root / "packs" / "hello.json.orig").write_bytes(b"{}")
    for _ in range(3):
        assert await storage.refresh(everything=True) == {}
    assert [entry.getMessage() for entry in caplog.records] == [
        f"{json.dumps(name)} in {root / 'packs'} is not a record of this registry: move it elsewhere"
    ]
    assert storage.damaged == {}


@pytest.mark.parametrize("line", ["../../secret", "/etc/passwd", "..", "a\0b", "", "x" * 300])
async def test_hostile_lines_in_the_journal_reach_no_path(
    storage: FilesystemStorage, root: Path, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await storage.refresh()
    (root.parent / "secret.json").write_bytes(record("secret", release()).encode())
    with (root / "changes").open("a") as file:
        file.write(f"{line}\n")
    assert storage.stale()
    assert await storage.refresh() == {}
    assert not storage.stale()


async def test_a_record_removed_by_hand_stays_in_use(storage: FilesystemStorage, root: Path) -> None:
    await storage.write_record(record("hello", release()), None)
    await storage.refresh()
    (root / "packs" / "hello.json").unlink()
    assert await storage.refresh(everything=True) == {}
    assert storage.damaged == {}


# Between processes


async def test_a_change_that_was_not_announced_is_found_by_looking_at_everything(
    storage: FilesystemStorage, other: FilesystemStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer was killed between replacing the record and announcing it."""
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "announce", lambda *_: None)
        await storage.write_record(record("hello", release()), None)
    assert not other.stale()
    assert set(await other.refresh(everything=True)) == {"hello"}


async def test_a_change_that_was_not_announced_is_found_when_a_process_starts(
    storage: FilesystemStorage, other: FilesystemStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "announce", lambda *_: None)
        await storage.write_record(record("hello", release()), None)
    started = FilesystemStorage(root)
    await started.open()
    assert other.stale()
    assert set(await other.refresh()) == {"hello"}
    await started.close()


async def test_only_what_was_announced_is_looked_at(
    storage: FilesystemStorage, other: FilesystemStorage, root: Path
) -> None:
    await storage.write_record(record("hello", release()), None)
    (root / "packs" / "more.json").write_bytes(record("more", release()).encode())
    assert set(await other.refresh()) == {"hello"}
    assert set(await other.refresh(everything=True)) == {"more"}


async def test_a_removed_journal_is_made_again(
    storage: FilesystemStorage, other: FilesystemStorage, root: Path
) -> None:
    await storage.write_record(record("hello", release()), None)
    (root / "changes").unlink()
    assert other.stale()
    assert set(await other.refresh()) == {"hello"}
    await other.refresh()
    assert not other.stale()


async def test_an_unmounted_volume_is_unavailable_and_left_alone(storage: FilesystemStorage, root: Path) -> None:
    await storage.refresh()
    replace_by_empty_directory(root)
    assert storage.stale()
    with pytest.raises(StorageUnavailableError, match=str(root)):
        await storage.refresh()
    assert within(root) == []


def publish_versions(root: str, versions: list[str]) -> None:
    """What another process does."""

    async def write() -> None:
        storage = FilesystemStorage(Path(root))
        await storage.open()
        for version in versions:
            await append(storage, version)
        await storage.close()

    asyncio.run(write())


@pytest.mark.thorough
@pytest.mark.process
async def test_processes_lose_nothing_to_each_other(storage: FilesystemStorage, root: Path) -> None:
    await storage.refresh()
    context = multiprocessing.get_context("spawn")
    versions = [[f"{writer}.{number}" for number in range(5)] for writer in range(3)]
    processes = [context.Process(target=publish_versions, args=(str(root), each)) for each in versions[:2]]
    for process in processes:
        process.start()
    for version in versions[2]:
        await append(storage, version)
    for process in processes:
        await asyncio.to_thread(process.join)
        assert process.exitcode == 0
    assert storage.stale()
    found = (await storage.refresh())[HELLO]
    assert set(found.releases) == {version for each in versions for version in each}


# Leftovers


async def test_files_of_a_process_that_ended_go_and_those_of_a_living_one_stay(
    storage: FilesystemStorage, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    leftover = root / "staging" / "leftover"
    leftover.write_text("")
    with storage.stage() as living:
        started = FilesystemStorage(root)
        await started.open()
        assert staged(root) == [living.path]
        await started.close()
    assert f"removing {leftover}, left by a process that ended" in caplog.text


def start(script: str, *args: str) -> subprocess.Popen[bytes]:
    """Run a script until it has written a line."""
    command = [sys.executable, "-c", script, *args]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    return process


@pytest.mark.process
async def test_files_of_a_killed_process_go(storage: FilesystemStorage, root: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from packregistry.storage.filesystem import FilesystemStorage\n"
        "with FilesystemStorage(Path(sys.argv[1])).stage() as file:\n"
        "    file.file.write(b'x' * 100_000); print(flush=True); sys.stdin.read()\n"
    )
    process = start(script, str(root))
    await storage.open()
    assert len(staged(root)) == 1
    process.kill()
    process.communicate()
    await storage.open()
    assert staged(root) == []


async def test_what_is_no_file_does_not_keep_the_server_from_starting(storage: FilesystemStorage, root: Path) -> None:
    (root / "staging" / "directory").mkdir()
    os.mkfifo(root / "staging" / "fifo")
    (root / "staging" / "link").symlink_to(root / "format")
    await storage.open()
    assert len(staged(root)) == 3
    assert (root / "format").exists()


async def test_a_file_that_is_taken_for_a_leftover_before_it_is_locked_is_made_again(
    storage: FilesystemStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = fcntl.flock
    taken: list[Path] = []

    def slow(file: Any, operation: int) -> None:
        if not taken:
            taken.extend(staged(root))
            taken[0].unlink()
        flock(file, operation)

    monkeypatch.setattr("fcntl.flock", slow)
    with storage.stage() as file:
        assert file.path.exists()
        assert file.path not in taken
        file.file.write(DATA)
        await storage.put([(DIGEST, file)])
    assert await storage.read_blob(DIGEST) == DATA


# Blobs


async def test_an_open_blob_can_be_read_though_it_is_removed(storage: FilesystemStorage, root: Path) -> None:
    await storage.put([(DIGEST, DATA)])
    opened = await storage.open_blob(DIGEST)
    (root / "blobs" / "sha256" / DIGEST.hex).unlink()
    assert await joined(opened.chunks(0, len(DATA))) == DATA
    assert opened.descriptor is not None
    assert os.pread(opened.descriptor, 4, 5) == DATA[5:9]
    opened.close()
    with pytest.raises(BlobUnknownError):
        await storage.open_blob(DIGEST)


async def test_a_blob_nobody_waits_for_any_more_is_closed(storage: FilesystemStorage) -> None:
    """Opening was cancelled when the file was open already."""
    await storage.put([(DIGEST, DATA)])
    opened = await storage.open_blob(DIGEST)
    descriptor = opened.descriptor
    assert descriptor is not None
    del opened
    await asyncio.sleep(0)  # the loop lets go of what it has just handed over
    gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_syncing_a_directory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sync_directory(tmp_path / "nowhere")


# A full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one mebibyte."""
    mount = tmp_path / "small"
    mount.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", mount], capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"a small tmpfs cannot be mounted: {made.stderr.decode().strip()}")
    try:
        yield mount
    finally:
        subprocess.run(["umount", "--lazy", mount], check=True)


@pytest.fixture
async def full_storage(small_disk: Path) -> AsyncIterator[FilesystemStorage]:
    """A storage with a record and a blob, on a disk where no byte more fits."""
    storage = FilesystemStorage(small_disk / "data")
    await storage.open()
    await storage.put([(DIGEST, DATA)])
    await storage.write_record(PackRecord(HELLO, {Tag("1"): release("1")}), None)
    await storage.refresh()
    with pytest.raises(OSError, match="No space left"):
        (small_disk / "filler").write_bytes(bytes(2 * 1024 * 1024))
    yield storage
    await storage.close()


@pytest.mark.real
async def test_a_full_disk_refuses_and_keeps_what_is_there(full_storage: FilesystemStorage, small_disk: Path) -> None:
    storage: Storage = full_storage
    data = bytes(100_000)
    with pytest.raises(StorageFullError, match=f"no space left below {small_disk}"):
        await storage.put([(Digest.of(b"small"), b"small"), (Digest.of(data), data)])
    before, state = await storage.read_record(HELLO)
    with pytest.raises(StorageFullError):
        await storage.write_record(record("hello", release("2")), state)

    def fill() -> None:
        with storage.stage() as file:
            file.file.write(data)
            file.file.flush()

    with pytest.raises(StorageFullError):
        fill()
    root = small_disk / "data"
    assert blobs(root) == [DIGEST.hex]
    assert staged(root) == []
    assert (await storage.read_record(HELLO))[0] == before
    assert await storage.read_blob(DIGEST) == DATA


@pytest.mark.real
async def test_a_server_starts_on_a_full_disk_and_goes_on_when_there_is_space(
    full_storage: FilesystemStorage, small_disk: Path
) -> None:
    started = FilesystemStorage(small_disk / "data")
    await started.open()
    assert set(await started.refresh()) == {"hello"}
    (small_disk / "filler").unlink()
    await append(full_storage, "2")
    assert started.stale()
    assert set((await started.refresh())[HELLO].releases) == {"1", "2"}
    assert PackName("hello") not in started.damaged
    await started.close()
