"""The servers that are compared: ours, Distribution's `docker-registry`, nginx, and a bare aiohttp handler.

Each listens on the loopback interface and keeps all it writes in a directory of the benchmark. Ours runs as it comes,
with access log, audit log and metrics; the peers have their logs off, which is in their favour.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bcrypt

from benchmarks.content import digest
from benchmarks.processes import accepts, children, clean_environment, free_port, running, said

USER, PASSWORD = "reader", "a good password"
ROOT = Path(__file__).resolve().parents[1]
BARE = Path(__file__).with_name("bare.py")


class MissingError(Exception):
    """A peer, or a part of ours, is not there; `str()` says what is missing and how to get it."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that accepts connections."""

    name: str
    url: str
    pid: int
    log: Path

    def workers(self) -> list[int]:
        """The processes that answer: those it has started, or itself."""
        return children(self.pid) or [self.pid]


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate and its key, in PEM."""

    certificate: Path
    key: Path


@contextmanager
def ours(
    directory: Path,
    cores: Sequence[int],
    settings: Mapping[str, Any] | None = None,
    *,
    flags: Sequence[str] = (),
) -> Iterator[Server]:
    """Ours from beside the benchmarks, with everything on; `settings` are the configuration's, nested."""
    directory.mkdir(parents=True, exist_ok=True)
    config = merged(
        {
            "version": "0.1",
            "storage": {"filesystem": {"rootdirectory": str(directory / "data")}},
            "http": {"addr": "127.0.0.1:0", "debug": {"addr": "127.0.0.1:0", "prometheus": {"enabled": True}}},
            "auth": "none",
            "packs": {"directories": []},
        },
        settings or {},
    )
    (directory / "config.yml").write_text(json.dumps(config))  # JSON is YAML
    command: list[str | Path] = [sys.executable, "-m", "packregistry", "serve", *flags, directory / "config.yml"]
    log = directory / "log"
    with running(
        command, log, cores, {**clean_environment(), "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)}
    ) as process:
        url = said(log, process, r"(?m)^packregistry \S+ at (https?://\S+)$")
        yield Server("packregistry", url, process.pid, log)


def merged(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with what `more` says put over it, section by section."""
    result = dict(base)
    for key, value in more.items():
        below = result.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        result[key] = merged(below, value) if isinstance(below, Mapping) and both else value
    return result


def users(directory: Path, cost: int) -> Path:
    """An htpasswd file with the one user `USER`, whose hash has this cost. Made once."""
    path = directory / f"users-{cost}"
    if not path.exists():
        hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(cost, prefix=b"2b")).replace(b"$2b$", b"$2y$", 1)
        path.write_bytes(USER.encode() + b":" + hashed + b"\n")
    return path


def htpasswd(path: Path) -> dict[str, Any]:
    """The settings of ours and of docker-registry that ask everybody for a password."""
    return {"auth": {"htpasswd": {"realm": "benchmark", "path": str(path)}}}


def certificate(directory: Path) -> Certificate:
    """A certificate of this run's own, for the loopback address."""
    made = Certificate(directory / "server.crt", directory / "server.key")
    if not made.certificate.exists():
        command: list[str | Path] = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ]
        more = ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
        files = ["-keyout", str(made.key), "-out", str(made.certificate)]
        if shutil.which("openssl") is None:
            raise MissingError("openssl is not installed: apt-get install openssl")
        subprocess.run([*command, *more, *files], capture_output=True, check=True, timeout=30)
    return made


@contextmanager
def bare(directory: Path, cores: Sequence[int], body: bytes, content_type: str) -> Iterator[Server]:
    """A handler on aiohttp and uvloop that answers everything with `body`."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "body").write_bytes(body)
    command: list[str | Path] = [sys.executable, BARE, directory / "body", "--type", content_type]
    with running(command, directory / "log", cores) as process:
        yield Server("bare aiohttp", said(directory / "log", process, r" at (http://\S+)\n"), process.pid, directory)


@contextmanager
def distribution(directory: Path, cores: Sequence[int], passwords: Path | None = None) -> Iterator[Server]:
    """Distribution's registry with its data in `directory / "data"`. Raises `MissingError`."""
    program = found("docker-registry", "docker-registry")
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    config = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(directory / "data")},
            "cache": {"blobdescriptor": "inmemory"},
            "maintenance": {"uploadpurging": {"enabled": False}},
        },
        "http": {"addr": f"127.0.0.1:{port}", "secret": "only for this run"},
        **(htpasswd(passwords) if passwords else {}),
    }
    (directory / "config.yml").write_text(json.dumps(config))
    log = directory / "log"
    with running([program, "serve", directory / "config.yml"], log, cores) as process:
        accepts(port, process, log)
        yield Server("docker-registry", f"http://127.0.0.1:{port}", process.pid, log)


