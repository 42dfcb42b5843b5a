"""The users file: which lines count, which passwords match, and what happens when the file changes."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import bcrypt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packregistry.auth import htpasswd
from packregistry.auth.htpasswd import HtpasswdFile, Kind, Users, UsersFileError, decoded
from packregistry.reload import Reloadable, ReloadError

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = b"se:cret"
# Made by htpasswd 2.4.68 and OpenSSL 3, not by the library under test.
APACHE_BCRYPT = b"$2y$04$Zkvxq4xj/J6WgKZmR1WgiuveyCMZabd6NyqRjBFj4pYY/hUZd.tKq"
APR1 = b"$apr1$abcdefgh$BnO8MhijdSjEVRRQRza04/"
SHA = b"{SHA}pv2GBvjxKnVBICqTPkoqmG/ZwaE="
SHA256 = b"$5$abcdefgh$tegRTvdccUdHGSvr2Qov3K7iDjo2qT9HvkntMyEsYm9"
SHA512 = (
    b"$6$rounds=1000$abcdefgh$/apGQ5UZ.IQ1RWl5lwZl7D2c.8Vk18Nk5KZV31VvzgtRcoJl3QCJQ2fjChr5A0.4go7WXyOlwQ2u0hl/Vq5AW0"
)


def hashed(password: bytes = SECRET, cost: int = 4) -> bytes:
    return bcrypt.hashpw(password, bcrypt.gensalt(cost))


def with_cost(cost: int) -> bytes:
    """Return an intact bcrypt hash of any cost without computing one."""
    return b"$2y$%02d$" % cost + APACHE_BCRYPT[7:]


def parsed(*lines: bytes) -> tuple[Users, list[tuple[int, str]]]:
    users, problems = Users.parse(b"\n".join(lines))
    return users, [(problem.line, problem.reason) for problem in problems]


def users_file(path: Path, *lines: bytes, mtime: int = 1_000) -> HtpasswdFile:
    write(path, *lines, mtime=mtime)
    return HtpasswdFile(path)


def loaded(file: HtpasswdFile) -> Users:
    """Read the file and return the users that are then in force."""
    file.load()
    return file.users


def write(path: Path, *lines: bytes, mtime: int = 1_000) -> None:
    path.write_bytes(b"\n".join(lines))
    os.utime(path, ns=(mtime, mtime))


def logged(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == level]


@pytest.mark.parametrize(
    "stored",
    [
        pytest.param(APACHE_BCRYPT, id="2y"),
        pytest.param(APACHE_BCRYPT.replace(b"2y", b"2a"), id="2a"),
        pytest.param(APACHE_BCRYPT.replace(b"2y", b"2b"), id="2b"),
        pytest.param(APR1, id="apr1"),
        pytest.param(SHA, id="sha"),
        pytest.param(SHA256, id="sha256-crypt"),
        pytest.param(SHA512, id="sha512-crypt-with-rounds"),
    ],
)
def test_accepted_kinds_match_their_password_alone(stored: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(htpasswd, "COST_UNKNOWN", 4)
    users, problems = parsed(b"ann:" + stored)
    assert problems == []
    assert users.stored(b"ann") == stored
    assert users.verify(b"ann", SECRET)
    assert not users.verify(b"ann", SECRET + b"x")
    assert not users.verify(b"bob", SECRET)


@pytest.mark.parametrize(
    "stored",
    [
        pytest.param(b"se", id="plain-text"),
        pytest.param(b"/Q6QpxmQZ2ZPg", id="des-crypt"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"{SSHA}pv2GBvjxKnVBICqTPkoqmG/ZwaE=", id="salted-sha"),
        pytest.param(b"$1$abcdefgh$BnO8MhijdSjEVRRQRza04/", id="md5-crypt"),
        pytest.param(APACHE_BCRYPT.replace(b"2y", b"2"), id="2"),
        pytest.param(APACHE_BCRYPT.replace(b"2y", b"2x"), id="2x"),
        pytest.param(b" " + APACHE_BCRYPT, id="space-before-the-hash"),
    ],
)
def test_other_kinds_are_refused_without_disabling_other_lines(stored: bytes) -> None:
    users, problems = parsed(b"ann:" + stored, b"bob:" + APACHE_BCRYPT)
    assert problems == [(1, "has no hash of an accepted kind: make it with `packregistry user passwd`")]
    assert list(users) == [b"bob"]
    assert not users.verify(b"ann", stored)
    assert users.verify(b"bob", SECRET)


@pytest.mark.parametrize(
    ("stored", "name"),
    [
        pytest.param(APACHE_BCRYPT[:-1], "bcrypt", id="short"),
        pytest.param(APACHE_BCRYPT + b"x", "bcrypt", id="long"),
        pytest.param(APACHE_BCRYPT[:40] + b"!" + APACHE_BCRYPT[41:], "bcrypt", id="character"),
        pytest.param(APACHE_BCRYPT[:28] + b"A" + APACHE_BCRYPT[29:], "bcrypt", id="unused-bits-of-the-salt"),
        pytest.param(APACHE_BCRYPT[:-1] + b"z", "bcrypt", id="unused-bits-of-the-checksum"),
        pytest.param(APACHE_BCRYPT[:29], "bcrypt", id="no-checksum"),
        pytest.param(b"$2y$", "bcrypt", id="prefix-only"),
        pytest.param(with_cost(3), "bcrypt", id="cost-3"),
        pytest.param(with_cost(18), "bcrypt", id="cost-18"),
        pytest.param(APACHE_BCRYPT.replace(b"04", b"4"), "bcrypt", id="cost-of-one-digit"),
        pytest.param(APR1[:-1], "$apr1$", id="apr1-short"),
        pytest.param(SHA[:-2] + b"=", "{SHA}", id="sha-short"),
        pytest.param(SHA256 + b"x", "$5$", id="sha256-long"),
        pytest.param(SHA512.replace(b"1000", b"999"), "$6$", id="rounds-999"),
        pytest.param(SHA512.replace(b"1000", b"1000000"), "$6$", id="rounds-1000000"),
    ],
)
def test_damaged_hashes_are_refused_without_disabling_other_lines(stored: bytes, name: str) -> None:
    users, problems = parsed(b"ann:" + stored, b"bob:" + APACHE_BCRYPT)
    assert problems == [(1, f"has a damaged {name} hash, or one of a cost that is not accepted")]
    assert list(users) == [b"bob"]
    assert not users.verify(b"ann", SECRET)


@pytest.mark.parametrize("cost", [4, 17])
def test_costs_of_apaches_htpasswd_are_accepted(cost: int) -> None:
    users, problems = parsed(b"ann:" + with_cost(cost))
    assert (list(users), problems, users.highest) == ([b"ann"], [], cost)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        pytest.param(b"ann", "has no ':' between user and hash", id="no-colon"),
        pytest.param(b":" + APACHE_BCRYPT, "has no user before the ':'", id="no-user"),
        pytest.param(b"a" * 256 + b":" + APACHE_BCRYPT, "has a user of more than 255 bytes", id="long-user"),
        pytest.param(b"a\0:" + APACHE_BCRYPT, "has a NUL byte: save the file as UTF-8 text", id="nul"),
    ],
)
def test_a_malformed_line_is_one_problem_with_its_number(line: bytes, reason: str) -> None:
    users, problems = parsed(b"# users", b"", b"ann:" + APACHE_BCRYPT, line, b"bob:" + APACHE_BCRYPT)
    assert problems == [(4, reason)]
    assert list(users) == [b"ann", b"bob"]


@pytest.mark.parametrize(
    ("data", "user"),
    [
        pytest.param(b"\xef\xbb\xbfann:" + APACHE_BCRYPT, b"ann", id="byte-order-mark"),
        pytest.param(b"ann:" + APACHE_BCRYPT + b"\r\n", b"ann", id="crlf"),
        pytest.param(b"  ann:" + APACHE_BCRYPT + b" \t\n", b"ann", id="surrounding-space"),
        pytest.param(b"#ann:x\n\n \n # also\nann:" + APACHE_BCRYPT, b"ann", id="comments-and-blank-lines"),
        pytest.param(b"ann:" + APACHE_BCRYPT + b":Ann:of Berlin", b"ann", id="further-fields"),
        pytest.param(b"a" * 255 + b":" + APACHE_BCRYPT, b"a" * 255, id="255-bytes"),
        pytest.param(b"\xe9ve:" + APACHE_BCRYPT, b"\xe9ve", id="latin-1"),
        pytest.param("ève #1:".encode() + APACHE_BCRYPT, "ève #1".encode(), id="utf-8"),
    ],
)
def test_what_apache_reads_is_read(data: bytes, user: bytes) -> None:
    users, problems = Users.parse(data)
    assert (list(users), problems) == ([user], ())
    assert users.verify(user, SECRET)


def test_the_first_line_of_a_user_counts() -> None:
    users, problems = parsed(b"ann:" + hashed(b"first"), b"bob:" + APACHE_BCRYPT, b"ann:" + hashed(b"second"))
    assert problems == [(3, "repeats the user of line 1, which counts")]
    assert users.verify(b"ann", b"first")
    assert not users.verify(b"ann", b"second")


def test_users_whose_names_read_alike_are_one() -> None:
    """Otherwise the second of them would have the rights of the first."""
    users, problems = parsed(b"\xc3\xa9ve:" + APACHE_BCRYPT, b"\xe9ve:" + APACHE_BCRYPT)
    assert decoded(b"\xc3\xa9ve") == decoded(b"\xe9ve") == "éve"
    assert problems == [(2, "repeats the user of line 1, which counts")]
    assert list(users) == [b"\xc3\xa9ve"]


def test_a_bad_line_does_not_take_the_name_from_a_good_one() -> None:
    users, problems = parsed(b"ann:plain", b"ann:" + APACHE_BCRYPT)
    assert [line for line, _ in problems] == [1]
    assert users.verify(b"ann", SECRET)


@given(st.binary() | st.lists(st.binary() | st.sampled_from([b"a:", b"\n", b"$2y$04$", b"{SHA}", APR1])).map(b"".join))
def test_parse_never_raises_and_problems_are_in_order(data: bytes) -> None:
    users, problems = Users.parse(data)
    lines = [problem.line for problem in problems]
    assert lines == sorted(set(lines))
    assert len(users) + len(problems) <= len(data.splitlines())


_CRYPT = st.text("./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", min_size=86, max_size=86)


@settings(max_examples=25, deadline=None)
@given(_CRYPT, st.integers(1, 8), st.sampled_from(".Oeu"), st.sampled_from(".CGKOSWaeimquy26"), st.binary(max_size=90))
def test_a_hash_that_was_accepted_never_raises(text: str, salt: int, bits: str, last: str, password: bytes) -> None:
    """Whatever libpass would raise or warn about was refused when the line was read."""
    lines = [
        f"a:$2b$04${text[:21]}{bits}{text[:30]}{last}",
        f"b:$apr1${text[:salt]}${text[:22]}",
        f"c:{{SHA}}{text[:27].replace('.', '+')}=",
        f"d:$5$rounds=1000${text[:salt]}${text[:43]}",
        f"e:$6$rounds=1000${text[:salt]}${text}",
    ]
    users, problems = Users.parse("\n".join(lines).encode())
    assert problems == ()
    assert [user for user in users if users.verify(user, password)] == []


@pytest.mark.parametrize(
    "password",
    [
        pytest.param(b"0123456789" * 8, id="ascii"),
        pytest.param("a€".encode() * 20, id="a-character-across-the-limit"),
        pytest.param(b"\xff\xfe" * 40, id="not-utf-8"),
        pytest.param(b"x" * 4096, id="as-long-as-can-be"),
    ],
)
def test_bcrypt_looks_at_72_bytes_as_apache_does(password: bytes) -> None:
    users, _ = parsed(b"ann:" + hashed(password[:72]))
    assert users.verify(b"ann", password)
    assert users.verify(b"ann", password[:72])
    assert not users.verify(b"ann", password[:71])


def test_other_kinds_look_at_all_bytes() -> None:
    users, _ = parsed(b"ann:{SHA}mhYxdXId8MC8tCysqx+LZq6VXc8=", b"bob:" + APACHE_BCRYPT)
    assert users.verify(b"ann", b"x" * 80)
    assert not users.verify(b"ann", b"x" * 81)


@pytest.mark.parametrize(
    "password",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"a\0b", id="nul"),
        pytest.param(b"a" * 4097, id="4097-bytes"),
    ],
)
def test_impossible_passwords_match_nothing_and_cost_nothing(password: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = [hashed(b""), hashed(b"a"), hashed(b"a" * 72)]
    users, _ = parsed(*(b"user%d:" % number + text for number, text in enumerate(hashes)))
    checks = spy_on_hashing(monkeypatch)
    assert not any(users.verify(user, password) for user in (*users, b"nobody"))
    assert checks == []


def spy_on_hashing(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let no hash match, and return the list that collects the cost of each check."""
    costs: list[int] = []

    def matches(stored: htpasswd._Stored, password: bytes) -> bool:
        assert password
        costs.append(stored.cost)
        return False

    monkeypatch.setattr(htpasswd._Stored, "matches", matches)
    return costs


