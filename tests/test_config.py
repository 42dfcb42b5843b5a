"""What the server can be told: read from a file, variables and flags, or refused with every problem located."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from packregistry.config import Address, Config, ConfigError, Loaded, Option, load, markdown_table, options
from packregistry.config.settings import DEFAULT_HEADERS

NO_TOKEN = "while scanning for the next token, found character"
VENDOR_SAMPLE = """\
version: 0.1
log: {level: info, fields: {service: registry}}
storage:
  cache: {blobdescriptor: inmemory}
  filesystem: {rootdirectory: /data/.spectro-server}
http:
  addr: :5000
  headers: {X-Content-Type-Options: [nosniff], Strict-Transport-Security:
    [max-age=63072000; includeSubdomains; preload],
    Content-Security-Policy: ["img-src 'self'; script-src 'self'; style-src 'self'"], X-Frame-Options: [DENY],
    X-XSS-Protection: [1; mode=block], Referrer-Policy: [same-origin]}
  tls:
    certificate:
    key:
    clientcas: []
    minimumtls: tls1.2
    letsencrypt: {cachefile: "", email: "", hosts: []}
auth:
  htpasswd: {realm: basic-realm, path: /auth/htpasswd-basic}
"""


def read(
    folder: Path,
    text: str | bytes = "{}",
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
) -> Loaded:
    """Load a file config.yml with `text` in it."""
    path = folder / "config.yml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load(path, environ or {}, flags or {})


def problems(
    folder: Path,
    text: str | bytes = "{}",
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
) -> list[str]:
    """The problems of a file config.yml with `text` in it, with the folder left out."""
    with pytest.raises(ConfigError) as caught:
        read(folder, text, environ, flags)
    return [line.replace(f"{folder}/", "") for line in caught.value.problems]


def of_environment(environ: Mapping[str, str]) -> Config:
    """The configuration without a file."""
    return load(None, environ, {}).config


# Defaults and precedence


def test_without_a_file_the_defaults_suit_one_machine() -> None:
    config = load(None, {}, {}).config
    assert config == Config()
    assert str(config.http.addr) == "127.0.0.1:5000"
    assert config.storage.driver == "filesystem"
    assert config.storage.filesystem.rootdirectory == Path(".packregistry")
    assert config.packs.directories == (Path("packs"),)
    assert config.auth.mode == "unset"
    assert config.http.headers == DEFAULT_HEADERS


def test_with_a_file_the_defaults_are_those_of_the_legacy_server(tmp_path: Path) -> None:
    config = read(tmp_path).config
    assert str(config.http.addr) == ":5000"
    assert config.storage.filesystem.rootdirectory == Path("/data/.spectro-server")
    assert config.packs.directories == ()
    assert config.http.headers == DEFAULT_HEADERS


def test_the_defaults_of_times_sizes_and_counts() -> None:
    config = Config()
    assert (config.packs.rescan, config.packs.settle, config.http.draintimeout) == (30.0, 2.0, 30.0)
    assert dataclasses.astuple(config.limits) == (512 << 20, 1 << 30, 200, 20_000, 512, 4 << 20)
    assert config.storage.delete.enabled
    assert not config.log.accesslog.disabled


def test_the_vendors_sample_loads_as_it_is(tmp_path: Path) -> None:
    loaded = read(tmp_path, VENDOR_SAMPLE)
    config = loaded.config
    assert config.log.fields == {"service": "registry"}
    assert config.http.addr == Address("", 5000)
    assert config.http.headers == DEFAULT_HEADERS
    assert config.http.tls.certificate is None
    assert config.auth.mode == "htpasswd"
    assert config.auth.htpasswd.path == Path("/auth/htpasswd-basic")
    assert [line.replace(f"{tmp_path}/", "") for line in loaded.warnings] == [
        "config.yml:4:10: storage.cache: has no effect: pack records are always kept in memory"
    ]


def test_environment_beats_file_and_flag_beats_environment(tmp_path: Path) -> None:
    text = "log: {level: debug}\nhttp: {addr: 'a:1'}\npacks: {directories: [a], rescan: 1}"
    environ = {"REGISTRY_HTTP_ADDR": "b:2", "REGISTRY_PACKS_DIRECTORIES": "b"}
    flags = {"packs.directories": (Path("c"), "d"), "log.level": None, "packs.rescan": None}
    config = read(tmp_path, text, environ, flags).config
    assert config.log.level == "debug"
    assert config.http.addr == Address("b", 2)
    assert config.packs.directories == (Path("c"), Path("d"))
    assert config.packs.rescan == 1


def test_an_empty_repeatable_flag_is_not_there() -> None:
    assert load(None, {"REGISTRY_PACKS_DIRECTORIES": "b"}, {"packs.directories": ()}).config.packs.directories == (
        Path("b"),
    )


def test_flags_take_the_values_of_a_configuration() -> None:
    flags: dict[str, object] = {
        "http.addr": Address("::1", 0),
        "log.accesslog.disabled": True,
        "storage.delete.enabled": False,
        "packs.settle": 0.0,
        "limits.archive": 7,
        "http.headers": {"X-A": ("1", "2")},
        "storage": "inmemory",
    }
    config = load(None, {}, flags).config
    assert (config.http.addr, config.packs.settle, config.limits.archive) == (Address("::1", 0), 0.0, 7)
    assert (config.log.accesslog.disabled, config.storage.delete.enabled) == (True, False)
    assert config.http.headers["X-A"] == ("1", "2")
    assert config.storage.driver == "inmemory"


def test_a_flag_nobody_declared_is_a_mistake_of_the_program() -> None:
    with pytest.raises(KeyError):
        load(None, {}, {"http.adr": "x"})


@pytest.mark.parametrize(
    ("key", "value", "where"),
    [("http.addr", "x", "--addr: http.addr: "), ("limits.ratio", 0, "command line: limits.r")],
)
def test_a_bad_flag_is_named(key: str, value: object, where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, {}, {key: value})
    assert str(caught.value).startswith(where)


# Values


@pytest.mark.parametrize(
    ("text", "host", "port", "is_loopback"),
    [
        (":5000", "", 5000, False),
        ("127.0.0.1:0", "127.0.0.1", 0, True),
        ("127.3.2.1:65535", "127.3.2.1", 65535, True),
        ("LocalHost:80", "LocalHost", 80, True),
        ("[::1]:5000", "::1", 5000, True),
        ("[::]:5000", "::", 5000, False),
        ("192.168.122.77:25000", "192.168.122.77", 25000, False),
        ("0.0.0.0:1", "0.0.0.0", 1, False),
        ("my_host-1.example.com:443", "my_host-1.example.com", 443, False),
    ],
)
def test_an_address_is_read_and_written_back(text: str, host: str, port: int, is_loopback: bool) -> None:
    address = of_environment({"REGISTRY_HTTP_ADDR": text}).http.addr
    assert (address.host, address.port, address.is_loopback) == (host, port, is_loopback)
    assert str(address) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("5000", '"5000" is not HOST:PORT (write ":5000" to listen on every interface)'),
        ("localhost", '"localhost" is not HOST:PORT (add the port: localhost:5000)'),
        ("http://a:1", '"http://a:1" is not HOST:PORT (write the host and the port alone, without http:// and without'),
        ("::1:80", '"::1:80" is not HOST:PORT (write an IPv6 address in brackets: [::1]:80)'),
        ("a:b", '"a:b" is not HOST:PORT (write host:port, or :port for every interface)'),
        ("a:b:c", '"a:b:c" is not HOST:PORT (write host:port, or :port for every interface)'),
        ("a:65536", "port 65536 is out of range (use 0 to 65535)"),
        ("256.0.0.1:1", '"256.0.0.1" is not an IPv4 address'),
        ("127.1:1", '"127.1" is not an IPv4 address'),
        ("[::g]:1", '"::g" is not an IPv6 address'),
        ("[]:1", '"" is not an IPv6 address'),
        ("-a:1", '"-a" is not a host name or IP address'),
        ("a b:1", '"a b" is not a host name or IP address'),
    ],
)
def test_a_bad_address_is_refused_with_what_to_write(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        of_environment({"REGISTRY_HTTP_ADDR": text})
    assert f"environment variable REGISTRY_HTTP_ADDR: http.addr: {message}" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("1.5", 1.5), ("30s", 30), ("1m30s", 90), ("500ms", 0.5), ("1.5h", 5400), ("8760h", 31_536_000)],
)
def test_a_duration_is_seconds(tmp_path: Path, text: str, seconds: float) -> None:
    assert read(tmp_path, f"packs: {{settle: {text}}}").config.packs.settle == seconds


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("settle", "-1", '"-1" is not a duration (write seconds, or like 500ms, 30s, 1m30s, 2h)'),
        ("settle", "1m30", '"1m30" is not a duration (write'),
        ("settle", "1e3", '"1e3" is not a duration'),
        ("settle", ".inf", '".inf" is not a duration'),
        ("settle", "8761h", '"8761h" is too long (use at most 8760h)'),
        ("rescan", "0s", '"0s" is no time at all (use more than 0)'),
        ("rescan", "[1]", "must be a duration, not a list"),
    ],
)
def test_a_bad_duration_is_refused(tmp_path: Path, key: str, text: str, message: str) -> None:
    (problem,) = problems(tmp_path, f"packs:\n  {key}: {text}")
    assert problem.startswith(f"config.yml:2:11: packs.{key}: {message}")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("512K", 524_288),
        ("4MiB", 4_194_304),
        ("10MB", 10_000_000),
        ("1.5 kib", 1536),
        ("2g", 2 << 30),
        ("3TB", 3 * 10**12),
        ("8B", 8),
    ],
)
def test_a_size_is_bytes(text: str, size: int) -> None:
    assert of_environment({"REGISTRY_LIMITS_ARCHIVE": text}).limits.archive == size


@pytest.mark.parametrize("text", ["-1", "0", "0.1", "1 X", "MiB", "1PiB", "9" * 5000, "1_000", "٣"])
def test_a_bad_size_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^environment variable REGISTRY_LIMITS_PATH: limits\.path: .*bytes?"):
        of_environment({"REGISTRY_LIMITS_PATH": text})


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "1e3", "9" * 10, "x"])
def test_a_bad_count_is_refused(tmp_path: Path, text: str) -> None:
    (problem,) = problems(tmp_path, f"limits: {{ratio: {text}}}")
    assert problem.startswith(f'config.yml:1:17: limits.ratio: "{text}" is not a count (write a whole number from 1')


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("Yes", True), ("ON", True), ("'true'", True), ("false", False), ("no", False), ("off", False)],
)
def test_a_boolean_is_what_yaml_says(tmp_path: Path, text: str, value: bool) -> None:
    config = read(tmp_path, f"log: {{accesslog: {{disabled: {text}}}}}").config
    assert config.log.accesslog.disabled is value


def test_a_bad_boolean_is_refused(tmp_path: Path) -> None:
    assert problems(tmp_path, "storage: {delete: {enabled: 1}}") == [
        'config.yml:1:29: storage.delete.enabled: "1" is neither true nor false (write true or false)'
    ]


@pytest.mark.parametrize(("length", "cut"), [(60, False), (61, True)])
def test_a_long_value_is_cut_in_messages_and_its_letters_are_kept(length: int, cut: bool) -> None:
    with pytest.raises(ConfigError) as caught:
        of_environment({"REGISTRY_LIMITS_RATIO": "ü" * length})
    assert f'"{"ü" * 60}{"…" * cut}" is not a count' in str(caught.value)


def test_texts_are_taken_as_they_are_written(tmp_path: Path) -> None:
    text = "log: {fields: {build: 1.10, id: 0123, on: yes}}\nauth: {htpasswd: {realm: 007, path: 1.0}}"
    config = read(tmp_path, text).config
    assert config.log.fields == {"build": "1.10", "id": "0123", "on": "yes"}
    assert config.auth.htpasswd.realm == "007"
    assert config.auth.htpasswd.path == Path("1.0")


def test_choices_are_read_in_whatever_case(tmp_path: Path) -> None:
    config = read(tmp_path, "log: {level: WARN, formatter: Json}\nstorage: InMemory\nauth: None").config
    assert (config.log.level, config.log.formatter) == ("warn", "json")
    assert (config.storage.driver, config.auth.mode) == ("inmemory", "none")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "log: {level: warning}",
            '1:14: log.level: "warning" is not one of debug, info, warn, error (did you mean warn?)',
        ),
        ("log: {formatter: x}", '1:18: log.formatter: "x" is not one of text, json (known: text, json)'),
        ("log: {level: {}}", "1:14: log.level: must be one of debug, info, warn, error, not a map"),
        ("version: 0.2", '1:10: version: "0.2" is not one of 0.1 (did you mean 0.1?)'),
        (
            "http: {tls: {minimumtls: tls1.0}}",
            '1:26: http.tls.minimumtls: "tls1.0" is not one of tls1.2, tls1.3 (it is',
        ),
        (
            "http: {tls: {minimumtls: TLS1.1}}",
            '1:26: http.tls.minimumtls: "TLS1.1" is not one of tls1.2, tls1.3 (it is',
        ),
        ("log: {fields: [a]}", "1:15: log.fields: must be a map of texts, not a list"),
        ("log: {fields: a}", '1:15: log.fields: must be a map of texts, not "a"'),
        ("log: {fields: {a: }}", "1:18: log.fields.a: must be a text, not nothing"),
        ("log: {fields: {a: [b]}}", "1:19: log.fields.a: must be a text, not a list"),
        (r'log: {fields: {a: "b\nc"}}', r'1:19: log.fields.a: "b\nc" has a line break or another control character'),
        (
            r'log: {fields: {a: "\ud800"}}',
            r'1:19: log.fields.a: "\ud800" has a line break or another control character',
        ),
        ("log: {fields: {a: b, A: c}}", "1:22: log.fields.A: is given twice (names are the same in whatever case)"),
        ("packs: {directories: {a: b}}", "1:22: packs.directories: must be a text, not a map"),
        ("packs: {directories: [a, [b]]}", "1:26: packs.directories: must be a text, not a list"),
        ("packs: {directories: ['']}", '1:23: packs.directories: "" is not a path'),
        (r'packs: {directories: ["a\0"]}', r'1:23: packs.directories: "a\u0000" is not a path'),
        (r'packs: {directories: ["\ud800"]}', r'1:23: packs.directories: "\ud800" is not a path'),
        ("http: {headers: {'X Y': a}}", '1:18: http.headers: "X Y" is not the name of an HTTP header'),
        (r'http: {headers: {X: "a\r\nb"}}', r'1:21: http.headers.X: "a\r\nb" has a line break'),
        (r'http: {headers: {X: [a, "\n"]}}', r'1:25: http.headers.X: "\n" has a line break'),
        ("http: {headers: {X: }}", "1:20: http.headers.X: must be a text, not nothing"),
        ("http: {headers: {X: {a: b}}}", "1:21: http.headers.X: must be a text, not a map"),
        ("http: {headers: {X: a, x: b}}", "1:24: http.headers.x: is given twice"),
    ],
)
def test_a_value_of_the_wrong_kind_is_located(tmp_path: Path, text: str, problem: str) -> None:
    (found,) = problems(tmp_path, text)
    assert found.startswith(f"config.yml:{problem}")


@pytest.mark.parametrize("text", ["", "~", "null", '""'], ids=["nothing", "tilde", "null", "empty text"])
def test_a_key_without_a_value_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    keys = ("log", "storage", "auth", "packs")
    nested = f"http:\n  addr: {text}\n  headers: {text}\n  tls: {{certificate: {text}}}\nlimits: {{ratio: {text}}}\n"
    loaded = read(tmp_path, "".join(f"{key}: {text}\n" for key in keys) + nested)
    assert loaded == read(tmp_path)


def test_a_list_may_be_one_text(tmp_path: Path) -> None:
    assert read(tmp_path, "packs:\n  directories: a,b").config.packs.directories == (Path("a,b"),)


# Headers


def test_headers_replace_the_default_of_their_name_and_an_empty_list_removes_it(tmp_path: Path) -> None:
    text = "http: {headers: {x-frame-options: SAMEORIGIN, X-XSS-Protection: [], X-New: [a, b]}}"
    headers = read(tmp_path, text).config.http.headers
    expected = dict(DEFAULT_HEADERS) | {"x-frame-options": ("SAMEORIGIN",), "X-New": ("a", "b")}
    del expected["X-Frame-Options"], expected["X-XSS-Protection"]
    assert headers == expected


def test_header_variables_come_over_the_file_by_name(tmp_path: Path) -> None:
    environ = {
        "REGISTRY_HTTP_HEADERS_X_FRAME_OPTIONS": "SAMEORIGIN",
        "REGISTRY_HTTP_HEADERS_Access-Control-Allow-Methods": "GET, HEAD",
        "REGISTRY_HTTP_HEADERS_X-XSS-Protection": "[]",
        "REGISTRY_HTTP_HEADERS": "{X-A: env, Referrer-Policy: ['no-referrer', b]}",
    }
    headers = read(tmp_path, "http: {headers: {X-A: file, X-B: file, X-Frame-Options: x}}", environ).config.http.headers
    assert headers["X-FRAME-OPTIONS"] == ("SAMEORIGIN",)
    assert "X-Frame-Options" not in headers
    assert "X-XSS-Protection" not in headers
    assert headers["Access-Control-Allow-Methods"] == ("GET, HEAD",)
    assert headers["Referrer-Policy"] == ("no-referrer", "b")
    assert (headers["X-A"], headers["X-B"]) == (("env",), ("file",))


@pytest.mark.parametrize(
    ("header", "value", "warning"),
    [
        (
            "Content-Security-Policy",
            "img-src 'self",
            "has an unbalanced ', and browsers take no notice of a word with one (write [\"img-src 'self'\"])",
        ),
        ("content-security-policy-report-only", "img-src self'; a b", "(write [\"img-src 'self'; a b\"])"),
        (
            "Content-Security-Policy",
            "img-src ' self",
            "has an unbalanced ', and browsers take no notice of a word with one (close it)",
        ),
        ("Content-Security-Policy", "img-src 'self " + "x" * 400, "a word with one (close it)"),
        ("Content-Security-Policy", "img-src 'self'", ""),
        ("X-Note", "it's", ""),
        ("X-Note", '6" disk', 'has an unbalanced " (close it)'),
    ],
    ids=["end", "begin", "neither", "long", "balanced", "apostrophe", "double"],
)
def test_an_unbalanced_quote_in_a_header_is_warned_of(tmp_path: Path, header: str, value: str, warning: str) -> None:
    loaded = read(tmp_path, f"http:\n  headers:\n    {header}: {value}")
    assert loaded.config.http.headers[header] == (value,)
    if warning:
        (found,) = loaded.warnings
        assert found.startswith(f"{tmp_path}/config.yml:3:5: http.headers.{header}: has an unbalanced")
        assert found.endswith(warning)
    else:
        assert loaded.warnings == ()


# Drivers


@pytest.mark.parametrize(
    ("text", "driver"),
    [
        ("inmemory", "inmemory"),
        ("{inmemory: {}}", "inmemory"),
        ("{inmemory: }", "inmemory"),
        ("filesystem", "filesystem"),
        ("{filesystem: {rootdirectory: /x}}", "filesystem"),
        ("{delete: {enabled: false}}", "filesystem"),
    ],
)
def test_the_storage_driver_is_named_by_text_or_by_key(tmp_path: Path, text: str, driver: str) -> None:
    assert read(tmp_path, f"storage: {text}").config.storage.driver == driver


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("", "unset"),
        ("auth: none", "none"),
        ("auth: {none: }", "none"),
        ("auth: {htpasswd: {path: p}}", "htpasswd"),
    ],
    ids=["absent", "none", "none as a key", "htpasswd"],
)
def test_open_by_choice_is_told_from_nothing_said(tmp_path: Path, text: str, mode: str) -> None:
    assert read(tmp_path, f"version: 0.1\n{text}").config.auth.mode == mode


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("storage: s3", "1:10: storage: S3 storage is not supported yet: use filesystem"),
        ("storage: {s3: {bucket: b}}", "1:15: storage.s3: S3 storage is not supported yet: use filesystem"),
        ("storage: {s3: }", "1:14: storage.s3: S3 storage is not supported yet: use filesystem"),
        (
            "storage: {filesystem: {}, inmemory: }",
            "1:27: storage: names filesystem and inmemory (leave one of them)",
        ),
        ("storage: [inmemory]", "1:10: storage: must be a map of keys (known: "),
        ("storage: files", '1:10: storage: "files" is not one of filesystem, inmemory (did you mean filesystem?)'),
        ("storage: {inmemory: yes}", "1:21: storage.inmemory: must be a map of keys (leave it empty)"),
        ("storage: {inmemory: {a: 1}}", "1:22: storage.inmemory.a: unknown key (leave it out)"),
        ("auth: silly", "1:7: auth: silly authentication is not supported: use htpasswd or none"),
        ("auth: {token: {realm: r}}", "1:15: auth.token: token authentication is not supported: use htpasswd or none"),
        ("auth: unset", '1:7: auth: "unset" is not one of none, htpasswd ('),
        ("auth: htpasswd", "1:7: auth.htpasswd.path: is required (name the file with the users)"),
        ("auth: {htpasswd: {path: }}", "1:8: auth.htpasswd.path: is required (name the file with the users)"),
        ("auth: {none: , htpasswd: {path: p}}", "1:16: auth: names none and htpasswd (leave one of them)"),
        ("http: {tls: {certificate: c}}", "1:27: http.tls.certificate: is given without http.tls.key (give both)"),
        ("http: {tls: {key: k}}", "1:19: http.tls.key: is given without http.tls.certificate (give both)"),
        (
            "http: {tls: {letsencrypt: {email: e}}}",
            "1:35: http.tls.letsencrypt.email: Let's Encrypt is not supported yet",
        ),
        (
            "http: {tls: {letsencrypt: {hosts: [h]}}}",
            "1:36: http.tls.letsencrypt.hosts: Let's Encrypt is not supported",
        ),
        (
            "http: {tls: {letsencrypt: {cachefile: c}}}",
            "1:39: http.tls.letsencrypt.cachefile: Let's Encrypt is not supp",
        ),
    ],
)
def test_what_cannot_be_had_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    (found,) = problems(tmp_path, text)
    assert found.startswith(f"config.yml:{problem}")


def test_an_empty_host_name_asks_for_no_certificate(tmp_path: Path) -> None:
    assert read(tmp_path, "http: {tls: {letsencrypt: {hosts: ['']}}}").config.http.tls.letsencrypt.hosts == ("",)


def test_a_bad_path_is_one_problem_not_two(tmp_path: Path) -> None:
    text = r'{auth: {htpasswd: {path: "a\n"}}, http: {tls: {certificate: c, key: "a\n"}}}'
    assert [line.partition(": ")[2].partition(":")[0] for line in problems(tmp_path, text)] == [
        "auth.htpasswd.path",
        "http.tls.key",
    ]


@pytest.mark.parametrize(
    ("tls", "problem"),
    [
        ("clientcas: [ca]", "http.tls.clientcas: has no effect without http.tls.certificate (give both, or neither)"),
        (
            "certificate: c, key: k, clientauth: verify-client-cert-if-given",
            "http.tls.clientauth: has no effect without http.tls.clientcas (give both, or neither)",
        ),
    ],
)
def test_client_certificates_are_not_demanded_in_vain(tmp_path: Path, tls: str, problem: str) -> None:
    (found,) = problems(tmp_path, f"http: {{tls: {{{tls}}}}}")
    assert found.partition(": ")[2] == problem


def test_a_bad_certificate_is_not_one_that_is_not_there(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, r'http: {tls: {certificate: "a\n", key: k, clientcas: [ca]}}')
    assert "http.tls.certificate" in found


@pytest.mark.parametrize(("text", "warned"), [("tls1.3", 1), ("tls1.2", 0)])
def test_a_version_of_tls_without_a_certificate_is_a_warning(tmp_path: Path, text: str, warned: int) -> None:
    """The vendor's file has the default, and no certificate."""
    warnings = read(tmp_path, f"http: {{tls: {{minimumtls: {text}}}}}").warnings
    assert len(warnings) == warned
    assert all(line.endswith("http.tls.minimumtls: has no effect without http.tls.certificate") for line in warnings)


