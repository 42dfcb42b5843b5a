"""What holds for every test."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import settings

# A few examples of each property, as `make test` is waited for; `make coverage` asks for many.
# Without deadlines: how long an example takes says something about the machine alone.
settings.register_profile("quick", max_examples=20, deadline=None)
settings.register_profile("many", max_examples=100, deadline=None)
settings.load_profile("quick")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where everything that tests need is said to be installed, a test that is skipped has failed."""
    report = yield
    if report.skipped and os.environ.get("PACKREGISTRY_NO_SKIPS"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped ({report.longrepr}), and PACKREGISTRY_NO_SKIPS is set"
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of processes, and of short times, are run again where they fail in CI, and the report says so.

    They share two cores with whatever else the machine does, and machines for CI stand still now and then for longer
    than a client waits. What is wrong fails each time.
    """
    if os.environ.get("PACKREGISTRY_NO_SKIPS"):
        for item in items:
            if item.get_closest_marker("process") or item.get_closest_marker("timed"):
                item.add_marker(pytest.mark.flaky(reruns=2))
