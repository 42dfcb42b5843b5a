"""What it costs a request that its sender has signed in: the rate of authenticated requests beside anonymous ones.

One server that lets everybody read is asked for the same small answer by `wrk`, in turns without credentials, with a
password, and with a token; server and load are kept on a core each. Access and audit logs are on. Prints the median of
the rounds' ratios and their spread; exits with 1 where a median is below the bound.

Usage: python benchmarks/signed_in.py [--rounds 7] [--seconds 3] [--bound 0.95]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import client, machine, servers, wrk
from benchmarks.processes import clean_environment

PATH = "/v1/status-page/tags/list"
PACKS = Path(__file__).resolve().parents[1] / "packs"


def main() -> int:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--bound", type=float, default=0.95)
    args = parser.parse_args()
    server_core, load_core = machine.cores()
    with tempfile.TemporaryDirectory(prefix="packregistry-signed-in-") as name:
        directory = Path(name)
        token = created(directory)
        headers = {
            "anonymous": {},
            "password": client.basic(servers.USER, servers.PASSWORD),
            "token": {"Authorization": f"Bearer {token}"},
        }
        settings = servers.merged(
            servers.htpasswd(servers.users(directory, 10)),
            {"auth": {"anonymous": "read"}, "packs": {"directories": [str(PACKS)]}},
        )
        with servers.ours(directory, [server_core], settings) as server:
            asks = {kind: wrk.Ask([PATH], fields, 16, args.seconds) for kind, fields in headers.items()}
            rounds = [
                {kind: wrk.measured(server.url, ask, directory, load_core).rate for kind, ask in asks.items()}
                for _ in range(args.rounds)
            ]
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


def created(directory: Path) -> str:
    """A new token of the server that runs in a directory."""
    env = {
        **clean_environment(),
        "PYTHONPATH": str(servers.ROOT),
        "REGISTRY_AUTH": "htpasswd",
        "REGISTRY_AUTH_HTPASSWD_PATH": str(servers.users(directory, 10)),
        "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": str(directory / "data"),
    }
    command = [sys.executable, "-m", "packregistry", "token", "create", "bench"]
    return subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
