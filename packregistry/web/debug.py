"""A listener for whoever runs the server: its metrics, without TLS and without credentials."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import socket
from collections.abc import AsyncIterator

from aiohttp import web

from packregistry.config import Debug
from packregistry.errors import PathUnknownError
from packregistry.metrics import Metrics
from packregistry.model import shown
from packregistry.web.render import error_response

_log = logging.getLogger(__name__)
_SHUTDOWN_SECONDS = 1.0


@contextlib.asynccontextmanager
async def debug_server(config: Debug, metrics: Metrics, listening: socket.socket | None = None) -> AsyncIterator[str]:
    """Serve the metrics as configured while the context is open, and give their URL for this machine; empty without.

    `listening` is a socket bound to that address already, where several processes share one.
    Raises `OSError` with a text that says what cannot be listened on, and why.
    """
    if config.addr is None or not config.prometheus.enabled:
        _warn(config)
        yield ""
        return
    handler = _Handler(config.prometheus.path, metrics)
    runner = web.ServerRunner(web.Server(handler.handle, access_log=None), shutdown_timeout=_SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        try:
            site = web.SockSite(runner, listening) if listening else None
            await (site or web.TCPSite(runner, config.addr.host, config.addr.port)).start()
        except (OSError, UnicodeError) as error:  # the latter for a name that cannot be one
            raise OSError(f"http.debug.addr: cannot listen on {config.addr}: {_reason(error)}") from error
        url = f"http://{_host(runner)}{config.prometheus.path}"
        _log.info("metrics are at %s", url)
        yield url
    finally:
        await runner.cleanup()


class _Handler:
    """Answers every request there is, so that nothing of aiohttp's own pages is seen."""

    def __init__(self, path: str, metrics: Metrics) -> None:
        self._path = path
        self._metrics = metrics

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """The metrics, or the refusal of anything else."""
        if request.path == self._path and request.method in {"GET", "HEAD"}:
            text, content_type = self._metrics.text()
            response = web.Response(body=text, headers={"Content-Type": content_type})
        else:
            what = f"{request.method} {shown(request.raw_path)}"
            response = error_response(
                PathUnknownError(f"there is no {what} here", remedy=f"metrics are at GET {self._path}")
            )
        response.headers["Server"] = "packregistry"
        return response


def _host(runner: web.ServerRunner) -> str:
    # Of every interface, IPv4 and IPv6 are two sockets, with two ports if the system chooses; `localhost` is in IPv4.
    host, port = min(runner.addresses, key=len)[:2]
    if ipaddress.ip_address(host).is_unspecified:
        return f"localhost:{port}"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _reason(error: OSError | UnicodeError) -> str:
    if isinstance(error, UnicodeError):
        return str(error)
    # Event loops put words of their own around what the system says; a name that is not found has no such number.
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error.strerror)


def _warn(config: Debug) -> None:
    if config.addr is not None:
        _log.warning("nothing is served on %s (http.debug.addr): enable http.debug.prometheus", config.addr)
    elif config.prometheus.enabled:
        _log.warning("metrics are not served (http.debug.prometheus): say where with http.debug.addr")
