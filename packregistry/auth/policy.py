"""From a principal and a pack to rights: open to all, by presets, or as the rules of a policy file say.

A policy is asked for every request, and for every pack of a listing. So the rules of a file are put together by whom
they are for when it is read, and what they grant on a pack is kept: up to `KEPT_MAX` answers, and none across readings.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol, Self, TypeAlias

from packregistry.auth import Principal
from packregistry.auth.policyfile import ANYONE, AUTHENTICATED, TOKEN, USER, Rule, read_rules
from packregistry.auth.rights import ALL, NOTHING, READING, Action, Grant, Packs, Rights
from packregistry.model import NAME_MAX
from packregistry.reload import ReloadError, fingerprint

_log = logging.getLogger(__name__)

KEPT_MAX: Final = 65_536

_USER_METHODS: Final = frozenset({"basic", "certificate"})
_Grants: TypeAlias = "tuple[Grant, ...]"


class Policy(Protocol):
    """Who may do what to which packs.

    For every principal and every pack name, `everywhere` ⊆ `rights` ⊆ `anywhere`.
    """

    def rights(self, principal: Principal, pack: str, /) -> Rights:
        """What they may do to the pack called `pack`, whether or not there is one, or may be one."""

    def everywhere(self, principal: Principal, /) -> Rights:
        """What they may do to every pack, whatever it is called."""

    def anywhere(self, principal: Principal, /) -> Rights:
        """What they may do to some pack, if there is one that is called so."""


@dataclass(frozen=True, slots=True)
class OpenPolicy:
    """Everybody may do the same to all packs: what is `granted`."""

    granted: Rights

    def rights(self, _principal: Principal, _pack: str, /) -> Rights:
        """Return it."""
        return self.granted

    def everywhere(self, _principal: Principal, /) -> Rights:
        """Return it."""
        return self.granted

    def anywhere(self, _principal: Principal, /) -> Rights:
        """Return it."""
        return self.granted


class PresetPolicy:
    """Users called one of `admins` may do everything, other users read; who has not signed in reads or does nothing.

    A token may do what it was made for, and what anybody may. Names are those of users: no token is an admin by its
    name, and a user called anonymous is a user.
    """

    def __init__(self, admins: Collection[str], anonymous: Literal["none", "read"]) -> None:
        self._admins = frozenset(admins)
        self._anonymous = READING if anonymous == "read" else NOTHING

    def rights(self, principal: Principal, pack: str, /) -> Rights:
        """What they may do to a pack."""
        own = _own(principal)
        return self._of(principal) | own.rights if own and own.packs.matches(pack) else self._of(principal)

    def everywhere(self, principal: Principal, /) -> Rights:
        """What they may do to every pack."""
        own = _own(principal)
        return self._of(principal) | own.rights if own and own.packs.is_everything else self._of(principal)

    def anywhere(self, principal: Principal, /) -> Rights:
        """What they may do to some pack."""
        own = _own(principal)
        return self._of(principal) | own.rights if own else self._of(principal)

    def _of(self, principal: Principal) -> Rights:
        """What they may do by who they are."""
        if principal.method not in _USER_METHODS:
            return self._anonymous
        return ALL if principal.name in self._admins else READING


class PolicyFile:
    """The rules of a policy file: what none of them grants is denied. Belongs to one event loop, but for `load`.

    Whatever happens to the file, the rules are those of the last reading that could be used; there must have been one.
    """

    what: Final = "policy"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, ...] = ()
        self._reported: tuple[int, ...] = ()
        self._rules = _Rules(())

    def changed(self) -> bool:
        """Whether the file is another than the one last looked at."""
        return self.state() != self._seen

    def state(self) -> tuple[int, ...]:
        """What it looks like from outside."""
        return fingerprint(self.path)

    def load(self) -> None:
        """Read the rules, and put them in force in place of all earlier ones.

        What an operator should know of them is logged once per state of the file. Raises `ReloadError` with every
        problem of the file, one line each, with its place.
        """
        # Before reading, so that a change while reading is seen as one afterwards.
        self._seen = seen = fingerprint(self.path)
        rules, problems = read_rules(self.path)
        if problems:
            raise ReloadError("\n".join(problems))
        self._rules = _Rules(rules)
        if seen != self._reported:
            _log.info("policy %s: %d rules", self.path, len(rules))
            if not any(_administers(rule) for rule in rules):
                _log.warning(
                    "policy %s: nobody can administer the registry, but with a token of role admin: "
                    "no rule grants admin on all packs",
                    self.path,
                )
        self._reported = seen

    def rights(self, principal: Principal, pack: str, /) -> Rights:
        """What they may do to a pack."""
        granted = self._rules.on(principal, pack)
        # What a token was made for is not kept: another may have its name later.
        own = _own(principal)
        return granted | own.rights if own and own.packs.matches(pack) else granted

    def everywhere(self, principal: Principal, /) -> Rights:
        """What they may do to every pack."""
        granted = self._rules.of(principal).everywhere
        own = _own(principal)
        return granted | own.rights if own and own.packs.is_everything else granted

    def anywhere(self, principal: Principal, /) -> Rights:
        """What they may do to some pack."""
        granted = self._rules.of(principal).anywhere
        own = _own(principal)
        return granted | own.rights if own else granted


@dataclass(frozen=True, slots=True, eq=False)
class _Sum:
    """All that some rules grant together; `parts` is what they grant on some packs beyond what they do `everywhere`."""

    everywhere: Rights
    anywhere: Rights
    parts: _Grants

    @classmethod
    def of(cls, grants: _Grants) -> Self:
        everywhere = NOTHING.union(*(grant.rights for grant in grants if grant.packs.is_everything))
        anywhere = NOTHING.union(*(grant.rights for grant in grants))
        return cls(everywhere, anywhere, tuple(grant for grant in grants if not grant.rights <= everywhere))

    def on(self, pack: str) -> Rights:
        return self.everywhere.union(*(grant.rights for grant in self.parts if grant.packs.matches(pack)))


class _Rules:
    """What the rules of one reading grant, by whom they grant it to. It never changes; `_kept` are answers given."""

    __slots__ = ("_anyone", "_kept", "_signed_in", "_tokens", "_users")

    def __init__(self, rules: Iterable[Rule]) -> None:
        grants: dict[str, list[Grant]] = {}
        for rule in rules:
            for subject in rule.subjects:
                grants.setdefault(subject, []).append(rule.grant)
        # The members of a group share what is made of its rules.
        merged = functools.cache(_merged)
        summed = functools.cache(_Sum.of)
        anyone = merged(tuple(grants.get(ANYONE, ())))
        signed_in = anyone + merged(tuple(grants.get(AUTHENTICATED, ())))
        self._anyone = summed(anyone)
        self._signed_in = summed(signed_in)
        self._users: dict[str, _Sum] = {}
        self._tokens: dict[str, _Sum] = {}
        for subject, found in grants.items():
            if subject.startswith(USER):
                self._users[subject.removeprefix(USER)] = summed(signed_in + merged(tuple(found)))
            elif subject.startswith(TOKEN):
                # The name of a token's principal is how rules name it.
                self._tokens[subject] = summed(anyone + merged(tuple(found)))
        self._kept: dict[tuple[_Sum, str], Rights] = {}

    def of(self, principal: Principal) -> _Sum:
        """All that they are granted: as themselves, as somebody who has signed in, as anybody."""
        if principal.method in _USER_METHODS:
            return self._users.get(principal.name, self._signed_in)
        if principal.method == "token":
            return self._tokens.get(principal.name, self._anyone)
        return self._anyone

    def on(self, principal: Principal, pack: str) -> Rights:
        """What they are granted on one pack."""
        granted = self.of(principal)
        if not granted.parts:
            return granted.everywhere
        key = granted, pack
        rights = self._kept.get(key)
        if rights is None:
            rights = granted.on(pack)
            # Names come from clients, and may be long.
            if len(pack) <= NAME_MAX:
                if len(self._kept) >= KEPT_MAX:
                    self._kept.clear()
                self._kept[key] = rights
        return rights


def _merged(grants: _Grants) -> _Grants:
    """The same with fewer grants, one for each set of rights, as the patterns of one are matched together."""
    patterns: dict[Rights, list[str]] = {}
    for grant in grants:
        patterns.setdefault(grant.rights, []).extend(grant.packs.patterns)
    return tuple(Grant(rights, Packs.parse(found)) for rights, found in patterns.items())


def _own(principal: Principal) -> Grant | None:
    """What a token was made for; users have nothing of the kind."""
    return principal.grant if principal.method == "token" else None


def _administers(rule: Rule) -> bool:
    return bool(rule.subjects) and Action.ADMIN in rule.grant.rights and rule.grant.packs.is_everything
