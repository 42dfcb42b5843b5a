"""What has to hold before a server can start, and where it will listen."""

from __future__ import annotations

import ipaddress
import logging
import math
import os
import socket
from pathlib import Path

from packregistry.config import Address, Config

_log = logging.getLogger(__name__)
_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


class StartError(Exception):
    """The server cannot start; `str()` says why and what to do. `status` is the exit code."""

    def __init__(self, message: str, *, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


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


def bind(address: Address, option: str = "") -> socket.socket:
    """A socket bound to `address` that does not listen yet. Raises `StartError`, which names the `option` if given."""
    try:
        if address.host:
            family, _, _, _, target = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
            return _bound(family, target)
        if socket.has_dualstack_ipv6():
            return _bound(socket.AF_INET6, ("::", address.port), dual=True)
        return _bound(socket.AF_INET, ("", address.port))
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        hint = "" if option else "\nChoose another address with --addr HOST:PORT."
        raise StartError(f"{option}{': ' * bool(option)}cannot listen on {address}: {why}{hint}") from error


def _bound(family: socket.AddressFamily, target: tuple[object, ...], *, dual: bool = False) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        if dual:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(target)
    except BaseException:
        bound.close()
        raise
    return bound


def url_of(listening: socket.socket, *, secure: bool) -> str:
    """The URL a client on this machine uses."""
    host, port = listening.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = "localhost"
    elif ":" in host:
        host = f"[{host}]"
    return f"{'https' if secure else 'http'}://{host}:{port}"


def workers_of(config: Config, cpu_max: Path = _CPU_MAX) -> int:
    """How many processes answer requests: what is configured, or one for each CPU that this process may use.

    A container's limit counts, as cgroups of version 2 have it in `cpu_max`; half a CPU is one.
    """
    if config.http.workers:
        return config.http.workers
    cpus = len(os.sched_getaffinity(0))
    try:
        quota, period = cpu_max.read_text().split()
        return min(cpus, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):
        return cpus
