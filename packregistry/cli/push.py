"""`packregistry pack push`."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from packregistry import offer
from packregistry.cli import output, remote
from packregistry.cli.lazy import HELP
from packregistry.cli.progress import Transfers, transfers
from packregistry.cli.remote import ending, opened, registry_options
from packregistry.client import Client
from packregistry.config import Limits
from packregistry.errors import RegistryError
from packregistry.failures import ClientError
from packregistry.model import Json
from packregistry.offer import Offer


@dataclass(frozen=True, slots=True)
class How:
    """What every pack of one push is pushed with."""

    force: bool = False
    message: str = ""
    skip_digest_check: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one path: what the registry answered, or why it did not come to that."""

    path: Path
    label: str
    answer: Json | None = None
    error: RegistryError | ClientError | None = None


@click.command("push", context_settings=HELP)
@click.argument("paths", metavar="DIR...", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("-f", "--force", is_flag=True, help="Replace a version that exists with other content.")
@click.option("-m", "--message", metavar="TEXT", default="", help="What changed; needed with --force.")
@click.option("--skip-digest-check", is_flag=True, help="With --force: push also what has not changed.")
@click.option("--jobs", type=click.IntRange(1, 64), default=4, show_default=True, help="How many packs at a time.")
@registry_options
@ending
async def command(
    paths: tuple[Path, ...],
    force: bool,
    message: str,
    skip_digest_check: bool,
    jobs: int,
    server: str | None,
    insecure: bool,
    kind: str,
) -> int:
    """Publish the packs in the directories DIR, or archives (.tar.gz) of packs.

    A directory is checked as the registry does it, packed, and sent. A version that exists with the same content is no
    error; with other content it takes --force and --message to replace it.

    \b
    packregistry pack push ./nginx-1.2.3
    packregistry pack push ./nginx-1.2.3 -r registry.example:5000 --force -m "new values"
    packregistry pack push packs/* --jobs 8 -o json

    Exit codes: 0 all are published, 1 one is refused, 2 wrong usage, 3 the registry cannot be reached,
    4 the login is missing or may not write. Of several packs the worst counts.
    """
    if force and not message.strip():
        raise click.UsageError("--force needs --message TEXT, which says what changed")
    how = How(force, message, skip_digest_check)
    async with opened(server, insecure=insecure) as client:
        # One small request tells a wrong address or login before anything is packed.
        await client.check()
        with transfers(quiet=kind == "json") as bars:
            outcomes = await push_all(client, paths, how, jobs, bars, remote.limits())
    report(outcomes, kind)
    return output.worst(output.exit_code(outcome.error) for outcome in outcomes if outcome.error)


async def push_all(
    client: Client, paths: Sequence[Path], how: How, jobs: int, bars: Transfers, limits: Limits
) -> list[Outcome]:
    """Push each path, `jobs` at a time; the outcomes are in the order of the paths."""
    free = asyncio.Semaphore(jobs)

    async def one(path: Path) -> Outcome:
        async with free:
            return await push(client, path, how, bars, limits)

    return await asyncio.gather(*(one(path) for path in paths))


async def push(client: Client, path: Path, how: How, bars: Transfers, limits: Limits) -> Outcome:
    """Push a directory or an archive."""
    label = str(path)
    try:
        if await asyncio.to_thread(path.is_file):
            answer = await _send(client, path, how, bars, label)
        else:
            found = await asyncio.to_thread(offer.inspect, path, limits)
            label = found.label
            with tempfile.TemporaryDirectory(prefix="packregistry-push-") as temporary:
                archive = Path(temporary) / "pack.tar.gz"
                await asyncio.to_thread(_pack, found, archive, limits)
                answer = await _send(client, archive, how, bars, label)
    except (RegistryError, ClientError) as error:
        return Outcome(path, label, error=error)
    except OSError as error:
        return Outcome(path, label, error=ClientError(f"{path} cannot be packed: {error.strerror}"))
    return Outcome(path, _label_of(answer) or label, answer)


def report(outcomes: Sequence[Outcome], kind: str) -> None:
    """Print what became of the packs: errors one by one, and of several packs a table at the end."""
    if kind == "json":
        output.document({"results": [_json(outcome) for outcome in outcomes]})
        return
    for outcome in outcomes:
        if outcome.error:
            said = remote.explained(outcome.error)
            output.note(f"packregistry: {said if outcome.label in said else f'{outcome.label}: {said}'}")
    if len(outcomes) == 1:
        for outcome in outcomes:
            if outcome.answer:
                output.say(f"{_action(outcome)} {outcome.label} {_digest(outcome)}")
        return
    output.table(
        ("PACK", "RESULT", "SIZE", "DIGEST"),
        [
            (outcome.label, _action(outcome), output.size(_archive(outcome).get("size")), _digest(outcome))
            for outcome in outcomes
        ],
    )
    failed = sum(outcome.error is not None for outcome in outcomes)
    output.say(f"{output.plural(len(outcomes) - failed, 'pack')} pushed, {failed} failed")


def _pack(found: Offer, archive: Path, limits: Limits) -> None:
    with archive.open("wb") as out:
        offer.pack(found, out, limits)


async def _send(client: Client, archive: Path, how: How, bars: Transfers, label: str) -> Json:
    return await client.push(
        archive,
        force=how.force,
        message=how.message,
        skip_digest_check=how.skip_digest_check,
        progress=bars(label),
    )


def _json(outcome: Outcome) -> Json:
    base: Json = {"path": str(outcome.path), "pack": outcome.label}
    if outcome.error:
        return {**base, "action": "failed", "error": output.error_json(outcome.error)}
    return {**base, **(outcome.answer or {})}


def _release(outcome: Outcome) -> Json:
    release = (outcome.answer or {}).get("release")
    return release if isinstance(release, dict) else {}


def _archive(outcome: Outcome) -> Json:
    archive = _release(outcome).get("archive")
    return archive if isinstance(archive, dict) else {}


def _digest(outcome: Outcome) -> str:
    return str(_archive(outcome).get("digest") or "")


def _action(outcome: Outcome) -> str:
    return "failed" if outcome.error else str((outcome.answer or {}).get("action") or "pushed")


def _label_of(answer: Json) -> str:
    release = answer.get("release")
    if not isinstance(release, dict) or not release.get("name"):
        return ""
    return f"{release['name']}:{release.get('tag')}"
