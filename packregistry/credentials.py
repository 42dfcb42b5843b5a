"""Which registry, and who asks: addresses, credentials, and the file that logins are kept in.

The file is the one of the vendor's command line, `config.json` in `~/.spectro`, and both may use it in turn::

    {"auths": {"spectro.example.com:5000": {"auth": "base64 of user:password", "insecure": false}},
     "defaultRegistry": "spectro.example.com:5000"}

An entry of ours has a third key, `"scheme": "http"`, where plain HTTP was asked for. What else is in the file stays.
It is replaced whole, readable for its owner only, and writers wait for each other.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import fcntl
import json
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packregistry.failures import LoginFileError, ServerNameError
from packregistry.model import shown

FILE = "config.json"

_SERVER = re.compile(r"(?:(https?)://)?((?:\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([0-9]{1,5}))?)/*", re.ASCII)
_LOOPBACK = re.compile(r"localhost|127(?:\.[0-9]{1,3}){3}|\[::1\]", re.ASCII)


@dataclass(frozen=True, slots=True)
class Server:
    """The address of a registry: `name` is `host[:port]`, `scheme` is empty where none was given."""

    name: str
    scheme: str = ""

    @classmethod
    def parse(cls, text: str) -> Server:
        """Return the server `text` names; `http://`, `https://` and a slash at the end are tolerated.

        Raises `ServerNameError`.
        """
        found = _SERVER.fullmatch(text.strip().lower())
        if not found or (found[3] and not 0 < int(found[3]) < 65536):
            raise ServerNameError(
                f"{shown(text)} is not the address of a registry", remedy="write HOST or HOST:PORT, without a path"
            )
        return cls(found[2], found[1] or "")

    @property
    def is_loopback(self) -> bool:
        """Whether the registry is on this very machine."""
        host = self.name if self.name.endswith("]") else re.sub(r":[0-9]+$", "", self.name)
        return _LOOPBACK.fullmatch(host) is not None

    def __str__(self) -> str:
        return f"{self.scheme}://{self.name}" if self.scheme else self.name


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user name and a password, or a token. Its `repr` shows neither password nor token."""

    username: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)

    @property
    def authorization(self) -> str:
        """What the `Authorization` header says."""
        return f"Bearer {self.token}" if self.token else f"Basic {self.encoded}"

    @property
    def encoded(self) -> str:
        """User name and password as they are sent and kept."""
        return base64.b64encode(f"{self.username}:{self.password}".encode()).decode()

    @classmethod
    def decode(cls, text: str) -> Credentials:
        """Read what `encoded` wrote, or raise `ValueError`."""
        try:
            username, colon, password = base64.b64decode(text, validate=True).decode().partition(":")
        except binascii.Error as error:
            raise ValueError("it is not base64") from error
        if not colon:
            raise ValueError("it has no colon")
        return cls(username, password)


@dataclass(frozen=True, slots=True)
class Login:
    """What is remembered of a registry."""

    server: Server
    credentials: Credentials | None
    insecure: bool = False


class LoginFile:
    """The logins in `config.json` of the directory `home`, which need not exist."""

    def __init__(self, home: Path) -> None:
        self.path = home / FILE

    def find(self, server: Server) -> Login | None:
        """What is known of `server`. Raises `LoginFileError`."""
        for key, entry in self._auths(self._read()).items():
            try:
                known = Server.parse(key)
            except ServerNameError:
                continue
            if known.name == server.name and isinstance(entry, dict):
                return self._login(server, known, entry)
        return None

    def default(self) -> Server | None:
        """The registry that is meant where none is named: the default one, or the only one. Raises `LoginFileError`."""
        document = self._read()
        name = document.get("defaultRegistry")
        if isinstance(name, str) and name.strip():
            return Server.parse(name)
        auths = list(self._auths(document))
        return Server.parse(auths[0]) if len(auths) == 1 else None

    def put(self, login: Login, *, default: bool) -> None:
        """Remember a login, in place of what was known of its server. Raises `LoginFileError`."""
        with self._changing() as document:
            auths = document["auths"] = self._without(login.server, self._auths(document))
            auths[login.server.name] = {
                "auth": login.credentials.encoded if login.credentials else "",
                "insecure": login.insecure,
                **({"scheme": "http"} if login.server.scheme == "http" else {}),
            }
            if default:
                document["defaultRegistry"] = login.server.name

    def remove(self, server: Server) -> bool:
        """Forget `server`; return whether it was known. Raises `LoginFileError`."""
        if not self.path.exists():
            return False
        with self._changing() as document:
            before = self._auths(document)
            document["auths"] = self._without(server, before)
            default = document.get("defaultRegistry")
            if isinstance(default, str) and _same(default, server):
                del document["defaultRegistry"]
            return len(document["auths"]) < len(before)

    def _login(self, server: Server, known: Server, entry: dict[str, Any]) -> Login:
        scheme = entry.get("scheme")
        remembered = scheme if scheme in {"http", "https"} else known.scheme
        try:
            credentials = Credentials.decode(entry["auth"]) if entry.get("auth") else None
        except (ValueError, TypeError) as error:
            raise LoginFileError(
                f"{self.path}: the login for {server.name} cannot be read: {error}",
                remedy=f"log in again: packregistry registry login {server.name}",
            ) from error
        insecure = entry.get("insecure") is True
        return Login(Server(server.name, server.scheme or remembered), credentials, insecure)

    def _read(self) -> dict[str, Any]:
        try:
            document = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not JSON"
            remedy = "mend it, or move it away and log in again"
            raise LoginFileError(f"{self.path} cannot be read: {reason}", remedy=remedy) from error
        if not isinstance(document, dict):
            raise LoginFileError(f"{self.path} is not a JSON object", remedy="move it away and log in again")
        return document

    def _auths(self, document: dict[str, Any]) -> dict[str, Any]:
        auths = document.get("auths") or {}
        if not isinstance(auths, dict):
            raise LoginFileError(f"{self.path}: auths is not an object", remedy="move it away and log in again")
        return auths

    def _without(self, server: Server, auths: dict[str, Any]) -> dict[str, Any]:
        return {key: entry for key, entry in auths.items() if not _same(key, server)}

    @contextlib.contextmanager
    def _changing(self) -> Iterator[dict[str, Any]]:
        """The document, written back when the context ends without an error; one at a time."""
        # A link is followed, so that the file it leads to is replaced and not the link.
        path = Path(os.path.realpath(self.path))
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(directory, fcntl.LOCK_EX)
                document = self._read()
                yield document
                _replace(path, json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n")
            finally:
                os.close(directory)
        except OSError as error:
            remedy = "make its directory writable, or name another one with --home"
            raise LoginFileError(f"{self.path} cannot be written: {error.strerror}", remedy=remedy) from error


def _same(text: str, server: Server) -> bool:
    try:
        return Server.parse(text).name == server.name
    except ServerNameError:
        return False


def _replace(path: Path, data: bytes) -> None:
    """Put `data` at `path` in one step. The new file is made with mode 0600."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        Path(temporary).rename(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise
