"""One server process, from its configuration to its exit."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from packregistry.audit import Audit, AuditError, Event
from packregistry.auth import Actor
from packregistry.config import Config
from packregistry.errors import RegistryError
from packregistry.health import Health
from packregistry.holdings import HOLDINGS, Holdings
from packregistry.metrics import Metrics
from packregistry.model import HistoryEntry, PackName
from packregistry.registry import REGISTRY, Registry
from packregistry.reload import Reloader, ReloadError
from packregistry.signals import Signals
from packregistry.sources import Sources
from packregistry.start import StartError, bind, url_of
from packregistry.storage import Storage
from packregistry.storage.filesystem import FilesystemStorage
from packregistry.storage.memory import InMemoryStorage
from packregistry.sweep import Sweeper, sweeping
from packregistry.tally import Tally
from packregistry.tls import Tls
from packregistry.uploads import UPLOADS, Uploads
from packregistry.watcher import Watcher
from packregistry.web.accesslog import AccessLog, logger_class
from packregistry.web.app import DOOR, closed_app
from packregistry.web.debug import debug_server
from packregistry.web.descriptors import allow_connections
from packregistry.web.listener import Listener, Runner
from packregistry.web.security import Security, secured

_log = logging.getLogger(__name__)
_BEAT_SECONDS = 1.0
_CHECK_SECONDS = 10.0
_USES_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Running:
    """A server that accepts connections: where, and of what. `metrics` is their URL, empty where there are none."""

    url: str
    registry: Registry
    config: Config
    metrics: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """What a server process has of the one that started it, where it is one of several.

    Sockets are bound already, and shared; `memory` is the directory that in-memory storage uses. `beat` is called every
    second that the event loop turns. The `first` accepts connections before it can serve packs, as a server that is
    alone does; others leave them to it, or to those who can.
    """

    listening: socket.socket
    debug: socket.socket | None
    tally: Tally
    memory: Path | None
    beat: Callable[[], None]
    first: bool


async def serve(config: Config, started: Callable[[Running], None], place: Place | None = None) -> None:
    """Serve until SIGTERM or SIGINT; then finish what is under way, for at most `http.draintimeout` seconds.

    `started` is called once, when packs are served; before that, only health is. A second signal ends the server at
    once. SIGHUP has users, tokens, policy and certificates read again. In a `place` among others, SIGINT is for whoever
    started all, and SIGQUIT ends at once. Raises `StartError` and `StorageUnavailableError`.
    """
    signals = Signals(alone=place is None)
    try:
        await _serve(config, started, place, signals)
    except asyncio.CancelledError:
        if not signals.stopped_start:
            raise
    _log.info("stopped")


async def _serve(config: Config, started: Callable[[Running], None], place: Place | None, signals: Signals) -> None:
    metrics = Metrics(place.tally if place else None)
    tls = await _tls(config)
    health = Health()
    listening = place.listening if place else bind(config.http.addr)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(listening.close)
        stack.push_async_callback(health.close)
        if place is not None:
            await stack.enter_async_context(_running(_beating(place.beat), "beat"))
        audit = await stack.enter_async_context(_audited(config, metrics))
        changes = _Changes(audit)
        # Before the audit is closed, should the server not get as far as to be announced.
        stack.callback(changes.release)
        app = closed_app(config, tls, health)
        runner, listener = await stack.enter_async_context(
            _accepting(config, app, listening, tls, shared=place is not None)
        )
        if place is None or place.first:
            await listener.start()
        storage = storage_of(config, place.memory if place else None)
        registry = Registry(storage, can_delete=config.storage.delete.enabled, changed=changes.note)
        await registry.open()
        stack.push_async_callback(registry.close)
        security = await _security(config, registry, metrics, audit, tls)
        stack.callback(security.authenticator.close)
        watching = await stack.enter_async_context(contextlib.AsyncExitStack())
        await watching.enter_async_context(_watched(config, registry, waits=place is not None))
        await stack.enter_async_context(_checked(registry))
        await stack.enter_async_context(_swept(config, registry))
        await stack.enter_async_context(_uses_kept(security))
        metrics_url = await stack.enter_async_context(_debugged(config, metrics, place.debug if place else None))
        reloader = Reloader(security.sources, observe=_observer(metrics, audit))
        if tls is not None:
            reloader.add(tls, listener.switch)
        await stack.enter_async_context(reloader.running())
        signals.started(reloader)
        app[DOOR].open(registry, security, stall=config.http.stalltimeout)
        health.ready(registry.storage.local)
        if place is not None and not place.first:
            await listener.start()
        started(Running(url_of(listening, secure=tls is not None), registry, config, metrics_url))
        changes.release()
        await signals.stopped()
        _log.info("stopping: requests under way have %g s to end", config.http.draintimeout)
        if not signals.is_retired:
            health.drain()
        # Before anything that requests need is closed. Another process may have the directories from now on.
        await asyncio.gather(runner.cleanup(), watching.aclose())


async def _beating(beat: Callable[[], None]) -> None:
    while True:
        beat()
        await asyncio.sleep(_BEAT_SECONDS)


async def _tls(config: Config) -> Tls | None:
    """What connections are encrypted with, if they are. Raises `StartError` naming the file that is no good."""
    if config.http.tls.certificate is None:
        return None
    tls = Tls(config.http.tls)
    try:
        await asyncio.to_thread(tls.load)
    except ReloadError as error:
        raise StartError(str(error), status=2) from error
    return tls


@contextlib.asynccontextmanager
async def _audited(config: Config, metrics: Metrics) -> AsyncIterator[Audit | None]:
    """Where each change and each refusal is recorded. Raises `StartError`."""
    if config.log.audit.disabled:
        yield None
        return
    audit = Audit(config.log.audit, config.log.fields, lost=metrics.audit_lost)
    try:
        audit.open()
    except AuditError as error:
        raise StartError(f"log.audit.path: {error}") from error
    try:
        yield audit
    finally:
        await asyncio.to_thread(audit.close)


async def _security(
    config: Config, registry: Registry, metrics: Metrics, audit: Audit | None, tls: Tls | None
) -> Security:
    try:
        return await secured(config, registry.storage.local, metrics, audit, tls)
    except ReloadError as error:
        raise StartError(str(error), status=2) from error


class _Changes:
    """Has changes recorded, those of the first look at directories after the greeting: that is what people look for."""

    def __init__(self, audit: Audit | None) -> None:
        self._audit = audit
        self._held: list[tuple[PackName, HistoryEntry, Actor]] | None = []

    def note(self, name: PackName, entry: HistoryEntry, by: Actor) -> None:
        """Record a change, or keep it for later."""
        if self._held is not None:
            self._held.append((name, entry, by))
        elif self._audit is not None:
            self._audit.changed(name, entry, by)

    def release(self) -> None:
        """Record what was kept, and from now on each at once."""
        held, self._held = self._held or [], None
        for change in held:
            self.note(*change)


def _observer(metrics: Metrics, audit: Audit | None) -> Callable[[str, bool], None]:
    """Counts readings of files that have changed, and records those that put something else in force."""

    def observe(what: str, ok: bool) -> None:
        metrics.reload(what, ok)
        if ok and audit is not None:
            audit.write(Event.of(REGISTRY, "reload", what))

    return observe


@contextlib.asynccontextmanager
async def _uses_kept(security: Security) -> AsyncIterator[None]:
    """Write down now and then, and in the end, when tokens were last used."""
    tokens = security.tokens
    if tokens is None:
        yield
        return

    async def flush() -> None:
        try:
            await asyncio.to_thread(tokens.flush_uses)
        except OSError as error:
            _log.warning("when tokens were last used cannot be written down: %s", error)

    async def keep() -> None:
        while True:
            await asyncio.sleep(_USES_SECONDS)
            await flush()

    async with _running(keep(), "token uses"):
        yield
    await flush()


@contextlib.asynccontextmanager
async def _debugged(config: Config, metrics: Metrics, listening: socket.socket | None) -> AsyncIterator[str]:
    """Serve metrics where that is configured, and give their URL. Raises `StartError`."""
    async with contextlib.AsyncExitStack() as stack:
        try:
            url = await stack.enter_async_context(debug_server(config.http.debug, metrics, listening))
        except OSError as error:
            raise StartError(error.strerror or str(error)) from error
        yield url


def sweeper_of(config: Config, registry: Registry) -> Sweeper:
    """What removes from the registry what nothing refers to."""
    local, settings = registry.storage.local, config.storage
    return Sweeper(
        registry,
        Uploads(local / UPLOADS, expire=settings.uploads.expire),
        Holdings(local / HOLDINGS, expire=settings.uploads.expire),
        grace=settings.sweep.grace,
    )


def storage_of(config: Config, memory: Path | None = None) -> Storage:
    """The storage that is configured, not opened yet; `memory` is a directory that others use as theirs as well."""
    if config.storage.driver == "inmemory":
        return InMemoryStorage() if memory is None else FilesystemStorage(memory)
    return FilesystemStorage(Path(os.path.abspath(config.storage.filesystem.rootdirectory)))


@contextlib.asynccontextmanager
async def _watched(config: Config, registry: Registry, *, waits: bool) -> AsyncIterator[None]:
    """Have the directories looked after. What was never looked at is looked at before anybody is answered.

    With `waits` also where another process looks.
    """
    sources = Sources(registry, list(config.packs.directories), config.limits, settle=config.packs.settle)
    known = await sources.open()
    lock = registry.storage.local / "sources.lock"
    watcher = Watcher(sources, lock, rescan=config.packs.rescan, settle=config.packs.settle, waits=waits)
    try:
        async with watcher.running():
            if not known:
                await watcher.looked()
            yield
    finally:
        await sources.close()


def _swept(config: Config, registry: Registry) -> AbstractAsyncContextManager[None]:
    return sweeping(sweeper_of(config, registry), registry.storage.local / "sweep.lock", config.storage.sweep.interval)


@contextlib.asynccontextmanager
async def _checked(registry: Registry) -> AsyncIterator[None]:
    """Look at every record now and then: that finds what a killed process could not announce any more."""

    async def check() -> None:
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            try:
                await registry.refresh(everything=True)
            except (RegistryError, OSError):
                _log.exception("looking at all records failed, and is tried again")

    async with _running(check(), "check"):
        yield


@contextlib.asynccontextmanager
async def _running(work: Coroutine[None, None, None], name: str) -> AsyncIterator[None]:
    """Have something done beside, until the context ends."""
    task = asyncio.create_task(work, name=name)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextlib.asynccontextmanager
async def _accepting(
    config: Config, app: web.Application, listening: socket.socket, tls: Tls | None, *, shared: bool
) -> AsyncIterator[tuple[Runner, Listener]]:
    """A listener to start. The runner's `cleanup`, or leaving the context, waits for requests under way."""
    log = AccessLog(sys.stdout, as_json=config.log.formatter == "json", fields=config.log.fields)
    allow_connections(config.http.maxconnections)
    runner = Runner(
        app,
        http=config.http,
        access_log=None if config.log.accesslog.disabled else _log,
        access_log_class=logger_class(log),
        auto_decompress=False,
    )
    await runner.setup()
    listener = Listener(runner, listening, tls, backlog=1024, shared=shared)
    try:
        yield runner, listener
    except asyncio.CancelledError:
        runner.hurry()
        raise
    finally:
        await runner.cleanup()
        log.flush()
