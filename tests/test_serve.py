"""The server as a process: started, asked, signalled, and started again."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from packregistry import __version__
from tests.factories import make_pack
from tests.process import DEADLINE, Server, run, serving

pytestmark = pytest.mark.process


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether the condition comes true before the deadline."""
    end = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def catalog(server: Server) -> list[str]:
    names: list[str] = server.get("/v1/_catalog").json()["repositories"]
    return names


def test_without_a_configuration_it_serves_packs_of_the_working_directory_to_this_machine(tmp_path: Path) -> None:
    make_pack(tmp_path / "packs", "hello", "1.2.0")
    with serving(cwd=tmp_path) as server:
        assert server.url.startswith("http://127.0.0.1:")
        assert server.get("/health").body == b'{"status":"UP"}'
        assert eventually(lambda: catalog(server) == ["hello"])
        assert (tmp_path / ".packregistry" / "packs" / "hello.json").exists()
        status, rest, errors = server.stop()
    assert status == 0
    assert "Traceback" not in errors
    # What the first look published is recorded, once, and not before what people look for.
    assert server.output.startswith("packregistry ")
    assert (server.output + rest).count('"action": "publish", "object": "hello:1.2.0"') == 1


def test_the_greeting_says_where_what_and_what_next(tmp_path: Path) -> None:
    make_pack(tmp_path / "packs", "hello", "1.2.0")
    make_pack(tmp_path / "packs", "hello", "1.10.0")
    with serving(cwd=tmp_path, REGISTRY_PACKS_SETTLE="0s") as server:
        assert f"packregistry {__version__} at {server.url}" in server.output
        assert "hello  1.10.0, 1.2.0" in server.output
        assert "2 versions of 1 packs, from packs; kept in .packregistry" in server.output
        commands = [line.split() for line in server.output.splitlines() if line.strip().startswith("curl")]
        assert len(commands) >= 3
        for command in commands:
            assert server.get(command[-1].removeprefix(server.url)).status == 200


@pytest.mark.thorough
def test_flags_win_over_variables_and_these_over_the_file(tmp_path: Path) -> None:
    for place in ("file", "variable", "flag"):
        make_pack(tmp_path / place, f"from-{place}")
    config = tmp_path / "config.yml"
    config.write_text(
        f"version: 0.1\nstorage: inmemory\nauth: none\npacks: {{directories: [{tmp_path}/file], settle: 0s}}\n"
    )
    with serving(str(config)) as server:
        assert catalog(server) == ["from-file"]
    with serving(str(config), REGISTRY_PACKS_DIRECTORIES=f"{tmp_path}/variable") as server:
        assert catalog(server) == ["from-variable"]
    flags = ["--packs", f"{tmp_path}/flag"]
    with serving(str(config), *flags, REGISTRY_PACKS_DIRECTORIES=f"{tmp_path}/variable") as server:
        assert catalog(server) == ["from-flag"]


def test_a_wrong_configuration_is_located_and_exits_with_2(tmp_path: Path) -> None:
    config = tmp_path / "config.yml"
    config.write_text("version: 0.1\nhttp:\n  adr: :5000\n")
    done = run("serve", str(config))
    assert done.returncode == 2
    assert f"{config}:3:3" in done.stderr
    assert "addr" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_open_address_without_authentication_is_refused_with_what_to_do(tmp_path: Path) -> None:
    done = run("serve", "--addr", "0.0.0.0:0", cwd=tmp_path)
    assert done.returncode == 2
    assert "auth: none" in done.stderr
    assert "htpasswd" in done.stderr
    assert not (tmp_path / ".packregistry").exists()


