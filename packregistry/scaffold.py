"""A pack made from Helm charts: what `pack build` writes.

The pack is made beside its directory and appears there whole, once linting finds no error in it::

    NAME
    ├── pack.json                     name, version and description from the first chart
    ├── values.yaml                   `pack:` with the images found in the charts, `charts.<name>:` with their values
    ├── README.md                     to be written by whoever knows
    ├── logo.png                      a placeholder
    └── charts/<name>-<version>.tgz   each chart

Everything here is synchronous and meant for a thread.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from packregistry import chart as charts
from packregistry import offer, unpack
from packregistry.chart import Chart
from packregistry.config import Limits
from packregistry.errors import PackInvalidError
from packregistry.failures import TargetError
from packregistry.model import PackName, problem_json, shown
from packregistry.pack import yamltree
from packregistry.pack.yamltree import Node, NotYamlError

LOGO_SIDE = 128
FIRST_VERSION = "0.1.0"

_PLAIN_KEY = re.compile(r"[A-Za-z][A-Za-z0-9._-]*", re.ASCII)
_NOT_STRINGS = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}


@dataclass(frozen=True, slots=True)
class Built:
    """A pack that was built, and what in it is for a person to look at."""

    directory: Path
    name: PackName
    version: str
    images: tuple[str, ...]
    charts: tuple[str, ...]


def build(name: PackName, target: Path, paths: Sequence[Path], limits: Limits) -> Built:
    """Make the pack `name` from the charts at `paths` and put it at `target`.

    Raises:
        TargetError: `target` exists and is not empty, or cannot be written.
        PackInvalidError: a chart is none, is unsafe, or what became of it is no good pack.
    """
    target = target.absolute()
    _check_free(target)
    found = [charts.read(path, limits) for path in paths]
    for number, one in enumerate(found):
        if any(one.name == other.name for other in found[:number]):
            raise PackInvalidError(f"two charts are called {one.name}", remedy="a pack can have each chart once")
    version = found[0].version.replace("+", "-") if found else FIRST_VERSION
    images = tuple(sorted({image for one in found for image in one.images}))
    with unpack.scratch(target) as temporary:
        root = temporary / target.name
        root.mkdir()
        (root / "pack.json").write_text(_pack_json(name, version, found), encoding="utf-8")
        (root / "values.yaml").write_text(values(name, found, images), encoding="utf-8")
        (root / "README.md").write_text(_readme(name, found), encoding="utf-8")
        (root / "logo.png").write_bytes(placeholder(name))
        if found:
            (root / "charts").mkdir()
        for path, one in zip(paths, found, strict=True):
            charts.pack(path, one, root / "charts" / one.file, limits)
        reading = offer.inspect(root, limits).reading
        if reading.errors:
            raise PackInvalidError(
                f"{name} would not be a good pack",
                detail=[problem_json(problem) for problem in reading.problems],
                remedy="correct the chart",
            )
        unpack.put(root, target, temporary)
    return Built(target, name, version, images, tuple(one.file for one in found))


def values(name: str, found: Sequence[Chart], images: Sequence[str]) -> str:
    """The values.yaml of a pack: comments and order of the charts' values stay as they are."""
    lines = [
        "pack:",
        "  # The namespace the pack is installed in. It is created when the cluster does not have it.",
        f"  namespace: {_key(_namespace(name))}",
        "  content:",
        "    # Every container image the pack runs: the list a site without internet access mirrors.",
        f"    images:{'' if images else ' []'}",
        *(f"      - image: {image}" for image in images),
    ]
    if found:
        lines += ["", "charts:"]
    for one in found:
        is_empty = _is_empty(one.values)
        kept = [line for line in one.values.split("\n") if not is_empty or line.lstrip().startswith("#")]
        lines += [f"  {_key(one.name)}:{' {}' if is_empty else ''}", *(f"    {line}" if line else "" for line in kept)]
    text = "\n".join(lines) + "\n"
    for one in found:
        if not _has(text, one):
            raise PackInvalidError(
                f"the values of {one.name} cannot be put below another key",
                remedy="write its values.yaml with indented `key: value` lines",
            )
    return text


def placeholder(name: str) -> bytes:
    """A square PNG in a colour that the name decides."""
    red, green, blue = (64 + byte // 2 for byte in hashlib.sha256(name.encode()).digest()[:3])

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", LOGO_SIDE, LOGO_SIDE, 8, 2, 0, 0, 0)
    rows = (b"\0" + bytes((red, green, blue)) * LOGO_SIDE) * LOGO_SIDE
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def _check_free(target: Path) -> None:
    try:
        unpack.check_free(target)
    except OSError as error:
        raise TargetError(f"{target} cannot be looked into: {error.strerror}") from error


def _pack_json(name: PackName, version: str, found: Sequence[Chart]) -> str:
    description = found[0].description if found else ""
    document = {
        "name": name,
        "displayName": _display_name(found[0].name if found else name),
        "version": version,
        "layer": "addon",
        "addonType": "app services",
        "cloudTypes": ["all"],
        "annotations": {"description": description} if description else {},
        "charts": [f"charts/{one.file}" for one in found],
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _display_name(name: str) -> str:
    return " ".join(word[:1].upper() + word[1:] for word in re.split(r"[._-]+", name))


def _readme(name: PackName, found: Sequence[Chart]) -> str:
    lines = [f"# {_display_name(name)}", "", found[0].description if found else "What this pack does.", ""]
    if found:
        lines += ["| Chart | Version | Application |", "| --- | --- | --- |"]
        lines += [f"| {one.name} | {one.version} | {_cell(one.app_version)} |" for one in found]
        lines += ["", "The values of a chart are under `charts.<name of the chart>` in `values.yaml`."]
    else:
        lines += ["Put Helm charts into `charts/` or manifests into `manifests/`, and name them in `pack.json`."]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|") or "-"


def _namespace(name: str) -> str:
    """The name as Kubernetes takes it for a namespace (RFC 1123)."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower())[:63].strip("-")


def _key(text: str) -> str:
    """A text as a YAML key or value that stays a string."""
    plain = _PLAIN_KEY.fullmatch(text) and text.lower() not in _NOT_STRINGS
    return text if plain else shown(text, limit=len(text))


def _is_empty(text: str) -> bool:
    tree = yamltree.parse(text)
    return not tree.roots or tree.roots[0].empty


def _has(text: str, one: Chart) -> bool:
    """Whether the values of a chart are in `text` as the chart has them."""
    if _is_empty(one.values):
        return True
    try:
        node = yamltree.parse(text).roots[0].get("charts")
    except NotYamlError:
        return False
    inside = node.get(one.name) if node else None
    return inside is not None and _same(inside, yamltree.parse(one.values + "\n").roots[0])


def _same(left: Node, right: Node) -> bool:
    """Whether two trees say the same, wherever in a file they stand."""
    stack = [(left, right)]
    seen: set[tuple[int, int]] = set()
    while stack:
        one, other = stack.pop()
        if (id(one), id(other)) in seen:
            continue
        seen.add((id(one), id(other)))
        shape = (other.kind, other.text, other.style, len(other.items), len(other.pairs))
        if (one.kind, one.text, one.style, len(one.items), len(one.pairs)) != shape:
            return False
        stack += zip(one.items, other.items, strict=True)
        for pair, twin in zip(one.pairs, other.pairs, strict=True):
            stack += zip(pair, twin, strict=True)
    return True
