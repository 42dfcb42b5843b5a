"""The charts, manifests and Ansible roles pack.json names, against the files the pack has.

A chart or manifest is a file, an Ansible role a folder; either is accepted where the other is usual.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping

from packregistry.model import shown
from packregistry.pack.findings import Findings, Place, closest, field_path
from packregistry.pack.packjson import FILE, PackJson

MEMBERS = ("charts", "kubeManifests", "ansibleRoles")
CANDIDATES_MAX = 500
SUGGESTIONS_MAX = 20

_ABSOLUTE = re.compile(r"[/\\]|[A-Za-z]:[/\\]")
_SEPARATOR = re.compile(r"[/\\]")


def check(pack: PackJson, members: Mapping[str, int], findings: Findings) -> None:
    """Report every reference that leads out of the pack (error) or to nothing (warning)."""
    folders = {parent for member in members for parent in _parents(member)}
    charts = [folder for folder in folders if f"{folder}/Chart.yaml" in members]
    missing = 0
    for path, reference in _references(pack):
        place = Place(line=pack.text.line(path), field=field_path(path))
        if _ABSOLUTE.match(reference) or ".." in _SEPARATOR.split(reference):
            message = f"{shown(reference)} leads out of the pack"
            findings.error(FILE, message, "name a file of the pack, relative to pack.json", **place)
        elif not reference.strip():
            findings.warning(FILE, "is empty", "name a file of the pack, or remove it", **place)
        elif (target := posixpath.normpath(reference)) not in members and target not in folders:
            missing += 1
            # Looking for what was meant is slow, so a pack with nothing but mistakes gets help with the first ones.
            remedy = _remedy(target, charts, members) if missing <= SUGGESTIONS_MAX else ""
            remedy = remedy or "add the file, or remove the reference"
            findings.warning(FILE, f"{shown(reference)} is not in the pack", remedy, **place)


def _references(pack: PackJson) -> Iterator[tuple[tuple[str, int], str]]:
    for key in MEMBERS:
        listed = pack.document.get(key)
        for index, item in enumerate(listed if isinstance(listed, list) else ()):
            if isinstance(item, str):
                yield (key, index), item


def _parents(path: str) -> Iterator[str]:
    parts = path.split("/")
    return ("/".join(parts[:count]) for count in range(1, len(parts)))


def _remedy(target: str, charts: list[str], members: Mapping[str, int]) -> str:
    stem = posixpath.basename(target).removesuffix(".tgz")
    unpacked = [folder for folder in charts if f"{stem}-".startswith(f"{posixpath.basename(folder)}-")]
    if unpacked:
        # The longest name says most; of equal ones the outermost is the chart itself, not one it contains.
        best = min(unpacked, key=lambda folder: (-len(posixpath.basename(folder)), folder.count("/"), folder))
        return f"the chart is there unpacked, as {shown(best)}: run `helm package` on it, or remove the reference"
    suffix = posixpath.splitext(target)[1].lower()
    alike = sorted(member for member in members if len(member) <= 200 and member.lower().endswith(suffix))
    # Folder and suffix are the same for most files and would make any two of them look alike.
    names = {posixpath.splitext(posixpath.basename(member))[0]: member for member in alike[:CANDIDATES_MAX]}
    match = closest(posixpath.splitext(posixpath.basename(target))[0], names)
    return f"did you mean {shown(names[match])}?" if match else ""
