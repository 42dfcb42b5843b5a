"""The samples of the vendor's guide: each file and each command line loads unchanged, or says what cannot be had.

They are in `tests/data/config`: keys and values as the guide has them, its misprints included.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from packregistry.config import Address, Config, ConfigError, load
from packregistry.config.settings import DEFAULT_HEADERS

SAMPLES = Path(__file__).parent / "data" / "config"
ACME = "Let's Encrypt is not supported yet: use certificate and key"
MISPRINT = "img-src 'self'; script-src 'self';  style-src 'self"
POLICY_WARNING = (
    "http.headers.Content-Security-Policy: has an unbalanced ', and browsers take no notice of a word with one "
    f'(write ["{MISPRINT}\'"])'
)
EARLY = "the ' here is closed too early, in column"
CACHE_WARNING = "storage.cache: has no effect: pack records are always kept in memory"


def loaded(name: str, **environ: str) -> tuple[Config, list[str]]:
    """The configuration of a sample, and the warnings about it with line and column alone."""
    path = SAMPLES / f"{name}.yml"
    found = load(path, environ, {})
    return found.config, [warning.removeprefix(f"{path}:") for warning in found.warnings]


def refused(name: str, **environ: str) -> list[str]:
    """What is wrong with a sample, with line and column alone."""
    path = SAMPLES / f"{name}.yml"
    with pytest.raises(ConfigError) as caught:
        load(path, environ, {})
    return [problem.removeprefix(f"{path}:") for problem in caught.value.problems]


def test_the_configuration_in_the_image_loads_with_its_misprint() -> None:
    config, warnings = loaded("default")
    assert config.log.fields == {"service": "registry"}
    assert (config.storage.driver, config.auth.mode) == ("filesystem", "htpasswd")
    assert config.storage.filesystem.rootdirectory == Path("/data/.spectro-server")
    assert config.http.addr == Address("", 5000)
    assert config.http.headers == {**DEFAULT_HEADERS, "Content-Security-Policy": (MISPRINT,)}
    assert (config.auth.htpasswd.realm, config.auth.htpasswd.path) == ("basic-realm", Path("/auth/htpasswd-basic"))
    assert warnings == [f"7:5: {CACHE_WARNING}", f"15:5: {POLICY_WARNING}"]


def test_the_headers_load_with_their_misprint() -> None:
    config, warnings = loaded("headers")
    assert config.http.headers["Content-Security-Policy"] == (MISPRINT,)
    assert warnings == [f"5:5: {POLICY_WARNING}"]


def test_the_level_and_the_fields_of_the_log_load() -> None:
    config, warnings = loaded("log")
    assert (config.log.level, config.log.fields, warnings) == ("info", {"environment": "test"}, [])


def test_a_variable_overrides_the_level_of_the_log() -> None:
    assert loaded("log", REGISTRY_LOG_LEVEL="debug")[0].log.level == "debug"


def test_storage_in_files_loads() -> None:
    config, warnings = loaded("filesystem")
    assert config.storage.filesystem.rootdirectory == Path("/tmp/registry/data/.spectro-server")
    assert warnings == [f"3:5: {CACHE_WARNING}"]


def test_storage_in_memory_loads() -> None:
    config, warnings = loaded("inmemory")
    assert (config.storage.driver, warnings) == ("inmemory", [])


def test_storage_in_s3_is_refused_by_name() -> None:
    assert refused("s3") == ["5:5: storage.s3: S3 storage is not supported yet: use filesystem"]


def test_storage_in_s3_is_overridden_by_a_variable() -> None:
    config, warnings = loaded("s3", REGISTRY_STORAGE="filesystem", REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY="/data")
    assert (config.storage.driver, config.storage.filesystem.rootdirectory) == ("filesystem", Path("/data"))
    switched = "storage.s3: has no effect, because storage is filesystem (environment variable REGISTRY_STORAGE)"
    assert warnings == [f"3:5: {CACHE_WARNING}", f"5:5: {switched}"]


def test_users_in_a_file_load() -> None:
    config, warnings = loaded("htpasswd")
    assert (config.auth.mode, config.auth.htpasswd.path, warnings) == ("htpasswd", Path("/auth/htpasswd-basic"), [])


@pytest.mark.parametrize(
    ("name", "address"),
    [("address", Address("", 5000)), ("one-address", Address("192.168.122.77", 25000))],
)
def test_an_address_loads(name: str, address: Address) -> None:
    config, warnings = loaded(name)
    assert (config.http.addr, warnings) == (address, [])


@pytest.mark.parametrize(
    ("name", "places"),
    [("letsencrypt", ("5:18", "6:14", "8:11")), ("letsencrypt-inmemory", ("9:18", "10:14", "12:9"))],
)
def test_certificates_of_lets_encrypt_are_refused_by_name(name: str, places: tuple[str, ...]) -> None:
    keys = ("cachefile", "email", "hosts")
    expected = [f"{place}: http.tls.letsencrypt.{key}: {ACME}" for place, key in zip(places, keys, strict=True)]
    assert refused(name) == expected


def test_certificates_in_files_load_when_the_version_of_tls_is_filled_in(tmp_path: Path) -> None:
    assert refused("certificates") == [
        '6:17: http.tls.minimumtls: "minimum tls version to use" is not one of tls1.2, tls1.3 (known: tls1.2, tls1.3)'
    ]
    filled = tmp_path / "config.yml"
    text = (SAMPLES / "certificates.yml").read_text()
    filled.write_text(text.replace("minimum tls version to use", "tls1.3"))
    found = load(filled, {}, {})
    tls = found.config.http.tls
    assert tls.certificate == Path("/path/to/x509/certificate/file")
    assert tls.key == Path("/pat/to/x509/key/file/which contains/private key/for x509 certificate above")
    assert tls.clientcas == (Path("/path/to/file/with one or more/CA certificates encoded as PEM"),)
    assert (tls.minimumtls, found.warnings) == ("tls1.3", ())


HTTP = {
    "REGISTRY_LOG_LEVEL": "info",
    "REGISTRY_AUTH": "htpasswd",
    "REGISTRY_AUTH_HTPASSWD_REALM": "Registry Realm",
    "REGISTRY_AUTH_HTPASSWD_PATH": "/auth/htpasswd-basic",
}
HTTPS = HTTP | {"REGISTRY_HTTP_TLS_CERTIFICATE": "/certs/tls.crt", "REGISTRY_HTTP_TLS_KEY": "/certs/tls.key"}


@pytest.mark.parametrize("environ", [HTTP, HTTPS], ids=["http", "https"])
def test_the_variables_of_the_command_lines_go_over_the_file_in_the_image(environ: dict[str, str]) -> None:
    config, warnings = loaded("default", **environ)
    assert (config.auth.mode, config.auth.htpasswd.realm) == ("htpasswd", "Registry Realm")
    assert config.http.tls.certificate == (Path("/certs/tls.crt") if environ is HTTPS else None)
    assert len(warnings) == 2


def test_the_misspelt_variable_of_the_command_line_is_named() -> None:
    environ = {
        name.replace("REGISTRY_AUTH_HTPASSWD_R", "REGSITRY_AUTH_HTPASSWD_R"): text for name, text in HTTPS.items()
    }
    config, warnings = loaded("default", **environ)
    assert config.auth.htpasswd.realm == "basic-realm"
    assert (
        "environment variable REGSITRY_AUTH_HTPASSWD_REALM: has no effect (did you mean REGISTRY_AUTH_HTPASSWD_REALM?)"
        in (warnings)
    )


def test_the_realm_and_the_level_alone_override_the_file_in_the_image() -> None:
    environ = {
        "REGISTRY_LOG_LEVEL": "debug",
        "REGISTRY_AUTH": "htpasswd",
        "REGISTRY_AUTH_HTPASSWD_REALM": "My Enterprise Realm",
    }
    config, _ = loaded("default", **environ)
    assert (config.log.level, config.auth.htpasswd.realm) == ("debug", "My Enterprise Realm")
    assert config.auth.htpasswd.path == Path("/auth/htpasswd-basic")


@pytest.mark.parametrize(
    ("line", "place", "message"),
    [
        (
            "    Content-Security-Policy: [\"img-src 'self'; style-src 'self]",
            "5:31",
            "the \" here is not closed (write Content-Security-Policy: [\"img-src 'self'; style-src 'self'\"])",
        ),
        (
            "    Content-Security-Policy: ['img-src 'self'; style-src 'self']",
            "5:31",
            f"{EARLY} 40 (write Content-Security-Policy: [\"img-src 'self'; style-src 'self'\"])",
        ),
        (
            "    Content-Security-Policy: 'img-src 'self'; style-src 'self",
            "5:30",
            f"{EARLY} 39 (write Content-Security-Policy: \"img-src 'self'; style-src 'self'\")",
        ),
    ],
    ids=["double", "single in a list", "single"],
)
def test_a_policy_whose_quotes_are_no_yaml_is_shown_as_it_must_read(
    tmp_path: Path, line: str, place: str, message: str
) -> None:
    path = tmp_path / "config.yml"
    lines = (SAMPLES / "headers.yml").read_text().splitlines()
    path.write_text("\n".join([*lines[:4], line, *lines[5:], '    X-Last: ["a"]\n']))
    with pytest.raises(ConfigError) as caught:
        load(path, {}, {})
    assert caught.value.problems == (f"{path}:{place}: is not YAML: {message}",)
    path.write_text("\n".join([*lines[:4], "    " + message.partition("(write ")[2].removesuffix(")"), *lines[5:], ""]))
    assert load(path, {}, {}).config.http.headers["Content-Security-Policy"] == ("img-src 'self'; style-src 'self'",)
