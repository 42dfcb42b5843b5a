"""Rows about the time until the first right answer: of a server that knows nothing yet, and of one that does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from benchmarks import content, servers
from benchmarks.figures import Spread
from benchmarks.processes import POLL_SECONDS, ProgramError, pinned, resident
from benchmarks.report import Outcome, Target
from benchmarks.stage import Stage, compared

MB = 1e6
DEADLINE = 120.0


def first_start(stage: Stage) -> list[Outcome]:
    """Packing everything, beside what hashing and compressing the same bytes takes."""
    row, target = "first-start", Target(1.0, "x sha256sum + gzip -6, both cores", "at most")
    with stage.scratch("first-start") as place:
        packs = stage.options.packs
        count = stage.size(200, 40)
        if packs is None:
            packs, half = place / "packs", place / "half"
            content.compressible(half, count // 2, 600_000)
            content.compressible(packs, count, 600_000)
        else:
            half = halved(packs, place / "half")
        size = sum(path.stat().st_size for path in packs.rglob("*") if path.is_file())
        share = sum(path.stat().st_size for path in half.rglob("*") if path.is_file()) / size
        works = {
            "packregistry": lambda: _fresh(place / "whole", stage.both, packs),
            "half of it": lambda: _fresh(place / "part", stage.both, half),
            "sha256sum + gzip": lambda: unavoidable(packs, stage.both),
        }
        found = stage.rounds(works, min(stage.options.rounds, 3))
    work = f"first start, {size / MB:,.0f} MB of packs"
    # Bytes that cost the same wherever they are: half of them take half of what is beyond an empty start.
    growth = [(whole / part) * share for whole, part in zip(found["packregistry"], found["half of it"], strict=True)]
    pair = {name: Spread.of(found[name]) for name in ("packregistry", "half of it")}
    linear = Target(1.1, "x the time for a byte of half of it", "at most")
    return [
        compared(row, work, found, "packregistry", "sha256sum + gzip", target, "s"),
        Outcome(row, f"{work}, linear", linear, Spread.of(growth), pair, "s"),
    ]


def halved(packs: Path, target: Path) -> Path:
    """Every other pack directory of `packs`, by symbolic links resolved into copies."""
    target.mkdir()
    roots = sorted(path.parent for path in packs.rglob("pack.json"))
    for root in roots[::2]:
        shutil.copytree(root, target / root.name, dirs_exist_ok=True)
    return target


def until_right(place: Path, cores: Sequence[int], names: list[str], packs: Path | None = None) -> float:
    """Seconds from the start of ours, with its data in `place`, to the first catalogue that has all of `names`.

    Raises `ProgramError` where that takes minutes.
    """
    settings = {"packs": {"directories": [str(packs.absolute())] if packs else []}}
    begun = time.perf_counter()
    with servers.ours(place, cores, settings) as server:
        _await(server.url, names)
        return time.perf_counter() - begun


def _fresh(place: Path, cores: Sequence[int], packs: Path) -> float:
    shutil.rmtree(place, ignore_errors=True)
    return until_right(place, cores, expected_names(packs), packs)


def _await(url: str, names: list[str]) -> None:
    deadline = time.monotonic() + DEADLINE
    while json.load(urllib.request.urlopen(f"{url}/v1/_catalog", timeout=DEADLINE))["repositories"] != names:
        if time.monotonic() > deadline:
            raise ProgramError(f"the catalogue is still not right after {DEADLINE:g} s")
        time.sleep(POLL_SECONDS)


def expected_names(packs: Path) -> list[str]:
    """The names of the packs in a directory, as the catalogue should give them."""
    return sorted({json.loads(path.read_bytes())["name"] for path in packs.glob("*/pack.json")})


def unavoidable(packs: Path, cores: Sequence[int]) -> float:
    """Seconds that sha256sum and then gzip -6 take for the files of `packs`, shared out over `cores`."""
    files = sorted((path for path in packs.rglob("*") if path.is_file()), key=lambda path: -path.stat().st_size)
    seconds = 0.0
    for command in (["sha256sum"], ["gzip", "-6", "-c"]):
        begun = time.perf_counter()
        running = []
        for place, core in enumerate(cores):
            given = b"\0".join(os.fsencode(path) for path in files[place :: len(cores)])
            process = subprocess.Popen(
                [*pinned([core]), "xargs", "-0", *command], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
            )
            assert process.stdin is not None
            process.stdin.write(given)
            process.stdin.close()
            running.append(process)
        for process in running:
            if process.wait(timeout=DEADLINE):
                raise ProgramError(f"{command[0]} failed")
        seconds += time.perf_counter() - begun
    return seconds


def restart(stage: Stage) -> list[Outcome]:
    """A server that has everything already."""
    packs, versions = stage.size(1000, 200), 10
    work = f"restart, {packs * versions:,} versions of {packs:,} packs"
    seconds, memory = [], []
    with stage.scratch("restart") as place:
        names = content.records(place / "data", packs, versions)
        until_right(place, stage.both, names)  # reads what was written a moment ago, and leaves its own state
        for _ in range(stage.options.rounds):
            begun = time.perf_counter()
            with servers.ours(place, stage.both) as server:
                _await(server.url, names)
                seconds.append(time.perf_counter() - begun)
                memory.append(max(resident(pid, peak=True) for pid in server.workers()) / MB)
            stage.say(f"    {seconds[-1]:.3f} s, {memory[-1]:.0f} MB")
    return [
        Outcome("restart", work, Target(1.5, "s to the first right catalogue", "at most"), Spread.of(seconds)),
        Outcome("restart", work, Target(150, "MB RSS at its peak", "at most"), Spread.of(memory)),
    ]
