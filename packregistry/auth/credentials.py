"""The authenticator: from an `Authorization` header to the principal whose password or token is in it.

A password is looked at by the first of these that applies, and never more than once for the same purpose:

    remembered   a header that was good in the last five minutes, if the user's stored hash is still the same
    throttled    too many failures from this address as this user: not looked at, unless familiar
    refused      the same wrong password as in the last five seconds
    busy         too many wait, of this address or of all: not looked at
    hashed       in a thread; equal credentials share one check

A token takes no hashing. It is remembered too, as long as the file of tokens stays the same: finding one in there costs
more than all else that a small request takes to be let in.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import math
import os
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from packregistry.auth import ANONYMOUS, Method, Principal
from packregistry.auth.failure import log_failure, too_many
from packregistry.auth.header import Given, challenge, parsed
from packregistry.auth.htpasswd import PASSWORD_MAX, HtpasswdFile, Users, decoded
from packregistry.auth.memory import Known, KnownToken, Memory, Recent, Seal
from packregistry.auth.throttle import Pair, Throttle, network_of
from packregistry.auth.tokens import TokenFile, is_whole
from packregistry.errors import TooManyRequestsError, UnauthorizedError
from packregistry.reload import ReloadError, fingerprint

REMEMBERED_MAX = 4096
REMEMBERED_SECONDS = 300.0
RECENT_SECONDS = 1.0
LOOK_SECONDS = 0.02  # between two looks whether another process has changed the tokens
TOKEN_SECONDS = 60.0  # after which a token is looked up again, and its use is noted
FAMILIAR_MAX = 4096
FAMILIAR_SECONDS = 86400.0
FAMILIAR_NOTED_SECONDS = 60.0
REFUSED_MAX = 4096
REFUSED_SECONDS = 5.0
WAITING_MAX = 64
WAITING_PER_ADDRESS = 16
WAITING_OTHERS_MAX = 256
READINGS_MAX = 3  # of a file of tokens that changes all the time, for one request

_ANY_TOKEN = b":token"  # in place of a user; none is called so, as a user name has no colon

_UNREADABLE = ("the Authorization header cannot be read", "send Basic base64(user:password), or Bearer and a token")
_WRONG_PASSWORD = ("the user name or the password is wrong", "check both")
_WRONG_TOKEN = ("the token is not valid", "it may have expired or been revoked: use another")


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A user name and a password from somewhere, on their way to being checked by `users`, whose hash is `stored`.

    `header` stands for the text they came in, `identity` for both and the hash, `familiar` for that and the network.
    """

    given: Given
    principal: Principal
    address: str
    network: str
    pair: Pair
    users: Users
    stored: bytes | None
    header: bytes
    identity: bytes
    familiar: bytes


