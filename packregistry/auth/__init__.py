"""Who asks, how that is proven, and what they may do: principals, actors, and the contract of an authenticator.

    rights        actions, roles, patterns of pack names, grants
    policy        from a principal and a pack to rights: presets, or a policy file
    htpasswd      the users file, read and checked; usersfile edits it
    tokens        the file of tokens
    expiry        when a token expires, as people write it
    replacing     files that several processes rewrite
    certificates  users by their client certificates
    throttle      who has failed too often; failure is the line in the log
    memory        what was found out, for a while
    header        what an `Authorization` header has in it
    credentials   the authenticator: from an `Authorization` header to a principal

Nothing here knows HTTP beyond the text of that header.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from packregistry.auth.rights import ALL, Action, Grant, Rights
from packregistry.errors import DeniedError
from packregistry.model import PackName

Method = Literal["none", "basic", "token", "certificate"]

ACTION_WORDS: Final = {
    Action.READ: "read",
    Action.CREATE: "add to",
    Action.OVERWRITE: "overwrite versions of",
    Action.DELETE: "delete from",
    Action.ADMIN: "administer",
}


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks: `method` says how that was proven, `none` that it was not.

    Of a token, `name` is `token:NAME` (no user is called so, as a user name has no colon) and `grant` its own rights.
    `proof` is what an authenticator knows them by again.
    """

    name: str
    method: Method
    grant: Grant | None = None
    proof: object = field(default=None, compare=False, repr=False)


ANONYMOUS: Final = Principal("anonymous", "none")


@dataclass(frozen=True, slots=True)
class Actor:
    """Whoever changes something: by which name, how that was proven, from where, and what they may do to which pack."""

    name: str
    method: str
    address: str
    rights: Callable[[PackName], Rights]

    @classmethod
    def system(cls, name: str) -> Actor:
        """A part of the registry itself, which may do everything."""
        return cls(name, "system", "-", lambda _: ALL)

    def check(self, action: Action, pack: PackName) -> None:
        """Make sure that they may do it. Raises `DeniedError`, which does not say whether there is such a pack."""
        if action not in self.rights(pack):
            raise denied(self.name, action, pack)


class Authenticator(Protocol):
    """Turns the text of an `Authorization` header (or its absence) into a principal; belongs to one event loop.

    Callers ask `remembered` first, which answers in microseconds, and `verify` when it gives nothing:

        principal = authenticator.remembered(header, address) or await authenticator.verify(header, address)
    """

    @property
    def challenge(self) -> str:
        """What `WWW-Authenticate` says; empty if credentials are never asked for."""

    def remembered(self, authorization: str | None, address: str = "", /) -> Principal | None:
        """Return the principal if these credentials are known to be good, and `ANONYMOUS` for none. Never raises.

        `address` is the client's, as for `verify`.
        """

    async def verify(self, authorization: str | None, address: str, /) -> Principal:
        """Return the principal, however long that takes; `address` is the client's.

        Raises `UnauthorizedError`, which does not say whether the user exists, and `TooManyRequestsError`.
        """

    def holds(self, principal: Principal, /) -> bool:
        """Whether the credentials of a principal that was returned before would still be good, in µs.

        A request may take long, and meanwhile its token be revoked or its user removed.
        """

    def close(self) -> None:
        """Let threads go; nothing can be verified afterwards."""


class OpenAuthenticator:
    """No authentication: everybody is `ANONYMOUS`, whatever they send."""

    challenge = ""

    def remembered(self, _authorization: str | None, _address: str = "", /) -> Principal:
        """Return `ANONYMOUS`."""
        return ANONYMOUS

    async def verify(self, _authorization: str | None, _address: str, /) -> Principal:
        """Return `ANONYMOUS`."""
        return ANONYMOUS

    def holds(self, _principal: Principal, /) -> bool:
        """Whatever it is, yes."""
        return True

    def close(self) -> None:
        """Do nothing: there are no threads."""


def denied(name: str, action: Action, pack: str) -> DeniedError:
    """The refusal of an action."""
    return DeniedError(
        f"{name} may not {ACTION_WORDS[action]} {pack}",
        detail={"subject": name, "action": action.value, "pack": pack},
        remedy=f"whoever runs the registry can grant `{action.value}` (auth.admins, or a rule in auth.policy)",
    )