@contextmanager
def nginx(
    directory: Path,
    cores: Sequence[int],
    root: Path,
    *,
    passwords: Path | None = None,
    tls: Certificate | None = None,
) -> Iterator[Server]:
    """Run nginx with one worker that serves the files below `root`. Raises `MissingError`."""
    program = found("nginx", "nginx-light")
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    (directory / "nginx.conf").write_text(nginx_config(directory, port, root, passwords, tls))
    command: list[str | Path] = [
        program,
        "-p",
        directory,
        "-e",
        directory / "error.log",
        "-c",
        directory / "nginx.conf",
    ]
    with running(command, directory / "log", cores) as process:
        accepts(port, process, directory / "error.log")
        scheme = "https" if tls else "http"
        yield Server("nginx", f"{scheme}://127.0.0.1:{port}", process.pid, directory / "error.log")


def nginx_config(directory: Path, port: int, root: Path, passwords: Path | None, tls: Certificate | None) -> str:
    """What nginx is told."""
    lines = [f"listen 127.0.0.1:{port}{' ssl' if tls else ''} backlog=1024;", f'root "{root}";']
    if passwords:
        lines += ["auth_basic benchmark;", f'auth_basic_user_file "{passwords}";']
    if tls:
        lines += [f'ssl_certificate "{tls.certificate}";', f'ssl_certificate_key "{tls.key}";']
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = [f'{kind}_temp_path "{directory}/{kind}";' for kind in kinds]
    user = ["user root;"] if os.getuid() == 0 else []
    return "\n".join(
        [
            *user,
            "daemon off;",
            "worker_processes 1;",
            f'pid "{directory}/pid";',
            "events { worker_connections 4096; }",
            "http {",
            "access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000;",
            "default_type application/octet-stream;",
            "open_file_cache max=10000;",
            *places,
            "server {",
            *lines,
            "}",
            "}",
            "",
        ]
    )


def found(program: str, package: str) -> str:
    """Where a program is. Raises `MissingError`."""
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")
    if path is None:
        raise MissingError(f"{program} is not installed: apt-get install {package}")
    return path


class DistributionData:
    """The data directory of docker-registry, written as it would have done itself, only quicker."""

    def __init__(self, root: Path) -> None:
        self._root = root / "docker" / "registry" / "v2"

    def blob(self, name: str, data: bytes) -> None:
        """Store a blob, and have a repository hold it."""
        named = digest(data)
        self._write(self._blob(named) / "data", data)
        self._link(self._repository(name) / "_layers" / "sha256" / named.removeprefix("sha256:"), named)

    def manifest(self, name: str, tags: Sequence[str], data: bytes) -> None:
        """Store a manifest under its digest and tags."""
        named = digest(data)
        self._write(self._blob(named) / "data", data)
        below = self._repository(name) / "_manifests"
        self._link(below / "revisions" / "sha256" / named.removeprefix("sha256:"), named)
        for tag in tags:
            self._link(below / "tags" / tag / "current", named)
            self._link(below / "tags" / tag / "index" / "sha256" / named.removeprefix("sha256:"), named)

    def empty(self, names: Sequence[str]) -> None:
        """Have repositories that hold nothing, which is all that the catalogue asks."""
        for name in names:
            (self._repository(name) / "_layers").mkdir(parents=True)
            (self._repository(name) / "_manifests" / "tags").mkdir(parents=True)

    def _repository(self, name: str) -> Path:
        return self._root / "repositories" / name

    def _blob(self, named: str) -> Path:
        hexadecimal = named.removeprefix("sha256:")
        return self._root / "blobs" / "sha256" / hexadecimal[:2] / hexadecimal

    def _link(self, directory: Path, named: str) -> None:
        self._write(directory / "link", named.encode())

    @staticmethod
    def _write(path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