def test_certificate_and_key_may_come_from_different_sources(tmp_path: Path) -> None:
    environ = {"REGISTRY_HTTP_TLS_KEY": "k", "REGISTRY_HTTP_TLS_CLIENTCAS_0": "ca"}
    tls = read(tmp_path, "http: {tls: {certificate: c, minimumtls: tls1.3}}", environ).config.http.tls
    assert (tls.certificate, tls.key, tls.clientcas, tls.minimumtls) == (Path("c"), Path("k"), (Path("ca"),), "tls1.3")


def test_a_variable_switches_the_driver_of_the_file(tmp_path: Path) -> None:
    text = "storage: {filesystem: {rootdirectory: /x}, delete: {enabled: false}}\nauth: {htpasswd: {path: p}}"
    loaded = read(tmp_path, text, {"REGISTRY_STORAGE": "inmemory", "REGISTRY_AUTH": "none"})
    assert (loaded.config.storage.driver, loaded.config.auth.mode) == ("inmemory", "none")
    assert not loaded.config.storage.delete.enabled
    assert loaded.warnings == ()


def test_switching_back_keeps_what_the_file_says_of_the_driver(tmp_path: Path) -> None:
    config = read(tmp_path, "storage: {filesystem: {rootdirectory: /x}}", {"REGISTRY_STORAGE": "filesystem"}).config
    assert config.storage.filesystem.rootdirectory == Path("/x")


