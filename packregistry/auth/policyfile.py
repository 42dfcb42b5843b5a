"""The policy file: groups of users, and rules that grant rights on packs. Read whole, with every problem and its place.

    version: 1
    groups:
      platform: [ann, bob]
    rules:
      - subjects: [group:platform, token:ci]
        packs: ["nginx-*"]
        allow: [read, create]

`docs/policy.md` tells operators what it all means.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packregistry.auth.rights import ALL, NOTHING, ROLES, Action, Grant, Packs, PatternError, Rights, check_pattern
from packregistry.config.document import Entry, Found, read_file
from packregistry.config.problems import Report, nearest, quoted, suggestion

ANYONE: Final = "anonymous"
AUTHENTICATED: Final = "authenticated"
USER: Final = "user:"
TOKEN: Final = "token:"  # noqa: S105 — how tokens are named, and no secret

_KEYS = ("version", "groups", "rules")
_RULE_KEYS = ("subjects", "packs", "allow", "role")
_WORDS = (ANYONE, AUTHENTICATED)
_KINDS = ("user", "group", "token")
_FORMS = "write user:NAME, group:NAME, token:NAME, anonymous or authenticated"
_ACTIONS: Final[Mapping[str, Action]] = {action.value: action for action in Action}
# What others call actions, which look like some of ours that mean more or less.
_FOREIGN = {
    "pull": "read",
    "push": "create",
    "write": "create, and overwrite if they may change versions",
    "*": "admin",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, its groups replaced by their users: subjects are `user:NAME`, `token:NAME`, `ANYONE`, `AUTHENTICATED`.

    It may have no subjects, where all its groups are empty.
    """

    subjects: tuple[str, ...]
    grant: Grant


def read_rules(path: Path) -> tuple[tuple[Rule, ...], tuple[str, ...]]:
    """The rules in a file, and what is wrong with it, one line a problem; where there is a problem, there are no rules.

    A file without rules (`rules: []`) is in order. Takes milliseconds: to be called in a thread.
    """
    report = Report()
    found = read_file(path, report, when_empty="write version: 1 and rules")
    rules = _Reader(report).read(found) if found is not None and not report.errors else ()
    if report.errors:
        # What stands behind an anchor is read each time it is used.
        return (), tuple(dict.fromkeys(_with_hint(line) for line in report.errors))
    return rules, ()


def _with_hint(line: str) -> str:
    """A problem, with a remedy for the commonest one: `packs: [*]` refers to something, as YAML has it."""
    return f"{line} (put what begins with * in quotes)" if "is not YAML" in line and " alias" in line else line


