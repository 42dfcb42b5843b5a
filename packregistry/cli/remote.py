"""What the clients' commands share: their options, which registry they mean and who asks, and how they end.

Which registry: `-r`, else `PACKREGISTRY_SERVER`, else the default of the logins (or the only one).
Who asks: `PACKREGISTRY_TOKEN`, else `PACKREGISTRY_USERNAME` and `PACKREGISTRY_PASSWORD`, else the login for that
registry. Where `PACKREGISTRY_SERVER` is set, the others belong to it, and no other registry is sent them.
"""

from __future__ import annotations

import asyncio
import functools
import os
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click

from packregistry import config
from packregistry.cli import output
from packregistry.cli.home import home, home_option
from packregistry.client import Client
from packregistry.config import Limits
from packregistry.credentials import Credentials, Login, LoginFile, Server
from packregistry.errors import RegistryError
from packregistry.failures import ClientError

P = ParamSpec("P")
T = TypeVar("T")

CERTIFICATES = Path("/etc/spectro/certs.d")


@dataclass(frozen=True, slots=True)
class Chosen:
    """The registry that is meant, and how it is asked."""

    login: Login

    def client(self) -> Client:
        """A client of it, to be opened."""
        login = self.login
        ca = CERTIFICATES / login.server.name / "ca.crt"
        return Client(login.server, login.credentials, ca=ca, insecure=login.insecure)


def registry_options(function: Callable[P, T]) -> Callable[P, T]:
    """The options of every command that talks to a registry."""
    for option in (
        home_option,
        output_option,
        click.option("-i", "--insecure", is_flag=True, help="Take any certificate, and plain HTTP."),
        click.option("-r", "--registry-server", "server", metavar="SERVER", help="The registry, as HOST[:PORT]."),
    ):
        function = option(function)
    return function


def output_option(function: Callable[P, T]) -> Callable[P, T]:
    """`-o text|json`."""
    kinds = click.Choice(["text", "json"])
    return click.option("-o", "--output", "kind", type=kinds, default="text", help="How to print the result.")(function)


def choose(server: str | None, *, insecure: bool) -> Chosen:
    """The registry that is meant. Raises `click.UsageError` where there is none, and `ClientError`."""
    logins = LoginFile(home(click.get_current_context()))
    named = server or os.environ.get("PACKREGISTRY_SERVER")
    wanted = Server.parse(named) if named else logins.default()
    if wanted is None:
        raise click.UsageError(
            "no registry is named: use -r SERVER, set PACKREGISTRY_SERVER, or log in with "
            "`packregistry registry login SERVER --default`"
        )
    known = logins.find(wanted)
    credentials = of_environment(wanted) or (known.credentials if known else None)
    insecure = insecure or (known is not None and known.insecure)
    if insecure:
        output.warn(f"the certificate of {wanted.name} is not checked (--insecure)")
    return Chosen(Login(known.server if known else wanted, credentials, insecure))


def of_environment(server: Server) -> Credentials | None:
    """The credentials that environment variables give for `server`, if they do. Raises `click.UsageError`."""
    owner = os.environ.get("PACKREGISTRY_SERVER")
    if owner and Server.parse(owner).name != server.name:
        return None
    if token := os.environ.get("PACKREGISTRY_TOKEN"):
        return Credentials(token=token)
    username, password = os.environ.get("PACKREGISTRY_USERNAME"), os.environ.get("PACKREGISTRY_PASSWORD")
    if username and password is not None:
        return Credentials(username, password)
    if username or password:
        lacking = "PACKREGISTRY_PASSWORD" if username else "PACKREGISTRY_USERNAME"
        raise click.UsageError(f"{lacking} is not set, the other of the two is")
    return None


def limits() -> Limits:
    """What a pack may be at most: the defaults, or what `REGISTRY_LIMITS_…` say, as they do for a server."""
    wanted = {key: value for key, value in os.environ.items() if key.startswith("REGISTRY_LIMITS_")}
    try:
        return config.load(None, wanted, {}).config.limits
    except config.ConfigError as error:
        raise click.UsageError(str(error)) from error


def ending(function: Callable[P, Coroutine[Any, Any, int]]) -> Callable[P, None]:
    """Make a command of a coroutine that returns an exit code: it is run, and errors are explained.

    The wrapped function takes `kind` and, where it talks to a registry, `server` and `insecure`, as keyword arguments.
    """

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            code = asyncio.run(function(*args, **kwargs))
        except (RegistryError, ClientError) as error:
            code = fail(error, as_json=kwargs.get("kind") == "json")
        sys.exit(code)

    return run


def fail(error: RegistryError | ClientError, *, as_json: bool) -> int:
    """Print why it does not go on; return the exit code."""
    if as_json:
        output.document({"errors": [output.error_json(error)]})
    else:
        output.note(f"packregistry: {explained(error)}")
    return output.exit_code(error)


def explained(error: RegistryError | ClientError) -> str:
    """What went wrong and what to do, with the registry that was asked."""
    chosen = click.get_current_context().meta.get("packregistry.chosen")
    if not isinstance(chosen, Chosen):
        return output.explain(error)
    return output.explain(error, str(chosen.login.server), logged_in=chosen.login.credentials is not None)


def opened(server: str | None, *, insecure: bool) -> Client:
    """A client of the registry that is meant, to be opened; errors will name that registry."""
    chosen = choose(server, insecure=insecure)
    click.get_current_context().meta["packregistry.chosen"] = chosen
    return chosen.client()


def ask(what: str, *, hide: bool) -> str | None:
    """Ask at the terminal; None where there is none."""
    return str(click.prompt(what, hide_input=hide, err=True)) if at_terminal() else None


def at_terminal() -> bool:
    """Whether there is somebody who can be asked."""
    return sys.stdin.isatty()
