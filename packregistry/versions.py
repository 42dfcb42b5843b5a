"""The order of versions as packs really write them, and the parent tags computed from it.

Most packs follow SemVer, many do not (`1.5`, `v1.1.0`, `23.07.1`), and every one of them has to be served, so
the order is total over any string. It decides what is newest, never what is the same: two versions are equal only
if they are the same string.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import semver

_RELEASE = re.compile(r"[vV]?(\d+(?:\.\d+)*)", re.ASCII)
_SEPARATORS = ("-", ".", "_", "+")


@dataclass(frozen=True, slots=True, order=True)
class VersionKey:
    """Where a version stands among all others; compares field by field, and is made by `version_key`.

    A number is kept as its count of digits and its digits, without leading zeros: that compares like the integer
    and has no upper limit.
    """

    release: tuple[tuple[int, str], ...]
    final: bool
    identifiers: tuple[tuple[int, int, str], ...]
    version: str


def version_key(version: str) -> VersionKey:
    """Return the sort key of `version`, older first; equal only for equal strings, and never an error.

    - One leading `v` or `V` before a number is ignored.
    - The dot-separated numbers come first, any count of them, without leading zeros and trailing zero fields: `1.5`
      and `1.5.0` have the same precedence, `23.07.1` is 23, 7, 1. Only the digits 0 to 9 make a number.
    - Whatever follows is a pre-release, older than the version without it, and compares by the rules of SemVer
      (https://semver.org/#spec-item-11), except that numbers may have leading zeros. That goes for any suffix, not
      only after `-`: `1.2.3rc1`, `1.2.Final`, `1.2_3`, and also `1.2+3`, as `+` cannot stand in a tag.
    - A text without a leading number is older than all versions that have one.
    - What is still undecided follows the order of the strings.
    """
    match = _RELEASE.match(version)
    if not match:
        # Even the oldest pre-release of 0 has one identifier.
        return VersionKey(release=(), final=False, identifiers=(), version=version)
    fields = [_number(digits) for digits in match[1].split(".")]
    while fields and not fields[-1][0]:
        fields.pop()
    suffix = version[match.end() :]
    identifiers = suffix[1:] if suffix.startswith(_SEPARATORS) else suffix
    return VersionKey(
        release=tuple(fields),
        final=not suffix,
        identifiers=tuple(_identifier(text) for text in identifiers.split(".")),
        version=version,
    )


def newest(versions: Iterable[str]) -> str:
    """Return the highest of `versions`, or raise `ValueError` if there is none."""
    found = max(versions, key=version_key, default=None)
    if found is None:
        raise ValueError("the newest of no versions was asked for")
    return found


def parent_labels(version: str) -> tuple[str, ...]:
    """Return the labels of the parent tags of `version`, the widest first: `14.x` and `14.4.x` for `14.4.3`.

    The numbers are as written (`23.07.x`), without a leading `v`; a version of one number has one parent, a version
    without a leading number has none.
    """
    match = _RELEASE.match(version)
    if not match:
        return ()
    major, *rest = match[1].split(".", 2)
    return (f"{major}.x", *(f"{major}.{minor}.x" for minor in rest[:1]))


def parents(versions: Iterable[str]) -> dict[str, str]:
    """Return the newest of `versions` by parent label, in the order of the labels' numbers, `1.x` before `1.0.x`."""
    targets = {label: version for version in sorted(versions, key=version_key) for label in parent_labels(version)}
    return {label: targets[label] for label in sorted(targets, key=_label_key)}


def is_strict_semver(version: str) -> bool:
    """Whether `version` is one by the letter of SemVer 2.0.0, build metadata included; a leading `v` is not."""
    return semver.Version.is_valid(version)


def _label_key(label: str) -> tuple[list[tuple[int, str]], str]:
    return [_number(digits) for digits in label.split(".")[:-1]], label


def _number(digits: str) -> tuple[int, str]:
    significant = digits.lstrip("0")
    return len(significant), significant


def _identifier(text: str) -> tuple[int, int, str]:
    if text.isascii() and text.isdigit():
        return (0, *_number(text))
    return 1, 0, text