def test_something_set_of_a_driver_chooses_it_when_none_is_named() -> None:
    environ = {"REGISTRY_AUTH_HTPASSWD_PATH": "p", "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": "r"}
    config = of_environment(environ)
    assert (config.auth.mode, config.auth.htpasswd.path) == ("htpasswd", Path("p"))
    assert (config.storage.driver, config.storage.filesystem.rootdirectory) == ("filesystem", Path("r"))


def test_a_realm_alone_asks_for_the_path() -> None:
    with pytest.raises(ConfigError, match=r"REGISTRY_AUTH_HTPASSWD_REALM: auth\.htpasswd\.path: is required"):
        of_environment({"REGISTRY_AUTH_HTPASSWD_REALM": "r"})


def test_setting_something_of_a_driver_that_the_file_does_not_name_is_refused(tmp_path: Path) -> None:
    environ = {"REGISTRY_AUTH_HTPASSWD_PATH": "p"}
    flags = {"storage.filesystem.rootdirectory": "r"}
    assert problems(tmp_path, "storage: inmemory\nauth: none", environ, flags) == [
        (
            "--data: storage.filesystem.rootdirectory: has no effect, because storage is inmemory (config.yml:1:10)"
            " (set REGISTRY_STORAGE=filesystem as well, or leave this out)"
        ),
        (
            "environment variable REGISTRY_AUTH_HTPASSWD_PATH: auth.htpasswd.path: has no effect, because auth is none"
            " (config.yml:2:7) (set REGISTRY_AUTH=htpasswd as well, or leave this out)"
        ),
    ]


