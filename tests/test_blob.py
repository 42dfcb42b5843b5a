"""Bytes leave: from memory, by the kernel, and over TLS, to clients that read, stop reading, or go away."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop

from packregistry.errors import StorageUnavailableError
from packregistry.model import Digest, Tag
from packregistry.storage import OpenBlob
from packregistry.storage.filesystem import FilesystemStorage
from packregistry.web import blob
from packregistry.web.progress import queued
from tests.factories import make_pack, noise, open_registry
from tests.web import DEADLINE, Connection, Site, request, serving

SIZE = 7 * 1024 * 1024  # more than the buffers of a connection hold
README = b"x" * 60_000
ARCHIVE = "/api/v1/packs/hello/versions/1.0.0/archive"
SMALL = "/api/v1/packs/hello/versions/1.0.0/files/values.yaml"
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}

Contexts = tuple[ssl.SSLContext, ssl.SSLContext]
Run = Callable[[Callable[[Site], Awaitable[None]]], None]


@dataclass(frozen=True)
class Kept:
    """A data directory with one pack, whose archive is large."""

    data: Path
    content: bytes
    digest: Digest

    @property
    def file(self) -> Path:
        return self.data / "blobs" / "sha256" / self.digest.hex


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    root = tmp_path_factory.mktemp("blob")
    make_pack(root / "packs", files={"manifests/noise": noise(SIZE), "README.md": README})

    async def publish() -> Digest:
        async with open_registry(root / "data", root / "packs") as registry:
            return registry.packs()[0].release(Tag("1.0.0")).archive.digest

    digest = asyncio.run(publish())
    kept = Kept(root / "data", b"", digest)
    return Kept(root / "data", kept.file.read_bytes(), digest)


@pytest.fixture
def own(published: Kept, tmp_path: Path) -> Kept:
    """A copy that a test may damage."""
    shutil.copytree(published.data, tmp_path / "data")
    return Kept(tmp_path / "data", published.content, published.digest)


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> Contexts:
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed, and makes the certificate")
    root = tmp_path_factory.mktemp("tls")
    subprocess.run(
        shlex.split(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout key.pem -out cert.pem "
            "-days 1 -subj /CN=registry -addext subjectAltName=IP:127.0.0.1"
        ),
        cwd=root,
        check=True,
        capture_output=True,
    )
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(root / "cert.pem", root / "key.pem")
    return server, ssl.create_default_context(cafile=root / "cert.pem")


def run(loop: str, kept: Kept, ask: Callable[[Site], Awaitable[None]], **options: Any) -> None:
    """Ask a server that runs on one of the event loops."""

    async def main() -> None:
        async with asyncio.timeout(DEADLINE), serving(kept.data, **options) as site:
            await ask(site)

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(main())


# The server runs on uvloop; that nothing depends on it is looked at when there is time.
_THOROUGH = [pytest.param(name, marks=pytest.mark.thorough) for name in ("asyncio", "asyncio over TLS")]


@pytest.fixture(params=["uvloop", "uvloop over TLS", *_THOROUGH])
def way(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """A loop, and how the server is reached."""
    loop, _, tls = request.param.partition(" over ")
    return loop, {"tls": request.getfixturevalue("contexts")} if tls else {}


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 — a path each is not wanted


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until the condition holds."""
    for _ in range(DEADLINE * 1000):
        if condition():
            return
        await asyncio.sleep(0.001)
    pytest.fail("it never came true")


