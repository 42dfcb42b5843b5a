"""A registry that really listens, and a client that sends exactly what it is told: no path is normalised."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import functools
import io
import json
import logging
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import bcrypt
from aiohttp import web
from multidict import CIMultiDict

from packregistry.audit import Audit
from packregistry.config import Config, Htpasswd
from packregistry.metrics import Metrics
from packregistry.registry import Registry, unheard
from packregistry.web.accesslog import AccessLog, logger_class
from packregistry.web.app import create_app
from packregistry.web.listener import Runner
from packregistry.web.security import Security, secured
from tests.factories import open_registry

DEADLINE = 10
READER = ("reader", "a:secret")


@dataclass(frozen=True)
class Answer:
    """A response: `raw` is its head as it came."""

    status: int
    headers: CIMultiDict[str]
    body: bytes
    raw: bytes = b""

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The code of a refusal, which has exactly the shape that registries answer with."""
        document = self.json()
        assert set(document) == {"errors"}
        (entry,) = document["errors"]
        assert set(entry) == {"code", "message", "detail"}
        assert self.headers["Content-Type"] == "application/json"
        code: str = entry["code"]
        return code

    @property
    def message(self) -> str:
        message: str = self.json()["errors"][0]["message"]
        return message


@dataclass
class Connection:
    """One connection to the server."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> tuple[int, CIMultiDict[str], bytes]:
        raw = await self.reader.readuntil(b"\r\n\r\n")
        status, *lines = raw.decode("ascii").split("\r\n")[:-2]
        headers: CIMultiDict[str] = CIMultiDict()
        for name, _, value in (line.partition(": ") for line in lines):
            headers.add(name, value)
        return int(status.split()[1]), headers, raw

    async def answer(self, method: str = "GET") -> Answer:
        """Read one response to its end."""
        status, headers, raw = await self.head()
        empty = method == "HEAD" or status in {204, 304} or status < 200
        body = b"" if empty else await self.reader.readexactly(int(headers["Content-Length"]))
        return Answer(status, headers, body, raw)

    async def ended(self) -> bytes:
        """What comes until the server closes the connection."""
        return await self.reader.read(-1)


def request(target: str | bytes, method: str = "GET", headers: Mapping[str, str] | None = None) -> bytes:
    """The bytes of a request without a body."""
    path = target if isinstance(target, bytes) else target.encode()
    lines = [f"{name}: {value}".encode() for name, value in {"Host": "registry", **(headers or {})}.items()]
    return b"\r\n".join([b"%s %s HTTP/1.1" % (method.encode(), path), *lines, b"", b""])


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@dataclass
class Site:
    """A server, and what it is asked with: one helper for each endpoint."""

    registry: Registry
    address: tuple[str, int]
    log: io.StringIO
    access: AccessLog
    security: Security
    tls: ssl.SSLContext | None = None
    headers: dict[str, str] = field(default_factory=dict)

    @asynccontextmanager
    async def connect(self, **options: Any) -> AsyncIterator[Connection]:
        async with asyncio.timeout(DEADLINE):
            reader, writer = await asyncio.open_connection(*self.address, ssl=self.tls, **options)
            try:
                yield Connection(reader, writer)
            finally:
                writer.close()

    async def ask(self, target: str | bytes, method: str = "GET", **headers: str) -> Answer:
        """One request and its answer; `If_None_Match="…"` sets the header of that name."""
        given = {**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        async with self.connect() as connection:
            await connection.send(request(target, method, given))
            return await connection.answer(method)

    async def raw(self, data: bytes) -> bytes:
        """Everything that the server answers `data` with until it closes the connection."""
        async with self.connect() as connection:
            await connection.send(data)
            return await connection.ended()

    def lines(self) -> list[str]:
        """The access log."""
        self.access.flush()
        return self.log.getvalue().splitlines()

    async def health(self) -> Answer:
        return await self.ask("/health")

    async def base(self) -> Answer:
        return await self.ask("/v1/")

    async def catalog(self, **query: Any) -> Answer:
        return await self.ask(_with("/v1/_catalog", query))

    async def tags(self, name: str, **query: Any) -> Answer:
        return await self.ask(_with(f"/v1/{quote(name, safe='')}/tags/list", query))

    async def manifest(self, name: str, reference: str, method: str = "GET", **headers: str) -> Answer:
        return await self.ask(f"/v1/{name}/manifests/{reference}", method, **headers)

    async def blob(self, name: str, digest: str, query: str = "", method: str = "GET", **headers: str) -> Answer:
        return await self.ask(f"/v1/{name}/blobs/{digest}{query}", method, **headers)

    async def packs(self, **query: Any) -> Answer:
        return await self.ask(_with("/api/v1/packs", query))

    async def pack(self, name: str) -> Answer:
        return await self.ask(f"/api/v1/packs/{name}")

    async def version(self, name: str, tag: str) -> Answer:
        return await self.ask(f"/api/v1/packs/{name}/versions/{tag}")

    async def archive(self, name: str, tag: str, method: str = "GET", **headers: str) -> Answer:
        return await self.ask(f"/api/v1/packs/{name}/versions/{tag}/archive", method, **headers)

    async def file(self, name: str, tag: str, path: str, method: str = "GET", **headers: str) -> Answer:
        return await self.ask(f"/api/v1/packs/{name}/versions/{tag}/files/{quote(path)}", method, **headers)

    async def problems(self) -> Answer:
        return await self.ask("/api/v1/problems")


def _with(path: str, query: Mapping[str, Any]) -> str:
    return f"{path}?{urlencode(query)}" if query else path


@functools.cache
def _hashed(password: str) -> bytes:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4))


def users_file(path: Path, users: Mapping[str, str]) -> Path:
    """An htpasswd file of users by name, with their passwords."""
    path.write_bytes(b"".join(b"%s:%s\n" % (name.encode(), _hashed(word)) for name, word in users.items()))
    return path


def with_users(config: Config, path: Path) -> Config:
    """The configuration with users from a file."""
    return dataclasses.replace(
        config, auth=dataclasses.replace(config.auth, mode="htpasswd", htpasswd=Htpasswd("the realm", path))
    )


@asynccontextmanager
async def serving(
    data: Path,
    *roots: Path,
    config: Config | None = None,
    users: Mapping[str, str] | None = None,
    tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None,
    stall: float = DEADLINE,
    as_json: bool = False,
    audit: Audit | None = None,
) -> AsyncIterator[Site]:
    """Serve the packs below `roots` from the data directory `data`.

    With `users` (name → password) credentials are needed, and the site asks with those of the first. `tls` are the
    server's context and the client's.
    """
    used = config or Config()
    if users:
        used = with_users(used, users_file(data.parent / f"{data.name}-users", users))
    async with AsyncExitStack() as stack:
        registry = await stack.enter_async_context(
            open_registry(data, *roots, changed=audit.changed if audit else unheard)
        )
        security = await secured(used, registry.storage.local, Metrics(), audit)
        stack.callback(security.authenticator.close)
        log = io.StringIO()
        access = AccessLog(log, as_json=as_json, fields=used.log.fields)
        stack.callback(access.flush)
        runner = Runner(
            create_app(used, registry, security, stall=stall),
            access_log=logging.getLogger("packregistry.server"),
            access_log_class=logger_class(access),
            auto_decompress=False,
            shutdown_timeout=0.1,
        )
        logging.getLogger("packregistry.server").setLevel(logging.INFO)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls[0] if tls else None).start()
        host, port = runner.addresses[0][:2]
        headers = basic(*next(iter(users.items()))) if users else {}
        yield Site(registry, (host, port), log, access, security, tls[1] if tls else None, headers)
