"""A server that answers as it is told and remembers what it was asked, and servers in a thread of their own.

Commands run an event loop of their own, so whoever answers them needs another.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import web

T = TypeVar("T")
DEADLINE = 10


@contextmanager
def in_thread(context: AbstractAsyncContextManager[T]) -> Iterator[T]:
    """What `context` gives, while its event loop runs in another thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        value = asyncio.run_coroutine_threadsafe(context.__aenter__(), loop).result(DEADLINE)
        try:
            yield value
        finally:
            asyncio.run_coroutine_threadsafe(context.__aexit__(None, None, None), loop).result(DEADLINE)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(DEADLINE)
        loop.close()


@dataclass(frozen=True)
class Asked:
    """A request that came."""

    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """What to answer. With `cut`, the connection breaks after so many bytes of the body."""

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None
    reads: bool = True

    @classmethod
    def of(cls, document: Any, status: int = 200, **headers: str) -> Reply:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return cls(status, json.dumps(document).encode(), named)

    @classmethod
    def error(cls, status: int, code: str, message: str = "no", detail: Any = None, **headers: str) -> Reply:
        return cls.of({"errors": [{"code": code, "message": message, "detail": detail}]}, status, **headers)


Answer = Reply | Callable[[Asked], Reply]


@dataclass
class StandIn:
    """The server: `on` says what it answers, `asked` is what it was asked, in order."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    replies: dict[tuple[str, str], deque[Answer]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The address, without a scheme."""
        return self.url.partition("://")[2]

    def on(self, method: str, path: str, *answers: Answer) -> None:
        """Answer such requests with these, one after the other; the last one for ever."""
        self.replies[method, path] = deque(answers)

    def asked_for(self, method: str, path: str) -> list[Asked]:
        return [one for one in self.asked if (one.method, one.path) == (method, path)]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        answers = self.replies.get((request.method, request.raw_path.partition("?")[0]))
        answer: Answer = Reply.error(404, "NOT_FOUND", "there is nothing here")
        if answers:
            answer = answers.popleft() if len(answers) > 1 else answers[0]
        reads = not isinstance(answer, Reply) or answer.reads
        body = await request.read() if reads else b""
        path = request.raw_path.partition("?")[0]
        asked = Asked(request.method, path, dict(request.query), request.headers.copy(), body)
        self.asked.append(asked)
        reply = answer if isinstance(answer, Reply) else answer(asked)
        response = web.StreamResponse(status=reply.status, headers=reply.headers)
        response.content_length = len(reply.body)
        await response.prepare(request)
        await response.write(reply.body[: reply.cut])
        if reply.cut is not None and request.transport:
            await response.drain()
            request.transport.close()
        return response

    async def expect(self, request: web.Request) -> web.StreamResponse | None:
        """Refuse before the body comes where the answer is one that does not read it."""
        answers = self.replies.get((request.method, request.raw_path.partition("?")[0]))
        if answers and isinstance(answers[0], Reply) and not answers[0].reads:
            return await self.handle(request)
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
        return None


@asynccontextmanager
async def listening(context: ssl.SSLContext | None = None) -> AsyncIterator[StandIn]:
    """A stand-in that listens, in the event loop of the caller."""
    standin = StandIn()
    app = web.Application(client_max_size=0)
    app.router.add_route("*", "/{path:.*}", standin.handle, expect_handler=standin.expect)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    port = runner.addresses[0][1]
    standin.url = f"http{'s' if context else ''}://127.0.0.1:{port}"
    try:
        yield standin
    finally:
        await runner.cleanup()


def certificate(directory: Path) -> tuple[Path, ssl.SSLContext]:
    """A self-signed certificate for 127.0.0.1, and a server's context with it."""
    key, cert = directory / "key.pem", directory / "cert.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=registry"
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return cert, context
