"""Tokens: made, found by what a client sends, revoked; in a JSON file that several processes read and write.

    {"format": 1, "tokens": [{"name": "ci", "owner": "ann", "role": "publisher", "packs": ["nginx-*"],
     "created": "2026-01-31T12:00:00Z", "expires": "2026-05-01T12:00:00Z", "revoked": null, "sha256": "…"}]}

A token is `pkr_`, 43 random letters and digits, and 6 more that check the others, so that one that was mistyped can be
told from one that was revoked. Its SHA-256 is stored; a slow hash would not help, as nobody guesses 256 bits.

When a token was last used is kept in a file beside the packs, since the tokens' own may be mounted read-only. That one
has only the beginning of each hash in it: whoever reads it learns nothing to try tokens against.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import logging
import os
import re
import secrets
import string
import threading
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from packregistry.auth import Principal
from packregistry.auth.replacing import locked, remedy
from packregistry.auth.replacing import replace as replace_file
from packregistry.auth.rights import ROLES, Grant, Packs, PatternError
from packregistry.errors import (
    ParameterInvalidError,
    StorageFullError,
    StorageUnavailableError,
    TokenConflictError,
    TokenUnknownError,
)
from packregistry.masking import TOKEN_PREFIX
from packregistry.model import Json, shown
from packregistry.reload import ReloadError, fingerprint

_log = logging.getLogger(__name__)

FORMAT: Final = 1
FILE_MAX: Final = 16 * 1024**2
TOKENS: Final = "tokens.json"
TOKEN_USE: Final = "token-use.json"  # noqa: S105 — no secret, but the name of a file
KEPT: Final = dt.timedelta(days=30)
RANDOM_LENGTH: Final = 43  # of 62 characters, 256 bits
CHECK_LENGTH: Final = 6

State = Literal["valid", "expired", "revoked"]

_ID_LENGTH = 16  # of a hash, in hexadecimal, where uses are kept
_LINES_LOGGED = 20
_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_SECRET = re.compile(rf"{TOKEN_PREFIX}[0-9A-Za-z]{{{RANDOM_LENGTH + CHECK_LENGTH}}}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Token:
    """A token, but for its text. Times are UTC; `expires` is None where it never does."""

    name: str
    owner: str
    role: str
    packs: tuple[str, ...]
    created: dt.datetime
    expires: dt.datetime | None
    revoked: dt.datetime | None
    sha256: str
    principal: Principal

    def state(self, now: dt.datetime) -> State:
        """Whether it is in force."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and self.expires <= now else "valid"

    @property
    def end(self) -> dt.datetime | None:
        """When it ceases to be in force, or has, if it ever does."""
        return min((end for end in (self.revoked, self.expires) if end is not None), default=None)

    def as_json(self, now: dt.datetime, used: dt.datetime | None) -> Json:
        """What may be shown of it."""
        return {**self.parts(), "lastUsed": as_text(used) if used else None, "state": self.state(now)}

    def parts(self) -> Json:
        """What it was made of, as JSON, but for its hash."""
        return {
            "name": self.name,
            "owner": self.owner,
            "role": self.role,
            "packs": list(self.packs),
            "created": as_text(self.created),
            "expires": as_text(self.expires) if self.expires else None,
            "revoked": as_text(self.revoked) if self.revoked else None,
        }


class _Tokens:
    """The tokens of one reading, and the entries that are none with what is wrong with them; they never change."""

    def __init__(self, tokens: Iterable[Token], unread: Sequence[Any] = (), problems: Iterable[str] = ()) -> None:
        self.all, self.unread = tuple(tokens), unread
        # Of entries that somebody has written twice the revoked one counts.
        self.by_hash = {token.sha256: token for token in sorted(self.all, key=lambda token: token.revoked is not None)}
        # Not by their number, which is another one whenever the file is written.
        self.problems = dict(zip(map(json.dumps, unread), problems, strict=True))


