"""How many files a process may have open, of which each connection is one."""

from __future__ import annotations

import logging
import resource
from typing import Final

_log = logging.getLogger(__name__)

EACH: Final = 3
"""What a download has open: its connection, a duplicate of that, and the file."""

OTHERS: Final = 128
"""What a process has open besides."""


def allow_connections(count: int) -> None:
    """Raise the limit of open files of this process as far as `count` connections need; warn where it is too low."""
    needed = EACH * count + OTHERS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    except (OSError, ValueError):  # the system may have a limit of its own
        allowed = soft
    if allowed < needed:
        _log.warning(
            "at most %d files can be open, and http.maxconnections: %d may need %d: raise the limit "
            "(`ulimit -n`, `nofile`, LimitNOFILE=), or set http.maxconnections to %d",
            allowed,
            count,
            needed,
            max(1, (allowed - OTHERS) // EACH),
        )
