"""All of a pack's files looked at together: what the pack is, and every problem it has."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from packregistry.model import Json, Metadata, PackName, Problem, Tag, shown
from packregistry.pack import logopng, packjson, presetsyaml, references, schemayaml, valuesyaml
from packregistry.pack.findings import Findings, closest

README = "README.md"
METADATA_FILES: tuple[str, ...] = (
    packjson.FILE,
    valuesyaml.FILE,
    README,
    logopng.FILE,
    schemayaml.FILE,
    presetsyaml.FILE,
)

_CHECKS: Mapping[str, Callable[[bytes, Findings], None]] = {
    valuesyaml.FILE: valuesyaml.check,
    logopng.FILE: logopng.check,
    schemayaml.FILE: schemayaml.check,
    presetsyaml.FILE: presetsyaml.check,
}


@dataclass(frozen=True, slots=True)
class Reading:
    """What a pack is and what is wrong with it.

    `document` is pack.json as parsed, `{}` if it could not be. `name` and `tag` are None, and `version`, `group` and
    the texts of `metadata` empty, where pack.json does not give them; then there is an error that says so.
    `problems` has errors first and is the same for the same bytes.
    """

    document: Json
    name: PackName | None
    version: str
    group: str
    tag: Tag | None
    metadata: Metadata
    problems: tuple[Problem, ...]

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that keep the pack from being published."""
        return tuple(problem for problem in self.problems if problem.severity == "error")


def lint(files: Mapping[str, bytes], members: Mapping[str, int]) -> Reading:
    """Read a pack and find all its problems at once; never raises, whatever the bytes.

    Args:
        files: the contents of those of `METADATA_FILES` the pack has at its root, by title.
        members: every file of the pack, by path relative to its root with `/`, and its size in bytes.
    """
    findings = Findings()
    data = files.get(packjson.FILE)
    pack = packjson.PackJson() if data is None else packjson.read(data, findings)
    references.check(pack, members, findings)
    for title in (packjson.FILE, valuesyaml.FILE, logopng.FILE, README):
        if title not in files:
            _report_missing(title, members, findings)
    for title, check in _CHECKS.items():
        if title in files:
            check(files[title], findings)
    if README in files:
        findings.text(README, files[README], "warning")
    return Reading(
        document=pack.document,
        name=pack.name,
        version=pack.version,
        group=pack.group,
        tag=pack.tag,
        metadata=pack.metadata,
        problems=findings.problems(),
    )


def _report_missing(title: str, members: Mapping[str, int], findings: Findings) -> None:
    folders = [posixpath.dirname(path) for path in sorted(members) if posixpath.basename(path) == title]
    if like := closest(title, [path for path in sorted(members) if "/" not in path], cutoff=0.8):
        remedy = f"rename {shown(like)} to {shown(title)}"
    elif title == packjson.FILE and folders:
        remedy = f"there is one in {shown(min(folders, key=len))}: is that the folder of the pack?"
    elif title == valuesyaml.FILE:
        remedy = "add it; it may be empty"
    elif title == README:
        remedy = "add one that says what the pack does and how to use it"
    else:
        remedy = "add it"
    findings.add("warning" if title == README else "error", title, "is missing", remedy)
