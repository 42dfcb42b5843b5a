"""What each dotted key stands for: the tree that the declarations in `options` make."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from packregistry.config.legacy import IGNORED, UNSUPPORTED
from packregistry.config.options import Option, options


@dataclass(frozen=True, slots=True)
class Section:
    """A map of keys; `driver` is the option that says which of them is meant, where only one may be."""

    path: str
    keys: tuple[str, ...]
    driver: Option | None


@dataclass(frozen=True, slots=True)
class Ignored:
    """A key that is accepted, whatever it has, and has no effect."""

    path: str
    why: str


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A key that is known and cannot be had."""

    path: str
    why: str


Meaning: TypeAlias = "Option | Section | Ignored | Unsupported"


def join(path: str, key: str) -> str:
    """The dotted key of `key` in the section `path`; the root is the empty path."""
    return f"{path}.{key}" if path else key


@functools.cache
def schema() -> Mapping[str, Meaning]:
    """The meaning of every key there is, sections before what is in them."""
    drivers = {option.path: option for option in options() if option.spec.is_driver}
    leaves: dict[str, Meaning] = {option.path: option for option in options() if not option.spec.is_driver}
    leaves |= {path: Ignored(path, why) for path, why in IGNORED.items()}
    leaves |= {path: Unsupported(path, why) for path, why in UNSUPPORTED.items()}
    sections: dict[str, list[str]] = {"": []}
    paths = [*leaves, *(join(path, value) for path, option in drivers.items() for value in option.spec.kind.values)]
    for path in paths:
        _place(path, sections)
    for path in set(paths) - set(leaves):
        sections.setdefault(path, [])
    return {path: Section(path, tuple(keys), drivers.get(path)) for path, keys in sections.items()} | leaves


def _place(path: str, sections: dict[str, list[str]]) -> None:
    parent, _, key = path.rpartition(".")
    if parent not in sections:
        _place(parent, sections)
    keys = sections.setdefault(parent, [])
    if key not in keys:
        keys.append(key)
