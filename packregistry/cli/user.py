"""`packregistry user`: the users of a server, in its htpasswd file."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, ParamSpec, TypeVar

import click

from packregistry.auth.htpasswd import COST_HIGH, COST_LOW, PASSWORD_MAX, Users, UsersFileError, decoded
from packregistry.auth.usersfile import (
    COST,
    EditError,
    PasswordError,
    UnknownUserError,
    UserNameError,
    UsersFile,
    generated,
)
from packregistry.cli import output, remote
from packregistry.cli.lazy import HELP
from packregistry.cli.remote import output_option
from packregistry.cli.settings import config_option, loaded
from packregistry.client.answers import clean
from packregistry.config import Auth
from packregistry.failures import REFUSED, UNAUTHORISED

P = ParamSpec("P")
T = TypeVar("T")
May = Literal["everything", "read", "policy"]

COST_MAX = 15
SECONDS = 0.07  # what hashing takes at `COST`; it doubles with each one more
LIVE = "A running server sees the change within two seconds."


@dataclass(frozen=True, slots=True)
class Place:
    """The users file that is meant, and what the server's configuration says of users, if it is known."""

    file: UsersFile
    auth: Auth | None

    @classmethod
    def chosen(cls, path: Path | None, config_file: Path | None) -> Place:
        """The file at `path`, or else the configured one. Raises `click.UsageError` where there is none."""
        auth = None
        if config_file or not path or any(name.startswith("REGISTRY_AUTH") for name in os.environ):
            auth = loaded(config_file, {}).auth
        named = path or (auth.htpasswd.path if auth else None)
        if named is None:
            raise click.UsageError(
                "no users file is named: use --file PATH, or name with -c FILE or REGISTRY_AUTH_HTPASSWD_PATH what the "
                "server has as auth.htpasswd.path"
            )
        return cls(UsersFile(named), auth)

    def may(self, name: str) -> May | None:
        """What a user may do; nothing where no configuration is known."""
        if self.auth is None:
            return None
        if self.auth.policy:
            return "policy"
        return "everything" if self.auth.mode == "none" or name in self.auth.admins else "read"

    def may_text(self, name: str) -> str:
        """The same for people, behind `may` or in a table."""
        assert self.auth is not None
        because = "auth: none" if self.auth.mode == "none" else "auth.admins"
        texts = {
            "everything": f"read and change everything ({because})",
            "read": "only read",
            "policy": f"see auth.policy {self.auth.policy}",
        }
        return texts[self.may(name) or "read"]


def place_options(function: Callable[P, T]) -> Callable[P, T]:
    """`--file PATH` and `-c/--config FILE`, as `path` and `config_file`."""
    path = click.Path(path_type=Path)
    option = click.option(
        "--file", "path", metavar="PATH", type=path, help="The htpasswd file. Default auth.htpasswd.path of the server."
    )
    return option(config_option(function))


def password_options(function: Callable[P, T]) -> Callable[P, T]:
    """Where a new password comes from, and how it is hashed: `from_stdin`, `generate` and `cost`."""
    cost = click.IntRange(COST_LOW, COST_MAX)
    for option in (
        click.option("--cost", metavar="N", type=cost, default=COST, help=f"The cost of bcrypt. Default {COST}."),
        click.option("--generate", is_flag=True, help="Make up a password, and print it once on standard output."),
        stdin_option,
    ):
        function = option(function)
    return function


def stdin_option(function: Callable[P, T]) -> Callable[P, T]:
    """`--password-stdin`, as `from_stdin`."""
    text = "Read the password from standard input; a line break at its end is left out."
    return click.option("--password-stdin", "from_stdin", is_flag=True, help=text)(function)


