"""`packregistry config`: what it finds, what it prints, and how it ends."""

from __future__ import annotations

import base64
import datetime as dt
import json
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from jsonschema import Draft202012Validator

from packregistry.auth.tokens import TokenFile
from packregistry.cli.config import command, hidden
from packregistry.cli.output import plural
from packregistry.cli.validity import Validity, validities
from packregistry.config import load
from tests import certificates

HASH = "$2y$10$Zkvxq4xj/J6WgKZmR1WgiuveyCMZabd6NyqRjBFj4pYY/hUZd.tKq"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of our variables, whatever they are outside."""
    for name in list(os.environ):
        if name.startswith(("REGISTRY", "PACKREGISTRY")):
            monkeypatch.delenv(name)


@pytest.fixture
def configured(tmp_path: Path) -> Callable[[str], Path]:
    """Write a configuration; `DIR` in it is the directory it is in. Data are there, too."""

    def write(text: str) -> Path:
        path = tmp_path / "config.yml"
        path.write_text("storage: {filesystem: {rootdirectory: DIR/data}}\n".replace("DIR", str(tmp_path)))
        with path.open("a") as file:
            file.write(text.replace("DIR", str(tmp_path)))
        (tmp_path / "users").write_text(f"admin:{HASH}\n")
        return path

    return write


def run(*args: object, **env: str) -> Result:
    result = CliRunner().invoke(command, [str(arg) for arg in args], env=env)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def check(*args: object, **env: str) -> tuple[int, list[str]]:
    """The exit code of `config check`, and its lines."""
    done = run("check", *args, **env)
    assert done.stderr == ""
    return done.exit_code, done.stdout.splitlines()


USERS = "auth: {htpasswd: {path: DIR/users}}\n"


# Check


def test_a_configuration_in_order_is_fine(configured: Callable[[str], Path]) -> None:
    path = configured(USERS)
    assert check(path) == (0, [f"{path}: fine"])


def test_without_a_file_the_variables_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "packs").mkdir()
    assert check() == (0, ["configuration: fine"])
    code, lines = check(REGISTRY_LOG_LEVEL="x", REGISTRY_NOPE="y")
    assert (code, lines[-1]) == (2, "configuration: 2 errors")
    assert lines[0].startswith('error: environment variable REGISTRY_LOG_LEVEL: log.level: "x" is not one of')
    assert lines[1] == "error: environment variable REGISTRY_NOPE: there is no such option (unset it)"


def test_all_errors_and_warnings_are_printed_with_their_place(configured: Callable[[str], Path]) -> None:
    path = configured("http: {adr: x}\nlog: {level: y}\nredis: {}\n")
    code, lines = check(path)
    assert code == 2
    assert lines == [
        f"warning: {path}:4:8: redis: has no effect: nothing is cached outside of the server",
        f"error: {path}:2:8: http.adr: unknown key (did you mean addr?)",
        f'error: {path}:3:14: log.level: "y" is not one of debug, info, warn, error (known: debug, info, warn, error)',
        f"{path}: 2 errors",
    ]


def test_warnings_alone_are_fine_unless_strict(configured: Callable[[str], Path]) -> None:
    path = configured(USERS + "redis: {}\n")
    warning = f"{path}:3:8: redis: has no effect: nothing is cached outside of the server"
    assert check(path) == (0, [f"warning: {warning}", f"{path}: fine"])
    assert check(path, "--strict") == (2, [f"error: {warning}", f"{path}: 1 error"])


def test_variables_win_over_the_file_as_they_do_for_the_server(
    configured: Callable[[str], Path], tmp_path: Path
) -> None:
    path = configured("auth: {htpasswd: {path: /nowhere}}")
    assert check(path)[0] == 2
    assert check(path, REGISTRY_AUTH_HTPASSWD_PATH=str(tmp_path / "users"))[0] == 0


def test_a_bad_file_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / "no.yml"
    assert check(path) == (2, [f"error: {path}: there is no such file", f"{path}: 1 error"])


@pytest.mark.parametrize(
    ("text", "starts"),
    [
        ("auth: {htpasswd: {path: DIR/no}}", ["auth.htpasswd.path: users file DIR/no cannot be read (No such file"]),
        ("auth: {htpasswd: {path: DIR/empty}}", ["auth.htpasswd.path: users file DIR/empty has no user"]),
        (
            "auth: {htpasswd: {path: DIR/users}, policy: DIR/policy, tokens: DIR/tokens}",
            ["auth.policy: DIR/policy:3:1: ", "auth.policy: DIR/policy:4:1: ", "auth.tokens: token file DIR/tokens"],
        ),
        ("auth: {htpasswd: {path: DIR/users}, policy: DIR/no}", ["auth.policy: DIR/no: there is no such file"]),
        (
            "auth: {htpasswd: {path: DIR/no}}\nhttp: {tls: {certificate: DIR/no, key: DIR/no}}",
            ["http.tls: DIR/no cannot be used: No such file", "auth.htpasswd.path: users file DIR/no"],
        ),
    ],
    ids=["no users", "empty users", "policy and tokens", "no policy", "certificate and users"],
)
def test_every_file_that_cannot_be_used_is_named_with_its_option(
    configured: Callable[[str], Path], tmp_path: Path, text: str, starts: list[str]
) -> None:
    path = configured(text)
    (tmp_path / "empty").touch()
    (tmp_path / "policy").write_text("version: 1\nrules: []\nx: y\nz: y\n")
    (tmp_path / "tokens").mkdir()
    code, lines = check(path)
    assert (code, lines[-1]) == (2, f"{path}: {plural(len(starts), 'error')}")
    for line, start in zip(lines, starts, strict=False):
        assert line.replace(str(tmp_path), "DIR").startswith(f"error: {start}")


def test_what_the_server_would_log_is_a_warning(configured: Callable[[str], Path], tmp_path: Path) -> None:
    path = configured(USERS)
    (tmp_path / "users").write_text(f"admin:{HASH}\nbad\n")
    code, lines = check(path)
    assert code == 0
    assert any(line.startswith(f"warning: users file {tmp_path}/users: line 2 ") for line in lines)


def test_tokens_are_looked_for_in_the_data_directory(configured: Callable[[str], Path], tmp_path: Path) -> None:
    path = configured(USERS)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "tokens.json").mkdir()
    assert check(path)[1][0].startswith(f"error: auth.tokens: token file {tmp_path}/data/tokens.json cannot be read")


def test_storage_in_memory_has_no_tokens_of_its_own(
    tmp_path: Path, configured: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in the directory that storage in files would use is not looked at."""
    configured(USERS)
    path = tmp_path / "memory.yml"
    path.write_text(f"storage: inmemory\nauth: {{htpasswd: {{path: {tmp_path}/users}}}}\npacks: {{directories: []}}")
    read: list[Path] = []
    monkeypatch.setattr(TokenFile, "load", lambda self: read.append(self.path))
    assert check(path) == (0, [f"{path}: fine"])
    assert read == []


