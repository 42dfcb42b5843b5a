"""`packregistry token`: tokens, in the file of a server on this machine, or of a registry over its API."""

from __future__ import annotations

import asyncio
import datetime as dt
import functools
import getpass
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from packregistry.auth.expiry import EXPIRY, expiry
from packregistry.auth.rights import ROLES
from packregistry.auth.tokens import TOKEN_USE, TOKENS, TokenFile
from packregistry.cli import output
from packregistry.cli.home import home_option
from packregistry.cli.lazy import HELP
from packregistry.cli.remote import ending, opened, registry_options
from packregistry.cli.settings import config_option, loaded
from packregistry.client import Client
from packregistry.client.answers import clean
from packregistry.errors import StorageUnavailableError
from packregistry.failures import NotARegistryError
from packregistry.model import Json
from packregistry.reload import ReloadError


@dataclass(frozen=True, slots=True)
class Place:
    """Where the tokens are: at a registry, or in a file of a server on this machine."""

    path: Path | None
    config_file: Path | None
    server: str | None
    insecure: bool

    def client(self) -> Client | None:
        """A client of the registry, to be opened, if one is named. Raises `click.UsageError`."""
        if self.server is None:
            return None
        if self.path or self.config_file:
            raise click.UsageError("-r asks a registry: leave out --file and --config, or leave out -r")
        return opened(self.server, insecure=self.insecure)

    def file(self) -> TokenFile:
        """The file, read. Raises `StorageUnavailableError`, and `click.UsageError` where there is none."""
        tokens = TokenFile(*self._paths())
        try:
            tokens.load()
        except ReloadError as error:
            raise StorageUnavailableError(str(error)) from error
        return tokens

    def _paths(self) -> tuple[Path, Path]:
        """Where tokens are, and when they were last used. For a file that is named alone nothing else is read."""
        if self.path and not self.config_file:
            return self.path, self.path.with_name(TOKEN_USE)
        settings = loaded(self.config_file, {})
        if settings.auth.mode != "htpasswd":
            output.warn("with this configuration nobody signs in, and tokens do nothing: configure auth.htpasswd")
        root, named = settings.storage.filesystem.rootdirectory, self.path or settings.auth.tokens
        if settings.storage.driver == "inmemory" and not named:
            raise click.UsageError("storage is inmemory: the tokens are in the server alone, ask it with -r SERVER")
        return named or root / TOKENS, root / TOKEN_USE


def placed(function: Callable[..., Coroutine[Any, Any, int]]) -> Callable[..., None]:
    """A command on tokens: `-r` and its kin, `--file` and `-c` make its `place`."""
    explained = ending(function)

    @functools.wraps(function)
    def run(path: Path | None, config_file: Path | None, server: str | None, insecure: bool, **more: Any) -> None:
        explained(place=Place(path, config_file, server, insecure), **more)

    text = "The file of tokens of a server on this machine. Default auth.tokens, or tokens.json beside its packs."
    option = click.option("--file", "path", metavar="PATH", type=click.Path(path_type=Path), help=text)
    return option(config_option(registry_options(run)))


@click.group("token", context_settings=HELP)
@home_option
def command() -> None:
    """Make tokens, list them, revoke them.

    A token stands for a program: Palette, a CI job. It is sent as `Authorization: Bearer`, or as the password of any
    user. With -r a registry is asked, which takes an admin; without, the file of a server on this machine is changed,
    which that server sees at once.

    \b
    packregistry token create palette -c /etc/spectro/config.yml
    packregistry token create ci --role publisher --packs 'nginx*' --expires 30d -r registry.example:5000
    packregistry token list -r registry.example:5000
    packregistry token revoke ci -r registry.example:5000
    """


