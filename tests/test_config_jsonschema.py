"""The JSON Schema of the file: what it takes is what the server takes."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from packregistry.config import ConfigError, Option, load, options
from packregistry.config.jsonschema import json_schema
from packregistry.config.legacy import IGNORED, RENAMED, UNSUPPORTED
from packregistry.config.problems import BadValueError
from packregistry.config.schema import Section, schema
from packregistry.config.written import tree
from tests.test_config_options import TABLE, values
from tests.test_config_written import EVERYTHING

SAMPLES = sorted((Path(__file__).parent / "data" / "config").glob("*.yml"))
REFUSED = {"s3", "letsencrypt", "letsencrypt-inmemory", "certificates"}


class EditorLoader(yaml.SafeLoader):
    """YAML as editors have it: `:5000` is a text in flow style, and dates are texts too."""


@functools.cache
def validator() -> Draft202012Validator:
    return Draft202012Validator(json_schema())


def takes(document: Any) -> bool:
    return validator().is_valid(document)


def nested(path: str, value: Any) -> Any:
    for key in reversed(path.split(".")):
        value = {key: value}
    return value


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(json_schema())
    assert json_schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert json_schema() == json_schema()


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_it_takes_the_samples_that_the_server_takes(path: Path) -> None:
    document = yaml.load(path.read_text(), EditorLoader)
    assert takes(document) == (path.stem not in REFUSED)
    try:
        load(path, {}, {})
    except ConfigError:
        assert path.stem in REFUSED
    else:
        assert path.stem not in REFUSED


def test_there_are_samples() -> None:
    assert len(SAMPLES) == 12


def test_it_takes_a_configuration_that_has_everything(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_text(EVERYTHING)
    config = load(path, {}, {}).config
    assert takes(tree(config))
    assert takes(yaml.load(EVERYTHING.replace("<<", "x"), EditorLoader))


@pytest.mark.parametrize("document", [None, {}, {"log": None}, {"http": {"tls": None}}, {"auth": None}], ids=str)
def test_it_takes_what_is_empty(document: Any) -> None:
    assert takes(document)


@pytest.mark.parametrize("option", TABLE, ids=lambda option: option.path)
def test_it_takes_what_an_option_takes(option: Option) -> None:
    for text in values(option):
        assert takes(nested(option.path, yaml.load(text, EditorLoader))), text
        assert takes(nested(option.path, yaml.load(text, yaml.BaseLoader))), text
    assert takes(nested(option.path, None))
    assert takes(nested(option.path, ""))


@pytest.mark.parametrize("option", TABLE, ids=lambda option: option.path)
def test_it_takes_no_other_shape(option: Option) -> None:
    wrong: dict[str, list[Any]] = {
        "scalar": [[], {}],
        "list": [{"a": "b"}, [["a"]]],
        "map": [["a"], "a"],
        "lists": [["a"], "a"],
    }
    for value in wrong[option.spec.kind.shape]:
        assert not takes(nested(option.path, value))


TEXTS = [
    *("a", "0", "1", "-1", "1.5", "999999999", "1000000000", "00", "05", "5s", "1m30s", "500ms", "1m30", "1e3", "s"),
    *("4MiB", "4 kb", "4X", "10B", ":5000", "a:1", "[::1]:2", "5000", "a:b", "/", "/a", "/a/", "/a b", "true", "YES"),
    *("Off", "nope", "Auto", "http://a", "HTTPS://a:1/", "ftp://a", "http://a/b", "10.0.0.0/8", "fc00::/7", "x.y"),
    *("debug", "WARN", "tls1.0", "TLS1.3", "json", "0.1", "0.2", "require-and-verify-client-cert", "a\nb", "a\x7fb"),
]


@pytest.mark.parametrize("kind", sorted({option.spec.kind.name for option in TABLE}))
def test_texts_that_an_option_takes_are_those_that_the_schema_takes(kind: str) -> None:
    option = next(option for option in TABLE if option.spec.kind.name == kind)
    json = Draft202012Validator(dict(option.spec.kind.json))
    for text in TEXTS:
        try:
            option.spec.kind.parse(text)
        except BadValueError:
            # Patterns are looser where numbers have limits, and where an address has to be one.
            loose = kind in {"a duration", "a size", "a list of networks", "a path", "a list of paths"}
            assert loose or not json.is_valid(text), text
        else:
            assert json.is_valid(text), text


@pytest.mark.parametrize(
    ("path", "value", "is_taken"),
    [
        ("packs.settle", "soon", False),
        ("packs.settle", "1 s", False),
        ("packs.settle", -1, False),
        ("packs.settle", 1.5, True),
        ("packs.settle", True, False),
        ("limits.archive", "4 XB", False),
        ("limits.archive", 4, True),
        ("limits.archive", 0, False),
        ("limits.ratio", 0, False),
        ("limits.ratio", 2.5, False),
        ("http.workers", "auto", True),
        ("http.workers", 0, False),
        ("http.workers", 64, True),
        ("http.workers", "64", True),
        ("http.workers", 65, False),
        ("http.workers", "65", False),
        ("http.addr", "5000", False),
        ("http.addr", 5000, False),
        ("http.headers", {"X Y": "a"}, False),
        ("http.headers", {"X-A": "a"}, True),
        ("http.headers", {"X-A": ["a", 1]}, True),
        ("http.headers", {"X-A": {"b": "c"}}, False),
        ("log.fields", {"a": 1, "b": True, "c": "d"}, True),
        ("log.fields", {"a": ["b"]}, False),
        ("log.level", "INFO", True),
        ("log.level", "warning", False),
        ("log.accesslog.disabled", True, True),
        ("log.accesslog.disabled", "yes", True),
        ("log.accesslog.disabled", 1, False),
        ("version", 0.1, True),
        ("version", 0.2, False),
        ("http.tls.clientcas", "/ca", True),
        ("http.tls.letsencrypt.hosts", ["a"], False),
        ("http.tls.letsencrypt.hosts", [""], True),
        ("http.trustedproxies", ["proxy"], False),
        ("storage", "inmemory", True),
        ("storage", "InMemory", True),
        ("storage", "s3", False),
        ("storage", {"s3": None}, False),
        ("storage", {"inmemory": None, "filesystem": {}}, False),
        ("storage", {"inmemory": None, "delete": {"enabled": False}}, True),
        ("auth", "none", True),
        ("auth", "token", False),
        ("auth", {"token": {}}, False),
        ("auth", {"none": None, "htpasswd": {"path": "p"}}, False),
        ("auth", {"htpasswd": {"path": "p", "realm": 7}}, True),
        ("http.net", "tcp", True),
        ("http.net", "unix", False),
        ("storage.maintenance.readonly.enabled", False, True),
        ("storage.maintenance.readonly.enabled", True, False),
        ("http.tls.ciphersuites", [], True),
        ("http.tls.ciphersuites", ["a"], False),
        ("loglevel", "debug", True),
        ("loglevel", "x", False),
    ],
    ids=str,
)
def test_it_tells_good_values_from_bad_ones(path: str, value: Any, is_taken: bool) -> None:
    assert takes(nested(path, value)) == is_taken


@pytest.mark.parametrize("path", sorted(path for path, meaning in schema().items() if isinstance(meaning, Section)))
def test_unknown_keys_are_refused_everywhere(path: str) -> None:
    unknown = {"unknown": 1}
    assert not takes(nested(path, unknown) if path else unknown)


def test_every_key_is_described() -> None:
    found = json_schema()
    for path in [option.path for option in options()] + [*IGNORED, *UNSUPPORTED, *RENAMED]:
        assert _at(found, path)["description"]


def test_every_default_that_can_be_written_is_there_and_valid() -> None:
    found = json_schema()
    for option in options():
        at = _at(found, option.path)
        has_default = option.file_default not in (None, "unset")
        assert ("default" in at) == has_default
        if has_default:
            assert Draft202012Validator(at).is_valid(at["default"])
    assert _at(found, "http.addr")["default"] == ":5000"
    assert _at(found, "storage")["default"] == "filesystem"


def test_what_has_no_effect_is_deprecated() -> None:
    found = json_schema()
    for path in [*IGNORED, *RENAMED]:
        assert _at(found, path)["deprecated"] is True
    assert "deprecated" not in _at(found, "log.level")


def _at(found: dict[str, Any], path: str) -> dict[str, Any]:
    """The part of the schema that a dotted key has."""
    for key in path.split("."):
        section = found if "properties" in found else found["anyOf"][1]
        found = section["properties"][key]
    return found
