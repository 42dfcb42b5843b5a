"""`packregistry pack ls` and `packregistry pack show`."""

from __future__ import annotations

from typing import Any

import click

from packregistry.cli import output
from packregistry.cli.lazy import HELP
from packregistry.cli.remote import ending, opened, registry_options
from packregistry.client import Client, Reference
from packregistry.client.answers import clean
from packregistry.errors import PathUnknownError
from packregistry.failures import NotARegistryError
from packregistry.model import Json, PackName


@click.command("ls", context_settings=HELP)
@click.argument("registry", metavar="[SERVER]", required=False)
@click.option("-n", "--name", metavar="NAME", help="List the versions of this pack.")
@registry_options
@ending
async def ls(registry: str | None, name: str | None, server: str | None, insecure: bool, kind: str) -> int:
    """List the packs of a registry, or the versions of one pack, newest first.

    \b
    packregistry pack ls
    packregistry pack ls registry.example:5000
    packregistry pack ls -n ubuntu -o json
    """
    wanted = PackName.parse(name) if name else None
    async with opened(server or registry, insecure=insecure) as client:
        try:
            found: Any = await client.show(wanted) if wanted else {"packs": await client.packs()}
        except (NotARegistryError, PathUnknownError):
            found = await _listed(client, wanted)
    if kind == "json":
        output.document(found)
    elif wanted:
        rows = [
            (
                wanted,
                one.get("tag"),
                _others(one),
                output.size(_in(one, "archive", "size")),
                _in(one, "manifest", "digest"),
            )
            for one in _objects(found.get("versions"))
        ]
        output.table(("NAME", "TAG", "OTHER TAGS", "SIZE", "DIGEST"), rows)
    else:
        output.table(
            ("NAME", "NEWEST", "VERSIONS", "LAYER", "TYPE"),
            [
                (
                    one.get("name"),
                    _in(one, "latest", "tag"),
                    one.get("versionCount"),
                    one.get("layer"),
                    one.get("addonType"),
                )
                for one in found["packs"]
            ],
        )
    return 0


async def _listed(client: Client, wanted: PackName | None) -> Json:
    """What a registry tells that has no JSON API, such as the vendor's: tags, parent tags among them, and no more."""
    if wanted:
        return {"name": wanted, "versions": [{"tag": tag} for tag in await client.tags(wanted)]}
    packs = [
        {"name": name, "latest": {"tag": await client.newest(PackName.parse(name))}} for name in await client.catalog()
    ]
    return {"packs": packs}


@click.command("show", context_settings=HELP)
@click.argument("pack", metavar="NAME[:TAG]")
@registry_options
@ending
async def show(pack: str, server: str | None, insecure: bool, kind: str) -> int:
    """Show a pack with its versions, tags and history, or one of its versions with its images, files and problems.

    \b
    packregistry pack show ubuntu
    packregistry pack show ubuntu:lts__14.4.3 -o json
    """
    reference = Reference.parse(pack)
    if reference.digest:
        raise click.UsageError("show a version by its tag: NAME:TAG")
    async with opened(server, insecure=insecure) as client:
        if reference.tag is None:
            found = await client.show(reference.name)
        else:
            found = await client.release(reference.name, reference.tag)
    if kind == "json":
        output.document(found)
    elif reference.tag is None:
        _overview(found)
    else:
        _version(found)
    return 0


def _overview(pack: Json) -> None:
    _fields(pack, ("name", "displayName", "layer", "addonType", "cloudTypes", "updated"))
    output.say()
    output.table(
        ("TAG", "OTHER TAGS", "PUBLISHED", "SIZE"),
        [
            (one.get("tag"), _others(one), one.get("published"), output.size(_in(one, "archive", "size")))
            for one in _objects(pack.get("versions"))
        ],
    )
    if history := _objects(pack.get("history")):
        output.say()
        output.table(
            ("ENTRY", "TIME", "USER", "ACTION", "TAG", "MESSAGE"),
            [[one.get(key) for key in ("id", "time", "user", "action", "tag", "message")] for one in history],
        )


def _version(release: Json) -> None:
    _fields(release, ("name", "displayName", "tag", "layer", "addonType", "cloudTypes", "published"))
    for key in ("archive", "manifest"):
        output.say(f"{key + ':':14}{clean(str(_in(release, key, 'digest')))}")
    output.say(f"{'size:':14}{output.size(_in(release, 'archive', 'size'))}")
    output.say(f"{'other tags:':14}{clean(_others(release)) or '-'}")
    for title, lines in (
        ("images", [clean(str(image)) for image in release.get("images") or []]),
        (
            "files",
            [
                f"{clean(str(one.get('path')))} ({output.size(one.get('size'))})"
                for one in _objects(release.get("files"))
            ],
        ),
        ("problems", [output.problem_line(one) for one in _objects(release.get("problems"))]),
    ):
        if lines:
            output.say(f"{title}:")
            for line in lines:
                output.say(f"  {line}")


def _fields(document: Json, keys: tuple[str, ...]) -> None:
    for key in keys:
        value = document.get(key)
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value or "-")
        output.say(f"{key + ':':14}{clean(text)}")


def _others(release: Json) -> str:
    """The tags of a release but for its own."""
    tags = [*(release.get("tags") or []), *(release.get("parentTags") or [])]
    return ", ".join(str(tag) for tag in tags if tag != release.get("tag"))


def _in(document: Json, key: str, inner: str) -> Any:
    value = document.get(key)
    return value.get(inner) if isinstance(value, dict) else None


def _objects(value: Any) -> list[Json]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise NotARegistryError("the registry answers with something else than a list")
    return value
