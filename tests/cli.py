"""Commands, run in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from packregistry.cli import main

UNSET = ("SERVER", "USERNAME", "PASSWORD", "TOKEN")


def cli(*args: object, home: Path | None = None, stdin: str | None = None, **env: str) -> Result:
    """Run `packregistry ARGS`; `home` is the directory of --home, `env` adds to an environment without ours."""
    before = ["--home", str(home)] if home else []
    clean: dict[str, str | None] = {f"PACKREGISTRY_{name}": None for name in UNSET}
    result = CliRunner().invoke(main, [*before, *map(str, args)], input=stdin, env={**clean, **env})
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def document(result: Result) -> Any:
    """The JSON that a command printed, and nothing else."""
    return json.loads(result.stdout)
