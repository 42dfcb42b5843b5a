"""`packregistry pack pull`."""

from __future__ import annotations

from pathlib import Path

import click

from packregistry.cli import output, remote
from packregistry.cli.lazy import HELP
from packregistry.cli.progress import transfers
from packregistry.cli.remote import ending, opened, registry_options
from packregistry.client import Reference


@click.command("pull", context_settings=HELP)
@click.argument("pack", metavar="NAME[:TAG|@DIGEST]")
@click.argument("target_dir", metavar="TARGET_DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("-f", "--force", is_flag=True, help="Replace the directory if it is there already.")
@registry_options
@ending
async def command(pack: str, target_dir: Path, force: bool, server: str | None, insecure: bool, kind: str) -> int:
    """Fetch a pack: it becomes the directory NAME-TAG in TARGET_DIR.

    Without a tag it is the newest version. DIGEST is that of a manifest, as `pack ls -n NAME` shows it. A download that
    broke off goes on where it was; the digest is verified; the directory appears whole or not at all.

    \b
    packregistry pack pull nginx /tmp/packs
    packregistry pack pull nginx:1.16.1 /tmp/packs -r registry.example:5000
    packregistry pack pull nginx@sha256:5269f073… /tmp/packs

    Exit codes: 0 it is there, 1 there is no such pack, or it is damaged or in the way, 2 wrong usage,
    3 the registry cannot be reached, 4 the login is missing or refused.
    """
    reference = Reference.parse(pack)
    async with opened(server, insecure=insecure) as client:
        with transfers(quiet=kind == "json") as bars:
            pulled = await client.pull(
                reference, target_dir, remote.limits(), replace=force, progress=bars(str(reference))
            )
    if kind == "json":
        output.document(
            {
                "name": pulled.name,
                "tag": pulled.tag,
                "directory": str(pulled.directory),
                "manifest": {"digest": pulled.manifest},
                "archive": {"digest": pulled.archive, "size": pulled.size},
            }
        )
    else:
        output.say(f"pulled {pulled.name}:{pulled.tag} to {pulled.directory} {pulled.manifest}")
    return 0
