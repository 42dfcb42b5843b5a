"""Tokens: their text, the file they are in, when they were used, and `/api/v1/tokens`."""

from __future__ import annotations

import asyncio
import datetime as dt
import errno
import hashlib
import json
import logging
import os
import re
import stat
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packregistry.audit import Audit, Event
from packregistry.auth import tokens as module
from packregistry.auth.expiry import expiry
from packregistry.auth.rights import ROLES
from packregistry.auth.tokens import FILE_MAX, KEPT, TOKEN_USE, TOKENS, Token, TokenFile, as_text, is_whole
from packregistry.config import Config
from packregistry.errors import (
    ParameterInvalidError,
    StorageFullError,
    StorageUnavailableError,
    TokenConflictError,
    TokenUnknownError,
)
from packregistry.masking import masked
from packregistry.reload import ReloadError
from tests.web import Answer, Site, basic, serving

NOW = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
# Pinned: tokens that were made must be known for what they are by all versions to come.
WHOLE = "pkr_" + "0" * 43 + "3Hd5Km"
LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class Clock:
    """The time that tokens are made, revoked and dropped at."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> dt.datetime:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(module, "_now", found)
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / TOKENS


def opened(path: Path) -> TokenFile:
    found = TokenFile(path, path.with_name(TOKEN_USE))
    found.load()
    return found


@pytest.fixture
def file(path: Path) -> TokenFile:
    return opened(path)


def make(file: TokenFile, name: str = "ci", expires: dt.datetime | None = None) -> tuple[Token, str]:
    return file.create(name, "ann", "publisher", ["nginx-*", "redis"], expires)


def entry(name: str = "ci", secret: str = WHOLE, **more: Any) -> dict[str, Any]:
    """What the file has of a token."""
    return {
        "name": name,
        "owner": "ann",
        "role": "reader",
        "packs": ["*"],
        "created": "2026-01-31T12:00:00Z",
        "expires": None,
        "revoked": None,
        "sha256": hashlib.sha256(secret.encode()).hexdigest(),
        **more,
    }


def write(path: Path, *entries: Any) -> None:
    path.write_text(json.dumps({"format": 1, "tokens": entries}))


def entries(path: Path) -> list[Any]:
    found: list[Any] = json.loads(path.read_bytes())["tokens"]
    return found


def names(file: TokenFile) -> list[str]:
    return [token.name for token, _ in file.tokens()]


# The text of a token


def test_a_token_has_a_prefix_and_256_random_bits_and_its_check(file: TokenFile) -> None:
    secrets = [make(file, f"t{number}")[1] for number in range(20)]
    for secret in secrets:
        assert re.fullmatch(r"pkr_[0-9A-Za-z]{49}", secret)
        assert is_whole(secret)
        assert masked(f"a {secret} b") == "a pkr_*** b"
    assert 62**43 > 2**256
    assert len(set(secrets)) == 20
    assert {letter for secret in secrets for letter in secret[4:47]} > {*LETTERS[:5]}


def test_what_makes_a_token_whole_does_not_change() -> None:
    assert is_whole(WHOLE)


@given(st.integers(0, 52), st.characters(categories=["L", "N", "P", "S", "Cc"]))
def test_a_token_with_one_other_character_is_not_whole(index: int, other: str) -> None:
    if other != WHOLE[index]:
        assert not is_whole(WHOLE[:index] + other + WHOLE[index + 1 :])


@pytest.mark.parametrize("secret", [WHOLE[:-1], WHOLE + "0", WHOLE + "\n", " " + WHOLE, WHOLE[4:], "", "pkr_", "pkr_é"])
def test_what_is_cut_off_or_has_more_to_it_is_not_whole(secret: str) -> None:
    assert not is_whole(secret)


def test_two_characters_the_wrong_way_round_make_no_whole_token(file: TokenFile) -> None:
    secret = make(file)[1]
    swapped = {secret[:at] + secret[at + 1] + secret[at] + secret[at + 2 :] for at in range(4, 52)} - {secret}
    assert swapped
    assert not any(is_whole(text) for text in swapped)


# The file


def test_the_file_has_what_a_token_was_made_of_and_its_hash(path: Path, file: TokenFile, clock: Clock) -> None:
    token, secret = file.create("ci", "ann", "publisher", ["nginx-*", "redis", "redis"], NOW + 90 * DAY)
    made = {
        "name": "ci",
        "owner": "ann",
        "role": "publisher",
        "packs": ["nginx-*", "redis"],
        "created": "2026-01-31T12:00:00Z",
        "expires": "2026-05-01T12:00:00Z",
        "revoked": None,
        "sha256": hashlib.sha256(secret.encode()).hexdigest(),
    }
    assert json.loads(path.read_bytes()) == {"format": 1, "tokens": [made]}
    assert secret[4:] not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert file.tokens() == [(token, None)]


def test_a_token_is_found_by_its_text(file: TokenFile) -> None:
    token, secret = make(file)
    other, another = make(file, "other")
    assert (file.find(secret), file.find(another)) == (token, other)


@pytest.mark.parametrize(
    "secret",
    [WHOLE, WHOLE[:-1], "", "pkr_", "ci", "pkr_\ud800", "pkr_é", hashlib.sha256(WHOLE.encode()).hexdigest()],
    ids=["unknown", "cut", "empty", "prefix", "name", "surrogate", "not-ascii", "hash"],
)
def test_other_texts_find_nothing(file: TokenFile, secret: str) -> None:
    make(file)
    assert file.find(secret) is None


def test_only_what_has_the_prefix_is_a_token(path: Path) -> None:
    write(path, entry(secret="a password"), entry("own", secret="pkr_made-elsewhere"))
    file = opened(path)
    assert file.find("a password") is None
    assert file.find("pkr_made-elsewhere") is not None


def test_a_token_acts_as_itself_with_its_own_rights(file: TokenFile) -> None:
    token = make(file)[0]
    principal = token.principal
    assert (principal.name, principal.method) == ("token:ci", "token")
    assert principal.grant is not None
    assert principal.grant.rights == ROLES["publisher"]
    assert [principal.grant.packs.matches(name) for name in ("nginx-a", "redis", "other")] == [True, True, False]
    assert token.principal is principal


def test_times_are_whole_seconds_of_utc(file: TokenFile, path: Path) -> None:
    zone = dt.timezone(dt.timedelta(hours=2))
    token, _ = make(file, expires=dt.datetime(2999, 1, 1, 2, 0, 0, 999, tzinfo=zone))
    assert token.created.microsecond == 0
    assert token.expires == dt.datetime(2999, 1, 1, tzinfo=dt.UTC)
    assert entries(path)[0]["expires"] == "2999-01-01T00:00:00Z"
    assert opened(path).tokens() == file.tokens() == [(token, None)]


def test_what_a_process_changes_it_sees_at_once_and_others_when_they_look(path: Path, file: TokenFile) -> None:
    other = opened(path)
    assert not file.changed()
    token, secret = make(file)
    assert file.find(secret) == token
    assert (file.changed(), other.changed(), other.find(secret)) == (False, True, None)
    other.load()
    assert (other.changed(), other.find(secret)) == (False, token)
    other.revoke("ci")
    assert file.changed()
    file.load()
    found = file.find(secret)
    assert found is not None
    assert found.state(dt.datetime.now(dt.UTC)) == "revoked"


def test_several_writers_lose_nothing_of_each_other(path: Path) -> None:
    files = [opened(path) for _ in range(4)]

    def work(number: int) -> None:
        for count in range(5):
            make(files[number], f"t{number}-{count}")
        files[number].revoke(f"t{number}-0")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names(opened(path)) == sorted(f"t{number}-{count}" for number in range(4) for count in range(5))
    assert sum(one["revoked"] is not None for one in entries(path)) == 4


def test_a_file_that_is_not_there_has_no_tokens(path: Path) -> None:
    file = TokenFile(path, path.with_name(TOKEN_USE))
    assert (file.what, file.path, file.changed()) == ("tokens", path, True)
    file.load()
    assert (file.tokens(), file.changed()) == ([], False)
    secret = make(file)[1]
    path.unlink()
    assert file.changed()
    file.load()
    assert file.find(secret) is None


def test_owner_mode_and_link_stay(tmp_path: Path, path: Path) -> None:
    real = tmp_path / "real" / "file.json"
    real.parent.mkdir()
    write(real)
    real.chmod(0o640)
    path.symlink_to(real)
    make(opened(path))
    assert path.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert [one["name"] for one in entries(real)] == ["ci"]
    assert {item.name for item in real.parent.iterdir()} == {"file.json", ".file.json.lock"}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"tokens": []}',
        b'{"format": 1}',
        b'{"format": 2, "tokens": []}',
        b'{"format": "1", "tokens": []}',
        b'{"format": 1, "tokens": {}}',
        b'{"format": 1, "tokens": "ci"}',
        b"\xff\xfe\xfd",
        b"[" * 100_000,
    ],
    ids=[
        "empty",
        "cut",
        "list",
        "null",
        "no-format",
        "no-tokens",
        "format-2",
        "text",
        "object",
        "str",
        "bytes",
        "deep",
    ],
)
def test_a_damaged_file_is_an_error_and_what_was_read_before_stays(path: Path, content: bytes) -> None:
    write(path, entry())
    file = opened(path)
    path.write_bytes(content)
    for _ in range(2):
        with pytest.raises(ReloadError, match=r"is not a file of tokens .*: restore it, or remove it") as caught:
            file.load()
        assert str(path) in str(caught.value)
    assert not file.changed()
    assert file.find(WHOLE) is not None
    with pytest.raises(StorageUnavailableError, match="is not a file of tokens"):
        make(file, "other")
    with pytest.raises(StorageUnavailableError, match="is not a file of tokens"):
        file.revoke("ci")
    assert path.read_bytes() == content


def test_a_file_that_cannot_be_read_is_an_error_and_what_was_read_before_stays(path: Path) -> None:
    write(path, entry())
    file = opened(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(ReloadError, match=rf"{path} cannot be read by uid {os.geteuid()} \(Is a directory\): make it"):
        file.load()
    assert file.find(WHOLE) is not None


def test_a_file_that_is_far_too_large_is_not_read(path: Path) -> None:
    with path.open("wb") as out:
        out.truncate(FILE_MAX + 1)
    with pytest.raises(ReloadError, match=rf"{path} is larger than {FILE_MAX} bytes"):
        opened(path)


def test_a_file_is_not_made_larger_than_it_may_be(path: Path, file: TokenFile, monkeypatch: pytest.MonkeyPatch) -> None:
    make(file)
    before = path.read_bytes()
    monkeypatch.setattr(module, "FILE_MAX", len(before))
    with pytest.raises(StorageFullError, match=rf"{path} would be larger than {len(before)} bytes: wait"):
        make(file, "other")
    assert path.read_bytes() == before


# Entries that are no tokens


BAD: dict[str, tuple[Any, str]] = {
    "no-object": ("ci", "name is no text"),
    "no-name": (entry() | {"name": None}, "name is no text"),
    "bad-name": (entry("a b"), '"a b" is not the name of a token'),
    "owner-list": (entry(owner=["ann"]), "owner is no text"),
    "role-list": (entry(role=["reader"]), "role is no text"),
    "unknown-role": (entry(role="king"), '"king" is not a role: use reader, publisher, maintainer, admin'),
    "packs-text": (entry(packs="nginx*"), "packs is no list of patterns"),
    "packs-numbers": (entry(packs=[1]), "packs is no list of patterns"),
    "no-packs": (entry(packs=[]), "there is no pattern"),
    "bad-pattern": (entry(packs=["a b"]), '"a b" is not a pattern'),
    "no-expires": ({key: value for key, value in entry().items() if key != "expires"}, "expires is no time"),
    "no-revoked": ({key: value for key, value in entry().items() if key != "revoked"}, "revoked is no time"),
    "created-null": (entry(created=None), "created is no time"),
    "expires-number": (entry(expires=5), "expires is no time"),
    "expires-empty": (entry(expires=""), "expires is no time"),
    "expires-no-zone": (entry(expires="2999-01-01T00:00:00"), "expires is no time with its zone, such as 2027-01-31T"),
    "expires-late": (entry(expires="9999-12-31T23:59:59-12:00"), "expires is no time"),
    "revoked-false": (entry(revoked=False), "revoked is no time"),
    "sha256-null": (entry(sha256=None), "sha256 is no text"),
    "sha256-upper": (entry(sha256="A" * 64), "sha256 is no SHA-256 in small letters"),
    "sha256-short": (entry(sha256="a" * 63), "sha256 is no SHA-256 in small letters"),
    "sha256-long": (entry(sha256="a" * 64 + "\n"), "sha256 is no SHA-256 in small letters"),
}


@pytest.mark.parametrize(("bad", "reason"), BAD.values(), ids=BAD)
def test_a_damaged_entry_is_no_token_and_the_others_are(
    path: Path, bad: Any, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(path, entry("one", "pkr_one"), bad)
    file = opened(path)
    assert names(file) == ["one"]
    assert file.find(WHOLE) is None
    (line,) = caplog.messages
    name = f" ({json.dumps(bad['name'])})" if isinstance(bad, dict) and bad["name"] else ""
    assert line.startswith(f"token file {path}: token 2{name}: {reason}")
    assert line.endswith("; it is left out: put it right, or remove it")
    assert hashlib.sha256(WHOLE.encode()).hexdigest() not in line
    # Writing is no reason to lose what somebody may still put right.
    make(file, "new")
    assert entries(path)[-1] == bad
    assert len(caplog.messages) == 1


def test_no_damage_is_shown_with_a_hash_that_stands_in_the_wrong_place(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(path, entry(created="f" * 64), entry(expires="f" * 64), entry(sha256="f" * 65), entry(packs="f" * 64))
    opened(path)
    assert len(caplog.messages) == 4
    assert "fff" not in caplog.text


def test_damage_is_logged_again_when_it_was_put_right_between(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = TokenFile(path, path.with_name(TOKEN_USE))
    for role, count in (("king", 1), ("king", 1), ("reader", 1), ("king", 2), ("queen", 3)):
        write(path, entry(role=role))
        file.load()
        assert len(caplog.messages) == count


def test_of_many_damaged_entries_some_are_logged(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(path, *range(25))
    opened(path)
    assert len(caplog.messages) == 21
    assert caplog.messages[-1] == f"token file {path}: 5 more are left out"


@pytest.mark.parametrize("order", [1, -1], ids=["revoked-first", "revoked-last"])
def test_of_two_entries_of_one_token_the_revoked_one_counts(path: Path, order: int) -> None:
    write(path, *[entry("a", revoked="2026-01-31T13:00:00Z"), entry("b")][::order])
    found = opened(path).find(WHOLE)
    assert found is not None
    assert found.state(NOW) == "revoked"


# Making


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": ""}, '"" is not the name of a token: use up to 64 letters'),
        ({"name": "-a"}, "is not the name"),
        ({"name": "a" * 65}, "is not the name"),
        ({"name": "a:b"}, "is not the name"),
        ({"name": "a\n"}, "is not the name"),
        ({"name": "é"}, "is not the name"),
        ({"role": "king"}, '"king" is not a role: use reader, publisher, maintainer, admin'),
        ({"role": ""}, "is not a role"),
        ({"packs": []}, "there is no pattern: write"),
        ({"packs": ["a/b"]}, '"a/b" is not a pattern'),
        ({"expires": NOW}, "2026-01-31T12:00:00Z is over already: name a time to come"),
        ({"expires": NOW - DAY}, "is over already"),
    ],
    ids=["empty", "dash", "long", "colon", "newline", "accent", "role", "no-role", "no-packs", "packs", "now", "past"],
)
def test_bad_values_are_refused_and_nothing_is_written(
    path: Path, file: TokenFile, clock: Clock, changes: dict[str, Any], reason: str
) -> None:
    wanted = {"name": "ci", "owner": "ann", "role": "reader", "packs": ["*"], "expires": None, **changes}
    with pytest.raises(ParameterInvalidError) as caught:
        file.create(**wanted)
    assert reason in str(caught.value)
    assert not path.exists()


@pytest.mark.parametrize("name", ["a", "0", "A.b_c-d", "a" * 64, "a-"])
def test_names_are_letters_digits_and_a_little_more(file: TokenFile, name: str) -> None:
    assert file.create(name, "ann", "reader", ["*"], None)[0].name == name


def test_a_name_is_free_again_when_its_token_is_not_in_force(path: Path, file: TokenFile, clock: Clock) -> None:
    first = make(file, expires=NOW + DAY)[0]
    with pytest.raises(TokenConflictError, match="there is a token ci: revoke it first") as caught:
        make(opened(path))
    assert caught.value.detail == {"name": "ci"}
    clock.now += DAY
    second = make(file)[0]
    clock.now += DAY
    revoked = file.revoke("ci")
    assert revoked.sha256 == second.sha256
    third, secret = make(file)
    assert [token for token, _ in file.tokens()] == [third, revoked, first]
    assert file.find(secret) == third


def test_tokens_are_listed_by_name_and_the_latest_of_a_name_first(file: TokenFile, clock: Clock) -> None:
    for name in ("b", "a", "b"):
        if name in names(file):
            file.revoke(name)
        make(file, name)
        clock.now += DAY
    assert [(token.name, token.created.day) for token, _ in file.tokens()] == [("a", 1), ("b", 2), ("b", 31)]


# Revoking, and the end of a token


def test_a_revoked_token_is_known_as_such(path: Path, file: TokenFile, clock: Clock) -> None:
    secret = make(file)[1]
    clock.now += DAY
    revoked = file.revoke("ci")
    assert (revoked.name, revoked.revoked) == ("ci", NOW + DAY)
    assert revoked.state(NOW + DAY) == "revoked"
    assert file.find(secret) == revoked
    assert entries(path)[0]["revoked"] == "2026-02-01T12:00:00Z"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("other", 'no token in force is called "other": list the tokens to see which there are'),
        ("void", 'no token in force is called "void": it is revoked: list'),
        ("old", 'no token in force is called "old": it is expired: list'),
        ("both", 'no token in force is called "both": it is expired: list'),
        ("\x1b[2J" + "x" * 100, r'no token in force is called "\u001b[2Jxxx'),
    ],
    ids=["unknown", "revoked", "expired", "the-last-one-counts", "hostile"],
)
def test_what_is_not_in_force_cannot_be_revoked(path: Path, clock: Clock, name: str, text: str) -> None:
    void, old = {"revoked": "2026-01-30T12:00:00Z"}, {"expires": as_text(NOW)}
    write(
        path,
        entry("void", "pkr_1", **void),
        entry("old", "pkr_2", **old),
        entry("both", "pkr_3", **void),
        entry("both", "pkr_4", **old),
    )
    before = path.read_bytes()
    with pytest.raises(TokenUnknownError) as caught:
        opened(path).revoke(name)
    assert str(caught.value).startswith(text)
    assert caught.value.detail == {"name": name[:80]}
    assert path.read_bytes() == before


def test_all_tokens_of_a_name_are_revoked(path: Path, clock: Clock) -> None:
    write(path, entry("ci", "pkr_1"), entry("other", "pkr_2"), entry("ci", "pkr_3"))
    file = opened(path)
    file.revoke("ci")
    states = {secret: token.state(NOW) for secret in ("pkr_1", "pkr_2", "pkr_3") if (token := file.find(secret))}
    assert states == {"pkr_1": "revoked", "pkr_2": "valid", "pkr_3": "revoked"}


@pytest.mark.parametrize(
    ("more", "state"),
    [
        ({}, "valid"),
        ({"expires": NOW + dt.timedelta(seconds=1)}, "valid"),
        ({"expires": NOW}, "expired"),
        ({"revoked": NOW}, "revoked"),
        ({"revoked": NOW + DAY}, "revoked"),
        ({"revoked": NOW, "expires": NOW - DAY}, "revoked"),
    ],
    ids=["for-ever", "not-yet", "expired", "revoked", "revoked-by-another-clock", "both"],
)
def test_the_state_of_a_token(path: Path, more: dict[str, dt.datetime], state: str) -> None:
    write(path, entry(**{key: as_text(time) for key, time in more.items()}))
    ((token, used),) = opened(path).tokens()
    assert token.state(NOW) == state
    assert token.as_json(NOW, used) == {
        **{key: value for key, value in entries(path)[0].items() if key != "sha256"},
        "lastUsed": None,
        "state": state,
    }


ENDED = [
    pytest.param({"revoked": NOW - KEPT}, True, id="revoked-30-days-ago"),
    pytest.param({"revoked": NOW - KEPT + dt.timedelta(seconds=1)}, False, id="revoked-later"),
    pytest.param({"expires": NOW - KEPT}, True, id="expired-30-days-ago"),
    pytest.param({"expires": NOW - KEPT + dt.timedelta(seconds=1)}, False, id="expired-later"),
    pytest.param({"expires": NOW - KEPT, "revoked": NOW - DAY}, True, id="expired-before-it-was-revoked"),
    pytest.param({"expires": NOW + KEPT, "revoked": NOW - KEPT}, True, id="revoked-before-it-expires"),
    pytest.param({"created": NOW - 10 * KEPT}, False, id="old-and-in-force"),
]


@pytest.mark.parametrize(("more", "is_dropped"), ENDED)
def test_what_ended_30_days_ago_is_dropped_with_the_next_change(
    path: Path, clock: Clock, more: dict[str, dt.datetime], is_dropped: bool
) -> None:
    write(path, entry("old", **{key: as_text(time) for key, time in more.items()}))
    file = opened(path)
    assert names(file) == ["old"]
    assert file.find(WHOLE) is not None
    make(file, "new")
    assert names(file) == (["new"] if is_dropped else ["new", "old"])


# What cannot be written


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.EROFS, "make the directory {} writable"),
        (errno.EACCES, "make the directory {} writable"),
        (errno.ENOSPC, "free some space"),
    ],
    ids=["read-only", "permission", "full"],
)
@pytest.mark.parametrize("step", ["locked", "replace_file"])
def test_a_file_that_cannot_be_written_is_named_with_what_to_do(
    path: Path, file: TokenFile, monkeypatch: pytest.MonkeyPatch, step: str, code: int, remedy: str
) -> None:
    secret = make(file)[1]
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(module, step, fail)
    reason = f"token file {path} cannot be written by uid {os.geteuid()}: {os.strerror(code)}: "
    for change in (lambda: make(file, "other"), lambda: file.revoke("ci")):
        with pytest.raises(StorageUnavailableError) as caught:
            change()
        assert str(caught.value).startswith(reason + remedy.format(path.parent))
    assert path.read_bytes() == before
    found = file.find(secret)
    assert found is not None
    assert (names(file), found.state(NOW)) == (["ci"], "valid")


def test_the_directory_of_a_server_that_has_never_run_is_made(tmp_path: Path) -> None:
    file = opened(tmp_path / "none" / "data" / TOKENS)
    make(file)
    assert names(file) == ["ci"]


def test_another_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "none" / TOKENS, tmp_path / TOKEN_USE)
    with pytest.raises(StorageUnavailableError, match=f"make the directory {tmp_path / 'none'} first"):
        make(file)
    assert not (tmp_path / "none").exists()


# Uses


def used(file: TokenFile) -> dict[str, str | None]:
    return {token.name: as_text(time) if time else None for token, time in file.tokens()}


def test_uses_are_known_at_once_and_to_others_when_they_are_written(path: Path, file: TokenFile, clock: Clock) -> None:
    token, secret = make(file)
    other, another = make(file, "other")
    assert used(file) == {"ci": None, "other": None}
    file.note_use(token, NOW)
    assert used(file) == {"ci": "2026-01-31T12:00:00Z", "other": None}
    assert used(opened(path)) == {"ci": None, "other": None}
    file.flush_uses()
    assert used(file) == used(opened(path)) == {"ci": "2026-01-31T12:00:00Z", "other": None}
    file.note_use(token, NOW + DAY)
    file.note_use(other, NOW + DAY)
    file.flush_uses()
    assert used(opened(path)) == {"ci": "2026-02-01T12:00:00Z", "other": "2026-02-01T12:00:00Z"}
    text = file.uses_path.read_text()
    assert not any(token.sha256[:17] in text or part[4:] in text for part in (secret, another))
    assert stat.S_IMODE(file.uses_path.stat().st_mode) == 0o600


def test_of_two_processes_the_later_use_counts(path: Path, file: TokenFile, clock: Clock) -> None:
    token, _ = make(file)
    other = opened(path)
    other.note_use(token, NOW + 2 * DAY)
    other.flush_uses()
    file.note_use(token, NOW + DAY)
    assert used(file) == {"ci": "2026-02-02T12:00:00Z"}
    file.flush_uses()
    assert used(opened(path)) == {"ci": "2026-02-02T12:00:00Z"}


def test_several_processes_lose_no_use_of_each_other(path: Path, file: TokenFile, clock: Clock) -> None:
    made = [make(file, f"t{number}")[0] for number in range(4)]

    def work(number: int) -> None:
        own = opened(path)
        for count in range(5):
            own.note_use(made[number], NOW + (count + 1) * DAY)
            own.flush_uses()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert used(file) == {token.name: "2026-02-05T12:00:00Z" for token in made}


def test_a_token_of_the_same_name_was_not_used(file: TokenFile, clock: Clock) -> None:
    file.note_use(make(file)[0], NOW)
    file.flush_uses()
    file.revoke("ci")
    clock.now += DAY
    make(file)
    assert [time is not None for _, time in file.tokens()] == [False, True]


def test_without_a_new_use_nothing_is_written(file: TokenFile, clock: Clock) -> None:
    file.flush_uses()
    assert not file.uses_path.exists()
    token = make(file)[0]
    file.note_use(token, NOW)
    file.flush_uses()
    file.uses_path.unlink()
    file.note_use(token, NOW)
    file.flush_uses()
    assert not file.uses_path.exists()
    file.note_use(token, NOW + DAY)
    file.flush_uses()
    assert used(file) == {"ci": "2026-02-01T12:00:00Z"}


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{", b'{"a": 5}', b'{"a": "x"}', b'{"a": "2026-01-01T00:00:00"}', b"\xff", b"[" * 100_000]
)
def test_damaged_uses_are_unknown_and_written_anew(file: TokenFile, clock: Clock, content: bytes) -> None:
    token = make(file)[0]
    file.uses_path.write_bytes(content)
    assert used(file) == {"ci": None}
    file.note_use(token, NOW)
    file.flush_uses()
    assert used(opened(file.path)) == {"ci": "2026-01-31T12:00:00Z"}


def test_uses_of_tokens_that_are_gone_are_forgotten_after_a_while(file: TokenFile, clock: Clock) -> None:
    """Another process may write of a token that this one has not read of yet."""
    token = make(file)[0]
    old, recent = as_text(NOW - KEPT), as_text(NOW - KEPT + dt.timedelta(seconds=1))
    file.uses_path.write_text(json.dumps({"old": old, "recent": recent, token.sha256[:16]: old}))
    file.note_use(make(file, "other")[0], NOW)
    file.flush_uses()
    assert json.loads(file.uses_path.read_bytes()).keys() - {file.tokens()[1][0].sha256[:16]} == {
        "recent",
        token.sha256[:16],
    }


def test_uses_that_cannot_be_written_are_not_forgotten(tmp_path: Path, path: Path, clock: Clock) -> None:
    file = TokenFile(path, tmp_path / "none" / TOKEN_USE)
    file.load()
    file.note_use(make(file)[0], NOW)
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            file.flush_uses()
    file.uses_path.parent.mkdir()
    file.flush_uses()
    assert file.uses_path.exists()


# When a token expires


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("never", None),
        ("90d", NOW + 90 * DAY),
        ("24h", NOW + DAY),
        ("2w", NOW + 14 * DAY),
        ("2027-01-31", dt.datetime(2027, 1, 31, tzinfo=dt.UTC)),
        ("2027-01-31T12:30", dt.datetime(2027, 1, 31, 12, 30, tzinfo=dt.UTC)),
        ("2027-01-31T12:30:01Z", dt.datetime(2027, 1, 31, 12, 30, 1, tzinfo=dt.UTC)),
        ("2027-01-31T12:30:01+02:00", dt.datetime(2027, 1, 31, 10, 30, 1, tzinfo=dt.UTC)),
    ],
)
def test_an_expiry_is_a_span_a_day_or_a_time(text: str, time: dt.datetime | None) -> None:
    found = expiry(text, NOW)
    assert found == time
    assert found is None or found.utcoffset() == dt.timedelta()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0d",
        "-1d",
        "1.5d",
        "90",
        "90m",
        "90 d",
        "\uff190d",
        "999999w",
        "Never",
        "soon",
        "2027-02-30",
        "9999-12-31T23:00-12:00",
    ],
)
def test_other_texts_are_no_expiry(text: str) -> None:
    with pytest.raises(
        ParameterInvalidError, match="is not when a token could expire: use a span such as 90d"
    ) as caught:
        expiry(text, NOW)
    assert json.dumps(text) in str(caught.value)


# Over HTTP


USERS = {"admin": "one", "ann": "two"}


class Noted:
    """Stands in for where audit records are kept."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def changed(self, *_: object) -> None:
        """Packs are changed elsewhere."""

    def write(self, event: Event) -> None:
        self.events.append(event)

    def changes(self) -> list[tuple[str, str, str, str]]:
        found = [event for event in self.events if event.action.startswith("token.")]
        return [(event.subject, event.action, event.object, event.result) for event in found]