@command.command("create")
@click.argument("name")
@click.option("--role", type=click.Choice([*ROLES]), default="reader", help="What it may do. Default reader.")
@click.option("--packs", metavar="PATTERN", multiple=True, help="With which packs; may be given again. Default *.")
@click.option(
    "--expires", metavar="WHEN", default=EXPIRY, help=f"90d, 24h, 2027-01-31, a time, or never. Default {EXPIRY}."
)
@click.option("--owner", metavar="NAME", help="Who answers for it; without -r. Default the user of this machine.")
@placed
async def create(
    name: str,
    role: str,
    packs: tuple[str, ...],
    expires: str,
    owner: str | None,
    place: Place,
    kind: str,
) -> int:
    """Make the token NAME. It is printed once, on standard output, and cannot be had again.

    A reader reads; a publisher also adds versions and tags; a maintainer also overwrites and deletes; an admin may do
    everything, with --packs '*' also make tokens.

    \b
    packregistry token create palette --file /data/.spectro-server/tokens.json
    packregistry token create ci --role publisher --packs 'nginx*' -r registry.example:5000

    Exit codes: 0 made, 1 refused, 2 wrong usage, 3 the registry cannot be reached, 4 it does not let you.
    """
    patterns = list(packs) or ["*"]
    client = place.client()
    if client is None:
        made = await asyncio.to_thread(_created, place.file(), name, owner or _me(), role, patterns, expires)
    elif owner:
        raise click.UsageError("with -r the owner is whoever asks: leave out --owner")
    else:
        async with client:
            made = await client.create_token(name, role, patterns, expires)
    token = made.get("token")
    if not isinstance(token, str):
        raise NotARegistryError("the answer has no token in it", remedy="check the address: is there a pack registry?")
    if kind == "json":
        output.document(made)
        return 0
    output.say(clean(token))
    until = _cell(made.get("expires"))
    output.note(f"{_cell(made.get('role'))} of {_cell(made.get('packs'))}, {f'until {until}' if until else 'for ever'}")
    output.note("It is not shown again. Use it as PACKREGISTRY_TOKEN, as the password of any user (curl -u any:TOKEN),")
    output.note("or in Palette as a token, or as the password of a basic login.")
    return 0


@command.command("list")
@placed
async def listing(place: Place, kind: str) -> int:
    """List the tokens, also those that have expired or were revoked in the last 30 days.

    \b
    packregistry token list -c /etc/spectro/config.yml
    packregistry token list -r registry.example:5000 -o json

    Exit codes: 0 listed, 1 the file cannot be used, 2 wrong usage, 3 the registry cannot be reached, 4 it does not let
    you.
    """
    client = place.client()
    if client is None:
        found = await asyncio.to_thread(_listed, place.file())
    else:
        async with client:
            found = await client.tokens()
    if kind == "json":
        output.document({"tokens": found})
        return 0
    head = ("NAME", "STATE", "ROLE", "PACKS", "OWNER", "CREATED", "EXPIRES", "LAST USED")
    keys = ("name", "state", "role", "packs", "owner", "created", "expires", "lastUsed")
    output.table(head, [[_cell(one.get(key)) for key in keys] for one in found])
    return 0


@command.command("revoke")
@click.argument("name")
@placed
async def revoke(name: str, place: Place, kind: str) -> int:
    """Let the token NAME be void at once.

    \b
    packregistry token revoke ci --file /data/.spectro-server/tokens.json
    packregistry token revoke ci -r registry.example:5000

    Exit codes: 0 revoked, 1 no such token is in force, 2 wrong usage, 3 the registry cannot be reached, 4 it does not
    let you.
    """
    client = place.client()
    if client is None:
        gone = await asyncio.to_thread(_revoked, place.file(), name)
    else:
        async with client:
            gone = await client.revoke_token(name)
    if kind == "json":
        output.document(gone)
    else:
        output.say(clean(f"revoked {gone.get('name')}"))
    return 0


def _created(tokens: TokenFile, name: str, owner: str, role: str, packs: list[str], expires: str) -> Json:
    now = dt.datetime.now(dt.UTC)
    token, secret = tokens.create(name, owner, role, packs, expiry(expires, now))
    return {**token.as_json(now, None), "token": secret}


def _listed(tokens: TokenFile) -> list[Json]:
    now = dt.datetime.now(dt.UTC)
    return [token.as_json(now, used) for token, used in tokens.tokens()]


def _revoked(tokens: TokenFile, name: str) -> Json:
    return tokens.revoke(name).as_json(dt.datetime.now(dt.UTC), None)


def _me() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def _cell(value: Any) -> str:
    return clean(", ".join(map(str, value)) if isinstance(value, list) else str(value or ""))