def test_variables_that_name_one_driver_and_set_another_are_warned_of() -> None:
    loaded = load(None, {"REGISTRY_STORAGE": "inmemory", "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": "/x"}, {})
    assert loaded.config.storage.driver == "inmemory"
    (warning,) = loaded.warnings
    assert warning == (
        "environment variable REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY: storage.filesystem.rootdirectory: "
        "has no effect, because storage is inmemory (environment variable REGISTRY_STORAGE)"
    )


# Keys


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("htp: {}", "1:1: htp: unknown key (did you mean http?)"),
        ("http:\n  adress: x", "2:3: http.adress: unknown key (did you mean addr?)"),
        ("http: {Headers: {}}", "1:8: http.Headers: unknown key (did you mean headers?)"),
        (
            "storage: {filesystem: {rootdir: x}}",
            "1:24: storage.filesystem.rootdir: unknown key (did you mean rootdirec",
        ),
        ("rescan: 3", "1:1: rescan: unknown key (did you mean packs.rescan?)"),
        ("packs: {zzz: 1}", "1:9: packs.zzz: unknown key (known: directories, rescan, settle)"),
        ("log: 3", "1:6: log: must be a map of keys (known: level, formatter, fields, accesslog, audit)"),
        ("[a]", "1:1: must be a map of keys (known: "),
        ("text", "1:1: must be a map of keys (known: "),
        ("log:\n  level: info\n  level: warn", '3:3: key "level" is given twice (the first is at config.yml:2:3)'),
        ("http: {http2: {a: 1, a: 2}}", '1:22: key "a" is given twice (the first is at config.yml:1:16)'),
        ("? [a]\n: b", "1:3: a key must be a text"),
        ("log: !!python/name:os.system x", '1:6: tag "tag:yaml.org,2002:python/name:os.system" is not supported'),
        ("log: {level: !secret x}", '1:14: tag "!secret" is not supported (leave it out)'),
        ("log: &a {fields: *a}", "1:6: this anchor contains itself"),
        ("log: {<<: 3}", "1:11: << takes a map or a list of maps"),
        ("log: {<<: [3]}", "1:12: << takes a map or a list of maps"),
    ],
)
def test_a_bad_key_is_located(tmp_path: Path, text: str, problem: str) -> None:
    (found,) = problems(tmp_path, text)
    assert found.startswith(f"config.yml:{problem}")


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    environ = {"REGISTRY_LOG_LEVEL": "x", "REGISTRY_NOPE": "x", "REGSITRY_AUTH_HTPASSWD_PATH": "p"}
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, "log: {level: y}\nauth: htpasswd\nnope: 1", environ, {"http.addr": "x"})
    assert len(caught.value.problems) == 6
    assert str(caught.value) == "\n".join(caught.value.problems)
    assert caught.value.warnings == (
        "environment variable REGSITRY_AUTH_HTPASSWD_PATH: has no effect (did you mean REGISTRY_AUTH_HTPASSWD_PATH?)",
    )


