"""Every option there is: each can be set in the file, by its variable, by a file that names, and by a flag."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from packregistry.config import ConfigError, Option, load, options
from packregistry.config.options import value_of
from packregistry.config.schema import Section, join, schema

# What some options mean something only with. The option under test is left out.
NEEDED: dict[str, object] = {
    "auth.htpasswd.path": "/users",
    "auth.certificates.subject": "email",
    "http.tls.clientcas": ["/ca"],
    "http.tls.certificate": "/crt",
    "http.tls.key": "/key",
    "http.debug.addr": "127.0.0.1:5001",
}
VALUES: Mapping[str, tuple[str, str, str]] = {
    "a text": ("a", "b", "c"),
    "a map of texts": ("{k: a}", "{k: b}", "{k: c}"),
    "a list of texts": ("[a]", "[b, b]", "[c]"),
    "a path": ("/a", "/b", "/c"),
    "a list of paths": ("[/a]", "[/b, /b]", "[/c]"),
    "true or false": ("true", "false", "true"),
    "a count": ("3", "4", "5"),
    "a count, or auto": ("3", "auto", "5"),
    "a duration": ("3s", "1m4s", "5ms"),
    "a size": ("3", "4KiB", "5MB"),
    "an address": ("a:1", ":2", "'[::1]:3'"),
    "a map of HTTP headers": ("{X-A: [a]}", "{X-A: [b, b]}", "{X-A: [c]}"),
    "a list of networks": ("[10.0.0.1]", "[10.0.0.0/8]", "[fc00::/7]"),
    "the path of a URL": ("/a", "/b", "/c"),
    "a URL": ("http://a", "http://b:1", "https://c"),
}
# What has one value, or decides on others: tested beside.
TABLE = [
    option
    for option in options()
    if not option.spec.is_driver and option.spec.kind.name != "empty" and option.path != "version"
]
each_option = pytest.mark.parametrize("option", TABLE, ids=lambda option: option.path)


def values(option: Option) -> tuple[str, str, str]:
    """Three values of an option as YAML, each other than the one before."""
    kind = option.spec.kind
    if kind.values:
        first, second, *_ = kind.values
        return first, second, first
    return VALUES[kind.name]


def expected(option: Option, text: str) -> Any:
    """What a configuration has that was given `text`."""
    kind, raw = option.spec.kind, yaml.load(text, yaml.BaseLoader)
    if kind.shape == "list":
        return tuple(map(kind.parse, raw))
    if kind.shape == "map":
        return raw
    if kind.shape == "lists":
        return {name: tuple(texts) for name, texts in raw.items()}
    return kind.parse(raw)


def file_with(folder: Path, option: Option, text: str) -> Path:
    """A file config.yml that sets one option to YAML."""
    path = folder / "config.yml"
    document = text
    for key in reversed(option.path.split(".")):
        document = f"{{{key}: {document}}}"
    path.write_text(document)
    return path


def needed(option: Option) -> dict[str, object]:
    return {path: value for path, value in NEEDED.items() if path != option.path}


def found(path: Path, environ: Mapping[str, str], flags: Mapping[str, object], option: Option) -> tuple[Any, str]:
    """The value of an option, and where it is from; of a map, what was set in it."""
    loaded = load(path, environ, needed(option) | dict(flags))
    assert loaded.warnings == ()
    value = value_of(loaded.config, option)
    if option.spec.kind.shape == "lists":
        value = {name: texts for name, texts in value.items() if name not in option.default}
    return value, loaded.origins[option.path]


@each_option
def test_a_flag_wins_over_a_variable_and_that_over_the_file(tmp_path: Path, option: Option) -> None:
    in_file, in_variable, in_flag = values(option)
    path = file_with(tmp_path, option, in_file)
    assert found(path, {}, {}, option)[0] == expected(option, in_file)
    environ = {option.variable: in_variable}
    assert found(path, environ, {}, option) == (
        expected(option, in_variable),
        f"environment variable {option.variable}",
    )
    flags = {option.path: yaml.load(in_flag, yaml.BaseLoader)}
    where = option.spec.flag or "command line"
    assert found(path, environ, flags, option) == (expected(option, in_flag), where)


@each_option
def test_where_a_value_of_the_file_stands_is_known(tmp_path: Path, option: Option) -> None:
    path = file_with(tmp_path, option, values(option)[0])
    assert found(path, {}, {}, option)[1].startswith(f"{path}:1:")


@each_option
def test_a_file_that_a_variable_names_wins_over_the_configuration_file(tmp_path: Path, option: Option) -> None:
    in_file, in_secret, _ = values(option)
    secret = tmp_path / "secret"
    secret.write_text(in_secret + "\n")
    environ = {f"{option.variable}_FILE": str(secret)}
    where = f"environment variable {option.variable}_FILE ({secret})"
    path = file_with(tmp_path, option, in_file)
    assert found(path, environ, {}, option) == (expected(option, in_secret), where)


@each_option
def test_a_variable_and_its_file_together_are_refused(tmp_path: Path, option: Option) -> None:
    _, text, _ = values(option)
    environ = {option.variable: text, f"{option.variable}_FILE": "/run/secrets/x"}
    with pytest.raises(ConfigError) as caught:
        load(None, environ, needed(option))
    assert caught.value.problems == (
        f"environment variable {option.variable}_FILE: is given together with {option.variable} (unset one of them)",
    )


@each_option
def test_a_misspelt_prefix_is_named(option: Option) -> None:
    name = option.variable.replace("REGISTRY", "REGSITRY")
    assert load(None, {name: "x"}, {}).warnings == (
        f"environment variable {name}: has no effect (did you mean {option.variable}?)",
    )


@each_option
def test_a_variable_that_lacks_a_letter_is_refused_with_the_right_one(option: Option) -> None:
    name = option.variable[:-2] + option.variable[-1]
    with pytest.raises(ConfigError) as caught:
        load(None, {name: "x"}, {})
    assert caught.value.problems == (
        f"environment variable {name}: there is no such option (did you mean {option.variable}?)",
    )


@each_option
def test_a_key_that_lacks_a_letter_is_refused_with_the_right_one(tmp_path: Path, option: Option) -> None:
    section, _, key = option.path.rpartition(".")
    wrong = key[:-2] + key[-1]
    path = tmp_path / "config.yml"
    path.write_text(json.dumps(_nested(f"{section}.{wrong}")))
    with pytest.raises(ConfigError) as caught:
        load(path, {}, {})
    assert any(f"{join(section, wrong)}: unknown key (did you mean {key}?)" in line for line in caught.value.problems)


def _nested(path: str) -> dict[str, Any]:
    key, _, rest = path.partition(".")
    return {key: _nested(rest) if rest else "x"}


# Whole sections


@pytest.mark.parametrize("text", ["{filesystem: {rootdirectory: /x}}", "filesystem", ""], ids=["map", "text", "none"])
def test_storage_in_memory_by_variable_wins_over_any_storage_of_the_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yml"
    path.write_text(f"version: 0.1\nstorage: {text}")
    loaded = load(path, {"REGISTRY_STORAGE": "inmemory"}, {})
    assert (loaded.config.storage.driver, loaded.warnings) == ("inmemory", ())
    assert loaded.origins["storage"] == "environment variable REGISTRY_STORAGE"


def test_no_authentication_by_variable_wins_over_that_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_text("auth: {htpasswd: {realm: r, path: p}}")
    assert load(path, {"REGISTRY_AUTH": "none"}, {}).config.auth.mode == "none"


def test_authentication_by_variable_wins_over_none_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_text("auth: none")
    environ = {"REGISTRY_AUTH": "htpasswd", "REGISTRY_AUTH_HTPASSWD_PATH": "p"}
    assert load(path, environ, {}).config.auth.mode == "htpasswd"


@pytest.mark.parametrize(
    "text",
    ["{htpasswd: {realm: x, path: y}}", "htpasswd: {realm: x, path: y}", "htpasswd:\n  realm: x\n  path: y\n"],
    ids=["flow", "mixed", "block"],
)
def test_a_variable_may_be_the_yaml_of_a_section(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yml"
    path.write_text("auth: none")
    auth = load(path, {"REGISTRY_AUTH": text}, {}).config.auth
    assert (auth.mode, auth.htpasswd.realm, auth.htpasswd.path) == ("htpasswd", "x", Path("y"))


def test_a_variable_may_be_a_list_in_block_style() -> None:
    config = load(None, {"REGISTRY_PACKS_DIRECTORIES": "- a\n- b"}, {}).config
    assert config.packs.directories == (Path("a"), Path("b"))


def test_an_item_with_a_dash_first_is_a_text() -> None:
    config = load(None, {"REGISTRY_PACKS_DIRECTORIES_0": "- a"}, {}).config
    assert config.packs.directories == (Path("- a"),)


def test_a_header_with_a_colon_in_it_is_a_text() -> None:
    config = load(None, {"REGISTRY_HTTP_HEADERS_X_A": "img-src data: 'self'"}, {}).config
    assert config.http.headers["X-A"] == ("img-src data: 'self'",)


@pytest.mark.parametrize("text", ["s3", "{s3: {bucket: b}}"], ids=["text", "map"])
def test_storage_in_s3_by_variable_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yml"
    path.write_text("storage: {filesystem: {rootdirectory: /x}}")
    with pytest.raises(ConfigError, match="S3 storage is not supported yet: use filesystem") as caught:
        load(path, {"REGISTRY_STORAGE": text}, {})
    assert caught.value.problems[0].startswith("environment variable REGISTRY_STORAGE: storage")


def test_the_origin_of_each_part_of_a_list_and_a_map_is_known(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_text("packs: {directories: [a, b]}\nlog: {fields: {x: a, y: b}}")
    environ = {"REGISTRY_PACKS_DIRECTORIES_1": "c", "REGISTRY_LOG_FIELDS_Y": "c", "REGISTRY_LOG_FIELDS_Z": "d"}
    origins = load(path, environ, {}).origins
    assert origins["packs.directories.0"] == f"{path}:1:23"
    assert origins["packs.directories.1"] == "environment variable REGISTRY_PACKS_DIRECTORIES_1"
    assert origins["log.fields.x"] == f"{path}:2:16"
    assert origins["log.fields.y"] == "environment variable REGISTRY_LOG_FIELDS_Y"
    assert origins["log.fields.z"] == "environment variable REGISTRY_LOG_FIELDS_Z"


# The default of workers


@pytest.mark.parametrize(("text", "workers"), [("auto", 0), ("3", 3), ("", 1), (" ", 1), (None, 1)], ids=str)
def test_the_default_of_workers_can_be_set_outside_of_the_configuration(text: str | None, workers: int) -> None:
    environ = {} if text is None else {"PACKREGISTRY_WORKERS": text}
    loaded = load(None, environ, {})
    assert (loaded.config.http.workers, loaded.warnings) == (workers, ())


def test_everything_wins_over_the_default_of_workers(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_text("http: {workers: 2}")
    default = {"PACKREGISTRY_WORKERS": "auto"}
    assert load(path, default, {}).config.http.workers == 2
    assert load(None, default | {"REGISTRY_HTTP_WORKERS": "3"}, {}).config.http.workers == 3
    assert load(None, default, {"http.workers": "4"}).config.http.workers == 4
    path.write_text("{}")
    loaded = load(path, default, {})
    assert (loaded.config.http.workers, loaded.origins["http.workers"]) == (
        0,
        "environment variable PACKREGISTRY_WORKERS",
    )


def test_a_bad_default_of_workers_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, {"PACKREGISTRY_WORKERS": "many"}, {"http.workers": "2"})
    (problem,) = caught.value.problems
    assert problem == (
        'environment variable PACKREGISTRY_WORKERS: http.workers: "many" is not a count of workers '
        "(write a whole number from 1 to 64, or auto)"
    )


@pytest.mark.parametrize("text", ["0", "65", "100000", "1.5", "-1"])
def test_a_count_of_workers_out_of_bounds_is_refused(text: str) -> None:
    for environ, flags in (({"PACKREGISTRY_WORKERS": text}, {}), ({}, {"http.workers": text})):
        with pytest.raises(
            ConfigError, match=r"is not a count of workers \(write a whole number from 1 to 64, or auto"
        ):
            load(None, environ, flags)


@pytest.mark.parametrize("count", [1, 64])
def test_the_bounds_of_workers_are_counts_themselves(count: int) -> None:
    assert load(None, {}, {"http.workers": str(count)}).config.http.workers == count


def test_the_table_has_every_option_but_those_with_one_value() -> None:
    left_out = {option.path for option in options()} - {option.path for option in TABLE}
    acme = {f"http.tls.letsencrypt.{key}" for key in ("cachefile", "email", "hosts")}
    assert left_out == {"version", "storage", "auth"} | acme
    assert all(isinstance(schema()[path], Section) for path in ("storage", "auth"))
