"""The headers that all responses have in common, those of refused requests that never were one among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiohttp import web

from packregistry.tls import Tls
from packregistry.web.accesslog import SEEN
from packregistry.web.proxy import Vantage

API_VERSION = "Docker-Distribution-Api-Version"
SERVER = "packregistry"
HSTS = "strict-transport-security"


class CommonHeaders:
    """Puts the configured headers on a response, and what depends on where the request came from.

    `Strict-Transport-Security` is for clients whose connection is encrypted: browsers ignore it elsewhere, and a proxy
    that speaks plain HTTP to its clients would promise what it does not keep. A connection that rests on trust which is
    gone ends with this response, and every one does while `is_last`: others need the room, or the server ends.
    """

    def __init__(self, headers: Mapping[str, Sequence[str]], vantage: Vantage, tls: Tls | None) -> None:
        self._encrypted = [(name, value) for name, values in headers.items() for value in values]
        self._plain = [(name, value) for name, value in self._encrypted if name.lower() != HSTS]
        self._vantage = vantage
        self._tls = tls
        self.is_last = False

    def put(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Put them on the response to a request, before it is sent."""
        seen = request.get(SEEN)
        headers = response.headers
        headers["Server"] = SERVER
        for name, value in self._encrypted if (seen.secure if seen else request.secure) else self._plain:
            headers.add(name, value)
        if self._vantage.path_of(request.rel_url.raw_path).lstrip("/").partition("/")[0] in {"v1", "v2"}:
            headers[API_VERSION] = "registry/2.0"
        tls, transport = self._tls, request.transport
        is_stale = tls is not None and transport is not None and tls.is_stale(transport.get_extra_info("sslcontext"))
        if self.is_last or is_stale:
            headers["Connection"] = "close"
            response.force_close()


HEADERS: web.AppKey[CommonHeaders] = web.AppKey("headers", CommonHeaders)
