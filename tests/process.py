"""packregistry as a process of its own, as an operator starts it."""

from __future__ import annotations

import http.client
import json
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DEADLINE = 30.0


@dataclass
class Answer:
    """An HTTP response, read whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Server:
    """A running server; `output` collects what it has written to standard output until it was found to listen."""

    process: subprocess.Popen[bytes]
    url: str
    output: str
    connections: list[http.client.HTTPConnection] = field(default_factory=list)

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.url.removeprefix("http://").rsplit(":", 1)
        return host, int(port)

    def get(
        self, path: str, headers: Mapping[str, str] | None = None, method: str = "GET", body: bytes | None = None
    ) -> Answer:
        connection = http.client.HTTPConnection(*self.address, timeout=DEADLINE)
        try:
            connection.request(method, path, body, headers=dict(headers or {}))
            response = connection.getresponse()
            return Answer(
                response.status, {key.lower(): value for key, value in response.getheaders()}, response.read()
            )
        finally:
            connection.close()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
        """Send a signal; return the exit code, and what was written to standard output and error meanwhile."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=DEADLINE)
        return self.process.returncode, out.decode(), err.decode()


def environment(**more: str) -> dict[str, str]:
    """The environment without what would configure a server, plus `more`; coverage is collected where it is on."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("REGISTRY", "PACKREGISTRY"))}
    return {**kept, "PYTHONUNBUFFERED": "1", **more}


def run(*args: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `packregistry ARGS` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "packregistry", *args],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        cwd=cwd,
        env=environment(**env),
        check=False,
    )


@contextmanager
def serving(*args: str, cwd: Path | None = None, **env: str) -> Iterator[Server]:
    """`packregistry serve ARGS` on a free port, from when it listens until the context ends."""
    command = [sys.executable, "-m", "packregistry", "serve", *args]
    if not any(arg.startswith("--addr") for arg in args):
        command += ["--addr", "127.0.0.1:0"]
    process = subprocess.Popen(command, cwd=cwd, env=environment(**env), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        output = until_listening(process)
        found = re.search(r" at (https?://\S+)", output)
        assert found, output
        yield Server(process, found[1], output)
    finally:
        if process.poll() is None:
            # Its workers hold the pipes, and may have nobody to end them any more.
            workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            process.kill()
            for worker in workers:
                with suppress(ProcessLookupError):
                    os.kill(int(worker), signal.SIGKILL)
        process.communicate(timeout=DEADLINE)


def until_listening(process: subprocess.Popen[bytes]) -> str:
    """What the process writes up to the end of its greeting; fails with its error output if it ends before."""
    assert process.stdout is not None
    assert process.stderr is not None
    output = b""
    end = time.monotonic() + DEADLINE
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while b"Ctrl-C stops the server" not in output:
            assert selector.select(end - time.monotonic()), f"not listening after {DEADLINE} s: {output!r}"
            chunk = os.read(process.stdout.fileno(), 65536)
            assert chunk, f"ended: {output.decode()}{process.stderr.read().decode()}"
            output += chunk
    return output.decode()