def test_what_is_logged_later_is_not_kept(configured: Callable[[str], Path]) -> None:
    logger = logging.getLogger("packregistry")
    before = list(logger.handlers)
    check(configured(USERS))
    assert logger.handlers == before


def test_a_registry_open_by_accident_is_found() -> None:
    code, lines = check(REGISTRY_HTTP_ADDR=":5000", REGISTRY_PACKS_DIRECTORIES="[]")
    assert (code, lines[-1]) == (2, "configuration: 1 error")
    assert lines[0].startswith("error: :5000 can be reached from other machines, and no authentication is configured.")
    assert "REGISTRY_AUTH=none" in lines[0]


def test_a_registry_open_on_purpose_is_a_warning(configured: Callable[[str], Path]) -> None:
    code, lines = check(configured("auth: none"))
    assert (code, lines[0][:20]) == (0, "warning: auth: none:")


def test_a_directory_of_packs_that_is_not_there_is_a_warning(configured: Callable[[str], Path], tmp_path: Path) -> None:
    path = configured(USERS + "packs: {directories: [DIR, DIR/no]}")
    warning = f"warning: packs.directories: {tmp_path}/no is not a directory: make it, or leave it out"
    assert check(path) == (0, [warning, f"{path}: fine"])


def test_nothing_is_made_or_changed(configured: Callable[[str], Path], tmp_path: Path) -> None:
    path = configured(USERS + "log: {audit: {path: DIR/audit.log}}")
    check(path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["config.yml", "users"]


# What of the machine a server needs


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("log: {audit: {path: DIR/no/a}}", "log.audit.path: DIR/no/a cannot be written: there is no directory DIR/no"),
        ("log: {audit: {path: DIR}}", "log.audit.path: DIR cannot be written: it is a directory"),
        ("log: {audit: {path: DIR/users/a}}", "log.audit.path: DIR/users/a cannot be written: there is no directory"),
        ("http: {addr: '192.0.2.1:5000'}", "http.addr: cannot listen on 192.0.2.1:5000: "),
        ("http: {addr: 'no.invalid:5000'}", "http.addr: cannot listen on no.invalid:5000: "),
        (
            "http: {debug: {addr: '192.0.2.1:0', prometheus: {enabled: true}}}",
            "http.debug.addr: cannot listen on 192.0.2.1:0: ",
        ),
    ],
    ids=["no directory", "directory", "file", "foreign address", "no host", "foreign debug address"],
)
def test_what_the_server_cannot_get_is_an_error(
    configured: Callable[[str], Path], tmp_path: Path, text: str, error: str
) -> None:
    path = configured(USERS + text)
    code, lines = check(path)
    assert (code, lines[-1]) == (2, f"{path}: 1 error")
    assert lines[0].replace(str(tmp_path), "DIR").startswith(f"error: {error}")
    assert {entry.name for entry in tmp_path.iterdir()} == {"config.yml", "users"}


