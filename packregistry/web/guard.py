"""What a route asks of whoever calls it, before anything of the request's body is read.

This keeps out whoever could not do anything there. Which right a change takes in the end is decided on the record it
changes (`changes`), with the same policy.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from packregistry.auth import ANONYMOUS, Principal
from packregistry.auth.policy import Policy
from packregistry.auth.rights import Action, Rights
from packregistry.errors import DeniedError, RegistryError, UnauthorizedError
from packregistry.model import shown


class Access(enum.Enum):
    """What a route asks of the principal: one of some rights on the pack in its path, or on some pack.

    `PUBLIC` asks nothing. Without a pack in the path, `READ` takes everybody who is signed in, whatever they may do:
    that is how credentials are tried out. `ADMIN` means the registry itself, so the right must be on all packs.
    """

    PUBLIC = "public"
    READ = "read"
    WRITE = "change"
    DELETE = "delete from"
    ADMIN = "administer"


_NEEDED: Final[Mapping[Access, Rights]] = {
    Access.READ: frozenset({Action.READ}),
    Access.WRITE: frozenset({Action.CREATE, Action.OVERWRITE}),
    Access.DELETE: frozenset({Action.DELETE}),
    Access.ADMIN: frozenset({Action.ADMIN}),
}


def check_access(policy: Policy, access: Access, principal: Principal, pack: str | None) -> None:
    """Make sure that `principal` may call a route. Raises `DeniedError`, which says the same of packs there are not."""
    if access is Access.PUBLIC:
        return
    if access is Access.ADMIN:
        rights = policy.everywhere(principal)
    elif pack is not None:
        rights = policy.rights(principal, pack)
    elif access is Access.READ and principal is not ANONYMOUS:
        return
    else:
        rights = policy.anywhere(principal)
    if rights.isdisjoint(_NEEDED[access]):
        where = (
            "this registry" if access is Access.ADMIN else "packs here" if pack is None else f"the pack {shown(pack)}"
        )
        raise DeniedError(
            f"{principal.name} may not {access.value} {where}",
            detail={"subject": principal.name, "access": access.name.lower(), "pack": pack},
            remedy="whoever runs the registry can allow it (auth.admins, or a rule in auth.policy)",
        )


def refusal_for(principal: Principal, challenge: str, refusal: RegistryError) -> RegistryError:
    """What a refusal is to those who have not said who they are: they are asked, where that can help."""
    if not isinstance(refusal, DeniedError) or principal is not ANONYMOUS:
        return refusal
    if not challenge:
        return DeniedError(
            "nobody may do that here, as no authentication is configured",
            remedy="configure auth.htpasswd, or write `auth: none` to let everybody change everything",
        )
    return UnauthorizedError(
        "credentials are required",
        remedy="send a user name and password, or a token",
        headers={"WWW-Authenticate": challenge},
    )