def ending(function: Callable[P, None]) -> Callable[P, None]:
    """Explain what is refused; the wrapped function takes `kind` as a keyword argument."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except (UserNameError, PasswordError) as error:
            raise click.UsageError(str(error)) from error
        except (EditError, UsersFileError) as error:
            sys.exit(failed(error, REFUSED, as_json=kwargs.get("kind") == "json"))

    return run


@click.group("user", context_settings=HELP)
def command() -> None:
    """Add users of a server, give them passwords, list and remove them.

    They are in an htpasswd file: the one of --file, or auth.htpasswd.path of the server's configuration (-c FILE, and
    REGISTRY_… variables). What else is in the file stays as it is. It is replaced in one step, so a container should
    have its directory mounted, not the file alone. What Kubernetes mounts cannot be changed: edit a copy, and make the
    Secret of it.

    \b
    packregistry user add admin --file users
    packregistry user passwd admin -c /etc/spectro/config.yml
    packregistry user list --file users
    kubectl create secret generic users --from-file=users --dry-run=client -o yaml | kubectl apply -f -
    """


@command.command("add")
@click.argument("name")
@password_options
@place_options
@output_option
@ending
def add(
    name: str, path: Path | None, config_file: Path | None, from_stdin: bool, generate: bool, cost: int, kind: str
) -> None:
    """Add the user NAME. The file is made if there is none.

    The password is asked for twice, unless it comes from standard input or is made up.

    \b
    packregistry user add admin --file users
    packregistry user add ann -c /etc/spectro/config.yml --password-stdin < password
    PASSWORD=$(packregistry user add palette --file users --generate)

    Exit codes: 0 added, 1 there is such a user or the file cannot be used, 2 wrong usage or configuration.
    """
    place = Place.chosen(path, config_file)
    place.file.check_new(name)
    password = new_password(name, cost, from_stdin=from_stdin, generate=generate)
    place.file.add(name, password, cost)
    report(place, name, f"{name} is added to {place.file.path}", password if generate else None, kind)


@command.command("passwd")
@click.argument("name")
@password_options
@place_options
@output_option
@ending
def passwd(
    name: str, path: Path | None, config_file: Path | None, from_stdin: bool, generate: bool, cost: int, kind: str
) -> None:
    """Give the user NAME another password. The old one is void as soon as a server sees the change.

    \b
    packregistry user passwd admin --file users
    packregistry user passwd palette -c /etc/spectro/config.yml --generate

    Exit codes: 0 changed, 1 there is no such user or the file cannot be used, 2 wrong usage or configuration.
    """
    place = Place.chosen(path, config_file)
    place.file.check_known(name)
    password = new_password(name, cost, from_stdin=from_stdin, generate=generate)
    place.file.change(name, password, cost)
    report(place, name, f"{name} has another password in {place.file.path}", password if generate else None, kind)


@command.command("remove")
@click.argument("name")
@place_options
@output_option
@ending
def remove(name: str, path: Path | None, config_file: Path | None, kind: str) -> None:
    """Remove the user NAME, without asking. It is said what remains of them.

    \b
    packregistry user remove ann --file users
    packregistry user remove ann -c /etc/spectro/config.yml

    Exit codes: 0 removed, 1 there is no such user or the file cannot be used, 2 wrong usage or configuration.
    """
    place = Place.chosen(path, config_file)
    lines = place.file.remove(name)
    users, _ = place.file.read()
    left = remains(place, name, users)
    if kind == "json":
        output.document({"name": name, "file": str(place.file.path), "lines": lines, "remains": left})
        return
    output.say(clean(f"{name} is removed from {place.file.path} ({output.plural(lines, 'line')})"))
    for text in left:
        output.warn(clean(text))
    if users:
        output.note(LIVE)


@command.command("list")
@place_options
@output_option
@ending
def list_(path: Path | None, config_file: Path | None, kind: str) -> None:
    """List the users.

    It is said how their passwords are hashed and, where the server's configuration is known, what they may do. Lines
    that count for nothing go to standard error.

    \b
    packregistry user list --file users
    packregistry user list -c /etc/spectro/config.yml -o json

    Exit codes: 0 all is well, 1 there are bad lines or the file cannot be used, 2 wrong usage or configuration.
    """
    place = Place.chosen(path, config_file)
    users, problems = place.file.read()
    kinds = [(decoded(user), users.kind(user)) for user in users]
    if kind == "json":
        entries = [
            {
                "name": name,
                "hash": hashing.name,
                "cost": hashing.cost or None,
                "may": place.may(name),
                "concern": hashing.concern or None,
            }
            for name, hashing in kinds
        ]
        bad = [{"line": problem.line, "reason": problem.reason} for problem in problems]
        output.document({"file": str(place.file.path), "users": entries, "bad_lines": bad})
    else:
        rows = [
            (name, hashing.name, hashing.cost or "", place.auth and place.may_text(name), hashing.concern)
            for name, hashing in kinds
        ]
        output.table(("NAME", "HASH", "COST", "MAY", "CONCERN"), rows)
    for problem in problems:
        output.note(f"packregistry: {place.file.path}: {problem}")
    sys.exit(REFUSED if problems else 0)


@command.command("check")
@click.argument("name")
@stdin_option
@place_options
@output_option
@ending
def check(name: str, path: Path | None, config_file: Path | None, from_stdin: bool, kind: str) -> None:
    """Check whether a password is right.

    It is asked for, unless it comes from standard input, and compared with that of the user NAME.

    \b
    packregistry user check admin --file users
    packregistry user check admin -c /etc/spectro/config.yml --password-stdin < password

    Exit codes: 0 it is, 1 the file cannot be used, 2 wrong usage or configuration, 4 it is not, or nobody is called so.
    """
    place = Place.chosen(path, config_file)
    try:
        place.file.check_known(name)
        is_right = place.file.verify(name, given_password(name, from_stdin=from_stdin, twice=False))
    except UnknownUserError as error:
        sys.exit(failed(error, UNAUTHORISED, as_json=kind == "json"))
    if kind == "json":
        output.document({"name": name, "file": str(place.file.path), "right": is_right})
    else:
        output.say(clean(f"the password of {name} is {'right' if is_right else 'wrong'}"))
    sys.exit(0 if is_right else UNAUTHORISED)


def new_password(name: str, cost: int, *, from_stdin: bool, generate: bool) -> bytes:
    """The password that a user is to have. Raises `click.UsageError` where there is none."""
    if from_stdin and generate:
        raise click.UsageError("use either --password-stdin or --generate")
    if cost > COST_HIGH:
        seconds = SECONDS * 2 ** (cost - COST)
        output.warn(f"with --cost {cost} each first request, and each wrong password, takes about {seconds:.1f} s")
    return generated().encode() if generate else given_password(name, from_stdin=from_stdin, twice=True)


def given_password(name: str, *, from_stdin: bool, twice: bool) -> bytes:
    """The password from standard input or the terminal. Raises `click.UsageError` where there is neither."""
    if from_stdin:
        # One byte more than any password has, and a line break.
        text = sys.stdin.buffer.read(PASSWORD_MAX + 3)
        return text.removesuffix(b"\n").removesuffix(b"\r") if text.endswith(b"\n") else text
    if not remote.at_terminal():
        generate = ", or --generate" if twice else ""
        raise click.UsageError(f"there is no terminal to ask for the password at: use --password-stdin{generate}")
    asked = click.prompt(f"Password of {clean(name)}", hide_input=True, confirmation_prompt=twice, err=True)
    return str(asked).encode("utf-8", "surrogateescape")


def report(place: Place, name: str, done: str, password: bytes | None, kind: str) -> None:
    """Say what was done, what the user may do, and the password if it was made up, which is all of the result then."""
    may = place.may(name)
    if kind == "json":
        made = {"password": password.decode()} if password else {}
        output.document({"name": name, "file": str(place.file.path), "may": may, **made})
        return
    tell = output.note if password else output.say
    tell(clean(done))
    if may:
        tell(clean(place.may_text(name) if may == "policy" else f"{name} may {place.may_text(name)}"))
    output.note(LIVE)
    if password:
        output.say(password.decode())


def remains(place: Place, name: str, users: Users) -> list[str]:
    """What is left of a user who was removed, and who is left besides."""
    found = []
    if not users:
        found.append(
            f"no user is left: a server that runs keeps those it has, {name} too, and none starts with "
            f"{place.file.path}: add one with `packregistry user add`"
        )
    auth = place.auth
    if auth is None or auth.mode == "none":
        return found
    if auth.policy:
        found.append(f"auth.policy {auth.policy} may have rules for {name}")
    elif name in auth.admins:
        found.append(f"auth.admins names {name}: whoever is added as {name} may change everything")
        if users and not {decoded(user) for user in users} & set(auth.admins):
            found.append("no user of auth.admins is left: nobody can change anything")
    if auth.certificates.subject != "none":
        found.append(f"a client certificate of {name} signs in as before (auth.certificates)")
    found.append(f"tokens that {name} knows work as before: see `packregistry token list`")
    return found


def failed(error: EditError | UsersFileError, code: int, *, as_json: bool) -> int:
    """Print why it does not go on; return the exit code."""
    if as_json:
        kind = type(error).__name__.removesuffix("Error").upper()
        output.document({"errors": [{"code": kind, "message": clean(str(error)), "detail": None}]})
    else:
        output.note(f"packregistry: {clean(str(error))}")
    return code
