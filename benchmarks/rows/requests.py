"""Rows about single requests: what each costs, beside the same request to a peer."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks import client, servers
from benchmarks.report import Outcome, Target
from benchmarks.servers import MissingError
from benchmarks.stage import Competitor, Stage, outpaced

HASHING = 3
"""Seconds that a peer needs to be measured which hashes a password for every request."""


def available(peers: Mapping[str, Target], row: str, work: str) -> tuple[list[str], list[Outcome]]:
    """Which of the peers are installed, and an outcome for each that is not."""
    there, missing = [], []
    for peer, target in peers.items():
        try:
            servers.found(peer, "nginx-light" if peer == "nginx" else peer)
            there.append(peer)
        except MissingError as error:
            missing.append(Outcome(row, work, target, reason=str(error)))
    return there, missing


def signed_in(stage: Stage, row: str, cost: int, docker_bound: float, nginx_bound: float) -> list[Outcome]:
    """A manifest with basic authentication, where each hash costs so much."""
    work = f"manifest GET with basic auth, bcrypt cost {cost}"
    targets = {
        "docker-registry": Target(docker_bound, "x docker-registry"),
        "nginx": Target(nginx_bound, "x nginx auth_basic"),
    }
    there, outcomes = available(targets, row, work)
    passwords = stage.users(cost)
    headers = client.basic(servers.USER, servers.PASSWORD)
    mine = stage.ours(f"cost-{cost}", servers.htpasswd(passwords))
    competitors = [Competitor("packregistry", mine, manifest_paths(stage, "v1"), headers)]
    if "docker-registry" in there:
        peer = stage.distribution(f"cost-{cost}", passwords)
        competitors.append(Competitor("docker-registry", peer, manifest_paths(stage, "v2"), headers, HASHING))
    if "nginx" in there:
        peer = stage.nginx(f"cost-{cost}", passwords)
        competitors.append(Competitor("nginx", peer, manifest_paths(stage, "v1"), headers, HASHING))
    stage.check([Competitor(one.name, one.server, one.paths[:2], headers) for one in competitors])
    found = stage.rates(competitors, 8)
    measured = [outpaced(row, work, found, "packregistry", peer, targets[peer]) for peer in there]
    return [*measured, *outcomes]


def manifest_paths(stage: Stage, api: str) -> list[str]:
    """Manifests of a few small packs."""
    return [f"/{api}/{sample.name}/manifests/{sample.tag}" for sample in stage.small]


def auth_high(stage: Stage) -> list[Outcome]:
    """Signed in, where a hash costs what is recommended."""
    return signed_in(stage, "auth-10", 10, 400, 300)


def auth_low(stage: Stage) -> list[Outcome]:
    """Signed in, where a hash costs what Apache's htpasswd makes it cost."""
    return signed_in(stage, "auth-5", 5, 25, 12)


def anonymous(stage: Stage) -> list[Outcome]:
    """What it costs to be signed in: one server that lets everybody read, with and without a password."""
    settings = servers.merged(servers.htpasswd(stage.users(10)), {"auth": {"anonymous": "read"}})
    server = stage.ours("anonymous", settings)
    paths = tags_paths(stage)
    competitors = [
        Competitor("with a password", server, paths, client.basic(servers.USER, servers.PASSWORD)),
        Competitor("anonymous", server, paths),
    ]
    stage.check(competitors)
    found = stage.rates(competitors, 16)
    target = Target(0.95, "x anonymous, same server")
    return [outpaced("signed-in", "authenticated GET", found, "with a password", "anonymous", target)]


def tags_paths(stage: Stage) -> list[str]:
    """The tags of a few small packs."""
    return [f"/v1/{sample.name}/tags/list" for sample in stage.small]


