"""Pushing to server processes: with curl, from many clients, and with a server that is killed."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from packregistry import archive
from packregistry.model import PackRecord
from tests.factories import MemoryFile, make_pack, pack_files
from tests.process import DEADLINE, Answer, Server, run, serving
from tests.test_publish import manifest

pytestmark = [pytest.mark.process, pytest.mark.thorough]

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


def tarball(name: str = "hello", version: str = "1.0.0", readme: bytes = b"hello", noise: int = 0) -> bytes:
    out = io.BytesIO()
    files = {"README.md": readme, "manifests/noise": b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(noise))}
    contents = pack_files(name, version, files)
    archive.pack([MemoryFile(path, data) for path, data in contents.items()], f"{name}-{version}", out)
    return out.getvalue()


# Pushes many archives at once and prints the status of each.
CLIENT = """
import concurrent.futures, http.client, json, sys
host, port, *files = sys.argv[1:]
def push(file):
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    connection.request("POST", "/api/v1/packs", open(file, "rb").read())
    return connection.getresponse().status
with concurrent.futures.ThreadPoolExecutor(25) as threads:
    print(json.dumps(dict(zip(files, threads.map(push, files)))))
"""


# One step of an upload with curl, named by the first argument.
UPLOAD = r"""
set -euo pipefail
location() { tr -d '\r' | sed -n 's/^[Ll]ocation: //p'; }
offset() { curl -fsS -D - -o /dev/null "$1" | tr -d '\r' | sed -n 's/^[Rr]ange: 0-//p'; }
case $1 in
begin)
    curl -fsS -X POST --data-binary @config.json "$URL/v1/hello/blobs/uploads/?digest=$CONFIG" -o /dev/null
    curl -fsS -X POST -d '' -D - -o /dev/null "$URL/v1/hello/blobs/uploads/" | location > upload
    half=$((SIZE / 4))
    head -c $half pack.tar.gz |
        curl -fsS -X PATCH -H "Content-Range: 0-$((half - 1))" --data-binary @- "$URL$(cat upload)"
    [ "$(offset "$URL$(cat upload)")" = $((half - 1)) ]
    # A connection that breaks half-way: what arrived is kept.
    tail -c +$((half + 1)) pack.tar.gz | head -c 3000000 |
        curl -sS -X PATCH --limit-rate 2M --max-time 1 -T - "$URL$(cat upload)" 2>/dev/null || true
    # The server notices when the connection is gone.
    for _ in $(seq 100); do offset "$URL$(cat upload)" > offset && break; sleep 0.05; done
    [ "$(cat offset)" -gt $((half - 1)) ]
    ;;
slowly)
    next=$(($(offset "$URL$(cat upload)") + 1))
    tail -c +$((next + 1)) pack.tar.gz | curl -sS -X PATCH --limit-rate 2M -T - "$URL$(cat upload)"
    ;;
finish)
    next=$(($(offset "$URL$(cat upload)") + 1))
    tail -c +$((next + 1)) pack.tar.gz | curl -fsS -X PATCH -T - "$URL$(cat upload)"
    curl -fsS -X PUT "$URL$(cat upload)?digest=$DIGEST" -D - -o /dev/null |
        grep -qi "docker-content-digest: $DIGEST"
    curl -fsS -X PUT --data-binary @manifest.json "$URL/v1/hello/manifests/1.0.0"
    curl -fsS "$URL/v1/hello/blobs/$DIGEST" | cmp - pack.tar.gz
    curl -fsS -X POST -d '' "$URL/v1/other/blobs/uploads/?mount=$DIGEST&from=hello" -D - -o /dev/null |
        grep -q ' 201 '
    curl -fsS -X POST -d '' -D - -o /dev/null "$URL/v1/hello/blobs/uploads/" | location > upload
    curl -fsS -X DELETE "$URL$(cat upload)"
    [ "$(curl -s -o /dev/null -w '%{http_code}' "$URL$(cat upload)")" = 404 ]
    ;;
