"""`packregistry token`: what it says and does, on a server's file and over its API, and how it ends."""

from __future__ import annotations

import datetime as dt
import getpass
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from packregistry.auth.tokens import TOKEN_USE, TOKENS, TokenFile, is_whole
from packregistry.credentials import Credentials, Login, LoginFile, Server
from tests.cli import cli, document
from tests.standin import Reply, StandIn, in_thread, listening
from tests.web import serving

DAY = dt.timedelta(days=1)
MADE = {
    "name": "ci", "owner": "ann", "role": "publisher", "packs": ["nginx*", "redis"], "created": "2026-01-31T12:00:00Z",
    "expires": "2026-05-01T12:00:00Z", "revoked": None, "lastUsed": None, "state": "valid", "token": "pkr_secret",
}  # fmt: skip
HINT = "It is not shown again. Use it as PACKREGISTRY_TOKEN, as the password of any user (curl -u any:TOKEN),\n"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without a configuration, of the user `somebody`."""
    for name in list(os.environ):
        if name.startswith("REGISTRY"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(getpass, "getuser", lambda: "somebody")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "files" / TOKENS


@pytest.fixture
def configured(tmp_path: Path) -> Callable[[str], Path]:
    """Write a configuration of a server whose data are in `data`; the argument is more of it."""

    def write(more: str = "", auth: str = "") -> Path:
        path = tmp_path / "config.yml"
        path.write_text(
            f"storage: {{filesystem: {{rootdirectory: {tmp_path / 'data'}}}}}\n"
            f"auth: {{htpasswd: {{path: {tmp_path / 'users'}}}{auth}}}\n{more}"
        )
        return path

    return write


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with in_thread(listening()) as running:
        yield running


def token(*args: object, **more: Any) -> Result:
    return cli("token", *args, **more)


def opened(path: Path) -> TokenFile:
    found = TokenFile(path, path.with_name(TOKEN_USE))
    found.load()
    return found


# Making


def test_the_token_alone_is_the_output(file: Path) -> None:
    done = token("create", "ci", "--file", file)
    assert done.exit_code == 0
    secret = done.stdout.removesuffix("\n")
    assert is_whole(secret)
    found = opened(file).find(secret)
    assert found is not None
    assert (found.name, found.owner, found.role, found.packs) == ("ci", "somebody", "reader", ("*",))
    assert found.expires == found.created + 90 * DAY
    first, hint, last = done.stderr.splitlines(keepends=True)
    assert re.fullmatch(r"reader of \*, until [0-9-]+T[0-9:]+Z\n", first)
    assert hint == HINT
    assert "Palette" in last
    assert secret not in done.stderr


def test_what_a_token_may_do_is_chosen(file: Path) -> None:
    done = token(
        "create", "ci", "--file", file, "--role", "publisher", "--packs", "nginx*", "--packs", "redis",
        "--expires", "never", "--owner", "ann",
    )  # fmt: skip
    assert done.exit_code == 0
    ((found, _),) = opened(file).tokens()
    assert (found.owner, found.role, found.packs) == ("ann", "publisher", ("nginx*", "redis"))
    assert found.expires is None
    assert done.stderr.startswith("publisher of nginx*, redis, for ever\n")


def test_a_token_as_json(file: Path) -> None:
    done = token("create", "ci", "--file", file, "--expires", "2999-01-31", "-o", "json")
    assert (done.exit_code, done.stderr) == (0, "")
    made = document(done)
    assert is_whole(made.pop("token"))
    assert made == {
        "name": "ci",
        "owner": "somebody",
        "role": "reader",
        "packs": ["*"],
        "created": made["created"],
        "expires": "2999-01-31T00:00:00Z",
        "revoked": None,
        "lastUsed": None,
        "state": "valid",
    }


@pytest.mark.parametrize("error", [KeyError, OSError])
def test_a_user_without_a_name_can_make_tokens(
    file: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fail() -> str:
        raise error

    monkeypatch.setattr(getpass, "getuser", fail)
    assert document(token("create", "ci", "--file", file, "-o", "json"))["owner"] == "unknown"


@pytest.mark.parametrize(
    ("args", "code", "text"),
    [
        (["a b"], "PARAMETER_INVALID", '"a b" is not the name of a token: use up to 64'),
        (["ci", "--packs", "a/b"], "PARAMETER_INVALID", '"a/b" is not a pattern'),
        (["ci", "--packs", ""], "PARAMETER_INVALID", "is not a pattern"),
        (["ci", "--expires", "soon"], "PARAMETER_INVALID", '"soon" is not when a token could expire: use a span'),
        (["ci", "--expires", "2001-01-01"], "PARAMETER_INVALID", "is over already"),
        (["there"], "TOKEN_CONFLICT", "there is a token there: revoke it first, or take another name"),
    ],
    ids=["name", "pattern", "no-pattern", "expires", "past", "conflict"],
)
def test_what_is_refused_changes_nothing(file: Path, args: list[str], code: str, text: str) -> None:
    assert token("create", "there", "--file", file).exit_code == 0
    before = file.read_bytes()
    done = token("create", *args, "--file", file)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("packregistry: ")
    assert text in done.stderr
    as_json = token("create", *args, "--file", file, "-o", "json")
    assert (as_json.exit_code, as_json.stderr, document(as_json)["errors"][0]["code"]) == (1, "", code)
    assert file.read_bytes() == before


def test_an_unknown_role_is_a_usage_error(file: Path) -> None:
    done = token("create", "ci", "--role", "king", "--file", file)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "'reader', 'publisher', 'maintainer', 'admin'" in done.stderr


# Listing and revoking


def test_tokens_are_listed_with_state_and_last_use(file: Path) -> None:
    for name, *more in (("void", "--expires", "never"), ("ci", "--packs", "a*", "--packs", "b*", "--role", "admin")):
        assert token("create", name, "--file", file, "--owner", "a\x1bnn", *more).exit_code == 0
    tokens = opened(file)
    ((ci, _), (void, _)) = tokens.tokens()
    used = dt.datetime(2999, 1, 31, 12, tzinfo=dt.UTC)
    tokens.note_use(ci, used)
    tokens.flush_uses()
    assert token("revoke", "void", "--file", file).stdout == "revoked void\n"
    done = token("list", "--file", file)
    assert (done.exit_code, done.stderr) == (0, "")
    rows = [re.split(" {2,}", line) for line in done.stdout.splitlines()]
    assert rows == [
        ["NAME", "STATE", "ROLE", "PACKS", "OWNER", "CREATED", "EXPIRES", "LAST USED"],
        [
            "ci", "valid", "admin", "a*, b*", "a\ufffdnn", f"{ci.created:%Y-%m-%dT%H:%M:%SZ}",
            f"{ci.expires:%Y-%m-%dT%H:%M:%SZ}", "2999-01-31T12:00:00Z",
        ],
        ["void", "revoked", "reader", "*", "a\ufffdnn", f"{void.created:%Y-%m-%dT%H:%M:%SZ}", "-", "-"],
    ]  # fmt: skip
    listed = document(token("list", "--file", file, "-o", "json"))["tokens"]
    assert [(one["name"], one["state"], one["lastUsed"]) for one in listed] == [
        ("ci", "valid", "2999-01-31T12:00:00Z"),
        ("void", "revoked", None),
    ]
    assert "sha256" not in listed[0]


def test_a_token_is_revoked(file: Path) -> None:
    secret = token("create", "ci", "--file", file).stdout.strip()
    done = token("revoke", "ci", "--file", file, "-o", "json")
    assert (done.exit_code, done.stderr) == (0, "")
    assert (document(done)["name"], document(done)["state"]) == ("ci", "revoked")
    found = opened(file).find(secret)
    assert found is not None
    assert found.revoked is not None


def test_what_is_not_there_cannot_be_revoked(file: Path) -> None:
    done = token("revoke", "ci", "--file", file)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == 'packregistry: no token in force is called "ci": list the tokens to see which there are\n'


# Which file


@pytest.mark.parametrize("action", [["create", "ci"], ["list"], ["revoke", "ci"]], ids=lambda action: action[0])
def test_a_damaged_file_is_an_error(file: Path, action: list[str]) -> None:
    file.parent.mkdir()
    file.write_bytes(b"{")
    done = token(*action, "--file", file)
    assert (done.exit_code, done.stdout) == (1, "")
    assert f"token file {file} is not a file of tokens" in done.stderr
    as_json = token(*action, "--file", file, "-o", "json")
    assert document(as_json)["errors"][0]["code"] == "STORAGE_UNAVAILABLE"


def test_without_a_file_it_is_the_one_beside_the_packs_of_the_server(
    tmp_path: Path, configured: Callable[..., Path]
) -> None:
    done = token("create", "ci", "-c", configured())
    assert (done.exit_code, "warning" in done.stderr) == (0, False)
    assert opened(tmp_path / "data" / TOKENS).find(done.stdout.strip()) is not None


def test_the_file_is_the_configured_one_and_uses_are_with_the_packs(
    tmp_path: Path, configured: Callable[..., Path]
) -> None:
    config = configured(auth=f", tokens: {tmp_path / 'own.json'}")
    secret = token("create", "ci", "-c", config).stdout.strip()
    tokens = TokenFile(tmp_path / "own.json", tmp_path / "data" / TOKEN_USE)
    tokens.load()
    found = tokens.find(secret)
    assert found is not None
    tokens.uses_path.parent.mkdir()
    tokens.note_use(found, found.created)
    tokens.flush_uses()
    for more in ([], ["--file", tmp_path / "own.json"]):
        (listed,) = document(token("list", "-c", config, *more, "-o", "json"))["tokens"]
        assert listed["lastUsed"] == listed["created"]


def test_another_file_than_the_configured_one_can_be_named(tmp_path: Path, configured: Callable[..., Path]) -> None:
    config = configured(auth=f", tokens: {tmp_path / 'own.json'}")
    assert token("create", "ci", "-c", config, "--file", tmp_path / "other.json").exit_code == 0
    assert (tmp_path / "other.json").exists()
    assert not (tmp_path / "own.json").exists()


def test_variables_are_a_configuration(tmp_path: Path) -> None:
    env = {
        "REGISTRY_AUTH_HTPASSWD_PATH": str(tmp_path / "users"),
        "REGISTRY_AUTH": "htpasswd",
        "REGISTRY_AUTH_TOKENS": str(tmp_path / "own.json"),
    }
    assert token("create", "ci", **env).exit_code == 0
    assert (tmp_path / "own.json").exists()


def test_a_file_alone_needs_no_configuration(file: Path) -> None:
    assert token("create", "ci", "--file", file, REGISTRY_NO_SUCH="x").exit_code == 0


def test_a_bad_configuration_is_an_error(configured: Callable[..., Path]) -> None:
    done = token("list", "-c", configured("adminz: 1\n"))
    assert (done.exit_code, done.stdout) == (2, "")
    assert "adminz: unknown key" in done.stderr


def test_where_nobody_signs_in_there_is_a_warning(tmp_path: Path) -> None:
    done = token("create", "ci", REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=str(tmp_path), REGISTRY_AUTH="none")
    assert (done.exit_code, is_whole(done.stdout.strip())) == (0, True)
    assert "warning: with this configuration nobody signs in, and tokens do nothing: configure" in done.stderr


@pytest.mark.parametrize("action", [["create", "ci"], ["list"], ["revoke", "ci"]], ids=lambda action: action[0])
def test_tokens_in_memory_are_in_the_server_alone(tmp_path: Path, action: list[str]) -> None:
    env = {"REGISTRY_AUTH_HTPASSWD_PATH": str(tmp_path / "users"), "REGISTRY_STORAGE": "inmemory"}
    done = token(*action, REGISTRY_AUTH="htpasswd", **env)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "the tokens are in the server alone, ask it with -r SERVER" in " ".join(done.stderr.split())


def test_with_storage_in_memory_a_file_of_tokens_is_a_file(tmp_path: Path) -> None:
    paths = {"REGISTRY_AUTH_TOKENS": tmp_path / "own.json", "REGISTRY_AUTH_HTPASSWD_PATH": tmp_path / "users"}
    env = {name: str(path) for name, path in paths.items()}
    assert token("create", "ci", REGISTRY_AUTH="htpasswd", REGISTRY_STORAGE="inmemory", **env).exit_code == 0
    assert (tmp_path / "own.json").exists()


# Over the API


def test_a_registry_is_asked(tmp_path: Path) -> None:
    users = {"admin": "one", "ann": "two"}
    with in_thread(serving(tmp_path / "data", users=users)) as site:
        where = ["-r", "{}:{}".format(*site.address)]
        env = {"PACKREGISTRY_USERNAME": "admin", "PACKREGISTRY_PASSWORD": "one"}
        made = token("create", "ci", "--role", "admin", "--expires", "24h", *where, **env)
        assert (made.exit_code, is_whole(made.stdout.strip())) == (0, True)
        assert made.stderr.startswith("admin of *, until ")
        # The token is what one signs in with from here on.
        env = {"PACKREGISTRY_TOKEN": made.stdout.strip()}
        again = token("create", "ci", *where, **env)
        assert (again.exit_code, again.stdout) == (1, "")
        assert "there is a token ci" in again.stderr
        (listed,) = document(token("list", "-o", "json", *where, **env))["tokens"]
        assert (listed["name"], listed["owner"], listed["state"]) == ("ci", "admin", "valid")
        assert listed["lastUsed"] is not None
        assert "ci    valid  admin" in token("list", *where, **env).stdout
        assert token("revoke", "ci", *where, **env).stdout == "revoked ci\n"
        for action in (["list"], ["create", "x"], ["revoke", "ci"]):
            assert token(*action, *where, **env).exit_code == 4
            denied = token(*action, *where, PACKREGISTRY_USERNAME="ann", PACKREGISTRY_PASSWORD="two")
            assert (denied.exit_code, denied.stdout) == (4, "")
            assert "may not administer this registry" in denied.stderr


def test_a_registry_is_told_what_was_asked_for(standin: StandIn, tmp_path: Path) -> None:
    login = Login(Server.parse(standin.url), Credentials("ann", "secret"), insecure=False)
    LoginFile(tmp_path).put(login, default=False)
    standin.on("POST", "/api/v1/tokens", Reply.of(MADE, 201))
    args = ["--role", "publisher", "--packs", "nginx*", "--packs", "redis", "--expires", "90d"]
    made = token("create", "ci", *args, "-r", standin.name, home=tmp_path)
    assert (made.exit_code, made.stdout) == (0, "pkr_secret\n")
    assert made.stderr.startswith(f"publisher of nginx*, redis, until 2026-05-01T12:00:00Z\n{HINT}")
    wanted = {"name": "ci", "role": "publisher", "packs": ["nginx*", "redis"], "expires": "90d"}
    assert standin.asked[-1].json() == wanted
    assert standin.asked[-1].headers["Authorization"] == Credentials("ann", "secret").authorization
    assert document(token("create", "ci", "-r", standin.name, "-o", "json", home=tmp_path)) == MADE
    assert standin.asked[-1].json() == {"name": "ci", "role": "reader", "packs": ["*"], "expires": "90d"}


def test_a_name_is_one_segment_of_a_path(standin: StandIn) -> None:
    standin.on("DELETE", "/api/v1/tokens/a%2F..%2Fb%3F", Reply.of({**MADE, "name": "a/../b?"}))
    assert token("revoke", "a/../b?", "-r", standin.url).stdout == "revoked a/../b?\n"


def test_what_a_registry_answers_does_nothing_to_a_terminal(standin: StandIn) -> None:
    # Not what click takes for a colour, and leaves out where there is no terminal.
    hostile = dict.fromkeys(MADE, "\x9b2J\n\x07x") | {"packs": [5, "\x9b2J\x07"]}
    standin.on("POST", "/api/v1/tokens", Reply.of(hostile, 201))
    standin.on("GET", "/api/v1/tokens", Reply.of({"tokens": [hostile, "no object", {}]}))
    standin.on("DELETE", "/api/v1/tokens/ci", Reply.of(hostile))
    for action in (["create", "ci"], ["list"], ["revoke", "ci"]):
        done = token(*action, "-r", standin.url)
        assert done.exit_code == 0
        assert not {"\x9b", "\x07"} & {*done.stdout, *done.stderr}
    assert len(token("list", "-r", standin.url).stdout.splitlines()) == 3


@pytest.mark.parametrize("kind", ["text", "json"])
def test_an_answer_without_a_token_is_no_registrys(standin: StandIn, kind: str) -> None:
    standin.on("POST", "/api/v1/tokens", Reply.of({**MADE, "token": None}, 201))
    done = token("create", "ci", "-r", standin.url, "-o", kind)
    assert done.exit_code == 1
    assert "the answer has no token in it: check the address" in done.stdout + done.stderr


def test_a_registry_that_is_not_there_is_not_reached() -> None:
    assert token("list", "-r", "http://127.0.0.1:9").exit_code == 3


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["list", "--file", "x"], "leave out --file and --config, or leave out -r"),
        (["list", "-c", "x"], "leave out --file and --config, or leave out -r"),
        (["revoke", "ci", "--file", "x"], "leave out --file and --config, or leave out -r"),
        (["create", "ci", "--file", "x"], "leave out --file and --config, or leave out -r"),
        (["create", "ci", "--owner", "ann"], "the owner is whoever asks: leave out --owner"),
    ],
    ids=["list-file", "list-config", "revoke", "create", "owner"],
)
def test_files_are_not_for_a_registry(standin: StandIn, args: list[str], text: str) -> None:
    done = token(*args, "-r", standin.url)
    assert (done.exit_code, done.stdout, standin.asked) == (2, "", [])
    assert text in " ".join(done.stderr.split())


# Help


@pytest.mark.parametrize("action", ["create", "list", "revoke"])
def test_help_has_examples_and_exit_codes(action: str) -> None:
    done = token(action, "--help")
    assert done.exit_code == 0
    assert f"packregistry token {action}" in done.stdout
    assert "Exit codes: 0" in done.stdout
    assert action in token("--help").stdout


def test_the_documents_of_file_and_api_are_the_same(file: Path, tmp_path: Path) -> None:
    with in_thread(serving(tmp_path / "data", users={"admin": "one"})) as site:
        env = {"PACKREGISTRY_USERNAME": "admin", "PACKREGISTRY_PASSWORD": "one"}
        for action in (["create", "ci"], ["list"], ["revoke", "ci"]):
            local = document(token(*action, "--file", file, "-o", "json"))
            remote = document(token(*action, "-r", "{}:{}".format(*site.address), "-o", "json", **env))
            assert json.dumps(shape(local)) == json.dumps(shape(remote))


def shape(value: Any) -> Any:
    """The keys of a document, whatever their values."""
    if isinstance(value, list):
        return [shape(item) for item in value]
    return {key: shape(item) for key, item in value.items()} if isinstance(value, dict) else None
