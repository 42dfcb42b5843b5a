"""What is measured: a function for each row of the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from benchmarks.report import Outcome
from benchmarks.rows import catalogs, crowds, pushes, requests, starts, strain
from benchmarks.stage import Stage

ROWS: Final[Mapping[str, Callable[[Stage], list[Outcome]]]] = {
    "auth-10": requests.auth_high,
    "auth-5": requests.auth_low,
    "signed-in": requests.anonymous,
    "bare": requests.against_bare,
    "manifest": requests.manifest,
    "archive-20k": requests.small_archive,
    "archive-12m": requests.large_archive,
    "catalog": catalogs.catalog,
    "push-100k": pushes.small_pushes,
    "push-12m": pushes.large_pushes,
    "sync": pushes.synchronisation,
    "workers": crowds.workers,
    "flood": crowds.flood,
    "first-start": starts.first_start,
    "restart": starts.restart,
    "memory": strain.memory,
    "latency": strain.latency,
    "scale": catalogs.scale,
}
"""Each row's name, as `--only` takes it, in the order of the table."""
