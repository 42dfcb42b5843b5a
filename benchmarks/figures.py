"""Numbers that were measured several times: how they are distributed, and how two series compare round by round."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """A series in short: its median, the quartiles around it (the least and greatest of fewer than four), its count."""

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarise a series. Raises `ValueError` where it is empty."""
        if not values:
            raise ValueError("nothing was measured")
        few = len(values) < 4
        low, high = (min(values), max(values)) if few else (percentile(values, 25), percentile(values, 75))
        return cls(statistics.median(values), low, high, len(values))


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which `percent` of the series lies, between its neighbours where it falls between two.

    Raises `ValueError` where the series is empty.
    """
    if not values:
        raise ValueError("nothing was measured")
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """How many times theirs ours is, each round by itself: what slows a whole round down cancels out.

    Raises `ValueError` where the series are of unequal length, or one of theirs is 0.
    """
    if any(value == 0 for value in theirs):
        raise ValueError("a round measured 0, which nothing can be compared with")
    return Spread.of([mine / other for mine, other in zip(ours, theirs, strict=True)])
