"""What a response says: a JSON document, or why there is none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from packregistry.errors import DeniedError, RegistryError, TooManyRequestsError, UnauthorizedError
from packregistry.failures import ClientError, NotARegistryError, UnreachableError

MESSAGE_MAX = 4000
_BY_STATUS = {401: UnauthorizedError, 403: DeniedError, 429: TooManyRequestsError}
_GATEWAY = {502, 503, 504}


def document(data: bytes, where: str) -> Any:
    """The JSON value `data` is, or raise `NotARegistryError`."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        remedy = "check the address: is there a pack registry?"
        raise NotARegistryError(f"{where} does not answer in JSON", remedy=remedy) from error


def refusal(status: int, reason: str, data: bytes, where: str) -> RegistryError | ClientError:
    """The exception that a response with an error status stands for.

    It is the one the server raised where the body says so. An answer that is not a registry's, such as a proxy's page,
    becomes an exception by its status.
    """
    entry = _first_error(data)
    if entry is not None:
        code, detail = entry.get("code"), entry.get("detail")
        message = clean(str(entry.get("message") or reason))
        kinds = {kind.code: kind for kind in _kinds(RegistryError)}
        kind = kinds.get(code) if isinstance(code, str) else None
        if kind is None:
            kind = _BY_STATUS.get(status, RegistryError)
            message += f" ({clean(str(code))})" if code else ""
        return kind(message, detail=detail)
    said = clean(f"{status} {reason}".strip())
    if status in _BY_STATUS:
        return _BY_STATUS[status](f"{where} answers {said}")
    if status in _GATEWAY:
        return UnreachableError(f"{where} answers {said}", remedy="the registry behind it is down: try again later")
    return NotARegistryError(f"{where} answers {said}", remedy="check the address: is there a pack registry?")


def clean(text: str) -> str:
    """`text` of somebody else's as it may be shown on a terminal: on one line, without control characters, not endless.

    A line break becomes a blank; other control characters, which could move the cursor or hide text, become U+FFFD.
    """
    shown = " ".join(text[:MESSAGE_MAX].split())
    return "".join(char if char.isprintable() else "\ufffd" for char in shown)


def _first_error(data: bytes) -> dict[str, Any] | None:
    try:
        errors = json.loads(data)["errors"]
        entry = errors[0]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None


def _kinds(kind: type[RegistryError]) -> Iterator[type[RegistryError]]:
    for sub in kind.__subclasses__():
        yield sub
        yield from _kinds(sub)