def test_a_bad_file_does_not_hide_a_bad_variable(tmp_path: Path) -> None:
    assert len(problems(tmp_path, "a: [", {"REGISTRY_LOG_LEVEL": "x"})) == 2


# YAML


@pytest.mark.parametrize(
    ("text", "addr"),
    [
        ("http: {addr: :5000}", ":5000"),
        ("http: {addr: :5000, net: tcp}", ":5000"),
        ('{"http":{"addr":":5000"}}', ":5000"),
        ('{"http":{"addr":"a:1"}}', "a:1"),
        ("http: {addr: a:1}", "a:1"),
        ("http: {addr : a:1}", "a:1"),
        ("http:\n  addr: :5000", ":5000"),
        ("? http\n: {? addr : :5000}", ":5000"),
    ],
)
def test_an_address_needs_no_quotes(tmp_path: Path, text: str, addr: str) -> None:
    assert str(read(tmp_path, text).config.http.addr) == addr


def test_a_list_in_flow_style_may_have_texts_with_a_colon_first(tmp_path: Path) -> None:
    assert read(tmp_path, "packs: {directories: [:a, b]}").config.packs.directories == (Path(":a"), Path("b"))


def test_anchors_and_merge_keys_work(tmp_path: Path) -> None:
    text = """\
log: {fields: &f {a: 1, b: 2}}
http: {headers: {<<: [*f, {b: 3, c: 4}], a: 0}}
"""
    headers = read(tmp_path, text).config.http.headers
    assert (headers["a"], headers["b"], headers["c"]) == (("0",), ("2",), ("4",))