def against_bare(stage: Stage) -> list[Outcome]:
    """Everything on, beside a handler that does nothing."""
    headers = client.basic(servers.USER, servers.PASSWORD)
    mine = stage.ours("cost-10", servers.htpasswd(stage.users(10)))
    path = tags_paths(stage)[:1]

    async def fetched() -> bytes:
        async with client.connected(mine.url, 1, headers) as session:
            return await session.get(path[0])

    body = client.run(fetched)
    cores = [stage.server_core]
    bare = stage.shared("bare", lambda place: servers.bare(place, cores, body, "application/json"))
    competitors = [
        Competitor("packregistry", mine, path, headers),
        Competitor("bare aiohttp", bare, path, headers),
    ]
    stage.check(competitors)
    found = stage.rates(competitors, 64)
    target = Target(0.80, "x bare aiohttp + uvloop")
    work = "metadata GET, everything on, 64 connections"
    return [outpaced("bare", work, found, "packregistry", "bare aiohttp", target)]


def manifest(stage: Stage) -> list[Outcome]:
    """A manifest without authentication."""
    row, work = "manifest", "manifest GET, no auth"
    targets = {"docker-registry": Target(10, "x docker-registry")}
    return against_peers(stage, row, work, targets, {peer: manifest_paths(stage, "v2") for peer in targets}, 16)


def against_peers(
    stage: Stage,
    row: str,
    work: str,
    targets: dict[str, Target],
    paths: dict[str, list[str]],
    connections: int,
) -> list[Outcome]:
    """The open servers asked for the same; `paths` say how it is called at each peer."""
    there, outcomes = available(targets, row, work)
    own = [path.replace("/v2/", "/v1/", 1) for path in next(iter(paths.values()))]
    competitors = [Competitor("packregistry", stage.open, own)]
    for peer in there:
        server = stage.distribution("open") if peer == "docker-registry" else stage.nginx("open")
        competitors.append(Competitor(peer, server, paths[peer]))
    stage.check([Competitor(one.name, one.server, one.paths[:2]) for one in competitors])
    if not there:
        return outcomes
    found = stage.rates(competitors, connections)
    return [outpaced(row, work, found, "packregistry", peer, targets[peer]) for peer in there] + outcomes


def small_archive(stage: Stage) -> list[Outcome]:
    """An archive that is read whole."""
    targets = {
        "docker-registry": Target(15, "x docker-registry"),
        "nginx": Target(0.2, "x nginx"),
    }
    paths = {
        peer: [f"/{api}/{sample.name}/blobs/{sample.archive}" for sample in stage.small]
        for peer, api in (("docker-registry", "v2"), ("nginx", "v1"))
    }
    return against_peers(stage, "archive-20k", "20 KB archive GET", targets, paths, 16)


def large_archive(stage: Stage) -> list[Outcome]:
    """An archive that the kernel sends, and the same encrypted."""
    row, paths = "archive-12m", [f"/v1/{stage.large.name}/blobs/{stage.large.archive}"]
    open_target, tls_target = Target(0.95, "x nginx"), Target(0.5, "x nginx over TLS")
    open_work, tls_work = "12 MB archive GET, 16 connections", "the same over TLS"
    try:
        made = servers.certificate(stage.directory)
        plain = [Competitor("packregistry", stage.open, paths), Competitor("nginx", stage.nginx("open"), paths)]
        settings = {"http": {"tls": {"certificate": str(made.certificate), "key": str(made.key)}}}
        secure = [
            Competitor("packregistry", stage.ours("tls", settings), paths),
            Competitor("nginx", stage.nginx("tls", tls=made), paths),
        ]
    except MissingError as error:
        return [
            Outcome(row, open_work, open_target, reason=str(error)),
            Outcome(row, tls_work, tls_target, reason=str(error)),
        ]
    stage.check(plain)
    stage.check(secure)
    found = stage.rates(plain, 16)
    found_tls = stage.rates(secure, 16)
    return [
        outpaced(row, open_work, found, "packregistry", "nginx", open_target),
        outpaced(row, tls_work, found_tls, "packregistry", "nginx", tls_target),
    ]
