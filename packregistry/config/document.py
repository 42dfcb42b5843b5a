"""YAML text as a tree of texts that know where they stand.

The document is composed, never constructed, so that no tag makes an object and every text stays as it was written.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import yaml

from packregistry.config import quotes
from packregistry.config.problems import quoted

if TYPE_CHECKING:
    from packregistry.config.problems import Report

FILE_MAX = 1024**2
DEPTH_MAX = 100

_CORE = "tag:yaml.org,2002:"
_TAGS = frozenset(_CORE + name for name in ("str", "int", "float", "bool", "null", "timestamp", "value", "seq", "map"))
_MERGE = _CORE + "merge"
_BLANK = "\0 \t\r\n\x85\u2028\u2029"
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_EMPTY_REMEDY = "write {} to have the defaults"


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

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            event = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs do not annotate it
            raise yaml.MarkedYAMLError(problem="it is nested too deeply", problem_mark=event.start_mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

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
    except PermissionError:
        report.error(name, "", "cannot be read: Permission denied", f"let uid {os.geteuid()} read it")
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


def read_text(
    text: str, where: Where, name: str, report: Report, when_empty: str = _EMPTY_REMEDY, *, quotes_it: bool = True
) -> Found | None:
    """The document that `text` is, or None when `report` says what is wrong; `name` is the place of the whole.

    A remedy may quote a line of the text, unless not `quotes_it`.
    """
    before = len(report.errors)
    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as error:
        begin = text.rfind("\n", 0, error.position) + 1
        mark = _mark(text.count("\n", 0, begin), error.position - begin)
        report.error(where(mark), "", f"is not YAML: {error.reason}: U+{error.character:04X}", "leave it out")
        return None
    try:
        node = loader.get_single_node()
        if node is None:
            report.error(name, "", "is empty", when_empty)
            return None
        found = _Converter(where, report).convert(node)
    except yaml.MarkedYAMLError as error:
        _report_syntax(error, text if quotes_it else "", where, name, report)
        return None
    except RecursionError:
        report.error(name, "", "is nested too deeply")
        return None
    except (ValueError, OverflowError) as error:
        # PyYAML lets these through on escapes and directives with numbers out of range.
        report.error(where(loader.get_mark()), "", f"is not YAML: {error}")
        return None
    finally:
        loader.dispose()
    return found if len(report.errors) == before else None


def _report_syntax(error: yaml.MarkedYAMLError, text: str, where: Where, name: str, report: Report) -> None:
    mark = error.problem_mark or error.context_mark
    if complaint := quotes.complaint(text, mark.line + 1 if mark else text.count("\n") + 1):
        flaw, message, remedy = complaint
        report.error(where(_mark(flaw.line - 1, flaw.column - 1)), "", f"is not YAML: {message}", remedy)
        return
    message = ", ".join(part for part in (error.context, error.problem) if part)
    report.error(where(mark) if mark else name, "", f"is not YAML: {message}", _remedy(error.problem or ""))


def _mark(line: int, column: int) -> yaml.Mark:
    return yaml.Mark("", 0, line, column, None, 0)


def _remedy(problem: str) -> str:
    if "cannot start any token" in problem:
        return "indent with spaces, not with tabs" if "'\\t'" in problem else "write the value in quotes"
    return ""


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
        return None if node.tag == _CORE + "null" else _text(node)

    def _entries(self, node: yaml.MappingNode) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        merged: list[Found] = []
        for key, value in node.value:
            where = self._where(key.start_mark)
            if not isinstance(key, yaml.ScalarNode):
                self._report.error(where, "", "a key must be a text")
            elif key.tag == _MERGE:
                merged.append(self.convert(value))
            elif (name := _text(key)) in entries:
                self._report.error(
                    where, "", f"key {quoted(name)} is given twice", f"the first is at {entries[name].where}"
                )
            else:
                entries[name] = Entry(where, self.convert(value))
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


def _text(node: yaml.Node) -> str:
    """The text of a scalar. JSON writes a character beyond the first 65536 as two escapes, which YAML leaves apart."""
    text: str = node.value
    return _PAIR.sub(lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"), text)


def found_of(value: Any, where: str) -> Found:
    """A value of a program as if it had been found: lists and maps of it by their parts, the rest by its text."""
    if isinstance(value, dict):
        return Found(where, {str(name): Entry(where, found_of(part, where)) for name, part in value.items()})
    if isinstance(value, (list, tuple)):
        return Found(where, [found_of(part, where) for part in value])
    return Found(where, ("true" if value else "false") if isinstance(value, bool) else str(value))
