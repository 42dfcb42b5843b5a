"""`packregistry pack tag add` and `delete`."""

from __future__ import annotations

import click

from packregistry.cli import output
from packregistry.cli.home import home_option
from packregistry.cli.lazy import HELP
from packregistry.cli.remote import ending, opened, registry_options
from packregistry.client import Reference
from packregistry.client.answers import clean
from packregistry.model import GROUP_SEPARATOR, PackName, Tag


@click.group("tag", context_settings=HELP)
@home_option
def command() -> None:
    """Add tags to versions, and delete them.

    A tag is LABEL or GROUP__LABEL. Parent tags such as 14.x and 14.4.x are made by the registry, and go with the last
    version they stand for.

    \b
    packregistry pack tag add ubuntu:lts__14.4.3 stable -g lts
    packregistry pack tag delete ubuntu:lts__stable
    """


@command.command("add")
@click.argument("pack", metavar="PACK:TAG")
@click.argument("label")
@click.option("-g", "--group", metavar="GROUP", default="", help="The group of the new tag.")
@registry_options
@ending
async def add(pack: str, label: str, group: str, server: str | None, insecure: bool, kind: str) -> int:
    """Give the version PACK:TAG another tag, LABEL or GROUP__LABEL.

    \b
    packregistry pack tag add ubuntu:lts__14.4.3 stable
    packregistry pack tag add ubuntu:lts__14.4.3 14.4.3-beta -g lts -r registry.example:5000
    """
    name, tag = tagged(pack)
    Tag.parse(f"{group}{GROUP_SEPARATOR}{label}" if group else label)
    async with opened(server, insecure=insecure) as client:
        done = await client.add_tag(name, tag, label, group)
    if kind == "json":
        output.document(done)
    else:
        output.say(clean(f"{name}:{done.get('tag')} is {name}:{done.get('version')}"))
    return 0


@command.command("delete")
@click.argument("pack", metavar="PACK:TAG")
@registry_options
@ending
async def delete(pack: str, server: str | None, insecure: bool, kind: str) -> int:
    """Delete a tag. A version whose last tag goes is deleted with it. Parent tags cannot be deleted.

    \b
    packregistry pack tag delete ubuntu:14.4.3
    packregistry pack tag delete ubuntu:lts__stable -r registry.example:5000
    """
    name, tag = tagged(pack)
    async with opened(server, insecure=insecure) as client:
        done = await client.delete_tag(name, tag)
    if kind == "json":
        output.document(done)
    else:
        output.say(clean(f"deleted {', '.join(f'{name}:{gone}' for gone in done.get('deleted') or [tag])}"))
        if done.get("release"):
            output.say(clean(f"the version {name}:{done['release']} had no other tag and is deleted too"))
    return 0


def tagged(text: str) -> tuple[PackName, Tag]:
    """The pack and the tag of `PACK:TAG`. Raises `click.UsageError` where it has no tag."""
    reference = Reference.parse(text)
    if reference.tag is None:
        raise click.UsageError(f"write PACK:TAG, such as {reference.name}:1.2.3")
    return reference.name, reference.tag
