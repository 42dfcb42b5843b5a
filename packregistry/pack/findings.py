"""The problems of one pack, as they are found: collected, sorted, and no more than a person can read."""

from __future__ import annotations

import codecs
import difflib
import re
from collections.abc import Iterable
from typing import TypedDict

from packregistry.model import Problem, Severity, shown

PROBLEMS_MAX = 200
SUGGESTIONS_MAX = 200
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_$][A-Za-z0-9_$./\[\]-]{0,199}", re.ASCII)


def field_path(path: Iterable[str | int]) -> str:
    """Return `path` as `constraints.dependencies[0].packName`; a key with odd characters stands quoted in brackets."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN_KEY.fullmatch(part):
            text += f".{part}" if text else part
        else:
            text += f"[{shown(part)}]"
    return text


def closest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return the one of `known` most like `word` whatever its case, or an empty string."""
    if len(word) > 200:
        return ""
    by_lower = {item.lower(): item for item in known}
    matches = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=cutoff)
    return by_lower[matches[0]] if matches else ""


class Place(TypedDict):
    """Where in a file a problem is, as keyword arguments of `Findings.add`."""

    line: int
    field: str


class Findings:
    """What is wrong with one pack, added to by everything that looks at its files."""

    def __init__(self) -> None:
        self._problems: set[Problem] = set()
        self._suggestions = 0

    def error(self, file: str, message: str, remedy: str, *, line: int = 0, field: str = "") -> None:
        """Add what keeps the pack from being used."""
        self.add("error", file, message, remedy, line=line, field=field)

    def warning(self, file: str, message: str, remedy: str, *, line: int = 0, field: str = "") -> None:
        """Add what an operator should see."""
        self.add("warning", file, message, remedy, line=line, field=field)

    def add(self, severity: Severity, file: str, message: str, remedy: str, *, line: int = 0, field: str = "") -> None:
        """Add a problem of the given severity; the same problem twice counts once."""
        self._problems.add(Problem(severity, file, line, field, message, remedy))

    def suggest(self, word: str, known: Iterable[str], otherwise: str, cutoff: float = 0.6) -> str:
        """Return a remedy: `did you mean …?` when one of `known` is like `word`, else `otherwise`.

        Comparing is slow, so a file full of mistakes gets suggestions for the first `SUGGESTIONS_MAX` only.
        """
        self._suggestions += 1
        match = closest(word, known, cutoff) if self._suggestions <= SUGGESTIONS_MAX else ""
        return f"did you mean {shown(match)}?" if match else otherwise

    def text(self, file: str, data: bytes, severity: Severity) -> str | None:
        """Return `data` as text without a byte order mark, or None when it is not UTF-8: a problem of `severity`."""
        body = data.removeprefix(codecs.BOM_UTF8)
        try:
            return body.decode()
        except UnicodeDecodeError as exc:
            line = body.count(b"\n", 0, exc.start) + 1
            self.add(severity, file, "is not UTF-8 text", "save it as UTF-8", line=line)
            return None

    def problems(self) -> tuple[Problem, ...]:
        """Return all problems, errors first; of more than `PROBLEMS_MAX` the last one says how many are left out."""
        ordered = sorted(self._problems)
        if len(ordered) <= PROBLEMS_MAX:
            return tuple(ordered)
        kept, cut = ordered[: PROBLEMS_MAX - 1], ordered[PROBLEMS_MAX - 1 :]
        more = Problem(
            cut[0].severity, "", 0, "", f"{len(cut)} more problems are not listed", "mend the ones above first"
        )
        return (*kept, more)
