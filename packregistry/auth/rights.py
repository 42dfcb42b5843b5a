"""What may be done to which packs: actions, roles, patterns of pack names, grants.

`create` never implies `overwrite`: whoever may add versions cannot change one that exists. `admin` on a pack is
everything, and on all packs (`*`) also the registry itself: its tokens, and what is wrong with its directories.
"""

from __future__ import annotations

import enum
import fnmatch
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Self, TypeAlias

from packregistry.model import shown

EVERYTHING: Final = "*"
PATTERN_MAX = 128

_PATTERN = re.compile(r"[A-Za-z0-9._*?-]+", re.ASCII)


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
    """The packs whose names match one of `patterns`: `*` stands for any characters, `?` for one, in the case given."""

    patterns: tuple[str, ...]
    _matchers: tuple[re.Pattern[str], ...]

    @classmethod
    def parse(cls, patterns: Iterable[str]) -> Self:
        """Return the packs that `patterns` mean. Raises `PatternError`."""
        kept = tuple(dict.fromkeys(patterns))
        if not kept:
            raise PatternError("there is no pattern: write * for all packs")
        for pattern in kept:
            if len(pattern) > PATTERN_MAX or not _PATTERN.fullmatch(pattern):
                raise PatternError(
                    f"{shown(pattern)} is not a pattern of pack names: use letters, digits, '.', '_', '-', * and ?"
                )
        # What `translate` makes of several stars does not take longer the more of them there are.
        return cls(kept, tuple(re.compile(fnmatch.translate(pattern)) for pattern in kept))

    def matches(self, name: str) -> bool:
        """Whether the pack called `name` is one of them."""
        return any(matcher.match(name) for matcher in self._matchers)

    @property
    def is_everything(self) -> bool:
        """Whether they are all packs there are, or may ever be."""
        return EVERYTHING in self.patterns


@dataclass(frozen=True, slots=True)
class Grant:
    """Rights on some packs."""

    rights: Rights
    packs: Packs
