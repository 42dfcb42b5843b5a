"""The command line: `packregistry COMMAND`. A command is imported when it is called, which keeps `--help` quick.

Exit codes: 0 done, 1 refused or failed, 2 wrong usage or configuration.
"""

from __future__ import annotations

import difflib
import importlib

import click

from packregistry import __version__

COMMANDS = {
    "serve": ("packregistry.cli.serve", "Serve packs over HTTP."),
}


class LazyGroup(click.Group):
    """A group that knows its commands' names and first lines, and imports a command only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the table."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command. `None` where there is no such command."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, _ = COMMANDS[cmd_name]
        command = importlib.import_module(module).command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that was asked for; fail with the nearest one where there is none."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            ctx.fail(f"No such command {args[0]!r}." + (f" Did you mean {near[0]!r}?" if near else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing any."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="packregistry %(version)s")
def main() -> None:
    """A self-hosted registry for Spectro Cloud packs.

    \b
    packregistry serve                     serve ./packs on http://127.0.0.1:5000
    packregistry serve config.yml          serve as a configuration file says
    packregistry COMMAND --help            say more about a command
    """
