"""What files of the legacy server and its ancestor have, and this server does not: ignored, renamed or refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from packregistry.config import Config, ConfigError, Loaded, load
from packregistry.config.legacy import HARMLESS, IGNORED, RENAMED, UNSUPPORTED


def nested(path: str, value: str) -> str:
    """YAML that has `value` under a dotted key."""
    for key in reversed(path.split(".")):
        value = f"{{{key}: {value}}}"
    return value


def loaded(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> Loaded:
    path = folder / "config.yml"
    path.write_text(text)
    return load(path, environ or {}, {})


def refused(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, text, environ)
    return [line.removeprefix(f"{folder}/config.yml:") for line in caught.value.problems]


@pytest.mark.parametrize("path", sorted(IGNORED))
def test_what_has_no_effect_is_a_warning_with_the_reason(tmp_path: Path, path: str) -> None:
    value = {"http.net": "tcp", "storage.maintenance.readonly.enabled": "false"}.get(path, "{x: [y]}")
    text = nested(path, value)
    found = loaded(tmp_path, text)
    assert found.config == loaded(tmp_path, "{}").config
    column = text.index(value) + 1
    assert found.warnings == (f"{tmp_path}/config.yml:1:{column}: {path}: has no effect: {IGNORED[path]}",)


@pytest.mark.parametrize("path", sorted(set(IGNORED) - set(HARMLESS)))
def test_a_variable_of_what_has_no_effect_is_a_warning(path: str) -> None:
    name = f"REGISTRY_{path}_ANY".upper().replace(".", "_")
    assert load(None, {name: "x"}, {}) == Loaded(
        Config(), (f"environment variable {name}: {path}: has no effect: {IGNORED[path]}",)
    )


# All that Distribution's reference lists and that is harmless here.
@pytest.mark.parametrize(
    "text",
    [
        "log: {hooks: [{type: mail, levels: [panic], options: {smtp: {addr: a:25}, from: a, to: [b]}}]}",
        "log: {reportcaller: true}",
        "storage: {filesystem: {rootdirectory: /d, maxthreads: 100}}",
        "storage: {filesystem: {}, tag: {concurrencylimit: 8}}",
        "storage: {filesystem: {}, redirect: {disable: false}}",
        "storage: {filesystem: {}, cache: {blobdescriptor: redis, blobdescriptorsize: 10000}}",
        "storage: {filesystem: {}, maintenance: {uploadpurging: {enabled: true, age: 168h, dryrun: false}}}",
        "storage: {filesystem: {}, maintenance: {readonly: {enabled: false}}}",
        "middleware: {registry: [{name: a, options: {foo: bar}}], storage: [{name: redirect}]}",
        "http: {net: tcp}",
        "http: {secret: a}",
        "http: {relativeurls: false}",
        "http: {http2: {disabled: false}}",
        "http: {h2c: {enabled: true}}",
        "notifications: {events: {includereferences: true}, endpoints: [{name: a, url: 'https://a', timeout: 1s}]}",
        "redis: {tls: {certificate: a}, addrs: ['localhost:6379'], password: a, db: 0, poolsize: 64}",
        "health: {storagedriver: {enabled: true}, file: [{file: /f}], http: [{uri: 'http://a'}], tcp: [{addr: a:1}]}",
        "validation: {manifests: {urls: {allow: ['^https?://'], deny: [x]}, indexes: {platforms: List}}}",
        "compatibility: {schema1: {signingkeyfile: /k, enabled: true}}",
        "reporting: {bugsnag: {apikey: a}, newrelic: {licensekey: b, verbose: true}}",
        "catalog: {maxentries: 1000}",
        "policy: {repository: {classes: [image]}}",
    ],
)
def test_a_harmless_section_of_the_ancestor_is_one_warning(tmp_path: Path, text: str) -> None:
    (warning,) = loaded(tmp_path, text).warnings
    assert ": has no effect: " in warning


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "storage: {maintenance: {readonly: {enabled: true}}}",
            "1:45: storage.maintenance.readonly.enabled: the registry cannot be made read-only here (deny changes with",
        ),
        (
            "storage: {maintenance: {readonly: {enabled: maybe}}}",
            '1:45: storage.maintenance.readonly.enabled: "maybe" is neither true nor false',
        ),
        (
            "storage: {maintenance: {purging: {}}}",
            "1:25: storage.maintenance.purging: unknown key (did you mean uploadpurging?)",
        ),
        ("http: {net: unix}", '1:13: http.net: "unix" is not one of tcp (listen on TCP, and have a proxy in front)'),
        (
            "http: {tls: {ciphersuites: [TLS_AES_128_GCM_SHA256]}}",
            "1:28: http.tls.ciphersuites: cipher suites cannot be",
        ),
        (
            "http: {tls: {minimumtls: tls1.0}}",
            '1:26: http.tls.minimumtls: "tls1.0" is not one of tls1.2, tls1.3 (it is broken',
        ),
        (
            "http: {tls: {clientauth: request-client-cert}}",
            '1:26: http.tls.clientauth: "request-client-cert" is not one',
        ),
        (
            "http: {tls: {letsencrypt: {directoryurl: 'https://a'}}}",
            "1:42: http.tls.letsencrypt.directoryurl: Let's Encrypt is not supported yet: use certificate and key",
        ),
        (
            "proxy: {remoteurl: 'https://a', username: b, ttl: 1h}",
            "1:8: proxy: the registry does not fetch from another one: leave it out, and push the packs",
        ),
        ("storage: {azure: {container: a}}", "1:18: storage.azure: Azure storage is not supported: use filesystem"),
        ("storage: gcs", "1:10: storage: Google Cloud storage is not supported: use filesystem"),
        ("auth: {token: {realm: a}}", "1:15: auth.token: token authentication is not supported: use htpasswd or none"),
        ("auth: {silly: {realm: a}}", "1:15: auth.silly: silly authentication is not supported: use htpasswd or none"),
        ("log: {formatter: logstash}", '1:18: log.formatter: "logstash" is not one of text, json (use json)'),
    ],
)
def test_what_would_mean_something_else_if_it_were_ignored_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    (found,) = refused(tmp_path, text)
    assert found.startswith(problem)


@pytest.mark.parametrize(
    "path", sorted(path for path in UNSUPPORTED if path.partition(".")[0] not in {"storage", "auth"})
)
@pytest.mark.parametrize("value", ["", "{}", "[]", "''", "{a: '', b: []}"])
def test_a_section_that_cannot_be_had_may_be_empty(tmp_path: Path, path: str, value: str) -> None:
    assert loaded(tmp_path, nested(path, value)).warnings == ()


@pytest.mark.parametrize("path", sorted(UNSUPPORTED))
def test_a_variable_of_what_cannot_be_had_is_refused(tmp_path: Path, path: str) -> None:
    name = f"REGISTRY_{path}_ANY".upper().replace(".", "_")
    assert refused(tmp_path, "{}", {name: "x"}) == [f"environment variable {name}: {path}: {UNSUPPORTED[path]}"]


@pytest.mark.parametrize(
    ("text", "environ", "is_refused"),
    [
        ("storage: {s3: {}}", {"REGISTRY_STORAGE": "inmemory"}, False),
        ("storage: {s3: {}}", {"REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": "/x"}, True),
        ("storage: {s3: {}, filesystem: {}}", {}, True),
        ("storage: {filesystem: {}}", {"REGISTRY_STORAGE_S3_BUCKET": "b"}, True),
        ("{}", {"REGISTRY_STORAGE": "filesystem", "REGISTRY_STORAGE_S3_BUCKET": "b"}, False),
        ("auth: {token: {}}", {"REGISTRY_AUTH": "none"}, False),
        ("auth: {token: {}}", {"REGISTRY_STORAGE": "inmemory"}, True),
        ("auth: {token: {}}", {}, True),
    ],
)
def test_a_driver_that_cannot_be_had_is_refused_unless_a_variable_chooses_another(
    tmp_path: Path, text: str, environ: dict[str, str], is_refused: bool
) -> None:
    if is_refused:
        assert "is not supported" in refused(tmp_path, text, environ)[0]
    else:
        (warning,) = loaded(tmp_path, text, environ).warnings
        assert ": has no effect, because " in warning


def test_the_former_name_of_an_option_works_with_a_warning(tmp_path: Path) -> None:
    found = loaded(tmp_path, "loglevel: warn")
    assert found.config.log.level == "warn"
    assert found.warnings == (f"{tmp_path}/config.yml:1:11: loglevel: is the former name of log.level (write that)",)
    assert load(None, {"REGISTRY_LOGLEVEL": "warn"}, {}).config.log.level == "warn"
    assert set(RENAMED.values()) == {"log.level"}


@pytest.mark.parametrize("text", ["loglevel: warn\nlog: {level: error}", "log: {level: error}\nloglevel: warn"])
def test_the_name_of_an_option_wins_over_its_former_name(tmp_path: Path, text: str) -> None:
    assert loaded(tmp_path, text).config.log.level == "error"
    assert loaded(tmp_path, text, {"REGISTRY_LOGLEVEL": "debug"}).config.log.level == "debug"


def test_keys_without_effect_are_not_offered(tmp_path: Path) -> None:
    (problem,) = refused(tmp_path, "log: [x]")
    assert problem == "1:6: log: must be a map of keys (known: level, formatter, fields, accesslog, audit)"
    (problem,) = refused(tmp_path, "qqq: x")
    assert problem == "1:1: qqq: unknown key (known: version, log, storage, http, auth, packs, limits)"


@pytest.mark.parametrize(
    "name", ["REGISTRY_REDIS_SERVICE_HOST", "REGISTRY_PROXY_PORT_80_TCP_ADDR", "REGISTRY_HEALTH_SERVICE_PORT"]
)
def test_variables_of_a_kubernetes_service_are_none_of_the_ancestors(name: str) -> None:
    (warning,) = load(None, {name: "10.0.0.1"}, {}).warnings
    assert "made by Kubernetes for a Service" in warning


def test_a_port_of_a_kubernetes_service_is_told_from_that_of_storage() -> None:
    (warning,) = load(None, {"REGISTRY_PROXY_PORT": "tcp://10.0.0.1:80"}, {}).warnings
    assert "made by Kubernetes for a Service" in warning
    with pytest.raises(ConfigError, match="S3 storage is not supported yet"):
        load(None, {"REGISTRY_STORAGE_S3_PORT": "9000"}, {})
