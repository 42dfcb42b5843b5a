"""Quotes that lack their other half: where they are, and how the line must read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

_POLICY: Final = "content-security-policy"
_LINE_MAX = 400
_REST = {'"': re.compile(r'(?:\\.|[^"\\])*"', re.DOTALL), "'": re.compile(r"(?:''|[^'])*'")}
# What may stand behind a quoted text.
_FOLLOWER = re.compile(r"[ \t]*(?:[,\]}:\r\n]|$)|[ \t]+#")
_NAME_END = re.compile(r"[\s,\]}]|$")
_KEYED = re.compile(r"\s*(?:- +)?(?P<key>[^\s:#\"'\[\]{}][^:]*):[ \t]+(?P<value>\S.*?)\s*")


class Flaw(NamedTuple):
    """A quote that begins a text in `line` and `column`, counted from 1.

    `end` is the column of the one that ends it, on the same line and with more of the value behind it; 0 where nothing
    on its line ends it.
    """

    line: int
    column: int
    quote: str
    end: int


def first_flaw(text: str) -> Flaw | None:
    """The first quote in a YAML document that something is wrong with, as far as that can be told without parsing."""
    index, depth, begins = 0, 0, True
    while index < len(text):
        char = text[index]
        if begins and char in _REST:
            found = _REST[char].match(text, index + 1)
            if not found or not _FOLLOWER.match(text, found.end()):
                return _flaw(text, index, found.end() if found else len(text) + 1)
            index, begins = found.end(), False
        elif end := _skipped(text, index, begins, depth):
            index = end
        else:
            begins = _begins(text, index, begins, depth)
            depth += 1 if begins and char in "[{" else -1 if depth and char in "]}" else 0
            index += 1
    return None


def _begins(text: str, index: int, begins: bool, depth: int) -> bool:
    """Whether a value may begin behind the character at `index`, where one might have begun with it, or not."""
    char, is_apart = text[index], not text[index + 1 : index + 2].strip()
    if char == ",":
        return depth > 0
    if char == ":":
        return is_apart
    if char == "\n":
        return True
    return begins and (char.isspace() or char in "[{" or (char in "-?" and is_apart))


def _skipped(text: str, index: int, begins: bool, depth: int) -> int:
    """Where a comment ends, a text in block style, or the name of an anchor or a tag; 0 if none of them is here."""
    char = text[index]
    if char == "#" and (index == 0 or text[index - 1].isspace()):
        line_end = text.find("\n", index)
        return line_end if line_end >= 0 else len(text)
    if begins and char in "|>" and not depth:
        return _block_end(text, index)
    if begins and char in "&!" and (found := _NAME_END.search(text, index)):
        return found.start()
    return 0


def _block_end(text: str, index: int) -> int:
    """Where the lines end that are indented more than the one that `index` is in."""
    line_start = text.rfind("\n", 0, index) + 1
    line = text[line_start:index]
    indent = len(line) - len(line.lstrip())
    deeper = re.compile(rf"[^\n]*(?:\n(?: {{{indent + 1},}}[^\n]*|[ \t\r]*(?=\n|$)))*")
    found = deeper.match(text, index)
    return found.end() if found else len(text)


def _flaw(text: str, start: int, end: int) -> Flaw:
    line_start = text.rfind("\n", 0, start) + 1
    is_runaway = end > len(text) or "\n" in text[start:end]
    return Flaw(
        text.count("\n", 0, start) + 1, start - line_start + 1, text[start], 0 if is_runaway else end - line_start
    )


def complaint(text: str, line: int) -> tuple[Flaw, str, str] | None:
    """Why a document is not YAML, and the remedy, if that is because of a quote in `line` or before it."""
    flaw = first_flaw(text)
    if flaw is None or flaw.line > line:
        return None
    instead = rewritten(text.splitlines()[flaw.line - 1], flaw.quote)
    if flaw.end:
        remedy = f"write {instead}" if instead else "write the whole value in double quotes"
        return flaw, f"the {flaw.quote} here is closed too early, in column {flaw.end}", remedy
    return flaw, f"the {flaw.quote} here is not closed", f"write {instead}" if instead else "close it"


def rewritten(line: str, quote: str) -> str:
    """A line with a key and one text, with the text in double quotes, or empty where it is more than that."""
    found = _KEYED.fullmatch(line)
    if not found or len(line) > _LINE_MAX:
        return ""
    key, value = found["key"], found["value"]
    is_list = value.startswith("[")
    inner = value[1:].rstrip().removesuffix("]").strip() if is_list else value
    if not inner.startswith(quote):
        return ""
    inner = inner.removeprefix(quote).removesuffix(quote).strip()
    if not inner or any(char in inner for char in '"\\[]{}#') or (is_list and "," in inner):
        return ""
    if key.lower().startswith(_POLICY):
        inner = closed(inner)
    return f'{key}: ["{inner}"]' if is_list else f'{key}: "{inner}"'


def closed(policy: str) -> str:
    """A content security policy in which each word with a single quote at one end has one at the other."""

    def close(word: re.Match[str]) -> str:
        return f"'{word[0].strip(chr(39))}'" if word[0].startswith("'") != word[0].endswith("'") else word[0]

    return re.sub(r"[^\s;]+", close, policy)


def unbalanced(header: str, texts: Iterable[str]) -> tuple[str, str] | None:
    """What is wrong with the quotes in the texts of a header, and the remedy; None if nothing is.

    Single ones are quotes in a policy, and apostrophes elsewhere.
    """
    is_policy = header.lower().startswith(_POLICY)
    for text in texts:
        if is_policy and text.count("'") % 2:
            better = closed(text)
            remedy = f'write ["{better}"]' if better.count("'") % 2 == 0 and len(better) < _LINE_MAX else "close it"
            return "has an unbalanced ', and browsers take no notice of a word with one", remedy
        if text.count('"') % 2:
            return 'has an unbalanced "', "close it"
    return None
