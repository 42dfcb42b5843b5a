"""What is counted and measured."""

from __future__ import annotations

import platform
import re
from collections.abc import Callable

import pytest
from prometheus_client.parser import text_string_to_metric_families

from packregistry import __version__
from packregistry.metrics import METHODS, RELOADED, RESULTS, Metrics

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(metrics: Metrics) -> Samples:
    text, _ = metrics.text()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def changed(metrics: Metrics, act: Callable[[], None]) -> Samples:
    """What has another value after `act`, with the difference."""
    before = samples(metrics)
    act()
    return {key: value - before[key] for key, value in samples(metrics).items() if value != before[key]}


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return f"packregistry_{name}", frozenset(labels.items())


@pytest.mark.parametrize("result", RESULTS)
@pytest.mark.parametrize("method", METHODS)
def test_an_authentication_is_counted_by_method_and_result(method: str, result: str) -> None:
    metrics = Metrics()
    found = changed(metrics, lambda: metrics.authentication(method, result))
    assert found == {key("authentications_total", method=method, result=result): 1}


@pytest.mark.parametrize("what", RELOADED)
def test_a_reload_that_fails_is_counted_and_raises_a_gauge_until_one_does_not(what: str) -> None:
    metrics = Metrics()
    failed, ok = key("reloads_total", what=what, result="failed"), key("reloads_total", what=what, result="ok")
    gauge = key("reload_failed", what=what)
    assert changed(metrics, lambda: metrics.reload(what, False)) == {failed: 1, gauge: 1}
    assert changed(metrics, lambda: metrics.reload(what, False)) == {failed: 1}
    assert changed(metrics, lambda: metrics.reload(what, True)) == {ok: 1, gauge: -1}
    assert changed(metrics, lambda: metrics.reload(what, True)) == {ok: 1}


@pytest.mark.parametrize("access", ["public", "read", "write", "delete", "admin"])
def test_a_refusal_is_counted_by_what_the_route_asks(access: str) -> None:
    metrics = Metrics()
    assert changed(metrics, lambda: metrics.denied(access)) == {key("denied_total", access=access): 1}


def test_audit_records_that_are_lost_are_counted() -> None:
    metrics = Metrics()
    assert changed(metrics, metrics.audit_lost) == {key("audit_lost_total"): 1}
    assert changed(metrics, lambda: metrics.audit_lost(3)) == {key("audit_lost_total"): 3}


def test_what_nobody_knows_is_counted_as_other_and_makes_no_new_series() -> None:
    metrics = Metrics()
    assert changed(metrics, lambda: metrics.authentication("digest", "verified")) == {
        key("authentications_total", method="other", result="other"): 1
    }
    assert changed(metrics, lambda: metrics.reload("moon", False)) == {
        key("reloads_total", what="other", result="other"): 1
    }
    assert changed(metrics, lambda: metrics.denied("x")) == {key("denied_total", access="other"): 1}


def test_everything_is_there_from_the_start_and_nothing_has_happened() -> None:
    found = samples(Metrics())
    build = key("build_info", version=__version__, python=platform.python_version())
    assert found.pop(build) == 1
    assert set(found.values()) == {0}
    assert {name for name, _ in found} == {
        "packregistry_authentications_total",
        "packregistry_reloads_total",
        "packregistry_reload_failed",
        "packregistry_denied_total",
        "packregistry_audit_lost_total",
    }
    assert {key("reload_failed", what=what) for what in ("users", "tokens", "policy", "certificates")} <= set(found)


def test_the_text_is_what_prometheus_reads() -> None:
    text, content_type = Metrics().text()
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert re.search(
        rb"^# HELP packregistry_audit_lost_total .+\.\n# TYPE packregistry_audit_lost_total counter$",
        text,
        re.MULTILINE,
    )
    assert b"_created" not in text


def test_two_servers_in_one_process_count_for_themselves() -> None:
    first, second = Metrics(), Metrics()
    assert changed(second, lambda: first.denied("read")) == {}
