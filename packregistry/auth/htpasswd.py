"""Users from an Apache htpasswd file: read line by line, checked in constant work, reread when the file changes.

Accepted hashes are bcrypt (`$2a$`, `$2b$`, `$2y$`) and, for files that grew over the years, `$apr1$`, `{SHA}`, `$5$`
and `$6$`; never plain text or DES crypt. User names are bytes, as they are in the file and in the HTTP header.

All of it is synchronous, and but for `HtpasswdFile.changed` too slow for an event loop: call it in a thread.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import re
import secrets
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from passlib.hash import (  # type: ignore[import-untyped]  # libpass ships neither stubs nor a py.typed marker
    apr_md5_crypt,
    bcrypt,
    ldap_sha1,
    sha256_crypt,
    sha512_crypt,
)

from packregistry.model import shown
from packregistry.reload import ReloadError, fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

logger = logging.getLogger(__name__)

USER_MAX = 255
PASSWORD_MAX = 4096
BCRYPT_PASSWORD_MAX = 72  # bytes; what follows them changes nothing
COST_LOW, COST_HIGH = 8, 12
COST_UNKNOWN = 10  # the work spent on unknown users when no user has a bcrypt hash
BOM = b"\xef\xbb\xbf"

_BCRYPT_ALPHABET = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_LINES_LOGGED = 20
_NAMES_LOGGED = 10


@dataclass(frozen=True, slots=True)
class _Scheme:
    """A kind of hash: a line belongs to it by `prefixes`, and is intact if `pattern` matches all of it."""

    name: str
    prefixes: tuple[bytes, ...]
    pattern: re.Pattern[bytes]
    handler: Any


# The patterns are stricter than libpass, which raises, or warns and repairs, only when a password is checked. The last
# characters of bcrypt's salt and checksum hold unused bits that every implementation writes as zero. Costs end where
# Apache's htpasswd ends (17, about 13 s); rounds where one check takes half a second.
_CRYPT = rb"[./0-9A-Za-z]"
_ROUNDS = rb"(?:rounds=[1-9][0-9]{3,5}\$)?"
_BCRYPT = _Scheme(
    "bcrypt",
    (b"$2a$", b"$2b$", b"$2y$"),
    re.compile(rb"\$2[aby]\$(0[4-9]|1[0-7])\$" + _CRYPT + rb"{21}[.Oeu]" + _CRYPT + rb"{30}[.CGKOSWaeimquy26]"),
    bcrypt,
)
_SCHEMES = (
    _BCRYPT,
    _Scheme("$apr1$", (b"$apr1$",), re.compile(rb"\$apr1\$" + _CRYPT + rb"{1,8}\$" + _CRYPT + rb"{22}"), apr_md5_crypt),
    _Scheme("{SHA}", (b"{SHA}",), re.compile(rb"\{SHA\}[A-Za-z0-9+/]{27}="), ldap_sha1),
    _Scheme(
        "$5$",
        (b"$5$",),
        re.compile(rb"\$5\$" + _ROUNDS + _CRYPT + rb"{1,16}\$" + _CRYPT + rb"{43}"),
        sha256_crypt,
    ),
    _Scheme(
        "$6$",
        (b"$6$",),
        re.compile(rb"\$6\$" + _ROUNDS + _CRYPT + rb"{1,16}\$" + _CRYPT + rb"{86}"),
        sha512_crypt,
    ),
)


class UsersFileError(ReloadError):
    """The users file cannot be used; `str()` names the path, what is wrong with it, and what to do."""

    @classmethod
    def unusable(cls, path: Path, why: str) -> Self:
        """Nobody can sign in with the file."""
        make_one = f"packregistry user add admin --file {shlex.quote(str(path))}"
        return cls(f"users file {path} {why}: make one with `{make_one}`")

    @classmethod
    def unreadable(cls, path: Path, error: OSError) -> Self:
        """The file cannot be read."""
        if isinstance(error, PermissionError):
            return cls(f"users file {path} cannot be read ({error.strerror}): let uid {os.geteuid()} read it")
        return cls.unusable(path, f"cannot be read ({error.strerror})")


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line of the file that was left out: `line` counts from 1, `reason` holds nothing of the line itself."""

    line: int
    reason: str

    def __str__(self) -> str:
        return f"line {self.line} {self.reason}"


