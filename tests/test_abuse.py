"""What a registry goes through on an open network: right answers, bounded memory, and nobody else is affected."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import bcrypt
import pytest
import pytest_asyncio

from tests.factories import make_pack, publish
from tests.process import Server, serving
from tests.web import Site, basic
from tests.web import serving as serving_here

GOOD = ("reader", "a:good one")
LONG = "x" * 72


def header(user: bytes, password: bytes) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(user + b":" + password).decode()}


# Odd credentials


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    users = {GOOD[0]: GOOD[1], "long": LONG, "latin": "pässword", "admin": "root"}
    async with serving_here(tmp_path / "data", users=users) as found:
        await publish(found.registry)
        yield found


@pytest.mark.parametrize(
    ("user", "password", "status"),
    [
        pytest.param(b"reader", b"a:good one", 200, id="a colon in the password"),
        pytest.param(b"long", LONG.encode(), 200, id="72 bytes"),
        # bcrypt looks at 72 bytes, and so do Apache and the legacy server.
        pytest.param(b"long", LONG.encode() + b"tail", 200, id="73 and more bytes that begin right"),
        pytest.param(b"long", LONG.encode()[:-1] + b"y" + b"tail", 401, id="73 and more bytes that begin wrong"),
        pytest.param(b"reader", b"x" * 4097, 401, id="more than 4096 bytes"),
        pytest.param(b"latin", "pässword".encode(), 200, id="UTF-8"),
        pytest.param(b"latin", "pässword".encode("latin-1"), 401, id="not UTF-8"),
        pytest.param(b"reader", b"\xff\xfe\xfd", 401, id="no text at all"),
        pytest.param(b"reader", b"a:good one\0", 401, id="NUL at the end"),
        pytest.param(b"reader", b"\0", 401, id="only NUL"),
        pytest.param(b"reader", b"", 401, id="empty password"),
        pytest.param(b"", b"a:good one", 401, id="empty user"),
        pytest.param(b"", b"", 401, id="nothing"),
        pytest.param(b"reader\0", b"a:good one", 401, id="NUL in the user"),
        pytest.param(b"\xff", b"a:good one", 401, id="user that is no text"),
        pytest.param(b"u" * 300, b"a:good one", 401, id="long user"),
        pytest.param(b"reader\r\nX: y", b"a:good one", 401, id="line ends"),
        pytest.param(b"READER", b"a:good one", 401, id="another case"),
    ],
)
async def test_odd_credentials_get_a_right_answer(site: Site, user: bytes, password: bytes, status: int) -> None:
    site.headers = {}
    answer = await site.ask("/v1/", **header(user, password))
    assert answer.status == status
    if status == 401:
        assert answer.error == "UNAUTHORIZED"
        assert answer.headers["WWW-Authenticate"] == 'Basic realm="the realm"'
    assert (await site.ask("/v1/", **basic(*GOOD))).status == 200


@pytest.mark.parametrize(
    "value",
    [
        "Basic",
        "Basic ",
        "Basic !!!!",
        "Basic " + base64.b64encode(b"no colon").decode(),
        "Basic YQ",
        "Bearer",
        "Bearer x",
        "Bearer pkr_" + "a" * 60,
        "Negotiate YII=",
        "Digest username=reader",
        "reader:secret",
        " ",
        "Basic " + "A" * 8000,
        "Basic Y\u00e4==".encode("latin-1").decode("latin-1"),
    ],
    ids=lambda value: value[:20],
)
async def test_what_is_no_credential_is_refused_in_the_same_way(site: Site, value: str) -> None:
    async with site.connect() as connection:
        head = b"GET /v1/ HTTP/1.1\r\nHost: registry\r\nAuthorization: " + value.encode("latin-1") + b"\r\n\r\n"
        await connection.send(head)
        answer = await connection.answer()
    assert (answer.status, answer.error) == (401, "UNAUTHORIZED")


@pytest.mark.parametrize(
    "flood",
    [
        pytest.param(b"".join(b"X-%d: y\r\n" % number for number in range(5000)), id="many headers"),
        pytest.param(b"X: " + b"y" * 100_000 + b"\r\n", id="a long header"),
        pytest.param(b"Authorization: Basic " + b"A" * 20_000 + b"\r\n", id="long credentials"),
        pytest.param(b"X" * 50_000 + b": y\r\n", id="a long name"),
        pytest.param(b"Bad Header\x01: y\r\n", id="a malformed header"),
    ],
)
async def test_a_flood_of_headers_is_refused_with_the_headers_of_every_answer(site: Site, flood: bytes) -> None:
    async with site.connect() as connection:
        # The server may have hung up before it was sent everything.
        with contextlib.suppress(ConnectionError):
            await connection.send(b"GET /v1/ HTTP/1.1\r\nHost: registry\r\n" + flood + b"\r\n")
        answer = await connection.answer()
    assert answer.status in {400, 431}
    assert answer.headers["Server"] == "packregistry"
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.error
    assert (await site.ask("/v1/")).status == 200


async def test_whoever_fails_again_and_again_is_slowed_down_and_nobody_else(site: Site) -> None:
    site.headers = {}
    statuses = [(await site.ask("/v1/", **basic("reader", f"guess {number}"))).status for number in range(15)]
    assert statuses[:10] == [401] * 10
    assert statuses[-1] == 429
    refused = await site.ask("/v1/", **basic("reader", "guess again"))
    assert (refused.status, refused.error) == (429, "TOOMANYREQUESTS")
    assert int(refused.headers["Retry-After"]) >= 1
    assert (await site.ask("/v1/", **basic("long", LONG))).status == 200


async def test_who_signed_in_before_is_not_locked_out_by_somebody_at_the_same_address(site: Site) -> None:
    site.headers = {}
    assert (await site.ask("/v1/", **basic(*GOOD))).status == 200
    for number in range(15):
        await site.ask("/v1/", **basic("reader", f"guess {number}"))
    assert (await site.ask("/v1/", **basic("reader", "guess"))).status == 429
    assert (await site.ask("/v1/", **basic(*GOOD))).status == 200


# Floods, against a process


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    make_pack(tmp_path / "packs", "hello")
    users = {"reader": GOOD[1], "other": "another one", "late": "the last"}
    lines = [
        b"%s:%s" % (name.encode(), bcrypt.hashpw(word.encode(), bcrypt.gensalt(8))) for name, word in users.items()
    ]
    (tmp_path / "users").write_bytes(b"\n".join(lines) + b"\n")
    env = {"REGISTRY_AUTH": "htpasswd", "REGISTRY_AUTH_HTPASSWD_PATH": "users", "REGISTRY_PACKS_SETTLE": "0s"}
    # What a flood runs through is covered elsewhere, and takes twice as long where that is traced.
    with serving(cwd=tmp_path, COVERAGE_PROCESS_CONFIG="", **env) as found:
        yield found


def resident(server: Server) -> int:
    """The memory that the process has, in bytes."""
    pages = Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


async def flood(server: Server, credentials: Callable[[int], bytes], count: int, connections: int = 8) -> Counter[int]:
    """Ask `count` times, each time with other credentials, as fast as it goes; count the statuses."""
    statuses: Counter[int] = Counter()

    async def attack(first: int) -> None:
        reader, writer = await asyncio.open_connection(*server.address)
        for start in range(first, count, connections * 20):
            numbers = range(start, min(count, start + connections * 20), connections)
            writer.write(
                b"".join(
                    b"GET /v1/ HTTP/1.1\r\nHost: r\r\nAuthorization: Basic %s\r\n\r\n"
                    % base64.b64encode(credentials(number))
                    for number in numbers
                )
            )
            for _ in numbers:
                head = await reader.readuntil(b"\r\n\r\n")
                statuses[int(head.split(b" ", 2)[1])] += 1
                length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
                await reader.readexactly(int(length.partition(b":")[2]))
        writer.close()

    await asyncio.gather(*(attack(number) for number in range(connections)))
    return statuses


@contextlib.contextmanager
def asking_beside(server: Server, user: str, password: str) -> Iterator[list[tuple[int, float]]]:
    """Somebody who asks again and again meanwhile, and what came of it: statuses, and how many seconds it took."""
    seen: list[tuple[int, float]] = []
    done = threading.Event()

    def ask() -> None:
        while not done.wait(0.02):
            begun = time.perf_counter()
            seen.append((server.get("/v1/_catalog", basic(user, password)).status, time.perf_counter() - begun))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


@pytest.mark.process
@pytest.mark.thorough
@pytest.mark.parametrize(
    ("credentials", "count"),
    [
        pytest.param(lambda number: b"reader:guess %d" % number, 100_000, id="passwords of one user"),
        pytest.param(lambda number: b"user %d:guess" % number, 600, id="users, one password"),
        pytest.param(lambda number: b"x:pkr_%060d" % number, 20_000, id="tokens"),
    ],
)
def test_a_flood_of_wrong_credentials(server: Server, credentials: Callable[[int], bytes], count: int) -> None:
    """Nobody reads what the server logs meanwhile, as it is when a log collector has stalled."""
    assert server.get("/v1/", basic(*GOOD)).status == 200
    assert server.get("/v1/", basic("other", "another one")).status == 200
    before = resident(server)
    with asking_beside(server, "other", "another one") as others, asking_beside(server, *GOOD) as victims:
        statuses = asyncio.run(flood(server, credentials, count))
    assert set(statuses) <= {401, 429}
    assert statuses.total() == count
    assert resident(server) - before < 40 * 1024 * 1024
    for seen in (others, victims):
        assert {status for status, _ in seen} == {200}
        assert sorted(took for _, took in seen)[len(seen) // 2] < 0.25
    # Somebody who has not signed in yet comes through as well, once there is room.
    deadline = time.monotonic() + 10
    while (answer := server.get("/v1/", basic("late", "the last"))).status == 429 and time.monotonic() < deadline:
        time.sleep(float(answer.headers["retry-after"]))  # what the server asks for
    assert answer.status == 200
    code, _, errors = server.stop()
    assert code == 0
    assert "Traceback" not in errors


@pytest.mark.thorough
@pytest.mark.process
def test_a_users_file_that_is_half_written_again_and_again_disturbs_nobody(server: Server, tmp_path: Path) -> None:
    users = tmp_path / "users"
    whole = users.read_bytes()
    with asking_beside(server, *GOOD) as seen:
        for cut in range(0, len(whole), len(whole) // 12):
            # As an editor does it: first nothing, then a part, then the rest.
            users.write_bytes(b"")
            users.write_bytes(whole[:cut])
            wanted = len(seen) + 2
            while len(seen) < wanted:
                time.sleep(0.01)
        users.write_bytes(whole)
    assert {status for status, _ in seen} == {200}
    code, _, errors = server.stop()
    assert code == 0
    assert "Traceback" not in errors
