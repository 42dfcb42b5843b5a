"""A JSON Schema of the configuration file, for editors that complete and check YAML as it is written.

It is looser than the server in one way: what has to do with other files, variables or other options is not checked.
"""

from __future__ import annotations

from typing import Any, Final

from packregistry.config.options import Option
from packregistry.config.schema import Ignored, Meaning, Renamed, Section, Unsupported, join, schema

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

_NOTHING: Final = {"type": "null"}
_NAME: Final = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"


def json_schema() -> dict[str, Any]:
    """The schema, as a JSON document of draft 2020-12. The same options always make the same one."""
    return {"$schema": DIALECT, "title": "packregistry configuration", **_section(schema()[""])}


def _of(meaning: Meaning) -> dict[str, Any]:
    if isinstance(meaning, Section):
        return _section(meaning)
    if isinstance(meaning, Option):
        return _option(meaning)
    if isinstance(meaning, Renamed):
        new = _option(meaning.option)
        return new | {"description": f"the former name of {meaning.option.path}: write that", "deprecated": True}
    if isinstance(meaning, Ignored):
        told = {"description": f"no effect: {meaning.why}", "deprecated": True}
        return told | ({"anyOf": [meaning.kind.json, _NOTHING]} if meaning.kind else {})
    return _unsupported(meaning)


def _unsupported(meaning: Unsupported) -> dict[str, Any]:
    # A driver is chosen by its mere name; elsewhere what is empty asks for nothing.
    nothing: dict[str, Any] = {"not": {}} if meaning.driver else {"enum": [None, "", [], {}]}
    return {"description": meaning.why, **nothing}


def _section(meaning: Meaning) -> dict[str, Any]:
    assert isinstance(meaning, Section)
    properties = {key: _of(schema()[join(meaning.path, key)]) for key in meaning.keys}
    section: dict[str, Any] = {"type": ["object", "null"], "additionalProperties": False, "properties": properties}
    driver = meaning.driver
    if driver is None:
        return section
    section["not"] = {"type": "object", "required": list(driver.spec.kind.values)}
    return {"description": driver.spec.help, **_default(driver), "anyOf": [driver.spec.kind.json, section]}


def _option(option: Option) -> dict[str, Any]:
    kind = option.spec.kind
    some: list[dict[str, Any]]
    if kind.shape == "scalar":
        # Null and an empty text are as good as nothing.
        some = [dict(kind.json), {"enum": [None, ""]}]
    elif kind.shape == "list":
        some = [{"type": "array", "items": dict(kind.json)}, dict(kind.json), {"enum": [None, ""]}]
    else:
        part = dict(kind.json) if kind.shape == "map" else {"anyOf": [{"type": "array", "items": kind.json}, kind.json]}
        names = {"propertyNames": {"pattern": _NAME}} if kind.shape == "lists" else {}
        some = [{"type": "object", "additionalProperties": part, **names}, {"enum": [None, ""]}]
    return {"description": option.spec.help, **_default(option), "anyOf": some}


def _default(option: Option) -> dict[str, Any]:
    """The default of a file that does not have the option; none where that cannot be written down."""
    kind, value = option.spec.kind, option.file_default
    if value is None or (kind.values and value not in kind.values):
        return {}
    return {"default": kind.plain(value)}