class TokenFile:
    """The file of tokens, a `Reloadable`, and when each was last used. A file that is not there has no tokens in it.

    `find`, `changed` and `note_use` are for the event loop; the others read or write files and belong in a thread.
    """

    what: Final = "tokens"

    def __init__(self, path: Path, uses_path: Path) -> None:
        self.path = path
        self.uses_path = uses_path
        self._seen: tuple[int, ...] = (-1,)
        self.current = _Tokens(())
        self._reported: frozenset[str] = frozenset()
        self._uses: dict[str, dt.datetime] = {}
        self._flushed: dict[str, dt.datetime] = {}
        self._lock = threading.Lock()

    def changed(self) -> bool:
        """Whether the file is another than the one last looked at; costs one `stat`."""
        return self.state() != self._seen

    def state(self) -> tuple[int, ...]:
        """What it looks like from outside."""
        return fingerprint(self.path)

    def load(self) -> None:
        """Read the file. An entry that is no token is left out, and logged once as long as it stays.

        Raises `ReloadError`, and leaves what was read before.
        """
        with self._lock:
            self._load()

    def find(self, secret: str) -> Token | None:
        """The token that a client sent, in force or not."""
        if not secret.startswith(TOKEN_PREFIX) or not secret.isascii():
            return None
        return self.current.by_hash.get(hashlib.sha256(secret.encode()).hexdigest())

    def tokens(self) -> list[tuple[Token, dt.datetime | None]]:
        """All tokens by name, the latest first where there were several, and when each was last used."""
        uses = self._all_uses()
        found = sorted(self.current.all, key=lambda token: (token.name, -token.created.timestamp()))
        return [(token, uses.get(token.sha256[:_ID_LENGTH])) for token in found]

    def create(
        self, name: str, owner: str, role: str, packs: Iterable[str], expires: dt.datetime | None
    ) -> tuple[Token, str]:
        """Make a token; return it and its text, which cannot be had again. The file's times are whole seconds.

        Raises `ParameterInvalidError`, `TokenConflictError` where one of this name is in force, `StorageFullError`, and
        `StorageUnavailableError`.
        """
        now, secret, expires = _now(), _new_secret(), expires and expires.replace(microsecond=0)
        token = _token(name, owner, role, packs, hashlib.sha256(secret.encode()).hexdigest(), now, expires)
        if expires is not None and expires <= now:
            raise ParameterInvalidError(f"{as_text(expires)} is over already", remedy="name a time to come")
        with self._edited(now) as tokens:
            if any(other.name == name and other.state(now) == "valid" for other in tokens):
                raise TokenConflictError(
                    f"there is a token {name}", detail={"name": name}, remedy="revoke it first, or take another name"
                )
            tokens.append(token)
        return token, secret

    def revoke(self, name: str) -> Token:
        """Let a token be void from now on, with all of its name if somebody wrote several into the file.

        Raises `TokenUnknownError` where none of this name is in force, and `StorageUnavailableError`.
        """
        now = _now()
        with self._edited(now) as tokens:
            valid = [index for index, token in enumerate(tokens) if token.state(now) == "valid"]
            own = [index for index in valid if tokens[index].name == name]
            if not own:
                state = next((f": it is {token.state(now)}" for token in reversed(tokens) if token.name == name), "")
                raise TokenUnknownError(
                    f"no token in force is called {shown(name)}{state}",
                    detail={"name": name[:80]},
                    remedy="list the tokens to see which there are",
                )
            for index in own:
                tokens[index] = replace(tokens[index], revoked=now)
            return tokens[own[0]]

    def note_use(self, token: Token, now: dt.datetime) -> None:
        """Remember that a token was used; `flush_uses` writes it down."""
        self._uses[token.sha256[:_ID_LENGTH]] = now

    def flush_uses(self) -> None:
        """Write down what was used since the last time. Raises `OSError`."""
        uses = dict(self._uses)
        if uses == self._flushed:
            return
        with locked(self.uses_path):
            known = {token.sha256[:_ID_LENGTH] for token in self.current.all}
            # Another process may know tokens that this one has not read of yet.
            recent = _now() - KEPT
            lines = {key: as_text(used) for key, used in self._all_uses().items() if key in known or used > recent}
            replace_file(self.uses_path, json.dumps(lines, indent=1, sort_keys=True).encode() + b"\n")
        self._flushed = uses

    def _all_uses(self) -> dict[str, dt.datetime]:
        """When tokens were last used, written down or not; what cannot be read is not known."""
        uses: dict[str, dt.datetime] = {}
        with contextlib.suppress(OSError, ValueError, AttributeError, RecursionError):
            uses |= {key: _time(text, key) for key, text in json.loads(self.uses_path.read_bytes()).items()}
        for key, used in dict(self._uses).items():
            uses[key] = max(used, uses.get(key, used))
        return uses

    def _load(self) -> None:
        self._seen = fingerprint(self.path)
        try:
            with self.path.open("rb") as file:
                data = file.read(FILE_MAX + 1)
        except FileNotFoundError:
            self.current = _Tokens(())
            return
        except OSError as error:
            raise ReloadError(
                f"token file {self.path} cannot be read by uid {os.geteuid()} ({error.strerror}): make it readable"
            ) from error
        self.current = _parsed(self.path, data)
        news = [problem for entry, problem in self.current.problems.items() if entry not in self._reported]
        for problem in news[:_LINES_LOGGED]:
            _log.warning("token file %s: %s; it is left out: put it right, or remove it", self.path, problem)
        if len(news) > _LINES_LOGGED:
            _log.warning("token file %s: %d more are left out", self.path, len(news) - _LINES_LOGGED)
        self._reported = frozenset(self.current.problems)

    @contextlib.contextmanager
    def _edited(self, now: dt.datetime) -> Iterator[list[Token]]:
        """The tokens as they are in the file now, but for old ones; what they are in the end is written."""
        target = Path(os.path.realpath(self.path))
        try:
            if self.path.parent == self.uses_path.parent:  # that of a server, which may never have run
                target.parent.mkdir(parents=True, exist_ok=True)
            with self._lock, locked(target):
                self._load()
                tokens = [token for token in self.current.all if (token.end or now) > now - KEPT]
                yield tokens
                entries = [*({**token.parts(), "sha256": token.sha256} for token in tokens), *self.current.unread]
                data = json.dumps({"format": FORMAT, "tokens": entries}, indent=1).encode() + b"\n"
                if len(data) > FILE_MAX:
                    raise StorageFullError(
                        f"token file {self.path} would be larger than {FILE_MAX} bytes",
                        remedy=f"wait, as tokens are dropped {KEPT.days} days after their end, or remove some from it",
                    )
                replace_file(target, data)
                self._load()
        except ReloadError as error:
            raise StorageUnavailableError(str(error)) from error
        except OSError as error:
            raise StorageUnavailableError(
                f"token file {self.path} cannot be written by uid {os.geteuid()}: {error.strerror}",
                remedy=remedy(target, error),
            ) from error


