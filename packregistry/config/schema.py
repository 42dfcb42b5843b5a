"""What each dotted key stands for: the tree that the declarations in `options` and the keys in `legacy` make."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from packregistry.config.legacy import HARMLESS, IGNORED, RENAMED, UNSUPPORTED
from packregistry.config.options import Option, options
from packregistry.config.values import Kind


@dataclass(frozen=True, slots=True)
class Section:
    """A map of keys; `driver` is the option that says which of them is meant, where only one may be."""

    path: str
    keys: tuple[str, ...]
    driver: Option | None


@dataclass(frozen=True, slots=True)
class Ignored:
    """A key that is accepted and has no effect: whatever it has, or where there is a `kind`, a text of that."""

    path: str
    why: str
    kind: Kind | None = None


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A key that is known and cannot be had; `driver` where it names one of several drivers."""

    path: str
    why: str
    driver: Option | None = None


@dataclass(frozen=True, slots=True)
class Renamed:
    """The former name of an option."""

    path: str
    option: Option


Meaning: TypeAlias = "Option | Section | Ignored | Unsupported | Renamed"


def join(path: str, key: str) -> str:
    """The dotted key of `key` in the section `path`; the root is the empty path."""
    return f"{path}.{key}" if path else key


@functools.cache
def schema() -> Mapping[str, Meaning]:
    """The meaning of every key there is, sections before what is in them."""
    drivers = {option.path: option for option in options() if option.spec.is_driver}
    plain = {option.path: option for option in options() if not option.spec.is_driver}
    leaves: dict[str, Meaning] = dict(plain)
    leaves |= {path: Ignored(path, why, HARMLESS.get(path)) for path, why in IGNORED.items()}
    leaves |= {path: Unsupported(path, why, drivers.get(parent_of(path))) for path, why in UNSUPPORTED.items()}
    leaves |= {path: Renamed(path, plain[target]) for path, target in RENAMED.items()}
    sections: dict[str, list[str]] = {"": []}
    paths = [*leaves, *(join(path, value) for path, option in drivers.items() for value in option.spec.kind.values)]
    for path in paths:
        _place(path, sections)
    for path in set(paths) - set(leaves):
        sections.setdefault(path, [])
    return {path: Section(path, tuple(keys), drivers.get(path)) for path, keys in sections.items()} | leaves


def parent_of(path: str) -> str:
    """The section that a dotted key is in."""
    return path.rpartition(".")[0]


def useful(section: Section) -> tuple[str, ...]:
    """The keys of a section that have an effect, or something in them that has."""
    return tuple(key for key in section.keys if _is_useful(join(section.path, key)))


def _is_useful(path: str) -> bool:
    meaning = schema()[path]
    if isinstance(meaning, Section):
        return not meaning.keys or bool(useful(meaning))
    return isinstance(meaning, Option)


def _place(path: str, sections: dict[str, list[str]]) -> None:
    parent, _, key = path.rpartition(".")
    if parent not in sections:
        _place(parent, sections)
    keys = sections.setdefault(parent, [])
    if key not in keys:
        keys.append(key)
