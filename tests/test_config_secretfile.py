"""Values in files that variables name: read as the variable would be, and shown to nobody."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from packregistry.config import Config, ConfigError, load
from packregistry.config.secretfile import SIZE_MAX, read_secret

NAME = "REGISTRY_AUTH_HTPASSWD_REALM_FILE"
USERS = {"REGISTRY_AUTH_HTPASSWD_PATH": "users"}


def realm(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return load(None, {NAME: str(path)} | USERS, {}).config.auth.htpasswd.realm


def refused(environ: dict[str, str]) -> str:
    with pytest.raises(ConfigError) as caught:
        load(None, environ, {})
    (problem,) = caught.value.problems
    return problem


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"a b", "a b"),
        (b"a b\n", "a b"),
        (b"a b\r\n", "a b"),
        (b"\xef\xbb\xbfa b\n", "a b"),
        (b"'a b'\n", "a b"),
        (b"[a\n", "[a"),
        ("ü\n".encode(), "ü"),
        (b"a" * SIZE_MAX, "a" * SIZE_MAX),
    ],
    ids=["bare", "line", "windows", "mark", "quoted", "bracket", "letters", "largest"],
)
def test_the_text_of_the_file_is_read_as_that_of_the_variable(tmp_path: Path, data: bytes, text: str) -> None:
    assert realm(tmp_path / "secret", data) == text


def test_one_line_break_is_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    for data, text in ((b" a\n\n", " a\n"), (b"a\r\n", "a"), (b"a", "a")):
        path.write_bytes(data)
        assert read_secret(str(path)) == text


def test_two_line_breaks_are_as_good_as_one(tmp_path: Path) -> None:
    assert realm(tmp_path / "secret", b"a\n\n") == "a"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a" * (SIZE_MAX + 1), f"is larger than {SIZE_MAX} bytes (is it the right file?)"),
        (b"a\0b", "is not UTF-8 text (is it the right file?)"),
        (b"\xff", "is not UTF-8 text (is it the right file?)"),
        (b"a\x1bb", "is not UTF-8 text (is it the right file?)"),
    ],
    ids=["large", "nul", "latin", "escape"],
)
def test_a_file_that_is_no_text_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "secret"
    path.write_bytes(data)
    assert refused({NAME: str(path)} | USERS) == f"environment variable {NAME} ({path}): {message}"


def test_a_missing_file_and_a_directory_are_refused(tmp_path: Path) -> None:
    where = f"environment variable {NAME} ({tmp_path}"
    missing = refused({NAME: f"{tmp_path}/x"} | USERS)
    assert missing == f"{where}/x): there is no such file (mount it, or unset the variable)"
    assert refused({NAME: str(tmp_path)} | USERS) == f"{where}): this is a directory (name the file in it)"
    (tmp_path / "file").touch()
    broken = refused({NAME: f"{tmp_path}/file/x"} | USERS)
    assert broken == f"{where}/file/x): cannot be read: Not a directory (name another file, or unset the variable)"


def test_a_file_that_may_not_be_read_is_refused_with_who_may_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert refused({NAME: "/x"} | USERS) == (
        f"environment variable {NAME} (/x): cannot be read: Permission denied (let uid 12345 read it)"
    )


@pytest.mark.parametrize("data", [b"", b"\n", b" \n"])
def test_an_empty_file_is_as_good_as_none(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "secret"
    path.write_bytes(data)
    loaded = load(None, {"REGISTRY_LOG_LEVEL_FILE": str(path)}, {})
    assert loaded.config == Config()
    assert loaded.warnings == (
        f"environment variable REGISTRY_LOG_LEVEL_FILE ({path}): is empty and has no effect (unset it)",
    )


def test_an_empty_variable_names_no_file() -> None:
    loaded = load(None, {"REGISTRY_LOG_LEVEL": "warn", "REGISTRY_LOG_LEVEL_FILE": ""}, {})
    assert loaded.config.log.level == "warn"
    assert loaded.warnings == ("environment variable REGISTRY_LOG_LEVEL_FILE: is empty and has no effect (unset it)",)


def test_an_empty_variable_leaves_the_file_of_the_other_in_force(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("warn")
    assert load(None, {"REGISTRY_LOG_LEVEL": "", "REGISTRY_LOG_LEVEL_FILE": str(path)}, {}).config.log.level == "warn"


def test_items_headers_and_fields_may_be_in_files(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("a: b\n")
    environ = {
        "REGISTRY_PACKS_DIRECTORIES_0_FILE": str(path),
        "REGISTRY_HTTP_HEADERS_X_API_KEY_FILE": str(path),
        "REGISTRY_LOG_FIELDS_SERVICE_FILE": str(path),
    }
    config = load(None, environ, {}).config
    assert config.packs.directories == (Path("a: b"),)
    assert config.http.headers["X-API-KEY"] == ("a: b",)
    assert config.log.fields == {"service": "a: b"}


def test_a_driver_may_be_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("filesystem:\n  rootdirectory: /x\n")
    config = load(None, {"REGISTRY_STORAGE_FILE": str(path)}, {}).config
    assert config.storage.filesystem.rootdirectory == Path("/x")


def test_the_file_of_podman_is_not_read() -> None:
    (warning,) = load(None, {"REGISTRY_AUTH_FILE": "/nowhere"}, {}).warnings
    assert warning == "environment variable REGISTRY_AUTH_FILE: has no effect: it is for podman, buildah and skopeo"


def test_the_file_of_what_has_no_effect_is_not_read() -> None:
    (warning,) = load(None, {"REGISTRY_HTTP_SECRET_FILE": "/nowhere"}, {}).warnings
    assert "http.secret: has no effect" in warning


def test_a_section_that_is_no_option_cannot_be_in_a_file() -> None:
    problem = refused({"REGISTRY_LOG_FILE": "/var/log/registry.log"})
    assert problem.startswith(
        "environment variable REGISTRY_LOG_FILE: there is no such option (did you mean REGISTRY_LOG"
    )


def test_a_misspelt_prefix_is_named() -> None:
    (warning,) = load(None, {"REGSITRY_HTTP_TLS_KEY_FILE": "x"}, {}).warnings
    assert warning.endswith("REGSITRY_HTTP_TLS_KEY_FILE: has no effect (did you mean REGISTRY_HTTP_TLS_KEY_FILE?)")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("REGISTRY_HTTP_ADDR", "hunter2", "http.addr: must be an address"),
        ("REGISTRY_LOG_LEVEL", "hunter2", "log.level: must be one of debug, info, warn, error"),
        ("REGISTRY_STORAGE", "hunter2", "storage: must be one of filesystem, inmemory"),
        ("REGISTRY_LOG_FIELDS", "hunter2", "log.fields: must be a map of texts, not a text"),
        ("REGISTRY_LOG_FIELDS", "{a: 'hunter2", "is not YAML: while scanning a quoted scalar"),
        ("REGISTRY_LOG_FIELDS", "{a: [hunter2]}", "log.fields.a: must be a text, not a list"),
    ],
    ids=["address", "choice", "driver", "no map", "no YAML", "list"],
)
def test_nothing_of_the_file_is_in_a_message(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = tmp_path / "secret"
    path.write_text(text)
    problem = refused({f"{name}_FILE": str(path)})
    assert problem.startswith(f"environment variable {name}_FILE ({path}): {message}")
    assert "hunter2" not in problem


def test_an_unbalanced_policy_in_a_file_is_not_quoted(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("img-src 'self")
    (warning,) = load(None, {"REGISTRY_HTTP_HEADERS_CONTENT_SECURITY_POLICY_FILE": str(path)}, {}).warnings
    assert warning.endswith("browsers take no notice of a word with one")


def test_what_comes_after_the_file_is_quoted_again(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("warn")
    problem = refused({"REGISTRY_LOG_LEVEL_FILE": str(path), "REGISTRY_PACKS_SETTLE": "soon"})
    assert '"soon"' in problem
