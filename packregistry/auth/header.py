"""What an `Authorization` header has in it, and what `WWW-Authenticate` asks for."""

from __future__ import annotations

import base64
import binascii
from typing import NamedTuple

from packregistry.auth.htpasswd import decoded
from packregistry.masking import TOKEN_PREFIX

HEADER_MAX = 8192

_PREFIX = TOKEN_PREFIX.encode()


class Given(NamedTuple):
    """A user name and a password, or where `secret` is not None a token, as ASCII text."""

    user: bytes
    password: bytes
    secret: str | None


def parsed(authorization: str) -> Given | None:
    """Return what is in a header, or nothing if it is not exactly Basic (RFC 7617) or Bearer (RFC 6750).

    What Bearer has is a token. So is a password that begins with `TOKEN_PREFIX`, and a user name that does and has an
    empty password.
    """
    if len(authorization) > HEADER_MAX or not authorization.isascii():
        return None
    scheme, _, rest = authorization.strip(" \t").partition(" ")
    rest = rest.strip(" ")
    if scheme.lower() == "bearer":
        return Given(b"", b"", rest) if rest and " " not in rest else None
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(rest, validate=True).partition(b":")
    except binascii.Error:
        return None
    if not colon:
        return None
    secret = password or user
    is_token = secret.startswith(_PREFIX)
    return Given(user, password, secret.decode("ascii", "backslashreplace") if is_token else None)


def claimed(authorization: str | None) -> str:
    """Return whom a header says it is of, which need not be so: a user's name, `a token`, or nothing."""
    given = None if authorization is None else parsed(authorization)
    if given is None:
        return ""
    return "a token" if given.secret is not None else decoded(given.user)


def challenge(realm: str) -> str:
    """Return what asks for a user name and a password: the realm as a quoted-string, with '?' for what cannot be."""
    safe = "".join(char if " " <= char <= "~" else "?" for char in realm)
    return 'Basic realm="' + safe.replace("\\", "\\\\").replace('"', '\\"') + '"'
