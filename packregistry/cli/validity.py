"""When certificates begin and end, which nothing in Python's library says of a server's own."""

from __future__ import annotations

import binascii
import datetime as dt
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

# How long before its end a certificate is warned about.
SOON: Final = dt.timedelta(days=14)

_PEM = re.compile(rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----(.*?)-----END", re.DOTALL)
_SEQUENCE, _UTC_TIME, _VERSION = 0x30, 0x17, 0xA0


@dataclass(frozen=True, slots=True)
class Validity:
    """The time in which a certificate is good, both ends in UTC."""

    begin: dt.datetime
    end: dt.datetime

    def problem(self, now: dt.datetime) -> str:
        """Why the certificate is no good at a time, and what to do; empty if it is good."""
        if now > self.end:
            return f"has expired on {self.end:%Y-%m-%d %H:%M} UTC: renew it"
        if now < self.begin:
            return f"is not valid before {self.begin:%Y-%m-%d %H:%M} UTC: check the clock, or use another"
        return ""

    def concern(self, now: dt.datetime) -> str:
        """What to know of a certificate that is good at a time: that it will soon not be."""
        return f"expires on {self.end:%Y-%m-%d %H:%M} UTC: renew it" if now + SOON > self.end else ""


def validities(pem: bytes) -> list[Validity]:
    """The time of each certificate in a PEM file, in their order. What cannot be read as one is left out."""
    return list(_validities(pem))


def _validities(pem: bytes) -> Iterator[Validity]:
    for block in _PEM.finditer(pem):
        try:
            yield _validity(binascii.a2b_base64(block[1]))
        except (ValueError, IndexError):
            continue


def _validity(certificate: bytes) -> Validity:
    """RFC 5280, 4.1: the fourth element of the signed part, or the fifth where the version is given."""
    (_, whole), *_ = _elements(certificate)
    (_, signed), *_ = _elements(whole)
    parts = list(_elements(signed))
    tag, times = parts[4 if parts[0][0] == _VERSION else 3]
    if tag != _SEQUENCE:
        raise ValueError("no validity where it should be")
    begin, end = (_time(*element) for element in _elements(times))
    return Validity(begin, end)


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The elements of a DER sequence: tag and content."""
    index = 0
    while index < len(data):
        tag, length, index = data[index], data[index + 1], index + 2
        if length >= 0x80:
            count = length - 0x80
            length, index = int.from_bytes(data[index : index + count], "big"), index + count
        yield tag, data[index : index + length]
        index += length


def _time(tag: int, content: bytes) -> dt.datetime:
    text = content.decode("ascii")
    if tag == _UTC_TIME:
        # RFC 5280, 4.1.2.5.1: two digits of the year mean 1950 to 2049.
        text = ("19" if int(text[:2]) >= 50 else "20") + text
    return dt.datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=dt.UTC)
