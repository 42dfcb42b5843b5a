r"""The syntax of RE2 regular expressions, as far as telling a valid one from a broken one needs it.

Palette matches values with Go's `regexp`, so Python's `re` would be the wrong judge: it takes the look-around that RE2
refuses, and refuses `\z`, `\pL` and `[[:alpha:]]`, which RE2 takes. Source: https://golang.org/s/re2syntax
"""

from __future__ import annotations

import re

REPEAT_MAX = 1000
DEPTH_MAX = 1000

_TOKEN = re.compile(
    r"""
    (?P<quoted> \\Q .*? (?: \\E | \Z ) )
  | (?P<escape> \\ (?: x \{ [0-9A-Fa-f]+ \} | x [0-9A-Fa-f]{2} | [pP] (?: \{ \^? \w+ \} | [A-Z] ) | 0 [0-7]{0,2}
        | [1-7] [0-7]{1,2} | [aAbBdDfnrsStvwWz] | [^0-9A-Za-z\x80-\U0010ffff] ) )
  | (?P<set> \[ \^?+ \]?+ (?: \[ : \^? \w+ : \] | \\ . | [^]\\] )*+ \] )
  | (?P<open> \( (?: \? (?: P? < \w+ > | [imsU]* (?: - [imsU]+ )? : ) )? (?! \? ) )
  | (?P<flags> \( \? (?: [imsU]+ (?: - [imsU]+ )? | - [imsU]+ ) \) )
  | (?P<close> \) )
  | (?P<repeat> (?: [*+?] | \{ (?P<low> [0-9]+ ) (?: , (?P<high> [0-9]* ) )? \} ) \?? )
  | (?P<bar> \| )
  | (?P<literal> [^\\[(] )
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_OPERANDS = frozenset({"quoted", "escape", "set", "close", "literal"})
_POSIX = re.compile(r"\[:\^?(\w+):\]", re.ASCII)
_POSIX_NAMES = frozenset(
    {"alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word"}
    | {"xdigit"}
)
_SET_ESCAPE = re.compile(r"\\.", re.DOTALL)
_RANGE = re.compile(r"([^\0\[\]-])-([^\0\[\]-])", re.DOTALL)


def flaw(pattern: str) -> str:
    """Return what is wrong with `pattern`, or an empty string."""
    position, depth, operand = 0, 0, False
    while position < len(pattern):
        match = _TOKEN.match(pattern, position)
        if match is None:
            return _unreadable(pattern[position : position + 3])
        kind = _kind(match)
        depth += (kind == "open") - (kind == "close")
        if depth < 0:
            return "a parenthesis is closed that was not opened"
        if depth > DEPTH_MAX:
            return "it is nested too deep"
        if kind == "repeat" and not operand:
            return f"there is nothing to repeat before {match.group()}"
        if kind == "repeat" and (reason := _repeat_flaw(match["low"], match["high"])):
            return reason
        if kind == "set" and (reason := _set_flaw(match.group())):
            return reason
        operand = kind in _OPERANDS
        position = match.end()
    return "a parenthesis is not closed" if depth else ""


def _kind(match: re.Match[str]) -> str:
    # `lastgroup` is the last group that closed, and `repeat` closes after the two inside it.
    return match.lastgroup or ""


def _unreadable(rest: str) -> str:
    if rest.startswith("["):
        return "a bracket is not closed"
    if rest.startswith("(?"):
        return f"RE2 has no group of the kind {rest}"
    return f"RE2 has no escape {rest[:2]}" if len(rest) > 1 else "it ends in a backslash"


def _repeat_flaw(low: str | None, high: str | None) -> str:
    if low is None:
        return ""
    # Digits are counted first: a number of thousands of them cannot be converted.
    if max(len(low), len(high or "")) > 6 or max(int(low), int(high or 0)) > REPEAT_MAX:
        return f"RE2 repeats at most {REPEAT_MAX} times"
    return "a repetition ends below its beginning" if high and int(high) < int(low) else ""


def _set_flaw(text: str) -> str:
    if unknown := [name for name in _POSIX.findall(text) if name not in _POSIX_NAMES]:
        return f"there is no character class [:{unknown[0][:20]}:]"
    body = _SET_ESCAPE.sub("\0", _POSIX.sub("\0", text[1:-1].removeprefix("^")))
    return next((f"the range {low}-{high} is backwards" for low, high in _RANGE.findall(body) if low > high), "")
