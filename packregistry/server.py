"""One server process, from its configuration to its exit."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from packregistry.audit import Audit, AuditError, Event
from packregistry.auth import Actor
from packregistry.config import Address, Config
from packregistry.errors import RegistryError
from packregistry.holdings import HOLDINGS, Holdings
from packregistry.metrics import Metrics
from packregistry.model import HistoryEntry, PackName
from packregistry.registry import REGISTRY, Registry
from packregistry.reload import Reloader, ReloadError
from packregistry.sources import Sources
from packregistry.storage import Storage
from packregistry.storage.filesystem import FilesystemStorage
from packregistry.storage.memory import InMemoryStorage
from packregistry.sweep import Sweeper, sweeping
from packregistry.tls import Tls
from packregistry.uploads import UPLOADS, Uploads
from packregistry.watcher import Watcher
from packregistry.web.accesslog import AccessLog, logger_class
from packregistry.web.app import create_app
from packregistry.web.debug import debug_server
from packregistry.web.listener import Listener, Runner
from packregistry.web.security import Security, secured

_log = logging.getLogger(__name__)
_KEEPALIVE = 75.0
_CHECK_SECONDS = 10.0
_USES_SECONDS = 60.0


class StartError(Exception):
    """The server cannot start; `str()` says why and what to do. `status` is the exit code."""

    def __init__(self, message: str, *, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Running:
    """A server that accepts connections: where, and of what. `metrics` is their URL, empty where there are none."""

    url: str
    registry: Registry
    config: Config
    metrics: str = ""


async def serve(config: Config, started: Callable[[Running], None]) -> None:
    """Serve until SIGTERM or SIGINT; then finish what is under way, for at most `http.draintimeout` seconds.

    `started` is called once, when connections are accepted. A second signal ends the server at once. SIGHUP has users,
    tokens, policy and certificates read again. Raises `StartError` and `StorageUnavailableError`.
    """
    metrics = Metrics()
    tls = await _tls(config)
    listening = bind(config.http.addr)
    with contextlib.closing(listening):
        async with contextlib.AsyncExitStack() as stack:
            audit = await stack.enter_async_context(_audited(config, metrics))
            changes = _Changes(audit)
            # Before the audit is closed, should the server not get as far as to be announced.
            stack.callback(changes.release)
            registry = Registry(storage_of(config), can_delete=config.storage.delete.enabled, changed=changes.note)
            await registry.open()
            stack.push_async_callback(registry.close)
            security = await _security(config, registry, metrics, audit, tls)
            stack.callback(security.authenticator.close)
            await stack.enter_async_context(_watched(config, registry))
            await stack.enter_async_context(_checked(registry))
            await stack.enter_async_context(_swept(config, registry))
            await stack.enter_async_context(_uses_kept(security))
            metrics_url = await stack.enter_async_context(_debugged(config, metrics))
            listener = await stack.enter_async_context(_accepting(config, registry, security, listening, tls))
            reloader = Reloader(security.sources, observe=_observer(metrics, audit))
            if tls is not None:
                reloader.add(tls, listener.switch)
            await stack.enter_async_context(reloader.running())
            stop = _stop_on_signals(reloader)
            started(Running(url_of(listening, secure=tls is not None), registry, config, metrics_url))
            changes.release()
            await stop.wait()
            _log.info("stopping: requests under way have %g s to end", config.http.draintimeout)
    _log.info("stopped")


def check_openness(config: Config, *, from_file: bool) -> None:
    """Let nobody open the registry to a network by accident.

    The built-in defaults are for this machine alone: without authentication, another address is a `StartError`. A
    configuration file that has no `auth` section is taken at its word, but for changes, with a warning.
    """
    if config.auth.mode == "htpasswd" or config.http.addr.is_loopback:
        return
    if config.auth.mode == "none":
        _log.warning("auth: none: everybody who reaches %s can read and change all packs", config.http.addr)
        return
    if not from_file:
        raise StartError(
            f"{config.http.addr} can be reached from other machines, and no authentication is configured.\n"
            "Name a users file (REGISTRY_AUTH=htpasswd and REGISTRY_AUTH_HTPASSWD_PATH, or auth.htpasswd.path in a "
            "configuration file), let everybody in with REGISTRY_AUTH=none (`auth: none`), or listen on 127.0.0.1.",
            status=2,
        )
    _log.warning(
        "no authentication is configured: everybody who reaches %s can read all packs, and nobody can change any",
        config.http.addr,
    )


def bind(address: Address) -> socket.socket:
    """A socket bound to `address` that does not listen yet. Raises `StartError`."""
    try:
        if address.host:
            family, _, _, _, target = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
            bound = socket.socket(family, socket.SOCK_STREAM)
        else:
            dual = socket.has_dualstack_ipv6()
            family, target = (socket.AF_INET6, ("::", address.port)) if dual else (socket.AF_INET, ("", address.port))
            bound = socket.socket(family, socket.SOCK_STREAM)
            if dual:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(target)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise StartError(f"cannot listen on {address}: {why}\nChoose another address with --addr HOST:PORT.") from error
    return bound


def url_of(listening: socket.socket, *, secure: bool) -> str:
    """The URL a client on this machine uses."""
    host, port = listening.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = "localhost"
    elif ":" in host:
        host = f"[{host}]"
    return f"{'https' if secure else 'http'}://{host}:{port}"


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
async def _debugged(config: Config, metrics: Metrics) -> AsyncIterator[str]:
    """Serve metrics where that is configured, and give their URL. Raises `StartError`."""
    async with contextlib.AsyncExitStack() as stack:
        try:
            url = await stack.enter_async_context(debug_server(config.http.debug, metrics))
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


def storage_of(config: Config) -> Storage:
    """The storage that is configured, not opened yet."""
    if config.storage.driver == "inmemory":
        return InMemoryStorage()
    return FilesystemStorage(Path(os.path.abspath(config.storage.filesystem.rootdirectory)))


@contextlib.asynccontextmanager
async def _watched(config: Config, registry: Registry) -> AsyncIterator[None]:
    """Have the directories looked after. What was never looked at is looked at before anybody is answered."""
    sources = Sources(registry, list(config.packs.directories), config.limits, settle=config.packs.settle)
    known = await sources.open()
    lock = registry.storage.local / "sources.lock"
    watcher = Watcher(sources, lock, rescan=config.packs.rescan, settle=config.packs.settle)
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
    config: Config, registry: Registry, security: Security, listening: socket.socket, tls: Tls | None
) -> AsyncIterator[Listener]:
    """Answer requests while the context is open; leaving it waits for those under way."""
    log = AccessLog(sys.stdout, as_json=config.log.formatter == "json", fields=config.log.fields)
    runner = Runner(
        create_app(config, registry, security),
        access_log=None if config.log.accesslog.disabled else _log,
        access_log_class=logger_class(log),
        keepalive_timeout=_KEEPALIVE,
        shutdown_timeout=config.http.draintimeout,
        auto_decompress=False,
    )
    await runner.setup()
    listener = Listener(runner, listening, tls, backlog=1024)
    try:
        await listener.start()
        yield listener
    finally:
        await runner.cleanup()
        log.flush()


def _stop_on_signals(reloader: Reloader) -> asyncio.Event:
    """An event that SIGTERM and SIGINT set; a second one cancels the server."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    server = asyncio.current_task()
    assert server is not None
    reloads: set[asyncio.Task[None]] = set()

    def end() -> None:
        if stop.is_set():
            server.cancel("stopped by a second signal")
        stop.set()

    def reload() -> None:
        task = loop.create_task(reloader.look(everything=True))
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGTERM, end)
    loop.add_signal_handler(signal.SIGINT, end)
    loop.add_signal_handler(signal.SIGHUP, reload)
    return stop