class Kind(NamedTuple):
    """How a user's password is hashed: `cost` is bcrypt's, 0 for other kinds; `concern` is empty if all is well."""

    name: str
    cost: int
    concern: str


@dataclass(frozen=True, slots=True)
class _Stored:
    """An intact hash; `cost` is bcrypt's, 0 for the other schemes."""

    text: bytes = dataclasses.field(repr=False)
    scheme: _Scheme
    cost: int

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """Return the hash `text` is. Raises `ValueError` that says why it is none."""
        for scheme in _SCHEMES:
            if text.startswith(scheme.prefixes):
                match = scheme.pattern.fullmatch(text)
                if match is None:
                    raise ValueError(f"has a damaged {scheme.name} hash, or one of a cost that is not accepted")
                return cls(text, scheme, int(match[1]) if scheme is _BCRYPT else 0)
        raise ValueError("has no hash of an accepted kind: make it with `packregistry user passwd`")

    @classmethod
    def unmatched(cls, cost: int) -> Self:
        """Return a bcrypt hash nobody knows a password for; it takes a check to find out, and none to make."""
        salt, checksum = ("".join(secrets.choice(_BCRYPT_ALPHABET) for _ in range(size)) for size in (21, 30))
        return cls(f"$2b${cost:02}${salt}.{checksum}.".encode(), _BCRYPT, cost)

    def matches(self, password: bytes) -> bool:
        """Say whether `password` (not empty, no NUL, at most `PASSWORD_MAX` bytes) is the one that was hashed."""
        if self.scheme is _BCRYPT:
            # As Apache and Go's servers do; the bcrypt package raises instead.
            password = password[:BCRYPT_PASSWORD_MAX]
        return bool(self.scheme.handler.verify(password, self.text.decode("ascii")))

    @property
    def concern(self) -> str:
        """What an operator should know about this hash, or an empty string."""
        if self.scheme is not _BCRYPT:
            return f"{self.scheme.name} hashes are weak"
        if self.cost < COST_LOW:
            return f"bcrypt cost {self.cost} is quick to guess"
        if self.cost > COST_HIGH:
            return f"bcrypt cost {self.cost} makes every first request slow, and every wrong password"
        return ""


class Users:
    """The users of one reading of the file; never changes.

    `verify` does the same bcrypt work for every wrong answer, whether the user exists or not and whatever their own
    cost: that of the highest cost in the file.
    """

    __slots__ = ("_entries", "_unmatched", "highest")

    def __init__(self, entries: Mapping[bytes, _Stored]) -> None:
        self._entries = dict(entries)
        costs = [stored.cost for stored in self._entries.values() if stored.cost] or [COST_UNKNOWN]
        self.highest = max(costs)
        self._unmatched = {cost: _Stored.unmatched(cost) for cost in range(min(costs), self.highest + 1)}

    @classmethod
    def parse(cls, data: bytes) -> tuple[Users, tuple[BadLine, ...]]:
        """Read the content of an htpasswd file; a bad line disables itself alone. Never raises.

        As in Apache, a line is `user:hash`, what follows a second ':' is ignored, and the first line of a user counts.
        """
        # Makes libpass look for its backend now: the first checks of several threads would race for it.
        bcrypt.get_backend()
        entries: dict[bytes, _Stored] = {}
        lines: dict[str, int] = {}
        problems: list[BadLine] = []
        for number, raw in enumerate(data.removeprefix(BOM).splitlines(), 1):
            line = raw.strip()
            if not line or line.startswith(b"#"):
                continue
            try:
                user, stored = _entry(line)
            except ValueError as error:
                problems.append(BadLine(number, str(error)))
                continue
            # Users whose names read alike are one: permissions are granted to names as they read.
            first = lines.setdefault(decoded(user), number)
            if first == number:
                entries[user] = stored
            else:
                problems.append(BadLine(number, f"repeats the user of line {first}, which counts"))
        return cls(entries), tuple(problems)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._entries)

    def stored(self, user: bytes) -> bytes | None:
        """Return the stored hash of `user`; a credential that was verified against another one is void."""
        entry = self._entries.get(user)
        return None if entry is None else entry.text

    def kind(self, user: bytes) -> Kind:
        """Return how the password of `user`, who is one of these, is hashed."""
        entry = self._entries[user]
        return Kind(entry.scheme.name, entry.cost, entry.concern)

    def verify(self, user: bytes, password: bytes) -> bool:
        """Say whether `password` is the one of `user`; never raises. Takes up to seconds (bcrypt's purpose)."""
        if not password or b"\0" in password or len(password) > PASSWORD_MAX:
            return False
        stored = self._entries.get(user)
        if stored is not None and stored.matches(password):
            return True
        # 2^c of a user's own cost + 2^c + ... + 2^(highest-1) is 2^highest, the work for an unknown user.
        costs = range(stored.cost, self.highest) if stored is not None and stored.cost else (self.highest,)
        for cost in costs:
            self._unmatched[cost].matches(password)
        return False

    def concerns(self) -> tuple[str, ...]:
        """What an operator should know: one sentence for each unusual kind of hash, naming the users."""
        names: dict[str, list[str]] = {}
        for user, stored in self._entries.items():
            if stored.concern:
                names.setdefault(stored.concern, []).append(shown(decoded(user)))
        return tuple(
            f"{concern}: change the password of {_some(names[concern], _NAMES_LOGGED)} with `packregistry user passwd`"
            for concern in sorted(names)
        )


