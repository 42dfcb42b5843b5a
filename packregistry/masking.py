"""Secrets out of what is logged: tokens, user and password in URLs, the values of `Authorization` headers.

It works on text alone and knows no place that a secret comes from, so that it also finds one that a client put where
none belongs: in a path, a query, a user name, what a library complains about.
"""

from __future__ import annotations

import re
from typing import Final

TOKEN_PREFIX: Final = "pkr_"  # noqa: S105 — no secret, but what scanners find tokens by
MASK: Final = "***"

# Whoever writes a header into a URL writes the space as `%20` or `+`.
_SCHEME = r"(?:[Bb]asic|BASIC|[Bb]earer|BEARER)(?:[\s+]|%20)"
# A value ends where another begins, which would look like no header without its first letters.
_HEADER = rf"({_SCHEME}(?:[\s+]|%20)*)(?:(?!{_SCHEME})[A-Za-z0-9._~+/=-]){{8,}}"

_PATTERNS: Final = (
    (re.compile(_HEADER, re.ASCII), rf"\1{MASK}"),
    # To the last `@` before the host ends: a password may have one in it.
    (re.compile(r"://[^/?#\s]*@"), f"://{MASK}@"),
    # The same within a URL: as the value of a parameter.
    (re.compile(r"(%3A%2F%2F)(?:(?!%2F|%3F|%23)[^/?#&\s])*(%40|@)", re.ASCII | re.IGNORECASE), rf"\1{MASK}\2"),
    (re.compile(r"pkr(%5F)[A-Za-z0-9_%]{8,}", re.ASCII | re.IGNORECASE), rf"pkr\1{MASK}"),
    # With `_`: a token that ends where another begins would hide that one's prefix.
    (re.compile(TOKEN_PREFIX + "[A-Za-z0-9_]{8,}", re.ASCII), TOKEN_PREFIX + MASK),
)


def is_suspect(text: str) -> bool:
    """Whether there may be a secret in `text`: true of all that `masked` changes, and much quicker to tell."""
    return (
        TOKEN_PREFIX in text
        or "://" in text
        or "asic" in text
        or "earer" in text
        or "BASIC" in text
        or "BEARER" in text
        or "%2" in text
        or "%5" in text
    )


def masked(text: str) -> str:
    """`text` with `***` in place of each secret: `pkr_***`, `https://***@host`, `Basic ***`."""
    if not is_suspect(text):
        return text
    for pattern, instead in _PATTERNS:
        text = pattern.sub(instead, text)
    return text
