"""Files swapped under a running server: no request fails, and what they say counts within two seconds."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import itertools
import json
import shutil
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import bcrypt
import pytest

from tests import certificates
from tests.factories import make_pack
from tests.process import DEADLINE, serving
from tests.web import basic

WITHIN = 2.0
NAMES = ("tls.crt", "tls.key", "cas", "users", "tokens", "policy")
STEADY = ("steady", "a password")
HASHES = {word: bcrypt.hashpw(word.encode(), bcrypt.gensalt(4)).decode() for word in ("a password", "another")}


# Three ways to put other files in the place of those there are


class InPlace:
    """Each file is written over, as `cp` and editors do it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()

    def put(self, files: Mapping[str, bytes]) -> None:
        for name, content in files.items():
            if not (self.directory / name).exists() or (self.directory / name).read_bytes() != content:
                (self.directory / name).write_bytes(content)


class Renamed(InPlace):
    """Each file is written beside its place and renamed, as careful programs do it."""

    def put(self, files: Mapping[str, bytes]) -> None:
        for name, content in files.items():
            (self.directory / "new").write_bytes(content)
            (self.directory / "new").rename(self.directory / name)


class Mounted(InPlace):
    """All files change at once with a symbolic link, as Kubernetes does it with Secrets and ConfigMaps."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._numbers = itertools.count()
        for name in NAMES:
            (directory / name).symlink_to(f"..data/{name}")

    def put(self, files: Mapping[str, bytes]) -> None:
        data = self.directory / "..data"
        before = data.resolve() if data.exists() else None
        content = {name: (before / name).read_bytes() for name in NAMES if before} | dict(files)
        version = self.directory / f"..2026_{next(self._numbers)}"
        version.mkdir()
        for name, text in content.items():
            (version / name).write_bytes(text)
        (self.directory / "..data_tmp").symlink_to(version.name)
        (self.directory / "..data_tmp").rename(data)
        if before:
            shutil.rmtree(before)


# What is asked meanwhile


@dataclass
class Client:
    """Asks over TLS, on one connection as long as that lasts, with its own certificate if it has one."""

    url: str
    own: certificates.Pair | None = None
    connection: http.client.HTTPSConnection | None = None

    def get(self, path: str, headers: Mapping[str, str]) -> int:
        if self.connection is None:
            context = certificates.trusting(own=self.own)
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
            self.connection = http.client.HTTPSConnection(urlsplit(self.url).netloc, timeout=DEADLINE, context=context)
        self.connection.request("GET", path, headers=dict(headers))
        response = self.connection.getresponse()
        response.read()
        return response.status

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def served(self) -> bytes:
        """What stands for the certificate that a new connection is answered with."""
        self.close()
        self.get("/health", {})
        assert self.connection is not None
        assert isinstance(self.connection.sock, ssl.SSLSocket)
        certificate = self.connection.sock.getpeercert(binary_form=True) or b""
        self.close()
        return certificate


@dataclass
class Load:
    """Others who ask all the time, each in a thread: on connections that are kept, and on new ones."""

    url: str
    failures: list[str] = field(default_factory=list)
    answered: int = 0
    ended: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        own = certificates.client("steady", "stays")
        asked = [(True, None), (False, None), (True, own), (False, own)]
        threads = [threading.Thread(target=self._ask, args=arguments) for arguments in asked]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.ended.set()
            for thread in threads:
                thread.join()

    def _ask(self, keeps: bool, own: certificates.Pair | None) -> None:
        client = Client(self.url, own)
        headers = {} if own else basic(*STEADY)
        while not self.ended.is_set():
            try:
                status = client.get("/v1/hello/tags/list", headers)
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                client.close()
                continue
            if status != 200:
                self.failures.append(str(status))
            self.answered += 1
            if not keeps:
                client.close()
        client.close()


def soon(condition: Callable[[], bool]) -> bool:
    """Whether the condition holds within the time that a swap may take."""
    deadline = time.monotonic() + WITHIN
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


# The files, in two versions each


def users(*more: str) -> bytes:
    return "".join(f"{name}:{HASHES['a password']}\n" for name in (STEADY[0], *more)).encode()


def token_of(number: int) -> str:
    return f"pkr_{number:043d}"


def tokens(*valid: int) -> bytes:
    entries = [
        {
            "name": f"t{number}",
            "owner": "ann",
            "role": "reader",
            "packs": ["*"],
            "created": "2026-01-01T00:00:00.000Z",
            "expires": None,
            "revoked": None if number in valid else "2026-01-01T00:00:00.000Z",
            "sha256": hashlib.sha256(token_of(number).encode()).hexdigest(),
        }
        for number in (1, 2)
    ]
    return json.dumps({"format": 1, "tokens": entries}).encode()


def policy(subject: str) -> bytes:
    return (
        "version: 1\nrules:\n"
        "  - {subjects: [user:steady], packs: ['*'], role: reader}\n"
        f"  - {{subjects: [user:{subject}], packs: ['hello'], role: reader}}\n"
    ).encode()


def authorities(*names: str) -> bytes:
    return b"".join(certificates.authority(name).certificate.read_bytes() for name in names)


def status_of(url: str, own: certificates.Pair | None = None, headers: Mapping[str, str] | None = None) -> int:
    """The status of one request on a connection of its own; 0 where there is none to be had."""
    client = Client(url, own)
    try:
        return client.get("/v1/hello/tags/list", headers or {})
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        client.close()


ENVIRONMENT = {
    "REGISTRY_HTTP_TLS_CERTIFICATE": "secrets/tls.crt",
    "REGISTRY_HTTP_TLS_KEY": "secrets/tls.key",
    "REGISTRY_HTTP_TLS_CLIENTCAS": "[secrets/cas]",
    "REGISTRY_HTTP_TLS_CLIENTAUTH": "verify-client-cert-if-given",
    "REGISTRY_AUTH": "htpasswd",
    "REGISTRY_AUTH_HTPASSWD_PATH": "secrets/users",
    "REGISTRY_AUTH_TOKENS": "secrets/tokens",
    "REGISTRY_AUTH_POLICY": "secrets/policy",
    "REGISTRY_AUTH_CERTIFICATES_SUBJECT": "commonname",
    "REGISTRY_HTTP_DEBUG_ADDR": "127.0.0.1:0",
    "REGISTRY_HTTP_DEBUG_PROMETHEUS_ENABLED": "true",
    "REGISTRY_PACKS_SETTLE": "0s",
    "REGISTRY_LOG_ACCESSLOG_DISABLED": "true",
    "REGISTRY_LOG_AUDIT_PATH": "audit",
}


@pytest.mark.process
@pytest.mark.real
@pytest.mark.thorough
@pytest.mark.parametrize("way", [InPlace, Renamed, Mounted], ids=["in place", "by rename", "..data"])
def test_swapped_files_count_within_two_seconds_and_no_request_fails(way: type[InPlace], tmp_path: Path) -> None:
    first, second = certificates.server("one"), certificates.server("two")
    secrets = way(tmp_path / "secrets")
    files = {
        "tls.crt": first.certificate.read_bytes(),
        "tls.key": first.key.read_bytes(),
        "cas": authorities("stays", "goes"),
        "users": users("limited"),
        "tokens": tokens(1),
        "policy": policy("nobody"),
    }
    secrets.put(files)
    make_pack(tmp_path / "packs", "hello")
    with serving(cwd=tmp_path, **ENVIRONMENT) as server:
        load = Load(server.url)
        limited = basic("limited", "a password")
        token = [{"Authorization": f"Bearer {token_of(number)}"} for number in (1, 2)]
        with load.running():
            # Users
            assert status_of(server.url, headers=basic("new", "a password")) == 401
            secrets.put({"users": users("limited", "new")})
            assert soon(lambda: status_of(server.url, headers=basic("new", "a password")) == 403)
            secrets.put({"users": users("limited")})
            assert soon(lambda: status_of(server.url, headers=basic("new", "a password")) == 401)
            # Tokens
            assert [status_of(server.url, headers=one) for one in token] == [200, 401]
            secrets.put({"tokens": tokens(2)})
            assert soon(lambda: [status_of(server.url, headers=one) for one in token] == [401, 200])
            # Policy
            assert status_of(server.url, headers=limited) == 403
            secrets.put({"policy": policy("limited")})
            assert soon(lambda: status_of(server.url, headers=limited) == 200)
            secrets.put({"policy": policy("nobody")})
            assert soon(lambda: status_of(server.url, headers=limited) == 403)
            # The server's certificate
            before = Client(server.url).served()
            secrets.put({"tls.crt": second.certificate.read_bytes(), "tls.key": second.key.read_bytes()})
            assert soon(lambda: Client(server.url).served() != before)
            # Who signs for clients
            goes, comes = certificates.client("steady", "goes"), certificates.client("steady", "comes")
            assert [status_of(server.url, own) for own in (goes, comes)] == [200, 0]
            kept = Client(server.url, goes)
            assert kept.get("/health", {}) == 200
            secrets.put({"cas": authorities("stays", "comes")})
            assert soon(lambda: [status_of(server.url, own) for own in (goes, comes)] == [0, 200])
            assert soon(lambda: not is_open(kept))
            kept.close()
        assert load.failures == []
        assert load.answered > 100
        code, _, errors = server.stop()
    assert code == 0
    assert "Traceback" not in errors


def is_open(client: Client) -> bool:
    """Whether the server has not hung up a connection that waits for the next request."""
    assert client.connection is not None
    sock = client.connection.sock
    sock.settimeout(0.01)
    try:
        return sock.recv(1) != b""
    except TimeoutError:
        return True
    except OSError:
        return False


BROKEN = {
    "users": b"no users at all\n",
    "tokens": b'{"format": 1, "tokens": [',
    "policy": b"version: 1\nrules: [{subjects: [user:steady], packs: ['*'], role: emperor}]\n",
    "tls.crt": b"-----BEGIN CERTIFICATE-----\n",
    "cas": b"nobody\n",
}
WHAT = {"tls.crt": "certificates", "cas": "certificates"}


@pytest.mark.process
@pytest.mark.real
@pytest.mark.thorough
@pytest.mark.parametrize("way", [InPlace, Renamed, Mounted], ids=["in place", "by rename", "..data"])
def test_a_broken_file_leaves_what_was_there_in_force_and_raises_a_metric(way: type[InPlace], tmp_path: Path) -> None:
    pair = certificates.server("one")
    secrets = way(tmp_path / "secrets")
    good = {
        "tls.crt": pair.certificate.read_bytes(),
        "tls.key": pair.key.read_bytes(),
        "cas": authorities("stays"),
        "users": users(),
        "tokens": tokens(1),
        "policy": policy("nobody"),
    }
    secrets.put(good)
    make_pack(tmp_path / "packs", "hello")
    (tmp_path / "config.yml").write_text(
        "version: 0.1\n"
        "storage: {filesystem: {rootdirectory: data}}\n"
        "http:\n"
        "  tls: {certificate: secrets/tls.crt, key: secrets/tls.key, clientcas: [secrets/cas], "
        "clientauth: verify-client-cert-if-given}\n"
        "  debug: {addr: '127.0.0.1:0', prometheus: {enabled: true}}\n"
        "auth:\n"
        "  htpasswd: {realm: packs, path: secrets/users}\n"
        "  tokens: secrets/tokens\n"
        "  policy: secrets/policy\n"
        "  certificates: {subject: commonname}\n"
        "packs: {directories: [packs], settle: 0s}\n"
        "log: {accesslog: {disabled: true}, audit: {path: audit}}\n"
    )
    with serving("config.yml", cwd=tmp_path) as server:
        metrics = metrics_url(server.output)
        load = Load(server.url)
        with load.running():
            for name, content in BROKEN.items():
                what = WHAT.get(name, name)
                assert reload_failed(metrics, what) == 0
                looks = failures_of(metrics, what) + 2
                secrets.put({name: content})
                # A failure that the next look finds again is logged.
                assert soon(lambda what=what, looks=looks: failures_of(metrics, what) >= looks)  # type: ignore[misc]
                assert reload_failed(metrics, what) == 1
                assert status_of(server.url, headers=basic(*STEADY)) == 200
                assert status_of(server.url, headers={"Authorization": f"Bearer {token_of(1)}"}) == 200
                secrets.put({name: good[name]})
                assert soon(lambda what=what: reload_failed(metrics, what) == 0)  # type: ignore[misc]
        assert load.failures == []
        code, _, errors = server.stop()
    assert code == 0
    for what in ("users", "tokens", "policy", "certificates"):
        assert f"{what}: " in errors
    assert "Traceback" not in errors


def metrics_url(output: str) -> str:
    """Where the server says that its metrics are."""
    return next(word for word in output.split() if word.endswith("/metrics"))


def reload_failed(url: str, what: str) -> float:
    return metric(url, f'packregistry_reload_failed{{what="{what}"}}')


def failures_of(url: str, what: str) -> float:
    return metric(url, f'packregistry_reloads_total{{result="failed",what="{what}"}}')


def metric(url: str, name: str) -> float:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=DEADLINE)
    with contextlib.closing(connection):
        connection.request("GET", parts.path)
        text = connection.getresponse().read().decode()
    line = next(line for line in text.splitlines() if line.startswith(name))
    return float(line.split()[-1])