esac
"""


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def push(server: Server, data: bytes, query: str = "") -> Answer:
    return server.get(f"/api/v1/packs{query}", method="POST", body=data)


@needs_curl
@pytest.mark.real
def test_curl_drives_the_upload_protocol_through_a_killed_server(tmp_path: Path) -> None:
    """One shot, in chunks, after a broken connection, after a kill in the middle of writing, mounted, cancelled."""
    data, config = tarball(noise=200_000), b"{}"
    (tmp_path / "pack.tar.gz").write_bytes(data)
    (tmp_path / "config.json").write_bytes(config)
    (tmp_path / "manifest.json").write_bytes(manifest(data, config))
    (tmp_path / "packs").mkdir()
    facts = {"SIZE": str(len(data)), "DIGEST": digest(data), "CONFIG": digest(config)}

    def bash(server: Server, step: str) -> subprocess.Popen[str]:
        env = {**os.environ, **facts, "URL": server.url}
        return subprocess.Popen(["bash", "-c", UPLOAD, "bash", step], cwd=tmp_path, env=env, text=True)

    with serving(cwd=tmp_path) as server:
        assert bash(server, "begin").wait(DEADLINE) == 0
        upload = next((tmp_path / ".packregistry" / "uploads" / "hello").iterdir())
        before = upload.stat().st_size
        slow = bash(server, "slowly")
        end = time.monotonic() + DEADLINE
        while upload.stat().st_size == before and time.monotonic() < end:
            time.sleep(0.01)
        server.process.send_signal(signal.SIGKILL)
        slow.wait(DEADLINE)
    assert before < upload.stat().st_size < len(data)
    with serving(cwd=tmp_path) as server:
        assert bash(server, "finish").wait(DEADLINE) == 0


def test_parallel_pushes_to_two_processes_lose_nothing_and_have_one_winner(tmp_path: Path) -> None:
    (tmp_path / "packs").mkdir()
    same = [tarball("same", readme=b"%d" % number) for number in range(50)]
    different = [tarball(f"pack-{number}", readme=b"x") for number in range(50)]
    for number, data in enumerate(same + different):
        (tmp_path / f"{number}.tar.gz").write_bytes(data)
    with serving(cwd=tmp_path) as first, serving(cwd=tmp_path) as second:
        servers = [first, second]
        clients = []
        for number in range(4):
            host, port = servers[number % 2].address
            words = [sys.executable, "-c", CLIENT, host, str(port), *(f"{n}.tar.gz" for n in range(number, 100, 4))]
            clients.append(subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE))
        found: dict[str, int] = {}
        for client in clients:
            output, _ = client.communicate(timeout=DEADLINE)
            found |= json.loads(output)
        statuses = [found[f"{number}.tar.gz"] for number in range(100)]
        assert sorted(statuses[:50]) == [201, *[409] * 49]
        assert statuses[50:] == [201] * 50
        for server in servers:
            names = server.get("/v1/_catalog").json()["repositories"]
            assert names == sorted([*(f"pack-{number}" for number in range(50)), "same"])
        winner = same[statuses.index(201)]
        archives = {server.get("/api/v1/packs/same/versions/1.0.0/archive").body for server in servers}
        assert archives == {winner}
    for path in (tmp_path / ".packregistry" / "packs").iterdir():
        assert len(PackRecord.decode(path.read_bytes()).history) == 1


def test_versions_of_one_pack_pushed_to_two_processes_are_all_there(tmp_path: Path) -> None:
    (tmp_path / "packs").mkdir()
    with serving(cwd=tmp_path) as first, serving(cwd=tmp_path) as second, ThreadPoolExecutor(16) as threads:
        servers = [first, second]
        versions = [f"1.{number}.0" for number in range(40)]
        pushes = [(servers[number % 2], tarball("hello", version)) for number, version in enumerate(versions)]
        assert set(threads.map(lambda item: push(*item).status, pushes)) == {201}
        for server in servers:
            tags = server.get("/v1/hello/tags/list").json()["tags"]
            assert set(versions) <= set(tags)


def test_gc_says_what_it_would_remove_and_then_removes_it(tmp_path: Path) -> None:
    (tmp_path / "packs").mkdir()
    with serving(cwd=tmp_path) as server:
        push(server, tarball())
        assert push(server, tarball(readme=b"other"), "?force=true&message=why").status == 201
        kept = run("gc", "--dry-run", cwd=tmp_path)
        assert (kept.returncode, kept.stdout) == (0, "")
        would = run("gc", "--dry-run", "--grace", "0s", cwd=tmp_path)
        assert digest(tarball()) in would.stdout
        assert "would be removed" in would.stderr
        done = run("gc", "--grace", "0s", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (0, would.stdout)
        assert server.get("/api/v1/packs/hello/versions/1.0.0/archive").body == tarball(readme=b"other")
    assert run("gc", "--data", str(tmp_path / "nothing")).returncode == 1
    assert run("gc", "--grace", "soon").returncode == 2
    assert run("gc", REGISTRY_STORAGE="inmemory").returncode == 2


STEPS = [
    (call, number) for call, most in (("rename", 8), ("fsync", 10), ("utimensat", 6)) for number in range(1, most + 1)
]


@needs_strace
@pytest.mark.real
@pytest.mark.parametrize(("call", "number"), STEPS, ids=str)
def test_a_server_killed_at_any_step_has_the_old_state_or_the_new(tmp_path: Path, call: str, number: int) -> None:
    (tmp_path / "packs").mkdir()
    old, new = tarball(), tarball(readme=b"new")
    with serving(cwd=tmp_path) as server:
        assert push(server, old).status == 201
        calls = {"rename": "rename,renameat,renameat2", "fsync": "fsync,fdatasync", "utimensat": "utimensat"}[call]
        tracer = subprocess.Popen(
            [
                *("strace", "-f", "-qq", "-o", "/dev/null", "-p", str(server.process.pid)),
                *("-e", f"trace={calls}", "-e", f"inject={calls}:signal=SIGKILL:when={number}"),
            ],
            stderr=subprocess.PIPE,
        )
        attached = Path(f"/proc/{server.process.pid}/status")
        end = time.monotonic() + DEADLINE
        while "TracerPid:\t0\n" in attached.read_text() and time.monotonic() < end:
            time.sleep(0.01)
        try:
            push(server, new, "?force=true&message=why")
            acknowledged = True
        except (OSError, EOFError):
            acknowledged = False
        if acknowledged:
            tracer.terminate()
        else:
            # Its tracer ends when the killed process is laid to rest.
            server.process.wait(DEADLINE)
        tracer.communicate(timeout=DEADLINE)
    with serving(cwd=tmp_path) as server:
        found = server.get("/api/v1/packs/hello/versions/1.0.0/archive").body
        assert found in ({new} if acknowledged else {old, new})
        manifest_of = server.get("/v1/hello/manifests/1.0.0")
        for layer in manifest_of.json()["layers"]:
            assert digest(server.get(f"/v1/hello/blobs/{layer['digest']}").body) == layer["digest"]
        assert len(server.get("/api/v1/packs/hello").json()["history"]) == (2 if found == new else 1)
        assert push(server, new, "?force=true&message=again&skipDigestCheck=true").status == 201
        swept = run("gc", "--grace", "0s", cwd=tmp_path)
        assert swept.returncode == 0, swept.stderr
    data = tmp_path / ".packregistry"
    assert not list((data / "staging").iterdir())
    record = PackRecord.decode((data / "packs" / "hello.json").read_bytes())
    needed = {blob.digest.hex for release in record.releases.values() for blob in release.blobs()}
    assert {path.name for path in (data / "blobs" / "sha256").iterdir()} == needed
    assert json.loads(manifest_of.body)["schemaVersion"] == 2


def test_deletion_is_switched_off_by_configuration(tmp_path: Path) -> None:
    (tmp_path / "packs").mkdir()
    with serving(cwd=tmp_path, REGISTRY_STORAGE_DELETE_ENABLED="false") as server:
        assert push(server, tarball()).status == 201
        for path in ("/api/v1/packs/hello/versions/1.0.0", "/v1/hello/manifests/1.0.0"):
            assert server.get(path, method="DELETE").status == 405
        assert server.get("/v1/hello/manifests/1.0.0").status == 200


def test_a_running_server_sweeps_by_itself(tmp_path: Path) -> None:
    (tmp_path / "packs").mkdir()
    settings = {"REGISTRY_STORAGE_SWEEP_GRACE": "1s", "REGISTRY_STORAGE_SWEEP_INTERVAL": "200ms"}
    with serving(cwd=tmp_path, **settings) as server:
        push(server, tarball())
        push(server, tarball(readme=b"other"), "?force=true&message=why")
        old = tmp_path / ".packregistry" / "blobs" / "sha256" / digest(tarball())[7:]
        assert old.exists()
        end = time.monotonic() + DEADLINE
        while old.exists() and time.monotonic() < end:
            time.sleep(0.05)
        assert not old.exists()
        assert server.get("/api/v1/packs/hello/versions/1.0.0/archive").body == tarball(readme=b"other")
        _, _, errors = server.stop()
    assert "INFO sweep swept " in errors


def test_a_directory_and_a_push_of_the_same_pack_live_together(tmp_path: Path) -> None:
    root = make_pack(tmp_path / "packs", "hello", files={"README.md": b"hello", "manifests/noise": b""})
    with serving(cwd=tmp_path, REGISTRY_PACKS_SETTLE="0s") as server:
        answer = push(server, tarball())
        assert (answer.status, answer.json()["action"]) == (200, "unchanged")
        assert root.is_dir()
