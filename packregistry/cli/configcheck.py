"""`packregistry config check`."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click

from packregistry import config
from packregistry.auth.htpasswd import HtpasswdFile
from packregistry.auth.policy import PolicyFile
from packregistry.auth.tokens import TOKEN_USE, TOKENS, TokenFile
from packregistry.cli import output
from packregistry.cli.lazy import HELP
from packregistry.cli.validity import validities
from packregistry.client.answers import clean
from packregistry.masking import masked
from packregistry.reload import Reloadable, ReloadError
from packregistry.start import StartError, check_openness
from packregistry.tls import Tls

BAD = 2


@dataclass(slots=True)
class Findings:
    """What is wrong, and what is odd: one line each."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@click.command("check", context_settings=HELP)
@click.argument("config_file", metavar="[CONFIG]", required=False, type=click.Path(path_type=Path))
@click.option("--strict", is_flag=True, help="Take warnings for errors.")
def command(config_file: Path | None, strict: bool) -> None:
    """Check the configuration of a server started with CONFIG and the same variables; nothing is started or changed.

    Every problem is printed with its place and what to do. The files that are named are read as the server does: users,
    policy, tokens, and certificates, which must be valid today and belong to their keys.

    \b
    packregistry config check /etc/spectro/config.yml
    packregistry config check /etc/spectro/config.yml --strict
    REGISTRY_AUTH=htpasswd REGISTRY_AUTH_HTPASSWD_PATH=users packregistry config check

    Exit codes: 0 the server can start with it, 2 it cannot, or there are warnings and --strict.
    """
    found = findings(config_file)
    for warning in found.warnings:
        output.say(clean(f"{'error' if strict else 'warning'}: {warning}"))
    for error in found.errors:
        output.say(clean(f"error: {error}"))
    errors = len(found.errors) + (len(found.warnings) if strict else 0)
    name = config_file or "configuration"
    output.say(clean(f"{name}: {output.plural(errors, 'error') if errors else 'fine'}"))
    sys.exit(BAD if errors else 0)


def findings(config_file: Path | None) -> Findings:
    """All that is wrong with a configuration, and with the files it names; those only where it is right itself."""
    try:
        loaded = config.load(config_file, os.environ, {})
    except config.ConfigError as error:
        return Findings(list(error.problems), list(error.warnings))
    found = Findings(warnings=list(loaded.warnings))
    settings = loaded.config
    with _warnings_into(found.warnings):
        try:
            check_openness(settings, from_file=config_file is not None)
        except StartError as error:
            found.errors.append(" ".join(str(error).splitlines()))
        for option, source in _files(settings):
            try:
                source.load()
            except ReloadError as error:
                found.errors += [line if line.startswith("http.") else f"{option}: {line}" for line in _lines(error)]
    if settings.http.tls.certificate:
        _check_validity(settings.http.tls.certificate, settings.http.tls.clientcas, found)
    for directory in settings.packs.directories:
        if not directory.is_dir():
            found.warnings.append(f"packs.directories: {directory} is not a directory: make it, or leave it out")
    return found


def _files(settings: config.Config) -> Iterator[tuple[str, Reloadable]]:
    """What the server reads at its start, each with the option that names it."""
    if settings.http.tls.certificate:
        yield "http.tls", Tls(settings.http.tls)
    auth = settings.auth
    if auth.mode != "htpasswd" or auth.htpasswd.path is None:
        return
    yield "auth.htpasswd.path", HtpasswdFile(auth.htpasswd.path)
    if auth.policy:
        yield "auth.policy", PolicyFile(auth.policy)
    local = settings.storage.filesystem.rootdirectory
    if auth.tokens or settings.storage.driver == "filesystem":
        yield "auth.tokens", TokenFile(auth.tokens or local / TOKENS, local / TOKEN_USE)


def _lines(error: ReloadError) -> list[str]:
    return str(error).splitlines()


def _check_validity(certificate: Path, authorities: tuple[Path, ...], found: Findings) -> None:
    """The days of certificates, which the server does not look at: it starts, and its clients refuse it."""
    now = dt.datetime.now(dt.UTC)
    for path, option in (
        (certificate, "http.tls.certificate"),
        *((path, "http.tls.clientcas") for path in authorities),
    ):
        # What cannot be read has been found already.
        with contextlib.suppress(OSError):
            for number, validity in enumerate(validities(path.read_bytes()), 1):
                which = f"{option}: certificate {number} in {path}"
                if problem := validity.problem(now):
                    (found.errors if path == certificate else found.warnings).append(f"{which} {problem}")
                elif concern := validity.concern(now):
                    found.warnings.append(f"{which} {concern}")


@contextlib.contextmanager
def _warnings_into(warnings: list[str]) -> Iterator[None]:
    """Keep what is logged as a warning, which the server has no other way to say."""

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            warnings.append(masked(record.getMessage()))

    logger, keeper = logging.getLogger("packregistry"), Keeper(logging.WARNING)
    logger.addHandler(keeper)
    try:
        yield
    finally:
        logger.removeHandler(keeper)