@contextlib.asynccontextmanager
async def deaf(site: Site) -> AsyncIterator[Connection]:
    """A connection whose client takes next to nothing until it reads."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plain.setblocking(False)
    await asyncio.get_running_loop().sock_connect(plain, site.address)
    options: dict[str, Any] = {"ssl": site.tls, "server_hostname": "127.0.0.1"} if site.tls else {}
    reader, writer = await asyncio.open_connection(sock=plain, limit=1024, **options)
    try:
        yield Connection(reader, writer)
    finally:
        writer.transport.abort()


def test_a_large_download_is_byte_for_byte_what_is_stored_and_the_connection_lives_on(
    published: Kept, way: tuple[str, dict[str, Any]]
) -> None:
    async def ask(site: Site) -> None:
        before = descriptors()
        async with site.connect() as connection:
            for _ in range(2):
                await connection.send(request(ARCHIVE))
                answer = await connection.answer()
                assert answer.status == 200
                assert answer.body == published.content
                await connection.send(request("/health"))
                assert (await connection.answer()).body == b'{"status":"UP"}'
        await until(lambda: descriptors() <= before)

    run(way[0], published, ask, **way[1])


def test_pipelined_requests_are_answered_in_their_order(published: Kept, way: tuple[str, dict[str, Any]]) -> None:
    async def ask(site: Site) -> None:
        wanted = [
            (SMALL, "GET", {}),
            (ARCHIVE, "GET", {}),
            (ARCHIVE, "HEAD", {}),
            (SMALL, "GET", {}),
            (ARCHIVE, "GET", {"Range": f"bytes=100-{SIZE - 1}"}),
            (ARCHIVE, "GET", {"If-None-Match": f'"{published.digest}"'}),
            ("/health", "GET", {}),
        ]
        async with site.connect() as connection:
            await connection.send(b"".join(request(target, method, headers) for target, method, headers in wanted))
            answers = [await connection.answer(method) for _, method, _ in wanted]
        assert [answer.status for answer in answers] == [200, 200, 200, 200, 206, 304, 200]
        assert answers[1].body == published.content
        assert answers[4].body == published.content[100:SIZE]
        assert answers[0].body == answers[3].body == b"pack:\n  namespace: hello\n"
        assert answers[6].body == b'{"status":"UP"}'

    run(way[0], published, ask, **way[1])


def test_a_large_file_follows_what_a_slow_client_has_not_read_yet(published: Kept) -> None:
    """`sendfile` would overtake what the transport holds back."""

    async def ask(site: Site) -> None:
        async with deaf(site) as connection:
            more_than_buffers_hold = request(SMALL.replace("values.yaml", "README.md")) * 120
            await connection.send(more_than_buffers_hold + request(ARCHIVE, headers={"Range": "bytes=0-99999"}))
            for _ in range(120):
                assert (await connection.answer()).body == README
            assert (await connection.answer()).body == published.content[:100_000]

    for loop in LOOPS:
        run(loop, published, ask)


def test_a_client_that_goes_away_ends_the_transfer_and_leaves_nothing_open(
    published: Kept, way: tuple[str, dict[str, Any]]
) -> None:
    async def ask(site: Site) -> None:
        await site.health()
        before = descriptors()
        for _ in range(3):
            async with deaf(site) as connection:
                await connection.send(request(ARCHIVE))
                assert (await connection.head())[0] == 200
        await until(lambda: descriptors() <= before)
        await until(lambda: len(site.lines()) == 4)
        assert all(int(line.split()[-2]) < len(published.content) for line in site.lines()[1:])
        assert (await site.ask(ARCHIVE)).body == published.content

    run(way[0], published, ask, **way[1])


def test_a_client_that_stops_reading_is_dropped(
    published: Kept, way: tuple[str, dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    async def ask(site: Site) -> None:
        async with deaf(site) as connection:
            await connection.send(request(ARCHIVE))
            assert (await connection.head())[0] == 200
            await until(lambda: len(site.lines()) == 1)
            with contextlib.suppress(ssl.SSLError):  # the connection ends without a farewell
                assert len(await connection.ended()) < len(published.content)

    with caplog.at_level("INFO", "packregistry"):
        run(way[0], published, ask, stall=0.02, **way[1])
    assert "the client took nothing for 0.02 s" in caplog.text


@pytest.mark.parametrize("loop", LOOPS)
def test_others_get_their_turn_while_a_client_takes_all_it_is_given(
    published: Kept, loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[int] = []
    ticks = 0
    original = os.sendfile

    def sendfile(*args: int) -> int:
        turns.append(ticks)
        return original(*args)

    async def count() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    async def ask(site: Site) -> None:
        counting = asyncio.create_task(count())
        answer = await site.ask(ARCHIVE, Range="bytes=0-39999")
        counting.cancel()
        assert answer.body == published.content[:40_000]

    monkeypatch.setattr(blob, "_CHUNK", 4000)
    monkeypatch.setattr(os, "sendfile", sendfile)
    run(loop, published, ask)
    assert len(turns) == 10
    assert turns == sorted(set(turns))


@pytest.mark.parametrize("target", [ARCHIVE, SMALL], ids=["large", "small"])
@pytest.mark.parametrize(
    ("headers", "status", "span"),
    [
        ({}, 200, slice(None)),
        ({"Range": "bytes=0-0"}, 206, slice(0, 1)),
        ({"Range": "bytes=5-"}, 206, slice(5, None)),
        ({"Range": "bytes=-7"}, 206, slice(-7, None)),
        ({"Range": "bytes=3-99999999999999999999999"}, 206, slice(3, None)),
        ({"Range": "bytes=-99999999999999999999999"}, 206, slice(None)),
        ({"Range": "bytes=0-1,4-5"}, 200, slice(None)),
        ({"Range": "bytes=5-4"}, 200, slice(None)),
        ({"Range": "lines=1-2"}, 200, slice(None)),
        ({"Range": "bytes=0-1", "If-Range": "ETAG"}, 206, slice(0, 2)),
        ({"Range": "bytes=0-1", "If-Range": "W/ETAG"}, 200, slice(None)),
        ({"Range": "bytes=0-1", "If-Range": '"stale"'}, 200, slice(None)),
        ({"Range": "bytes=0-1", "If-None-Match": '"other"'}, 206, slice(0, 2)),
        ({"Range": "bytes=99999999999999999999999-"}, 416, None),
        ({"Range": "bytes=-0"}, 416, None),
        ({"Range": "bytes=99999999999999999999999-", "If-Range": '"stale"'}, 200, slice(None)),
        ({"If-None-Match": "ETAG"}, 304, None),
        ({"If-None-Match": 'W/ETAG, "other"'}, 304, None),
        ({"If-None-Match": "*"}, 304, None),
        ({"If-None-Match": "ETAG", "Range": "bytes=99999999999-"}, 304, None),
        ({"If-None-Match": '"other"'}, 200, slice(None)),
    ],
    ids=str,
)
def test_ranges_and_conditions(
    published: Kept, target: str, headers: dict[str, str], status: int, span: slice | None
) -> None:
    async def ask(site: Site) -> None:
        whole = await site.ask(target)
        size, etag = len(whole.body), whole.headers["ETag"]
        given = {name.replace("-", "_"): value.replace("ETAG", etag) for name, value in headers.items()}
        answer = await site.ask(target, **given)
        assert answer.status == status
        if span is not None:
            assert answer.body == whole.body[span]
            assert answer.headers["ETag"] == etag
            assert answer.headers["Accept-Ranges"] == "bytes"
        if status == 206:
            start, stop, _ = slice(span.start, span.stop).indices(size) if span else (0, 0, 1)
            assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{size}"
        elif status == 416:
            assert answer.error == "RANGE_INVALID"
            assert answer.headers["Content-Range"] == f"bytes */{size}"
        elif status == 304:
            assert answer.headers["ETag"] == etag
            assert answer.headers["Cache-Control"] == "no-cache"
            assert "Content-Type" not in answer.headers
        head = await site.ask(target, "HEAD", **given)
        assert head.status == (304 if status == 304 else 200)
        assert "Content-Range" not in head.headers
        assert status == 304 or head.headers["Content-Length"] == str(size)

    run("uvloop", published, ask)


def test_header_lines_of_one_name_are_one_list(published: Kept) -> None:
    async def ask(site: Site) -> None:
        for lines, status in (
            (b'If-None-Match: "other"\r\nIf-None-Match: "%s"' % published.digest.encode(), 304),
            (b"Range: bytes=0-1\r\nRange: bytes=4-5", 200),
        ):
            async with site.connect() as connection:
                await connection.send(request(ARCHIVE)[:-2] + lines + b"\r\n\r\n")
                assert (await connection.answer()).status == status

    run("asyncio", published, ask)


def test_a_blob_the_storage_lost_is_unknown(own: Kept) -> None:
    async def ask(site: Site) -> None:
        small = (await site.version("hello", "1.0.0")).json()["content"]["digest"]
        for path in own.file.parent.iterdir():
            path.unlink()
        site.registry.storage.stale()
        for method in ("GET", "HEAD"):
            answer = await site.ask(ARCHIVE, method)
            assert answer.status == 404
            assert method == "HEAD" or answer.error == "BLOB_UNKNOWN"
        assert (await site.blob("hello", small)).status == 200, "what is in memory is served"
        assert (await site.manifest("hello", "1.0.0")).error == "BLOB_UNKNOWN"

    run("uvloop", own, ask)


def test_a_blob_of_another_size_is_refused_before_anything_is_sent(own: Kept) -> None:
    async def ask(site: Site) -> None:
        manifest = site.registry.packs()[0].release(Tag("1.0.0")).manifest
        for digest in (own.digest, manifest.digest):
            os.truncate(own.file.with_name(digest.hex), 100)
        for method in ("GET", "HEAD"):
            assert (await site.ask(ARCHIVE, method)).status == 503
            assert (await site.manifest("hello", "1.0.0", method)).status == 503
        answer = await site.ask(ARCHIVE)
        assert answer.error == "STORAGE_UNAVAILABLE"
        assert f"100 of its {len(own.content)} bytes" in answer.message

    run("uvloop", own, ask)


class Remote:
    """A blob that is no local file, and that can be read only so far."""

    descriptor: int | None = None

    def __init__(self, size: int, content: bytes, error: Exception | None) -> None:
        self.size = size
        self._content = content
        self._error = error
        self.closed = False

    async def chunks(self, start: int, stop: int) -> AsyncIterator[bytes]:
        for at in range(start, min(stop, len(self._content)), 100_000):
            yield self._content[at : min(at + 100_000, stop)]
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (noise(250_000), StorageUnavailableError("the bucket is gone")),
        (noise(250_000), OSError("input/output error")),
        (noise(250_000), None),
        (b"", None),
    ],
    ids=["storage fails", "disk fails", "becomes shorter", "becomes empty"],
)
def test_a_transfer_that_fails_half_way_ends_the_connection_and_adds_nothing_to_the_body(
    published: Kept,
    content: bytes,
    error: Exception | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    remote = Remote(len(published.content), content, error)

    async def opened(self: FilesystemStorage, digest: Digest) -> OpenBlob:
        return remote

    async def ask(site: Site) -> None:
        async with site.connect() as connection:
            await connection.send(request(ARCHIVE) * 2)
            assert (await connection.head())[0] == 200
            received = await ended(connection)
            assert content.startswith(received)
        assert remote.closed
        # Some Pythons still look at what was sent behind it, and find that nobody is there (499).
        assert site.lines()[0].split()[-3:-1] == ["200", str(len(content))]

    monkeypatch.setattr(FilesystemStorage, "open_blob", opened)
    with caplog.at_level("INFO", "packregistry.web"):
        run("asyncio", published, ask)
    (record,) = [record for record in caplog.records if ARCHIVE in record.getMessage()]
    why = error or "the blob became shorter"
    assert record.getMessage() == f"{ARCHIVE} ended after {len(content)} of {remote.size} bytes: {why}"


def test_a_file_that_becomes_shorter_under_way_ends_the_connection(
    published: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: Iterator[bool] = iter([False, True])
    original = os.sendfile

    def sendfile(out: int, source: int, offset: int, count: int) -> int:
        return 0 if next(sizes) else original(out, source, offset, 50_000)

    async def ask(site: Site) -> None:
        async with site.connect() as connection:
            await connection.send(request(ARCHIVE))
            assert (await connection.head())[0] == 200
            assert published.content[:50_000].startswith(await ended(connection))

    monkeypatch.setattr(os, "sendfile", sendfile)
    run("uvloop", published, ask)


async def ended(connection: Connection) -> bytes:
    """What comes until the connection ends, however it does."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := await connection.reader.read(65536):
            received += chunk
    return received