@pytest.mark.parametrize(
    "text",
    [
        "log: {audit: {path: DIR/no/a, disabled: true}}",
        "log: {audit: {path: DIR/link}}",
        "log: {audit: {path: DIR/users}}",
        "http: {debug: {addr: '192.0.2.1:0'}}",
    ],
    ids=["no audit", "link", "there already", "no metrics"],
)
def test_what_the_server_does_not_need_or_can_have_is_fine(
    configured: Callable[[str], Path], tmp_path: Path, text: str
) -> None:
    path = configured(USERS + text)
    (tmp_path / "link").symlink_to("audit.log")
    assert check(path) == (0, [f"{path}: fine"])


def test_a_port_in_use_is_fine_as_the_server_may_be_running(configured: Callable[[str], Path]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as running:
        path = configured(USERS + f"http: {{addr: '127.0.0.1:{running.getsockname()[1]}'}}")
        assert check(path) == (0, [f"{path}: fine"])


@pytest.mark.parametrize(
    ("addr", "debug", "is_taken"),
    [
        ("127.0.0.1:5000", "127.0.0.1:5000", True),
        ("localhost:5000", "127.0.0.1:5000", True),
        (":5000", "127.0.0.1:5000", True),
        ("127.0.0.1:5000", "0.0.0.0:5000", True),
        ("127.0.0.1:5000", "127.0.0.2:5000", False),
        ("127.0.0.1:5000", "127.0.0.1:5001", False),
        ("127.0.0.1:5000", "127.0.0.1:0", False),
        ("127.0.0.1:0", "127.0.0.1:0", False),
    ],
)
def test_both_addresses_cannot_be_the_same(
    configured: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, addr: str, debug: str, is_taken: bool
) -> None:
    # A name may have an address of IPv6 first.
    monkeypatch.setattr(socket, "getaddrinfo", ipv4_only)
    path = configured(USERS + f"http: {{addr: '{addr}', debug: {{addr: '{debug}', prometheus: {{enabled: true}}}}}}")
    error = f"error: http.debug.addr: {debug} is taken by http.addr ({addr}): choose another port"
    assert check(path) == ((2, [error, f"{path}: 1 error"]) if is_taken else (0, [f"{path}: fine"]))


def ipv4_only(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
    """An answer as `socket.getaddrinfo` gives it."""
    ip = "127.0.0.1" if host == "localhost" else host
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port))]


