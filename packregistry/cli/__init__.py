"""The command line: `packregistry COMMAND`. A command is imported when it is called, which keeps `--help` quick.

Exit codes: 0 done, 1 refused or failed, 2 wrong usage or configuration, 3 the registry cannot be reached, 4 it does not
know who asks, or does not let them. Of several packs the worst counts.

The commands of a server stand beside those of its clients::

    serve                                      one process that serves
    health                                     whether it is alive
    entrypoint                                 how the image starts it
    gc                                         one sweep of its data directory
    user        add, passwd, remove, …         its htpasswd file
    token       create, list, revoke           its tokens, or those of a registry over the API
    config      check, print, schema           its configuration; validity: the days of its certificates
    settings    the same, for commands that work on its files
    registry    login, logout                  which registry, and who asks
    pack        push, pull, ls, show, tag, …   what is in it
    remote      what the clients' commands share: options, the chosen registry, how they end
    output      what is printed, and how errors say what to do; progress shows transfers
    lazy        groups that import a command only to run it
"""

from __future__ import annotations

import click

from packregistry import __version__
from packregistry.cli.home import home_option
from packregistry.cli.lazy import HELP, LazyGroup

COMMANDS = {
    "serve": ("packregistry.cli.serve", "Serve packs over HTTP."),
    "health": ("packregistry.cli.health", "Ask the server on this machine whether it is alive."),
    "config": ("packregistry.cli.config", "Check the server's configuration, print and describe it."),
    "gc": ("packregistry.cli.gc", "Remove what nothing needs any more."),
    "registry": ("packregistry.cli.registry", "Log in to a registry, and out."),
    "pack": ("packregistry.cli.pack", "Push, pull, list, check and build packs."),
    "user": ("packregistry.cli.user", "Add users of a server, and change and remove them."),
    "token": ("packregistry.cli.token", "Make tokens, list them, revoke them."),
    "version": ("packregistry.cli.version", "Print the version."),
    "completion": ("packregistry.cli.completion", "Print a script that lets a shell complete commands."),
}


@click.command(cls=LazyGroup, table=COMMANDS, context_settings=HELP)
@click.version_option(__version__, message="packregistry %(version)s")
@home_option
def main() -> None:
    """A self-hosted registry for Spectro Cloud packs, and the command line of its users.

    \b
    packregistry serve                               serve ./packs on http://127.0.0.1:5000
    packregistry registry login registry.example:5000 -d
    packregistry pack push ./nginx-1.2.3             publish a pack
    packregistry pack pull nginx:1.2.3 ./packs       fetch it, as ./packs/nginx-1.2.3
    packregistry COMMAND --help                      say more about a command
    source <(packregistry completion bash)           complete commands in this shell

    Exit codes: 0 done, 1 refused or failed, 2 wrong usage or configuration, 3 the registry cannot be reached,
    4 it does not know who asks, or does not let them. Of several packs the worst counts.
    """