@pytest.fixture
async def site(tmp_path: Path, noted: Noted) -> AsyncIterator[Site]:
    async with serving(tmp_path / "data", users=USERS, audit=cast("Audit", noted)) as found:
        yield found


@pytest.fixture
def noted() -> Noted:
    return Noted()


async def send(site: Site, method: str, target: str, body: Any = None, **headers: str) -> Answer:
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = {"Host": "registry", "Content-Length": str(len(data)), **site.headers, **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    async with site.connect() as connection:
        await connection.send(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode() + data)
        return await connection.answer(method)


async def status(site: Site, secret: str) -> int:
    return (await send(site, "GET", "/v1/", Authorization=f"Bearer {secret}")).status


async def test_a_token_is_made_shown_once_used_and_revoked(site: Site, noted: Noted) -> None:
    wanted = {"name": "ci", "role": "reader", "packs": ["nginx-*"], "expires": "2999-01-01"}
    made = await send(site, "POST", "/api/v1/tokens", wanted)
    assert (made.status, made.headers["Cache-Control"]) == (201, "no-store")
    assert made.headers["Location"] == "/api/v1/tokens/ci"
    document = made.json()
    secret, created = document.pop("token"), document.pop("created")
    expected = {**wanted, "owner": "admin", "expires": "2999-01-01T00:00:00Z", "revoked": None}
    assert document == {**expected, "lastUsed": None, "state": "valid"}
    assert await status(site, secret) == 200
    listed = await send(site, "GET", "/api/v1/tokens")
    assert (listed.status, listed.headers["Cache-Control"]) == (200, "no-store")
    ((one,),) = listed.json().values()
    last = one.pop("lastUsed")
    assert dt.datetime.fromisoformat(last) >= dt.datetime.fromisoformat(created)
    assert one == {**expected, "created": created, "state": "valid"}
    gone = await send(site, "DELETE", "/api/v1/tokens/ci")
    assert (gone.status, gone.json()["name"], gone.json()["state"]) == (200, "ci", "revoked")
    assert await status(site, secret) == 401
    for answer in (listed, gone):
        assert secret[4:].encode() not in answer.body
        assert hashlib.sha256(secret.encode()).hexdigest().encode() not in answer.body
    assert noted.changes() == [
        ("admin", "token.create", "token:ci", "done"),
        ("admin", "token.revoke", "token:ci", "done"),
    ]


async def test_a_token_is_of_all_packs_for_90_days_unless_more_is_said(site: Site) -> None:
    made = (await send(site, "POST", "/api/v1/tokens", {"name": "ci", "role": "reader"})).json()
    assert made["packs"] == ["*"]
    times = [dt.datetime.fromisoformat(made[key]) for key in ("created", "expires")]
    assert times[1] - times[0] in {90 * DAY, 90 * DAY + dt.timedelta(seconds=1), 90 * DAY - dt.timedelta(seconds=1)}


async def test_a_token_can_be_for_ever(site: Site) -> None:
    made = await send(site, "POST", "/api/v1/tokens", {"name": "ci", "role": "reader", "expires": "never"})
    assert made.json()["expires"] is None


async def test_a_token_of_an_admin_answers_for_what_it_makes(site: Site, noted: Noted) -> None:
    first = (await send(site, "POST", "/api/v1/tokens", {"name": "boss", "role": "admin"})).json()
    bearer = f"Bearer {first['token']}"
    made = await send(site, "POST", "/api/v1/tokens", {"name": "ci", "role": "reader"}, Authorization=bearer)
    assert (made.status, made.json()["owner"]) == (201, "token:boss")
    assert noted.changes()[1] == ("token:boss", "token.create", "token:ci", "done")


@pytest.mark.parametrize(
    ("body", "error", "text"),
    [
        ({"name": "ci", "role": "reader", "owner": "eve"}, "BODY_INVALID", 'a member "owner": use name, role, packs'),
        (b"[]", "BODY_INVALID", "not a JSON object"),
        (b"{", "BODY_INVALID", "not JSON"),
        (None, "PARAMETER_INVALID", '"" is not the name of a token'),
        ({"name": 5, "role": "reader"}, "BODY_INVALID", '"name" is not a text'),
        ({"name": "a b", "role": "reader"}, "PARAMETER_INVALID", '"a b" is not the name of a token'),
        ({"name": "ci"}, "PARAMETER_INVALID", '"" is not a role'),
        ({"name": "ci", "role": "king"}, "PARAMETER_INVALID", '"king" is not a role'),
        ({"name": "ci", "role": "reader", "packs": "*"}, "BODY_INVALID", '"packs" is not a list of texts: write like'),
        ({"name": "ci", "role": "reader", "packs": [1]}, "BODY_INVALID", '"packs" is not a list of texts'),
        ({"name": "ci", "role": "reader", "packs": None}, "BODY_INVALID", '"packs" is not a list of texts'),
        ({"name": "ci", "role": "reader", "packs": []}, "PARAMETER_INVALID", "there is no pattern"),
        ({"name": "ci", "role": "reader", "packs": ["a/b"]}, "PARAMETER_INVALID", '"a/b" is not a pattern'),
        ({"name": "ci", "role": "reader", "expires": "soon"}, "PARAMETER_INVALID", '"soon" is not when'),
        ({"name": "ci", "role": "reader", "expires": "2001-01-01"}, "PARAMETER_INVALID", "is over already"),
        ({"name": "ci", "role": "reader", "expires": None}, "BODY_INVALID", '"expires" is not a text'),
    ],
    ids=[
        "unknown-field", "list", "not-json", "nothing", "name-number", "name", "no-role", "role", "packs-text",
        "packs-numbers", "packs-null", "packs-none", "packs", "expires", "past", "expires-null",
    ],
)  # fmt: skip
async def test_what_is_asked_for_wrongly_is_refused(site: Site, noted: Noted, body: Any, error: str, text: str) -> None:
    answer = await send(site, "POST", "/api/v1/tokens", body)
    assert (answer.status, answer.error) == (400, error)
    assert text in answer.message
    assert (await send(site, "GET", "/api/v1/tokens")).json() == {"tokens": []}
    assert ("admin", "token.create", "token:ci", "done") not in noted.changes()


async def test_names_are_in_force_once(site: Site, noted: Noted) -> None:
    for wanted in (201, 409):
        answer = await send(site, "POST", "/api/v1/tokens", {"name": "ci", "role": "reader"})
        assert answer.status == wanted
    assert answer.error == "TOKEN_CONFLICT"
    assert [change[3] for change in noted.changes() if change[1] == "token.create"].count("done") == 1


@pytest.mark.parametrize("name", ["other", "a%20b", "%F0%9F%98%80", "%00"])
async def test_a_token_that_is_not_there_cannot_be_revoked(site: Site, name: str) -> None:
    answer = await send(site, "DELETE", f"/api/v1/tokens/{name}")
    assert (answer.status, answer.error) == (404, "TOKEN_UNKNOWN")


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("POST", ""), ("DELETE", "/ci")])
async def test_no_parameter_is_taken(site: Site, method: str, path: str) -> None:
    answer = await send(site, method, f"/api/v1/tokens{path}?name=ci", {"name": "ci", "role": "reader"})
    assert (answer.status, answer.error) == (400, "PARAMETER_INVALID")


