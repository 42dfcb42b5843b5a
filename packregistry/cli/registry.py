"""`packregistry registry login` and `logout`."""

from __future__ import annotations

import os
import sys

import click

from packregistry.cli import output, remote
from packregistry.cli.home import home, home_option
from packregistry.cli.lazy import HELP
from packregistry.cli.remote import Chosen, ending, output_option
from packregistry.credentials import Credentials, Login, LoginFile, Server


@click.group("registry", context_settings=HELP)
@home_option
def command() -> None:
    """Log in to a registry, and out.

    \b
    packregistry registry login registry.example:5000 --default
    packregistry registry logout registry.example:5000
    """


@command.command("login")
@click.argument("server")
@click.option("-i", "--insecure", is_flag=True, help="Take any certificate, and plain HTTP; remembered.")
@click.option(
    "-d", "--default", "as_default", is_flag=True, help="Make it the registry that is meant if none is named."
)
@click.option("--username", metavar="NAME", help="Default PACKREGISTRY_USERNAME, or you are asked.")
@click.option("--password", metavar="TEXT", help="Seen by others on this machine: better --password-stdin.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@output_option
@home_option
@ending
async def login(
    server: str,
    insecure: bool,
    as_default: bool,
    username: str | None,
    password: str | None,
    password_stdin: bool,
    kind: str,
) -> int:
    """Log in to the registry SERVER, which is HOST or HOST:PORT, and remember it.

    The login is tried out first, and then kept in config.json of --home, which only you can read. A registry whose
    certificate is of your own CA is trusted once that CA is at /etc/spectro/certs.d/SERVER/ca.crt. Without TLS, write
    http:// before SERVER.

    \b
    packregistry registry login registry.example:5000
    packregistry registry login registry.example:5000 --default --username admin --password-stdin < password
    packregistry registry login http://localhost:5000 --username admin

    Exit codes: 0 logged in, 2 wrong usage, 3 the registry cannot be reached, 4 it refuses the login.
    """
    wanted = Server.parse(server)
    credentials = _credentials(username, password, from_stdin=password_stdin)
    if insecure:
        output.warn(f"the certificate of {wanted.name} is not checked (--insecure)")
    chosen = Chosen(Login(wanted, credentials, insecure))
    click.get_current_context().meta["packregistry.chosen"] = chosen
    async with chosen.client() as client:
        await client.check()
    LoginFile(home(click.get_current_context())).put(chosen.login, default=as_default)
    if kind == "json":
        output.document({"server": wanted.name, "username": credentials.username, "default": as_default})
    else:
        output.say("Login Succeeded")
    return 0


@command.command("logout")
@click.argument("server")
@output_option
@home_option
@ending
async def logout(server: str, kind: str) -> int:
    """Forget the login for SERVER.

    \b
    packregistry registry logout registry.example:5000
    """
    wanted = Server.parse(server)
    known = LoginFile(home(click.get_current_context())).remove(wanted)
    if kind == "json":
        output.document({"server": wanted.name, "removed": known})
    else:
        output.say(f"Removed the login for {wanted.name}" if known else f"Not logged in to {wanted.name}")
    return 0


def _credentials(username: str | None, password: str | None, *, from_stdin: bool) -> Credentials:
    """What to log in with, asked for where it is not given and there is somebody to ask."""
    if password is not None and from_stdin:
        raise click.UsageError("use either --password or --password-stdin")
    if password is not None:
        output.warn("--password can be seen by others on this machine: use --password-stdin")
    username = username or os.environ.get("PACKREGISTRY_USERNAME")
    if not username:
        username = remote.ask("Username", hide=False) if not from_stdin else None
    if not username:
        raise click.UsageError("there is no user name: use --username, or PACKREGISTRY_USERNAME")
    if ":" in username:
        raise click.UsageError("a user name cannot have a colon in it")
    if from_stdin:
        password = sys.stdin.read().removesuffix("\n").removesuffix("\r")
    if password is None:
        password = os.environ.get("PACKREGISTRY_PASSWORD")
    if password is None:
        password = remote.ask("Password", hide=True)
    if not password:
        raise click.UsageError("there is no password: use --password-stdin, or PACKREGISTRY_PASSWORD")
    return Credentials(username, password)
