"""Edits an htpasswd file: adds a user, changes a password, removes a user. All else in it stays, byte for byte.

A user's lines are those whose name reads alike, in whatever encoding; the one that counts is the first that
`htpasswd` accepts. The file is replaced in one step, by one writer at a time (`auth.replacing`), and a symbolic link to
it stays one.

All of it is synchronous, and hashing takes a while: call it in a thread.
"""

from __future__ import annotations

import difflib
import os
import secrets
import shlex
import stat
import string
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from packregistry.auth import ANONYMOUS, replacing
from packregistry.auth.htpasswd import (
    BCRYPT_PASSWORD_MAX,
    BOM,
    USER_MAX,
    BadLine,
    Users,
    UsersFileError,
    decoded,
    hashed,
)
from packregistry.masking import TOKEN_PREFIX
from packregistry.model import shown

COST = 10
GENERATED_LENGTH = 24  # of 62 characters, 142 bits

_ALPHABET = string.ascii_letters + string.digits
# Control characters, and what Unicode calls a line or paragraph separator.
_UNTYPABLE = {"Cc", "Zl", "Zp"}


class EditError(Exception):
    """A change that is refused; `str()` says why and what to do. Nothing was written."""


class UserNameError(EditError):
    """Nobody can be called so."""


class PasswordError(EditError):
    """What cannot be a password."""


class KnownUserError(EditError):
    """The user that is to be added is there."""


class UnknownUserError(EditError):
    """The user that is to be changed or removed is not there."""


def check_name(name: str) -> None:
    """Make sure that a new user can be called `name`. Raises `UserNameError`."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError as error:
        raise UserNameError(f"user name {shown(name)} is not UTF-8: type it in a terminal that is") from error
    if not 0 < size <= USER_MAX:
        raise UserNameError(f"a user name of {size} bytes cannot be used: it takes 1 to {USER_MAX}")
    if ":" in name:
        raise UserNameError(f"user name {shown(name)} has a ':' in it, which ends a name: leave it out")
    if not name.isprintable():
        raise UserNameError(f"user name {shown(name)} has a character in it that cannot be seen: leave it out")
    if name != name.strip() or name.startswith("#"):
        raise UserNameError(f"user name {shown(name)} begins with '#' or has a blank at an end: leave that out")
    if name.casefold() == ANONYMOUS.name:
        raise UserNameError(f"user name {shown(name)} stands for whoever gives no credentials: take another")


def check_password(password: bytes) -> None:
    """Make sure that `password` can be a user's from now on. Raises `PasswordError`, which does not show it."""
    if not password:
        raise PasswordError("the password is empty: give one")
    if len(password) > BCRYPT_PASSWORD_MAX:
        raise PasswordError(
            f"the password has {len(password)} bytes, and bcrypt ignores what follows the first {BCRYPT_PASSWORD_MAX}: "
            "give a shorter one"
        )
    try:
        text = password.decode()
    except UnicodeDecodeError as error:
        raise PasswordError("the password is not UTF-8, and not all clients could send it: give another") from error
    if any(unicodedata.category(char) in _UNTYPABLE for char in text):
        raise PasswordError("the password has a control character or a line break in it: leave it out")
    if text.startswith(TOKEN_PREFIX):
        raise PasswordError(
            f"the password begins with {TOKEN_PREFIX}, as tokens do, and would be taken for one: give another"
        )


