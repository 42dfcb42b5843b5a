"""A server that is asked, or told to stop, before it has started."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from packregistry import config, server
from packregistry.health import STARTING
from packregistry.registry import Registry
from packregistry.sources import STATE
from tests.factories import make_pack
from tests.process import DEADLINE, environment, until_listening


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_server_that_is_told_to_stop_while_it_starts_stops(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()

    async def never(self: Registry) -> None:
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(Registry, "open", never)
    flags = {"http.addr": "127.0.0.1:0", "storage.filesystem.rootdirectory": str(tmp_path / "data")}
    loaded = config.load(None, {}, flags).config
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(server.serve(loaded, lambda _: pytest.fail("it has started")))
    try:
        async with asyncio.timeout(DEADLINE):
            await begun.wait()
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), number)
            await task
    finally:
        for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(each)


def reason(url: str) -> str:
    """Why the server is not ready; empty where there is no answer."""
    try:
        with urllib.request.urlopen(url + "/readyz", timeout=DEADLINE) as answer:
            return f"{answer.status}"
    except urllib.error.HTTPError as error:
        with error:
            return str(json.loads(error.read())["reason"])
    except OSError:
        return ""


@pytest.mark.process
@pytest.mark.parametrize("looks", [pytest.param(True, id="it comes"), pytest.param(False, id="stopped before")])
def test_workers_wait_for_the_first_look_and_say_so(looks: bool, tmp_path: Path) -> None:
    """Here another process has the directories to itself, as one of several workers does, and has not looked yet."""
    make_pack(tmp_path / "packs", "hello")
    data = tmp_path / ".packregistry"
    data.mkdir()
    # It names the port that the system has chosen as soon as the address is bound.
    command = [sys.executable, "-m", "packregistry", "serve", "--addr", "127.0.0.1:0", "--workers", "2"]
    with (data / "sources.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        try:
            url = f"http://127.0.0.1:{port_of(process.pid)}"
            deadline = time.monotonic() + DEADLINE
            while not (found := reason(url)) and time.monotonic() < deadline:
                time.sleep(0.02)
            assert found == STARTING
            if looks:
                (data / STATE).write_text("{}")
                until_listening(process)
                assert reason(url) == "200"
            process.send_signal(signal.SIGTERM)
            output, errors = process.communicate(timeout=DEADLINE)
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()
    assert process.returncode == 0
    assert b"Ctrl-C stops" not in output
    assert b"Traceback" not in errors


def port_of(pid: int) -> int:
    """The TCP port that a process, or one of its children, listens on."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        rows = [row.split() for row in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
        ports = {row[9]: int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A"}
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = str(link.readlink())
            except FileNotFoundError:
                continue
            if (inode := target.removeprefix("socket:[").removesuffix("]")) in ports:
                return ports[inode]
        time.sleep(0.02)
    raise AssertionError("it does not listen")
