"""JSON text with the line of every member, and with limits that make any text safe to parse.

`json` alone forgets lines and silently lets the last of two equal keys win; both matter to whoever has to mend a
pack.json, so the text is read a second time for them.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import Any, NoReturn

from packregistry.model import shown

DEPTH_MAX = 64
TOKENS_MAX = 50_000

Path = tuple[str | int, ...]

# A string need not be closed: were it, a text full of opening quotes would be searched to its end from each of them.
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[\]{},:]|[^\s\[\]{},:"]+', re.DOTALL)


class NotJsonError(ValueError):
    """A text that cannot be read as JSON; `line` and `column` count from 1, 0 is unknown."""

    def __init__(self, reason: str, line: int = 0, column: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.line = line
        self.column = column


@dataclass(frozen=True, slots=True)
class JsonText:
    """A parsed text: its value, the line of each member and item by path, and the keys that were there before."""

    value: Any
    lines: dict[Path, int] = field(default_factory=dict)
    duplicates: tuple[tuple[Path, int], ...] = ()

    def line(self, path: Path) -> int:
        """Return the line `path` is on, or 0 if it is not there."""
        return self.lines.get(path, 0)


def parse(text: str) -> JsonText:
    """Read `text`, or raise `NotJsonError`.

    Refused besides broken syntax: more than `DEPTH_MAX` levels, more than `TOKENS_MAX` tokens, numbers that are not
    finite or have thousands of digits, and escapes that are half of a surrogate pair.
    """
    _limit(text)
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
        json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as exc:
        raise NotJsonError(exc.msg, exc.lineno, exc.colno) from exc
    except UnicodeEncodeError as exc:
        raise NotJsonError("half of a surrogate pair stands alone in a \\u escape") from exc
    except NotJsonError:
        raise
    except ValueError as exc:
        raise NotJsonError("a number has too many digits") from exc
    lines, duplicates = _positions(text)
    return JsonText(value, lines, duplicates)


def _limit(text: str) -> None:
    depth = 0
    for count, match in enumerate(_TOKEN.finditer(text)):
        lexeme = match.group()
        depth += (lexeme in "[{") - (lexeme in "]}")
        if depth > DEPTH_MAX:
            line = text.count("\n", 0, match.start()) + 1
            raise NotJsonError(f"it is nested more than {DEPTH_MAX} levels deep", line)
        if count >= TOKENS_MAX:
            raise NotJsonError(f"it has more than {TOKENS_MAX} tokens, which is no metadata")


def _refuse_constant(name: str) -> NoReturn:
    raise NotJsonError(f"{name} is not a JSON value")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise NotJsonError(f"the number {shown(text, 20)} is out of range")
    return number


def _positions(text: str) -> tuple[dict[Path, int], tuple[tuple[Path, int], ...]]:
    """Walk the tokens of a text known to be JSON."""
    lines: dict[Path, int] = {}
    duplicates: list[tuple[Path, int]] = []
    path: list[str | int] = []  # where the walk is: one key or index for each open container
    open_containers: list[str] = []
    key_is_next = False
    line, seen = 1, 0
    for match in _TOKEN.finditer(text):
        lexeme = match.group()
        line += text.count("\n", seen, match.start())
        seen = match.start()
        if lexeme in "]}":
            open_containers.pop()
            path.pop()
        elif lexeme == ",":
            key_is_next = open_containers[-1] == "{"
            if not key_is_next:
                path[-1] = int(path[-1]) + 1
        elif lexeme != ":":
            if key_is_next:
                path[-1] = json.loads(lexeme)
                if tuple(path) in lines:
                    duplicates.append((tuple(path), line))
            lines[tuple(path)] = line
            key_is_next = lexeme == "{"
            if lexeme in "[{":
                open_containers.append(lexeme)
                path.append(0 if lexeme == "[" else "")
    return lines, tuple(duplicates)
