"""`packregistry registry`, and how every command finds the registry and the login."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from packregistry.cli import remote
from packregistry.credentials import Credentials, Login, LoginFile, Server
from tests.cli import cli, document
from tests.standin import Reply, StandIn, certificate, in_thread, listening
from tests.web import serving

ANN = Credentials("ann", "a:secret")


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with in_thread(listening()) as running:
        running.on("GET", "/v1/", Reply())
        running.on("GET", "/api/v1/packs", Reply.of({"packs": [], "next": None}))
        yield running


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    with in_thread(serving(tmp_path / "data", users={"ann": "a:secret"})) as site:
        yield f"{site.address[0]}:{site.address[1]}"


def logins(home: Path) -> object:
    path = home / "config.json"
    return json.loads(path.read_text())["auths"] if path.exists() else None


def authorization(standin: StandIn) -> str | None:
    return standin.asked[-1].headers.get("Authorization")


def known(home: Path, standin: StandIn, *, default: bool = True, insecure: bool = False) -> None:
    """Be logged in to the stand-in as ann."""
    LoginFile(home).put(Login(Server.parse(standin.url), ANN, insecure), default=default)


# Login


@pytest.mark.parametrize("scheme", ["", "http://"])
def test_a_login_that_works_is_remembered(registry: str, tmp_path: Path, scheme: str) -> None:
    done = cli(
        "registry", "login", f"{scheme}{registry}/", "--username", "ann", "--password-stdin",
        home=tmp_path / "home", stdin="a:secret\n",
    )  # fmt: skip
    assert (done.exit_code, done.stdout) == (0, "Login Succeeded\n")
    entry = {"auth": ANN.encoded, "insecure": False, **({"scheme": "http"} if scheme else {})}
    assert logins(tmp_path / "home") == {registry: entry}
    listed = cli("pack", "ls", home=tmp_path / "home")
    assert (listed.exit_code, listed.stdout) == (0, "NAME  NEWEST  VERSIONS  LAYER  TYPE\n")


def test_a_login_that_is_refused_is_not_remembered(registry: str, tmp_path: Path) -> None:
    done = cli("registry", "login", registry, home=tmp_path, PACKREGISTRY_USERNAME="ann", PACKREGISTRY_PASSWORD="wrong")
    assert (done.exit_code, done.stdout) == (4, "")
    assert f"packregistry registry login {registry}" in done.stderr
    assert logins(tmp_path) is None


def test_a_default_is_set_where_it_is_wanted(standin: StandIn, tmp_path: Path) -> None:
    for server, flags in ((standin.name, ["-d"]), (standin.url, [])):
        done = cli("registry", "login", server, "--username", "ann", "--password", "x", *flags, home=tmp_path)
        assert done.exit_code == 0
        assert "--password-stdin" in done.stderr
    assert json.loads((tmp_path / "config.json").read_text())["defaultRegistry"] == standin.name


def test_a_login_as_json(standin: StandIn, tmp_path: Path) -> None:
    done = cli("registry", "login", standin.name, "--username", "ann", "--password", "x", "-o", "json", home=tmp_path)
    assert document(done) == {"server": standin.name, "username": "ann", "default": False}


def test_at_a_terminal_the_user_is_asked(standin: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "at_terminal", lambda: True)
    done = cli("registry", "login", standin.name, home=tmp_path, stdin="ann\na:secret\n")
    assert done.exit_code == 0
    assert done.stdout == "Login Succeeded\n"
    assert "secret" not in done.stderr
    assert authorization(standin) == ANN.authorization


@pytest.mark.parametrize(
    ("args", "stdin", "reason"),
    [
        ([], None, "--username"),
        (["--username", "ann"], None, "--password-stdin"),
        (["--username", "ann", "--password-stdin"], "", "no password"),
        (["--password-stdin"], "x", "--username"),
        (["--username", "a:b", "--password", "x"], None, "colon"),
        (["--username", "a", "--password", "x", "--password-stdin"], "x", "either"),
    ],
    ids=str,
)
def test_what_is_missing_for_a_login_is_a_usage_error(
    tmp_path: Path, args: list[str], stdin: str | None, reason: str
) -> None:
    done = cli("registry", "login", "registry.example", *args, home=tmp_path, stdin=stdin)
    assert done.exit_code == 2
    assert reason in done.stderr


def test_an_address_that_is_none_is_refused(tmp_path: Path) -> None:
    done = cli("registry", "login", "a/b", "--username", "a", "--password", "x", home=tmp_path)
    assert done.exit_code == 1
    assert "HOST:PORT" in done.stderr


def test_logging_out_forgets(standin: StandIn, tmp_path: Path) -> None:
    known(tmp_path, standin)
    done = cli("registry", "logout", standin.url, home=tmp_path)
    assert (done.exit_code, done.stdout) == (0, f"Removed the login for {standin.name}\n")
    assert logins(tmp_path) == {}
    assert cli("registry", "logout", standin.url, home=tmp_path).stdout == f"Not logged in to {standin.name}\n"
    assert document(cli("registry", "logout", standin.url, "-o", "json", home=tmp_path))["removed"] is False


def test_home_may_stand_behind_the_command(standin: StandIn, tmp_path: Path) -> None:
    known(tmp_path / "a", standin)
    assert cli("pack", "ls", "-s", tmp_path / "a").exit_code == 0
    assert authorization(standin) == ANN.authorization
    assert cli("pack", "ls", "--home", tmp_path / "a", home=tmp_path / "b").exit_code == 0


def test_without_home_logins_are_in_the_users_directory(standin: StandIn, tmp_path: Path) -> None:
    known(tmp_path / ".spectro", standin)
    assert cli("pack", "ls", HOME=str(tmp_path)).exit_code == 0


# Which registry, and who asks


def test_a_flag_wins_over_the_environment_and_that_over_the_default(standin: StandIn, tmp_path: Path) -> None:
    nobody = "127.0.0.1:1"
    LoginFile(tmp_path).put(Login(Server.parse(nobody), ANN), default=True)
    assert cli("pack", "ls", home=tmp_path).exit_code == 3
    assert cli("pack", "ls", home=tmp_path, PACKREGISTRY_SERVER=standin.url).exit_code == 0
    for args in (["-r", standin.url], ["--registry-server", standin.url], [standin.url]):
        assert cli("pack", "ls", *args, home=tmp_path, PACKREGISTRY_SERVER=nobody).exit_code == 0


def test_without_any_registry_it_says_how_to_name_one(tmp_path: Path) -> None:
    done = cli("pack", "ls", home=tmp_path)
    assert done.exit_code == 2
    assert all(way in done.stderr for way in ("-r SERVER", "PACKREGISTRY_SERVER", "registry login"))


def test_the_environment_wins_over_the_login(standin: StandIn, tmp_path: Path) -> None:
    known(tmp_path, standin)
    bob = {"PACKREGISTRY_USERNAME": "bob", "PACKREGISTRY_PASSWORD": ""}
    for env, expected in (
        ({}, ANN),
        (bob, Credentials("bob", "")),
        ({**bob, "PACKREGISTRY_TOKEN": "t0k"}, Credentials(token="t0k")),
    ):
        assert cli("pack", "ls", home=tmp_path, **env).exit_code == 0
        assert authorization(standin) == expected.authorization


def test_credentials_of_the_environment_are_for_its_registry_only(standin: StandIn, tmp_path: Path) -> None:
    env = {"PACKREGISTRY_TOKEN": "t0k", "PACKREGISTRY_SERVER": "registry.example"}
    assert cli("pack", "ls", "-r", standin.url, home=tmp_path, **env).exit_code == 0
    assert authorization(standin) is None
    env["PACKREGISTRY_SERVER"] = standin.name
    assert cli("pack", "ls", "-r", standin.url, home=tmp_path, **env).exit_code == 0
    assert authorization(standin) == "Bearer t0k"


@pytest.mark.parametrize("given", ["USERNAME", "PASSWORD"])
def test_half_a_login_in_the_environment_is_a_usage_error(tmp_path: Path, given: str) -> None:
    done = cli("pack", "ls", "-r", "registry.example", home=tmp_path, **{f"PACKREGISTRY_{given}": "x"})
    assert done.exit_code == 2
    assert "is not set" in done.stderr


def test_a_login_that_is_missing_says_how_to_log_in(registry: str, tmp_path: Path) -> None:
    done = cli("pack", "ls", "-r", registry, home=tmp_path)
    assert done.exit_code == 4
    assert f"log in first: packregistry registry login {registry}" in done.stderr
    again = cli("pack", "ls", "-r", registry, home=tmp_path, PACKREGISTRY_TOKEN="x")
    assert "log in again" in again.stderr


def test_errors_are_json_where_that_is_wanted(registry: str, tmp_path: Path) -> None:
    (error,) = document(cli("pack", "ls", "-r", registry, "-o", "json", home=tmp_path))["errors"]
    assert error["code"] == "UNAUTHORIZED"
    (error,) = document(cli("pack", "ls", "-r", "127.0.0.1:1", "-o", "json", home=tmp_path))["errors"]
    assert error["code"] == "UNREACHABLE"


def test_a_login_file_that_is_damaged_is_told(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    done = cli("pack", "ls", home=tmp_path)
    assert done.exit_code == 1
    assert "config.json cannot be read" in done.stderr


# Trust


def test_a_ca_is_looked_up_by_the_name_of_the_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cert, context = certificate(tmp_path)
    monkeypatch.setattr(remote, "CERTIFICATES", tmp_path / "certs.d")
    with in_thread(listening(context)) as standin:
        standin.on("GET", "/v1/", Reply())
        standin.on("GET", "/api/v1/packs", Reply.of({"packs": []}))
        place = tmp_path / "certs.d" / standin.name / "ca.crt"
        done = cli("pack", "ls", "-r", standin.name, home=tmp_path)
        assert done.exit_code == 3
        assert str(place) in done.stderr
        login = cli("registry", "login", standin.name, "-i", "--username", "a", "--password", "x", home=tmp_path)
        assert (login.exit_code, "not checked" in login.stderr) == (0, True)
        assert cli("pack", "ls", "-r", standin.name, home=tmp_path).exit_code == 0
        assert cli("registry", "logout", standin.name, home=tmp_path).exit_code == 0
        place.parent.mkdir(parents=True)
        place.write_bytes(cert.read_bytes())
        done = cli("pack", "ls", "-r", standin.name, home=tmp_path)
        assert (done.exit_code, done.stderr) == (0, "")


def test_without_a_terminal_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    assert remote.at_terminal() is False


async def test_a_command_runs_a_loop_of_its_own(standin: StandIn, tmp_path: Path) -> None:
    assert (await asyncio.to_thread(cli, "pack", "ls", "-r", standin.url, home=tmp_path)).exit_code == 0
