"""values.yaml: the pack's default values, in which Palette macros may stand that are no YAML."""

from __future__ import annotations

import re
from collections.abc import Iterator

from packregistry.pack import yamltree
from packregistry.pack.findings import Findings

FILE = "values.yaml"

# A character of the private use area: a plain YAML scalar anywhere, and found in no image reference.
_MASK = "\ue000"
# Templates do not nest: ending at the next `{{` keeps a line of thousands of unclosed ones from taking quadratic time.
_MACRO = re.compile(r"\{\{(?!\{)(?:(?!\}\}|\{\{).)*+\}\}")
_MACRO_LINE = re.compile(rf"\s*+(?:{_MACRO.pattern}\s*+)++")
_COMMENT = re.compile(r"\{\{-?\s*+/\*")
_PACK_KEY = re.compile(r"""["']?pack["']?[ \t]*:""")
_IMAGE = re.compile(r"""[ \t]*(?:-[ \t]+)?["']?image["']?[ \t]*:[ \t]*(["']?)([^\s"'#]+)\1""")


def check(data: bytes, findings: Findings) -> None:
    """Report what is wrong with a values.yaml; empty is fine, and macros excuse broken YAML."""
    text = findings.text(FILE, data, "error")
    if text is None:
        return
    try:
        tree = _parse(text)
    except yamltree.NotYamlError as exc:
        if "{{" in text:
            remedy = "check the file with its macros expanded"
            findings.warning(FILE, f"is not YAML once its macros are masked: {exc.reason}", remedy, line=exc.line)
        else:
            findings.error(FILE, f"is not YAML: {exc.reason}", "mend it; indent with spaces, not tabs", line=exc.line)
        return
    if tree.cut:
        findings.warning(FILE, "is so large that the rest is not checked", "shorten it", line=tree.cut)
    for root in tree.roots:
        if root.kind != "map" and not root.empty:
            kind = "a list" if root.kind == "list" else "a single value"
            findings.warning(FILE, f"is {kind} instead of a map", "write `key: value` lines", line=root.line)


def images(data: bytes) -> list[str]:
    """Return the container images of `pack.content.images`, in order, each once; never raises.

    They are what an air-gapped site has to mirror. References with a macro in them are left out, as nobody knows yet
    what they will be. A file that is not YAML even with its macros masked is searched by hand: first its `pack:`
    block is parsed alone, then its lines are looked at, which finds what is written as `image: reference` below
    `images:` and nothing more clever.
    """
    text = data.decode("utf-8-sig", "replace")
    try:
        found = list(_images(_parse(text)))
    except yamltree.NotYamlError:
        block = _pack_block(text)
        try:
            found = list(_images(_parse(block)))
        except yamltree.NotYamlError:
            found = list(_image_lines(block))
    return [image for image in dict.fromkeys(found) if image and _MASK not in image and "{{" not in image]


def mask(text: str) -> str:
    """Return `text` with its `{{…}}` macros replaced by something that is YAML, every line where it was.

    A line of macros only, which is how templates write `if` and `end`, becomes blank.
    """
    lines = _without_comments(text).split("\n")
    return "\n".join("" if _MACRO_LINE.fullmatch(line) else _MACRO.sub(_MASK, line) for line in lines)


def _without_comments(text: str) -> str:
    """The text with its template comments, which may span lines, made macros of one line each."""
    parts, position = list[str](), 0
    while (match := _COMMENT.search(text, position)) and (end := text.find("*/", match.end())) >= 0:
        lines = text.count("\n", match.start(), end)
        parts += [text[position : match.start()], "{{}}\n" * lines, "{{"]
        position = end + len("*/")
    return "".join([*parts, text[position:]])


def _parse(text: str) -> yamltree.Tree:
    """Parse `text` as it is, for most macros stand in quotes or comments, and with its macros masked if it must be."""
    try:
        return yamltree.parse(text)
    except yamltree.NotYamlError:
        if "{{" not in text:
            raise
    return yamltree.parse(mask(text))


def _images(tree: yamltree.Tree) -> Iterator[str]:
    for root in tree.roots:
        listed = root.get("pack")
        for key in ("content", "images"):
            listed = listed.get(key) if listed else None
        for item in listed.items if listed else ():
            image = item.get("image")
            if image and (text := image.string()):
                yield text.strip()


def _pack_block(text: str) -> str:
    """The lines of the top-level `pack:` and what is indented below it."""
    block: list[str] = []
    for line in text.split("\n"):
        if _PACK_KEY.match(line):
            block.append(line)
        elif block and line.strip() and not line.startswith((" ", "\t", "#", "{{")):
            break
        elif block:
            block.append(line)
    return "\n".join(block)


def _image_lines(block: str) -> Iterator[str]:
    inside = -1
    for line in mask(block).split("\n"):
        stripped = line.strip()
        indent = len(line) - len(line.lstrip())
        if not stripped or stripped.startswith("#"):
            continue
        if stripped.startswith("images:"):
            inside = indent
        elif inside >= 0 and (indent < inside or (indent == inside and not stripped.startswith("-"))):
            inside = -1
        elif inside >= 0 and (match := _IMAGE.match(line)):
            yield match[2]
