"""`packregistry health`: 0 for a server that is alive, however it was started, and else 1; one line in any case."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import Result

from packregistry.cli import health
from packregistry.cli import serve as serve_command
from tests import certificates
from tests.cli import cli
from tests.process import serving

ANSWERS = {"/livez": 200}


@pytest.fixture(autouse=True)
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the processes of this machine are looked for: there are none."""
    directory = tmp_path / "proc"
    directory.mkdir()
    monkeypatch.setattr(health, "PROC", directory)
    return directory


def process(proc: Path, pid: int, *arguments: str, parent: int = 0, cwd: Path = Path("/"), **environ: str) -> None:
    """Put a process into `proc`."""
    directory = proc / str(pid)
    directory.mkdir()
    (directory / "cmdline").write_text("".join(f"{word}\0" for word in arguments))
    (directory / "environ").write_text("".join(f"{name}={value}\0" for name, value in environ.items()))
    (directory / "stat").write_text(f"{pid} (a (strange) name) S {parent} 1 1 0")
    (directory / "cwd").symlink_to(cwd)


@contextlib.asynccontextmanager
async def answering(
    statuses: Mapping[str, int], tls: ssl.SSLContext | None = None, raw: bytes | None = None
) -> AsyncIterator[tuple[int, list[str]]]:
    """A server on a port, and the requests it has got; `raw` is said instead of any answer."""
    asked: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head.decode())
        status = statuses.get(head.split()[1].decode(), 404)
        writer.write(f"HTTP/1.1 {status} Said\r\nContent-Length: 0\r\n\r\n".encode() if raw is None else raw)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1], asked


async def asking(*args: object, **env: Any) -> Result:
    return await asyncio.to_thread(lambda: cli("health", *args, **env))


def server_context() -> ssl.SSLContext:
    own = certificates.server()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.certificate, own.key)
    return context


# What is alive


async def test_a_server_that_answers_livez_is_healthy() -> None:
    async with answering(ANSWERS) as (port, asked):
        result = await asking("--addr", f"127.0.0.1:{port}")
    assert (result.exit_code, result.stdout) == (0, f"healthy: http://127.0.0.1:{port}/livez answers 200\n")
    assert asked[0].split("\r\n")[:2] == ["GET /livez HTTP/1.1", f"Host: 127.0.0.1:{port}"]


@pytest.mark.parametrize("unknown", [404, 401])
async def test_a_server_without_livez_is_asked_the_older_question(unknown: int) -> None:
    async with answering({"/livez": unknown, "/health": 200}) as (port, _):
        result = await asking("--addr", f":{port}")
    assert (result.exit_code, result.stdout) == (0, f"healthy: http://127.0.0.1:{port}/health answers 200\n")


async def test_a_url_may_have_a_prefix_and_needs_no_configuration(tmp_path: Path) -> None:
    async with answering({"/packs/livez": 200}) as (port, _):
        result = await asking("--url", f"http://127.0.0.1:{port}/packs/", REGISTRY_HTTP_ADDR="nonsense")
    assert result.exit_code == 0


async def test_any_certificate_will_do() -> None:
    async with answering(ANSWERS, server_context()) as (port, _):
        result = await asking("--url", f"https://127.0.0.1:{port}")
    assert result.exit_code == 0, result.stderr


@contextlib.contextmanager
def demanding(newest: ssl.TLSVersion) -> Iterator[int]:
    """The port of a server that refuses whoever comes without a certificate, as OpenSSL does it: with an alert."""
    context = server_context()
    context.maximum_version = newest
    context.load_verify_locations(certificates.authority("clients").certificate)
    context.verify_mode = ssl.CERT_REQUIRED

    def refuse() -> None:
        connection, _ = listening.accept()
        with context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False) as encrypted:
            with contextlib.suppress(ssl.SSLError):
                encrypted.do_handshake()
            # What has not been read when the connection is closed would reset it, and the alert would be lost.
            while socket.socket.recv(encrypted, 4096):
                pass

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=refuse)
        thread.start()
        yield listening.getsockname()[1]
        thread.join()


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["tls1.2", "tls1.3"])
def test_a_server_that_demands_a_certificate_is_alive(newest: ssl.TLSVersion) -> None:
    """Also where that is not known beforehand."""
    with demanding(newest) as port:
        result = cli("health", "--url", f"https://127.0.0.1:{port}")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"healthy: https://127.0.0.1:{port}/ speaks TLS, and demands a certificate\n"


