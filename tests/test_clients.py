"""Real clients against a real process: curl, a browser, our command line, and what Palette does."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import certificates
from tests.factories import make_pack
from tests.palette import Registration, ValidationError
from tests.process import Server, environment, run, serving

pytestmark = [pytest.mark.process, pytest.mark.real, pytest.mark.thorough]

PASSWORDS = {"admin": "a:very good one", "palette": "spec tro"}
TAGS = ["1.0.0", "1.0.x", "1.x"]


@dataclass
class Site:
    """A server with users and a token, in a directory of its own."""

    server: Server
    directory: Path
    token: str

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def name(self) -> str:
        return self.url.partition("://")[2]

    def curl(self, path: str, *args: str) -> tuple[int, str]:
        """The status of what curl gets, 0 where it gets nothing, and the body."""
        command = ["curl", "-sS", "--max-time", "20", "-w", "\n%{http_code}", *args, self.url + path]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        body, _, status = done.stdout.rpartition("\n")
        return int(status or 0), body


@contextmanager
def site_of(directory: Path, *args: str, **env: str) -> Iterator[Site]:
    make_pack(directory / "packs", "hello")
    for name, password in PASSWORDS.items():
        done = subprocess_input(password, "user", "add", name, "--password-stdin", "--file", "users", cwd=directory)
        assert done.returncode == 0, done.stderr
    every = {
        "REGISTRY_AUTH": "htpasswd",
        "REGISTRY_AUTH_HTPASSWD_PATH": "users",
        "REGISTRY_PACKS_SETTLE": "0s",
        **env,
    }
    made = run("token", "create", "palette", cwd=directory, **every)
    assert made.returncode == 0, made.stderr
    with serving(*args, cwd=directory, **every) as server:
        yield Site(server, directory, made.stdout.strip())
        code, output, errors = server.stop()
    assert code == 0
    for secret in (*PASSWORDS.values(), made.stdout.strip()):
        assert secret not in output + errors


def subprocess_input(text: str, *args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "packregistry", *args]
    return subprocess.run(command, input=text, capture_output=True, text=True, cwd=cwd, env=environment(), check=False)


TLS = {"REGISTRY_HTTP_TLS_CERTIFICATE": "tls/tls.crt", "REGISTRY_HTTP_TLS_KEY": "tls/tls.key"}


def with_tls(directory: Path) -> dict[str, str]:
    """The environment of a server with a certificate by plain openssl."""
    certificates.server().copy(directory / "tls")
    return TLS


def with_client_certificates(directory: Path, *, needed: bool) -> dict[str, str]:
    shutil.copyfile(certificates.authority("people").certificate, directory / "people.crt")
    return {
        **with_tls(directory),
        "REGISTRY_HTTP_TLS_CLIENTCAS": "[people.crt]",
        "REGISTRY_HTTP_TLS_CLIENTAUTH": "require-and-verify-client-cert" if needed else "verify-client-cert-if-given",
        "REGISTRY_AUTH_CERTIFICATES_SUBJECT": "commonname",
        "REGISTRY_AUTH_CERTIFICATES_USERS": "{palette-cluster: palette}",
    }


# Palette


def test_palette_registers_with_a_password_or_a_token_and_synchronises_everything(tmp_path: Path) -> None:
    with site_of(tmp_path) as site:
        ways = [
            Registration(site.url, "basic", "palette", PASSWORDS["palette"]),
            Registration(site.url + "/", "basic", "palette", PASSWORDS["palette"]),
            Registration(site.url, "token", token=site.token),
            Registration(site.url, "basic", "whoever", site.token),
        ]
        for way in ways:
            way.validate()
            assert way.synchronise() == {"hello": TAGS}


def test_palette_shows_why_it_cannot_register(tmp_path: Path) -> None:
    with site_of(tmp_path) as site:
        for way in (
            Registration(site.url),
            Registration(site.url, "basic", "palette", "wrong"),
            Registration(site.url, "token", token=site.token + "x"),
        ):
            with pytest.raises(ValidationError, match="401 UNAUTHORIZED"):
                way.validate()


def test_palette_registers_without_authentication_where_everybody_may_read(tmp_path: Path) -> None:
    with site_of(tmp_path, REGISTRY_AUTH_ANONYMOUS="read") as site:
        way = Registration(site.url)
        way.validate()
        assert way.synchronise() == {"hello": TAGS}
        # Wrong credentials are wrong, whatever would be allowed without.
        with pytest.raises(ValidationError, match="401"):
            Registration(site.url, "basic", "palette", "wrong").validate()


def test_palette_registers_over_tls_with_the_ca_or_without_looking(tmp_path: Path) -> None:
    with site_of(tmp_path, **with_tls(tmp_path)) as site:
        assert site.url.startswith("https://")
        ca = certificates.authority("servers").certificate
        login = ("basic", "palette", PASSWORDS["palette"])
        Registration(site.url, *login, ca=ca).validate()  # type: ignore[arg-type]
        Registration(site.url, *login, skip_verify=True).validate()  # type: ignore[arg-type]
        with pytest.raises(ValidationError, match="CERTIFICATE_VERIFY_FAILED"):
            Registration(site.url, *login).validate()  # type: ignore[arg-type]
        with pytest.raises(ValidationError, match="CERTIFICATE_VERIFY_FAILED"):
            Registration(site.url, *login, ca=certificates.authority("people").certificate).validate()  # type: ignore[arg-type]


@pytest.mark.parametrize("needed", [True, False], ids=["required", "if given"])
def test_palette_registers_with_a_client_certificate_that_names_a_user(tmp_path: Path, needed: bool) -> None:
    with site_of(tmp_path, **with_client_certificates(tmp_path, needed=needed)) as site:
        own = certificates.client("palette-cluster", "people")
        other = certificates.client("somebody-else", "people")
        foreign = certificates.client("palette-cluster", "strangers")
        ca = certificates.authority("servers").certificate
        way = Registration(site.url, ca=ca, certificate=own.certificate, key=own.key)
        way.validate()
        assert way.synchronise() == {"hello": TAGS}
        with pytest.raises(ValidationError, match="401 UNAUTHORIZED"):
            Registration(site.url, ca=ca, certificate=other.certificate, key=other.key).validate()
        with pytest.raises(ValidationError):
            Registration(site.url, ca=ca, certificate=foreign.certificate, key=foreign.key).validate()
        basic = Registration(site.url, "basic", "palette", PASSWORDS["palette"], ca=ca)
        if needed:
            with pytest.raises(ValidationError):
                basic.validate()
        else:
            basic.validate()


# curl


def test_curl_signs_in_in_every_way(tmp_path: Path) -> None:
    with site_of(tmp_path, **with_client_certificates(tmp_path, needed=False)) as site:
        ca = ["--cacert", str(certificates.authority("servers").certificate)]
        own, other = (certificates.client(name, "people") for name in ("palette-cluster", "somebody-else"))
        user = f"palette:{PASSWORDS['palette']}"
        assert site.curl("/v1/_catalog", *ca, "-u", user) == (200, '{"repositories":["hello"]}')
        assert site.curl("/v1/_catalog", *ca, "-u", f"any:{site.token}")[0] == 200
        assert site.curl("/v1/_catalog", *ca, "-u", f"{site.token}:")[0] == 200
        assert site.curl("/v1/_catalog", *ca, "-H", f"Authorization: Bearer {site.token}")[0] == 200
        assert site.curl("/v1/_catalog", *ca, "--cert", str(own.certificate), "--key", str(own.key))[0] == 200
        assert site.curl("/v1/_catalog", *ca, "--cert", str(other.certificate), "--key", str(other.key))[0] == 401
        assert site.curl("/v1/_catalog", *ca)[0] == 401
        assert site.curl("/v1/_catalog", *ca, "-u", "palette:wrong")[0] == 401
        assert site.curl("/v1/_catalog", "-k", "-u", user)[0] == 200
        assert site.curl("/v1/_catalog", "-u", user)[0] == 0
        assert site.curl("/health", *ca) == (200, '{"status":"UP"}')
        status, body = site.curl("/v1/hello/blobs/uploads/", *ca, "-u", user, "-X", "POST")
        assert (status, json.loads(body)["errors"][0]["code"]) == (403, "DENIED")
        _, head = site.curl("/v1/", *ca, "-u", user, "-D", "-", "-o", "/dev/null")
        assert "strict-transport-security: max-age=63072000" in head.lower()


# Our own command line


def test_the_command_line_uses_passwords_and_tokens_and_manages_tokens(tmp_path: Path) -> None:
    make_pack(tmp_path / "mine", "mine")
    with site_of(tmp_path) as site:
        admin = {"PACKREGISTRY_USERNAME": "admin", "PACKREGISTRY_PASSWORD": PASSWORDS["admin"]}
        server = f"http://{site.name}"
        made = run(
            *("token", "create", "ci", "--role", "publisher", "--packs", "mi*", "--expires", "1h", "-r", server),
            cwd=tmp_path,
            **admin,
        )
        assert made.returncode == 0, made.stderr
        token = {"PACKREGISTRY_TOKEN": made.stdout.strip()}
        pushed = run("pack", "push", "mine/mine-1.0.0", "-r", server, cwd=tmp_path, **token)
        assert pushed.returncode == 0, pushed.stderr
        other = run("pack", "push", "packs/hello-1.0.0", "-r", server, cwd=tmp_path, **token)
        assert other.returncode != 0
        assert "may not add to hello" in other.stderr
        listed = run("token", "list", "-r", server, "-o", "json", cwd=tmp_path, **admin)
        assert {item["name"]: item["state"] for item in tokens_of(listed.stdout)} == {"palette": "valid", "ci": "valid"}
        assert made.stdout.strip() not in listed.stdout
        assert run("token", "list", "-r", server, cwd=tmp_path, **token).returncode != 0
        assert run("token", "revoke", "ci", "-r", server, cwd=tmp_path, **admin).returncode == 0
        refused = run("pack", "ls", "-r", server, cwd=tmp_path, **token)
        assert refused.returncode == 4
        login = subprocess_input(
            PASSWORDS["admin"],
            "--home",
            "home",
            "registry",
            "login",
            server,
            "--username",
            "admin",
            "--password-stdin",
            cwd=tmp_path,
        )
        assert login.returncode == 0, login.stderr
        assert run("--home", "home", "pack", "ls", "-r", server, cwd=tmp_path).returncode == 0


def test_a_token_revoked_on_the_server_itself_is_void_at_once(tmp_path: Path) -> None:
    with site_of(tmp_path) as site:
        header = {"Authorization": f"Bearer {site.token}"}
        assert site.server.get("/v1/", header).status == 200
        assert run("token", "revoke", "palette", cwd=tmp_path).returncode == 0
        assert site.server.get("/v1/", header).status == 401


def tokens_of(text: str) -> list[dict[str, Any]]:
    found = json.loads(text)
    listed: list[dict[str, Any]] = found["tokens"] if isinstance(found, dict) else found
    return listed


# A browser


def test_a_browser_asks_for_the_password_and_shows_the_answer(tmp_path: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("chromium is not installed")
    arguments = [
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-sync",
    ]
    with site_of(tmp_path) as site, sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, chromium_sandbox=False, args=arguments)
        try:
            for credentials, status in (
                (None, 401),
                ({"username": "palette", "password": "wrong"}, 401),
                ({"username": "palette", "password": PASSWORDS["palette"]}, 200),
                ({"username": "token", "password": site.token}, 200),
            ):
                context = browser.new_context(http_credentials=credentials)
                page = context.new_page()
                try:
                    answer = page.goto(site.url + "/v1/")
                except sync_api.Error as error:
                    # What a person sees who has been asked again and again, and gives up.
                    seen = 401 if "ERR_INVALID_AUTH_CREDENTIALS" in str(error) else 0
                    shown = ""
                else:
                    assert answer is not None
                    seen, shown = answer.status, page.inner_text("body")
                assert seen == status
                assert shown == "{}" or status == 401
                context.close()
        finally:
            browser.close()
