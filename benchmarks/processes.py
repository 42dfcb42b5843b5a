"""Processes that a benchmark starts: each on the cores it may use, and each ended by its id, whatever happens."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

START_SECONDS = 60.0
STOP_SECONDS = 15.0
POLL_SECONDS = 0.002


class ProgramError(Exception):
    """A program did not start, or did not do what it was started for; `str()` has its last words."""


@contextmanager
def running(
    command: Sequence[str | Path], log: Path, cores: Sequence[int], env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command on `cores` while the context is open. What it says goes to `log`; it is told to stop by SIGTERM.

    In a session of its own, so that a Ctrl-C reaches this process alone, which then ends it as always.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*pinned(cores), *command], env=env, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield process
    finally:
        end(process)


def clean_environment() -> dict[str, str]:
    """The environment without what would configure a registry."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("REGISTRY", "PACKREGISTRY"))}


def pinned(cores: Sequence[int]) -> list[str]:
    """What comes before a command to keep it on these cores. It replaces itself: the process id is the command's."""
    return ["taskset", "-c", ",".join(map(str, sorted(set(cores))))]


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and its children that are left, by their ids."""
    left = children(process.pid)
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for pid in left:
        try:
            if os.getsid(pid) == process.pid:  # an id may be somebody else's by now
                os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def said(log: Path, process: subprocess.Popen[bytes], pattern: str) -> str:
    """The first group of `pattern`, once the process has said so. Raises `ProgramError` where it ends or takes long."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        # Asked before the log is read, or its last words could come between.
        ended = process.poll() is not None
        text = log.read_text(errors="replace")
        found = re.search(pattern, text)
        if found:
            return found[1]
        if ended:
            break
        time.sleep(POLL_SECONDS)
    raise ProgramError(f"{process.args!r} did not start: {text[-2000:].strip()}")


def accepts(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the process accepts connections at a port. Raises `ProgramError` where it ends or takes long."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(POLL_SECONDS)
        else:
            return
    raise ProgramError(f"{process.args!r} did not start: {log.read_text(errors='replace')[-2000:].strip()}")


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def children(pid: int) -> list[int]:
    """The processes that a process has started, and theirs. Empty where it is gone."""
    found: list[int] = []
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            direct = [int(child) for child in listing.read_text().split()]
        except OSError:
            continue
        for child in direct:
            found += [child, *children(child)]
    return found


def worked(pids: Sequence[int]) -> float:
    """Seconds that processes have had of the processor so far. Raises `ProgramError` where one is gone."""
    ticks = 0
    for pid in pids:
        try:
            # The name in the second field may hold anything; the rest comes after its closing bracket.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError as error:
            raise ProgramError(f"process {pid} is gone") from error
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def resident(pid: int, *, peak: bool = False) -> int:
    """The memory of a process in bytes as it is, or at most was. Raises `ProgramError` where it is gone."""
    field = "VmHWM" if peak else "VmRSS"
    try:
        found = re.search(rf"^{field}:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    except OSError as error:
        raise ProgramError(f"process {pid} is gone") from error
    if found is None:
        raise ProgramError(f"process {pid} has no memory any more")
    return int(found[1]) * 1024
