"""What came out: a line for each comparison, as a table for people and as JSON for programs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from benchmarks.figures import Spread

Verdict = Literal["met", "missed", "not measured", "failed"]


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure should be: at least or at most `bound`, or within a share of 1 on both sides of it.

    `unit` is what follows the number: `x nginx`, `s`, `MB`.
    """

    bound: float
    unit: str
    kind: Literal["at least", "at most", "within"] = "at least"

    def __str__(self) -> str:
        """Render as `≥ 10 x nginx`, or `1 ± 10 % of …`."""
        if self.kind == "within":
            return f"1 ± {self.bound:.0%} {self.unit}"
        return f"{'≥' if self.kind == 'at least' else '≤'} {self.bound:g} {self.unit}"

    def met(self, value: float, scale: float = 1.0) -> bool:
        """Whether a value is as it should be. A `scale` below 1 asks for so much less."""
        if self.kind == "at least":
            return value >= self.bound * scale
        if self.kind == "at most":
            return value <= self.bound / scale
        return abs(value - 1) <= self.bound / scale


@dataclass(frozen=True, slots=True)
class Outcome:
    """One comparison: of what, what should have come out, and what did.

    Attributes:
        row: the name of the row, as `--only` takes it.
        work: what was done.
        target: what the figure should be; None where a row came to nothing as a whole.
        figure: what it was. None where it was not measured, and `reason` says why.
        details: what each competitor did, by its name; absolute, so for comparison within this run alone.
        unit: of the details.
        per_cpu: the figure once more, by the processor's time that each server took: other processes change it less.
        broken: whether something went wrong, other than that a peer is not there.
    """

    row: str
    work: str
    target: Target | None
    figure: Spread | None = None
    details: Mapping[str, Spread] = field(default_factory=dict)
    unit: str = ""
    per_cpu: Spread | None = None
    reason: str = ""
    broken: bool = False

    def verdict(self, scale: float = 1.0) -> Verdict:
        """How it went. What was not measured has not passed."""
        if self.broken:
            return "failed"
        if self.figure is None or self.target is None:
            return "not measured"
        return "met" if self.target.met(self.figure.median, scale) else "missed"

    def document(self, scale: float) -> dict[str, Any]:
        """All of it for a program."""
        return {
            "row": self.row,
            "work": self.work,
            "target": str(self.target or ""),
            "bound": self.target.bound if self.target else None,
            "kind": self.target.kind if self.target else None,
            "verdict": self.verdict(),
            "verdict_scaled": self.verdict(scale),
            "figure": dataclasses.asdict(self.figure) if self.figure else None,
            "per_cpu": dataclasses.asdict(self.per_cpu) if self.per_cpu else None,
            "details": {name: dataclasses.asdict(spread) for name, spread in self.details.items()},
            "unit": self.unit,
            "reason": self.reason,
        }


def table(outcomes: Sequence[Outcome], *, markdown: bool = False) -> str:
    """A line for each outcome: the work, the target, the median and its spread, the verdict, and what it is made of."""
    heads = ("work", "target", "measured", "spread", "by CPU time", "verdict", "figures")
    rows = [heads, *(_cells(outcome) for outcome in outcomes)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    lines = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    if markdown:
        rule = ["-" * width for width in widths]
        return "\n".join("| " + " | ".join(line) + " |" for line in [lines[0], rule, *lines[1:]])
    return "\n".join("  ".join(line).rstrip() for line in lines)


def _cells(outcome: Outcome) -> tuple[str, ...]:
    verdict = outcome.verdict()
    if outcome.figure is None:
        return (outcome.work, str(outcome.target or ""), "", "", "", f"{verdict}: {outcome.reason}", "")
    figure = outcome.figure
    details = ", ".join(f"{name} {shown(spread.median)}" for name, spread in outcome.details.items())
    unit = f" {outcome.unit}" if details and outcome.unit else ""
    spread = f"{shown(figure.low)} to {shown(figure.high)}" if figure.count > 1 else "one round"
    cost = shown(outcome.per_cpu.median) if outcome.per_cpu else ""
    return (outcome.work, str(outcome.target or ""), shown(figure.median), spread, cost, verdict, details + unit)


def shown(value: float) -> str:
    """A number with three figures that count."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.3g}"


def document(outcomes: Sequence[Outcome], machine: Mapping[str, Any], scale: float) -> dict[str, Any]:
    """The whole run for a program. `scale` is how much less was asked for than the targets."""
    return {"machine": machine, "bound_scale": scale, "outcomes": [outcome.document(scale) for outcome in outcomes]}
