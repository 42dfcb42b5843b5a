"""What a failed sign-in tells by the time it takes, and what it costs to be signed in already.

Failed checks go through the real authenticator, of each kind in turn, each with a password and an address of its own:
of an unknown user, of a user whose hash has the highest cost in the file, and of one whose cost is lower. For each two
kinds it prints the ratio of the medians, and of a Mann-Whitney test how often the first takes longer (0.5 where nothing
can be told) with z (beyond 2 either way in one run of twenty if nothing can be told). All of that is shown of the time
that passes, which is what a client sees, and of the processor's, which other processes change less.

Then it prints what `remembered` takes for a header, beside none at all. Exits with 1 where medians of the processor's
time differ by more than a tenth.

Usage: python benchmarks/authentication.py [--cost 10] [--lower 8] [--rounds 40]
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import itertools
import logging
import math
import statistics
import sys
import tempfile
import time
import timeit
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import bcrypt

from packregistry.auth.credentials import CredentialAuthenticator
from packregistry.auth.htpasswd import HtpasswdFile
from packregistry.auth.tokens import TokenFile
from packregistry.errors import UnauthorizedError

RATIO_MAX = 1.1
CALLS = 50_000
Times: TypeAlias = "dict[str, list[float]]"
KINDS = {"unknown user": "nobody", "wrong password": "high", "wrong password, lower cost": "low"}


def main() -> int:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cost", type=int, default=10, help="bcrypt cost of a user, the highest in the file")
    parser.add_argument("--lower", type=int, default=8, help="bcrypt cost of another user")
    parser.add_argument("--rounds", type=int, default=40, help="failed checks of each kind")
    args = parser.parse_args()
    logging.disable()
    with tempfile.TemporaryDirectory(prefix="packregistry-authentication-") as name:
        users = users_file(Path(name), args.cost, args.lower)
        tokens = TokenFile(Path(name) / "tokens.json", Path(name) / "uses.json")
        _, token = tokens.create("ci", "high", "reader", ["*"], None)
        authenticator = CredentialAuthenticator(users, "benchmark", tokens=tokens)
        try:
            elapsed, worked = asyncio.run(failures(authenticator, args.rounds))
            costs = asyncio.run(signed_in(authenticator, token))
        finally:
            authenticator.close()
    print(f"failed checks, bcrypt cost {args.cost} and {args.lower}, ms that pass")
    report(elapsed)
    print("\nthe same, ms of the processor")
    ratios = report(worked)
    print("\nremembered, in µs, and what it takes beyond no credentials")
    for kind, cost in costs.items():
        print(f"  {kind:28}{cost:8.2f}{cost - costs['none']:8.2f}")
    return int(max(ratios) > RATIO_MAX)


def users_file(directory: Path, cost: int, lower: int) -> HtpasswdFile:
    """A loaded file with the users `high` and `low`, whose passwords are their names."""
    costs = {b"high": cost, b"low": lower}
    lines = [b"%b:%b" % (name, bcrypt.hashpw(name, bcrypt.gensalt(costs[name]))) for name in costs]
    path = directory / "users"
    path.write_bytes(b"\n".join(lines))
    users = HtpasswdFile(path)
    users.load()
    return users


def basic(user: str, password: str) -> str:
    """The header with these credentials."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


async def failures(authenticator: CredentialAuthenticator, rounds: int) -> tuple[Times, Times]:
    """How long failed checks of each kind take, in ms: in all, and of the processor."""
    elapsed: Times = {kind: [] for kind in KINDS}
    worked: Times = {kind: [] for kind in KINDS}
    for number in range(-1, rounds):
        for kind, user in KINDS.items():
            begun, begun_work = time.perf_counter(), time.process_time()
            try:
                await authenticator.verify(basic(user, f"wrong {number}"), f"192.0.{number % 256}.{number // 256}")
            except UnauthorizedError:
                taken = time.perf_counter() - begun, time.process_time() - begun_work
                if number >= 0:  # the first round starts threads
                    elapsed[kind].append(taken[0] * 1000)
                    worked[kind].append(taken[1] * 1000)
    return elapsed, worked


async def signed_in(authenticator: CredentialAuthenticator, token: str) -> dict[str, float]:
    """What `remembered` takes for each kind of header, in µs, at best."""
    headers = {
        "none": None,
        "Basic": basic("high", "high"),
        "Bearer": f"Bearer {token}",
        "Basic with a token": basic("ci", token),
    }
    costs = {}
    for kind, header in headers.items():
        await authenticator.verify(header, "192.0.2.7")
        assert authenticator.remembered(header) is not None
        timer = timeit.Timer("remembered(header)", globals={"remembered": authenticator.remembered, "header": header})
        costs[kind] = min(timer.repeat(5, CALLS)) / CALLS * 1e6
    return costs


def report(times: Times) -> list[float]:
    """Print how the times are distributed and compare; return the ratios of the medians, each at least 1."""
    print(f"  {'':28}{'min':>8}{'p5':>8}{'median':>8}{'p95':>8}{'n':>6}")
    for kind, values in times.items():
        parts = statistics.quantiles(values, n=20)
        row = (min(values), parts[0], statistics.median(values), parts[-1])
        print(f"  {kind:28}" + "".join(f"{value:8.2f}" for value in row) + f"{len(values):6}")
    print(f"\n  {'':58}{'ratio':>8}{'longer':>8}{'z':>8}")
    ratios = []
    for first, second in itertools.combinations(times, 2):
        ratio = statistics.median(times[first]) / statistics.median(times[second])
        longer, z = mann_whitney(times[first], times[second])
        print(f"  {first + ' / ' + second:58}{ratio:8.3f}{longer:8.2f}{z:8.2f}")
        ratios.append(max(ratio, 1 / ratio))
    return ratios


def mann_whitney(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """How likely one of `first` is longer than one of `second`, and how many deviations that is from a half."""
    wins = sum((a > b) + (a == b) / 2 for a in first for b in second)
    pairs = len(first) * len(second)
    return wins / pairs, (wins - pairs / 2) / math.sqrt(pairs * (len(first) + len(second) + 1) / 12)


if __name__ == "__main__":
    sys.exit(main())