@pytest.mark.parametrize("demands", [True, False])
async def test_a_connection_that_ends_after_the_handshake_is_taken_for_a_demand_where_there_is_one(
    demands: bool,
) -> None:
    """The alert is lost where the connection is reset behind it."""
    own = certificates.server()
    tls = {"REGISTRY_HTTP_TLS_CERTIFICATE": str(own.certificate), "REGISTRY_HTTP_TLS_KEY": str(own.key)}
    clients = {"REGISTRY_HTTP_TLS_CLIENTCAS_0": str(own.certificate)} if demands else {}
    async with answering(ANSWERS, server_context(), raw=b"") as (port, _):
        result = await asking("--addr", f"127.0.0.1:{port}", **tls, **clients)
    assert result.exit_code == (0 if demands else 1)


# What is not


async def test_a_server_that_says_it_is_not_well_is_not_healthy() -> None:
    async with answering({"/livez": 503, "/health": 200}) as (port, _):
        result = await asking("--addr", f"127.0.0.1:{port}")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"packregistry: not healthy: http://127.0.0.1:{port}/livez answers 503\n"


async def test_a_server_that_knows_neither_question_is_not_healthy() -> None:
    async with answering({}) as (port, _):
        result = await asking("--addr", f"127.0.0.1:{port}")
    assert result.exit_code == 1
    assert result.stderr.endswith("/health answers 404\n")


@pytest.mark.parametrize("raw", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 ok\r\n", b"x" * 4096])
async def test_what_does_not_speak_http_is_not_healthy(raw: bytes) -> None:
    async with answering(ANSWERS, raw=raw) as (port, _):
        result = await asking("--addr", f"127.0.0.1:{port}")
    assert result.exit_code == 1
    assert result.stderr.endswith("is not answered in HTTP\n")


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_where_nobody_listens_nobody_is_healthy(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    result = await asking("--url", f"{scheme}://127.0.0.1:{port}")
    assert result.exit_code == 1
    assert result.stderr == f"packregistry: not healthy: {scheme}://127.0.0.1:{port}/livez: Connection refused\n"


async def test_a_port_without_tls_is_not_healthy_where_tls_is_expected() -> None:
    """Not even where a certificate would be demanded: nothing has been heard of TLS."""
    own = certificates.server()
    tls = {"REGISTRY_HTTP_TLS_CERTIFICATE": str(own.certificate), "REGISTRY_HTTP_TLS_KEY": str(own.key)}
    clients = {"REGISTRY_HTTP_TLS_CLIENTCAS_0": str(own.certificate)}

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        result = await asking("--addr", f"127.0.0.1:{port}", **tls, **clients)
    assert result.exit_code == 1, result.stdout


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("dribble", [b"", b"HTTP/1.1 "], ids=["silent", "half an answer"])
async def test_a_server_that_does_not_answer_in_time_is_not_healthy(
    scheme: str, dribble: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "SECONDS", 0.2)
    over = asyncio.Event()

    async def wait(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if scheme == "http":
            writer.write(dribble)
        await over.wait()
        writer.close()

    async with await asyncio.start_server(wait, "127.0.0.1", 0) as server:
        result = await asking("--url", f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        over.set()
    assert result.exit_code == 1
    assert result.stderr.endswith("/livez does not answer within 0.2 s\n")


async def test_the_time_is_for_all_of_it_and_not_for_each_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(0.0, 0.1)
    monkeypatch.setattr("packregistry.cli.health.time.monotonic", lambda: next(clock))
    async with answering(ANSWERS, raw=b"HTTP/1.1 200") as (port, _):
        with pytest.raises(health.UnhealthyError, match="does not answer within"):
            await asyncio.to_thread(health.probe, health.Target("127.0.0.1", port), 0.15)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        pytest.param(["--url", "ftp://localhost"], "is no URL: write http://", id="another scheme"),
        pytest.param(["--url", "http://localhost:port"], "is no URL", id="no port"),
        pytest.param(["--addr", "localhost"], "the server's configuration cannot be read: ", id="no address"),
        pytest.param(["--addr", "127.0.0.1:0"], "say with --addr which one it is", id="any port"),
        pytest.param(["/nowhere.yml"], "the server's configuration cannot be read: ", id="no file"),
    ],
)
def test_what_cannot_be_asked_is_not_healthy_and_says_why(args: list[str], message: str) -> None:
    result = cli("health", *args)
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


# Finding the server


PYTHON, ENTRY = "/opt/packregistry/bin/python", "/opt/packregistry/bin/packregistry-entrypoint"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.yml"
    path.write_text("version: 0.1\nhttp: {addr: '192.0.2.1:5001', prefix: /packs}\n")
    return path


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(["serve", "FILE"], "192.0.2.1:5001", id="the file"),
        pytest.param(["serve", "FILE", "--addr", "[::1]:7"], "[::1]:7", id="an option behind"),
        pytest.param(["serve", "--addr=:7", "FILE"], "127.0.0.1:7", id="an option before, in one word"),
        pytest.param(["serve", "--packs", "elsewhere", "--", "FILE"], "192.0.2.1:5001", id="another option's value"),
        pytest.param(["registry", "serve", "FILE"], "192.0.2.1:5001", id="the legacy name"),
        pytest.param(["serve"], "127.0.0.1:5000", id="no file"),
        pytest.param(["serve", "--addr", "0.0.0.0:7"], "127.0.0.1:7", id="every interface"),
        pytest.param(["serve", "--addr", "[::]:7"], "[::1]:7", id="every interface, of IPv6"),
    ],
)
def test_the_server_is_found_by_its_arguments(proc: Path, file: Path, arguments: list[str], expected: str) -> None:
    process(proc, 1, PYTHON, ENTRY, *arguments, cwd=file.parent)
    (file.parent / "FILE").symlink_to(file)
    assert health._target(None, None, None).authority == expected


