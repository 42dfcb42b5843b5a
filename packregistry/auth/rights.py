"""What may be done to which packs: actions, roles, patterns of pack names, grants.

`create` never implies `overwrite`: whoever may add versions cannot change one that exists. `admin` on a pack is
everything, and on all packs (`*`) also the registry itself: its tokens, and what is wrong with its directories.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Self, TypeAlias

from packregistry.model import NAME_MAX, shown

EVERYTHING: Final = "*"
PATTERN_MAX: Final = 128

_PATTERN = re.compile(r"[A-Za-z0-9._*?-]+", re.ASCII)
_ENDS = re.compile(r"[^._-](?:.*[^._-])?")
_NEVER = "(?!)"


class Action(enum.Enum):
    """What can be done to a pack.

    `CREATE` adds a version or a tag, `OVERWRITE` changes what one stands for, `DELETE` removes one.
    """

    READ = "read"
    CREATE = "create"
    OVERWRITE = "overwrite"
    DELETE = "delete"
    ADMIN = "admin"


Rights: TypeAlias = "frozenset[Action]"

NOTHING: Final[Rights] = frozenset()
ALL: Final[Rights] = frozenset(Action)
READING: Final[Rights] = frozenset({Action.READ})

ROLES: Final[Mapping[str, Rights]] = {
    "reader": READING,
    "publisher": frozenset({Action.READ, Action.CREATE}),
    "maintainer": frozenset({Action.READ, Action.CREATE, Action.OVERWRITE, Action.DELETE}),
    "admin": ALL,
}


class PatternError(ValueError):
    """A pattern of pack names that cannot be used; `str()` says why and what to write."""


@dataclass(frozen=True, slots=True)
class Packs:
    """The packs whose names match one of `patterns`: `*` stands for any characters, `?` for one, in the case given.

    Hundreds of patterns take a name a microsecond or a few.

    Attributes:
        patterns: in the order given, each once.
        is_everything: whether one of them matches all packs there are, or may ever be.
    """

    patterns: tuple[str, ...]
    is_everything: bool
    _names: frozenset[str] = field(repr=False, compare=False)
    _begun: re.Pattern[str] = field(repr=False, compare=False)
    _ended: re.Pattern[str] = field(repr=False, compare=False)

    @classmethod
    def parse(cls, patterns: Iterable[str]) -> Self:
        """Return the packs that `patterns` mean. Raises `PatternError`."""
        kept = tuple(dict.fromkeys(patterns))
        if not kept:
            raise PatternError(f"there is no pattern: write {EVERYTHING} for all packs")
        for pattern in kept:
            check_pattern(pattern)
        # A pack name has one character at least.
        is_everything = any("*" in pattern and pattern.strip("*") in {"", "?"} for pattern in kept)
        names = frozenset(pattern for pattern in kept if not {"*", "?"} & {*pattern})
        # Where a name may begin with anything, `search` finds the place that the rest begins at: it skips all places
        # where none of the patterns can, so that it takes a tenth of what `match` does.
        begun = [_expression(pattern) for pattern in kept if pattern not in names and not pattern.startswith("*")]
        ended = [_expression(pattern.lstrip("*")) for pattern in kept if pattern.startswith("*")]
        return cls(kept, is_everything, names, _any_of(begun), _any_of(ended))

    def matches(self, name: str) -> bool:
        """Whether the pack called `name` is one of them."""
        if self.is_everything or name in self._names:
            return True
        # No pack has a longer name, though a request may be for one.
        return len(name) <= NAME_MAX and bool(self._begun.match(name) or self._ended.search(name))


@dataclass(frozen=True, slots=True)
class Grant:
    """Rights on some packs."""

    rights: Rights
    packs: Packs


def check_pattern(pattern: str) -> None:
    """Make sure that it is a pattern, and that there can be packs that match it. Raises `PatternError`."""
    if len(pattern) > PATTERN_MAX:
        raise PatternError(f"{shown(pattern)} is longer than {PATTERN_MAX} characters: write * for some of them")
    if not _PATTERN.fullmatch(pattern):
        raise PatternError(
            f"{shown(pattern)} is not a pattern of pack names: use letters, digits, '.', '_', '-', * and ?"
        )
    if not _ENDS.fullmatch(pattern):
        raise PatternError(
            f"{shown(pattern)} matches no pack, as names have a letter or digit at both ends: write * beyond the ends"
        )


def _any_of(expressions: list[str]) -> re.Pattern[str]:
    return re.compile("|".join(expressions) or _NEVER, re.DOTALL)


def _expression(pattern: str) -> str:
    """The regular expression of a pattern. Its groups are atomic, so that many stars take no longer than one."""
    first, *rest = (re.escape(part).replace(r"\?", ".") for part in re.split(r"\*+", pattern))
    if not rest:
        return rf"{first}\Z"
    *middle, last = rest
    end = rf".*{last}\Z" if last else ""
    return first + "".join(f"(?>.*?{part})" for part in middle) + end
