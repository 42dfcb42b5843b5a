"""What is counted and measured, for Prometheus.

Callers say what happened in plain words and know no library. Labels are bounded: each has the values that are known
here, all there from the start, and whatever else is said counts as `other`. Nothing a client sends becomes a label.
"""

from __future__ import annotations

import itertools
import platform
from collections.abc import Sequence
from typing import Final

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    Counter,
    Gauge,
    disable_created_metrics,
    generate_latest,
)

from packregistry import __version__

METHODS: Final = ("none", "basic", "token", "certificate")
RESULTS: Final = ("remembered", "verified", "failed", "throttled", "busy")
RELOADED: Final = ("users", "tokens", "policy", "certificates")
ACCESSES: Final = ("public", "read", "write", "delete", "admin")
OTHER: Final = "other"


class Metrics:
    """The metrics of one server. Any thread may use it."""

    def __init__(self) -> None:
        # For the whole process, and at no other time: a second line for each counter, with when it was made.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._authentications = _Counters(
            self._counter("authentications", "How requests that had credentials fared.", "method", "result"),
            METHODS,
            RESULTS,
        )
        self._reloads = _Counters(
            self._counter("reloads", "Readings of files that have changed.", "what", "result"),
            RELOADED,
            ("ok", "failed"),
        )
        failed = self._gauge("reload_failed", "1 while a file cannot be used, and what it said before holds.", "what")
        self._reload_failed = {what: failed.labels(what) for what in RELOADED}
        self._denied = _Counters(
            self._counter("denied", "Requests refused because of who sent them, by what the route asks.", "access"),
            ACCESSES,
        )
        self._audit_lost = self._counter("audit_lost", "Audit records that could not be written.")
        build = self._gauge("build_info", "What runs; always 1.", "version", "python")
        build.labels(__version__, platform.python_version()).set(1)

    def authentication(self, method: str, result: str) -> None:
        """Credentials were looked at: `method` is one of `METHODS`, `result` of `RESULTS`."""
        self._authentications.add(method, result)

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

    def _counter(self, name: str, help_text: str, *labels: str) -> Counter:
        return Counter(f"packregistry_{name}_total", help_text, labels, registry=self._registry)

    def _gauge(self, name: str, help_text: str, *labels: str) -> Gauge:
        return Gauge(f"packregistry_{name}", help_text, labels, registry=self._registry)


class _Counters:
    """A counter with one child for each combination of known label values; finding them anew takes µs each time."""

    def __init__(self, counter: Counter, *values: Sequence[str]) -> None:
        self._children = {key: counter.labels(*key) for key in itertools.product(*values)}
        self._other = counter.labels(*(OTHER for _ in values))

    def add(self, *key: str) -> None:
        self._children.get(key, self._other).inc()
