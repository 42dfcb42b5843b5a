"""`packregistry pack lint`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from packregistry import offer
from packregistry.cli import output, remote
from packregistry.cli.home import home_option
from packregistry.cli.lazy import HELP
from packregistry.cli.remote import ending
from packregistry.cli.sarif import sarif
from packregistry.failures import REFUSED
from packregistry.model import Json, Problem, problem_json
from packregistry.offer import Offer


@click.command("lint", context_settings=HELP)
@click.argument(
    "paths", metavar="DIR...", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option("--strict", is_flag=True, help="Take warnings for errors.")
@click.option(
    "-o", "--output", "kind", type=click.Choice(["text", "json", "sarif"]), default="text", help="How to print it."
)
@home_option
@ending
async def command(paths: tuple[Path, ...], strict: bool, kind: str) -> int:
    """Check the packs in the directories DIR as the registry does when they are pushed; nothing is sent.

    \b
    packregistry pack lint ./nginx-1.2.3
    packregistry pack lint packs/* --strict
    packregistry pack lint packs/* -o sarif > packs.sarif      # for code scanning

    Exit codes: 0 no pack has errors, 1 one has, 2 wrong usage.
    """
    limits = remote.limits()
    found = [(one, problems_of(one, strict=strict)) for one in (offer.inspect(path, limits) for path in paths)]
    if kind == "json":
        output.document({"packs": [_json(one, problems) for one, problems in found]})
    elif kind == "sarif":
        output.document(sarif([(one.tree.root, problems) for one, problems in found]))
    else:
        _print(found)
    return REFUSED if any(problem.severity == "error" for _, problems in found for problem in problems) else 0


def problems_of(one: Offer, *, strict: bool) -> list[Problem]:
    """What is wrong with a pack; all of it errors where it is to be `strict`."""
    problems = one.reading.problems
    return [replace(problem, severity="error") for problem in problems] if strict else list(problems)


def _json(one: Offer, problems: Sequence[Problem]) -> Json:
    reading = one.reading
    return {
        "directory": str(one.tree.root),
        "name": reading.name,
        "tag": reading.tag,
        "problems": [problem_json(problem) for problem in problems],
    }


def _print(found: Sequence[tuple[Offer, Sequence[Problem]]]) -> None:
    for one, problems in found:
        output.say(f"{one.tree.root}: {_verdict(problems)}")
        for problem in problems:
            output.say(f"  {output.problem_line(problem_json(problem))}")
    if len(found) > 1:
        all_problems = [problem for _, problems in found for problem in problems]
        output.say(f"{output.plural(len(found), 'pack')}: {_verdict(all_problems)}")


def _verdict(problems: Sequence[Problem]) -> str:
    errors = sum(problem.severity == "error" for problem in problems)
    warnings = len(problems) - errors
    if not problems:
        return "no problems"
    return ", ".join(output.plural(count, noun) for count, noun in ((errors, "error"), (warnings, "warning")) if count)
