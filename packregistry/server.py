"""One server process, from its configuration to its exit."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from packregistry.auth import Authenticator, BasicAuthenticator, OpenAuthenticator
from packregistry.auth.htpasswd import HtpasswdFile, UsersFileError
from packregistry.config import Address, Config
from packregistry.errors import RegistryError
from packregistry.holdings import HOLDINGS, Holdings
from packregistry.registry import Registry
from packregistry.sources import Sources
from packregistry.storage import Storage
from packregistry.storage.filesystem import FilesystemStorage
from packregistry.storage.memory import InMemoryStorage
from packregistry.sweep import Sweeper, sweeping
from packregistry.uploads import UPLOADS, Uploads
from packregistry.watcher import Watcher
from packregistry.web.accesslog import AccessLog, logger_class
from packregistry.web.app import create_app

_log = logging.getLogger(__name__)
_KEEPALIVE = 75.0
_CHECK_SECONDS = 10.0


class StartError(Exception):
    """The server cannot start; `str()` says why and what to do. `status` is the exit code."""

    def __init__(self, message: str, *, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Running:
    """A server that accepts connections: where, and of what."""

    url: str
    registry: Registry
    config: Config


async def serve(config: Config, started: Callable[[Running], None]) -> None:
    """Serve until SIGTERM or SIGINT; then finish what is under way, for at most `http.draintimeout` seconds.

    `started` is called once, when connections are accepted. A second signal ends the server at once. SIGHUP has the
    users read again. Raises `StartError` and `StorageUnavailableError`.
    """
    context = tls_context(config)
    listening = bind(config.http.addr)
    with contextlib.closing(listening):
        async with contextlib.AsyncExitStack() as stack:
            authenticator = await _authenticator(config)
            stack.callback(authenticator.close)
            registry = Registry(storage_of(config), can_delete=config.storage.delete.enabled)
            await registry.open()
            stack.push_async_callback(registry.close)
            await stack.enter_async_context(_watched(config, registry))
            await stack.enter_async_context(_checked(registry))
            await stack.enter_async_context(_swept(config, registry))
            stop = _stop_on_signals(authenticator)
            await stack.enter_async_context(_accepting(config, registry, authenticator, listening, context))
            started(Running(url_of(listening, secure=context is not None), registry, config))
            await stop.wait()
            _log.info("stopping: requests under way have %g s to end", config.http.draintimeout)
    _log.info("stopped")


def check_openness(config: Config, *, from_file: bool) -> None:
    """Let nobody open the registry to a network by accident.

    The built-in defaults are for this machine alone: without authentication, another address is a `StartError`. A
    configuration file that has no `auth` section is taken at its word, with a warning.
    """
    if config.auth.mode != "unset" or config.http.addr.is_loopback:
        return
    if not from_file:
        raise StartError(
            f"{config.http.addr} can be reached from other machines, and no authentication is configured.\n"
            "Name a users file (REGISTRY_AUTH=htpasswd and REGISTRY_AUTH_HTPASSWD_PATH, or auth.htpasswd.path in a "
            "configuration file), let everybody in with REGISTRY_AUTH=none (`auth: none`), or listen on 127.0.0.1.",
            status=2,
        )
    _log.warning("no authentication is configured: everybody who reaches %s can read all packs", config.http.addr)


def tls_context(config: Config) -> ssl.SSLContext | None:
    """What connections are encrypted with, if they are. Raises `StartError` naming the file that is no good."""
    tls = config.http.tls
    if tls.certificate is None or tls.key is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if tls.minimumtls == "tls1.3" else ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(tls.certificate, tls.key)
    except (OSError, ssl.SSLError) as error:
        raise StartError(
            f"http.tls: {tls.certificate} and {tls.key} cannot be used: {error.strerror or error}\n"
            "Both must be PEM, readable, and belong together.",
            status=2,
        ) from error
    for path in tls.clientcas:
        try:
            context.load_verify_locations(path)
        except (OSError, ssl.SSLError) as error:
            raise StartError(
                f"http.tls.clientcas: {path} cannot be used: {error.strerror or error}", status=2
            ) from error
        context.verify_mode = ssl.CERT_REQUIRED
        # Python 3.13 demands extensions that CAs made by plain openssl, as the vendor's guide makes them, lack.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


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
    except OSError as error:
        raise StartError(
            f"cannot listen on {address}: {error.strerror}\nChoose another address with --addr HOST:PORT."
        ) from error
    return bound


def url_of(listening: socket.socket, *, secure: bool) -> str:
    """The URL a client on this machine uses."""
    host, port = listening.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = "localhost"
    elif ":" in host:
        host = f"[{host}]"
    return f"{'https' if secure else 'http'}://{host}:{port}"


async def _authenticator(config: Config) -> Authenticator:
    path = config.auth.htpasswd.path
    if config.auth.mode != "htpasswd" or path is None:
        return OpenAuthenticator()
    users = HtpasswdFile(path)
    try:
        await asyncio.to_thread(users.load)
    except UsersFileError as error:
        raise StartError(f"auth.htpasswd.path: {error}", status=2) from error
    return BasicAuthenticator(users, config.auth.htpasswd.realm)


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

    task = asyncio.create_task(check(), name="check")
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextlib.asynccontextmanager
async def _accepting(
    config: Config,
    registry: Registry,
    authenticator: Authenticator,
    listening: socket.socket,
    context: ssl.SSLContext | None,
) -> AsyncIterator[None]:
    """Answer requests while the context is open; leaving it waits for those under way."""
    log = AccessLog(sys.stdout, as_json=config.log.formatter == "json", fields=config.log.fields)
    runner = web.AppRunner(
        create_app(config, registry, authenticator),
        access_log=None if config.log.accesslog.disabled else _log,
        access_log_class=logger_class(log),
        keepalive_timeout=_KEEPALIVE,
        shutdown_timeout=config.http.draintimeout,
        auto_decompress=False,
    )
    await runner.setup()
    try:
        await web.SockSite(runner, listening, ssl_context=context, backlog=1024).start()
        yield
    finally:
        await runner.cleanup()
        log.flush()


def _stop_on_signals(authenticator: Authenticator) -> asyncio.Event:
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
        task = loop.create_task(authenticator.refresh())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGTERM, end)
    loop.add_signal_handler(signal.SIGINT, end)
    loop.add_signal_handler(signal.SIGHUP, reload)
    return stop
