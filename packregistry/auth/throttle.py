"""Who has failed too often: the more failures from one address as one user, the longer the wait for the next attempt.

The tenth failure brings a wait of a second, and each one after it doubles that up to a minute. Another address, and
another user from the same one, are not affected. All of it is forgotten after 15 minutes without a failure, or with the
first success. What is kept is bounded, whatever is sent, and holds no names.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from typing import NamedTuple

from packregistry.auth.memory import Memory, Seal

FAILURES_MAX = 10
FORGET_SECONDS = 900.0
PAIRS_MAX = 10_000
WAIT_MAX = 60.0


class Pair(NamedTuple):
    """An address and whom it claims to be; `subject` stands for the latter alone."""

    key: bytes
    subject: bytes


class _Record:
    """What is known of a pair: how often it has failed, and when the next attempt may be made."""

    __slots__ = ("failures", "until")

    def __init__(self) -> None:
        self.failures = 0
        self.until = 0.0


class Throttle:
    """Counts failures by pair; belongs to one event loop.

    Ask `wait` before an attempt, and where that is 0 call `begin`, then `failed` or `succeeded`:

        if not throttle.wait(pair):
            throttle.begin(pair)
            (throttle.succeeded if is_right() else throttle.failed)(pair)
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, size: int = PAIRS_MAX) -> None:
        self._clock = clock
        self._seal = Seal()
        self._records: Memory[_Record] = Memory(size, FORGET_SECONDS, clock)
        self._contested: Memory[float] = Memory(size, WAIT_MAX, clock)
        self.calm_from = 0.0  # the clock's time from which on nobody is contested

    def pair(self, network: str, subject: bytes) -> Pair:
        """Return what stands for an address (`network_of` one) and a user."""
        sealed = self._seal(subject)
        return Pair(self._seal(sealed + network.encode("utf-8", "surrogatepass")), sealed)

    def wait(self, pair: Pair) -> float:
        """Seconds until the pair may try again, 0 if it may now."""
        record = self._records.get(pair.key)
        return 0.0 if record is None else max(0.0, record.until - self._clock())

    def is_contested(self, subject: bytes) -> bool:
        """Whether some pair of this user has to wait now: somebody may be guessing, and knows how good a guess was."""
        until = self._contested.get(subject)
        return until is not None and until > self._clock()

    def begin(self, pair: Pair) -> None:
        """An attempt is about to be looked at.

        After too many failures it is counted as one before it is known, so that only one can be under way at a time.
        """
        record = self._records.get(pair.key)
        if record is not None and record.failures >= FAILURES_MAX:
            record.failures += 1
            self._block(pair, record)

    def failed(self, pair: Pair) -> None:
        """An attempt has failed. Those that began before there was a wait, and end in it, do not extend it."""
        record = self._records.get(pair.key)
        if record is None:
            record = _Record()
            self._records.put(pair.key, record)
        if record.failures < FAILURES_MAX:
            record.failures += 1
            if record.failures == FAILURES_MAX:
                self._block(pair, record)

    def succeeded(self, pair: Pair) -> None:
        """An attempt has succeeded: there were no failures."""
        self._records.drop(pair.key)

    def _block(self, pair: Pair, record: _Record) -> None:
        record.until = self._clock() + min(WAIT_MAX, 2.0 ** min(record.failures - FAILURES_MAX, 6))
        self.calm_from = max(self.calm_from, record.until)
        # Another pair of the same user may have to wait longer.
        self._contested.put(pair.subject, max(record.until, self._contested.get(pair.subject) or 0.0))


def network_of(address: str) -> str:
    """Return what counts as one client: an IPv4 address, or the /64 of an IPv6 one, which its holder can roam in."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return f"{ipaddress.IPv6Address(int(parsed) >> 64 << 64)}/64"
