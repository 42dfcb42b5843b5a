"""What is counted and measured, for Prometheus.

Callers say what happened in plain words and know no library. Labels are bounded: each has the values that are known
here, all there from the start, and whatever else is said counts as `other`. Nothing a client sends becomes a label.
Each process of a server counts for itself and tells what all have counted (`tally`).
"""

from __future__ import annotations

import itertools
import platform
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    Gauge,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from packregistry import __version__
from packregistry.tally import Board, Tally

METHODS: Final = ("none", "basic", "token", "certificate")
RESULTS: Final = ("remembered", "verified", "failed", "throttled", "busy")
RELOADED: Final = ("users", "tokens", "policy", "certificates")
ACCESSES: Final = ("public", "read", "write", "delete", "admin")
OTHER: Final = "other"


class Metrics:
    """The metrics of one server. But for `audit_lost` and `text`, it belongs to the thread of the event loop.

    `tally` is what this process counts in; without one it is the only process.
    """

    def __init__(self, tally: Tally | None = None) -> None:
        # For the whole process, and at no other time: a second line for each counter, with when it was made.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._tally = tally or Board().row(0)
        self._registry = CollectorRegistry()
        self._authentications = self._counters(
            "authentications", "How requests that had credentials fared.", ("method", "result"), METHODS, RESULTS
        )
        # Credentials were looked at: one of `METHODS`, one of `RESULTS`. Every request calls it, so directly.
        self.authentication: Callable[[str, str], None] = self._authentications.add
        self._reloads = self._counters(
            "reloads", "Readings of files that have changed.", ("what", "result"), RELOADED, ("ok", "failed")
        )
        self._reload_failed = _Highest(
            self._tally, "reload_failed", "1 while a file cannot be used, and what it said before holds.", RELOADED
        )
        self._registry.register(self._reload_failed)
        self._denied = self._counters(
            "denied", "Requests refused because of who sent them, by what the route asks.", ("access",), ACCESSES
        )
        self._audit_lost = self._counters("audit_lost", "Audit records that could not be written.", ())
        self._losing = threading.Lock()
        build = Gauge("packregistry_build_info", "What runs; always 1.", ("version", "python"), registry=self._registry)
        build.labels(__version__, platform.python_version()).set(1)

    def reload(self, what: str, ok: bool) -> None:
        """A file was read again because it had changed: `what` is one of `RELOADED`, `ok` whether it can be used."""
        self._reloads.add(what, "ok" if ok else "failed")
        self._reload_failed.set(what, 0 if ok else 1)

    def denied(self, access: str) -> None:
        """A request was refused because of who sent it; `access` is one of `ACCESSES`, what its route asks."""
        self._denied.add(access)

    def audit_lost(self, count: int = 1) -> None:
        """So many audit records could not be written. Any thread may say so."""
        with self._losing:
            self._audit_lost.add(count=count)

    def text(self) -> tuple[bytes, str]:
        """All metrics in Prometheus' text format 0.0.4, and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4

    def _counters(self, name: str, help_text: str, labels: Sequence[str], *values: Sequence[str]) -> _Counters:
        counters = _Counters(self._tally, name, help_text, labels, *values)
        self._registry.register(counters)
        return counters


class _Counters(Collector):
    """A counter for each combination of known label values.

    Every request counts something, and the library's own counters take a lock and some µs to do so. These are for the
    thread of the event loop alone.
    """

    def __init__(self, tally: Tally, name: str, help_text: str, labels: Sequence[str], *values: Sequence[str]) -> None:
        self._name = f"packregistry_{name}"
        self._help = help_text
        self._labels = labels
        # What nobody knows comes first, in cell 0. Without labels that is all there is.
        keys = dict.fromkeys([tuple(OTHER for _ in values), *itertools.product(*values)])
        self._cells = {key: index for index, key in enumerate(keys)}
        self._counts = tally.cells(len(keys))

    def add(self, *key: str, count: int = 1) -> None:
        """Count more; what is not known counts as `other`."""
        self._counts.add(self._cells.get(key, 0), count)

    def collect(self) -> Iterator[Metric]:
        """Give them to the library."""
        family = CounterMetricFamily(self._name, self._help, labels=self._labels)
        for key, index in self._cells.items():
            family.add_metric(key, self._counts.total(index))
        yield family


class _Highest(Collector):
    """A number for each of `whats`: the highest that a process has said."""

    def __init__(self, tally: Tally, name: str, help_text: str, whats: Sequence[str]) -> None:
        self._name = f"packregistry_{name}"
        self._help = help_text
        self._cells = {what: index for index, what in enumerate(whats)}
        self._values = tally.cells(len(whats))
        for index in self._cells.values():
            # A process that had the row before may have left something.
            self._values.set(index, 0)

    def set(self, what: str, value: int) -> None:
        """Say what it is now; what is not known has no number."""
        if what in self._cells:
            self._values.set(self._cells[what], value)

    def collect(self) -> Iterator[Metric]:
        """Give them to the library."""
        family = GaugeMetricFamily(self._name, self._help, labels=("what",))
        for what, index in self._cells.items():
            family.add_metric((what,), self._values.highest(index))
        yield family
