"""YAML as a tree with lines, read so that no text can hang or crash the reader.

Built from parser events, without recursion: depth and size are limits here, not accidents of the stack. Scalars stay
text. An alias is the very node it names, so a tree may contain itself; walk it along known paths only, never through.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

import yaml

DEPTH_MAX = 200
EVENTS_MAX = 200_000

_FORBIDDEN = re.compile("[^\t\n\r -~\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

# The C loader is ten times faster; PyYAML built without libyaml does not have it.
_LOADER: type[yaml.CSafeLoader | yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class NotYamlError(ValueError):
    """A text that cannot be read as YAML; `line` counts from 1, 0 is unknown."""

    def __init__(self, reason: str, line: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.line = line


@dataclass(slots=True, eq=False)
class Node:
    """A scalar (`text`), a list (`items`) or a map (`pairs`), and the line it begins on.

    `style` is how a scalar was written: empty when plain, else `'`, `"`, `|` or `>`.
    """

    kind: Literal["scalar", "list", "map"]
    line: int
    text: str = ""
    style: str = ""
    items: list[Node] = field(default_factory=list)
    pairs: list[tuple[Node, Node]] = field(default_factory=list)
    _index: dict[str, Node] = field(default_factory=dict, repr=False)

    @property
    def empty(self) -> bool:
        """Whether this is YAML's null."""
        return self.kind == "scalar" and not self.style and self.text in {"", "~", "null", "Null", "NULL"}

    def get(self, key: str) -> Node | None:
        """The first value a map has under `key`; None if there is none or this is no map."""
        # Kept, as one map may be looked into through thousands of aliases.
        if len(self._index) == 0:
            for name, value in self.pairs:
                if name.kind == "scalar":
                    self._index.setdefault(name.text, value)
        return self._index.get(key)

    def string(self) -> str | None:
        """The text of a scalar that is not null, else None."""
        return self.text if self.kind == "scalar" and not self.empty else None


@dataclass(slots=True)
class Tree:
    """The documents of a text; `cut` is the line at which reading stopped for its size, or 0."""

    roots: list[Node] = field(default_factory=list)
    cut: int = 0


@dataclass(slots=True)
class _Builder:
    tree: Tree = field(default_factory=Tree)
    parents: list[Node] = field(default_factory=list)
    keys: list[Node | None] = field(default_factory=list)
    anchors: dict[str, Node] = field(default_factory=dict)

    def add(self, node: Node, anchor: str | None) -> None:
        if anchor is not None:
            self.anchors[anchor] = node
        self.place(node)
        if node.kind != "scalar":
            if len(self.parents) >= DEPTH_MAX:
                raise NotYamlError(f"it is nested more than {DEPTH_MAX} levels deep", node.line)
            self.parents.append(node)
            self.keys.append(None)

    def alias(self, name: str, line: int) -> None:
        if (node := self.anchors.get(name)) is None:
            raise NotYamlError("an alias names an anchor that is not there", line)
        self.place(node)

    def place(self, node: Node) -> None:
        if not self.parents:
            self.tree.roots.append(node)
        elif self.parents[-1].kind == "list":
            self.parents[-1].items.append(node)
        elif (key := self.keys[-1]) is None:
            self.keys[-1] = node
        else:
            self.parents[-1].pairs.append((key, node))
            self.keys[-1] = None

    def close(self) -> None:
        self.parents.pop()
        self.keys.pop()


def parse(text: str) -> Tree:
    """Read every document of `text`, or raise `NotYamlError`; after `EVENTS_MAX` events the rest is left unread."""
    builder = _Builder()
    try:
        for count, event in enumerate(yaml.parse(text, Loader=_LOADER)):
            if count >= EVENTS_MAX:
                builder.tree.cut = _line(event.start_mark)
                break
            _take(builder, event)
    except yaml.MarkedYAMLError as exc:
        raise NotYamlError(exc.problem or "it cannot be parsed", _line(exc.problem_mark or exc.context_mark)) from exc
    except yaml.reader.ReaderError as exc:
        # The loaders differ in how they count to the character.
        found = _FORBIDDEN.search(text)
        line = text.count("\n", 0, found.start()) + 1 if found else 0
        raise NotYamlError("it has a control character", line) from exc
    return builder.tree


def _take(builder: _Builder, event: yaml.Event) -> None:
    line = _line(event.start_mark)
    if isinstance(event, yaml.ScalarEvent):
        # libyaml calls a plain scalar's style "", PyYAML's own parser None.
        builder.add(Node("scalar", line, event.value, event.style or ""), event.anchor)
    elif isinstance(event, yaml.MappingStartEvent):
        builder.add(Node("map", line), event.anchor)
    elif isinstance(event, yaml.SequenceStartEvent):
        builder.add(Node("list", line), event.anchor)
    elif isinstance(event, yaml.CollectionEndEvent):
        builder.close()
    elif isinstance(event, yaml.AliasEvent):
        builder.alias(event.anchor or "", line)
    elif isinstance(event, yaml.DocumentStartEvent):
        builder.anchors.clear()


def _line(mark: object) -> int:
    # The C parser and PyYAML's own have mark classes of their own, and not every error has a mark.
    return getattr(mark, "line", -1) + 1
