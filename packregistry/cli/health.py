"""`packregistry health`."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import click

from packregistry import config
from packregistry.cli.lazy import HELP

PROC = Path("/proc")
SECONDS = 2.0
# What asks for less than the whole server to be well comes first; a server that does not know it is asked the other.
PATHS = ("/livez", "/health")

_PROGRAMS = {"packregistry", "packregistry-entrypoint", "registry"}
_UNKNOWN = {401, 403, 404, 405}
_LINE_MAX = 512
# What OpenSSL calls the alerts of a server that misses a client certificate, of TLS 1.2 and of 1.3.
_CERTIFICATE_ALERTS = ("HANDSHAKE_FAILURE", "CERTIFICATE_REQUIRED", "BAD_CERTIFICATE")


@click.command("health", context_settings=HELP)
@click.argument("config_file", metavar="[CONFIG]", required=False, type=click.Path(path_type=Path))
@click.option("--addr", metavar="HOST:PORT", help="Where the server listens (http.addr).")
@click.option("--url", metavar="URL", help="Where it is to be asked; nothing else is looked at.")
def command(config_file: Path | None, addr: str | None, url: str | None) -> None:
    """Ask the server on this machine whether it is alive.

    Without arguments, in a container, the server is found by itself: its address and whether it speaks TLS, from the
    arguments and variables that its process was started with. Elsewhere name its configuration, or its URL.
    No certificate is checked, and a server that demands one of its clients is alive if it says so.

    \b
    packregistry health
    packregistry health /etc/spectro/config.yml
    packregistry health --url https://127.0.0.1:5000

    Exit code 0: it is alive; 1: it is not, or there is no answer within 2 seconds.
    """
    end = time.monotonic() + SECONDS
    try:
        said = probe(_target(config_file, addr, url), end)
    except UnhealthyError as error:
        click.echo(f"packregistry: not healthy: {error}", err=True)
        sys.exit(1)
    click.echo(f"healthy: {said}")


class UnhealthyError(Exception):
    """There is no server that is alive; `str()` says what there is, on one line."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where to ask. `demands` says that clients have to show a certificate, of which there is none here."""

    host: str
    port: int
    secure: bool = False
    demands: bool = False
    prefix: str = ""

    @classmethod
    def of(cls, http: config.Http) -> Self:
        """How this machine reaches a server so configured. Raises `UnhealthyError`."""
        host, port = http.addr.host, http.addr.port
        if port == 0:
            raise UnhealthyError("http.addr has port 0, so the port is any: say with --addr which one it is")
        # What listens on every interface is asked on the one that never leaves the machine.
        host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - nothing is bound
        tls = http.tls
        secure = tls.certificate is not None
        demands = secure and bool(tls.clientcas) and tls.clientauth == "require-and-verify-client-cert"
        return cls(host, port, secure, demands)

    @classmethod
    def parse(cls, url: str) -> Self:
        """The place that `http[s]://HOST[:PORT][/PREFIX]` is. Raises `UnhealthyError`."""
        try:
            parts = urlsplit(url)
            secure = {"http": False, "https": True}[parts.scheme]
            port = parts.port or (443 if secure else 80)
        except (KeyError, ValueError):
            raise UnhealthyError(f"--url {url!r} is no URL: write http://HOST:PORT or https://HOST:PORT") from None
        return cls(parts.hostname or "127.0.0.1", port, secure, prefix=parts.path.rstrip("/"))

    @property
    def authority(self) -> str:
        """Host and port, as in a URL."""
        return str(config.Address(self.host, self.port))

    def url(self, path: str) -> str:
        """What is asked, as a person would write it."""
        return f"{'https' if self.secure else 'http'}://{self.authority}{self.prefix}{path}"


@dataclass(frozen=True, slots=True)
class Started:
    """How a server was started: its arguments behind `serve`, its variables, its working directory."""

    arguments: Sequence[str]
    environ: Mapping[str, str]
    directory: str

    def config(self) -> config.Config:
        """The configuration it has read, if nobody has changed the file. Raises `ConfigError`."""
        path, addr, words = None, None, iter(self.arguments)
        for word in words:
            name, equals, value = word.partition("=")
            if not word.startswith("-"):
                path = Path(word)
            elif word != "--":
                # Every option of `serve` has a value.
                value = value if equals else next(words, "")
                addr = value if name == "--addr" else addr
        with contextlib.chdir(self.directory):
            return config.load(path, self.environ, {"http.addr": addr}).config


