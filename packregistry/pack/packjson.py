"""pack.json: what it says of the pack, and whether it says it as Palette's schema wants it.

An error is what makes the pack unusable; what Palette merely ignores, and what is odd in packs that are known to
work (everything under `constraints`, unknown cloud types, unknown members), is a warning.
"""

from __future__ import annotations

import codecs
import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, cast

import jsonschema

from packregistry.errors import RegistryError
from packregistry.model import Json, Metadata, PackName, Severity, Tag, shown
from packregistry.pack import jsontext
from packregistry.pack.findings import Findings, Place, field_path
from packregistry.versions import is_strict_semver

FILE = "pack.json"
REQUIRED = frozenset({"name", "displayName", "version", "layer"})
IDENTITY = frozenset({"name", "version", "group"})
SHOWN_MAX = 256
CLOUD_TYPES_MAX = 64

_TYPES = {"string": "a string", "array": "a list", "object": "an object", "number": "a number"}


@dataclass(frozen=True, slots=True)
class PackJson:
    """A pack.json as far as it could be read; what could not be is empty or None."""

    text: jsontext.JsonText = field(default_factory=lambda: jsontext.JsonText({}))
    name: PackName | None = None
    version: str = ""
    group: str = ""
    tag: Tag | None = None
    metadata: Metadata = field(default_factory=lambda: Metadata(display_name="", layer=""))

    @property
    def document(self) -> Json:
        """The parsed object, `{}` if there is none."""
        document: Json = self.text.value
        return document


def read(data: bytes, findings: Findings) -> PackJson:
    """Return what `data` says, adding every problem to `findings`."""
    if data.startswith(codecs.BOM_UTF8):
        findings.warning(FILE, "begins with a byte order mark", "save it as UTF-8 without BOM", line=1)
    source = findings.text(FILE, data, "error")
    if source is None:
        return PackJson()
    try:
        text = jsontext.parse(source)
    except jsontext.NotJsonError as exc:
        where = f" (column {exc.column})" if exc.column else ""
        remedy = "mend the JSON: no comments, no trailing commas, double quotes"
        findings.error(FILE, f"cannot be read as JSON: {exc.reason}{where}", remedy, line=exc.line)
        return PackJson()
    if not isinstance(text.value, dict):
        findings.error(FILE, f"is {_described(text.value)} instead of an object", "put it into {…}", line=text.line(()))
        return PackJson()
    for path, line in text.duplicates:
        severity: Severity = "error" if len(path) == 1 and path[0] in IDENTITY else "warning"
        findings.add(severity, FILE, "stands here a second time", "keep one of them", line=line, field=field_path(path))
    for error in _validator().iter_errors(text.value):
        _report(error, text, findings)
    return _identified(text, findings)


@functools.cache
def _validator() -> jsonschema.Draft202012Validator:
    source = resources.files(__package__).joinpath("pack.schema.json").read_text(encoding="utf-8")
    return jsonschema.Draft202012Validator(json.loads(source))


