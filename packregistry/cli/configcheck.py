"""`packregistry config check`."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import logging
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import click

from packregistry import config
from packregistry.auth.htpasswd import HtpasswdFile
from packregistry.auth.policy import PolicyFile
from packregistry.auth.tokens import TOKEN_USE, TOKENS, TokenFile
from packregistry.cli import output
from packregistry.cli.lazy import HELP
from packregistry.cli.validity import validities
from packregistry.client.answers import clean
from packregistry.config.written import tree
from packregistry.masking import MASK, masked
from packregistry.reload import Reloadable, ReloadError
from packregistry.start import StartError, bind, check_openness
from packregistry.tls import Tls

BAD = 2

_Ip: TypeAlias = "ipaddress.IPv4Address | ipaddress.IPv6Address"


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
    policy, tokens, and certificates, which must be valid today and belong to their keys. Whether files can be written
    and addresses be had is looked at for whoever runs this: do it on the server's machine, as its user.

    \b
    packregistry config check /etc/spectro/config.yml
    packregistry config check /etc/spectro/config.yml --strict
    REGISTRY_AUTH=htpasswd REGISTRY_AUTH_HTPASSWD_PATH=users packregistry config check

    Exit codes: 0 the server can start with it, 2 the server cannot start with it, or clients will refuse its
    certificate, or there are warnings and --strict.
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
    found.errors += _unusable(settings)
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
    return _without(_secrets(loaded), found)


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


def _unusable(settings: config.Config) -> Iterator[str]:
    """What of the machine the server would fail to get: addresses, the audit file, the directory of its data."""
    yield from _unusable_addresses(settings.http)
    audit = settings.log.audit
    if audit.path and not audit.disabled and (why := _not_appended(audit.path)):
        yield f"log.audit.path: {audit.path} cannot be written: {why}, or name another file"
    root = settings.storage.filesystem.rootdirectory
    if settings.storage.driver == "filesystem" and (why := _not_kept_in(root)):
        yield f"storage.filesystem.rootdirectory: {root} cannot be used: {why}, or name another directory"


def _unusable_addresses(http: config.Http) -> Iterator[str]:
    wanted = {"http.addr": http.addr}
    if http.debug.addr and http.debug.prometheus.enabled:
        wanted["http.debug.addr"] = http.debug.addr
    ips = []
    for option, address in wanted.items():
        try:
            # Not the port: a server may be running there.
            with bind(config.Address(address.host, 0)) as bound:
                ips.append(ipaddress.ip_address(bound.getsockname()[0].partition("%")[0]))
        except StartError as error:
            cause = error.__cause__
            why = (cause.strerror if isinstance(cause, OSError) else None) or cause
            yield f"{option}: cannot listen on {address}: {why}: name an address of this machine, or none for all"
    is_one_port = http.addr.port and len(ips) == 2 and len({address.port for address in wanted.values()}) == 1
    if is_one_port and (ips[0] == ips[1] or _covers(*ips) or _covers(*reversed(ips))):
        yield f"http.debug.addr: {http.debug.addr} is taken by http.addr ({http.addr}): choose another port"


def _covers(one: _Ip, other: _Ip) -> bool:
    """Whether `one` is every interface, `other` included: that of IPv6 has those of IPv4 as well."""
    return one.is_unspecified and one.version >= other.version


def _not_appended(path: Path) -> str:
    """Why a file cannot be appended to, and what to do; empty if it can, or can be made."""
    real = Path(os.path.realpath(path))
    if real.is_dir():
        return "it is a directory: name a file in it"
    if real.exists():
        return "" if os.access(real, os.W_OK) else f"let uid {os.geteuid()} write it"
    if not real.parent.is_dir():
        return f"there is no directory {real.parent}: make it"
    return "" if os.access(real.parent, os.W_OK | os.X_OK) else f"let uid {os.geteuid()} write {real.parent}"


def _not_kept_in(root: Path) -> str:
    """Why data cannot be kept in a directory, and what to do; empty if they can, or it can be made."""
    real = Path(os.path.realpath(root))
    if real.is_dir():
        is_open = os.access(real, os.R_OK | os.W_OK | os.X_OK)
        return "" if is_open else f"let uid {os.geteuid()} read and write it"
    above = next(path for path in (real, *real.parents) if path.exists())
    if not above.is_dir():
        return f"{above} is not a directory: move it away"
    is_open = os.access(above, os.W_OK | os.X_OK)
    return "" if is_open else f"it is not there, and uid {os.geteuid()} cannot make it in {above}: make it"


def _secrets(loaded: config.Loaded) -> set[str]:
    """The texts that were in files which variables name; without those that any message may have in it."""
    texts: set[str] = set()

    def note(path: str, text: str) -> str:
        if path in loaded.hidden:
            # A path is written with what tells that it is one.
            texts.add(text.removeprefix("./"))
        return text

    tree(loaded.config, note)
    return {text for text in texts if len(text) > 1}


def _without(secrets: set[str], found: Findings) -> Findings:
    """The same findings with `***` for secrets."""
    if not secrets:
        return found
    longest_first = sorted(secrets, key=lambda text: (-len(text), text))
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)")
    return Findings(*([pattern.sub(MASK, line) for line in lines] for lines in (found.errors, found.warnings)))


def _lines(error: ReloadError) -> list[str]:
    return str(error).splitlines()


def _check_validity(certificate: Path, authorities: tuple[Path, ...], found: Findings) -> None:
    """The days of certificates, which the server does not look at: it starts, and clients refuse its certificate."""
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
