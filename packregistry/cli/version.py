"""`packregistry version`."""

from __future__ import annotations

import platform

import click

from packregistry import __version__
from packregistry.cli.home import home_option
from packregistry.cli.lazy import HELP


@click.command("version", context_settings=HELP)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="How to print it.")
@home_option
def command(output: str) -> None:
    """Print the version.

    \b
    packregistry version
    packregistry version -o json
    """
    system = f"{platform.system().lower()}/{platform.machine()}"
    if output == "json":
        click.echo(f'{{"version": "{__version__}", "platform": "{system}"}}')
    else:
        click.echo(f"packregistry {__version__} {system}")