def test_a_document_that_multiplies_itself_costs_nothing(tmp_path: Path) -> None:
    lines = ["http: {http2: [", "&a0 [x]"]
    lines += [f", &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 40)]
    assert len(read(tmp_path, " ".join([*lines, "]}"])).warnings) == 1


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    assert read(tmp_path, b"\xef\xbb\xbflog: {level: warn}").config.log.level == "warn"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"", "config.yml: is empty (write {} to have the defaults)"),
        (b"# nothing\n", "config.yml: is empty (write {} to have the defaults)"),
        (b"~", "config.yml: is empty (write {} to have the defaults)"),
        (b"log: {}\na: \xff\n", "config.yml:2:4: is not UTF-8 text (save the file as UTF-8)"),
        (b"\n\xff", "config.yml:2:1: is not UTF-8 text (save the file as UTF-8)"),
        (b"\n\x01", "config.yml:2:1: is not YAML: special characters are not allowed: U+0001"),
        (b"a: 1\nb: \x01", "config.yml:2:4: is not YAML: special characters are not allowed: U+0001"),
        (b"a: b: c", "config.yml:1:5: is not YAML: mapping values are not allowed here"),
        (b"a: [b\nc: d", "config.yml:2:2: is not YAML: while parsing a flow sequence, expected ',' or ']'"),
        (b"a: *b", "config.yml:1:4: is not YAML: found undefined alias 'b'"),
        (b"--- a\n--- b", "config.yml:2:1: is not YAML: expected a single document in the stream, but found another"),
        (b'a: "\\UFFFFFFFF"', "config.yml:1:7: is not YAML: "),
        (b"[\n" * 2_000, "config.yml:101:1: is not YAML: it is nested too deeply"),
        (
            b"http:\n\taddr: :5000",
            f"config.yml:2:1: is not YAML: {NO_TOKEN} '\\t' that cannot start any token (indent with spaces, not",
        ),
        (
            b"http:\n  addr: @a",
            f"config.yml:2:9: is not YAML: {NO_TOKEN} '@' that cannot start any token (write the value in quotes)",
        ),
        (b"#" * 2 * 1024**2, "config.yml: is larger than 1048576 bytes (is it the right file?)"),
        (b"#" * (1024**2 + 1), "config.yml: is larger than 1048576 bytes (is it the right file?)"),
    ],
    ids=lambda value: repr(value[:20]) if isinstance(value, bytes) else "",
)
def test_a_file_that_is_not_a_document_is_refused(tmp_path: Path, text: bytes, problem: str) -> None:
    (found,) = problems(tmp_path, text)
    assert found.startswith(problem)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "http:\n  headers:\n    X-A: [\"a 'b'\"]\n    X-B: [\"img-src 'self'; style-src 'self']\n  addr: :5000\n",
            "4:11: is not YAML: the \" here is not closed (write X-B: [\"img-src 'self'; style-src 'self'\"])",
        ),
        ('a: "it\'s" # 5" wide\nb: {\'x\nc: d', "2:5: is not YAML: the ' here is not closed (close it)"),
        ('auth: {htpasswd: {path: "/users}}\n', '1:25: is not YAML: the " here is not closed (close it)'),
        (
            'auth:\n  - path: "/users\n  - b: "c"\n',
            '2:11: is not YAML: the " here is not closed (write path: "/users")',
        ),
        (
            "a: &x !!str 'b'c",
            "1:13: is not YAML: the ' here is closed too early, in column 15 (write the whole value in double quotes)",
        ),
        ("a: 'b' # 'c\nd: 'e'f", "2:4: is not YAML: the ' here is closed too early, in column 6 (write d: \"e'f\")"),
        ("a: [x,'b' c]", "1:7: is not YAML: the ' here is closed too early, in column 9 (write the whole"),
        ('a: ["x, y]', '1:5: is not YAML: the " here is not closed (close it)'),
        ('a: "' + "x" * 400, '1:4: is not YAML: the " here is not closed (close it)'),
        ('a:\n  ? "b', '2:5: is not YAML: the " here is not closed (close it)'),
    ],
    ids=[
        "double",
        "single",
        "flow map",
        "list",
        "anchor",
        "after a comment",
        "second item",
        "two items",
        "long",
        "question mark",
    ],
)
def test_a_quote_without_its_other_half_is_located(tmp_path: Path, text: str, problem: str) -> None:
    (found,) = problems(tmp_path, text)
    assert found.startswith(f"config.yml:{problem}")


@pytest.mark.parametrize(
    "text",
    [
        'a: "it\'s \\" b"\nb: c: d\ne: 5" wide',
        "a: it's\nb: c: d",
        "a: |\n  'b\n\n  \"c\nb: c: d",
        'a: >-\n  "b c\n\nb: c: d',
        "a: 'b\n  c'\nb: c: d",
        "a: [b, 'c,''d']\nb: c: d",
        "a: b,'c\nb: c: d",
        "a: b[c,'d\nb: c: d",
        "a: {b: [c], 'd': e}\nb: c: d",
        "b: c: d\ne: 'f",
        "a: 'b' \nb: c: d",
        "- - 'a'\n  - -'b\n  - c: d: e",
        "a:'b\nb: c: d",
    ],
)
def test_other_mistakes_are_not_blamed_on_quotes(tmp_path: Path, text: str) -> None:
    (found,) = problems(tmp_path, text)
    assert " here is " not in found
    assert "mapping values are not allowed here" in found


def test_lines_may_end_as_on_windows(tmp_path: Path) -> None:
    assert read(tmp_path, b"log:\r\n  level: warn\r\nhttp: {addr: ':1'}\r\n").config.log.level == "warn"
    assert problems(tmp_path, b"log:\r\n  level: x\r\n")[0].startswith("config.yml:2:10: log.level: ")
    assert problems(tmp_path, b"log:\r\n  level: 'x\r\n")[0] == (
        'config.yml:2:10: is not YAML: the \' here is not closed (write level: "x")'
    )


@pytest.mark.parametrize("text", ["0.1", "'0.1'", '"0.1"'])
def test_the_version_may_be_a_number_or_a_text(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, f"version: {text}") == read(tmp_path)


