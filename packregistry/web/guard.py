"""Who may do what, beyond reading."""

from __future__ import annotations

from packregistry.auth import Access, Principal
from packregistry.config import Config
from packregistry.errors import DeniedError


def check_access(config: Config, access: Access, principal: Principal) -> None:
    """Make sure that `principal` may do what needs `access`. Raises `DeniedError` saying who may.

    With users, those in `auth.admins` may write. Without, everybody may where the configuration says `auth: none`, or
    where only this machine can connect.
    """
    if access in {Access.PUBLIC, Access.READ}:
        return
    if config.auth.mode == "htpasswd":
        if principal.name in config.auth.admins:
            return
        admins = ", ".join(config.auth.admins) or "nobody"
        raise DeniedError(
            f"{principal.name} may only read", remedy=f"users who may change packs (auth.admins): {admins}"
        )
    if config.auth.mode == "unset" and not config.http.addr.is_loopback:
        raise DeniedError(
            "nobody may change packs here, as no authentication is configured",
            remedy="configure auth.htpasswd, or write `auth: none` to let everybody change everything",
        )
