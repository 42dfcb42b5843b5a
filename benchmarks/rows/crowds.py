"""Rows about many clients at once: more processes to serve them, and some of them who guess passwords."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack

from benchmarks import client, servers, wrk
from benchmarks.figures import Spread, ratios
from benchmarks.processes import ProgramError
from benchmarks.report import Outcome, Target
from benchmarks.rows.requests import HASHING, available, manifest_paths, tags_paths
from benchmarks.stage import ACCEPT, Competitor, Stage, outpaced

CONNECTIONS = 8
P99_MAX = 20.0


def workers(stage: Stage) -> list[Outcome]:
    """Two processes beside one. Load and servers share all cores, as there may be but two."""
    row, work = "workers", "metadata GET, two workers, 64 connections, load beside them"
    target = Target(1.6, "x one worker")
    if stage.server_core == stage.load_core:
        return [Outcome(row, work, target, reason="there is one core alone")]
    if not has_workers():
        return [Outcome(row, work, target, reason="packregistry serve has no --workers yet")]
    settings = {"packs": {"directories": stage.roots}}
    with ExitStack() as stack:
        competitors = []
        for count, name in ((2, "two workers"), (1, "one worker")):
            place = stack.enter_context(stage.scratch(f"workers-{count}"))
            flags = ["--workers", str(count)]
            server = stack.enter_context(servers.ours(place, stage.both, settings, flags=flags))
            if len(server.workers()) < count:
                reason = f"packregistry serve --workers {count} starts {len(server.workers())} process"
                return [Outcome(row, work, target, reason=reason)]
            competitors.append(Competitor(name, server, tags_paths(stage)))
        stage.check(competitors)
        found = stage.rates(competitors, 64)
    return [outpaced(row, work, found, "two workers", "one worker", target)]


def has_workers() -> bool:
    """Whether ours can be told how many processes answer."""
    command = [sys.executable, "-m", "packregistry", "serve", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return "--workers" in done.stdout


def flood(stage: Stage) -> list[Outcome]:
    """Whoever has a password, beside many who guess it."""
    row, work = "flood", f"good requests beside wrong passwords on {CONNECTIONS} connections, cost 10"
    share, slowest = Target(0.5, "x their idle rate"), Target(P99_MAX, "ms p99", "at most")
    passwords = stage.users(10)
    headers = client.basic(servers.USER, servers.PASSWORD)
    mine = stage.ours("cost-10", servers.htpasswd(passwords))
    competitors = [Competitor("packregistry", mine, manifest_paths(stage, "v1"), headers)]
    # The peer is told of beside ours, and has no target: where it is missing, nothing is.
    if available({"docker-registry": share}, row, work)[0]:
        peer = stage.distribution("cost-10", passwords)
        competitors.append(Competitor("docker-registry", peer, manifest_paths(stage, "v2"), headers, HASHING))
    stage.check([Competitor(one.name, one.server, one.paths[:1], headers) for one in competitors])
    shares: dict[str, Spread] = {}
    latencies: dict[str, Spread] = {}
    rates: dict[str, Spread] = {}
    for one in competitors:
        try:
            idle, beside = flooded(stage, one)
        except ProgramError as error:
            if one.server is mine:
                raise
            # A slow machine, and nobody with a password is answered at all: that is not ours to explain.
            stage.say(f"    {one.name}: {error}")
            continue
        shares[one.name] = ratios([load.rate for load in beside], [load.rate for load in idle])
        latencies[one.name] = Spread.of([load.p99 for load in beside])
        rates |= {f"{one.name} idle": Spread.of([load.rate for load in idle])}
        rates |= {f"{one.name} beside": Spread.of([load.rate for load in beside])}
    return [
        Outcome(row, work, share, shares["packregistry"], rates, "requests/s"),
        Outcome(row, work, slowest, latencies["packregistry"], latencies, "ms"),
    ]


def flooded(stage: Stage, one: Competitor) -> tuple[list[wrk.Load], list[wrk.Load]]:
    """The load of good requests alone, and beside guesses, in turns."""
    seconds = max(stage.options.seconds, one.least)
    guesses = wrk.Ask(one.paths[:1], {"Accept": ACCEPT}, CONNECTIONS, seconds + 1, guess=True)
    idle, beside = [], []
    for _ in range(stage.options.rounds):
        idle.append(stage.load(one, CONNECTIONS))
        with wrk.loading(one.server.url, guesses, stage.directory, stage.load_core):
            beside.append(stage.load(one, CONNECTIONS))
        stage.say(f"    {one.name} {idle[-1].rate:,.4g} alone, {beside[-1].rate:,.4g} beside guesses")
    return idle, beside
