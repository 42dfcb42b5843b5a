"""`packregistry pack build`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from packregistry import scaffold
from packregistry.cli import output, remote
from packregistry.cli.lazy import HELP
from packregistry.cli.progress import transfers
from packregistry.cli.push import How, push
from packregistry.cli.remote import ending, opened, registry_options
from packregistry.model import Json, PackName


@click.command("build", context_settings=HELP)
@click.argument("name")
@click.argument("target_dir", metavar="TARGET_DIR", type=click.Path(path_type=Path))
@click.option(
    "--chart",
    "charts",
    metavar="PATH",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="A Helm chart, as a directory or a .tgz; may be given again.",
)
@click.option("-p", "--push", "and_push", is_flag=True, help="Push the pack once it is made.")
@registry_options
@ending
async def command(
    name: str,
    target_dir: Path,
    charts: tuple[Path, ...],
    and_push: bool,
    server: str | None,
    insecure: bool,
    kind: str,
) -> int:
    """Make the pack NAME in TARGET_DIR from Helm charts; without one, make a skeleton.

    The version and the description are those of the first chart. values.yaml has the charts' values under
    charts.<name>, and the images found in them under pack.content.images: look through these, as a chart may hide
    some. Replace logo.png and README.md.

    \b
    packregistry pack build nginx ./nginx-1.2.3 --chart nginx-1.2.3.tgz
    packregistry pack build monitoring ./monitoring --chart ./charts/prometheus --chart ./charts/grafana --push
    """
    made = await asyncio.to_thread(scaffold.build, PackName.parse(name), target_dir, charts, remote.limits())
    result: Json = {
        "directory": str(target_dir),
        "name": made.name,
        "version": made.version,
        "charts": list(made.charts),
        "images": list(made.images),
    }
    if kind == "text":
        output.say(f"made {made.name}:{made.version} in {target_dir}")
        for title, items in (("chart", made.charts), ("image", made.images)):
            for item in items:
                output.say(f"  {title} {item}")
    if and_push:
        async with opened(server, insecure=insecure) as client:
            with transfers(quiet=kind == "json") as bars:
                outcome = await push(client, target_dir, How(), bars, remote.limits())
        if outcome.error:
            raise outcome.error
        result["push"] = outcome.answer
        if kind == "text":
            output.say(f"pushed {outcome.label}")
    if kind == "json":
        output.document(result)
    return 0
