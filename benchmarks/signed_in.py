"""What it costs a request that its sender has signed in: the rate of authenticated requests beside anonymous ones.

One server that lets everybody read is asked for the same small answer by `wrk`, in turns without credentials, with a
password, and with a token; server and load are kept on a core each. Access and audit logs are on. Prints the median of
the rounds' ratios and their spread; exits with 1 where a median is below the bound.

Usage: python benchmarks/signed_in.py [--rounds 7] [--seconds 3] [--bound 0.95]
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

PATH = "/v1/status-page/tags/list"
PACKS = Path(__file__).resolve().parents[1] / "packs"


def main() -> int:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--bound", type=float, default=0.95)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="packregistry-signed-in-") as name:
        directory = Path(name)
        env = prepared(directory)
        token = packregistry("token", "create", "bench", env=env).strip()
        pair = base64.b64encode(b"reader:a good password").decode()
        headers = {"anonymous": "", "password": f"Basic {pair}", "token": f"Bearer {token}"}
        with (directory / "log").open("wb") as log:
            command = [sys.executable, "-m", "packregistry", "serve", "--addr", "127.0.0.1:0", "--packs", str(PACKS)]
            server = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)
        try:
            url = listening(directory / "log", server)
            os.sched_setaffinity(server.pid, {0})
            rounds = [measured(url, headers, args.seconds) for _ in range(args.rounds)]
        finally:
            server.terminate()
            server.wait()
    result = {name: statistics.median(one[name] for one in rounds) for name in headers}
    print(f"GET {PATH}, 16 connections, {args.rounds} rounds of {args.seconds} s, {os.cpu_count()} cores\n")
    ratios = {}
    for name in headers:
        each = sorted(one[name] / one["anonymous"] for one in rounds)
        ratios[name] = statistics.median(each)
        spread = f"({each[0]:.3f} to {each[-1]:.3f})"
        print(f"{name:10} {result[name]:8.0f} requests/s  {ratios[name]:.3f} of anonymous {spread}")
    print(f"\n{json.dumps({'rates': result, 'ratios': ratios, 'bound': args.bound})}")
    return int(min(ratios.values()) < args.bound)


def prepared(directory: Path) -> dict[str, str]:
    """The environment of a server with a user, that lets everybody read."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("REGISTRY")}
    env = {
        **kept,
        "REGISTRY_AUTH": "htpasswd",
        "REGISTRY_AUTH_HTPASSWD_PATH": str(directory / "users"),
        "REGISTRY_AUTH_ANONYMOUS": "read",
        "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": str(directory / "data"),
    }
    packregistry(
        "user", "add", "reader", "--password-stdin", "--file", str(directory / "users"), env=env, text="a good password"
    )
    return env


def packregistry(*args: str, env: Mapping[str, str], text: str = "") -> str:
    """What a command prints."""
    command = [sys.executable, "-m", "packregistry", *args]
    return subprocess.run(command, env=env, input=text, stdout=subprocess.PIPE, text=True, check=True).stdout


def listening(log: Path, server: subprocess.Popen[bytes]) -> str:
    """The URL of the server, once it says so."""
    while server.poll() is None:
        found = re.search(r" at (http://\S+)", log.read_text())
        if found:
            return found[1]
    raise SystemExit(log.read_text())


def measured(url: str, headers: Mapping[str, str], seconds: int) -> dict[str, float]:
    """Requests a second with each header, one after the other."""
    rates = {}
    for name, value in headers.items():
        command = [
            "taskset",
            "-c",
            "1",
            "wrk",
            "-t1",
            "-c16",
            f"-d{seconds}s",
            *(["-H", f"Authorization: {value}"] if value else []),
        ]
        done = subprocess.run([*command, url + PATH], capture_output=True, text=True, check=True)
        if "Non-2xx" in done.stdout:
            raise SystemExit(f"{name}: {done.stdout}")
        rates[name] = float(re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)[1])  # type: ignore[index]
    return rates


if __name__ == "__main__":
    sys.exit(main())
