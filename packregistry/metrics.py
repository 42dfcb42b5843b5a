"""What is counted and measured, for Prometheus.

Callers say what happened in plain words and know no library. Labels are bounded: each has the values that are known
here, all there from the start, and whatever else is said counts as `other`. Nothing a client sends becomes a label.
"""

from __future__ import annotations

import itertools
import platform
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    Counter,
    Gauge,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from packregistry import __version__

METHODS: Final = ("none", "basic", "token", "certificate")
RESULTS: Final = ("remembered", "verified", "failed", "throttled", "busy")
RELOADED: Final = ("users", "tokens", "policy", "certificates")
ACCESSES: Final = ("public", "read", "write", "delete", "admin")
OTHER: Final = "other"


class Metrics:
    """The metrics of one server. But for `audit_lost` and `text`, it belongs to the thread of the event loop."""

    def __init__(self) -> None:
        # For the whole process, and at no other time: a second line for each counter, with when it was made.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._authentications = self._counters(
            "authentications", "How requests that had credentials fared.", ("method", "result"), METHODS, RESULTS
        )
        # Credentials were looked at: one of `METHODS`, one of `RESULTS`. Every request calls it, so directly.
        self.authentication: Callable[[str, str], None] = self._authentications.add
        self._reloads = self._counters(
            "reloads", "Readings of files that have changed.", ("what", "result"), RELOADED, ("ok", "failed")
        )
        failed = self._gauge("reload_failed", "1 while a file cannot be used, and what it said before holds.", "what")
        self._reload_failed = {what: failed.labels(what) for what in RELOADED}
        self._denied = self._counters(
            "denied", "Requests refused because of who sent them, by what the route asks.", ("access",), ACCESSES
        )
        self._audit_lost = Counter(
            "packregistry_audit_lost_total", "Audit records that could not be written.", registry=self._registry
        )
        build = self._gauge("build_info", "What runs; always 1.", "version", "python")
        build.labels(__version__, platform.python_version()).set(1)

    def reload(self, what: str, ok: bool) -> None:
        """A file was read again because it had changed: `what` is one of `RELOADED`, `ok` whether it can be used."""
        self._reloads.add(what, "ok" if ok else "failed")
        gauge = self._reload_failed.get(what)
        if gauge is not None:
            gauge.set(0 if ok else 1)

    def denied(self, access: str) -> None:
        """A request was refused because of who sent it; `access` is one of `ACCESSES`, what its route asks."""
        self._denied.add(access)

    def audit_lost(self, count: int = 1) -> None:
        """So many audit records could not be written."""
        self._audit_lost.inc(count)

    def text(self) -> tuple[bytes, str]:
        """All metrics in Prometheus' text format 0.0.4, and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4

    def _counters(self, name: str, help_text: str, labels: Sequence[str], *values: Sequence[str]) -> _Counters:
        counters = _Counters(name, help_text, labels, *values)
        self._registry.register(counters)
        return counters

    def _gauge(self, name: str, help_text: str, *labels: str) -> Gauge:
        return Gauge(f"packregistry_{name}", help_text, labels, registry=self._registry)


class _Counters(Collector):
    """A counter for each combination of known label values.

    Every request counts something, and the library's own counters take a lock and some µs to do so. These are for the
    thread of the event loop alone.
    """

    def __init__(self, name: str, help_text: str, labels: Sequence[str], *values: Sequence[str]) -> None:
        self._name = f"packregistry_{name}"
        self._help = help_text
        self._labels = labels
        self._counts = dict.fromkeys(itertools.product(*values), 0)
        self._other = tuple(OTHER for _ in values)

    def add(self, *key: str) -> None:
        """Count one more; what is not known counts as `other`."""
        try:
            self._counts[key] += 1
        except KeyError:
            self._counts[self._other] = self._counts.get(self._other, 0) + 1

    def collect(self) -> Iterator[Metric]:
        """Give them to the library."""
        family = CounterMetricFamily(self._name, self._help, labels=self._labels)
        for key, count in {self._other: 0, **self._counts}.items():
            family.add_metric(key, count)
        yield family
