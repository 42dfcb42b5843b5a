"""Who asks, and how that is proven: principals, and the authenticators that turn an `Authorization` header into one.

Nothing here knows HTTP beyond the text of that header. An authenticator belongs to one event loop. Callers ask
`remembered` first, which answers in microseconds for whoever was verified before, and `verify` when it gives nothing:

    principal = authenticator.remembered(header) or await authenticator.verify(header, address)
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import enum
import hmac
import logging
import os
import re
import secrets
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Literal, Protocol, TypeVar

from packregistry.auth import Principal
from packregistry.auth.htpasswd import decoded
from packregistry.errors import TooManyRequestsError, UnauthorizedError
from packregistry.model import shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from packregistry.auth.htpasswd import HtpasswdFile, Users

logger = logging.getLogger(__name__)

HEADER_MAX = 8192
LOOK_SECONDS = 1.0  # how often the users file is looked at
REMEMBERED_MAX = 4096
REMEMBERED_SECONDS = 300.0
REFUSED_SECONDS = 5.0
WAITING_MAX = 64

_ADDRESS = re.compile(r"[0-9A-Za-z.:%_-]+", re.ASCII)

V = TypeVar("V")


class BasicAuthenticator:
    """HTTP Basic against an htpasswd file.

    A password is hashed once: what came of it is remembered under an HMAC (with a key of this process) of the stored
    hash, the user and the password. A user who is removed or whose hash changes is therefore forgotten by
    construction, and passwords are not kept. Hashing runs in `workers` threads; whoever is remembered never waits for
    them. Changes of the file are noticed `LOOK_SECONDS` after the last look.

    Args:
        file: the users; either loaded, or `refresh` must be awaited once, which raises `UsersFileError`.
        realm: what a browser shows when it asks for the password.
        workers: how many passwords are hashed at a time; the number of cores if not given.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        file: HtpasswdFile,
        realm: str,
        *,
        workers: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.challenge = f"Basic realm={_quoted(realm)}"
        self._file = file
        self._users = file.users
        self._clock = clock
        self._next_look = clock()
        self._stale = False
        self._loading: asyncio.Task[Users] | None = None
        self._key = secrets.token_bytes(32)
        self._good: _Memory[Principal] = _Memory(REMEMBERED_MAX, REMEMBERED_SECONDS, clock)
        self._bad: _Memory[bool] = _Memory(REMEMBERED_MAX, REFUSED_SECONDS, clock)
        self._workers = workers or os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="password")
        self._checks: dict[bytes, asyncio.Future[bool]] = {}

    def remembered(self, authorization: str | None, /) -> Principal | None:
        """Return the principal if these credentials were verified before and the users file has not changed since.

        Looks at the file (one `stat`) if the last look is `LOOK_SECONDS` old.
        """
        self._look()
        if self._stale:
            return None
        credentials = _basic(authorization)
        return self._good.get(self._identity(*credentials)) if credentials else None

    async def verify(self, authorization: str | None, address: str, /) -> Principal:
        """Return the principal; rereads the users file first if it has changed.

        Raises `UnauthorizedError`, after a line in the log unless there were no credentials at all, and
        `TooManyRequestsError` if more than `WAITING_MAX` passwords wait to be hashed.
        """
        if authorization is None:
            raise self._unauthorized("credentials are required", "send a user name and password")
        self._look()
        if self._stale:
            await self.refresh()
        credentials = _basic(authorization)
        if credentials is None:
            _log_failure(b"", address, "malformed-header")
            raise self._unauthorized("the Authorization header cannot be read", "send Basic base64(user:password)")
        user, password = credentials
        identity = self._identity(user, password)
        principal = self._good.get(identity)
        if principal is None and not self._bad.get(identity) and await self._check(identity, user, password):
            principal = Principal(decoded(user), "basic")
        if principal is None:
            _log_failure(user, address, "unknown-user" if self._users.stored(user) is None else "wrong-password")
            raise self._unauthorized("the user name or the password is wrong", "check both")
        return principal

    async def refresh(self) -> None:
        """Read the users file in a thread; concurrent calls share one reading.

        A file that cannot be used leaves the users as they are; raises `UsersFileError` if there have never been any.
        """
        if self._loading is None:
            self._loading = asyncio.create_task(asyncio.to_thread(self._file.load))
            self._loading.add_done_callback(self._loaded)
        # Shielded here and below: others wait for the same result.
        await asyncio.shield(self._loading)

    def close(self) -> None:
        """Let the hashing threads go; checks that have not begun are cancelled."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _look(self) -> None:
        now = self._clock()
        if now >= self._next_look:
            self._next_look = now + LOOK_SECONDS
            self._stale = self._stale or self._file.changed()

    def _loaded(self, task: asyncio.Task[Users]) -> None:
        self._loading = None
        if not task.cancelled() and task.exception() is None:
            self._users = task.result()
            self._stale = False

    def _identity(self, user: bytes, password: bytes) -> bytes:
        """Return what stands for these credentials; another one when the stored hash of the user changes."""
        stored = self._users.stored(user) or b""
        return hmac.digest(self._key, b"\0".join((stored, user, password)), "sha256")

    async def _check(self, identity: bytes, user: bytes, password: bytes) -> bool:
        check = self._checks.get(identity)
        if check is None:
            if len(self._checks) >= self._workers + WAITING_MAX:
                raise TooManyRequestsError(
                    "too many passwords are being checked", remedy="try again", headers={"Retry-After": "1"}
                )
            loop = asyncio.get_running_loop()
            check = loop.run_in_executor(self._pool, self._users.verify, user, password)
            self._checks[identity] = check
            principal = Principal(decoded(user), "basic")
            check.add_done_callback(lambda done: self._checked(identity, principal, done))
        return await asyncio.shield(check)

    def _checked(self, identity: bytes, principal: Principal, check: asyncio.Future[bool]) -> None:
        del self._checks[identity]
        if check.cancelled() or check.exception() is not None:
            return  # those who wait get it
        if check.result():
            self._good.put(identity, principal)
        else:
            self._bad.put(identity, True)

    def _unauthorized(self, message: str, remedy: str) -> UnauthorizedError:
        return UnauthorizedError(message, remedy=remedy, headers={"WWW-Authenticate": self.challenge})


class _Memory(Generic[V]):
    """At most `size` values; the one asked for longest ago goes first, and each goes `ttl` seconds after its last use.

    Using a value may extend its life because it is true for ever: its key holds all that it depends on.
    """

    def __init__(self, size: int, ttl: float, clock: Callable[[], float]) -> None:
        self._size = size
        self._ttl = ttl
        self._clock = clock
        self._entries: OrderedDict[bytes, tuple[float, V]] = OrderedDict()

    def get(self, key: bytes) -> V | None:
        entry = self._entries.pop(key, None)
        if entry is None or entry[0] <= self._clock():
            return None
        self.put(key, entry[1])
        return entry[1]

    def put(self, key: bytes, value: V) -> None:
        self._entries[key] = (self._clock() + self._ttl, value)
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)


def _basic(authorization: str | None) -> tuple[bytes, bytes] | None:
    """Return user and password of a Basic header (RFC 7617), or nothing if it is not exactly one."""
    if authorization is None or len(authorization) > HEADER_MAX or not authorization.isascii():
        return None
    scheme, _, token = authorization.strip(" \t").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(token.strip(" "), validate=True).partition(b":")
    except binascii.Error:
        return None
    return (user, password) if colon else None


def _quoted(text: str) -> str:
    """Return `text` as an HTTP quoted-string, with '?' for what may not stand in one."""
    safe = "".join(char if " " <= char <= "~" else "?" for char in text)
    return '"' + safe.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _log_failure(user: bytes, address: str, reason: str) -> None:
    """Write the line that fail2ban and its like look for; nothing a client sends can end or imitate its fields."""
    where = address if _ADDRESS.fullmatch(address) else shown(address)
    logger.warning("authentication failed user=%s address=%s reason=%s", shown(decoded(user)), where, reason)
