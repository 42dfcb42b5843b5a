"""What Palette, Docker and Kubernetes ask to know whether the server is there; none of it needs credentials.

/health  the server answers, in the words Palette expects
/livez   the event loop turns: who gets no answer should restart the server
/readyz  requests can be served: 503 says why not, and that they should go elsewhere
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from packregistry.health import Health
from packregistry.web.call import Call, Handler
from packregistry.web.render import json_response

HEALTH = web.AppKey("health", Health)
_NO_STORE = {"Cache-Control": "no-store"}


async def up(call: Call) -> web.StreamResponse:
    """Say that the server is up."""
    return await _is_up(call.request.app[HEALTH])


async def ready(call: Call) -> web.StreamResponse:
    """Say whether the server is ready."""
    return await _is_ready(call.request.app[HEALTH])


async def _is_up(_: Health) -> web.StreamResponse:
    return json_response({"status": "UP"}, headers=_NO_STORE)


async def _is_ready(health: Health) -> web.StreamResponse:
    problem = await health.problem()
    if not problem:
        return json_response({"status": "UP"}, headers=_NO_STORE)
    return json_response({"status": "DOWN", "reason": problem}, status=503, headers=_NO_STORE)


WHILE_STARTING: Mapping[Handler, Callable[[Health], Awaitable[web.StreamResponse]]] = {up: _is_up, ready: _is_ready}
"""What can be answered before there is anything to serve, by handler."""
