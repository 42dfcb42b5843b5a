"""What is wrong with a configuration: one located line for each problem, all of them at once."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Iterable

_WORD_MAX = 60


def quoted(text: str) -> str:
    """`text` as it may stand in a message: in quotes, escaped, and cut to what a person reads."""
    return json.dumps(text if len(text) <= _WORD_MAX else text[:_WORD_MAX] + "…", ensure_ascii=False)


def printable(text: str) -> str:
    """`text` with what is not printable escaped, so that it stays on its line."""
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The one of `known` that `word` was probably meant to be, whatever the case."""
    by_lower = {name.lower(): name for name in known}
    lower = word[:_WORD_MAX].lower()
    close = difflib.get_close_matches(lower, by_lower, cutoff=cutoff)
    # Few people get the first letter wrong: `adress` is `addr`, though it has more letters of `headers`.
    close.sort(key=lambda name: name[:1] != lower[:1])
    return by_lower[close[0]] if close else None


def suggestion(word: str, known: Collection[str]) -> str:
    """A remedy for `word`, which is none of `known`: the nearest of them, or all of them."""
    near = nearest(word, known)
    return f"did you mean {near}?" if near else f"known: {', '.join(known)}" if known else "leave it out"


class ConfigError(Exception):
    """A configuration that cannot be used.

    `problems` has one line for each thing that is wrong: where it stands, what it is, and what to do about it.
    `warnings` has what is odd besides, and may be the cause, such as the misspelt name of a variable.
    """

    def __init__(self, problems: Iterable[str], warnings: Iterable[str] = ()) -> None:
        self.problems = tuple(problems)
        self.warnings = tuple(warnings)
        super().__init__("\n".join(self.problems))


class BadValueError(Exception):
    """A value that an option does not take; whoever knows where it stands makes a problem of it."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class Report:
    """Gathers errors and warnings as lines `where: path: message (remedy)`, leaving out what is empty."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.warnings: list[str] = []

    def error(self, where: str, path: str, message: str, remedy: str = "") -> None:
        """Note something that keeps the configuration from being used."""
        self.errors.append(_line(where, path, message, remedy))

    def warn(self, where: str, path: str, message: str, remedy: str = "") -> None:
        """Note something that an operator should know and that does no harm."""
        self.warnings.append(_line(where, path, message, remedy))


def _line(where: str, path: str, message: str, remedy: str) -> str:
    text = ": ".join(part for part in (where, path, message) if part)
    return printable(f"{text} ({remedy})" if remedy else text)
