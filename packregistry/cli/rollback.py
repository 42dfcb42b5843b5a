"""`packregistry pack rollback`."""

from __future__ import annotations

import click

from packregistry.cli import output
from packregistry.cli.lazy import HELP
from packregistry.cli.remote import ending, opened, registry_options
from packregistry.client import Reference
from packregistry.client.answers import clean


@click.command("rollback", context_settings=HELP)
@click.argument("pack", metavar="NAME[:TAG]")
@click.option("--to", "entry", type=click.IntRange(0), help="The history entry, as `pack show NAME` numbers them.")
@click.option("-m", "--message", metavar="TEXT", default="", help="Why.")
@registry_options
@ending
async def command(pack: str, entry: int | None, message: str, server: str | None, insecure: bool, kind: str) -> int:
    """Bring back what a version had before its newest change, or what it had with an entry of its history.

    Replaced content stays for the registry's grace period. Without a tag it is the newest version.

    \b
    packregistry pack rollback nginx:1.2.3 -m "the new values break ingress"
    packregistry pack rollback nginx:1.2.3 --to 41
    """
    reference = Reference.parse(pack)
    if reference.digest:
        raise click.UsageError("name a version by its tag: NAME:TAG")
    async with opened(server, insecure=insecure) as client:
        tag = reference.tag or await client.newest(reference.name)
        done = await client.rollback(reference.name, tag, to=entry, message=message)
    if kind == "json":
        output.document(done)
    else:
        release = done.get("release")
        archive = release.get("archive") if isinstance(release, dict) else None
        digest = archive.get("digest") if isinstance(archive, dict) else ""
        output.say(clean(f"restored {reference.name}:{tag} {digest}"))
    return 0