def decoded(user: bytes) -> str:
    """Return the name of `user` as text: UTF-8, or else Latin-1, as browsers of different ages send it."""
    try:
        return user.decode()
    except UnicodeDecodeError:
        return user.decode("latin-1")


def hashed(password: bytes, cost: int) -> bytes:
    """Hash a password (1 to `BCRYPT_PASSWORD_MAX` bytes, no NUL) with bcrypt, as Apache writes it (`$2y$`).

    Takes about 70 ms at a `cost` of 10, and twice as long for each one more.
    """
    return str(bcrypt.using(rounds=cost, ident="2y").hash(password)).encode("ascii")


def _entry(line: bytes) -> tuple[bytes, _Stored]:
    if b"\0" in line:
        raise ValueError("has a NUL byte: save the file as UTF-8 text")
    user, colon, rest = line.partition(b":")
    if not colon:
        raise ValueError("has no ':' between user and hash")
    if not user:
        raise ValueError("has no user before the ':'")
    if len(user) > USER_MAX:
        raise ValueError(f"has a user of more than {USER_MAX} bytes")
    return user, _Stored.parse(rest.partition(b":")[0])


def _some(names: Sequence[str], limit: int) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


class HtpasswdFile:
    """An htpasswd file that may change at any time, in place, by rename or through a symbolic link.

    Whatever happens to the file, `users` are those of the last reading that had any. Calls of `load` must not overlap.
    """

    what: Final = "users"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.users = Users({})
        self._seen: tuple[int, ...] = ()
        self._reported: tuple[int, ...] = ()

    def load(self) -> None:
        """Read the file, and put its users in force.

        Bad lines, and what an operator should know of good ones, are logged once per state of the file. Raises
        `UsersFileError` if the file cannot be read or has no user that can sign in.
        """
        # Before reading, so that a change while reading is seen as one afterwards.
        seen = fingerprint(self.path)
        try:
            data = self.path.read_bytes()
        except OSError as error:
            # A file that is there may become readable without looking any different: try again at every look.
            self._seen = seen if len(seen) == 1 else ()
            raise UsersFileError.unreadable(self.path, error) from error
        self._seen = seen
        users, problems = Users.parse(data)
        if not users:
            why = f"has no user that can sign in ({problems[0]})" if problems else "has no user"
            raise UsersFileError.unusable(self.path, why)
        if seen != self._reported:
            self._report(users, problems)
        self._reported = seen
        self.users = users

    def changed(self) -> bool:
        """Say whether the file is another than the one last loaded; costs one `stat`."""
        return self.state() != self._seen

    def state(self) -> tuple[int, ...]:
        """What it looks like from outside."""
        return fingerprint(self.path)

    def _report(self, users: Users, problems: Sequence[BadLine]) -> None:
        for problem in problems[:_LINES_LOGGED]:
            logger.warning("users file %s: %s; the line is left out", self.path, problem)
        if len(problems) > _LINES_LOGGED:
            logger.warning("users file %s: %d more lines are left out", self.path, len(problems) - _LINES_LOGGED)
        for concern in users.concerns():
            logger.warning("users file %s: %s", self.path, concern)
        logger.info("users file %s: %d users", self.path, len(users))
