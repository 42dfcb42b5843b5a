"""What is said of those who cannot sign in: the line in the log that fail2ban looks for, and to wait."""

from __future__ import annotations

import logging
import re

from packregistry.auth.htpasswd import decoded
from packregistry.errors import TooManyRequestsError
from packregistry.masking import masked
from packregistry.model import shown

# What reads these lines knows this name, whichever module they come from.
_log = logging.getLogger("packregistry.auth")
_ADDRESS = re.compile(r"[0-9A-Za-z.:%_-]+", re.ASCII)


def log_failure(user: bytes, address: str, reason: str) -> None:
    """Write that somebody could not sign in; nothing a client sends can end or imitate the fields."""
    name = shown(masked(decoded(user)))
    where = address if _ADDRESS.fullmatch(address) else shown(address)
    _log.warning("authentication failed user=%s address=%s reason=%s", name, where, reason)


def too_many(message: str, seconds: int) -> TooManyRequestsError:
    """The refusal of an attempt that is not even looked at."""
    return TooManyRequestsError(message, remedy=f"try again in {seconds} s", headers={"Retry-After": str(seconds)})
