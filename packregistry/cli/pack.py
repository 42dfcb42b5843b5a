"""`packregistry pack`: the commands about packs."""

from __future__ import annotations

import click

from packregistry.cli.home import home_option
from packregistry.cli.lazy import HELP, LazyGroup

COMMANDS = {
    "push": ("packregistry.cli.push", "Publish packs."),
    "pull": ("packregistry.cli.pull", "Fetch a pack."),
    "ls": ("packregistry.cli.listing:ls", "List packs, or the versions of one."),
    "show": ("packregistry.cli.listing:show", "Show a pack, or one of its versions."),
    "lint": ("packregistry.cli.lint", "Check packs as the registry does."),
    "build": ("packregistry.cli.build", "Make a pack from Helm charts."),
    "tag": ("packregistry.cli.tag", "Add tags and delete them."),
    "rollback": ("packregistry.cli.rollback", "Bring earlier content of a version back."),
}


@click.command("pack", cls=LazyGroup, table=COMMANDS, context_settings=HELP)
@home_option
def command() -> None:
    """Push, pull, list, check and build packs.

    \b
    packregistry pack push ./nginx-1.2.3
    packregistry pack pull nginx:1.2.3 ./packs
    packregistry pack ls -n nginx
    """
