"""How long the registry takes from the start of its process to the first right catalogue answer.

Compared, in one run, with what `sha256sum` and `gzip -6` take for the same bytes on one core, because that is the work
that cannot be avoided on a first start. Prints a table and JSON; exits with 1 where a bound does not hold:

    first start   at most 1 s + 2 x (sha256sum + gzip -6)
    restart       at most 1 s

Usage: python benchmarks/start.py [PACKS_DIRECTORY] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.processes import pinned
from benchmarks.rows.starts import expected_names, until_right

RESTART_MAX = 1.0


def main() -> int:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packs", nargs="?", type=Path, default=Path("packs"), metavar="PACKS_DIRECTORY")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    names = expected_names(args.packs)
    rounds = [measure(args.packs, names) for _ in range(args.rounds)]
    best = {key: min(result[key] for result in rounds) for key in rounds[0]}
    bound = 1 + 2 * (best["sha256sum"] + best["gzip -6"])
    print(f"{len(names)} pack names in {args.packs}, best and median of {args.rounds} rounds, {os.cpu_count()} cores\n")
    for key in rounds[0]:
        print(f"{key:12} {best[key]:7.3f} s  (median {statistics.median(result[key] for result in rounds):7.3f} s)")
    print(f"\nfirst start: {best['first start']:.3f} s of at most {bound:.3f} s")
    print(f"restart:     {best['restart']:.3f} s of at most {RESTART_MAX:.3f} s\n")
    print(json.dumps({"best": best, "first_start_max": bound, "restart_max": RESTART_MAX}))
    return int(best["first start"] > bound or best["restart"] > RESTART_MAX)


def measure(packs: Path, names: list[str]) -> dict[str, float]:
    """One round, in seconds."""
    files = b"\0".join(os.fsencode(path) for path in packs.rglob("*") if path.is_file())
    result = {
        "sha256sum": timed(["xargs", "-0", "sha256sum"], files),
        "gzip -6": timed(["xargs", "-0", "gzip", "-6", "-c"], files),
    }
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="packregistry-start-") as name:
        result["first start"] = until_right(Path(name), cores, names, packs)
        result["restart"] = until_right(Path(name), cores, names, packs)
    return result


def timed(command: list[str], given: bytes) -> float:
    """How long a command takes for the files named in `given`, on one core."""
    begun = time.perf_counter()
    subprocess.run([*pinned([0]), *command], input=given, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begun


if __name__ == "__main__":
    sys.exit(main())
