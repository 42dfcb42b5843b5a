"""`packregistry config`: what the server's configuration says, and whether it is in order."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Final

import click

from packregistry import config
from packregistry.cli import output
from packregistry.cli.lazy import HELP, LazyGroup
from packregistry.config.jsonschema import json_schema
from packregistry.config.written import Hide, as_yaml, tree
from packregistry.masking import MASK, masked

COMMANDS = {
    "check": ("packregistry.cli.configcheck", "Check a configuration as the server does at its start."),
    "print": ("packregistry.cli.config:print_", "Print the configuration that is in force."),
    "schema": ("packregistry.cli.config:schema", "Print a JSON Schema of the file, for editors."),
}

_SECRET_KEYS: Final = {"password", "secret", "accesskey", "secretkey", "token"}
_FREE_MAPS: Final = ("http.headers.", "log.fields.")
_SECRET_NAME: Final = re.compile(
    r"authorization|cookie|token|secret|password|passwd|api-?key|credential", re.IGNORECASE
)
# What looks like a header there is the name of a realm, such as `Basic Registry`.
_OPEN: Final = "auth.htpasswd.realm"


@click.command("config", cls=LazyGroup, table=COMMANDS, context_settings=HELP)
def command() -> None:
    """Check the server's configuration, print it, and describe it to editors.

    \b
    packregistry config check /etc/spectro/config.yml
    packregistry config print /etc/spectro/config.yml
    packregistry config schema > packregistry.schema.json
    """


@click.command("print", context_settings=HELP)
@click.argument("config_file", metavar="[CONFIG]", required=False, type=click.Path(path_type=Path))
@click.option("--plain", is_flag=True, help="Leave out where each value is from.")
@click.option("-o", "--output", "kind", type=click.Choice(["yaml", "json"]), default="yaml", help="How to print it.")
def print_(config_file: Path | None, plain: bool, kind: str) -> None:
    """Print the configuration of a server started with CONFIG, the same variables and no options, with all defaults.

    It can be used as a configuration file. A comment behind each value says where it is from: a file with line and
    column, a variable, or the defaults. Secrets are shown as ***, and so is all that a REGISTRY_…_FILE variable gives.

    \b
    packregistry config print /etc/spectro/config.yml
    packregistry config print /etc/spectro/config.yml --plain > complete.yml
    REGISTRY_LOG_LEVEL=debug packregistry config print -o json

    Exit codes: 0 printed, 2 the configuration is wrong.
    """
    try:
        loaded = config.load(config_file, os.environ, {})
    except config.ConfigError as error:
        output.warn_all(error.warnings)
        output.fail(str(error), 2)
    output.warn_all(loaded.warnings)
    hide = hiding(loaded.hidden)
    if kind == "json":
        # In ASCII, as a path may have bytes in it that are no text.
        output.say(json.dumps(tree(loaded.config, hide), indent=2))
    else:
        click.echo(as_yaml(loaded.config, None if plain else loaded.origins, hide), nl=False)
    if tree(loaded.config) != tree(loaded.config, hide):
        output.note(f"packregistry: secrets are shown as {MASK}: write them there before this is used as a file")


@click.command("schema", context_settings=HELP)
def schema() -> None:
    """Print a JSON Schema of the configuration file: its keys, values and defaults, for editors that know YAML.

    \b
    packregistry config schema > packregistry.schema.json

    With the line `# yaml-language-server: $schema=packregistry.schema.json` at the top of a file, editors that have
    the YAML language server check it while it is written.
    """
    output.document(json_schema())


def hiding(keys: AbstractSet[str]) -> Hide:
    """`hidden`, with all that is at one of `keys` a secret as well; they are what `Loaded.hidden` has."""
    return lambda path, text: MASK if text and path in keys else hidden(path, text)


def hidden(path: str, text: str) -> str:
    """`text` as it may be shown: `***` for what `path` says is a secret, and in place of what looks like one."""
    if not text or path == _OPEN:
        return text
    prefix = next((prefix for prefix in _FREE_MAPS if path.startswith(prefix)), "")
    if path.rpartition(".")[2].lower() in _SECRET_KEYS or (prefix and _SECRET_NAME.search(path.removeprefix(prefix))):
        return MASK
    return masked(text)
