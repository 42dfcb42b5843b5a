"""How fast the registry is, beside the servers that people would run otherwise.

Starts ours and the peers that are installed (`docker-registry`, `nginx`), loads all with the same content, checks that
they answer alike, and measures in turns, so that whatever else the machine does meets all of them. Prints ratios with
their spread, and what was to be reached. Where one process serves, it has a core to itself; load comes from another.

    apt-get install docker-registry nginx-light wrk openssl

A row whose peer is missing says so, and has not passed. Exits with 1 where a row missed its target, or failed.

Usage: python benchmarks/run.py [--quick] [--packs DIR] [--only NAME...] [--rounds N] [--seconds S] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

# As a script, this has its own directory first on the path, where the package is not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import machine, report
from benchmarks.client import AnswerError
from benchmarks.processes import ProgramError
from benchmarks.report import Outcome
from benchmarks.rows import ROWS
from benchmarks.servers import MissingError
from benchmarks.stage import DifferentError, Options, Stage, pin

QUICK_SCALE = 0.25


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and judge."""
    args = parsed(arguments)
    names = args.only or list(ROWS)
    scale = args.bound_scale or (QUICK_SCALE if args.quick else 1.0)
    options = Options(
        quick=args.quick,
        rounds=args.rounds or (1 if args.quick else 5),
        seconds=args.seconds or (1 if args.quick else 3),
        packs=args.packs,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stopped)
    outcomes, described = measured(names, options)
    print(report.table(outcomes, markdown=args.markdown))
    print(f"\n{_where(described)}")
    if args.json:
        args.json.write_text(json.dumps(report.document(outcomes, described, scale), indent=2) + "\n")
    verdicts = {outcome.verdict(scale) for outcome in outcomes}
    return int(bool(verdicts & {"missed", "failed"}))


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="about a minute, with little content, for a smoke test")
    parser.add_argument("--packs", type=Path, metavar="DIR", help="pack directories to serve, in place of made ones")
    parser.add_argument("--only", nargs="+", choices=list(ROWS), metavar="NAME", help=f"rows: {', '.join(ROWS)}")
    parser.add_argument("--rounds", type=positive, metavar="N", help="how often each is measured (5, quick: 1)")
    parser.add_argument("--seconds", type=positive, metavar="S", help="how long each time (3, quick: 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was found to a file as well")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument(
        "--bound-scale",
        type=share,
        metavar="SHARE",
        help=f"exit with 0 where this share of each target is met (1, quick: {QUICK_SCALE:g})",
    )
    return parser.parse_args(arguments)


def positive(text: str) -> int:
    """A whole number from 1. Raises `argparse.ArgumentTypeError`."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def share(text: str) -> float:
    """A number above 0, up to 1. Raises `argparse.ArgumentTypeError`."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0, up to 1")
    return value


def measured(names: Sequence[str], options: Options) -> tuple[list[Outcome], dict[str, object]]:
    """Every row in turn. Whatever was started is stopped, and whatever was written removed, however this ends."""
    server_core, load_core = machine.cores()
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="packregistry-benchmark-") as name, ExitStack() as stack:
        directory = Path(name)
        described = machine.description(directory)
        pin(load_core)
        stage = Stage(options, directory, stack, server_core, load_core)
        for row in names:
            begun = time.perf_counter()
            stage.say(row)
            try:
                outcomes += one_row(row, stage)
            except SystemExit:
                # What was found so far took long to find.
                outcomes.append(Outcome(row, row, None, reason="stopped before its end", broken=True))
                break
            stage.say(f"  {time.perf_counter() - begun:.1f} s")
    return outcomes, described


def one_row(row: str, stage: Stage) -> list[Outcome]:
    """What a row gives, also where it cannot be measured."""
    try:
        return ROWS[row](stage)
    except MissingError as error:
        return [Outcome(row, row, None, reason=str(error))]
    except (DifferentError, ProgramError, AnswerError, OSError, ExceptionGroup) as error:
        what = str(error.exceptions[0]) if isinstance(error, ExceptionGroup) else str(error)
        stage.say(f"  failed: {what}")
        return [Outcome(row, row, None, reason=what, broken=True)]


def _where(described: dict[str, object]) -> str:
    versions = described["versions"]
    assert isinstance(versions, dict)
    known = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"{described['command']}\n{described['cores']} cores, {described['cpu']}, {described['kernel']}; {known}"


def _stopped(number: int, _frame: FrameType | None) -> None:
    """End by an exception, so that nothing is left behind. A second signal does not interrupt the cleaning up."""
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