@pytest.mark.parametrize("user", [b"four", b"six", b"nine", b"nobody", b""])
def test_a_wrong_answer_takes_the_work_of_the_highest_cost(user: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    users, _ = parsed(b"six:" + with_cost(6), b"four:" + with_cost(4), b"nine:" + with_cost(9))
    costs = spy_on_hashing(monkeypatch)
    assert not users.verify(user, b"wrong")
    assert sum(2**cost for cost in costs) == 2**9


@pytest.mark.parametrize(
    ("lines", "highest"),
    [
        pytest.param([b"old:" + SHA], 10, id="no-bcrypt"),
        pytest.param([b"old:" + SHA, b"new:" + with_cost(5)], 5, id="bcrypt"),
    ],
)
def test_users_with_other_kinds_of_hash_are_no_quicker_to_refuse(
    lines: list[bytes], highest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    users, _ = parsed(*lines)
    costs = spy_on_hashing(monkeypatch)
    users.verify(b"nobody", b"wrong")
    assert costs == [highest]
    costs.clear()
    users.verify(b"old", b"wrong")
    assert costs == [0, highest]


def test_the_hash_unknown_users_are_checked_against_is_intact_and_never_the_same() -> None:
    made = {htpasswd._Stored.unmatched(5).text for _ in range(20)}
    assert len(made) == 20
    assert {htpasswd._Stored.parse(text).cost for text in made} == {5}


def test_an_unknown_user_is_unknown_even_if_the_password_matches(monkeypatch: pytest.MonkeyPatch) -> None:
    users, _ = parsed(b"ann:" + APACHE_BCRYPT)
    monkeypatch.setattr(htpasswd._Stored, "matches", lambda _stored, _password: True)
    assert not users.verify(b"nobody", b"x")
    assert users.stored(b"nobody") is None


def test_hashes_are_not_in_the_repr() -> None:
    assert APACHE_BCRYPT[7:].decode() not in repr(htpasswd._Stored.parse(APACHE_BCRYPT))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        pytest.param(None, "cannot be read (No such file or directory)", id="missing"),
        pytest.param(b"# nobody\n", "has no user", id="no-user"),
        pytest.param(
            b"#\nann:plain", "has no user that can sign in (line 2 has no hash of an accepted", id="bad-lines"
        ),
    ],
)
def test_there_must_be_users_to_begin_with(tmp_path: Path, content: bytes | None, why: str) -> None:
    path = tmp_path / "users"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsersFileError) as caught:
        HtpasswdFile(path).load()
    text = str(caught.value)
    assert text.startswith(f"users file {path} {why}")
    assert text.endswith(f": make one with `packregistry user add admin --file {path}`")
    assert isinstance(caught.value, ReloadError)