async def test_users_who_are_no_admins_may_nothing_of_it(site: Site) -> None:
    ann = basic("ann", "two")
    for method, path in (("GET", ""), ("POST", ""), ("DELETE", "/ci")):
        answer = await send(site, method, f"/api/v1/tokens{path}", {"name": "ci", "role": "reader"}, **ann)
        assert (answer.status, answer.error) == (403, "DENIED")


async def test_a_file_that_cannot_be_written_is_said_to_the_admin(site: Site) -> None:
    tokens = site.security.tokens
    assert tokens is not None
    await asyncio.to_thread(tokens.path.write_bytes, b"damaged")
    answer = await send(site, "POST", "/api/v1/tokens", {"name": "ci", "role": "reader"})
    assert (answer.status, answer.error) == (503, "STORAGE_UNAVAILABLE")
    assert str(tokens.path) in answer.message


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("POST", ""), ("DELETE", "/ci")])
async def test_where_nobody_signs_in_there_are_no_tokens(tmp_path: Path, method: str, path: str) -> None:
    async with serving(tmp_path / "data", config=Config()) as site:
        answer = await send(site, method, f"/api/v1/tokens{path}", {"name": "ci", "role": "reader"})
        assert (answer.status, answer.error) == (405, "UNSUPPORTED")
        assert "configure auth.htpasswd" in answer.message


async def test_files_are_not_read_or_written_on_the_loop(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: dict[str, str] = {}

    def watched(name: str) -> Callable[..., Any]:
        method = getattr(TokenFile, name)

        def call(*args: Any) -> Any:
            threads[name] = threading.current_thread().name
            return method(*args)

        return call

    for name in ("tokens", "create", "revoke"):
        monkeypatch.setattr(TokenFile, name, watched(name))
    await send(site, "POST", "/api/v1/tokens", {"name": "ci", "role": "reader"})
    await send(site, "GET", "/api/v1/tokens")
    await send(site, "DELETE", "/api/v1/tokens/ci")
    assert set(threads) == {"tokens", "create", "revoke"}
    assert threading.current_thread().name not in threads.values()


async def test_no_log_has_a_token_in_it(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret = (await send(site, "POST", "/api/v1/tokens", {"name": "ci", "role": "reader"})).json()["token"]
    await status(site, secret)
    assert secret[4:] not in caplog.text + "\n".join(site.lines())