def test_the_variables_of_the_server_count_and_not_ours(
    proc: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY_HTTP_ADDR", "127.0.0.1:9")
    process(proc, 1, PYTHON, ENTRY, "serve", str(file), REGISTRY_HTTP_ADDR="127.0.0.1:8")
    assert health._target(None, None, None).port == 8
    assert health._target(file, None, None).port == 9


@pytest.mark.parametrize("parent", [0, 1], ids=["of a pod with one process namespace", "of an init process"])
def test_a_server_behind_an_init_process_is_found(proc: Path, parent: int) -> None:
    process(proc, 1, "/sbin/docker-init", "--", ENTRY, "serve")
    process(proc, 12, PYTHON, ENTRY, "serve", "--addr", ":12", parent=9)
    process(proc, 7, PYTHON, ENTRY, "serve", "--addr", ":7", parent=parent)
    process(proc, 10, PYTHON, ENTRY, "serve", "--addr", ":10", parent=parent)
    assert health._target(None, None, None).port == 7


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["/usr/bin/registry", "serve", "/etc/docker/registry/config.yml"], id="another registry"),
        pytest.param([PYTHON, "/usr/bin/other", "serve"], id="another program"),
        pytest.param([PYTHON, ENTRY, "gc"], id="another command"),
        pytest.param([], id="a thread of the kernel"),
    ],
)
def test_other_processes_are_no_servers(proc: Path, arguments: list[str]) -> None:
    process(proc, 1, *arguments)
    assert list(health.servers(proc)) == []


def test_a_process_of_somebody_else_is_passed_over(proc: Path) -> None:
    process(proc, 1, PYTHON, ENTRY, "serve")
    (proc / "1" / "environ").unlink()
    assert list(health.servers(proc)) == []


@pytest.mark.parametrize("auth", ["require-and-verify-client-cert", "verify-client-cert-if-given"])
def test_whether_a_certificate_is_demanded_is_known_from_the_configuration(proc: Path, auth: str) -> None:
    tls = "{certificate: a, key: b, clientcas: [c], clientauth: " + auth + "}"
    file = proc.parent / "tls.yml"
    file.write_text(f"version: 0.1\nhttp: {{tls: {tls}}}\n")
    process(proc, 1, PYTHON, ENTRY, "serve", str(file))
    found = health._target(None, None, None)
    assert (found.secure, found.demands) == (True, auth.startswith("require"))


def test_every_option_of_serve_has_a_value() -> None:
    """By that the arguments of a running server are understood."""
    options = [found for found in serve_command.command.params if isinstance(found, click.Option)]
    assert options
    assert all(option.nargs == 1 and not option.is_flag for option in options)


# As a process


def test_it_starts_without_what_a_server_needs() -> None:
    """A check every few seconds must not cost what starting a server costs."""
    heavy = {"aiohttp", "asyncio", "packregistry.server", "rich", "uvloop"}
    program = f"import sys; from packregistry.cli import health; print(sorted({heavy!r} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


@pytest.mark.process
def test_a_real_server_is_healthy_until_it_ends(tmp_path: Path) -> None:
    with serving("--packs", str(tmp_path), "--data", str(tmp_path / "data")) as server:
        assert cli("health", "--url", server.url).exit_code == 0
        server.stop()
        assert cli("health", "--url", server.url).exit_code == 1


@pytest.mark.process
def test_a_real_server_that_demands_certificates_is_healthy(tmp_path: Path) -> None:
    own = certificates.server()
    tls: dict[str, Any] = {
        "REGISTRY_HTTP_TLS_CERTIFICATE": str(own.certificate),
        "REGISTRY_HTTP_TLS_KEY": str(own.key),
        "REGISTRY_HTTP_TLS_CLIENTCAS_0": str(certificates.authority("clients").certificate),
    }
    with serving("--packs", str(tmp_path), "--data", str(tmp_path / "data"), **tls) as server:
        port = server.url.rpartition(":")[2]
        result = cli("health", "--addr", f"127.0.0.1:{port}", **tls)
    assert (result.exit_code, "demands a certificate" in result.stdout) == (0, True), result.stderr
