"""Rows about what takes many requests: pushes, and a synchronisation of everything."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from benchmarks import client, content, servers
from benchmarks.content import Pack
from benchmarks.figures import Spread, ratios
from benchmarks.report import Outcome, Target
from benchmarks.rows.requests import available
from benchmarks.stage import DifferentError, Stage, compared

RATE = "packs/s"


def small_pushes(stage: Stage) -> list[Outcome]:
    """Many packs of 100 KB."""
    count = stage.size(500, 30)
    target = Target(5, "x docker-registry")
    outcomes = []
    with ExitStack() as stack:
        places = _servers(stage, stack)
        for connections in (4, 16):
            work = f"push of {count} packs of 100 KB, durable, {connections} connections"
            outcomes += _pushed(stage, places, ("push-100k", work, target), (count, 100_000), connections)
    return outcomes


def large_pushes(stage: Stage) -> list[Outcome]:
    """Some packs of 12 MB."""
    count, work = stage.size(16, 4), "push of 12 MB packs, durable, 4 connections"
    with ExitStack() as stack:
        places = _servers(stage, stack)
        named = ("push-12m", work, Target(1.5, "x docker-registry"))
        return _pushed(stage, places, named, (count, 12_000_000), 4)


def _servers(stage: Stage, stack: ExitStack) -> dict[str, servers.Server]:
    """Ours and docker-registry, if that is there, with nothing in them."""
    cores = [stage.server_core]
    place = stack.enter_context(stage.scratch("push"))
    found = {"packregistry": stack.enter_context(servers.ours(place / "ours", cores))}
    if available({"docker-registry": Target(0, "")}, "", "")[0]:
        peer = servers.distribution(place / "distribution", cores)
        found["docker-registry"] = stack.enter_context(peer)
    return found


def _pushed(
    stage: Stage,
    places: dict[str, servers.Server],
    named: tuple[str, str, Target],
    amount: tuple[int, int],
    connections: int,
) -> list[Outcome]:
    """Push new versions of so many packs in each round. Every round's are made before any clock runs."""
    row, work, target = named
    _, missing = available({"docker-registry": target}, row, work)
    if missing:
        return missing
    count, size = amount
    rounds = min(stage.options.rounds, 3)
    found: dict[str, list[float]] = {name: [] for name in places}
    pushes = {"packregistry": client.push_ours, "docker-registry": client.push_distribution}
    for number in range(rounds):
        version = f"{connections}.{number}.0"
        packs = [
            content.make(f"push-{at:03}", version, size, seed=at * 1000 + connections + number) for at in range(count)
        ]
        works: dict[str, Callable[[], float]] = {
            name: _pushing(server.url, packs, connections, pushes[name]) for name, server in places.items()
        }
        for name in list(works) if number % 2 == 0 else reversed(list(works)):
            found[name].append(works[name]())
        client.run(_proof(places, packs[-1]))
        stage.say("    " + ", ".join(f"{name} {values[-1]:,.4g} {RATE}" for name, values in found.items()))
    return [compared(row, work, found, "packregistry", "docker-registry", target, RATE)]


def _pushing(url: str, packs: list[Pack], connections: int, push: client.Push) -> Callable[[], float]:
    return lambda: client.run(lambda: client.push_all(url, packs, connections, push))


def _proof(places: dict[str, servers.Server], pack: Pack) -> client.Work[None]:
    """Look whether what was pushed is there, byte for byte."""

    async def look() -> None:
        for name, server in places.items():
            api = "v1" if name == "packregistry" else "v2"
            async with client.connected(server.url, 1) as session:
                body = await session.get(f"/{api}/{pack.name}/blobs/{pack.digest}")
            if body != pack.archive:
                raise DifferentError(f"{name} does not have what was pushed")

    return look


def synchronisation(stage: Stage) -> list[Outcome]:
    """Everything there is, fetched and checked, with a password that takes long to check."""
    row = "sync"
    passwords = stage.users(10)
    headers = client.basic(servers.USER, servers.PASSWORD)
    target = Target(50, "x docker-registry")
    work = f"full synchronisation of {len({sample.name for sample in stage.samples})} packs, cost 10"
    there, missing = available({"docker-registry": target}, row, work)
    if not there:
        return missing
    places = {
        "packregistry": (stage.ours("cost-10", servers.htpasswd(passwords)), "/v1"),
        "docker-registry": (stage.distribution("cost-10", passwords), "/v2"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in places}
    for _ in range(stage.size(2, 1)):
        seen = set()
        for name, (server, api) in places.items():
            # Ours takes a moment: several times, of which the median counts.
            times = [client.run(_synchronising(server.url, api, headers)) for _ in range(3 if api == "/v1" else 1)]
            seconds[name].append(Spread.of([taken for taken, _ in times]).median)
            seen |= {digest for _, digest in times}
        if len(seen) > 1:
            raise DifferentError("what was synchronised is not the same")
        stage.say("    " + ", ".join(f"{name} {values[-1]:.3f} s" for name, values in seconds.items()))
    details = {name: Spread.of(values) for name, values in seconds.items()}
    faster = ratios(seconds["docker-registry"], seconds["packregistry"])
    return [Outcome(row, work, target, faster, details, "s")]


def _synchronising(url: str, api: str, headers: dict[str, str]) -> client.Work[tuple[float, str]]:
    return lambda: client.synchronise(url, api, headers, 4)
