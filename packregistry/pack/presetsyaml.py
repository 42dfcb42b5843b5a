"""presets.yaml: named changes of the values that Palette offers as choices."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TypedDict

from packregistry.model import shown
from packregistry.pack import yamltree
from packregistry.pack.findings import Findings

FILE = "presets.yaml"
PRESETS_MAX = 500
REMOVE_MAX = 500


class Preset(TypedDict):
    """One choice: the value paths it removes, and the YAML text it adds."""

    name: str
    displayName: str
    group: str
    remove: list[str]
    add: str


def presets(data: bytes) -> list[Preset]:
    """Return the presets of a presets.yaml as far as it can be read; never raises."""
    try:
        tree = yamltree.parse(data.decode("utf-8-sig", "replace"))
    except yamltree.NotYamlError:
        return []
    return [
        Preset(
            name=_text(item, "name"),
            displayName=_text(item, "displayName"),
            group=_text(item, "group"),
            remove=[text for entry in _items(item.get("remove"))[:REMOVE_MAX] if (text := entry.string()) is not None],
            add=_text(item, "add"),
        )
        for item in _entries(tree)
        if item.kind == "map"
    ]


def check(data: bytes, findings: Findings) -> None:
    """Report what is wrong with a presets.yaml."""
    text = findings.text(FILE, data, "error")
    if text is None:
        return
    try:
        tree = yamltree.parse(text)
    except yamltree.NotYamlError as exc:
        findings.error(FILE, f"is not YAML: {exc.reason}", "mend it; indent with spaces, not tabs", line=exc.line)
        return
    for root in tree.roots:
        listed = root.get("presets")
        if not root.empty and (listed is None or (listed.kind != "list" and not listed.empty)):
            remedy = "write `presets:` and below it a list of presets"
            findings.error(FILE, "has no list of presets", remedy, line=(listed or root).line)
    if tree.cut or sum(len(_items(root.get("presets"))) for root in tree.roots) > PRESETS_MAX:
        findings.warning(
            FILE, f"has more than {PRESETS_MAX} presets, the rest is left out", "shorten it", line=tree.cut
        )
    names: set[str] = set()
    for index, item in enumerate(_entries(tree)):
        _check_entry(item, f"presets[{index}]", names, findings)


def _check_entry(item: yamltree.Node, field: str, names: set[str], findings: Findings) -> None:
    if item.kind != "map":
        remedy = "write name, displayName, group, remove and add"
        findings.warning(FILE, "is not a preset", remedy, line=item.line, field=field)
        return
    name = _text(item, "name")
    line = (item.get("name") or item).line
    if not name.strip():
        findings.warning(FILE, "has no name", "give the preset a name", line=line, field=f"{field}.name")
    elif name in names:
        message = f"{shown(name)} is the name of another preset too"
        findings.warning(FILE, message, "give each preset its own name", line=line, field=f"{field}.name")
    names.add(name)
    remove = item.get("remove")
    if (
        remove
        and not remove.empty
        and (remove.kind != "list" or any(entry.string() is None for entry in remove.items[:REMOVE_MAX]))
    ):
        remedy = "list the dotted paths of the values to remove"
        findings.warning(FILE, "is not a list of paths", remedy, line=remove.line, field=f"{field}.remove")
    add = item.get("add")
    if add and not add.empty and add.kind != "scalar":
        remedy = "write the YAML to add as text, below `add: |`"
        findings.warning(FILE, "is not text", remedy, line=add.line, field=f"{field}.add")


def _entries(tree: yamltree.Tree) -> Iterator[yamltree.Node]:
    items = (item for root in tree.roots for item in _items(root.get("presets")))
    return itertools.islice(items, PRESETS_MAX)


def _items(node: yamltree.Node | None) -> list[yamltree.Node]:
    return node.items if node else []


def _text(item: yamltree.Node, key: str) -> str:
    node = item.get(key)
    return (node.string() or "") if node else ""