def test_a_file_that_may_not_be_read_is_refused_with_who_may_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config.yml"

    def refuse(self: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(ConfigError) as caught:
        load(path, {}, {})
    assert caught.value.problems == (f"{path}: cannot be read: Permission denied (let uid 12345 read it)",)


def test_the_largest_file_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("packregistry.config.document.FILE_MAX", len("log: {level: warn}"))
    assert read(tmp_path, "log: {level: warn}").config.log.level == "warn"
    assert "is larger than" in problems(tmp_path, "log: {level: debug}")[0]


def test_a_missing_file_a_directory_and_a_broken_path_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, message in [
        (tmp_path / "no.yml", "no.yml: there is no such file"),
        (tmp_path, f"{tmp_path.name}: this is a directory (name the file in it)"),
        (tmp_path / "file" / "x", "x: cannot be read: Not a directory"),
        (Path("a\0b"), r"a\u0000b: cannot be read: embedded null byte"),
    ]:
        with pytest.raises(ConfigError) as caught:
            load(path, {}, {})
        assert str(caught.value).endswith(message)


# Variables


def test_variables_of_others_are_none_of_ours() -> None:
    environ = {"PATH": "/bin", "REGION": "x", "R": "", "REGISTRIES_CONF": "x", "REPOSITORY_LOG_LEVEL": "x", "_": ""}
    assert load(None, environ, {}) == Loaded(Config(), ())


@pytest.mark.parametrize(
    ("text", "directories"),
    [
        ("[a, 'b,c']", ["a", "b,c"]),
        ("a b", ["a b"]),
        ('"a,b"', ["a,b"]),
        ("[]", []),
    ],
)
def test_a_list_variable_is_a_yaml_list_or_one_text(text: str, directories: list[str]) -> None:
    config = of_environment({"REGISTRY_PACKS_DIRECTORIES": text})
    assert [str(path) for path in config.packs.directories] == directories


def test_items_by_index_go_over_those_of_the_file(tmp_path: Path) -> None:
    items = {f"REGISTRY_PACKS_DIRECTORIES_{n}": f"e{n}" for n in range(1, 12)}
    config = read(tmp_path, "packs: {directories: [f0, f1]}", items).config
    assert [str(path) for path in config.packs.directories] == ["f0", *(f"e{n}" for n in range(1, 12))]


def test_an_item_by_index_leaves_those_around_it(tmp_path: Path) -> None:
    config = read(tmp_path, "packs: {directories: [a, b, c]}", {"REGISTRY_PACKS_DIRECTORIES_1": "x"}).config
    assert config.packs.directories == (Path("a"), Path("x"), Path("c"))


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"DIRECTORIES_1": "x"}, "DIRECTORIES_1: packs.directories: there is no item 0 before this one"),
        ({"DIRECTORIES": "a,b"}, "DIRECTORIES: has a comma in it (write a YAML list: [first, second])"),
        ({"DIRECTORIES_0": "\x01x"}, r'DIRECTORIES_0: packs.directories: "\u0001x" is not a path'),
        ({"DIRECTORIES": "[a"}, "DIRECTORIES: is not YAML: while parsing a flow sequence"),
        (
            {"DIRECTORIES_0000": "a"},
            "DIRECTORIES_0000: there is no such option (did you mean REGISTRY_PACKS_DIRECTORIES?)",
        ),
        ({"DIRECTORIES_A": "a"}, "DIRECTORIES_A: there is no such option (did you mean REGISTRY_PACKS_DIRECTORIES?)"),
    ],
    ids=["gap", "comma", "bad item", "bad YAML", "long index", "no index"],
)
def test_a_bad_list_variable_is_refused(environ: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        of_environment({f"REGISTRY_PACKS_{name}": text for name, text in environ.items()})
    assert str(caught.value).startswith(f"environment variable REGISTRY_PACKS_{message}")


def test_a_variable_may_set_a_whole_section_and_others_parts_of_it() -> None:
    environ = {"REGISTRY_LOG": "{level: warn, formatter: json}", "REGISTRY_LOG_LEVEL": "error"}
    log = of_environment(environ).log
    assert (log.level, log.formatter) == ("error", "json")
    with pytest.raises(ConfigError, match=r"environment variable REGISTRY_HTTP: http\.ad: unknown key"):
        of_environment({"REGISTRY_HTTP": "{ad: x}"})


def test_log_fields_have_lower_case_names() -> None:
    environ = {"REGISTRY_LOG_FIELDS": "{service: a, x: b}", "REGISTRY_LOG_FIELDS_SERVICE": "[c"}
    assert of_environment(environ).log.fields == {"service": "[c", "x": "b"}


@pytest.mark.parametrize(
    ("text", "realm"),
    [
        ('"Pack Registry"', "Pack Registry"),
        ("'a'", "a"),
        (" a: #b ", "a: #b"),
        ("{x", "{x"),
        ('"', '"'),
        ('""', "basic-realm"),
    ],
)
def test_a_text_variable_is_taken_as_it_is_but_for_quotes_around_it(text: str, realm: str) -> None:
    environ = {"REGISTRY_AUTH_HTPASSWD_REALM": text, "REGISTRY_AUTH_HTPASSWD_PATH": "p"}
    assert of_environment(environ).auth.htpasswd.realm == realm


def test_an_empty_variable_is_warned_of(tmp_path: Path) -> None:
    loaded = read(tmp_path, "log: {level: warn}", {"REGISTRY_LOG_LEVEL": " "})
    assert loaded.config.log.level == "warn"
    assert loaded.warnings == ("environment variable REGISTRY_LOG_LEVEL: is empty and has no effect (unset it)",)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("REGISTRY_LOGLEVELS", "did you mean REGISTRY_LOG_LEVEL?"),
        ("REGISTRY_AUTH_HTPASWD_PATH", "did you mean REGISTRY_AUTH_HTPASSWD_PATH?"),
        ("REGISTRY_LOG_LEVEL_0", "did you mean REGISTRY_LOG_LEVEL?"),
        ("REGISTRY_QQ_QQ", "unset it"),
        ("REGISTRY_PORT", "unset it"),
    ],
)
def test_an_unknown_variable_is_refused(name: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as caught:
        of_environment({name: "5000"})
    assert str(caught.value) == f"environment variable {name}: there is no such option ({remedy})"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("STORAGE", "storage: S3 storage is not supported yet: use filesystem"),
        ("STORAGE_S3_BUCKET", "storage.s3: S3 storage is not supported yet: use filesystem"),
        ("AUTH_TOKEN_REALM", "auth.token: token authentication is not supported: use htpasswd or none"),
        ("HTTP_TLS_LETSENCRYPT_HOSTS_0", "http.tls.letsencrypt.hosts: Let's Encrypt is not supported yet: use certif"),
    ],
)
def test_a_variable_cannot_have_what_the_file_cannot(name: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        of_environment({f"REGISTRY_{name}": "s3"})
    assert str(caught.value).startswith(f"environment variable REGISTRY_{name}: {message}")


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("REGSITRY_AUTH_HTPASSWD_REALM", "REGISTRY_AUTH_HTPASSWD_REALM"),
        ("REGISTERY_LOG_LEVEL", "REGISTRY_LOG_LEVEL"),
        ("registry_log_level", "REGISTRY_LOG_LEVEL"),
        ("REGSITRY_AUTH_HTPASSWD_REALMS", "REGISTRY_AUTH_HTPASSWD_REALM"),
        ("REGSITRY_PACKS_DIRECTORIES_0", "REGISTRY_PACKS_DIRECTORIES_0"),
    ],
)
def test_a_near_miss_of_the_prefix_is_warned_of(name: str, right: str) -> None:
    loaded = load(None, {name: "x"}, {})
    assert loaded == Loaded(Config(), (f"environment variable {name}: has no effect (did you mean {right}?)",))


