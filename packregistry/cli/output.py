"""What is printed: tables and lines for people, one JSON document for scripts, and errors that say what to do next.

Results go to standard output, everything else to standard error. What comes from a server or a pack is printed without
control characters.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import click

from packregistry.client.answers import clean
from packregistry.errors import (
    DeniedError,
    NameUnknownError,
    PackInvalidError,
    RegistryError,
    ReleaseConflictError,
    UnauthorizedError,
)
from packregistry.failures import REFUSED, UNAUTHORISED, UNREACHABLE, ClientError
from packregistry.model import Json

Failure = RegistryError | ClientError


def exit_code(error: Failure) -> int:
    """What the command ends with because of `error`."""
    if isinstance(error, ClientError):
        return error.exit_code
    return UNAUTHORISED if isinstance(error, (UnauthorizedError, DeniedError)) else REFUSED


def worst(codes: Iterable[int]) -> int:
    """The exit code of several: unauthorised is worse than unreachable, and that worse than refused."""
    order = (0, REFUSED, UNREACHABLE, UNAUTHORISED)
    return max(codes, key=order.index, default=0)


def say(text: str = "") -> None:
    """A line of the result."""
    click.echo(text)


def note(text: str) -> None:
    """A line that is no result."""
    click.echo(text, err=True)


def warn(text: str) -> None:
    """A line about something that should not be so."""
    note(f"packregistry: warning: {text}")


def warn_all(warnings: Iterable[str]) -> None:
    """Print what is not as it was probably meant."""
    for warning in warnings:
        warn(warning)


def fail(message: str, status: int) -> NoReturn:
    """Print why it does not go on, and exit."""
    note(f"packregistry: {message}")
    sys.exit(status)


def document(value: Any) -> None:
    """The result as JSON."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Columns under a head, as wide as they have to be."""
    cells = [list(head), *([clean("-" if cell in {None, ""} else str(cell)) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    for row in cells:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def size(count: object) -> str:
    """A number of bytes, for people."""
    if not isinstance(count, int):
        return "-"
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 10 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def plural(count: int, noun: str) -> str:
    """`1 error`, `2 errors`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def error_json(error: Failure) -> Json:
    """An error as the registry itself writes it: code, message, detail."""
    code = error.code if isinstance(error, RegistryError) else type(error).__name__.removesuffix("Error").upper()
    return {
        "code": code,
        "message": clean(str(error)),
        "detail": error.detail if isinstance(error, RegistryError) else None,
    }


def explain(error: Failure, server: str = "", *, logged_in: bool = False) -> str:
    """What went wrong, and what to do about it. Several lines where there are several problems."""
    said = clean(str(error))
    detail = error.detail if isinstance(error, RegistryError) else None
    if isinstance(error, PackInvalidError) and isinstance(detail, list):
        said = clean(f"{error.message.partition(': ')[0]}: {error.remedy}" if error.remedy else error.message)
        return "\n".join([said, *(f"  {problem_line(item)}" for item in detail if isinstance(item, dict))])
    if isinstance(error, ReleaseConflictError) and isinstance(detail, dict):
        digests = f"the registry has {clean(str(detail.get('existing')))}, you have {clean(str(detail.get('offered')))}"
        return f"{said}\n  {digests}\n  to replace it: packregistry pack push --force -m 'WHY' DIR"
    if isinstance(error, UnauthorizedError) and server:
        again = "the login was refused: log in again" if logged_in else "log in first"
        return f"{said}\n  {again}: packregistry registry login {server}"
    if isinstance(error, DeniedError):
        return f"{said}\n  use a login that may write: packregistry registry login {server}".rstrip()
    if isinstance(error, NameUnknownError):
        return f"{said}\n  packregistry pack ls lists what there is"
    unchanged = error.code == "DIGEST_UNCHANGED" if isinstance(error, RegistryError) else False
    if (unchanged or "DIGEST_UNCHANGED" in said) and "--skip-digest-check" not in said:
        return f"{said}\n  to push it all the same: --skip-digest-check"
    return said


def problem_line(problem: Json) -> str:
    """A problem of a pack on one line: severity, place, what is wrong, what to do."""

    def text(key: str) -> str:
        return clean(str(problem.get(key) or ""))

    where = text("file") + (f":{text('line')}" if text("line") else "")
    said = ": ".join(part for part in (text("severity"), where, text("field"), text("message")) if part)
    return f"{said} ({text('remedy')})" if text("remedy") else said
