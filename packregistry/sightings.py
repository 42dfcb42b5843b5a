"""What was last seen of the watched directories, as the file that outlives the process.

    {"version": VERSION, "roots": [...],
     "directories": {PATH: {"fingerprint", "name", "tag", "problems", "standing", "conflict"}},
     "duplicates": {PATH: OTHER}, "problems": {PATH: [...]}}

The file is a cache: a missing or damaged one costs a full read of the directories, nothing else. So does one that was
written by another version of this package, which may find other problems.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from packregistry import __version__
from packregistry.errors import RegistryError
from packregistry.model import Digest, Json, PackName, Problem, Tag, problem_json, problem_of

_log = logging.getLogger(__name__)

Identity = tuple[PackName, Tag]


@dataclass(frozen=True, slots=True)
class Sighting:
    """A pack directory when it was last read: its files' fingerprint, the release it is, what is wrong with it.

    `standing` is the archive that the registry had for this release when the directory was last offered to it: its
    own, or with `conflict` the one it was refused for. It is absent where the directory was never offered.
    """

    fingerprint: str
    identity: Identity | None
    problems: tuple[Problem, ...] = ()
    standing: Digest | None = None
    conflict: Problem | None = None

    @property
    def claim(self) -> Identity | None:
        """The release that the directory is fit to be published as."""
        return None if any(problem.severity == "error" for problem in self.problems) else self.identity


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
        """Read what `save` wrote; nothing where there is no such file, or none that can be used."""
        try:
            document = json.loads(path.read_bytes())
            if document["version"] != __version__:
                return cls()
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
            "version": __version__,
            "roots": [os.fspath(root) for root in self.roots],
            "directories": {os.fspath(key): _sighting_json(item) for key, item in self.directories.items()},
            "duplicates": {os.fspath(key): os.fspath(other) for key, other in self.duplicates.items()},
            "problems": {
                os.fspath(key): [problem_json(item) for item in items] for key, items in self.problems.items()
            },
        }
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(document, indent=1, sort_keys=True), encoding="utf-8")
        partial.replace(path)

    def unpublished(self) -> Iterator[tuple[Path, Identity | None, tuple[Problem, ...]]]:
        """Directories that are not published as they are, sorted, with the reason."""
        for path, sighting in sorted(self.directories.items()):
            if not sighting.claim:
                yield path, sighting.identity, sighting.problems
            elif sighting.conflict:
                yield path, sighting.identity, (*sighting.problems, sighting.conflict)
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
        "standing": sighting.standing,
        "conflict": sighting.conflict and problem_json(sighting.conflict),
    }


def _sighting_of(item: Json) -> Sighting:
    identity = (PackName.parse(item["name"]), Tag.parse(item["tag"])) if item["name"] else None
    return Sighting(
        fingerprint=item["fingerprint"],
        identity=identity,
        problems=tuple(map(problem_of, item["problems"])),
        standing=Digest.parse(item["standing"]) if item["standing"] else None,
        conflict=problem_of(item["conflict"]) if item["conflict"] else None,
    )
