"""`-s/--home`: where logins are kept. It may stand before a command or behind it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
_KEY = "packregistry.home"


def home_option(function: F) -> F:
    """The option, whose value is not passed to the command: `home` gives it."""
    return click.option(
        "-s",
        "--home",
        metavar="DIR",
        type=click.Path(file_okay=False, path_type=Path),
        expose_value=False,
        callback=_remember,
        help="Where config.json with the logins is. Default ~/.spectro.",
    )(function)


def home(ctx: click.Context) -> Path:
    """The directory of the option, or the default one."""
    found = ctx.meta.get(_KEY)
    return found if isinstance(found, Path) else Path.home() / ".spectro"


def _remember(ctx: click.Context, _option: click.Parameter, value: Path | None) -> None:
    if value is not None:
        ctx.meta[_KEY] = value