def test_the_variables_of_a_kubernetes_service_are_one_warning() -> None:
    environ = {
        "REGISTRY_PORT": "tcp://10.0.0.1:5000",
        "REGISTRY_PORT_5000_TCP": "tcp://10.0.0.1:5000",
        "REGISTRY_PORT_5000_TCP_ADDR": "10.0.0.1",
        "REGISTRY_PORT_5000_TCP_PORT": "5000",
        "REGISTRY_PORT_5000_TCP_PROTO": "tcp",
        "REGISTRY_SERVICE_HOST": "10.0.0.1",
        "REGISTRY_SERVICE_PORT": "5000",
        "REGISTRY_SERVICE_PORT_HTTP": "5000",
        "REGISTRY_UI_PORT": "tcp://10.0.0.2:80",
        "REGISTRY_UI_SERVICE_HOST": "10.0.0.2",
    }
    loaded = load(None, environ, {})
    assert loaded.config == Config()
    (warning,) = loaded.warnings
    assert warning == (
        f"environment variables {', '.join(sorted(environ))}: made by Kubernetes for a Service, no effect"
        " (set enableServiceLinks: false in the pod to be rid of them)"
    )


@pytest.mark.parametrize(
    ("names", "start"),
    [
        (["REGISTRY_SERVICE_HOST"], "environment variable REGISTRY_SERVICE_HOST: made"),
        (["REGISTRY_SERVICE_HOST", "REGISTRY_SERVICE_PORT"], "environment variables REGISTRY_SERVICE_HOST, REG"),
    ],
    ids=["one", "two"],
)
def test_a_warning_of_service_variables_counts_them(names: list[str], start: str) -> None:
    (warning,) = load(None, dict.fromkeys(names, "1"), {}).warnings
    assert warning.startswith(start)


def test_the_credentials_file_of_podman_is_no_mistake() -> None:
    (warning,) = load(None, {"REGISTRY_AUTH_FILE": "/run/auth.json"}, {}).warnings
    assert warning == ("environment variable REGISTRY_AUTH_FILE: has no effect: it is for podman, buildah and skopeo")


# Declarations


def test_every_option_has_a_row_in_the_table() -> None:
    rows = markdown_table().splitlines()
    assert len(rows) == len(options()) + 2
    assert all(row.count("|") - row.count("\\|") == 6 for row in rows)
    for option, row in zip(options(), rows[2:], strict=True):
        assert row.startswith(f"| `{option.path}` | `{option.variable}` | ")
        assert option.spec.help in row
        assert option.spec.flag in row


def test_the_table_shows_both_defaults_and_the_choices() -> None:
    table = markdown_table()
    for text in (
        "| `--addr` | `127.0.0.1:5000`; with a configuration file `:5000` |",
        "| `--packs` | `[./packs]`; with a configuration file `[]` |",
        "| `--data` | `./.packregistry`; with a configuration file `/data/.spectro-server` |",
        "| `REGISTRY_AUTH` |  | not set |",
        "(one of `debug`, `info`, `warn`, `error`) |",
        "| `512MiB` |",
        "| `1GiB` |",
        "| `512` |",
        "| `30s` |",
        "X-Frame-Options: [DENY]",
    ):
        assert text in table


@pytest.mark.parametrize(
    "option",
    [option for option in options() if option.default not in (None, "", "unset")],
    ids=lambda option: option.path,
)
def test_every_default_can_be_written_down(option: Option) -> None:
    """What the table shows of an option, given to it in a variable, is its default."""
    environ = {option.variable: option.spec.kind.render(option.default)}
    users = {"auth.htpasswd.path": "users"} if option.path.startswith("auth.htpasswd") else {}
    assert load(None, environ, users).config == load(None, {}, users).config


@pytest.mark.parametrize("option", options(), ids=lambda option: option.path)
def test_no_option_can_be_changed_later(option: Option) -> None:
    *sections, name = option.attribute.split(".")
    holder: object = Config()
    for section in sections:
        holder = getattr(holder, section)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(holder, name, option.default)


def test_keys_variables_and_flags_are_each_unique() -> None:
    for names in (
        [option.path for option in options()],
        [option.variable for option in options()],
        [option.attribute for option in options()],
        [option.spec.flag for option in options() if option.spec.flag],
    ):
        assert len(names) == len(set(names))


@pytest.mark.parametrize(("seconds", "shown"), [(0.0, "0s"), (30.0, "30s"), (0.25, "0.25s"), (100.0, "100s")])
def test_a_duration_is_shown_as_it_is_read(seconds: float, shown: str) -> None:
    (settle,) = (option for option in options() if option.path == "packs.settle")
    assert settle.spec.kind.render(seconds) == shown


# Properties

_WORDS = st.sampled_from(
    sorted(
        {part for option in options() for part in option.path.split(".")} | {"s3", "cache", "none", "htpasswd", "<<"}
    )
)
_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.dates()
    | st.binary(max_size=4)
    | _WORDS
    | st.sampled_from([":5000", "[::1]:0", "1m", "4MiB", "tls1.3", "0.1"])
)
_DOCUMENTS = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS | st.text(max_size=4), inner, max_size=5),
    max_leaves=20,
)
_QUICK = settings(
    max_examples=60, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def told(folder: Path, text: str, environ: Mapping[str, str]) -> Sequence[str]:
    """What is said of a configuration that is loaded or refused; of one that is refused something is."""
    path = folder / "any.yml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        return load(path, environ, {}).warnings
    except ConfigError as error:
        return error.problems or ("not one problem\n",)


@_QUICK
@given(document=_DOCUMENTS, flow=st.booleans())
def test_any_document_loads_or_is_refused(tmp_path: Path, document: object, flow: bool) -> None:
    assert all(line.isprintable() for line in told(tmp_path, yaml.dump(document, default_flow_style=flow), {}))


@_QUICK
@given(text=st.text() | st.text(alphabet="{}[]:,-?&*!|>'\"%@# \n\tab<", max_size=30))
def test_any_text_loads_or_is_refused(tmp_path: Path, text: str) -> None:
    assert all(line.isprintable() for line in told(tmp_path, text, {}))


@_QUICK
@given(option=st.sampled_from(options()), rest=st.sampled_from(["", "_0", "_1", "_A"]), text=st.text(max_size=12))
def test_any_variable_loads_or_is_refused(tmp_path: Path, option: Option, rest: str, text: str) -> None:
    assert all(line.isprintable() for line in told(tmp_path, "{}", {option.variable + rest: text}))
