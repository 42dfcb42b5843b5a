"""A client where wrk is not enough: pushes, and a full synchronisation as Palette does it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias, TypeVar

import aiohttp
import uvloop

from benchmarks.content import Pack, digest

T = TypeVar("T")
Work: TypeAlias = Callable[[], Awaitable[T]]

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
ACCEPT = {"Accept": f"{MANIFEST_TYPE}, application/json"}
DEADLINE = 280.0
_EMPTY_CONFIG = "application/vnd.unknown.config.v1+json"


class AnswerError(Exception):
    """A server answered something else than it should have."""


def basic(user: str, password: str) -> dict[str, str]:
    """The header with these credentials."""
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def run(work: Work[T]) -> T:
    """Do asynchronous work on the loop that is fastest. Raises `TimeoutError` where it takes minutes."""

    async def bounded() -> T:
        async with asyncio.timeout(DEADLINE):
            return await work()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(bounded())


class Client:
    """Requests to one server on at most so many connections. Any answer but the one wanted is an `AnswerError`."""

    def __init__(self, session: aiohttp.ClientSession, base: str, headers: dict[str, str]) -> None:
        self._session = session
        self.base = base
        self._headers = headers

    async def request(
        self, method: str, path: str, wanted: Iterable[int] = (200,), data: Any = None, **headers: str
    ) -> tuple[bytes, str]:
        """The body of an answer, and where it points to. `path` may be a whole URL."""
        url = path if path.startswith("http") else self.base + path
        fields = {**self._headers, **{key.replace("_", "-"): value for key, value in headers.items()}}
        async with self._session.request(method, url, data=data, headers=fields) as response:
            body = await response.read()
            if response.status not in wanted:
                raise AnswerError(f"{method} {path}: {response.status} {body[:300]!r}")
            return body, response.headers.get("Location", "")

    async def get(self, path: str) -> bytes:
        """The body at a path."""
        return (await self.request("GET", path))[0]


@asynccontextmanager
async def connected(base: str, connections: int, headers: dict[str, str] | None = None) -> AsyncIterator[Client]:
    """A client, until the context ends."""
    connector = aiohttp.TCPConnector(limit=connections, ssl=False)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
        yield Client(session, base, {**ACCEPT, **(headers or {})})


Push: TypeAlias = Callable[[Client, Pack], Awaitable[None]]
"""How a pack is pushed to one kind of server."""


async def push_ours(client: Client, pack: Pack) -> None:
    """Push a pack to us, in one request."""
    await client.request("POST", "/api/v1/packs", (201,), pack.archive)


async def push_distribution(client: Client, pack: Pack) -> None:
    """Push the same to docker-registry, as `oras push` does: six requests."""
    config = pack.files["pack.json"]
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {"mediaType": _EMPTY_CONFIG, "digest": digest(config), "size": len(config)},
        "layers": [
            {
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": pack.digest,
                "size": len(pack.archive),
                "annotations": {"org.opencontainers.image.title": f"{pack.name}-{pack.version}.tar.gz"},
            }
        ],
    }
    await client.request("HEAD", f"/v2/{pack.name}/blobs/{pack.digest}", (404,))
    for data, named in ((pack.archive, pack.digest), (config, digest(config))):
        _, place = await client.request("POST", f"/v2/{pack.name}/blobs/uploads/", (202,))
        octets = {"Content_Type": "application/octet-stream"}
        await client.request("PUT", f"{place}&digest={named}", (201,), data, **octets)
    body = json.dumps(manifest).encode()
    path = f"/v2/{pack.name}/manifests/{pack.version}"
    await client.request("PUT", path, (201,), body, Content_Type=MANIFEST_TYPE)


async def push_all(base: str, packs: Sequence[Pack], connections: int, push: Push) -> float:
    """Push packs on so many connections; return how many a second went through."""
    waiting = list(reversed(packs))

    async def work(client: Client) -> None:
        while waiting:
            await push(client, waiting.pop())

    async with connected(base, connections) as client:
        begun = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(work(client))
        return len(packs) / (time.perf_counter() - begun)


async def synchronise(base: str, api: str, headers: dict[str, str], connections: int) -> tuple[float, str]:
    """Fetch and check everything a registry has below `api`; return the seconds, and a digest over all that was found.

    The catalogue, then for each pack its tags, for each version its manifest, and each blob of it once. A parent tag
    (`1.x`) is looked up like any other.
    """
    async with connected(base, connections, headers) as client:
        begun = time.perf_counter()
        names = json.loads(await client.get(f"{api}/_catalog?n=1000"))["repositories"]
        found: dict[str, str] = {}
        waiting = list(reversed(names))

        async def work() -> None:
            while waiting:
                name = waiting.pop()
                found[name] = await _pack(client, api, name)

        async with asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(work())
        seconds = time.perf_counter() - begun
    return seconds, digest(json.dumps(sorted(found.items())).encode())


async def _pack(client: Client, api: str, name: str) -> str:
    seen: set[str] = set()
    for tag in json.loads(await client.get(f"{api}/{name}/tags/list"))["tags"]:
        body = await client.get(f"{api}/{name}/manifests/{tag}")
        manifest = json.loads(body)
        for item in (manifest["config"], *manifest["layers"]):
            if item["digest"] in seen:
                continue
            blob = await client.get(f"{api}/{name}/blobs/{item['digest']}")
            if (item["digest"], item["size"]) != ("sha256:" + hashlib.sha256(blob).hexdigest(), len(blob)):
                raise AnswerError(f"{name}:{tag} has a blob that is not what its digest says")
            seen.add(item["digest"])
    return " ".join(sorted(seen))