def test_the_remedy_can_be_pasted_whatever_the_file_is_called(tmp_path: Path) -> None:
    with pytest.raises(UsersFileError, match=r"--file '/[^']*/the users'`$"):
        HtpasswdFile(tmp_path / "the users").load()


def test_it_is_something_that_is_read_again(tmp_path: Path) -> None:
    source: Reloadable = HtpasswdFile(tmp_path / "users")
    assert source.what == "users"


def rewrite_in_place(path: Path) -> None:
    write(path, b"bob:" + APACHE_BCRYPT, mtime=2_000)


def change_the_size_only(path: Path) -> None:
    write(path, b"bobby:" + APACHE_BCRYPT)


def rename_over(path: Path) -> None:
    """Size and time stay; only the inode is another."""
    write(path.with_name("new"), b"bob:" + APACHE_BCRYPT)
    path.with_name("new").rename(path)


@pytest.mark.parametrize("change", [rewrite_in_place, change_the_size_only, rename_over])
def test_a_change_is_seen_and_read(tmp_path: Path, change: Callable[[Path], None]) -> None:
    file = users_file(tmp_path / "users", b"ann:" + APACHE_BCRYPT)
    assert file.changed()
    before = loaded(file)
    assert not file.changed()
    change(file.path)
    assert file.changed()
    assert file.users is before
    assert b"ann" in before
    after = loaded(file)
    assert list(after) in ([b"bob"], [b"bobby"])
    assert not file.changed()