@pytest.mark.parametrize(
    ("root", "error"),
    [
        ("users", "DIR/users cannot be used: DIR/users is not a directory: move it away"),
        ("users/a/b", "DIR/users/a/b cannot be used: DIR/users is not a directory: move it away"),
    ],
)
def test_a_data_directory_that_is_a_file_is_an_error(
    configured: Callable[[str], Path], tmp_path: Path, root: str, error: str
) -> None:
    configured(USERS)
    env = {"REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": str(tmp_path / root), "REGISTRY_PACKS_DIRECTORIES": "[]"}
    code, lines = check(**env)
    said = [line.replace(str(tmp_path), "DIR") for line in lines]
    assert code == 2
    assert f"error: storage.filesystem.rootdirectory: {error}, or name another directory" in said


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("data", "let uid 12345 read and write it"),
        ("no", "it is not there, and uid 12345 cannot make it in DIR: make it"),
    ],
)
def test_a_data_directory_that_cannot_be_written_or_made_is_an_error(
    configured: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, why: str
) -> None:
    file = configured(USERS + "log: {audit: {path: DIR/users}}")
    (tmp_path / "data").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: mode == os.R_OK)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    _, lines = check(file, REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=str(tmp_path / path))
    assert [line.replace(str(tmp_path), "DIR") for line in lines[:2]] == [
        "error: log.audit.path: DIR/users cannot be written: let uid 12345 write it, or name another file",
        f"error: storage.filesystem.rootdirectory: DIR/{path} cannot be used: {why}, or name another directory",
    ]


