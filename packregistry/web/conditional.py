"""Conditional and range requests (RFC 9110, sections 13 and 14), as pure functions of header values."""

from __future__ import annotations

import re

from packregistry.errors import RangeInvalidError

_RANGE = re.compile(r"bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*", re.ASCII | re.IGNORECASE)
_ETAG = re.compile(r'\s*(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")\s*(?:,|$)')
_DIGITS_MAX = 19


def matches(header: str, etag: str) -> bool:
    """Whether `If-None-Match: header` names `etag`, which includes its quotes. The comparison is the weak one."""
    if header.strip() == "*":
        return True
    position = 0
    while found := _ETAG.match(header, position):
        if found[1] == etag:
            return True
        position = found.end()
        if position == len(header):
            break
    return False


def byte_range(header: str | None, condition: str | None, etag: str, size: int) -> tuple[int, int] | None:
    """The bytes `[start, stop)` that `Range: header` asks for, or `None` for all of them.

    `condition` is the `If-Range` header: with anything but exactly the current `etag` the whole is sent, because the
    client's part is of something else. A range that is malformed, in other units, or one of several is no range, as
    the standard allows. Raises `RangeInvalidError` where it lies outside the `size` bytes.
    """
    if header is None or (condition is not None and condition.strip() != etag):
        return None
    found = _RANGE.fullmatch(header.strip())
    if found is None or not (found[1] or found[2]):
        return None
    if len(found[1]) > _DIGITS_MAX or len(found[2]) > _DIGITS_MAX:
        return None
    if not found[1]:
        start, stop = max(0, size - int(found[2])), size
    else:
        start = int(found[1])
        stop = min(int(found[2]) + 1, size) if found[2] else size
        if found[2] and int(found[2]) < start:
            return None
    if start >= stop:
        raise RangeInvalidError(
            f"the range lies outside the {size} bytes", headers={"Content-Range": f"bytes */{size}"}
        )
    return start, stop
