"""Addresses of registries, credentials, and the file that logins are kept in."""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from packregistry.credentials import Credentials, Login, LoginFile, Server
from packregistry.failures import LoginFileError, ServerNameError

ANN = Credentials("ann", "p:ä")


def login(server: str = "registry.example:5000", credentials: Credentials | None = ANN, **more: bool) -> Login:
    return Login(Server.parse(server), credentials, **more)


def document(home: Path) -> Any:
    return json.loads((home / "config.json").read_text())


@pytest.mark.parametrize(
    ("text", "name", "scheme"),
    [
        ("registry.example", "registry.example", ""),
        ("registry.example:5000", "registry.example:5000", ""),
        (" Registry.Example:5000/ ", "registry.example:5000", ""),
        ("http://registry.example//", "registry.example", "http"),
        ("HTTPS://registry.example:443/", "registry.example:443", "https"),
        ("[::1]:5000", "[::1]:5000", ""),
        ("my_registry", "my_registry", ""),
    ],
    ids=str,
)
def test_an_address_is_taken_with_scheme_and_slash(text: str, name: str, scheme: str) -> None:
    assert Server.parse(text) == Server(name, scheme)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "http://",
        "ftp://x",
        "a/b",
        "user@host",
        "host:0",
        "host:65536",
        "host:port",
        "a b",
        "host?x",
        "::1",
        "\u0661",
    ],
)
def test_what_is_no_address_is_refused_with_how_to_write_one(text: str) -> None:
    with pytest.raises(ServerNameError, match="HOST:PORT"):
        Server.parse(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("localhost", True),
        ("localhost:5000", True),
        ("127.0.0.1:5000", True),
        ("127.8.9.10", True),
        ("[::1]", True),
        ("[::1]:5000", True),
        ("localhost.example", False),
        ("127.0.0.1.example:5000", False),
        ("10.0.0.1:5000", False),
    ],
    ids=str,
)
def test_this_machine_is_known_by_its_names(text: str, expected: bool) -> None:
    assert Server.parse(text).is_loopback is expected


def test_a_server_is_written_as_it_was_given() -> None:
    assert str(Server.parse("http://a:1/")) == "http://a:1"
    assert str(Server.parse("a:1")) == "a:1"


def test_credentials_become_a_header() -> None:
    assert Credentials("Aladdin", "open sesame").authorization == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    assert Credentials(token="abc").authorization == "Bearer abc"


def test_the_representation_of_credentials_tells_no_secret() -> None:
    assert "secret" not in repr(Login(Server("a"), Credentials("ann", "secret", "secret")))


def test_a_login_is_kept_as_the_vendors_command_line_keeps_it(tmp_path: Path) -> None:
    LoginFile(tmp_path / "home").put(login(insecure=True), default=True)
    assert document(tmp_path / "home") == {
        "auths": {"registry.example:5000": {"auth": "YW5uOnA6w6Q=", "insecure": True}},
        "defaultRegistry": "registry.example:5000",
    }


def test_a_login_is_found_again_by_any_spelling(tmp_path: Path) -> None:
    file = LoginFile(tmp_path)
    file.put(login("http://registry.example:5000/"), default=False)
    found = file.find(Server.parse("Registry.example:5000"))
    assert found == Login(Server("registry.example:5000", "http"), ANN)
    assert file.find(Server.parse("https://registry.example:5000")) == Login(
        Server("registry.example:5000", "https"), ANN
    )
    assert file.find(Server.parse("registry.example:5001")) is None


def test_keys_with_a_scheme_are_understood(tmp_path: Path) -> None:
    entry = {"auth": ANN.encoded, "insecure": "yes"}
    (tmp_path / "config.json").write_text(json.dumps({"auths": {"http://a:1/": entry, "not an address": entry}}))
    assert LoginFile(tmp_path).find(Server("a:1")) == Login(Server("a:1", "http"), ANN)


def test_the_file_is_for_its_owner_only_whatever_it_was(tmp_path: Path) -> None:
    home = tmp_path / "a" / "home"
    LoginFile(home).put(login(), default=False)
    path = home / "config.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    path.chmod(0o644)
    LoginFile(home).put(login("b"), default=False)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(home.iterdir()) == [path]


