"""Where rows are measured: how long and how often, on which cores, with which content, and the servers they share."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks import client, content, servers, wrk
from benchmarks.figures import Spread, ratios
from benchmarks.processes import children, worked
from benchmarks.report import Outcome, Target
from benchmarks.servers import Server

Round = Mapping[str, float]
ACCEPT = client.ACCEPT["Accept"]
SMALL = 20_000
LARGE = 12_000_000


class DifferentError(Exception):
    """Competitors do not answer alike, so that comparing their speed means nothing."""


@dataclass(frozen=True, slots=True)
class Options:
    """How much is measured. `packs` is a directory to serve in place of synthetic packs."""

    quick: bool = False
    rounds: int = 5
    seconds: int = 3
    packs: Path | None = None


@dataclass(frozen=True, slots=True)
class Competitor:
    """A server beside others: its name in this row, and how the same thing is called there."""

    name: str
    server: Server
    paths: Sequence[str]
    headers: Mapping[str, str] = field(default_factory=dict)
    least: int = 1
    """How many seconds it needs at least for anything to be answered."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Requests a second, and a second of the processor, of each competitor in each round.

    The latter is what a request costs the server, whoever else wants the core at the time.
    """

    rates: dict[str, list[float]]
    per_cpu: dict[str, list[float]]


@dataclass
class Stage:
    """What rows share. Whatever it started ends with `stack`."""

    options: Options
    directory: Path
    stack: ExitStack
    server_core: int
    load_core: int
    _kept: dict[str, Server] = field(default_factory=dict)
    _number: int = 0

    @property
    def both(self) -> tuple[int, int]:
        """All cores that are used."""
        return (self.server_core, self.load_core)

    def say(self, text: str) -> None:
        """Tell whoever waits how far it is."""
        print(text, file=sys.stderr, flush=True)

    def size(self, full: int, quick: int) -> int:
        """How much of something: the one number in a full run, the other in a quick one."""
        return quick if self.options.quick else full

    def new(self, name: str) -> Path:
        """A new directory."""
        self._number += 1
        path = self.directory / f"{self._number:02}-{name}"
        path.mkdir()
        return path

    @contextmanager
    def scratch(self, name: str) -> Iterator[Path]:
        """A new directory that goes with the context, for what is large."""
        path = self.new(name)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def shared(self, name: str, start: Callable[[Path], AbstractContextManager[Server]]) -> Server:
        """A server that several rows use, started when it is first asked for."""
        if name not in self._kept:
            self._kept[name] = self.stack.enter_context(start(self.new(name)))
        return self._kept[name]

    # Content that several rows ask for.

    @cached_property
    def packs(self) -> Path:
        """A directory with some packs of about 20 KB, unless another was given, and one of 12 MB."""
        directory = self.new("packs")
        if self.options.packs is None:
            content.catalogue(directory, self.size(70, 6), SMALL)
        content.write(directory, "large", "1.0.0", content.pack_files("large", "1.0.0", LARGE, 12))
        return directory

    @property
    def roots(self) -> list[str]:
        """The directories that ours watches."""
        return [str(path.absolute()) for path in (self.options.packs, self.packs) if path]

    @cached_property
    def open(self) -> Server:
        """Ours with the packs, everything on, and everybody let in."""
        return self.ours("open", {})

    def ours(self, name: str, settings: Mapping[str, Any]) -> Server:
        """Ours with the packs, shared under this name."""
        # The packs were written a moment ago.
        more = servers.merged({"packs": {"directories": self.roots, "settle": "0s"}}, settings)
        return self.shared(f"ours-{name}", lambda path: servers.ours(path, [self.server_core], more))

    def distribution(self, name: str, passwords: Path | None = None) -> Server:
        """docker-registry with the same packs. Raises `MissingError`."""
        servers.found("docker-registry", "docker-registry")
        data = self.copies / "distribution"

        def start(path: Path) -> AbstractContextManager[Server]:
            (path / "data").symlink_to(data)
            return servers.distribution(path, [self.server_core], passwords)

        return self.shared(f"docker-registry-{name}", start)

    def nginx(self, name: str, passwords: Path | None = None, tls: servers.Certificate | None = None) -> Server:
        """The same packs as files of nginx. Raises `MissingError`."""
        servers.found("nginx", "nginx-light")
        root = self.copies / "files"
        return self.shared(
            f"nginx-{name}",
            lambda path: servers.nginx(path, [self.server_core], root, passwords=passwords, tls=tls),
        )

    @cached_property
    def samples(self) -> list[Sample]:
        """What ours serves of each pack, small packs first."""
        return client.run(lambda: _samples(self.open.url))

    @cached_property
    def small(self) -> list[Sample]:
        """A few packs whose archives have about 20 KB."""
        close = sorted(self.samples, key=lambda sample: abs(sample.archive_size - SMALL))
        return [sample for sample in close if sample.archive_size < LARGE // 2][:8]

    @cached_property
    def large(self) -> Sample:
        """The pack whose archive has 12 MB."""
        return next(sample for sample in self.samples if sample.name == "large")

    @cached_property
    def copies(self) -> Path:
        """What ours serves, as docker-registry keeps it, and as files for nginx."""
        directory = self.new("copies")
        client.run(lambda: _copied(self.open.url, self.samples, directory))
        return directory

    # Measuring.

    def users(self, cost: int) -> Path:
        """The file with the user whose hash has this cost."""
        return servers.users(self.directory, cost)

    def check(self, competitors: Sequence[Competitor], *, as_json: bool = False) -> None:
        """Make sure that all give the same bytes for the same thing. Raises `DifferentError`."""
        answers = {}
        for one in competitors:
            try:
                answers[one.name] = client.run(functools.partial(_answers, one, as_json=as_json))
            except (client.AnswerError, OSError) as error:
                raise DifferentError(f"{one.name}: {error}") from error
        first = competitors[0].name
        for name, found in answers.items():
            if found != answers[first]:
                raise DifferentError(f"{name} and {first} answer differently")

    def load(self, one: Competitor, connections: int, seconds: int | None = None) -> wrk.Load:
        """Load a competitor for a while."""
        servers.found("wrk", "wrk")
        ask = wrk.Ask(
            one.paths, {"Accept": ACCEPT, **one.headers}, connections, max(seconds or self.options.seconds, one.least)
        )
        return wrk.measured(one.server.url, ask, self.directory, self.load_core)

    def rates(self, competitors: Sequence[Competitor], connections: int) -> Rates:
        """How fast each competitor is in each round, one after the other."""
        per_cpu: dict[str, list[float]] = {one.name: [] for one in competitors}

        def rate(one: Competitor) -> float:
            pids = [one.server.pid, *children(one.server.pid)]
            before = worked(pids)
            load = self.load(one, connections)
            # A clock tick is the least that can be told.
            per_cpu[one.name].append(load.requests / max(worked(pids) - before, 0.01))
            return load.rate

        return Rates(self.rounds({one.name: functools.partial(rate, one) for one in competitors}), per_cpu)

    def rounds(self, works: Mapping[str, Callable[[], float]], count: int | None = None) -> dict[str, list[float]]:
        """What each of several works gives, in turns. Every other round goes backwards, so that none is always last."""
        found: dict[str, list[float]] = {name: [] for name in works}
        for number in range(count or self.options.rounds):
            order = list(works) if number % 2 == 0 else list(works)[::-1]
            for name in order:
                found[name].append(works[name]())
            self.say("    " + ", ".join(f"{name} {found[name][-1]:,.4g}" for name in works))
        return found


@dataclass(frozen=True, slots=True)
class Sample:
    """A version that ours serves: what there is to be asked for."""

    name: str
    tag: str
    tags: Sequence[str]
    manifest: bytes
    archive: str
    archive_size: int
    blobs: Sequence[str]


def compared(
    row: str, work: str, found: Mapping[str, list[float]], ours: str, theirs: str, target: Target, unit: str
) -> Outcome:
    """The outcome of rounds: how many times theirs ours is."""
    pair = {name: Spread.of(found[name]) for name in (ours, theirs)}
    return Outcome(row, work, target, ratios(found[ours], found[theirs]), pair, unit)


def outpaced(row: str, work: str, found: Rates, ours: str, theirs: str, target: Target) -> Outcome:
    """The same of requests, with what they cost beside."""
    outcome = compared(row, work, found.rates, ours, theirs, target, "requests/s")
    return dataclasses.replace(outcome, per_cpu=ratios(found.per_cpu[ours], found.per_cpu[theirs]))


async def _samples(url: str) -> list[Sample]:
    async with client.connected(url, 4) as session:
        found = []
        for name in json.loads(await session.get("/v1/_catalog"))["repositories"]:
            tags = json.loads(await session.get(f"/v1/{name}/tags/list"))["tags"]
            by_manifest: dict[bytes, list[str]] = {}
            for tag in tags:
                by_manifest.setdefault(await session.get(f"/v1/{name}/manifests/{tag}"), []).append(tag)
            for manifest, same in by_manifest.items():
                document = json.loads(manifest)
                items = [document["config"], *document["layers"]]
                archive = items[1]
                found.append(
                    Sample(
                        name,
                        max(same, key=len),
                        same,
                        manifest,
                        archive["digest"],
                        archive["size"],
                        [item["digest"] for item in items],
                    )
                )
        return found


async def _copied(url: str, samples: Sequence[Sample], directory: Path) -> None:
    """Write what ours serves in the forms that the peers serve from."""
    data = servers.DistributionData(directory / "distribution")
    files = directory / "files"
    async with client.connected(url, 4) as session:
        for sample in samples:
            for named in dict.fromkeys(sample.blobs):
                blob = await session.get(f"/v1/{sample.name}/blobs/{named}")
                data.blob(sample.name, blob)
                _written(files / "v1" / sample.name / "blobs" / named, blob)
            data.manifest(sample.name, sample.tags, sample.manifest)
            for tag in sample.tags:
                _written(files / "v1" / sample.name / "manifests" / tag, sample.manifest)


def _written(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


async def _answers(one: Competitor, *, as_json: bool) -> list[Any]:
    async with client.connected(one.server.url, 1, dict(one.headers)) as session:
        bodies = [await session.get(path) for path in one.paths]
    return [json.loads(body) if as_json else content.digest(body) for body in bodies]


def pin(core: int) -> None:
    """Keep this process, and what it starts without saying where, on the core that load comes from."""
    os.sched_setaffinity(0, {core})
