"""schema.yaml: what Palette demands of the values somebody enters for a pack.

A map of dotted value paths to templates such as
`'{{ required | readonly | format "${string:/RE2/}" | hints "…" }}'`.
Source: https://docs.spectrocloud.com/registries-and-packs/pack-constraints/
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import NamedTuple, TypedDict

from packregistry.model import shown
from packregistry.pack import re2, yamltree
from packregistry.pack.findings import Findings, Place, field_path

FILE = "schema.yaml"
FUNCTIONS = ("required", "readonly", "format", "hints")
ENTRIES_MAX = 2_000
TEMPLATE_MAX = 2_000
PIECES_MAX = 20
TYPES = ("string", "number", "boolean", "password", "list", "ipv4", "version")

_TEMPLATE = re.compile(r"\s*\{\{-?(.*?)-?\}\}\s*", re.DOTALL)
# Backslashes belong to the regular expressions inside and escape nothing but a quote.
_TOKEN = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*+)"|(\|)|([^\s"|]+))', re.DOTALL)
# No part reaches into the next `${`, so that a text full of unfinished ones is still read in linear time.
_PIECE = re.compile(
    r"""
    \$\{ ((?: (?!\$\{) [^:}] )*+)
    (?: : (?: / ((?: (?!\$\{) . )*?) / | \[ ((?: (?!\$\{) [^]] )*+) \] | ((?: (?!\$\{) [^}] )*+) ) )? \}
    """,
    re.VERBOSE | re.DOTALL,
)
_RANGE = re.compile(r"\s*(-?\d+(?:\.\d+)?)\s*-\s*(-?\d+(?:\.\d+)?)\s*", re.ASCII)


class ValueRule(TypedDict):
    """What one value has to be.

    `format` is the whole format as written. `type` is that of a format of one piece, and `string` for one that is
    put together of several; `regex`, `range` (`lo-hi`) and `options` are empty where the format has none.
    """

    path: str
    required: bool
    readonly: bool
    format: str
    type: str
    regex: str
    range: str
    options: list[str]
    hints: list[str]


class _Flaw(NamedTuple):
    message: str
    remedy: str
    word: str = ""  # what was written, if it may be one of `known` misspelt
    known: tuple[str, ...] = ()


def values_schema(data: bytes) -> list[ValueRule]:
    """Return the rules of a schema.yaml in its order, as far as they can be read; never raises."""
    try:
        tree = yamltree.parse(data.decode("utf-8-sig", "replace"))
    except yamltree.NotYamlError:
        return []
    return [_rule(path, template)[0] for path, _, template in _entries(tree) if template is not None]


def check(data: bytes, findings: Findings) -> None:
    """Report what is wrong with a schema.yaml; empty is fine."""
    text = findings.text(FILE, data, "error")
    if text is None:
        return
    try:
        tree = yamltree.parse(text)
    except yamltree.NotYamlError as exc:
        remedy = "mend it; put single quotes around each '{{ … }}'"
        findings.error(FILE, f"is not YAML: {exc.reason}", remedy, line=exc.line)
        return
    for root in tree.roots:
        if root.kind != "map" and not root.empty:
            remedy = "write the path of a value and below it its `schema:`"
            findings.error(FILE, "is not a map of value paths", remedy, line=root.line)
    count = sum(len(root.pairs) for root in tree.roots)
    if tree.cut or count > ENTRIES_MAX:
        findings.warning(
            FILE, f"has more than {ENTRIES_MAX} entries, the rest is left out", "shorten it", line=tree.cut
        )
    seen: set[str] = set()
    for path, line, template in _entries(tree):
        place = Place(line=line, field=field_path([path]))
        if path in seen:
            findings.warning(FILE, "stands here a second time", "keep one of them", **place)
        seen.add(path)
        if template is None:
            remedy = "write `schema: '{{ required }}'` or the like below the path"
            findings.warning(FILE, "has no schema text", remedy, **place)
            continue
        for flaw in _rule(path, template)[1]:
            remedy = findings.suggest(flaw.word, flaw.known, flaw.remedy) if flaw.known else flaw.remedy
            findings.warning(FILE, flaw.message, remedy, **place)


def _entries(tree: yamltree.Tree) -> Iterator[tuple[str, int, str | None]]:
    """The path, line and template text of each entry."""
    pairs = (pair for root in tree.roots for pair in root.pairs)
    for key, value in itertools.islice(pairs, ENTRIES_MAX):
        template = value.get("schema")
        yield key.text, (template or key).line, template.string() if template else None


def _rule(path: str, template: str) -> tuple[ValueRule, list[_Flaw]]:
    rule = ValueRule(
        path=path, required=False, readonly=False, format="", type="", regex="", range="", options=[], hints=[]
    )
    if len(template) > TEMPLATE_MAX:
        return rule, [_Flaw(f"has more than {TEMPLATE_MAX} characters", "shorten it")]
    match = _TEMPLATE.fullmatch(template)
    if match is None:
        return rule, [_Flaw("is not a template", "write it as '{{ … }}'")]
    flaws: list[_Flaw] = []
    for name, arguments in _calls(match[1], flaws):
        if name == "required":
            rule["required"] = True
        elif name == "readonly":
            rule["readonly"] = True
        elif name == "hints":
            rule["hints"] += arguments
        elif name == "format":
            rule["format"] = arguments[0] if arguments else ""
            if len(arguments) != 1:
                flaws.append(_Flaw("format wants one text in quotes", 'write format "${string}" or the like'))
            else:
                _read_format(rule, flaws)
        else:
            remedy = f"use {', '.join(FUNCTIONS)}"
            flaws.append(_Flaw(f"{shown(name, 40)} is not a function of the schema", remedy, name, FUNCTIONS))
    return rule, flaws


def _calls(text: str, flaws: list[_Flaw]) -> Iterator[tuple[str, list[str]]]:
    """The functions of a template with their quoted arguments."""
    name, arguments, position = "", list[str](), 0
    text = text.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            flaws.append(_Flaw("a quote is not closed", 'put text between two "'))
            return
        position = match.end()
        quoted, bar, word = match.groups()
        if bar:
            if name:
                yield name, arguments
            else:
                flaws.append(_Flaw("a function is missing beside a |", f"use {', '.join(FUNCTIONS)}"))
            name, arguments = "", []
        elif quoted is not None and name:
            arguments.append(quoted.replace('\\"', '"'))
        elif word is not None and not name:
            name = word
        else:
            remedy = "separate functions by | and put text in quotes"
            flaws.append(_Flaw(f"{shown(word or quoted or '', 40)} is not expected here", remedy))
            return
    if name:
        yield name, arguments
    else:
        flaws.append(_Flaw("a function is missing at the end", f"use {', '.join(FUNCTIONS)}"))


def _read_format(rule: ValueRule, flaws: list[_Flaw]) -> None:
    """Fill in what the format of `rule` says, and add what is wrong with it."""
    text = rule["format"]
    pieces = list(itertools.islice(_PIECE.finditer(text), PIECES_MAX))
    if len(pieces) != text.count("${") or not pieces:
        flaws.append(_Flaw(f"{shown(text)} is not a format", "write ${TYPE}, ${TYPE:/regex/} or ${TYPE:[…]}"))
    for piece in pieces:
        _check_piece(piece, flaws)
    if len(pieces) == 1 and pieces[0].group() == text:
        kind, regex, bracket, _ = pieces[0].groups()
        rule["type"] = kind
        rule["regex"] = regex or ""
        if kind == "list":
            rule["options"] = [option.strip() for option in (bracket or "").split(",") if option.strip()]
        else:
            rule["range"] = bracket or ""
    elif pieces:
        rule["type"] = "string"


def _check_piece(piece: re.Match[str], flaws: list[_Flaw]) -> None:
    kind, regex, bracket, other = piece.groups()
    if kind not in TYPES:
        message = f"{shown(kind, 40)} is not a type of value"
        flaws.append(_Flaw(message, f"use one of {', '.join(TYPES)}", kind, TYPES))
    if other is not None:
        flaws.append(_Flaw(f"{shown(other)} is neither /regex/ nor […]", "put a regex in / and options in […]"))
    if regex is not None and (reason := re2.flaw(regex)):
        flaws.append(_Flaw(f"{shown(regex)} is not a regular expression: {reason}", "write it in the syntax of RE2"))
    if kind == "number" and bracket is not None and not _ascends(bracket):
        flaws.append(_Flaw(f"{shown(bracket)} is not a range of numbers", "write [lowest-highest]"))
    if kind == "list" and not (bracket or "").strip(", "):
        flaws.append(_Flaw("a list without options", "write ${list:[one,other]}"))


def _ascends(bracket: str) -> bool:
    match = _RANGE.fullmatch(bracket)
    return match is not None and float(match[1]) <= float(match[2])