def test_what_is_not_ours_stays(tmp_path: Path) -> None:
    other = {"auths": {"other": {"auth": "eDp5", "more": 1}}, "theme": {"dark": True}, "defaultRegistry": "other"}
    (tmp_path / "config.json").write_text(json.dumps(other))
    file = LoginFile(tmp_path)
    file.put(login("a:1"), default=False)
    assert file.remove(Server("a:1")) is True
    assert document(tmp_path) == other


def test_a_new_login_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    file = LoginFile(tmp_path)
    file.put(login("http://a:1", insecure=True), default=True)
    file.put(login("https://a:1", Credentials("bob", "x")), default=False)
    assert document(tmp_path)["auths"] == {"a:1": {"auth": "Ym9iOng=", "insecure": False}}
    assert file.default() == Server("a:1")


def test_logging_out_forgets_the_default_too(tmp_path: Path) -> None:
    file = LoginFile(tmp_path)
    file.put(login("a:1"), default=True)
    assert file.remove(Server("a:1")) is True
    assert document(tmp_path) == {"auths": {}}
    assert file.remove(Server("a:1")) is False


def test_logging_out_without_a_file_makes_none(tmp_path: Path) -> None:
    assert LoginFile(tmp_path / "home").remove(Server("a:1")) is False
    assert not (tmp_path / "home").exists()


def test_the_only_login_is_the_default_one(tmp_path: Path) -> None:
    file = LoginFile(tmp_path)
    assert file.default() is None
    file.put(login("a:1"), default=False)
    assert file.default() == Server("a:1")
    file.put(login("b:1"), default=False)
    assert file.default() is None


def test_an_entry_without_credentials_has_none(tmp_path: Path) -> None:
    file = LoginFile(tmp_path)
    file.put(login("a:1", None), default=False)
    assert file.find(Server("a:1")) == Login(Server("a:1"), None)


@pytest.mark.parametrize(
    "content",
    [b"{", b"[]", b"\xff", b"[" * 100_000, b'{"auths": [1]}'],
    ids=["cut", "list", "bytes", "deep", "auths"],
)
def test_a_file_that_cannot_be_read_is_named_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    file = LoginFile(tmp_path)
    for action in (
        lambda: file.find(Server("a")),
        lambda: file.put(login(), default=True),
        lambda: file.remove(Server("a")),
    ):
        with pytest.raises(LoginFileError, match=r"config\.json"):
            action()
    assert path.read_bytes() == content


@pytest.mark.parametrize("auth", ["*", "YQ==", "/w==", 5], ids=["base64", "colon", "utf-8", "number"])
def test_an_entry_that_cannot_be_read_says_how_to_log_in_again(tmp_path: Path, auth: object) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"auths": {"a:1": {"auth": auth}}}))
    with pytest.raises(LoginFileError, match="packregistry registry login a:1"):
        LoginFile(tmp_path).find(Server("a:1"))


def test_a_directory_that_cannot_be_made_is_an_error_that_names_home(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LoginFileError, match="--home"):
        LoginFile(tmp_path / "file" / "home").put(login(), default=False)


def test_a_link_is_followed_and_stays_one(tmp_path: Path) -> None:
    real = tmp_path / "real"
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "config.json").symlink_to(real / "spectro.json")
    LoginFile(tmp_path / "home").put(login("a:1"), default=False)
    assert (tmp_path / "home" / "config.json").is_symlink()
    assert "a:1" in json.loads((real / "spectro.json").read_text())["auths"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = LoginFile(tmp_path)
    file.put(login("a:1"), default=False)
    before = file.path.read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LoginFileError, match="No space left"):
        file.put(login("b:1"), default=False)
    assert file.path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file.path]


def test_logins_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    names = [f"host-{number}" for number in range(12)]
    threads = [
        threading.Thread(target=lambda name=name: LoginFile(tmp_path).put(login(name), default=False)) for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(document(tmp_path)["auths"]) == sorted(names)