@pytest.mark.thorough
def test_an_address_in_use_is_named_and_exits_with_1(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run("serve", "--addr", address, cwd=tmp_path)
    assert done.returncode == 1
    assert f"cannot listen on {address}" in done.stderr
    assert "--addr" in done.stderr


@pytest.mark.thorough
def test_a_data_directory_that_is_a_file_is_named_and_exits_with_1(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.write_text("")
    done = run("serve", "--addr", "127.0.0.1:0", "--data", str(data), cwd=tmp_path)
    assert done.returncode == 1
    assert str(data) in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_users_file_is_an_error_that_says_how_to_make_one(tmp_path: Path) -> None:
    done = run("serve", cwd=tmp_path, REGISTRY_AUTH="htpasswd", REGISTRY_AUTH_HTPASSWD_PATH=str(tmp_path / "users"))
    assert done.returncode == 2
    assert str(tmp_path / "users") in done.stderr
    assert "packregistry user add admin --file" in done.stderr


@pytest.mark.thorough
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_a_download_under_way_is_finished_before_the_server_stops(tmp_path: Path, number: signal.Signals) -> None:
    noise = os.urandom(24 * 1024 * 1024)
    make_pack(tmp_path / "packs", "big", "1.0.0", files={"manifests/noise.bin": noise})
    with serving(cwd=tmp_path, REGISTRY_PACKS_SETTLE="0s") as server:
        size = server.get("/api/v1/packs/big").json()["versions"][0]["archive"]["size"]
        with socket.create_connection(server.address) as client:
            client.settimeout(DEADLINE)
            client.sendall(b"GET /api/v1/packs/big/versions/1.0.0/archive HTTP/1.1\r\nHost: x\r\n\r\n")
            received = client.recv(65536)
            server.process.send_signal(number)
            # The listening socket goes first: from then on the server is stopping.
            assert eventually(lambda: refuses(server.address))
            while chunk := client.recv(1 << 20):
                received += chunk
        head, _, body = received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert len(body) == size
        server.process.communicate(timeout=DEADLINE)
        assert server.process.returncode == 0


def refuses(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=1).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.thorough
def test_a_restart_serves_what_was_there_and_follows_what_changed_meanwhile(tmp_path: Path) -> None:
    make_pack(tmp_path / "packs", "stays")
    make_pack(tmp_path / "packs", "goes")
    env = {"REGISTRY_PACKS_SETTLE": "0s"}
    with serving(cwd=tmp_path, **env) as server:
        before = server.get("/api/v1/packs/stays").json()
        server.stop()
    shutil.rmtree(tmp_path / "packs" / "goes-1.0.0")
    make_pack(tmp_path / "packs", "comes")
    with serving(cwd=tmp_path, **env) as server:
        assert eventually(lambda: catalog(server) == ["comes", "stays"])
        assert server.get("/api/v1/packs/stays").json() == before


def test_a_pack_put_into_a_watched_directory_appears_and_one_taken_away_goes(tmp_path: Path) -> None:
    (tmp_path / "packs").mkdir()
    with serving(cwd=tmp_path, REGISTRY_PACKS_SETTLE="100ms", REGISTRY_PACKS_RESCAN="1s") as server:
        assert catalog(server) == []
        root = make_pack(tmp_path / "packs", "hello")
        assert eventually(lambda: catalog(server) == ["hello"])
        shutil.rmtree(root)
        assert eventually(lambda: catalog(server) == [])
        assert server.get("/api/v1/packs/hello").status == 404


@pytest.mark.thorough
def test_two_processes_on_one_data_directory_show_the_same(tmp_path: Path) -> None:
    (tmp_path / "packs").mkdir()
    env = {"REGISTRY_PACKS_SETTLE": "0s", "REGISTRY_PACKS_RESCAN": "200ms"}
    with serving(cwd=tmp_path, **env) as first, serving(cwd=tmp_path, **env) as second:
        for version in ("1.0.0", "1.1.0"):
            make_pack(tmp_path / "packs", "hello", version)
            path = f"/v1/hello/manifests/{version}"
            assert eventually(lambda: 200 in (first.get(path).status, second.get(path).status))  # noqa: B023 — called at once
            assert [first.get(path).status, second.get(path).status] == [200, 200]
        first.stop()
        make_pack(tmp_path / "packs", "later")
        assert eventually(lambda: catalog(second) == ["hello", "later"])


def test_users_of_an_htpasswd_file_are_let_in_and_others_are_not(tmp_path: Path) -> None:
    make_pack(tmp_path / "packs", "hello")
    # The bcrypt hash of "secret", at cost 8.
    (tmp_path / "users").write_text("reader:$2b$08$8Wz9xkKwYFi9g.ZelAOZT.brQTLoWTufaorB37k1scnosDEKxM86m\n")
    env = {"REGISTRY_AUTH": "htpasswd", "REGISTRY_AUTH_HTPASSWD_PATH": "users", "REGISTRY_PACKS_SETTLE": "0s"}
    with serving(cwd=tmp_path, **env) as server:
        assert "-u USER" in server.output
        refused = server.get("/v1/")
        assert refused.status == 401
        assert refused.headers["www-authenticate"] == 'Basic realm="basic-realm"'
        assert refused.json()["errors"][0]["code"] == "UNAUTHORIZED"
        good = {"Authorization": "Basic cmVhZGVyOnNlY3JldA=="}
        assert server.get("/v1/_catalog", good).json() == {"repositories": ["hello"]}
        assert server.get("/v1/_catalog", {"Authorization": "Basic cmVhZGVyOndyb25n"}).status == 401
        assert server.get("/health").status == 200
        _, output, errors = server.stop()
    assert "secret" not in output + errors
    assert 'authentication failed user="reader"' in errors
    assert '127.0.0.1 reader "GET /v1/_catalog" 200' in output


@pytest.mark.thorough
def test_log_lines_are_json_where_that_is_wanted(tmp_path: Path) -> None:
    make_pack(tmp_path / "packs", "hello")
    env = {
        "REGISTRY_LOG_FORMATTER": "json",
        "REGISTRY_LOG_FIELDS": "{service: registry}",
        "REGISTRY_PACKS_SETTLE": "0s",
    }
    with serving(cwd=tmp_path, **env) as server:
        server.get("/v1/_catalog")
        _, output, errors = server.stop()
    lines = [json.loads(line) for line in [*output.splitlines(), *errors.splitlines()] if line.startswith("{")]
    request = next(line for line in lines if line.get("logger") == "packregistry.access")
    assert (request["method"], request["path"], request["status"]) == ("GET", "/v1/_catalog", 200)
    assert {line["service"] for line in lines} == {"registry"}
    assert any("created hello:1.0.0" in line.get("message", "") for line in lines)


@pytest.mark.thorough
def test_nothing_is_kept_of_an_in_memory_registry(tmp_path: Path) -> None:
    make_pack(tmp_path / "packs", "hello")
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    env = {"REGISTRY_STORAGE": "inmemory", "REGISTRY_PACKS_SETTLE": "0s", "TMPDIR": str(temporary)}
    with serving(cwd=tmp_path, **env) as server:
        assert catalog(server) == ["hello"]
        assert "kept in memory" in server.output
        kept = next(temporary.iterdir())
        assert stat.S_IMODE(kept.stat().st_mode) == 0o700
        server.stop()
    assert not list(temporary.iterdir())
    assert not (tmp_path / ".packregistry").exists()


def test_help_lists_commands_and_what_exit_codes_mean() -> None:
    assert "serve" in run("--help").stdout
    told = run("serve", "--help").stdout
    assert "REGISTRY_HTTP_ADDR" in told
    assert "Exit code" in told
    assert run("--version").stdout == f"packregistry {__version__}\n"


def test_an_unknown_command_exits_with_2() -> None:
    done = run("srve")
    assert done.returncode == 2
    assert "serve" in done.stderr


def test_a_second_signal_ends_the_server_at_once_with_another_code(tmp_path: Path) -> None:
    make_pack(tmp_path / "packs", "large", files={"charts/noise": os.urandom(8 << 20)})
    with serving(cwd=tmp_path, REGISTRY_HTTP_DRAINTIMEOUT=f"{10 * DEADLINE}s") as server:
        connection = http.client.HTTPConnection(*server.address, timeout=DEADLINE)
        connection.request("GET", "/api/v1/packs/large/versions/1.0.0/archive")
        response = connection.getresponse()
        server.process.send_signal(signal.SIGINT)
        assert server.process.stderr is not None
        while b"stopping" not in server.process.stderr.readline():
            pass
        code, _, errors = server.stop(signal.SIGINT)
        response.close()
        connection.close()
    assert code == 1
    assert "stopped before all requests had ended" in errors
