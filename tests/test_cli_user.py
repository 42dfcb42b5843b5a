"""`packregistry user`: what it says and does, and how it ends."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bcrypt
import pytest
from click.testing import CliRunner, Result

from packregistry.auth import usersfile
from packregistry.auth.htpasswd import Users
from packregistry.cli import remote
from packregistry.cli.user import command
from tests.cli import document

HASH = b"$2y$04$Zkvxq4xj/J6WgKZmR1WgiuveyCMZabd6NyqRjBFj4pYY/hUZd.tKq"  # of se:cret
SHA = b"{SHA}pv2GBvjxKnVBICqTPkoqmG/ZwaE="
LIVE = "A running server sees the change within two seconds.\n"


@pytest.fixture(autouse=True)
def costs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The costs that are asked for, all of which are made 4; and an environment without a configuration."""
    asked = []

    def hashed(password: bytes, cost: int) -> bytes:
        asked.append(cost)
        return bcrypt.hashpw(password, bcrypt.gensalt(4))

    monkeypatch.setattr(usersfile, "hashed", hashed)
    for name in list(os.environ):
        if name.startswith("REGISTRY"):
            monkeypatch.delenv(name)
    return asked


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody to ask, who types what `stdin` says."""
    monkeypatch.setattr(remote, "at_terminal", lambda: True)


@pytest.fixture
def users(tmp_path: Path) -> Path:
    """A users file with ann and admin, whose password is se:cret."""
    path = tmp_path / "users"
    path.write_bytes(b"ann:" + HASH + b"\nadmin:" + HASH + b"\n")
    return path


@pytest.fixture
def configured(tmp_path: Path, users: Path) -> Callable[..., Path]:
    """Write a configuration that names the users file; the arguments are lines of its `auth` section."""

    def write(*lines: str) -> Path:
        path = tmp_path / "config.yml"
        path.write_text("\n".join([f"auth:\n  htpasswd: {{path: {users}}}", *(f"  {line}" for line in lines)]))
        return path

    return write


def user(*args: object, stdin: str | bytes | None = None, **env: str) -> Result:
    result = CliRunner().invoke(command, [str(arg) for arg in args], input=stdin, env=env)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def verified(path: Path, name: str, password: str | bytes) -> bool:
    found, _ = Users.parse(path.read_bytes())
    return found.verify(name.encode(), password.encode() if isinstance(password, str) else password)


# Adding, and changing passwords


@pytest.mark.parametrize(
    ("given", "password"),
    [("new: secret", "new: secret"), ("secret\n", "secret"), ("secret\r\n", "secret"), ("pàss\n", "pàss")],
    ids=["as-it-is", "lf", "crlf", "utf-8"],
)
def test_a_password_comes_from_standard_input(users: Path, given: str, password: str, costs: list[int]) -> None:
    done = user("add", "bob", "--file", users, "--password-stdin", stdin=given)
    assert (done.exit_code, done.stdout, done.stderr) == (0, f"bob is added to {users}\n", LIVE)
    assert verified(users, "bob", password)
    assert costs == [10]


def test_a_line_break_more_is_not_left_out(users: Path) -> None:
    done = user("add", "bob", "--file", users, "--password-stdin", stdin="secret\n\n")
    assert done.exit_code == 2
    assert "line break" in done.stderr


def test_at_a_terminal_the_password_is_asked_for_twice_and_not_shown(users: Path, terminal: None) -> None:
    done = user("add", "bob", "--file", users, stdin="secret\nother\nsecret\nsecret\n")
    assert (done.exit_code, done.stdout) == (0, f"bob is added to {users}\n")
    assert "Password of bob" in done.stderr
    assert "do not match" in done.stderr
    assert "secret" not in done.stderr
    assert verified(users, "bob", "secret")


def test_a_file_is_made(tmp_path: Path, costs: list[int]) -> None:
    done = user("add", "ann", "--file", tmp_path / "new", "--password-stdin", "--cost", "9", stdin="secret")
    assert (done.exit_code, costs) == (0, [9])
    assert verified(tmp_path / "new", "ann", "secret")


@pytest.mark.parametrize(("action", "name"), [("add", "bob"), ("passwd", "ann")])
def test_a_generated_password_is_all_of_the_output(users: Path, action: str, name: str) -> None:
    done = user(action, name, "--file", users, "--generate")
    assert done.exit_code == 0
    assert re.fullmatch(r"[0-9A-Za-z]{24}\n", done.stdout)
    assert verified(users, name, done.stdout.strip())
    assert done.stderr.endswith(LIVE)
    assert done.stdout.strip() not in done.stderr


def test_a_password_is_changed(users: Path, costs: list[int]) -> None:
    done = user("passwd", "ann", "--file", users, "--password-stdin", "--cost", "8", stdin="new")
    assert (done.exit_code, done.stdout, done.stderr) == (0, f"ann has another password in {users}\n", LIVE)
    assert verified(users, "ann", "new")
    assert not verified(users, "ann", "se:cret")
    assert verified(users, "admin", "se:cret")
    assert costs == [8]


@pytest.mark.parametrize(
    ("cost", "warning"),
    [("12", ""), ("13", "--cost 13 each first request, and each wrong password, takes about 0.6 s"), ("15", "2.2 s")],
)
def test_a_high_cost_is_warned_about(users: Path, cost: str, warning: str, costs: list[int]) -> None:
    done = user("passwd", "ann", "--file", users, "--password-stdin", "--cost", cost, stdin="new")
    assert (done.exit_code, costs) == (0, [int(cost)])
    assert warning in done.stderr
    assert bool(warning) == ("warning" in done.stderr)


@pytest.mark.parametrize(
    ("args", "stdin", "reason"),
    [
        pytest.param(["add", "bob"], "", "--password-stdin, or --generate", id="no-terminal"),
        pytest.param(["passwd", "ann"], "", "--password-stdin, or --generate", id="no-terminal-passwd"),
        pytest.param(["check", "ann"], "", "use --password-stdin\n", id="no-terminal-check"),
        pytest.param(["add", "bob", "--password-stdin", "--generate"], "x", "either", id="both"),
        pytest.param(["add", "bob", "--generate", "--cost", "7"], "", "8<=x<=15", id="cost-7"),
        pytest.param(["add", "bob", "--generate", "--cost", "16"], "", "8<=x<=15", id="cost-16"),
        pytest.param(["add", "a:b", "--generate"], "", "':'", id="name"),
        pytest.param(["add", "bob", "--password-stdin"], "", "empty", id="empty"),
        pytest.param(["passwd", "ann", "--password-stdin"], "x" * 5000, "72", id="long"),
        pytest.param(["passwd", "ann", "--password-stdin"], b"\xe9", "UTF-8", id="latin-1"),
    ],
)
def test_what_cannot_be_used_is_a_usage_error(users: Path, args: list[str], stdin: str | bytes, reason: str) -> None:
    before = users.read_bytes()
    done = user(*args, "--file", users, stdin=stdin)
    assert (done.exit_code, done.stdout) == (2, "")
    assert reason in done.stderr
    assert users.read_bytes() == before


def test_leaving_a_prompt_changes_nothing(users: Path, terminal: None) -> None:
    before = users.read_bytes()
    done = user("passwd", "ann", "--file", users, stdin="")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.endswith("Aborted!\n")
    assert users.read_bytes() == before


@pytest.mark.parametrize(
    ("args", "reasons"),
    [
        pytest.param(["add", "ann"], ['"ann" is in ', "`packregistry user passwd ann --file "], id="add"),
        pytest.param(["passwd", "anne"], ['did you mean "ann"?', "`packregistry user add anne --file "], id="passwd"),
        pytest.param(["remove", "anne"], ['did you mean "ann"?'], id="remove"),
    ],
)
def test_what_is_refused_is_refused_before_a_password_is_asked_for(
    users: Path, terminal: None, args: list[str], reasons: list[str]
) -> None:
    done = user(*args, "--file", users)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("packregistry: ")
    assert all(reason in done.stderr for reason in reasons)
    as_json = user(*args, "--file", users, "-o", "json")
    (error,) = document(as_json)["errors"]
    assert (as_json.exit_code, as_json.stderr) == (1, "")
    assert error["code"] == ("KNOWNUSER" if args[0] == "add" else "UNKNOWNUSER")
    assert all(reason in error["message"] for reason in reasons)


# What users may do


RIGHTS: list[Any] = [
    pytest.param([], "ann", "ann may only read", "read", id="reader"),
    pytest.param([], "admin", "admin may read and change everything (auth.admins)", "everything", id="admin"),
    pytest.param(
        ["admins: [ann]"], "ann", "ann may read and change everything (auth.admins)", "everything", id="named"
    ),
    pytest.param(["admins: [ann]"], "admin", "admin may only read", "read", id="default-no-more"),
    pytest.param(["policy: /p.yml"], "admin", "see auth.policy /p.yml", "policy", id="policy"),
]


@pytest.mark.parametrize(("lines", "name", "text", "may"), RIGHTS)
def test_it_is_said_what_a_user_may_do(
    users: Path, configured: Callable[..., Path], lines: list[str], name: str, text: str, may: str
) -> None:
    config = configured(*lines)
    users.unlink()
    added = user("add", name, "-c", config, "--password-stdin", stdin="secret")
    assert (added.exit_code, added.stdout) == (0, f"{name} is added to {users}\n{text}\n")
    changed = user("passwd", name, "-c", config, "--generate", "-o", "json")
    assert (changed.exit_code, changed.stderr) == (0, "")
    answer = document(changed)
    assert verified(users, name, answer.pop("password"))
    assert answer == {"name": name, "file": str(users), "may": may}
    listed = user("list", "-c", config)
    assert (listed.exit_code, listed.stderr) == (0, "")
    head, line = listed.stdout.splitlines()
    assert head.split() == ["NAME", "HASH", "COST", "MAY", "CONCERN"]
    assert re.split(" {2,}", line)[:4] == [name, "bcrypt", "4", text.removeprefix(f"{name} may ")]


def test_nobody_is_asked_for_a_password_where_the_server_is_open(users: Path) -> None:
    done = user("add", "bob", "--file", users, "--password-stdin", stdin="x", REGISTRY_AUTH="none")
    assert "bob may read and change everything (auth: none)\n" in done.stdout


def test_variables_are_a_configuration(users: Path) -> None:
    env = {"REGISTRY_AUTH_HTPASSWD_PATH": str(users), "REGISTRY_AUTH_ADMINS": "bob"}
    done = user("add", "bob", "--generate", **env)
    assert done.stderr == f"bob is added to {users}\nbob may read and change everything (auth.admins)\n{LIVE}"


def test_another_file_than_the_configured_one_can_be_edited(
    users: Path, tmp_path: Path, configured: Callable[..., Path]
) -> None:
    done = user("add", "bob", "-c", configured("admins: [bob]"), "--file", tmp_path / "copy", "--generate")
    assert f"bob is added to {tmp_path / 'copy'}\nbob may read and change everything" in done.stderr
    assert b"bob" not in users.read_bytes()


def test_without_a_configuration_nothing_is_said_of_rights(users: Path) -> None:
    assert document(user("add", "bob", "--file", users, "--generate", "-o", "json"))["may"] is None
    assert "may" not in user("passwd", "ann", "--file", users, "--generate").stderr
    listed = user("list", "--file", users).stdout
    assert re.split(" {2,}", listed.splitlines()[1])[:4] == ["ann", "bcrypt", "4", "-"]


# Which file


@pytest.mark.parametrize("action", [["add", "ann"], ["passwd", "ann"], ["remove", "ann"], ["check", "ann"], ["list"]])
def test_no_file_is_a_usage_error_that_says_how_to_name_one(action: list[str]) -> None:
    done = user(*action)
    assert done.exit_code == 2
    said = " ".join(done.stderr.split())
    assert "use --file PATH, or name with -c FILE or REGISTRY_AUTH_HTPASSWD_PATH" in said


def test_a_variable_that_nobody_knows_is_an_error(users: Path) -> None:
    done = user("list", REGISTRY_AUTH_HTPASSWD_PAHT=str(users))
    assert done.exit_code == 2
    assert "REGISTRY_AUTH_HTPASSWD_PATH" in done.stderr
    done = user("list", REGISTRY_HTPASSWD_PATH=str(users))
    assert done.exit_code == 2
    assert "REGISTRY_HTPASSWD_PATH" in done.stderr


def test_a_bad_configuration_is_an_error(users: Path, configured: Callable[..., Path]) -> None:
    done = user("list", "-c", configured("adminz: [ann]"), "--file", users)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "auth.adminz: unknown key" in done.stderr


@pytest.mark.parametrize("action", [["passwd", "ann"], ["remove", "ann"], ["check", "ann"], ["list"]])
def test_a_file_that_is_not_there_is_an_error(tmp_path: Path, action: list[str]) -> None:
    done = user(*action, "--file", tmp_path / "none", stdin="x")
    assert (done.exit_code, done.stdout) == (1, "")
    assert f"make one with `packregistry user add admin --file {tmp_path / 'none'}`" in done.stderr
    (error,) = document(user(*action, "--file", tmp_path / "none", "-o", "json"))["errors"]
    assert error["code"] == "USERSFILE"


# Removing


def test_a_user_is_removed(users: Path) -> None:
    users.write_bytes(users.read_bytes() + b"ann:plain\n")
    done = user("remove", "ann", "--file", users)
    assert (done.exit_code, done.stdout, done.stderr) == (0, f"ann is removed from {users} (2 lines)\n", LIVE)
    assert users.read_bytes() == b"admin:" + HASH + b"\n"


def test_a_server_does_not_see_that_the_last_user_goes(users: Path) -> None:
    users.write_bytes(b"ann:" + HASH)
    done = user("remove", "ann", "--file", users)
    assert (done.exit_code, done.stdout) == (0, f"ann is removed from {users} (1 line)\n")
    assert done.stderr == (
        "packregistry: warning: no user is left: a server that runs keeps those it has, ann too, and none starts with "
        f"{users}: add one with `packregistry user add`\n"
    )


def test_of_the_last_user_no_other_admin_is_missed(users: Path, configured: Callable[..., Path]) -> None:
    users.write_bytes(b"admin:" + HASH)
    answer = document(user("remove", "admin", "-c", configured(), "-o", "json"))
    assert [text.partition(" ")[0] for text in answer["remains"]] == ["no", "auth.admins", "tokens"]


def test_where_the_server_is_open_nothing_remains(users: Path) -> None:
    done = user("remove", "admin", "--file", users, "-o", "json", REGISTRY_AUTH="none")
    assert document(done)["remains"] == []


@pytest.mark.parametrize(
    ("lines", "name", "remains"),
    [
        pytest.param([], "ann", ["tokens that ann knows"], id="reader"),
        pytest.param(
            [],
            "admin",
            [
                "auth.admins names admin: whoever is added as admin may",
                "no user of auth.admins is left",
                "tokens that admin knows",
            ],
            id="last-admin",
        ),
        pytest.param(
            ["admins: [admin, ann]"], "admin", ["auth.admins names admin", "tokens that admin knows"], id="admin-of-two"
        ),
        pytest.param(
            ["policy: /p.yml"], "admin", ["auth.policy /p.yml may have rules for admin", "tokens that"], id="policy"
        ),
        pytest.param(
            ["certificates: {subject: commonname}", "# ca"],
            "ann",
            ["a client certificate of ann signs in as before", "tokens that ann knows"],
            id="certificates",
        ),
    ],
)
def test_it_is_said_what_remains_of_a_user(
    users: Path, configured: Callable[..., Path], lines: list[str], name: str, remains: list[str]
) -> None:
    config = configured(*lines)
    if "# ca" in lines:
        tls = "http: {tls: {certificate: c.pem, key: k.pem, clientcas: [ca.pem]}}"
        config.write_text(f"{config.read_text()}\n{tls}\n")
    done = user("remove", name, "-c", config, "-o", "json")
    answer = document(done)
    assert (done.exit_code, done.stderr) == (0, "")
    assert {key: answer[key] for key in ("name", "file", "lines")} == {"name": name, "file": str(users), "lines": 1}
    assert len(answer["remains"]) == len(remains)
    assert all(found.startswith(wanted) for found, wanted in zip(answer["remains"], remains, strict=True))


# Listing


def test_users_are_listed_in_the_order_of_the_file_with_what_is_wrong(users: Path) -> None:
    users.write_bytes(b"ann:" + SHA + b"\nbob\n\xe9ve:" + HASH.replace(b"$04$", b"$10$") + b"\na\x1bb:" + HASH)
    done = user("list", "--file", users)
    assert done.exit_code == 1
    assert done.stdout.splitlines() == [
        "NAME  HASH    COST  MAY  CONCERN",
        "ann   {SHA}   -     -    {SHA} hashes are weak",
        "éve   bcrypt  10    -    -",
        "a\ufffdb   bcrypt  4     -    bcrypt cost 4 is quick to guess",
    ]
    assert done.stderr == f"packregistry: {users}: line 2 has no ':' between user and hash\n"


def test_a_list_as_json(users: Path, configured: Callable[..., Path]) -> None:
    users.write_bytes(b"ann:" + SHA + b"\nann:x\nadmin:" + HASH.replace(b"$04$", b"$10$"))
    done = user("list", "-c", configured(), "-o", "json")
    assert (done.exit_code, "line 2" in done.stderr) == (1, True)
    answer = document(done)
    assert answer["file"] == str(users)
    assert answer["users"] == [
        {"name": "ann", "hash": "{SHA}", "cost": None, "may": "read", "concern": "{SHA} hashes are weak"},
        {"name": "admin", "hash": "bcrypt", "cost": 10, "may": "everything", "concern": None},
    ]
    ((line, reason),) = [(bad["line"], bad["reason"]) for bad in answer["bad_lines"]]
    assert (line, reason.partition(":")[0]) == (2, "has no hash of an accepted kind")


# Checking


@pytest.mark.parametrize(
    ("name", "password", "code", "text"),
    [
        pytest.param("ann", "se:cret\n", 0, "the password of ann is right\n", id="right"),
        pytest.param("ann", "secret", 4, "the password of ann is wrong\n", id="wrong"),
        pytest.param("ann", "", 4, "the password of ann is wrong\n", id="empty"),
    ],
)
def test_a_password_is_checked(users: Path, name: str, password: str, code: int, text: str) -> None:
    done = user("check", name, "--file", users, "--password-stdin", stdin=password)
    assert (done.exit_code, done.stdout, done.stderr) == (code, text, "")
    as_json = user("check", name, "--file", users, "--password-stdin", "-o", "json", stdin=password)
    assert as_json.exit_code == code
    assert document(as_json) == {"name": name, "file": str(users), "right": code == 0}


def test_a_password_is_checked_once_at_a_terminal(users: Path, terminal: None) -> None:
    done = user("check", "ann", "--file", users, stdin="se:cret\n")
    assert (done.exit_code, done.stdout) == (0, "the password of ann is right\n")


@pytest.mark.parametrize("name", ["anne", "bad"], ids=["unknown", "bad-line"])
def test_that_a_user_cannot_sign_in_at_all_is_said(users: Path, name: str) -> None:
    users.write_bytes(users.read_bytes() + b"bad:plain\n")
    done = user("check", name, "--file", users, "--password-stdin", stdin="se:cret")
    assert (done.exit_code, done.stdout) == (4, "")
    assert ("did you mean" if name == "anne" else "cannot sign in, line 3 of") in done.stderr
    (error,) = document(user("check", name, "--file", users, "--password-stdin", "-o", "json", stdin="x"))["errors"]
    assert error["code"] == "UNKNOWNUSER"


# Help


@pytest.mark.parametrize("action", ["add", "passwd", "remove", "list", "check"])
def test_help_has_examples_and_exit_codes(action: str) -> None:
    done = user(action, "--help")
    assert done.exit_code == 0
    assert f"packregistry user {action}" in done.stdout
    assert "Exit codes: 0" in done.stdout
    assert action in user("--help").stdout