def _described(value: Any) -> str:
    """A JSON value in a message: what it is, and its text if short."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f"the number {str(value)[:20]}"
    if isinstance(value, str):
        return f"the string {shown(value)}"
    return "a list" if isinstance(value, list) else "an object"


def _report(error: jsonschema.ValidationError, text: jsontext.JsonText, findings: Findings) -> None:
    """Say in our words what a violation of the schema means."""
    path = tuple(error.absolute_path)
    lenient = path[:1] == ("constraints",) or (path[:1] == ("annotations",) and len(path) > 1)
    severity: Severity = "warning" if lenient else "error"
    place = Place(line=text.line(path), field=field_path(path))
    value: Any = error.instance
    wanted: Any = error.validator_value
    match error.validator:
        case "required":
            _report_missing(path, value, wanted, severity, findings)
        case "additionalProperties":
            known = cast("Json", error.schema)["properties"]
            _report_unknown(path, value, known, text, findings)
        case "pattern":
            findings.error(FILE, "is empty", "it is required: give it a value", **place)
        case "enum" if isinstance(value, str) and (value.strip() or path == ("layer",)):
            # Of another type it is reported as such, and empty is how a template says "none".
            known = [str(item) for item in wanted]
            severity = "error" if path == ("layer",) else "warning"
            remedy = findings.suggest(value, known, f"use one of {', '.join(known)}")
            findings.add(severity, FILE, f"{shown(value)} is not known here", remedy, **place)
        case "type":
            expected = _TYPES[wanted]
            if value in (None, "", [], {}) and len(path) == 1 and path[0] not in REQUIRED:
                # How templates say "none": nothing is lost by taking it so.
                found = "null" if value is None else f"{_described(value)} with nothing in it"
                findings.warning(FILE, f"is {found}", f"leave it out, or make it {expected}", **place)
            else:
                findings.add(severity, FILE, f"is {_described(value)}", f"make it {expected}", **place)


def _report_missing(
    parent: jsontext.Path, instance: Json, required: list[str], severity: Severity, findings: Findings
) -> None:
    # The library reports each missing key on its own but names it in its message only; repeated, it counts once.
    for key in required:
        if key not in instance:
            like = next((name for name in instance if name.lower() == key.lower()), "")
            remedy = f"rename {shown(like)} to {shown(key)}" if like else "add it"
            findings.add(severity, FILE, "is required and missing", remedy, field=field_path((*parent, key)))


def _report_unknown(
    parent: jsontext.Path, instance: Json, known: Json, text: jsontext.JsonText, findings: Findings
) -> None:
    for key in instance:
        if key not in known:
            path = (*parent, key)
            remedy = findings.suggest(key, known, "Palette ignores it: remove it, or move it to annotations")
            message = "is not a member Palette knows"
            findings.warning(FILE, message, remedy, line=text.line(path), field=field_path(path))


def _identified(text: jsontext.JsonText, findings: Findings) -> PackJson:
    document: Json = text.value
    name = _name(text, findings)
    version, group = _string(document, "version"), _string(document, "group")
    if not group.strip():
        group = ""
    return PackJson(
        text=text,
        name=name,
        version=version,
        group=group,
        tag=_tag(version, group, text, findings),
        metadata=_metadata(document),
    )


def _string(document: Json, key: str) -> str:
    value = document.get(key)
    return value if isinstance(value, str) else ""


def _name(text: jsontext.JsonText, findings: Findings) -> PackName | None:
    raw = _string(text.value, "name")
    if not raw.strip():
        return None
    place = Place(line=text.line(("name",)), field="name")
    try:
        name = PackName.parse(raw)
    except RegistryError as exc:
        findings.error(FILE, exc.message, exc.remedy, **place)
        return None
    if name != name.lower():
        message = f"{shown(name)} has upper-case letters, which no OCI repository name may have"
        findings.warning(FILE, message, "use lower case if the pack is to be pulled as an OCI artifact", **place)
    return name


def _tag(version: str, group: str, text: jsontext.JsonText, findings: Findings) -> Tag | None:
    """The tag the two make; each is checked on its own first, so that the right one is blamed."""
    tag, checks = None, [("group", "0", group), ("version", version, "")]
    if not version.strip():
        checks.pop()
    failed = False
    for key, label, prefix in checks:
        try:
            Tag.of_version(label, prefix)
        except RegistryError as exc:
            findings.error(FILE, exc.message, exc.remedy, line=text.line((key,)), field=key)
            failed = True
    if failed or not version.strip():
        return None
    line = text.line(("version",))
    try:
        tag = Tag.of_version(version, group)
    except RegistryError as exc:
        findings.error(FILE, exc.message, exc.remedy, line=line, field="version")
    if not is_strict_semver(version):
        message = f"{shown(version)} is not a semantic version: the registry orders it by its own rules"
        findings.warning(FILE, message, "write MAJOR.MINOR.PATCH, such as 1.4.0", line=line, field="version")
    return tag


def _metadata(document: Json) -> Metadata:
    return Metadata(
        display_name=_one_line(document.get("displayName")),
        layer=_one_line(document.get("layer")),
        addon_type=_one_line(document.get("addonType")),
        addon_sub_type=_one_line(document.get("addonSubType")),
        cloud_types=tuple(dict.fromkeys(_cloud_types(document)))[:CLOUD_TYPES_MAX],
    )


def _cloud_types(document: Json) -> Iterator[str]:
    listed = document.get("cloudTypes")
    # `cloudType` is what one cloud type was called before there could be several.
    for item in listed if isinstance(listed, list) and listed else [document.get("cloudType")]:
        if text := _one_line(item):
            yield text


def _one_line(value: Any) -> str:
    """A string as it may stand in a listing: printable, on one line, at most `SHOWN_MAX` characters."""
    if not isinstance(value, str):
        return ""
    return " ".join("".join(char if char.isprintable() else " " for char in value[: 4 * SHOWN_MAX]).split())[:SHOWN_MAX]
