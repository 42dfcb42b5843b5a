"""Edits of the users file: what changes, that nothing else does, and what is refused."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packregistry.auth import usersfile
from packregistry.auth.htpasswd import HtpasswdFile, Users, UsersFileError, decoded, hashed
from packregistry.auth.usersfile import (
    EditError,
    KnownUserError,
    PasswordError,
    UnknownUserError,
    UserNameError,
    UsersFile,
    generated,
)
from tests import process

SECRET = b"se:cret"
HASH = b"$2y$04$Zkvxq4xj/J6WgKZmR1WgiuveyCMZabd6NyqRjBFj4pYY/hUZd.tKq"  # of SECRET, made by Apache's htpasswd
NEW = HASH.replace(b"$2y$", b"$2b$")  # what a changed password is stored as
SHA = b"{SHA}pv2GBvjxKnVBICqTPkoqmG/ZwaE="

# A file as it grows over the years; {} is where `ann` has her hash.
GROWN = (
    b"\xef\xbb\xbf# users of the registry\r\n\r\n  bob:" + SHA + b":Bob \t\r\n"
    b"carl\r\n\tann:%b:Ann:of Berlin  \r\n#ann:old\n:nobody\nd\xe9:" + HASH + b"\rann:plain\nann:" + SHA
)


@pytest.fixture(autouse=True)
def _stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usersfile, "hashed", lambda _password, _cost: NEW)


def users_file(tmp_path: Path, data: bytes = GROWN % HASH) -> UsersFile:
    (tmp_path / "users").write_bytes(data)
    return UsersFile(tmp_path / "users")


def names(file: UsersFile) -> list[str]:
    return [decoded(user) for user in file.read()[0]]


def left_in(directory: Path) -> list[str]:
    """The names in a directory, without the lock that stays."""
    return sorted(path.name for path in directory.iterdir() if path.name != ".users.lock")


# What an edit changes


def test_a_user_is_added_at_the_end_and_all_else_stays(tmp_path: Path) -> None:
    file = users_file(tmp_path)
    file.add("ève", SECRET)
    assert file.path.read_bytes() == GROWN % HASH + b"\r\n" + "ève:".encode() + NEW + b"\r\n"
    assert names(file) == ["bob", "ann", "dé", "ève"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(b"", b"ann:" + NEW + b"\n", id="empty"),
        pytest.param(b"\xef\xbb\xbf", b"\xef\xbb\xbfann:" + NEW + b"\n", id="byte-order-mark-alone"),
        pytest.param(b"#\n", b"#\nann:" + NEW + b"\n", id="lf"),
        pytest.param(b"#", b"#\nann:" + NEW + b"\n", id="no-end"),
        pytest.param(b"#\r\n#\n", b"#\r\n#\nann:" + NEW + b"\r\n", id="crlf-first"),
        pytest.param(b"#\n#\r\n", b"#\n#\r\nann:" + NEW + b"\n", id="lf-first"),
        pytest.param(b"#\r", b"#\r\nann:" + NEW + b"\n", id="cr"),
    ],
)
def test_a_line_is_added_as_lines_end_there(tmp_path: Path, before: bytes, after: bytes) -> None:
    file = users_file(tmp_path, before)
    file.add("ann", SECRET)
    assert file.path.read_bytes() == after


def test_a_password_is_changed_in_the_line_that_counts(tmp_path: Path) -> None:
    file = users_file(tmp_path)
    file.change("ann", SECRET)
    assert file.path.read_bytes() == GROWN % NEW


def test_a_name_in_another_encoding_is_the_same_user(tmp_path: Path) -> None:
    file = users_file(tmp_path)
    with pytest.raises(KnownUserError):
        file.add("dé", SECRET)
    file.change("dé", SECRET)
    assert b"d\xe9:" + NEW + b"\r" in file.path.read_bytes()
    file.remove("dé")
    assert names(file) == ["bob", "ann"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(b"ann:plain\nann:%b", b"ann:plain\nann:%b", id="a-bad-line-before-a-good-one"),
        pytest.param(b"ann:plain:Ann \nann:x", b"ann:%b:Ann \nann:x", id="bad-lines-only"),
        pytest.param(b"ann:x\0:y\0\n", b"ann:%b\n", id="nul"),
        pytest.param(b"ann:\n", b"ann:%b\n", id="no-hash"),
    ],
)
def test_a_changed_password_counts_even_if_no_line_did(tmp_path: Path, before: bytes, after: bytes) -> None:
    file = users_file(tmp_path, before.replace(b"%b", HASH))
    file.change("ann", SECRET)
    assert file.path.read_bytes() == after.replace(b"%b", NEW)
    assert file.read()[0].stored(b"ann") == NEW


def test_all_lines_of_a_removed_user_go_and_all_else_stays(tmp_path: Path) -> None:
    """Otherwise the line that was void so far would let them in again."""
    file = users_file(tmp_path)
    assert file.remove("ann") == 3
    kept = GROWN.replace(b"\tann:%b:Ann:of Berlin  \r\n", b"").replace(b"ann:plain\nann:" + SHA, b"")
    assert file.path.read_bytes() == kept
    assert names(file) == ["bob", "dé"]


def test_the_last_user_can_be_removed(tmp_path: Path) -> None:
    file = users_file(tmp_path, b"#\nann:" + HASH)
    assert file.remove("ann") == 1
    assert file.path.read_bytes() == b"#\n"


@given(
    st.lists(
        st.sampled_from([b"ann:", b"bob:", b"\xe9:", b"\xc3\xa9:", HASH, SHA, b"\n", b"\r\n", b"\r", b" ", b"#", b":"])
        | st.sampled_from([b"\0", b"\xef\xbb\xbf", b"x", b"ann:" + HASH + b"\n", b"a" * 300]),
        max_size=12,
    ).map(b"".join),
    st.sampled_from(["ann", "bob", "é", "\ufeffann", "x"]),
)
@settings(max_examples=150, deadline=None)
def test_whatever_is_in_the_file_an_edit_does_what_it_says(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, name: str
) -> None:
    file = users_file(tmp_path_factory.getbasetemp(), data)
    before, _ = Users.parse(data)
    others = {decoded(user): before.stored(user) for user in before if decoded(user) != name}

    def now() -> dict[str, bytes | None]:
        users, _ = file.read()
        return {decoded(user): users.stored(user) for user in users}

    try:
        file.change(name, SECRET)
    except UnknownUserError:
        assert name not in map(decoded, before)
        if name.isprintable():
            file.add(name, SECRET)
            assert file.path.read_bytes().startswith(data)
            assert now() == {**others, name: NEW}
    else:
        assert now() == {**others, name: NEW}
        with pytest.raises((KnownUserError, UserNameError)):
            file.add(name, SECRET)
        file.remove(name)
    if name not in now():
        assert now() == others
        with pytest.raises(UnknownUserError):
            file.verify(name, SECRET)


# Refusals


@pytest.mark.parametrize(
    ("name", "why"),
    [
        pytest.param("", "0 bytes", id="empty"),
        pytest.param("é" * 128, "256 bytes", id="256-bytes"),
        pytest.param("a:b", "':'", id="colon"),
        pytest.param("#ann", "'#'", id="comment"),
        pytest.param(" ann", "blank", id="leading-blank"),
        pytest.param("ann ", "blank", id="trailing-blank"),
        pytest.param("a\nb", "cannot be seen", id="line-break"),
        pytest.param("a\x7fb", "cannot be seen", id="control"),
        pytest.param("a\0b", "cannot be seen", id="nul"),
        pytest.param("\ufeffann", "cannot be seen", id="byte-order-mark"),
        pytest.param("a\u2028b", "cannot be seen", id="line-separator"),
        pytest.param("\udce9ve", "not UTF-8", id="latin-1"),
        pytest.param("Anonymous", "no credentials", id="anonymous"),
    ],
)
def test_what_cannot_be_a_name_is_refused(tmp_path: Path, name: str, why: str) -> None:
    with pytest.raises(UserNameError, match=re.escape(why)):
        UsersFile(tmp_path / "users").add(name, SECRET)
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("name", ["a", "é" * 127 + "a", "ann of berlin", "a#b", "-x", "ann@example.com", "pkr_x"])
def test_what_can_be_a_name_is_accepted_and_signs_in(tmp_path: Path, name: str) -> None:
    file = UsersFile(tmp_path / "users")
    file.add(name, SECRET, 4)
    assert list(file.read()[0]) == [name.encode()]
    assert file.verify(name, SECRET)


@pytest.mark.parametrize(
    ("password", "why"),
    [
        pytest.param(b"", "empty", id="empty"),
        pytest.param(b"a" * 73, "has 73 bytes, and bcrypt ignores what follows the first 72", id="73-bytes"),
        pytest.param("é".encode() * 37, "has 74 bytes", id="37-characters"),
        pytest.param(b"a\0b", "control", id="nul"),
        pytest.param(b"a\nb", "line break", id="line-break"),
        pytest.param(b"secret\r", "line break", id="carriage-return"),
        pytest.param("a\u2029b".encode(), "line break", id="paragraph-separator"),
        pytest.param("a\x85b".encode(), "control", id="c1"),
        pytest.param(b"\xe9", "not UTF-8", id="latin-1"),
        pytest.param(b"pkr_secret", "begins with pkr_", id="token"),
    ],
)
def test_what_cannot_be_a_password_is_refused_without_showing_it(tmp_path: Path, password: bytes, why: str) -> None:
    file = users_file(tmp_path, b"bob:" + HASH)
    for edit in (file.add, file.change):
        with pytest.raises(PasswordError, match=why) as caught:
            edit("ann" if edit == file.add else "bob", password)
        assert "secret" not in str(caught.value)
    assert file.path.read_bytes() == b"bob:" + HASH


@pytest.mark.parametrize("password", [b"a" * 72, b" ", "pàss wörd 👩‍🔧".encode(), b"x pkr_"], ids=repr)
def test_what_can_be_a_password_is_accepted_and_no_other_signs_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, password: bytes
) -> None:
    monkeypatch.setattr(usersfile, "hashed", hashed)
    file = UsersFile(tmp_path / "users")
    file.add("ann", password, 4)
    assert file.verify("ann", password)
    assert not file.verify("ann", password[:-1] + b"?")


def test_a_generated_password_is_accepted_and_never_the_same() -> None:
    made = {generated() for _ in range(50)}
    assert len(made) == 50
    assert all(re.fullmatch(r"[0-9A-Za-z]{24}", password) for password in made)
    assert len(set("".join(made))) > 50


def test_a_user_who_is_there_is_not_added(tmp_path: Path) -> None:
    file = users_file(tmp_path)
    command = f"packregistry user passwd ann --file {file.path}"
    for edit in (partial(file.check_new, "ann"), partial(file.add, "ann", SECRET)):
        with pytest.raises(KnownUserError) as caught:
            edit()
        assert str(caught.value) == f'"ann" is in {file.path} already: `{command}` gives them a new password'
    assert file.path.read_bytes() == GROWN % HASH


def test_what_happens_while_a_password_is_hashed_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = users_file(tmp_path, b"ann:" + HASH + b"\n")
    (tmp_path / "other").write_bytes(b"bob:" + HASH + b"\n")

    def hashed(_password: bytes, _cost: int) -> bytes:
        shutil.copy(tmp_path / "other", file.path)
        return NEW

    monkeypatch.setattr(usersfile, "hashed", hashed)
    with pytest.raises(KnownUserError):
        file.add("bob", SECRET)
    file.path.write_bytes(b"ann:" + HASH + b"\n")
    with pytest.raises(UnknownUserError):
        file.change("ann", SECRET)
    assert names(file) == ["bob"]


def test_a_user_with_a_bad_line_is_there(tmp_path: Path) -> None:
    file = users_file(tmp_path, b"#\nann:plain")
    with pytest.raises(KnownUserError, match="already, though line 2 lets nobody in: `packregistry user passwd ann"):
        file.add("ann", SECRET)


def test_a_user_who_is_not_there_is_not_changed_and_similar_ones_are_named(tmp_path: Path) -> None:
    file = users_file(tmp_path, b"anne:x\nhanna:x\nbob:x\n#anna:x\n")
    for edit in (
        partial(file.check_known, "anna"),
        partial(file.change, "anna", SECRET),
        partial(file.remove, "anna"),
        partial(file.verify, "anna", SECRET),
    ):
        with pytest.raises(UnknownUserError) as caught:
            edit()
        assert str(caught.value) == (
            f'"anna" is not in {file.path}, did you mean "hanna" or "anne"? '
            f"`packregistry user add anna --file {file.path}` adds one"
        )
    assert left_in(tmp_path) == ["users"]


def test_where_nobody_is_similar_nobody_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownUserError, match=r"is not in \S+: `packregistry user add 'x y' --file"):
        users_file(tmp_path).remove("x y")


def test_a_line_without_a_name_is_nobodys(tmp_path: Path) -> None:
    with pytest.raises(UnknownUserError):
        users_file(tmp_path).remove("")


# Checking a password


@pytest.mark.parametrize(
    ("data", "name", "is_right"),
    [
        pytest.param(b"ann:%b", "ann", True, id="right"),
        pytest.param(b"ann:%b\nann:" + SHA, "ann", True, id="first-of-two"),
        pytest.param(b"ann:" + SHA.replace(b"p", b"q") + b"\nann:%b", "ann", False, id="second-of-two"),
        pytest.param(b"\xe9ve:%b", "éve", True, id="another-encoding"),
    ],
)
def test_a_password_is_checked_as_a_server_would(tmp_path: Path, data: bytes, name: str, is_right: bool) -> None:
    file = users_file(tmp_path, data.replace(b"%b", HASH))
    assert file.verify(name, SECRET) is is_right
    assert not file.verify(name, b"wrong")


def test_it_is_said_why_a_user_cannot_sign_in(tmp_path: Path) -> None:
    file = users_file(tmp_path, b"#\nann:plain\n")
    with pytest.raises(UnknownUserError, match=rf'"ann" cannot sign in, line 2 of {file.path} has no hash'):
        file.verify("ann", SECRET)


# The file


def test_a_new_file_is_for_its_owner_only(tmp_path: Path) -> None:
    file = UsersFile(tmp_path / "users")
    file.add("ann", SECRET)
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert left_in(tmp_path) == ["users"]


@pytest.mark.parametrize("mode", [0o640, 0o444, 0o600], ids=oct)
def test_the_mode_of_a_file_is_kept(tmp_path: Path, mode: int) -> None:
    file = users_file(tmp_path)
    file.path.chmod(mode)
    before = file.path.stat()
    file.remove("bob")
    after = file.path.stat()
    assert stat.S_IMODE(after.st_mode) == mode
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
    assert after.st_ino != before.st_ino


def other_owner(monkeypatch: pytest.MonkeyPatch, chown: Callable[[int, int, int], None]) -> None:
    """Let new files be of another uid than the users file is of."""
    status = os.fstat

    def fstat(descriptor: int) -> os.stat_result:
        fields = list(status(descriptor))
        fields[stat.ST_UID] += 1
        return os.stat_result(fields)

    monkeypatch.setattr(os, "fstat", fstat)
    monkeypatch.setattr(os, "fchown", chown)


def test_the_owner_of_a_file_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owners = []
    file = users_file(tmp_path)
    with monkeypatch.context() as patch:
        other_owner(patch, lambda _descriptor, uid, gid: owners.append((uid, gid)))
        file.remove("bob")
    status = file.path.stat()
    assert owners == [(status.st_uid, status.st_gid)]


def test_a_file_whose_owner_cannot_be_kept_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_descriptor: int, _uid: int, _gid: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    file = users_file(tmp_path)
    uid = file.path.stat().st_uid
    with monkeypatch.context() as patch:
        other_owner(patch, refuse)
        with pytest.raises(UsersFileError, match=rf"it is of uid {uid} and gid \d+: run this as that user"):
            file.remove("bob")
    assert file.path.read_bytes() == GROWN % HASH
    assert left_in(tmp_path) == ["users"]


@pytest.mark.parametrize("there", [True, False], ids=["file", "nothing"])
def test_a_link_is_followed_and_stays_one(tmp_path: Path, there: bool) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real/users")
    if there:
        (tmp_path / "real" / "users").write_bytes(b"bob:" + HASH + b"\n")
    UsersFile(tmp_path / "link").add("ann", SECRET)
    assert (tmp_path / "link").readlink() == Path("real/users")
    assert not (tmp_path / "real" / "users").is_symlink()
    assert names(UsersFile(tmp_path / "link")) == (["bob", "ann"] if there else ["ann"])
    assert left_in(tmp_path) == ["link", "real"]


def test_an_edit_is_one_step_and_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = users_file(tmp_path)
    steps = []
    sync, rename = os.fsync, Path.rename

    def fsync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        steps.append("directory" if stat.S_ISDIR(status.st_mode) else f"file of {status.st_size}")
        sync(descriptor)

    def renamed(path: Path, target: Path) -> Path:
        assert path.parent == target.parent
        assert path.read_bytes() == GROWN % NEW
        assert target.read_bytes() == GROWN % HASH
        steps.append("rename")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", renamed)
    file.change("ann", SECRET)
    assert steps == [f"file of {len(GROWN % NEW)}", "rename", "directory"]


def test_edits_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    together = threading.Barrier(8)
    failures = []

    def add(name: str) -> None:
        together.wait()
        try:
            UsersFile(tmp_path / "users").add(name, SECRET)
        except EditError as error:
            failures.append(error)

    wanted = [*(f"user{number}" for number in range(6)), "twice", "twice"]
    threads = [threading.Thread(target=add, args=[name]) for name in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(names(UsersFile(tmp_path / "users"))) == sorted(set(wanted))
    assert [type(error) for error in failures] == [KnownUserError]
    assert left_in(tmp_path) == ["users"]


@pytest.mark.thorough
@pytest.mark.process
def test_edits_of_several_processes_are_all_kept(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from packregistry.auth.usersfile import UsersFile\n"
        "for name in sys.argv[2:]: UsersFile(Path(sys.argv[1])).add(name, b'secret', 4)"
    )
    wanted = [[f"user-{one}-{number}" for number in range(8)] for one in range(3)]
    running = [
        subprocess.Popen([sys.executable, "-c", program, tmp_path / "users", *added], env=process.environment())
        for added in wanted
    ]
    assert [one.wait(process.DEADLINE) for one in running] == [0, 0, 0]
    assert sorted(names(UsersFile(tmp_path / "users"))) == sorted(name for added in wanted for name in added)


def test_an_edit_waits_for_another_process(tmp_path: Path) -> None:
    """The lock is on a file beside the users file, and is held while that is read and replaced."""
    file = users_file(tmp_path)
    lock = os.open(tmp_path / ".users.lock", os.O_RDWR | os.O_CREAT, 0o600)
    thread = threading.Thread(target=file.remove, args=["bob"])
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        thread.start()
        thread.join(0.05)
        assert thread.is_alive()
        file.path.write_bytes(b"bob:" + HASH + b"\ncarl:" + HASH + b"\n")
    finally:
        os.close(lock)
    thread.join(30)
    assert names(file) == ["carl"]


def test_the_lock_of_another_user_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = users_file(tmp_path)
    (tmp_path / ".users.lock").touch()
    opened = os.open

    def guarded(path: Path, flags: int, *args: int) -> int:
        if Path(path).suffix == ".lock" and flags & os.O_RDWR:
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(path, flags, *args)

    monkeypatch.setattr(os, "open", guarded)
    assert file.remove("bob") == 1


def test_a_lock_that_leads_elsewhere_is_not_followed(tmp_path: Path) -> None:
    file = users_file(tmp_path)
    (tmp_path / ".users.lock").symlink_to("elsewhere")
    with pytest.raises(UsersFileError, match="cannot be written by uid"):
        file.remove("bob")
    assert left_in(tmp_path) == ["users"]


# What cannot be written


def unwritable(patch: pytest.MonkeyPatch, number: int) -> None:
    """Let no new file be opened."""
    opened = os.open

    def refuse(path: Path, flags: int, *args: int) -> int:
        if flags & os.O_CREAT:
            raise OSError(number, os.strerror(number))
        return opened(path, flags, *args)

    patch.setattr(os, "open", refuse)


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        pytest.param(errno.EACCES, "make the directory {} writable, or edit the file where it comes from", id="access"),
        pytest.param(errno.EROFS, "make the directory {} writable, or edit the file where it comes from", id="mount"),
        pytest.param(errno.ENOSPC, "free some space", id="space"),
        pytest.param(errno.EDQUOT, "free some space", id="quota"),
    ],
)
def test_a_place_that_cannot_be_written_is_named_with_the_uid_and_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, remedy: str
) -> None:
    file = users_file(tmp_path)
    with monkeypatch.context() as patch:
        unwritable(patch, number)
        with pytest.raises(UsersFileError) as caught:
            file.add("eve", SECRET)
    why = f"cannot be written by uid {os.geteuid()} ({os.strerror(number)}): {remedy.format(tmp_path)}"
    assert str(caught.value).startswith(f"users file {file.path} {why}")
    assert file.path.read_bytes() == GROWN % HASH
    assert left_in(tmp_path) == ["users"]


def test_of_a_mounted_secret_it_is_said_to_edit_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "..2024_05_01").mkdir()
    (tmp_path / "..data").symlink_to("..2024_05_01")
    (tmp_path / "users").symlink_to("..data/users")
    file = users_file(tmp_path)
    with monkeypatch.context() as patch:
        unwritable(patch, errno.EROFS)
        with pytest.raises(UsersFileError) as caught:
            file.change("ann", SECRET)
    target = tmp_path / "..2024_05_01" / "users"
    assert str(caught.value) == (
        f"users file {file.path} (which leads to {target}) cannot be written by uid {os.geteuid()} (Read-only file "
        "system): it comes from a Kubernetes Secret or ConfigMap: edit that one, and the mounted file follows"
    )


def test_a_file_that_is_mounted_by_itself_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(_path: Path, _target: Path) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    file = users_file(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", busy)
        with pytest.raises(UsersFileError, match="it is mounted by itself: edit it where it is mounted from"):
            file.remove("ann")
    assert file.path.read_bytes() == GROWN % HASH
    assert left_in(tmp_path) == ["users"]


def test_a_directory_that_is_missing_is_to_be_made(tmp_path: Path) -> None:
    with pytest.raises(UsersFileError, match=rf"make the directory {tmp_path}/none first$"):
        UsersFile(tmp_path / "none" / "users").add("ann", SECRET)
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("edit", ["change", "remove", "verify", "read", "check_known"])
def test_a_file_that_is_missing_is_to_be_made_by_adding_a_user(tmp_path: Path, edit: str) -> None:
    args = {"read": [], "remove": ["ann"], "check_known": ["ann"]}.get(edit, ["ann", SECRET])
    with pytest.raises(UsersFileError, match=r"make one with `packregistry user add admin --file .*/users`$"):
        getattr(UsersFile(tmp_path / "users"), edit)(*args)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("make", "why"),
    [
        pytest.param(lambda path: path.mkdir(), "cannot be read (Is a directory)", id="directory"),
        pytest.param(lambda path: path.symlink_to("users"), "cannot be read (Too many levels", id="loop"),
        pytest.param(lambda path: path.symlink_to(os.devnull), "is no regular file", id="device"),
    ],
)
def test_what_is_no_file_is_never_replaced(tmp_path: Path, make: Callable[[Path], None], why: str) -> None:
    make(tmp_path / "users")
    with pytest.raises(UsersFileError, match=re.escape(f"users file {tmp_path}/users {why}")):
        UsersFile(tmp_path / "users").add("ann", SECRET)
    assert [path.name for path in tmp_path.iterdir()] == ["users"]
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)
    assert not Path(f"{os.devnull.replace('null', '.null')}.lock").exists()


# Beside Apache


@pytest.mark.real
def test_apaches_htpasswd_and_a_server_accept_what_is_written_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = shutil.which("htpasswd")
    if program is None:
        pytest.skip("htpasswd (Debian: apache2-utils) is not installed")
    monkeypatch.undo()
    file = UsersFile(tmp_path / "users")
    password = "pàss" * 14 + "12"
    file.add("bob", SECRET, 4)
    file.add("ève", SECRET, 4)
    file.change("ève", password.encode(), 5)

    def accepts(name: str, given: str) -> bool:
        done = subprocess.run([program, "-v", "-b", file.path, name, given], capture_output=True, check=False)
        return done.returncode == 0

    assert accepts("ève", password)
    assert accepts("bob", SECRET.decode())
    assert not accepts("ève", SECRET.decode())
    served = HtpasswdFile(file.path)
    served.load()
    assert served.users.verify("ève".encode(), password.encode())
    assert [served.users.kind(user).cost for user in served.users] == [4, 5]
