"""What was last seen of the watched directories, as the file that outlives the process.

    {"format": 1, "roots": [...], "directories": {PATH: {"fingerprint", "name", "tag", "problems", "refused"}},
     "duplicates": {PATH: OTHER}, "problems": {PATH: [...]}}

The file is a cache: a missing or damaged one costs a full read of the directories, nothing else.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from packregistry.errors import RegistryError
from packregistry.model import Json, PackName, Problem, Tag, problem_json, problem_of

_log = logging.getLogger(__name__)

Identity = tuple[PackName, Tag]


@dataclass(frozen=True, slots=True)
class Sighting:
    """A pack directory when it was last read: its files' fingerprint, the release it stands for, what is wrong.

    `refused` means that the directory itself is right, but the registry has another release in its place.
    """

    fingerprint: str
    identity: Identity | None
    problems: tuple[Problem, ...] = ()
    refused: bool = False

    @property
    def has_errors(self) -> bool:
        """Whether something keeps the directory from being published as it is."""
        return any(problem.severity == "error" for problem in self.problems)


@dataclass(frozen=True, slots=True)
class Sightings:
    """All watched directories: `duplicates` maps one to the other that stands for its pack.

    `problems` are of what is not a pack directory: roots and directories that cannot be read.
    """

    roots: tuple[Path, ...] = ()
    directories: Mapping[Path, Sighting] = field(default_factory=dict)
    duplicates: Mapping[Path, Path] = field(default_factory=dict)
    problems: Mapping[Path, tuple[Problem, ...]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> Sightings:
        """Read what `save` wrote; nothing where there is no such file, or none that can be read."""
        try:
            document = json.loads(path.read_bytes())
            return cls(
                roots=tuple(Path(root) for root in document["roots"]),
                directories={Path(key): _sighting_of(item) for key, item in document["directories"].items()},
                duplicates={Path(key): Path(other) for key, other in document["duplicates"].items()},
                problems={Path(key): tuple(map(problem_of, items)) for key, items in document["problems"].items()},
            )
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RegistryError) as error:
            _log.warning("%s cannot be read, so every directory is read again: %s", path, error)
            return cls()

    def save(self, path: Path) -> None:
        """Replace the file at `path`, as a whole."""
        document = {
            "format": 1,
            "roots": [os.fspath(root) for root in self.roots],
            "directories": {os.fspath(key): _sighting_json(item) for key, item in self.directories.items()},
            "duplicates": {os.fspath(key): os.fspath(other) for key, other in self.duplicates.items()},
            "problems": {
                os.fspath(key): [problem_json(item) for item in items] for key, items in self.problems.items()
            },
        }
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(document, indent=1), encoding="utf-8")
        partial.replace(path)

    def unpublished(self) -> Iterator[tuple[Path, Identity | None, tuple[Problem, ...]]]:
        """Directories that are not published as they are, sorted, with the reason."""
        for path, sighting in sorted(self.directories.items()):
            if sighting.has_errors:
                yield path, sighting.identity, sighting.problems
            elif path in self.duplicates:
                message = f"the same pack is published from {self.duplicates[path]}"
                problem = Problem("warning", "pack.json", 0, "version", message, "remove one of the two directories")
                yield path, sighting.identity, (problem,)
        for path, problems in sorted(self.problems.items()):
            yield path, None, problems


def _sighting_json(sighting: Sighting) -> Json:
    name, tag = sighting.identity or (None, None)
    return {
        "fingerprint": sighting.fingerprint,
        "name": name,
        "tag": tag,
        "problems": [problem_json(problem) for problem in sighting.problems],
        "refused": sighting.refused,
    }


def _sighting_of(item: Json) -> Sighting:
    identity = (PackName.parse(item["name"]), Tag.parse(item["tag"])) if item["name"] else None
    return Sighting(item["fingerprint"], identity, tuple(map(problem_of, item["problems"])), item["refused"])
