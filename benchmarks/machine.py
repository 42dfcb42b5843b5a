"""What a benchmark ran on: without it a figure says nothing."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import os
import platform
import re
import shutil
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.servers import ROOT
from packregistry import __version__

_LIBRARIES = ("aiohttp", "uvloop", "bcrypt", "deflate", "pyyaml")
_PROGRAMS = {
    "docker-registry": ["docker-registry", "--version"],
    "nginx": ["nginx", "-v"],
    "wrk": ["wrk", "-v"],
}


def cores() -> tuple[int, int]:
    """The cores that servers and load are kept on; the same one twice where this process has no other."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[-1]


def description(directory: Path) -> dict[str, Any]:
    """The machine, the versions of everything, and when and how this was run. `directory` is where data are kept."""
    return {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python", "benchmarks/run.py", *sys.argv[1:]]),
        "cores": os.cpu_count(),
        "cpu": cpu_model(Path("/proc/cpuinfo")),
        "kernel": platform.release(),
        "filesystem": filesystem(directory, Path("/proc/mounts")),
        "load": os.getloadavg()[0],
        "versions": {
            "packregistry": __version__,
            "commit": commit(ROOT),
            "python": platform.python_version(),
            "openssl": ssl.OPENSSL_VERSION,
            **{name: importlib.metadata.version(name) for name in _LIBRARIES},
            **{name: program_version(command) for name, command in _PROGRAMS.items()},
        },
    }


def cpu_model(cpuinfo: Path) -> str:
    """What the processor calls itself."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.machine()


def filesystem(directory: Path, mounts: Path) -> str:
    """The type of the file system that a directory is on: what fsync costs is its doing."""
    best = ("", "unknown")
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return best[1]
    for line in lines:
        _, point, kind = line.split()[:3]
        if directory.resolve().is_relative_to(point) and len(point) >= len(best[0]):
            best = (point, kind)
    return best[1]


def program_version(command: list[str]) -> str:
    """The version that a program tells, or that it is not installed."""
    if shutil.which(command[0]) is None:
        return "not installed"
    text = _line(command)
    found = re.search(r"\d+\.\d+[\w.+-]*", text)
    return found[0] if found else text


def commit(root: Path) -> str:
    """The commit that is checked out, and whether it was changed since; empty outside a repository."""
    text = _line(["git", "-C", str(root), "describe", "--always", "--dirty"])
    return "" if text.startswith("fatal") else text


def _line(command: list[str]) -> str:
    """The first line that a command prints, whichever way; some exit with 1 when asked for their version."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout + done.stderr).strip().partition("\n")[0]
