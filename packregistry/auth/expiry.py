"""When a token expires, as people write it."""

from __future__ import annotations

import datetime as dt
import re
from typing import Final

from packregistry.errors import ParameterInvalidError
from packregistry.model import shown

EXPIRY: Final = "90d"
"""What is taken where nobody says more."""

_SPAN = re.compile(r"([1-9][0-9]{0,5})([hdw])", re.ASCII)
_HOURS = {"h": 1, "d": 24, "w": 168}


def expiry(text: str, now: dt.datetime) -> dt.datetime | None:
    """When a token expires: after a span such as `90d` or `24h`, at a time, as a day begins, or `never`.

    A day, and a time without a zone, is one of UTC. Raises `ParameterInvalidError`.
    """
    if text == "never":
        return None
    try:
        if found := _SPAN.fullmatch(text):
            return now + dt.timedelta(hours=int(found[1]) * _HOURS[found[2]])
        time = dt.datetime.fromisoformat(text)
        return time.astimezone(dt.UTC) if time.tzinfo else time.replace(tzinfo=dt.UTC)
    except (ValueError, OverflowError):
        raise ParameterInvalidError(
            f"{shown(text)} is not when a token could expire",
            remedy="use a span such as 90d or 24h, a date such as 2027-01-31, a time, or never",
        ) from None
