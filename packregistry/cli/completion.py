"""`packregistry completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from packregistry.cli.lazy import HELP

SHELLS = ("bash", "zsh", "fish")


@click.command("completion", context_settings=HELP)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print a script that lets SHELL complete commands, options and file names.

    \b
    source <(packregistry completion bash)           # now, or in ~/.bashrc
    source <(packregistry completion zsh)            # in ~/.zshrc
    packregistry completion fish > ~/.config/fish/completions/packregistry.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    # What click's own `_PACKREGISTRY_COMPLETE=bash_source packregistry` prints, without its look for bash's version.
    completion = kind(ctx.find_root().command, {}, "packregistry", "_PACKREGISTRY_COMPLETE")
    click.echo(completion.source_template % completion.source_vars())