class CredentialAuthenticator:
    """HTTP Basic against an htpasswd file, and tokens: as Bearer, as a password with any user name, or as a user name.

    A password is hashed once: that it was right is remembered by the header's text, as a keyed digest beside the hash
    that it was checked against. A user who is removed or whose hash changes is therefore forgotten by construction, and
    passwords are not kept. Hashing runs in `workers` threads; whoever is remembered never waits for them.

    Whoever fails too often from an address has to wait (`auth.throttle`). That locks nobody else out: other addresses
    are not affected, nor are credentials that were good from the same address in the last 24 hours. Somebody who
    guesses learns nothing from those: as long as a user is guessed at, what is remembered counts only where the
    address does not have to wait, or is one that the same credentials were good from.

    A password that begins with `masking.TOKEN_PREFIX` is always a token: no user can have such a one.

    Args:
        users: the users, of whom `users.users` are in force at any time; somebody else loads them.
        realm: what a browser shows when it asks for the password.
        tokens: the tokens. A change of their file is seen with the next token that is used, so that one revoked by
            another process is void at once. Its `load` is called in a thread, beside whoever else loads it.
        observe: told the method and what came of it: `remembered`, `verified`, `failed`, `throttled`, `busy`.
        workers: how many passwords are hashed at a time; the number of cores if not given.
        clock: seconds that only grow.
        now: the time, in UTC.
    """

    def __init__(
        self,
        users: HtpasswdFile,
        realm: str,
        *,
        tokens: TokenFile | None = None,
        observe: Callable[[str, str], None] = lambda _method, _result: None,
        workers: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        self.challenge = challenge(realm)
        self._file = users
        self._tokens = tokens
        self._observe = observe
        self._clock = clock
        self._now = now
        self._seal = Seal()
        self._known: Memory[Known] = Memory(REMEMBERED_MAX, REMEMBERED_SECONDS, clock)
        # By themselves: a token comes with as many user names as its holder likes, and pushes no user out.
        self._known_tokens: Memory[KnownToken] = Memory(REMEMBERED_MAX, TOKEN_SECONDS, clock)
        self._recent: dict[bytes, Recent] = {}
        self._familiar: Memory[bool] = Memory(FAMILIAR_MAX, FAMILIAR_SECONDS, clock)
        self._familiar_noted: Memory[bool] = Memory(FAMILIAR_MAX, FAMILIAR_NOTED_SECONDS, clock)
        self._refused: Memory[bool] = Memory(REFUSED_MAX, REFUSED_SECONDS, clock)
        self._throttle = Throttle(clock)
        self._workers = workers or os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="password")
        self._checks: dict[bytes, asyncio.Future[bool]] = {}
        self._waiting: Counter[str] = Counter()
        self._read: tuple[int, ...] = ()
        self._reading: asyncio.Future[tuple[int, ...]] | None = None

    def remembered(self, authorization: str | None, address: str = "", /) -> Principal | None:
        """Return the principal if these credentials are known to be good, and `ANONYMOUS` for none. Never raises.

        A token takes one `stat` of the file of tokens. Somebody at whom others guess has to be asked for by `verify`.
        """
        if authorization is None:
            return ANONYMOUS
        header = self._seal(authorization.encode("utf-8", "surrogatepass"))
        recent = self._recent.get(header)
        if recent is not None:
            now = self._clock()
            if recent.users is self._file.users and self._throttle.calm_from <= now < recent.until:
                self._observe("basic", "remembered")
                return recent.principal
            tokens = self._tokens
            if tokens is not None and recent.tokens is tokens.current and now < recent.until:
                self._observe("token", "remembered")
                return recent.principal
        return self._lookup_any(header, authorization, address)

    async def verify(self, authorization: str | None, address: str, /) -> Principal:
        """Return the principal, `ANONYMOUS` without credentials. Each refusal is a line in the log.

        Raises `UnauthorizedError`, and `TooManyRequestsError` if the client has failed too often, or too many passwords
        wait to be hashed.
        """
        if authorization is None:
            return ANONYMOUS
        given = parsed(authorization)
        if given is None:
            raise self._unauthorized("none", b"", address, "malformed-header", _UNREADABLE)
        if given.secret is not None:
            return await self._token(authorization, given.secret, given.user, address)
        return await self._password(authorization, given, address)

    def holds(self, principal: Principal, /) -> bool:
        """Whether the user still has the hash that they were verified against, or the token is in force."""
        if principal.method == "token":
            token = self._tokens.current.by_hash.get(str(principal.proof)) if self._tokens else None
            return token is not None and token.state(self._now()) == "valid"
        if principal.method != "basic" or not isinstance(principal.proof, tuple):
            return True
        user, stored = principal.proof
        return bool(self._file.users.stored(user) == stored)

    def close(self) -> None:
        """Let the hashing threads go; checks that have not begun are cancelled."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _lookup_any(self, header: bytes, authorization: str, address: str) -> Principal | None:
        # Before looking: what is found is true of these, whatever a thread puts in their place meanwhile.
        users = self._file.users
        known = self._lookup(header)
        if known is None:
            return self._lookup_token(header)
        if self._throttle.is_contested(known.subject):
            return None
        self._keep_familiar(header, authorization, known, network_of(address))
        self._note_recent(header, Recent(known.principal, self._clock() + RECENT_SECONDS, users, None))
        self._observe("basic", "remembered")
        return known.principal

    def _keep_familiar(self, header: bytes, authorization: str, known: Known, network: str) -> None:
        """Let credentials that are used all day stay familiar from where they are used."""
        noted = self._seal(header + _bytes(network))
        if self._familiar_noted.get(noted):
            return
        self._familiar_noted.put(noted, True)
        given = parsed(authorization)
        if given is not None:
            identity = _identity(known.stored, given)
            self._familiar.put(self._seal(self._seal(identity) + _bytes(network)), True)

    def _note_recent(self, header: bytes, recent: Recent) -> None:
        if len(self._recent) >= REMEMBERED_MAX:
            self._recent.clear()
        self._recent[header] = recent

    def _lookup(self, header: bytes) -> Known | None:
        known = self._known.get(header)
        return known if known is not None and self._file.users.stored(known.user) == known.stored else None

    def _lookup_token(self, header: bytes) -> Principal | None:
        known = self._known_tokens.get(header)
        if known is None or self._tokens is None or self._clock() >= known.until:
            return None
        current = self._tokens.current
        if fingerprint(self._tokens.path) != known.file:
            return None
        until = min(known.until, self._clock() + LOOK_SECONDS)
        self._note_recent(header, Recent(known.principal, until, None, current))
        self._observe("token", "remembered")
        return known.principal

    async def _password(self, authorization: str, given: Given, address: str) -> Principal:
        attempt = self._attempt(authorization, given, address)
        if attempt.identity not in self._checks:
            self._hold_back(attempt)
            if self._lookup(attempt.header) is not None:
                self._familiar.put(attempt.familiar, True)
                self._observe("basic", "remembered")
                return attempt.principal
        # Nobody guesses with what cannot be a password, and it costs nothing: to count it would let anybody push what
        # is known of others out of the throttle.
        if not given.password or b"\0" in given.password or len(given.password) > PASSWORD_MAX:
            raise self._wrong(attempt)
        is_right = await self._is_right(attempt)
        if self._file.users.stored(given.user) != attempt.stored:
            return await self.verify(authorization, address)
        if not is_right:
            self._throttle.failed(attempt.pair)
            raise self._wrong(attempt)
        self._throttle.succeeded(attempt.pair)
        self._familiar.put(attempt.familiar, True)
        self._observe("basic", "verified")
        return attempt.principal

    def _attempt(self, authorization: str, given: Given, address: str) -> _Attempt:
        users, network = self._file.users, network_of(address)
        stored = users.stored(given.user)
        identity = self._seal(_identity(stored, given))
        return _Attempt(
            given=given,
            principal=Principal(decoded(given.user), "basic", proof=(given.user, stored)),
            address=address,
            network=network,
            pair=self._throttle.pair(network, given.user),
            users=users,
            stored=stored,
            header=self._sealed(authorization),
            identity=identity,
            familiar=self._seal(identity + _bytes(network)),
        )

    def _hold_back(self, attempt: _Attempt) -> None:
        wait = self._throttle.wait(attempt.pair)
        if wait and not self._familiar.get(attempt.familiar):
            raise self._throttled("basic", attempt.given.user, attempt.address, wait)

    async def _is_right(self, attempt: _Attempt) -> bool:
        check = self._checks.get(attempt.identity)
        if check is None:
            is_refused = self._refused.get(attempt.identity)
            if not is_refused:
                self._make_sure_of_room(attempt)
            self._throttle.begin(attempt.pair)
            if is_refused:
                return False
            check = self._begin(attempt)
        # Shielded, because others wait for the same check.
        return await asyncio.shield(check)

    def _make_sure_of_room(self, attempt: _Attempt) -> None:
        waiting = self._waiting.get(attempt.network, 0)
        if len(self._checks) < self._workers + WAITING_MAX and waiting < WAITING_PER_ADDRESS:
            return
        # A flood from a few addresses leaves a place for each of the others, and for whoever was here before.
        if (not waiting and len(self._checks) < WAITING_OTHERS_MAX) or self._familiar.get(attempt.familiar):
            return
        self._note("basic", "busy", attempt.given.user, attempt.address, "busy")
        raise too_many("too many passwords are being checked", 1)

    def _begin(self, attempt: _Attempt) -> asyncio.Future[bool]:
        given = attempt.given
        check = asyncio.get_running_loop().run_in_executor(self._pool, attempt.users.verify, given.user, given.password)
        self._checks[attempt.identity] = check
        self._waiting[attempt.network] += 1
        check.add_done_callback(lambda done: self._ended(attempt, done))
        return check

    def _ended(self, attempt: _Attempt, check: asyncio.Future[bool]) -> None:
        del self._checks[attempt.identity]
        self._waiting[attempt.network] -= 1
        if not self._waiting[attempt.network]:
            del self._waiting[attempt.network]
        if check.cancelled() or check.exception() is not None:
            return  # those who wait get it
        if check.result():
            known = Known(attempt.given.user, attempt.stored or b"", attempt.pair.subject, attempt.principal)
            self._known.put(attempt.header, known)
        else:
            self._refused.put(attempt.identity, True)

    async def _token(self, authorization: str, secret: str, user: bytes, address: str) -> Principal:
        state = "unknown" if is_whole(secret) else "mistyped"
        if self._tokens is not None:
            file = await self._reread(self._tokens)
            token, now = self._tokens.find(secret), self._now()
            if token is not None:
                state, user = token.state(now), token.principal.name.encode()
                if state == "valid":
                    left = TOKEN_SECONDS if token.expires is None else (token.expires - now).total_seconds()
                    until = self._clock() + min(left, TOKEN_SECONDS)
                    self._known_tokens.put(self._sealed(authorization), KnownToken(token.principal, file, until))
                    self._tokens.note_use(token, now)
                    self._observe("token", "verified")
                    return token.principal
        pair = self._throttle.pair(network_of(address), _ANY_TOKEN)
        wait = self._throttle.wait(pair)
        if wait:
            raise self._throttled("token", user, address, wait)
        self._throttle.begin(pair)
        self._throttle.failed(pair)
        raise self._unauthorized("token", user, address, f"{state}-token", _WRONG_TOKEN)

    async def _reread(self, tokens: TokenFile) -> tuple[int, ...]:
        """Read the file until the tokens are those in it; return what it looked like then, `()` if that cannot be.

        Those who ask at the same time share a reading.
        """
        # Not by `tokens.changed`, which may say no to us while somebody else's thread still reads.
        for _ in range(READINGS_MAX):
            if fingerprint(tokens.path) == self._read:
                return self._read
            if self._reading is None:
                self._reading = asyncio.get_running_loop().run_in_executor(None, _load, tokens)
                self._reading.add_done_callback(self._has_read)
            if not await asyncio.shield(self._reading):
                break
        return ()

    def _has_read(self, reading: asyncio.Future[tuple[int, ...]]) -> None:
        self._reading = None
        if not reading.cancelled() and reading.exception() is None:
            self._read = reading.result()

    def _wrong(self, attempt: _Attempt) -> UnauthorizedError:
        reason = "unknown-user" if attempt.stored is None else "wrong-password"
        return self._unauthorized("basic", attempt.given.user, attempt.address, reason, _WRONG_PASSWORD)

    def _unauthorized(
        self, method: Method, user: bytes, address: str, reason: str, text: tuple[str, str]
    ) -> UnauthorizedError:
        self._note(method, "failed", user, address, reason)
        return UnauthorizedError(text[0], remedy=text[1], headers={"WWW-Authenticate": self.challenge})

    def _throttled(self, method: Method, user: bytes, address: str, wait: float) -> TooManyRequestsError:
        self._note(method, "throttled", user, address, "throttled")
        return too_many("there were too many failed attempts", math.ceil(wait))

    def _note(self, method: Method, result: str, user: bytes, address: str, reason: str) -> None:
        log_failure(user, address, reason)
        self._observe(method, result)

    def _sealed(self, text: str) -> bytes:
        return self._seal(_bytes(text))


def _load(tokens: TokenFile) -> tuple[int, ...]:
    """Return what the file looked like, or `()` if it cannot be used, which whoever looks after it reports."""
    file = fingerprint(tokens.path)
    try:
        tokens.load()
    except ReloadError:
        return ()
    return file


def _identity(stored: bytes | None, given: Given) -> bytes:
    # A hash has no NUL and a user name no colon, so that no two identities are written the same.
    return b"%b\0%b:%b" % (stored or b"", given.user, given.password)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
