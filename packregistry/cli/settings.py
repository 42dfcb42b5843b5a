"""The server's configuration, for commands that work on its files."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ParamSpec, TypeVar

import click

from packregistry import config
from packregistry.cli.output import fail, warn_all

P = ParamSpec("P")
T = TypeVar("T")


def config_option(function: Callable[P, T]) -> Callable[P, T]:
    """`-c/--config FILE`, as `config_file`."""
    return click.option(
        "-c",
        "--config",
        "config_file",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="The server's configuration file; REGISTRY_… variables win over it.",
    )(function)


def loaded(config_file: Path | None, flags: Mapping[str, object]) -> config.Config:
    """The configuration of a server started with the same file and variables; exits with 2 if it is bad."""
    try:
        found = config.load(config_file, os.environ, flags)
    except config.ConfigError as error:
        warn_all(error.warnings)
        fail(str(error), 2)
    return found.config