def test_a_kubernetes_secret_is_followed_through_its_data_link(tmp_path: Path) -> None:
    for number, user in enumerate((b"ann", b"bob")):
        (tmp_path / f"..{number}").mkdir()
        write(tmp_path / f"..{number}" / "users", user + b":" + APACHE_BCRYPT)
    (tmp_path / "..data").symlink_to("..0")
    (tmp_path / "users").symlink_to("..data/users")
    file = HtpasswdFile(tmp_path / "users")
    assert list(loaded(file)) == [b"ann"]
    (tmp_path / "..tmp").symlink_to("..1")
    (tmp_path / "..tmp").rename(tmp_path / "..data")
    assert file.changed()
    assert list(loaded(file)) == [b"bob"]


def test_a_change_while_reading_is_a_change_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = users_file(tmp_path / "users", b"ann:" + APACHE_BCRYPT)
    read = Path.read_bytes

    def read_then_change(path: Path) -> bytes:
        data = read(path)
        rewrite_in_place(path)
        return data

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", read_then_change)
        assert list(loaded(file)) == [b"ann"]
    assert file.changed()
    assert list(loaded(file)) == [b"bob"]


def empty(path: Path) -> None:
    write(path)


def make_every_line_bad(path: Path) -> None:
    write(path, b"ann:plain")


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    ("break_it", "why"),
    [
        pytest.param(empty, "has no user", id="empty"),
        pytest.param(make_every_line_bad, "has no user that can sign in", id="bad-lines"),
        pytest.param(remove, "cannot be read", id="vanished"),
    ],
)
def test_a_broken_file_keeps_the_users_and_is_an_error_at_every_reading(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, break_it: Callable[[Path], None], why: str
) -> None:
    """Whoever reads it again and again logs the error, once."""
    file = users_file(tmp_path / "users", b"ann:" + APACHE_BCRYPT)
    good = loaded(file)
    caplog.clear()
    break_it(file.path)
    assert file.changed()
    for _ in range(2):
        with pytest.raises(UsersFileError) as caught:
            file.load()
        assert str(caught.value).startswith(f"users file {file.path} {why}")
        assert file.users is good
        assert not file.changed()
    assert caplog.records == []
    write(file.path, b"bob:" + APACHE_BCRYPT)
    assert file.changed()
    assert list(loaded(file)) == [b"bob"]


