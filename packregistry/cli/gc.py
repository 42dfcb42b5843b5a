"""`packregistry gc`."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import click
import uvloop

from packregistry import config, logs, server
from packregistry.cli.lazy import HELP
from packregistry.cli.output import fail, warn_all
from packregistry.errors import RegistryError
from packregistry.registry import Registry
from packregistry.sweep import Swept


@click.command("gc", context_settings=HELP)
@click.argument("config_file", metavar="[CONFIG]", required=False, type=click.Path(path_type=Path))
@click.option("--data", metavar="DIR", help="Where blobs and records are kept (storage.filesystem.rootdirectory).")
@click.option("--grace", metavar="DURATION", help="How long what is unused is kept (storage.sweep.grace): 24h, 90m.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
def command(config_file: Path | None, data: str | None, grace: str | None, dry_run: bool) -> None:
    """Remove blobs that no release needs any more, and uploads that nobody went on with.

    A running server does the same by itself every `storage.sweep.interval`; both may run at once. What was replaced or
    removed within the grace period stays, so that it can be restored.

    \b
    packregistry gc --dry-run
    packregistry gc /etc/spectro/config.yml --grace 7d

    Exit code 1: the data directory cannot be used, or a record in it is damaged; 2: the configuration is wrong.
    """
    flags = {"storage.filesystem.rootdirectory": data, "storage.sweep.grace": grace}
    try:
        loaded = config.load(config_file, os.environ, flags)
    except config.ConfigError as error:
        warn_all(error.warnings)
        fail(str(error), 2)
    logs.set_up(replace(loaded.config.log, level="error"))
    if loaded.config.storage.driver == "inmemory":
        fail("storage: inmemory keeps nothing that could be removed", 2)
    root = loaded.config.storage.filesystem.rootdirectory
    if not root.is_dir():
        fail(f"{root} is not a data directory: name one with --data", 1)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            swept = runner.run(sweep(loaded.config, dry_run=dry_run))
    except RegistryError as error:
        fail(str(error), 1)
    for digest, size in swept.blobs:
        click.echo(f"{digest} {size}")
    for upload in swept.uploads:
        click.echo(f"upload {upload}")
    verb = "would be removed" if dry_run else "removed"
    click.echo(f"{len(swept.blobs)} blobs of {swept.size} bytes and {len(swept.uploads)} uploads {verb}", err=True)


async def sweep(settings: config.Config, *, dry_run: bool) -> Swept:
    """Sweep the configured storage once."""
    registry = Registry(server.storage_of(settings))
    await registry.open()
    try:
        return await server.sweeper_of(settings, registry).sweep(dry_run=dry_run)
    finally:
        await registry.close()