def is_whole(secret: str) -> bool:
    """Whether a text can be a token that was made here; if it is not, one was mistyped or cut off."""
    return bool(_SECRET.fullmatch(secret)) and _check(secret[:-CHECK_LENGTH]) == secret[-CHECK_LENGTH:]


def as_text(time: dt.datetime) -> str:
    """A time as the file and the API have it: UTC, to the second."""
    return time.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC).replace(microsecond=0)


def _time(text: Any, what: str) -> dt.datetime:
    """The time that is written in a file. Raises `ValueError`, which does not show it."""
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        time = dt.datetime.fromisoformat(text)
        if time.tzinfo is not None:
            return time.astimezone(dt.UTC)
    raise ValueError(f"{what} is no time with its zone, such as 2027-01-31T12:00:00Z")


def _new_secret() -> str:
    text = TOKEN_PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(RANDOM_LENGTH))
    return text + _check(text)


def _check(text: str) -> str:
    """What the last characters of a token are, if the others are `text`: its CRC-32 in base 62."""
    number, digits = zlib.crc32(text.encode()), ""
    for _ in range(CHECK_LENGTH):
        number, digit = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits


def _token(
    name: str,
    owner: str,
    role: str,
    packs: Iterable[str],
    sha256: str,
    created: dt.datetime,
    expires: dt.datetime | None,
    revoked: dt.datetime | None = None,
) -> Token:
    """A token of these parts. Raises `ParameterInvalidError`."""
    if not _NAME.fullmatch(name):
        raise ParameterInvalidError(
            f"{shown(name)} is not the name of a token",
            remedy="use up to 64 letters, digits, '.', '_' and '-', beginning with a letter or digit",
        )
    if role not in ROLES:
        raise ParameterInvalidError(f"{shown(role)} is not a role", remedy=f"use {', '.join(ROLES)}")
    try:
        found = Packs.parse(packs)
    except PatternError as error:
        raise ParameterInvalidError(str(error)) from error
    principal = Principal(f"token:{name}", "token", Grant(ROLES[role], found), proof=sha256)
    return Token(name, owner, role, found.patterns, created, expires, revoked, sha256, principal)


def _parsed(path: Path, data: bytes) -> _Tokens:
    """The tokens in a file. Raises `ReloadError`."""
    if len(data) > FILE_MAX:
        raise ReloadError(f"token file {path} is larger than {FILE_MAX} bytes: is it the right file?")
    try:
        document = json.loads(data)
        entries = document["tokens"]
        if document["format"] != FORMAT or not isinstance(entries, list):
            raise ValueError(f"what is read is format {FORMAT} with a list of tokens")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ReloadError(
            f"token file {path} is not a file of tokens ({type(error).__name__}: {error}): restore it, or remove it to "
            "begin without tokens"
        ) from error
    tokens, unread, problems = [], [], []
    for number, entry in enumerate(entries, 1):
        try:
            tokens.append(_of_json(entry))
        except (ValueError, ParameterInvalidError) as error:
            name = entry.get("name") if isinstance(entry, dict) else None
            problems.append(f"token {number}{f' ({shown(name)})' if isinstance(name, str) else ''}: {error}")
            unread.append(entry)
    return _Tokens(tokens, unread, problems)


def _of_json(entry: Any) -> Token:
    """The token of an entry. Raises `ValueError`, which does not show what could be a secret, or a hash."""
    fields = entry if isinstance(entry, dict) else {}
    for key in ("name", "owner", "role", "sha256"):
        if not isinstance(fields.get(key), str):
            raise ValueError(f"{key} is no text")  # noqa: TRY004 — it is the file that is wrong
    if not _SHA256.fullmatch(fields["sha256"]):
        raise ValueError("sha256 is no SHA-256 in small letters")
    packs = fields.get("packs")
    if not isinstance(packs, list) or not all(isinstance(pattern, str) for pattern in packs):
        raise ValueError("packs is no list of patterns")
    created = _time(fields.get("created"), "created")
    # What is not there is no time either: only null is never.
    ends = [None if fields.get(key, "") is None else _time(fields.get(key), key) for key in ("expires", "revoked")]
    return _token(fields["name"], fields["owner"], fields["role"], packs, fields["sha256"], created, *ends)
