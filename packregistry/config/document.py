"""YAML text as a tree of texts that know where they stand.

The document is composed, never constructed, so that no tag makes an object and every text stays as it was written.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import yaml

from packregistry.config.problems import quoted

if TYPE_CHECKING:
    from packregistry.config.problems import Report

FILE_MAX = 1024**2

_CORE = "tag:yaml.org,2002:"
_TAGS = frozenset(_CORE + name for name in ("str", "int", "float", "bool", "null", "timestamp", "value", "seq", "map"))
_MERGE = _CORE + "merge"
_BLANK = "\0 \t\r\n\x85\u2028\u2029"
_EMPTY_REMEDY = "write {} to have the defaults"
_QUOTED = re.compile(r'"(?:\\.|[^"\\])*"')
_COMMENT = re.compile(r"(?:^|\s)#.*")


@dataclass(frozen=True, slots=True)
class Entry:
    """What a map has under one key; `where` is the key's place."""

    where: str
    found: Found


@dataclass(frozen=True, slots=True)
class Found:
    """A value and its place: a text, None for null, a list or a map."""

    where: str
    value: Value


Value: TypeAlias = "str | list[Found] | dict[str, Entry] | None"
Where = Callable[[yaml.Mark], str]


class _Loader(yaml.SafeLoader):
    """YAML 1.1 as it is, but for `{addr: :5000}`, which every other parser takes and PyYAML refuses.

    In a flow collection, `:` begins a plain scalar if a character of such a scalar follows and no key precedes it.
    """

    def check_value(self) -> bool:
        begins_scalar = self.flow_level and self.flow_level not in self.possible_simple_keys
        return not (begins_scalar and self._in_scalar(1)) if self.flow_level else self.peek(1) in _BLANK

    def check_plain(self) -> bool:
        if self.flow_level and self.peek() == ":":
            return self._in_scalar(1)
        return bool(super().check_plain())

    def _in_scalar(self, index: int) -> bool:
        return self.peek(index) not in _BLANK + ",[]{}"


def read_file(path: Path, report: Report, *, when_empty: str = _EMPTY_REMEDY) -> Found | None:
    """The document in the file at `path`, or None when `report` says what is wrong with it.

    `when_empty` is the remedy for a file with nothing in it.
    """
    name = str(path)
    try:
        with path.open("rb") as file:
            data = file.read(FILE_MAX + 1)
    except FileNotFoundError:
        report.error(name, "", "there is no such file")
        return None
    except IsADirectoryError:
        report.error(name, "", "this is a directory", "name the file in it")
        return None
    except (OSError, ValueError) as error:
        report.error(name, "", f"cannot be read: {getattr(error, 'strerror', None) or error}")
        return None
    if len(data) > FILE_MAX:
        report.error(name, "", f"is larger than {FILE_MAX} bytes", "is it the right file?")
        return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        report.error(f"{name}:{line}:{column}", "", "is not UTF-8 text", "save the file as UTF-8")
        return None
    found = read_text(text, lambda mark: f"{name}:{mark.line + 1}:{mark.column + 1}", name, report, when_empty)
    if found and found.value in (None, ""):
        report.error(name, "", "is empty", when_empty)
    return found


def read_text(text: str, where: Where, name: str, report: Report, when_empty: str = _EMPTY_REMEDY) -> Found | None:
    """The document that `text` is, or None when `report` says what is wrong; `name` is the place of the whole."""
    before = len(report.errors)
    try:
        node = yaml.compose(text, _Loader)
        if node is None:
            report.error(name, "", "is empty", when_empty)
            return None
        found = _Converter(where, report).convert(node)
    except yaml.MarkedYAMLError as error:
        _report_syntax(error, text, where, name, report)
        return None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        report.error(f"{name}:{line}", "", f"is not YAML: {error.reason}: U+{error.character:04X}")
        return None
    except RecursionError:
        report.error(name, "", "is nested too deeply")
        return None
    except (ValueError, OverflowError) as error:
        # PyYAML lets these through on escapes and directives with numbers out of range.
        report.error(name, "", f"is not YAML: {error}")
        return None
    return found if len(report.errors) == before else None


def _report_syntax(error: yaml.MarkedYAMLError, text: str, where: Where, name: str, report: Report) -> None:
    mark = error.problem_mark or error.context_mark
    message = ", ".join(part for part in (error.context, error.problem) if part)
    report.error(where(mark) if mark else name, "", f"is not YAML: {message}", _quote_hint(error, text))


def _quote_hint(error: yaml.MarkedYAMLError, text: str) -> str:
    """A remedy for the commonest cause: a quote that is opened and not closed swallows what follows it."""
    mark = error.problem_mark
    for number, line in enumerate(text.splitlines()[: mark.line + 1 if mark else None], 1):
        if '"' in _COMMENT.sub("", _QUOTED.sub("", line)):
            return f'line {number} has a " that is not closed: check the quotes'
    return "check the quotes" if "quoted scalar" in (error.context or "") else ""


class _Converter:
    """Makes `Found` of nodes, each once: an anchor that is used often costs nothing more."""

    def __init__(self, where: Where, report: Report) -> None:
        self._where = where
        self._report = report
        self._done: dict[int, Found] = {}
        self._begun: set[int] = set()

    def convert(self, node: yaml.Node) -> Found:
        if (done := self._done.get(id(node))) is not None:
            return done
        where = self._where(node.start_mark)
        if id(node) in self._begun:
            self._report.error(where, "", "this anchor contains itself")
            return Found(where, None)
        self._begun.add(id(node))
        found = Found(where, self._value(node, where))
        self._done[id(node)] = found
        return found

    def _value(self, node: yaml.Node, where: str) -> Value:
        if node.tag not in _TAGS:
            self._report.error(where, "", f"tag {quoted(node.tag)} is not supported", "leave it out")
            return None
        if isinstance(node, yaml.MappingNode):
            return self._entries(node)
        if isinstance(node, yaml.SequenceNode):
            return [self.convert(item) for item in node.value]
        text: str = node.value
        return None if node.tag == _CORE + "null" else text

    def _entries(self, node: yaml.MappingNode) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        merged: list[Found] = []
        for key, value in node.value:
            where = self._where(key.start_mark)
            if not isinstance(key, yaml.ScalarNode):
                self._report.error(where, "", "a key must be a text")
            elif key.tag == _MERGE:
                merged.append(self.convert(value))
            elif key.value in entries:
                self._report.error(
                    where, "", f"key {quoted(key.value)} is given twice", f"the first is at {entries[key.value].where}"
                )
            else:
                entries[key.value] = Entry(where, self.convert(value))
        for found in merged:
            self._merge(entries, found)
        return entries

    def _merge(self, entries: dict[str, Entry], found: Found) -> None:
        for part in found.value if isinstance(found.value, list) else [found]:
            if isinstance(part.value, dict):
                for name, entry in part.value.items():
                    entries.setdefault(name, entry)
            else:
                self._report.error(part.where, "", "<< takes a map or a list of maps")


def found_of(value: Any, where: str) -> Found:
    """A value of a program as if it had been found: lists and maps of it by their parts, the rest by its text."""
    if isinstance(value, dict):
        return Found(where, {str(name): Entry(where, found_of(part, where)) for name, part in value.items()})
    if isinstance(value, (list, tuple)):
        return Found(where, [found_of(part, where) for part in value])
    return Found(where, ("true" if value else "false") if isinstance(value, bool) else str(value))
