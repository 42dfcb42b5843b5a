"""A bounded memory of what was found out, and the keys that stand for secrets in one."""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from packregistry.auth import Principal
from packregistry.auth.htpasswd import Users

V = TypeVar("V")


class Memory(Generic[V]):
    """At most `size` values; the one used longest ago goes first, and each goes `ttl` seconds after its last use.

    That a value lives on while it is used is safe where it is true for ever: where its key holds all that it depends
    on, or whoever gets it compares the rest.
    """

    __slots__ = ("_clock", "_entries", "_size", "_ttl")

    def __init__(self, size: int, ttl: float, clock: Callable[[], float]) -> None:
        self._size = size
        self._ttl = ttl
        self._clock = clock
        self._entries: OrderedDict[bytes, tuple[float, V]] = OrderedDict()

    def get(self, key: bytes) -> V | None:
        """Return the value, which is used thereby."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        now = self._clock()
        if entry[0] <= now:
            del self._entries[key]
            return None
        self._entries[key] = (now + self._ttl, entry[1])
        self._entries.move_to_end(key)
        return entry[1]

    def put(self, key: bytes, value: V) -> None:
        """Keep the value, in place of another of this key."""
        self._entries[key] = (self._clock() + self._ttl, value)
        self._entries.move_to_end(key)
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)

    def drop(self, key: bytes) -> None:
        """Forget the value, if there is one."""
        self._entries.pop(key, None)

    def __len__(self) -> int:
        return len(self._entries)


class Known(NamedTuple):
    """Credentials that were good against the hash `stored` of `user`; `subject` stands for the user in the throttle."""

    user: bytes
    stored: bytes
    subject: bytes
    principal: Principal


class KnownToken(NamedTuple):
    """A token that is valid until the clock says `until`, if its file still looks as it did."""

    principal: Principal
    file: tuple[int, ...]
    until: float


class Recent(NamedTuple):
    """Credentials that were asked for a moment ago and are good until the clock says `until`, if all is as it was.

    That is: `users` are still those in force, or for a token `tokens` are. Looking all of it up anew for each of
    thousands of requests a second would cost each of them twentieths of its time.
    """

    principal: Principal
    until: float
    users: Users | None
    tokens: object


class Seal:
    """Turns bytes into 16 that stand for them under a key of this process, which tell nothing of them without it."""

    __slots__ = ("_keyed",)

    def __init__(self) -> None:
        self._keyed = hashlib.blake2b(key=secrets.token_bytes(32), digest_size=16)

    def __call__(self, data: bytes) -> bytes:
        """Return what stands for `data`."""
        # A copy has the key in it already, which takes two thirds of the time that a new one does.
        keyed = self._keyed.copy()
        keyed.update(data)
        return keyed.digest()
