"""Conditional and range requests (RFC 9110, sections 13 and 14), as pure functions of header values."""

from __future__ import annotations

import re

from packregistry.errors import RangeInvalidError

# More digits than any size has, and few enough for `int`, whatever PYTHONINTMAXSTRDIGITS says.
_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,600})-([0-9]{0,600})[ \t]*", re.IGNORECASE)
_ELEMENT = re.compile(r'[ \t]*(?:(?:W/)?("[^"\x00-\x20\x7f]*"))?[ \t]*(?:,|\Z)')


def matches(header: str, etag: str) -> bool:
    """Whether `If-None-Match: header` names `etag`, which includes its quotes. The comparison is the weak one.

    What follows an element that is not an entity tag is not read. As with Distribution, what is in the
    quotes will do alone, as it is in `Docker-Content-Digest`.
    """
    if header.strip(" \t") in {"*", etag[1:-1]}:
        return True
    position = 0
    while position < len(header) and (found := _ELEMENT.match(header, position)):
        if found[1] == etag:
            return True
        position = found.end()
    return False


def byte_range(header: str | None, condition: str | None, etag: str, size: int) -> tuple[int, int] | None:
    """The bytes `[start, stop)` that `Range: header` asks for, or `None` for all of them.

    `condition` is the `If-Range` header: with anything but exactly the current `etag` the whole is sent, because the
    client's part is of something else. A range that is malformed, in other units, one of several, or of nothing at
    all is no range, as the standard allows. Raises `RangeInvalidError` where it lies outside the `size` bytes.
    """
    if header is None or size == 0 or (condition is not None and condition.strip(" \t") != etag):
        return None
    found = _RANGE.fullmatch(header.strip(" \t"))
    if found is None or not (found[1] or found[2]):
        return None
    first, last = found.groups()
    if first and last and int(last) < int(first):
        return None
    start = int(first) if first else max(0, size - int(last))
    stop = min(int(last) + 1, size) if first and last else size
    if start >= stop:
        raise RangeInvalidError(
            f"the range lies outside the {size} bytes", headers={"Content-Range": f"bytes */{size}"}
        )
    return start, stop
