"""A configuration as a file again: it means the same, and says where each value is from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from packregistry.config import Config, Loaded, load, options
from packregistry.config.options import value_of
from packregistry.config.written import as_yaml, tree

# Every option but the drivers, each other than its default; what must be empty is.
EVERYTHING = """\
version: 0.1
log:
  level: warn
  formatter: json
  fields: {a: ":x", "b c": "null", "<<": "~", "": "#", d: "ä \\"\\\\ \\u2028 \\U0001f600", e: "- x", f: "1.0", g: yes}
  accesslog: {disabled: yes}
  audit: {disabled: true, path: /a b}
storage:
  filesystem: {rootdirectory: "d\\udc80"}
  delete: {enabled: off}
  sweep: {grace: 0, interval: 100ms200ms}
  uploads: {expire: 1h1m1s1ms}
http:
  addr: "[::1]:0"
  host: https://registry.example:8443
  prefix: /packs/
  trustedproxies: [10.0.0.0/8, "fc00::/7"]
  headers: {x-frame-options: [], X-XSS-Protection: [], Referrer-Policy: "a: b", X-A: ["'", '"a"', "", "[x]"]}
  workers: auto
  maxconnections: 7
  headertimeout: 1
  keepalivetimeout: 2
  stalltimeout: 3
  draintimeout: 0.25
  tls:
    certificate: ./c
    key: ../k
    clientcas: [/ca one, ~/ca]
    clientauth: verify-client-cert-if-given
    minimumtls: tls1.3
    letsencrypt: {cachefile: "", email: "", hosts: [""]}
  debug: {addr: ":5001", prometheus: {enabled: true, path: /m}}
auth:
  htpasswd: {realm: "My: Realm", path: users}
  admins: [root, "null", "true"]
  anonymous: read
  tokens: /t
  certificates: {subject: email, users: {"a@b": c, "x.y": z}}
packs: {directories: ["-", ".", /p], rescan: 1.5s, settle: 0}
limits: {archive: 1, expanded: 3KiB, ratio: 3, members: 4, path: 5, metadata: 6}
"""
UNCHANGED = {"version", "storage", "auth.policy"} | {f"http.tls.letsencrypt.{key}" for key in ("cachefile", "email")}


def read(folder: Path, text: str) -> Loaded:
    path = folder / "config.yml"
    path.write_text(text)
    return load(path, {}, {})


def again(folder: Path, config: Config) -> Config:
    """The configuration, written and read in each form there is."""
    path = folder / "again.yml"
    path.write_text(as_yaml(config, {}))
    with_origins = load(path, {}, {})
    path.write_text(as_yaml(config, None))
    plain = load(path, {}, {})
    path.write_text(json.dumps(tree(config)))
    as_json = load(path, {}, {})
    assert with_origins == plain == as_json
    assert plain.warnings == ()
    return plain.config


def test_every_option_comes_back(tmp_path: Path) -> None:
    config = read(tmp_path, EVERYTHING).config
    default = Config()
    same = {option.path for option in options() if value_of(config, option) == value_of(default, option)}
    assert same == UNCHANGED
    assert again(tmp_path, config) == config


@pytest.mark.parametrize("text", ["{}", "storage: inmemory", "auth: none", "auth: {htpasswd: {path: p}, policy: q}"])
def test_the_drivers_come_back(tmp_path: Path, text: str) -> None:
    config = read(tmp_path, text).config
    assert again(tmp_path, config) == config


def test_the_defaults_without_a_file_come_back_as_a_file(tmp_path: Path) -> None:
    assert again(tmp_path, Config()) == Config()


_TEXT = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=12)


@settings(deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fields=st.dictionaries(_TEXT, _TEXT, max_size=3), realm=_TEXT)
def test_any_text_comes_back(tmp_path: Path, fields: dict[str, str], realm: str) -> None:
    fields = {name: text for name, text in fields.items() if name == name.lower()}
    flags: dict[str, Any] = {"log.fields": fields or None, "auth.htpasswd.path": "p", "auth.htpasswd.realm": realm}
    config = load(None, {}, flags).config
    assert again(tmp_path, config) == config


def test_only_the_section_of_the_chosen_driver_is_written(tmp_path: Path) -> None:
    assert tree(read(tmp_path, "storage: inmemory\nauth: none").config)["storage"].keys() == {
        "inmemory",
        "delete",
        "sweep",
        "uploads",
    }
    unset = tree(Config())["auth"]
    assert unset.keys() == {"admins", "anonymous", "policy", "tokens", "certificates"}


def test_numbers_and_booleans_are_not_texts() -> None:
    found = tree(Config())
    assert found["http"]["maxconnections"] == 4096
    assert found["http"]["workers"] == 1
    assert found["log"]["accesslog"]["disabled"] is False
    assert found["limits"]["archive"] == "512MiB"
    assert found["http"]["draintimeout"] == "30s"
    assert found["http"]["tls"]["key"] is None


def test_each_value_says_where_it_is_from(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_text(
        "log: {level: warn, fields: {a: b}}\nstorage: inmemory\npacks: {directories: [x, y]}\nauth: {none: {}}\n"
        "http: {headers: {X-A: b, x-frame-options: []}}"
    )
    environ = {"REGISTRY_PACKS_DIRECTORIES_1": "z", "REGISTRY_LOG_FIELDS_C": "d", "PACKREGISTRY_WORKERS": "auto"}
    loaded = load(path, environ, {"http.addr": ":1"})
    lines = as_yaml(loaded.config, loaded.origins).splitlines()
    for line in (
        f"  level: warn  # {path}:1:14",
        "  formatter: text  # default",
        f"    a: b  # {path}:1:29",
        "    c: d  # environment variable REGISTRY_LOG_FIELDS_C",
        f"  inmemory: {{}}  # {path}:2:10",
        '  addr: ":1"  # --addr',
        "  workers: auto  # environment variable PACKREGISTRY_WORKERS",
        f"    X-A: [b]  # {path}:5:18",
        f"    X-Frame-Options: []  # {path}:5:17",
        "    Referrer-Policy: [same-origin]  # default",
        f"  none: {{}}  # {path}:4:8",
        "  admins:",
        "    - admin  # default",
        "  policy:  # default",
        "  directories:",
        f"    - ./x  # {path}:3:23",
        "    - ./z  # environment variable REGISTRY_PACKS_DIRECTORIES_1",
        "packs:",
    ):
        assert line in lines


def test_the_driver_that_was_chosen_says_where_it_is_from() -> None:
    loaded = load(None, {"REGISTRY_STORAGE": "filesystem"}, {})
    lines = as_yaml(loaded.config, loaded.origins).splitlines()
    assert "  filesystem:  # environment variable REGISTRY_STORAGE" in lines
    assert "  filesystem:  # default" in as_yaml(Config(), {}).splitlines()


def test_an_origin_stays_on_its_line(tmp_path: Path) -> None:
    folder = tmp_path / "a\nb"
    folder.mkdir()
    loaded = read(folder, "log: {level: warn}")
    assert r"a\nb/config.yml:1:14" in as_yaml(loaded.config, loaded.origins)


def test_what_is_hidden_is_asked_for_each_text() -> None:
    config = load(None, {}, {"log.fields": {"a": "b"}, "http.headers": {"X-A": ["c"]}, "auth.admins": ["d"]}).config
    asked = {}

    def hide(path: str, text: str) -> str:
        asked[path] = text
        return "*"

    found = tree(config, hide)
    assert (found["log"]["fields"], found["http"]["headers"]["X-A"], found["auth"]["admins"]) == (
        {"a": "*"},
        ["*"],
        ["*"],
    )
    assert (asked["log.fields.a"], asked["http.headers.X-A"], asked["auth.admins.0"]) == ("b", "c", "d")
    assert (asked["http.workers"], found["http"]["workers"]) == ("1", "*")


def test_other_parsers_read_the_same(tmp_path: Path) -> None:
    config = read(tmp_path, EVERYTHING.replace("\\udc80", "").replace("<<", "x")).config
    written = yaml.load(as_yaml(config, {}), yaml.BaseLoader)
    expected = tree(config)
    assert written["log"]["fields"] == expected["log"]["fields"]
    assert written["http"]["headers"] == expected["http"]["headers"]
    assert written["auth"]["admins"] == ["root", "null", "true"]