class _Reader:
    """Makes rules of a document; what is wrong goes to the report, and reading goes on."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._groups: dict[str, tuple[str, ...]] = {}

    def read(self, found: Found) -> tuple[Rule, ...]:
        """Every rule that can be made out."""
        document = self._map(found, "", _KEYS)
        for key in ("version", "rules"):
            if key not in document and isinstance(found.value, dict):
                self._report.error(found.where, key, "is missing", _REMEDIES[key])
        if "version" in document and document["version"].found.value != "1":
            self._report.error(document["version"].found.where, "version", "must be 1", _REMEDIES["version"])
        if "groups" in document:
            self._read_groups(document["groups"].found)
        if "rules" not in document:
            return ()
        listed = document["rules"].found
        if not isinstance(listed.value, list):
            self._report.error(listed.where, "rules", "must be a list of rules", _REMEDIES["rules"])
            return ()
        return tuple(rule for item in listed.value for rule in self._rule(item))

    def _read_groups(self, found: Found) -> None:
        if not isinstance(found.value, dict):
            self._report.error(found.where, "groups", "must be a map of groups to lists of users", "or leave it out")
            return
        for name, entry in found.value.items():
            path = f"groups.{name}"
            if wrong := _wrong_with(name):
                self._report.error(entry.where, path, f"{quoted(name)} is not the name of a group: {wrong}")
            users = self._texts(entry.found, path, may_be_empty=True)
            for where, user in users:
                if wrong := _wrong_with(user):
                    remedy = "write the names of users, and nothing else"
                    self._report.error(where, path, f"{quoted(user)} is not a user: {wrong}", remedy)
            self._groups[name] = tuple(user for _, user in users)

    def _rule(self, found: Found) -> Iterator[Rule]:
        entries = self._map(found, "rules", _RULE_KEYS)
        if not isinstance(found.value, dict):
            return
        for key in ("subjects", "packs"):
            if key not in entries:
                self._report.error(found.where, "rules", f"this rule has no {key}", f"write {key}: [ … ]")
        if "allow" not in entries and "role" not in entries:
            self._report.error(found.where, "rules", "this rule grants nothing", "write allow: [ … ], or role: …")
        if "allow" in entries and "role" in entries:
            where = [entry.where for key, entry in entries.items() if key in {"allow", "role"}][-1]
            self._report.error(where, "rules", "this rule has both allow and role", "leave one of them")
        subjects = tuple(self._subjects(entries["subjects"].found)) if "subjects" in entries else ()
        packs = self._packs(entries["packs"].found) if "packs" in entries else None
        rights = self._allowed(entries["allow"].found) if "allow" in entries else NOTHING
        if "role" in entries:
            rights = self._role(entries["role"].found)
        if packs is not None:
            yield Rule(tuple(dict.fromkeys(subjects)), Grant(rights, packs))

    def _subjects(self, found: Found) -> Iterator[str]:
        for where, text in self._texts(found, "rules.subjects"):
            kind, colon, name = text.partition(":")
            if text in _WORDS:
                yield text
            elif not colon or kind not in _KINDS:
                self._wrong_subject(where, text, "it is of no kind that there is", self._meant(text))
            elif wrong := _wrong_with(name):
                self._wrong_subject(where, text, wrong, "write authenticated" if text == "user:*" else _FORMS)
            elif kind != "group":
                yield text
            elif name in self._groups:
                yield from (USER + user for user in self._groups[name])
            else:
                remedy = suggestion(name, self._groups) if self._groups else f"define it: groups: {{{name}: [ … ]}}"
                self._report.error(where, "rules.subjects", f"there is no group {quoted(name)}", remedy)

    def _wrong_subject(self, where: str, text: str, why: str, remedy: str) -> None:
        self._report.error(where, "rules.subjects", f"{quoted(text)} is not a subject: {why}", remedy)

    def _meant(self, text: str) -> str:
        """A remedy for a subject of no kind."""
        kind, colon, name = text.partition(":")
        if word := nearest(text, _WORDS, cutoff=0.8):
            return f"did you mean {word}?"
        if text in self._groups:
            return f"write group:{text}"
        near = nearest(kind, _KINDS) if colon else None
        return f"did you mean {quoted(f'{near}:{name}')}?" if near else _FORMS

    def _packs(self, found: Found) -> Packs | None:
        patterns = []
        for where, pattern in self._texts(found, "rules.packs"):
            try:
                check_pattern(pattern)
            except PatternError as error:
                self._report.error(where, "rules.packs", str(error))
            else:
                patterns.append(pattern)
        return Packs.parse(patterns) if patterns else None

    def _allowed(self, found: Found) -> Rights:
        rights = set()
        for where, text in self._texts(found, "rules.allow"):
            if text in _ACTIONS:
                rights.add(_ACTIONS[text])
            else:
                remedy = f"write role: {text}" if text in ROLES else ""
                remedy = remedy or (f"write {_FOREIGN[text]}" if text in _FOREIGN else suggestion(text, _ACTIONS))
                self._report.error(where, "rules.allow", f"{quoted(text)} is not an action", remedy)
        return ALL if Action.ADMIN in rights else frozenset(rights)

    def _role(self, found: Found) -> Rights:
        if not isinstance(found.value, str):
            self._report.error(found.where, "rules.role", "must be the name of one role", f"known: {', '.join(ROLES)}")
            return NOTHING
        if found.value not in ROLES:
            message = f"{quoted(found.value)} is not a role"
            self._report.error(found.where, "rules.role", message, suggestion(found.value, ROLES))
        return ROLES.get(found.value, NOTHING)

    def _map(self, found: Found, path: str, known: Collection[str]) -> dict[str, Entry]:
        """The entries of a map whose keys are known."""
        if not isinstance(found.value, dict):
            self._report.error(found.where, path, "must be a map of keys", f"known: {', '.join(known)}")
            return {}
        for key, entry in found.value.items():
            if key not in known:
                self._report.error(entry.where, path, f"unknown key {quoted(key)}", suggestion(key, known))
        return {key: entry for key, entry in found.value.items() if key in known}

    def _texts(self, found: Found, path: str, *, may_be_empty: bool = False) -> list[tuple[str, str]]:
        """The texts of a list, each once, with their places."""
        if not isinstance(found.value, list):
            self._report.error(found.where, path, "must be a list", "write it in [ ]")
            return []
        if not found.value and not may_be_empty:
            self._report.error(found.where, path, "is empty", "write what it is for, or leave the rule out")
        texts: dict[str, str] = {}
        for item in found.value:
            if not isinstance(item.value, str) or not item.value:
                remedy = "write no blank after a colon" if isinstance(item.value, dict) else ""
                self._report.error(item.where, path, "must be a text", remedy)
            elif item.value in texts:
                first = f"the first is at {texts[item.value]}"
                self._report.error(item.where, path, f"{quoted(item.value)} is given twice", first)
            else:
                texts[item.value] = item.where
        return [(where, text) for text, where in texts.items()]


_REMEDIES = {"version": "write version: 1", "rules": "write rules: [], if nobody may do anything"}


def _wrong_with(name: str) -> str:
    """What keeps a name from being one that users, groups or tokens have; empty if nothing does."""
    if not name.strip():
        return "a name has at least one character"
    if name == "*":
        return "only packs have patterns"
    if ":" in name:
        return "there is a colon in the name"
    return "there is a blank at an end of the name" if name != name.strip() else ""