# What is hard to time from outside.


async def test_a_slow_client_is_waited_for_as_long_as_it_takes_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                ours.send(bytes(65536))
        asked = iter([900, 800, 700, 700])
        monkeypatch.setattr(blob, "queued", lambda _: next(asked))
        with pytest.raises(TimeoutError, match="took nothing"):
            await blob._writable(ours.fileno(), 0.001)
        assert list(asked) == []
        assert not asyncio.get_running_loop().remove_writer(ours.fileno())


async def test_what_a_client_has_not_taken_is_counted() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with listener, socket.create_connection(listener.getsockname()) as client, listener.accept()[0] as server:
        assert queued(server.fileno()) == 0
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        server.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                server.send(bytes(65536))
        assert queued(server.fileno()) > 0


def paused(sizes: list[int], drain: Callable[[], Awaitable[None]]) -> tuple[Any, Any]:
    """A request and a transport that does not take more, whose buffer has one of `sizes` after the other."""
    left = iter(sizes)
    request = SimpleNamespace(protocol=SimpleNamespace(writing_paused=True), writer=SimpleNamespace(drain=drain))
    return request, SimpleNamespace(get_write_buffer_size=lambda: next(left), get_extra_info=lambda _: None)


async def test_a_transport_is_waited_for_as_long_as_anything_leaves_it() -> None:
    request, transport = paused([900, 800, 700, 700], asyncio.Event().wait)  # type: ignore[arg-type]  # its True is not looked at
    with pytest.raises(TimeoutError, match="took nothing"):
        await blob._drained(request, transport, 0.001)
    with pytest.raises(StopIteration):
        transport.get_write_buffer_size()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_connection_that_breaks_while_it_is_waited_for_says_so() -> None:
    async def drain() -> None:
        raise ConnectionResetError("the client is gone")

    with pytest.raises(ConnectionResetError):
        await blob._drained(*paused([900], drain), DEADLINE)


async def test_a_client_that_is_gone_before_the_first_byte_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    gone: Any = SimpleNamespace(transport=None, raw_path=ARCHIVE, get=dict[object, object]().get)
    with caplog.at_level("INFO", "packregistry.web.blob"):
        await blob._transfer(gone, Remote(1, b"1", None), 0, 1, DEADLINE)
    assert "ended after 0 of 1 bytes: the client is gone" in caplog.text


@pytest.mark.parametrize("ended", [True, False], ids=["has ended", "ends while what is before is sent"])
async def test_the_descriptor_of_a_connection_that_ends_is_not_touched(ended: bool) -> None:
    """Its number may be that of another client's connection by now."""

    async def drain() -> None:
        raise ConnectionResetError

    def touched(name: str) -> None:
        pytest.fail(f"{name} was asked for")

    limits: list[tuple[int, ...]] = []
    request, transport = paused([1], drain)
    request.protocol.writing_paused = not ended
    transport.set_write_buffer_limits = lambda *limit: limits.append(limit)
    transport.is_closing = lambda: ended
    transport.get_extra_info = touched
    with pytest.raises(ConnectionResetError):
        await blob._sendfile(request, transport, 0, (0, 1), DEADLINE)
    assert limits == [(0,), ()]