def servers(proc: Path) -> Iterator[Started]:
    """The servers that a container was started for: its first process, or what an init process has started."""
    for directory in sorted(proc.glob("[1-9]*"), key=lambda found: int(found.name)):
        with contextlib.suppress(OSError, ValueError):
            if directory.name == "1" or _parent(directory) in {0, 1}:
                words = _words(directory / "cmdline")
                if _is_server(words):
                    environ = dict(word.partition("=")[::2] for word in _words(directory / "environ"))
                    yield Started(words[words.index("serve") + 1 :], environ, str((directory / "cwd").readlink()))


def probe(target: Target, end: float) -> str:
    """What a living server answers by `end`, a time of the monotonic clock. Raises `UnhealthyError`."""
    for path in PATHS:
        try:
            status = ask(target, path, end)
        except TimeoutError:
            raise UnhealthyError(f"{target.url(path)} does not answer within {SECONDS:g} s") from None
        except CertificateDemandedError:
            return f"{target.url('/')} speaks TLS, and demands a certificate"
        except OSError as error:
            raise UnhealthyError(f"{target.url(path)}: {error.strerror or error}") from None
        if status not in _UNKNOWN:
            break
    if status != 200:
        raise UnhealthyError(f"{target.url(path)} answers {status}")
    return f"{target.url(path)} answers 200"


class CertificateDemandedError(Exception):
    """The server did its part of a TLS handshake, and wants a certificate."""


def ask(target: Target, path: str, end: float) -> int:
    """The status of the answer to `GET path`. Raises `CertificateDemandedError`, `UnhealthyError` and `OSError`."""
    with socket.create_connection((target.host, target.port), timeout=_left(end)) as plain:
        if not target.secure:
            return _exchange(plain, target, path, end)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # The certificate names the registry as its clients call it, and says nothing of whether it is alive.
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        shaken = False
        try:
            plain.settimeout(_left(end))
            with context.wrap_socket(plain) as encrypted:
                shaken = True
                return _exchange(encrypted, target, path, end)
        except TimeoutError:
            raise
        except OSError as error:
            if isinstance(error, ssl.SSLError) and str(error.reason).endswith(_CERTIFICATE_ALERTS):
                raise CertificateDemandedError from error
            # With TLS 1.3 the refusal comes after the handshake, and is lost where the connection is reset behind it.
            if target.demands and shaken:
                raise CertificateDemandedError from error
            raise


def _exchange(connection: socket.socket, target: Target, path: str, end: float) -> int:
    """Send the request and read the first line of the answer."""
    head = f"GET {target.prefix}{path} HTTP/1.1\r\nHost: {target.authority}\r\nUser-Agent: packregistry-health\r\n"
    # Who has hung up by then may have said why, and that is yet to be read.
    with contextlib.suppress(ConnectionError, ssl.SSLEOFError):
        connection.sendall(f"{head}Connection: close\r\n\r\n".encode())
    line = b""
    while b"\n" not in line and len(line) < _LINE_MAX:
        connection.settimeout(_left(end))
        if not (chunk := connection.recv(_LINE_MAX)):
            break
        line += chunk
    version, _, rest = line.partition(b" ")
    if not version.startswith(b"HTTP/1.") or not rest[:3].isdigit():
        if target.demands and not line:
            raise CertificateDemandedError
        raise UnhealthyError(f"{target.url(path)} is not answered in HTTP")
    return int(rest[:3])


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _target(config_file: Path | None, addr: str | None, url: str | None) -> Target:
    if url is not None:
        return Target.parse(url)
    try:
        started = None if config_file or addr else next(servers(PROC), None)
        if started is not None:
            return Target.of(started.config().http)
        return Target.of(config.load(config_file, os.environ, {"http.addr": addr}).config.http)
    except config.ConfigError as error:
        raise UnhealthyError(f"the server's configuration cannot be read: {error.problems[0]}") from None


def _words(path: Path) -> list[str]:
    return os.fsdecode(path.read_bytes()).rstrip("\0").split("\0")


def _parent(directory: Path) -> int:
    # The second field is the program's name in brackets, and may itself have brackets and blanks in it.
    return int((directory / "stat").read_text().rpartition(")")[2].split()[1])


def _is_server(words: Sequence[str]) -> bool:
    # A program of Python's that is called so: the legacy server, and the one it descends from, are none.
    before = words[1 : words.index("serve")] if "serve" in words else []
    return Path(words[0]).name.startswith("python") and any(Path(word).name in _PROGRAMS for word in before)