def generated() -> str:
    """A new random password of letters and digits."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(GENERATED_LENGTH))


@dataclass(frozen=True, slots=True)
class _Content:
    """What a file has in it: a byte order mark perhaps, and lines, each with its end."""

    mark: bytes
    lines: list[bytes]

    @classmethod
    def of(cls, data: bytes) -> Self:
        mark = BOM if data.startswith(BOM) else b""
        return cls(mark, data.removeprefix(mark).splitlines(keepends=True))

    def __bytes__(self) -> bytes:
        return self.mark + b"".join(self.lines)

    def own(self, name: str) -> list[int]:
        """The lines of the user, as indices."""
        return [index for index, line in enumerate(self.lines) if _user(line) == name]

    def counting(self, own: Sequence[int]) -> int | None:
        """The one of these lines that counts."""
        return next((index for index in own if not _reason(self.lines[index])), None)

    def append(self, line: bytes) -> None:
        """Add a line, ended as the first one is."""
        end = b"\r\n" if self.lines and self.lines[0].endswith(b"\r\n") else b"\n"
        if self.lines and not self.lines[-1].endswith(b"\n"):
            self.lines[-1] += end
        self.lines.append(line + end)


class UsersFile:
    """The htpasswd file at `path`, which need not exist before the first user is added.

    Every method raises `UsersFileError` if the file cannot be read, or cannot be written by one that changes it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> tuple[Users, tuple[BadLine, ...]]:
        """Return the users, of whom there may be none, and the lines that count for nothing."""
        return Users.parse(self._read(self.path))

    def verify(self, name: str, password: bytes) -> bool:
        """Say whether `password` is the one of the user. Raises `UnknownUserError`, also if none of theirs counts."""
        data = self._read(self.path)
        content = _Content.of(data)
        counting = content.counting(own := self._known(content, name))
        if counting is None:
            raise UnknownUserError(
                f"{shown(name)} cannot sign in, line {own[0] + 1} of {self.path} {_reason(content.lines[own[0]])}"
            )
        users, _ = Users.parse(data)
        return any(users.verify(user, password) for user in users if decoded(user) == name)

    def check_new(self, name: str) -> None:
        """Make sure that `add` can add the user. Raises `UserNameError` and `KnownUserError`."""
        check_name(name)
        self._unknown(_Content.of(self._read_if_there(self.path)), name)

    def check_known(self, name: str) -> None:
        """Make sure that `change` and `remove` find the user. Raises `UnknownUserError`, which names similar ones."""
        self._known(_Content.of(self._read(self.path)), name)

    def add(self, name: str, password: bytes, cost: int = COST) -> None:
        """Add a user at the end of the file, and make the file if there is none.

        Raises `UserNameError`, `PasswordError`, and `KnownUserError` if the file has a line of the user, be it one that
        counts for nothing.
        """
        self.check_new(name)
        check_password(password)
        line = b"%b:%b" % (name.encode(), hashed(password, cost))

        def edit(content: _Content) -> None:
            self._unknown(content, name)
            content.append(line)

        self._edit(edit, self._read_if_there)

    def change(self, name: str, password: bytes, cost: int = COST) -> None:
        """Give a user another password: in the line that counts, or in their first one if none does.

        Raises `PasswordError` and `UnknownUserError`.
        """
        self.check_known(name)
        check_password(password)
        stored = hashed(password, cost)

        def edit(content: _Content) -> None:
            counting = content.counting(own := self._known(content, name))
            index = own[0] if counting is None else counting
            content.lines[index] = _with_hash(content.lines[index], stored)

        self._edit(edit, self._read)

    def remove(self, name: str) -> int:
        """Remove all lines of a user, as the second would count without the first; return how many there were.

        Raises `UnknownUserError`.
        """
        self.check_known(name)
        own: list[int] = []

        def edit(content: _Content) -> None:
            own.extend(self._known(content, name))
            for index in reversed(own):
                del content.lines[index]

        self._edit(edit, self._read)
        return len(own)

    def _unknown(self, content: _Content, name: str) -> None:
        own = content.own(name)
        if own:
            bad = "" if content.counting(own) is not None else f", though line {own[0] + 1} lets nobody in"
            command = f"packregistry user passwd {shlex.quote(name)} --file {shlex.quote(str(self.path))}"
            raise KnownUserError(f"{shown(name)} is in {self.path} already{bad}: `{command}` gives them a new password")

    def _known(self, content: _Content, name: str) -> list[int]:
        own = content.own(name)
        if not own:
            known = {user for user in map(_user, content.lines) if user}
            near = " or ".join(shown(user) for user in difflib.get_close_matches(name, sorted(known)))
            command = f"packregistry user add {shlex.quote(name)} --file {shlex.quote(str(self.path))}"
            meant = f", did you mean {near}?" if near else ":"
            raise UnknownUserError(f"{shown(name)} is not in {self.path}{meant} `{command}` adds one")
        return own

    def _edit(self, edit: Callable[[_Content], None], read: Callable[[Path], bytes]) -> None:
        target = Path(os.path.realpath(self.path))
        try:
            status = replacing.status_of(target)
            if status and not stat.S_ISREG(status.st_mode):
                raise UsersFileError(f"users file {self.path} is no regular file, and cannot be replaced: name another")
            with replacing.locked(target):
                content = _Content.of(read(target))
                edit(content)
                replacing.replace(target, bytes(content))
        except OSError as error:
            raise self._unwritable(target, error) from error

    def _read(self, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            raise UsersFileError.unreadable(self.path, error) from error

    def _read_if_there(self, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise UsersFileError.unreadable(self.path, error) from error

    def _unwritable(self, target: Path, error: OSError) -> UsersFileError:
        led = "" if target == Path(os.path.abspath(self.path)) else f" (which leads to {target})"
        return UsersFileError(
            f"users file {self.path}{led} cannot be written by uid {os.geteuid()} ({error.strerror}): "
            f"{replacing.remedy(target, error)}"
        )


def _user(line: bytes) -> str | None:
    """Whose line it is, if it is anybody's."""
    user, colon, _ = line.strip().partition(b":")
    is_nobody = not colon or not user or user.startswith(b"#") or len(user) > USER_MAX or b"\0" in user
    return None if is_nobody else decoded(user)


def _reason(line: bytes) -> str:
    """Why a user's line counts for nothing; empty if it does count, as long as no other of theirs is before it."""
    # Behind another line a byte order mark is a part of the name.
    _, problems = Users.parse(b"\n" + line)
    return problems[0].reason if problems else ""


def _with_hash(line: bytes, stored: bytes) -> bytes:
    """A user's line with another hash; what follows a second ':' stays, unless the line could not be used with it."""
    text = line.strip()
    start = len(line) - len(line.lstrip())
    user, _, rest = text.partition(b":")
    more = rest[len(rest.partition(b":")[0]) :]
    return line[:start] + user + b":" + stored + (b"" if b"\0" in more else more) + line[start + len(text) :]