def test_a_file_that_returns_unchanged_is_read_and_not_reported_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = users_file(tmp_path / "users", b"ann:" + APACHE_BCRYPT)
    file.load()
    assert len(logged(caplog, logging.WARNING)) == 1
    for _ in range(2):
        file.path.rename(tmp_path / "away")
        with pytest.raises(UsersFileError):
            file.load()
        (tmp_path / "away").rename(file.path)
        assert file.changed()
        file.load()
        assert not file.changed()
    assert len(logged(caplog, logging.WARNING)) == 1


def test_a_file_that_is_there_but_unreadable_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Permissions are given without a change of the fingerprint."""
    file = users_file(tmp_path / "users", b"ann:" + APACHE_BCRYPT)
    file.load()
    rewrite_in_place(file.path)

    def refuse(_path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refuse)
        for _ in range(2):
            with pytest.raises(UsersFileError) as caught:
                file.load()
            assert str(caught.value) == (
                f"users file {file.path} cannot be read (Permission denied): let uid {os.geteuid()} read it"
            )
            assert list(file.users) == [b"ann"]
            assert file.changed()
    assert list(loaded(file)) == [b"bob"]
    assert not file.changed()


def test_bad_lines_are_logged_once_with_path_and_number_and_without_content(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = users_file(tmp_path / "users", b"ann:" + with_cost(10), b"hunter2", b"bob:" + APACHE_BCRYPT[:-1])
    file.load()
    file.load()
    damaged = "a damaged bcrypt hash, or one of a cost that is not accepted"
    assert logged(caplog, logging.WARNING) == [
        f"users file {file.path}: line 2 has no ':' between user and hash; the line is left out",
        f"users file {file.path}: line 3 has {damaged}; the line is left out",
    ]


@pytest.mark.parametrize(
    ("count", "last"),
    [(20, "line 21 has no ':' between user and hash; the line is left out"), (25, "5 more lines are left out")],
)
def test_a_file_of_another_kind_does_not_flood_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, count: int, last: str
) -> None:
    file = users_file(tmp_path / "users", b"ann:" + with_cost(10), *[b"x"] * count)
    file.load()
    messages = logged(caplog, logging.WARNING)
    assert len(messages) == min(count, 21)
    assert messages[-1] == f"users file {file.path}: {last}"


def test_unusual_costs_and_weak_kinds_are_warned_about_naming_the_users(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    costs = [(b"a", 7), (b"b", 8), (b"c", 12), (b"d", 13), (b"e", 7)]
    file = users_file(tmp_path / "users", *(user + b":" + with_cost(cost) for user, cost in costs), b"f:" + SHA)
    file.load()
    slow, advice = (
        "bcrypt cost 13 makes every first request slow, and every wrong password",
        "with `packregistry user passwd`",
    )
    assert logged(caplog, logging.WARNING) == [
        f'users file {file.path}: {slow}: change the password of "d" {advice}',
        f'users file {file.path}: bcrypt cost 7 is quick to guess: change the password of "a", "e" {advice}',
        f'users file {file.path}: {{SHA}} hashes are weak: change the password of "f" {advice}',
    ]


@pytest.mark.parametrize(
    ("stored", "kind"),
    [
        pytest.param(with_cost(10), Kind("bcrypt", 10, ""), id="bcrypt"),
        pytest.param(with_cost(7), Kind("bcrypt", 7, "bcrypt cost 7 is quick to guess"), id="quick"),
        pytest.param(SHA512, Kind("$6$", 0, "$6$ hashes are weak"), id="sha512-crypt"),
    ],
)
def test_the_kind_of_a_hash_is_told(stored: bytes, kind: Kind) -> None:
    users, _ = parsed(b"ann:" + stored)
    assert users.kind(b"ann") == kind


@pytest.mark.parametrize("password", [SECRET, "pàss".encode() * 14 + b"12"], ids=["short", "72-bytes"])
def test_what_is_hashed_here_is_accepted_here(password: bytes) -> None:
    stored = htpasswd.hashed(password, 5)
    assert stored.startswith(b"$2y$05$")
    assert stored != htpasswd.hashed(password, 5)
    users, problems = parsed(b"ann:" + stored)
    assert problems == []
    assert users.verify(b"ann", password)
    assert not users.verify(b"ann", password[:-1])


@pytest.mark.parametrize(("count", "end"), [(10, '"u08", "u09" with'), (12, '"u08", "u09" and 2 more with')])
def test_a_warning_names_no_more_than_ten_users(count: int, end: str) -> None:
    users, _ = parsed(*(b"u%02d:" % number + with_cost(5) for number in range(count)))
    (text,) = users.concerns()
    assert text.endswith(f"{end} `packregistry user passwd`")


def test_how_many_users_were_read_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    file = users_file(tmp_path / "users", b"ann:" + with_cost(10), b"bob:" + with_cost(10))
    file.load()
    assert logged(caplog, logging.INFO) == [f"users file {file.path}: 2 users"]


@pytest.mark.real
@pytest.mark.parametrize("kind", ["-B", "-m", "-s", "-2", "-5"])
def test_a_file_made_by_apaches_htpasswd_is_understood(tmp_path: Path, kind: str) -> None:
    program = shutil.which("htpasswd")
    if program is None:
        pytest.skip("htpasswd (Debian: apache2-utils) is not installed")
    cost = ["-C", "4"] if kind == "-B" else ["-r", "1000"] if kind in {"-2", "-5"} else []
    path = tmp_path / "users"
    for create, user, password in ((["-c"], "ann", "se:cret"), ([], "ève", "pàss" * 20)):
        subprocess.run([program, *create, kind, *cost, "-b", path, user, password], check=True, capture_output=True)
    users = loaded(HtpasswdFile(path))
    assert users.verify(b"ann", b"se:cret")
    assert users.verify("ève".encode(), ("pàss" * 20).encode())
    assert not users.verify(b"ann", b"se:cre")
