"""Rows about how many packs there are: pages of the catalogue, and what a request costs beside many others."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from contextlib import ExitStack

from benchmarks import content, servers
from benchmarks.report import Outcome, Target
from benchmarks.rows.requests import available
from benchmarks.servers import Server
from benchmarks.stage import Competitor, Stage, outpaced

PAGE = 100


@contextlib.contextmanager
def recorded(stage: Stage, packs: int, versions: int = 1, name: str = "records") -> Iterator[tuple[Server, list[str]]]:
    """Ours with as many packs, which were never packed: there are records and manifests."""
    with stage.scratch(name) as place:
        names = content.records(place / "data", packs, versions)
        with servers.ours(place, [stage.server_core]) as server:
            yield server, names


def catalog(stage: Stage) -> list[Outcome]:
    """The first and the last page of many names."""
    row, count = "catalog", stage.size(5000, 1000)
    peer_target, own_target = Target(300, "x docker-registry"), Target(0.8, "x own small metadata GET")
    there, outcomes = available({"docker-registry": peer_target}, row, f"_catalog, {count:,} packs")
    with ExitStack() as stack:
        mine, names = stack.enter_context(recorded(stage, count))
        pages = {"first": f"_catalog?n={PAGE}", "last": f"_catalog?n={PAGE}&last={names[-PAGE - 1]}"}
        small = Competitor("small GET", mine, [f"/v1/{names[count // 2]}/tags/list"])
        peers = []
        if there:
            place = stack.enter_context(stage.scratch("distribution-catalog"))
            servers.DistributionData(place / "data").empty(names)
            peers.append(stack.enter_context(servers.distribution(place, [stage.server_core])))
        for page, path in pages.items():
            both = [Competitor("packregistry", mine, [f"/v1/{path}"])]
            # The peer walks its file system for each page.
            both += [Competitor("docker-registry", peer, [f"/v2/{path}"], least=stage.size(6, 2)) for peer in peers]
            stage.check(both, as_json=True)
            found = stage.rates([*both, small], 4)
            work = f"_catalog, {count:,} packs, {page} page of {PAGE}"
            outcomes.append(outpaced(row, work, found, "packregistry", "small GET", own_target))
            if peers:
                outcomes.append(outpaced(row, work, found, "packregistry", "docker-registry", peer_target))
    return outcomes


def scale(stage: Stage) -> list[Outcome]:
    """Whether a request costs more where there are more packs."""
    row, counts = "scale", (10, stage.size(1000, 200), stage.size(10_000, 2000))
    with ExitStack() as stack:
        competitors = []
        for count in counts:
            server, names = stack.enter_context(recorded(stage, count, name=f"scale-{count}"))
            name = names[count // 2]
            paths = [f"/v1/{name}/tags/list", f"/v1/{name}/manifests/1.0.0", "/v1/_catalog?n=10"]
            competitors.append(Competitor(f"{count:,} packs", server, paths))
        stage.check([Competitor(one.name, one.server, one.paths[-1:]) for one in competitors], as_json=True)
        found = stage.rates(competitors, 16)
    first = f"{counts[0]:,} packs"
    target = Target(0.10, f"x the rate at {first}", "within")
    outcomes = []
    for count in counts[1:]:
        work = f"tags, manifest and catalogue page at {count:,} packs, by CPU time"
        outcome = outpaced(row, work, found, f"{count:,} packs", first, target)
        # What a request costs is what is asked here, so a core that others want too must not count.
        outcomes.append(dataclasses.replace(outcome, figure=outcome.per_cpu))
    return outcomes