def test_an_audit_file_that_cannot_be_made_is_an_error(
    configured: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = configured(USERS + "log: {audit: {path: DIR/a}}")
    monkeypatch.setattr(os, "access", lambda path, mode: mode == os.R_OK)
    assert f"{tmp_path}/a cannot be written: let uid {os.geteuid()} write {tmp_path}," in check(file)[1][0]


# Certificates

TLS = USERS + "http: {tls: {certificate: DIR/tls.crt, key: DIR/tls.key, clientcas: [DIR/ca.crt]}}"


@pytest.fixture
def pair(tmp_path: Path) -> certificates.Pair:
    """A good certificate, its key, and a CA of clients, where `TLS` has them."""
    (tmp_path / "ca.crt").write_bytes(certificates.authority("servers").certificate.read_bytes())
    return certificates.server().copy(tmp_path)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let some days pass."""

    def pass_days(days: int) -> None:
        now = dt.datetime.now(dt.UTC) + dt.timedelta(days=days)

        class Later(dt.datetime):
            @classmethod
            def now(cls, tz: dt.tzinfo | None = None) -> Any:
                return now

        monkeypatch.setattr(dt, "datetime", Later)

    return pass_days


def test_good_certificates_are_fine(configured: Callable[[str], Path], pair: certificates.Pair) -> None:
    path = configured(TLS)
    assert check(path) == (0, [f"{path}: fine"])


def test_a_key_of_another_certificate_is_found(configured: Callable[[str], Path], pair: certificates.Pair) -> None:
    pair.key.write_bytes(certificates.server("two").key.read_bytes())
    code, lines = check(configured(TLS))
    assert code == 2
    assert lines[0].startswith(f"error: http.tls: {pair.certificate} and {pair.key} cannot be used: ")


def test_a_key_that_is_encrypted_is_found(configured: Callable[[str], Path], pair: certificates.Pair) -> None:
    pair.key.write_bytes(certificates.encrypted("pkcs8").read_bytes())
    code, lines = check(configured(TLS))
    assert code == 2
    assert lines[0].startswith(f"error: http.tls.key: {pair.key} is encrypted")


def test_a_ca_of_clients_that_is_none_is_found(
    configured: Callable[[str], Path], pair: certificates.Pair, tmp_path: Path
) -> None:
    (tmp_path / "ca.crt").write_text("x")
    code, lines = check(configured(TLS))
    assert code == 2
    assert lines[0].startswith(f"error: http.tls.clientcas: {tmp_path}/ca.crt cannot be used: ")


@pytest.mark.parametrize(
    ("days", "code", "said"),
    [
        (15, 0, []),
        (17, 0, ["warning: http.tls.certificate: certificate 1", "warning: http.tls.clientcas: certificate 1"]),
        (31, 2, ["error: http.tls.certificate: certificate 1", "warning: http.tls.clientcas: certificate 1"]),
        (-1, 2, ["error: http.tls.certificate: certificate 1", "warning: http.tls.clientcas: certificate 1"]),
    ],
    ids=["good", "soon", "expired", "not yet"],
)
def test_the_days_of_certificates_are_looked_at(
    configured: Callable[[str], Path],
    pair: certificates.Pair,
    clock: Callable[[int], None],
    days: int,
    code: int,
    said: list[str],
) -> None:
    """Certificates of the tests are good for 30 days."""
    path = configured(TLS)
    clock(days)
    found, lines = check(path)
    assert found == code
    assert sorted(line.partition(" in ")[0] for line in lines[:-1]) == sorted(said)


def test_the_chain_of_a_certificate_is_looked_at(pair: certificates.Pair) -> None:
    chain = pair.certificate.read_bytes() + certificates.authority("servers").certificate.read_bytes()
    first, second = validities(b"comment \xff\n" + chain)
    assert first.begin >= second.begin
    assert first.end - first.begin == dt.timedelta(days=30)


@pytest.mark.parametrize(
    "pem",
    [b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", b"-----BEGIN CERTIFICATE-----\n%\n-----END"],
)
def test_what_is_no_certificate_has_no_days(pem: bytes) -> None:
    assert validities(pem) == []


def _der(tag: int, content: bytes) -> bytes:
    return bytes([tag, 0x82]) + len(content).to_bytes(2, "big") + content


@pytest.mark.parametrize(
    ("times", "begin", "end"),
    [
        ([(0x17, b"260101000000Z"), (0x17, b"491231235959Z")], 2026, 2049),
        ([(0x17, b"500101000000Z"), (0x18, b"20500101000000Z")], 1950, 2050),
    ],
    ids=["two digits", "four digits"],
)
@pytest.mark.parametrize("version", [b"", _der(0xA0, b"\x02\x01\x02")], ids=["first version", "third version"])
def test_the_days_are_read_as_the_standard_has_them(
    times: list[tuple[int, bytes]], begin: int, end: int, version: bytes
) -> None:
    validity = _der(0x30, b"".join(_der(*time) for time in times))
    signed = version + _der(0x02, b"\x01") + _der(0x30, b"") + _der(0x30, b"") + validity + _der(0x30, b"x")
    certificate = _der(0x30, _der(0x30, signed) + _der(0x30, b"") + _der(0x03, b""))
    pem = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(certificate) + b"-----END CERTIFICATE-----\n"
    (found,) = validities(pem)
    assert (found.begin.year, found.end.year) == (begin, end)
    assert found.begin.tzinfo is dt.UTC


def test_a_certificate_says_when_it_is_no_good() -> None:
    begin, end = (dt.datetime(year, 1, 31, 12, tzinfo=dt.UTC) for year in (2026, 2027))
    validity = Validity(begin, end)
    assert validity.problem(begin) == validity.problem(end) == validity.concern(begin) == ""
    assert validity.problem(end + dt.timedelta(seconds=1)) == "has expired on 2027-01-31 12:00 UTC: renew it"
    assert validity.problem(begin - dt.timedelta(seconds=1)).startswith("is not valid before 2026-01-31 12:00 UTC: ")
    assert validity.concern(end - dt.timedelta(days=14)) == ""
    assert validity.concern(end - dt.timedelta(days=13)) == "expires on 2027-01-31 12:00 UTC: renew it"


# Print


def test_the_configuration_in_force_is_printed_with_origins(configured: Callable[[str], Path]) -> None:
    path = configured("log: {level: warn}\n")
    done = run("print", path, REGISTRY_PACKS_SETTLE="5s")
    assert done.exit_code == 0
    assert f"  level: warn  # {path}:2:14\n" in done.stdout
    assert "  settle: 5s  # environment variable REGISTRY_PACKS_SETTLE\n" in done.stdout
    assert "  rescan: 30s  # default\n" in done.stdout


@pytest.mark.parametrize("args", [[], ["--plain"], ["-o", "json"]], ids=["yaml", "plain", "json"])
def test_what_is_printed_is_a_configuration_file(
    configured: Callable[[str], Path], tmp_path: Path, args: list[str]
) -> None:
    path = configured(
        'log: {fields: {a: "ä \U0001f600"}}\nhttp: {headers: {X-Frame-Options: []}}\npacks: {directories: ["a\\udc80"]}'
    )
    again = tmp_path / "again.yml"
    again.write_text(run("print", path, *args, REGISTRY_LIMITS_RATIO="7").stdout)
    assert load(again, {}, {}).config == load(path, {"REGISTRY_LIMITS_RATIO": "7"}, {}).config


def test_plain_leaves_origins_out() -> None:
    assert "#" not in run("print", "--plain").stdout


def test_warnings_are_no_part_of_what_is_printed(configured: Callable[[str], Path]) -> None:
    done = run("print", configured("redis: {}"))
    assert "packregistry: warning: " in done.stderr
    assert "redis" not in done.stdout


def test_a_bad_configuration_is_not_printed(configured: Callable[[str], Path]) -> None:
    done = run("print", configured("log: {level: x}\nredis: {}"))
    assert (done.exit_code, done.stdout) == (2, "")
    assert "packregistry: warning: " in done.stderr
    assert 'log.level: "x" is not one of' in done.stderr


SECRETS = """\
http:
  headers: {Authorization: Basic c2VjcmV0OnNlY3JldA==, X-Api-Key: hunter2, Link: 'https://a:hunter2@b', X-A: open}
log:
  fields: {password: hunter2, token: hunter2, url: 'http://a:hunter2@b/', by: 'Bearer hunter2hunter2', a: open}
auth: {htpasswd: {realm: Basic Authentication, path: p}, certificates: {}}
"""


@pytest.mark.parametrize("kind", ["yaml", "json"])
def test_secrets_are_not_printed(configured: Callable[[str], Path], kind: str) -> None:
    done = run("print", configured(SECRETS), "-o", kind)
    assert "hunter2" not in done.output
    assert "c2Vj" not in done.output
    found = yaml.safe_load(done.stdout)
    assert found["http"]["headers"]["Authorization"] == ["***"]
    assert found["http"]["headers"]["X-Api-Key"] == ["***"]
    assert found["http"]["headers"]["X-A"] == ["open"]
    assert found["log"]["fields"] == {
        "password": "***",
        "token": "***",
        "url": "http://***@b/",
        "by": "Bearer ***",
        "a": "open",
    }
    assert found["auth"]["htpasswd"]["realm"] == "Basic Authentication"
    assert "secrets are shown as ***: write them there" in done.stderr


def test_without_secrets_nothing_is_said_of_them(configured: Callable[[str], Path]) -> None:
    assert run("print", configured(USERS)).stderr == ""


@pytest.fixture
def secret_files(tmp_path: Path) -> dict[str, str]:
    """Variables that name files with values of every shape, all with `hunter2` in them but for numbers."""
    values = {
        "PACKS_DIRECTORIES_0": "hunter2",
        "HTTP_HEADERS_X_A": "hunter2",
        "HTTP_HEADERS_REFERRER_POLICY": "[hunter2, hunter2b]",
        "LOG_FIELDS_B": "hunter2",
        "AUTH_ADMINS": "[hunter2, chief]",
        "AUTH_HTPASSWD_REALM": "hunter2",
        "LIMITS_RATIO": "4711",
        "STORAGE_DELETE_ENABLED": "false",
    }
    for name, value in values.items():
        (tmp_path / name).write_text(value + "\n")
    return {f"REGISTRY_{name}_FILE": str(tmp_path / name) for name in values}


@pytest.mark.parametrize("args", [[], ["--plain"], ["-o", "json"]], ids=["yaml", "plain", "json"])
def test_values_from_files_of_variables_are_not_printed(
    configured: Callable[[str], Path], secret_files: dict[str, str], args: list[str]
) -> None:
    path = configured(USERS + "log: {fields: {a: open}}\npacks: {directories: [first, second]}")
    done = run("print", path, *args, **secret_files)
    assert "hunter2" not in done.output
    assert "4711" not in done.output
    found = yaml.safe_load(done.stdout)
    assert found["packs"]["directories"] == ["***", "./second"]
    assert found["http"]["headers"]["X-A"] == ["***"]
    assert found["http"]["headers"]["REFERRER-POLICY"] == ["***", "***"]
    assert found["http"]["headers"]["X-Frame-Options"] == ["DENY"]
    assert found["log"]["fields"] == {"a": "open", "b": "***"}
    assert (found["auth"]["admins"], found["auth"]["htpasswd"]["realm"]) == (["***", "***"], "***")
    assert (found["limits"]["ratio"], found["storage"]["delete"]["enabled"]) == ("***", "***")
    assert found["limits"]["members"] == 20_000
    assert "secrets are shown as ***" in done.stderr


def test_values_from_files_of_variables_are_not_in_what_check_finds(
    configured: Callable[[str], Path], secret_files: dict[str, str], tmp_path: Path
) -> None:
    path = configured(USERS + "packs: {directories: [DIR, DIR/no]}")
    (tmp_path / "audit").write_text("/hunter2/audit")
    _, lines = check(path, REGISTRY_LOG_AUDIT_PATH_FILE=str(tmp_path / "audit"), **secret_files)
    assert lines == [
        "warning: packs.directories: *** is not a directory: make it, or leave it out",
        f"warning: packs.directories: {tmp_path}/no is not a directory: make it, or leave it out",
        "error: log.audit.path: *** cannot be written: there is no directory /***: make it, or name another file",
        f"{path}: 1 error",
    ]


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("storage.s3.secretkey", "***"),
        ("storage.s3.accesskey", "***"),
        ("http.secret", "***"),
        ("redis.password", "***"),
        ("x.token", "***"),
        ("auth.tokens", "/t"),
        ("http.headers.Set-Cookie", "***"),
        ("auth.certificates.users.cn-token", "/t"),
    ],
)
def test_what_is_secret_is_told_by_its_key(path: str, shown: str) -> None:
    assert hidden(path, "/t") == shown
    assert hidden(path, "") == ""


# Schema


def test_the_schema_is_printed() -> None:
    done = run("schema")
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    Draft202012Validator.check_schema(found)
    assert "http" in found["properties"]


@pytest.mark.parametrize(
    "args", [["schema", "x"], ["print", "--addr", "x"], ["check", "--data", "x"], ["chek"]], ids=" ".join
)
def test_other_arguments_are_a_usage_error(args: list[str]) -> None:
    assert run(*args).exit_code == 2
