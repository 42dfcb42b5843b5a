"""`packregistry serve`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import click
import uvloop

from packregistry import __version__, config, logs, server, start
from packregistry.cli.output import fail, warn_all
from packregistry.errors import RegistryError
from packregistry.supervisor import serve_with_workers

SHOWN = 12


@click.command("serve", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("config_file", metavar="[CONFIG]", required=False, type=click.Path(path_type=Path))
@click.option("--addr", metavar="HOST:PORT", help="Where to listen (http.addr). Default 127.0.0.1:5000.")
@click.option(
    "--packs",
    metavar="DIR",
    multiple=True,
    help="A directory of packs to watch and serve (packs.directories); may be given again. Default ./packs.",
)
@click.option(
    "--data",
    metavar="DIR",
    help="Where to keep blobs and records (storage.filesystem.rootdirectory). Default ./.packregistry.",
)
@click.option(
    "--workers",
    metavar="COUNT",
    help="How many processes answer requests (http.workers); auto: one for each CPU. Default 1.",
)
def command(
    config_file: Path | None, addr: str | None, packs: tuple[str, ...], data: str | None, workers: str | None
) -> None:
    """Serve packs over HTTP.

    Without CONFIG, the packs below ./packs are served on http://127.0.0.1:5000 to this machine only, without
    authentication. Options of the command line win over environment variables (REGISTRY_HTTP_ADDR and so on), which
    win over the file.

    \b
    packregistry serve
    packregistry serve --packs /srv/packs --packs ~/git/packs --addr 127.0.0.1:8080
    REGISTRY_AUTH=htpasswd REGISTRY_AUTH_HTPASSWD_PATH=users packregistry serve --addr :5000
    packregistry serve /etc/spectro/config.yml

    SIGTERM and Ctrl-C finish the requests under way and exit with 0; SIGHUP reads users, tokens, policy and
    certificates again, and with several workers also the configuration, by replacing them one generation by the next.

    Exit code 1: the address or the data directory cannot be used; 2: the configuration, a file it names, or the
    command line is wrong.
    """
    flags = {
        "http.addr": addr,
        "http.workers": workers,
        "packs.directories": list(packs) or None,
        "storage.filesystem.rootdirectory": data,
    }

    # Until there is something to read again, it means nothing; by itself it would end the process.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def read() -> config.Loaded:
        return config.load(config_file, os.environ, flags)

    def checked(found: config.Loaded) -> config.Config:
        warn_all(found.warnings)
        start.check_openness(found.config, from_file=config_file is not None)
        return found.config

    try:
        found = read()
        logs.set_up(found.config.log)
        loaded = checked(found)
    except config.ConfigError as error:
        warn_all(error.warnings)
        fail(str(error), 2)
    except start.StartError as error:
        fail(str(error), error.status)
    try:
        if start.workers_of(loaded) > 1:
            serve_with_workers(loaded, lambda: checked(read()), announce)
        else:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(server.serve(loaded, announce))
    except start.StartError as error:
        fail(str(error), error.status)
    except RegistryError as error:
        fail(str(error), 1)
    except asyncio.CancelledError:
        fail("stopped before all requests had ended", 1)


def announce(running: server.Running) -> None:
    """Say where the server is, what it serves, and what to try next."""
    click.echo(banner(running))
    sys.stdout.flush()


def banner(running: server.Running) -> str:
    """What a person sees when the server has started."""
    packs = running.registry.packs()
    settings = running.config
    versions = sum(len(pack.releases) for pack in packs)
    lines = [f"packregistry {__version__} at {running.url}", ""]
    width = max((len(pack.name) for pack in packs[:SHOWN]), default=0)
    for pack in packs[:SHOWN]:
        newest = [release.tag for release in pack.releases[:6]]
        more = f" and {len(pack.releases) - 6} more" if len(pack.releases) > 6 else ""
        lines.append(f"  {pack.name:{width}}  {', '.join(newest)}{more}")
    if len(packs) > SHOWN:
        lines.append(f"  … and {len(packs) - SHOWN} more")
    places = ", ".join(map(str, settings.packs.directories)) or "pushes only"
    where = "memory" if settings.storage.driver == "inmemory" else settings.storage.filesystem.rootdirectory
    lines += [f"  {versions} versions of {len(packs)} packs, from {places}; kept in {where}", "", *_next_steps(running)]
    return "\n".join(lines)


def _next_steps(running: server.Running) -> list[str]:
    packs = running.registry.packs()
    user = "-u USER " if running.config.auth.mode == "htpasswd" else ""
    curl = f"  curl {user}{running.url}"
    lines = ["Try", f"{curl}/v1/_catalog"]
    if packs:
        lines.append(f"{curl}/api/v1/packs/{packs[0].name}")
        lines.append(
            f"{curl.replace('curl', 'curl -OJ')}/api/v1/packs/{packs[0].name}/versions/{packs[0].latest.tag}/archive"
        )
    lines.append(f"{curl}/api/v1/problems")
    if running.metrics:
        lines.append(f"  curl {running.metrics}")
    if running.config.packs.directories:
        lines.append(f"A pack directory put into {running.config.packs.directories[0]} is served a moment later.")
    if running.config.auth.mode == "unset":
        lines.append("Only this machine can connect, and nobody is asked for a password: see README for users.")
    return [*lines, "Ctrl-C stops the server.", ""]
