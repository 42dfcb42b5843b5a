"""Who gets in: the header, what is remembered, what waits for what, and what the log says."""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import re
import threading
from typing import TYPE_CHECKING

import bcrypt
import pytest
from blockbuster import blockbuster_ctx
from hypothesis import given, settings
from hypothesis import strategies as st

from packregistry import auth
from packregistry.auth import ANONYMOUS, BasicAuthenticator, OpenAuthenticator, Principal
from packregistry.auth.htpasswd import HtpasswdFile, Users, UsersFileError
from packregistry.errors import RegistryError, TooManyRequestsError, UnauthorizedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HASHES = {password: bcrypt.hashpw(password, bcrypt.gensalt(4)) for password in (b"one", b"two", b"a:b:", b"\xff")}
ADDRESS = "192.0.2.7"


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Site:
    """An authenticator on a file of its own, whose clock stands still unless moved."""

    def __init__(self, path: Path, workers: int) -> None:
        self.path = path
        self.clock = Clock()
        self.changes = 0
        self.write(ann=b"one", bob=b"two")
        self.file = HtpasswdFile(path)
        self.file.load()
        self.authenticator = BasicAuthenticator(self.file, "packs", workers=workers, clock=self.clock)

    def write(self, **users: bytes) -> None:
        """Replace the users, by name, with such as have these passwords."""
        self.put(b"".join(b"%s:%s\n" % (user.encode(), HASHES[password]) for user, password in users.items()))

    def put(self, content: bytes) -> None:
        self.changes += 1
        self.path.write_bytes(content)
        os.utime(self.path, ns=(self.changes, self.changes))

    async def verify(self, user: str | bytes, password: str | bytes, address: str = ADDRESS) -> Principal:
        return await self.authenticator.verify(basic(user, password), address)

    def remembered(self, user: str | bytes, password: str | bytes) -> Principal | None:
        return self.authenticator.remembered(basic(user, password))


class Gate:
    """Stands in for hashing: every check waits in its thread until the gate opens; passwords "one" are right."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, is_open: bool = False) -> None:
        self.calls: list[tuple[bytes, bytes]] = []
        self.threads: set[int] = set()
        self.begun = threading.Event()
        self._opened = threading.Event()
        if is_open:
            self.open()
        monkeypatch.setattr(Users, "verify", lambda _users, user, password: self._check(user, password))

    def open(self) -> None:
        self._opened.set()

    def _check(self, user: bytes, password: bytes) -> bool:
        self.calls.append((user, password))
        self.threads.add(threading.get_ident())
        self.begun.set()
        assert self._opened.wait(10)
        return password == b"one"


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    sites: list[Site] = []

    def make(workers: int = 2) -> Site:
        sites.append(Site(tmp_path / f"users{len(sites)}", workers))
        return sites[-1]

    yield make
    for site in sites:
        site.authenticator.close()


def basic(user: str | bytes, password: str | bytes) -> str:
    parts = [part.encode() if isinstance(part, str) else part for part in (user, password)]
    return "Basic " + base64.b64encode(b":".join(parts)).decode()


def padded(size: int) -> str:
    """Return a header of `size` characters, between 8191 and 8200."""
    return basic("ann", "o" * 6134).replace(" ", " " * (size - 8189))


def failures(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "packregistry.auth"]


def loop_errors() -> list[dict[str, object]]:
    """Return the list that collects what goes wrong where nobody waits for it."""
    errors: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: errors.append(context))
    return errors


async def ticks(count: int = 3) -> None:
    """Let tasks run as far as they can; returns at all only if the loop is not blocked."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_without_authentication_everybody_is_anonymous() -> None:
    authenticator: auth.Authenticator = OpenAuthenticator()
    await authenticator.refresh()
    assert Principal("anonymous", "none") == ANONYMOUS
    for header in (None, "", basic("ann", "one")):
        assert authenticator.remembered(header) is ANONYMOUS
        assert await authenticator.verify(header, ADDRESS) is ANONYMOUS
    assert authenticator.challenge == ""
    authenticator.close()


async def test_verified_credentials_are_remembered(make_site: Callable[..., Site]) -> None:
    site = make_site()
    assert site.remembered("ann", "one") is None
    assert await site.verify("ann", "one") == Principal("ann", "basic")
    assert site.remembered("ann", "one") == Principal("ann", "basic")
    assert site.remembered("ann", "two") is None
    assert site.remembered("bob", "one") is None
    assert site.authenticator.remembered(None) is None


@pytest.mark.parametrize(
    ("user", "password", "name"),
    [
        pytest.param(b"ann", b"a:b:", "ann", id="colon-in-the-password"),
        pytest.param(b"ann", b"\xff", "ann", id="password-not-utf-8"),
        pytest.param("ève".encode(), b"one", "ève", id="utf-8-user"),
        pytest.param(b"\xe8ve", b"one", "ève", id="latin-1-user"),
        pytest.param(b"fan #1", b"one", "fan #1", id="odd-user"),
    ],
)
async def test_credentials_are_compared_as_bytes(
    make_site: Callable[..., Site], user: bytes, password: bytes, name: str
) -> None:
    site = make_site()
    site.put(b"%s:%s" % (user, HASHES[password]))
    assert await site.verify(user, password) == Principal(name, "basic")
    assert site.remembered(user, password) == Principal(name, "basic")


@pytest.mark.parametrize("scheme", ["Basic ", "basic ", "BASIC ", " bAsIc    "])
async def test_the_scheme_is_read_whatever_its_case_and_spacing(make_site: Callable[..., Site], scheme: str) -> None:
    site = make_site()
    header = basic("ann", "one").replace("Basic ", scheme) + " "
    assert await site.authenticator.verify(header, ADDRESS) == Principal("ann", "basic")
    assert site.authenticator.remembered(header) == Principal("ann", "basic")


@pytest.mark.parametrize(
    "header",
    [
        pytest.param("", id="empty"),
        pytest.param("Basic", id="no-token"),
        pytest.param("Basic ", id="empty-token"),
        pytest.param("Bearer YW5uOm9uZQ==", id="other-scheme"),
        pytest.param("BasicYW5uOm9uZQ==", id="no-space"),
        pytest.param("Basic YW5uOm9uZQ", id="no-padding"),
        pytest.param("Basic YW5uOm9uZQ==YQ==", id="text-after-the-padding"),
        pytest.param("Basic YW5u Om9uZQ==", id="space-inside"),
        pytest.param("Basic YW5uOm9uZQ-_", id="url-safe-alphabet"),
        pytest.param("Basic " + base64.b64encode(b"annone").decode(), id="no-colon"),
        pytest.param("Basic YW5uOm9uZQ==é", id="not-ascii"),
        pytest.param(padded(8193), id="longer-than-8-KiB"),
    ],
)
async def test_a_header_that_is_not_exactly_basic_is_refused_without_hashing(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, header: str
) -> None:
    site, gate = make_site(), Gate(monkeypatch, is_open=True)
    assert site.authenticator.remembered(header) is None
    with pytest.raises(UnauthorizedError, match="header cannot be read") as caught:
        await site.authenticator.verify(header, ADDRESS)
    assert caught.value.headers == {"WWW-Authenticate": 'Basic realm="packs"'}
    assert gate.calls == []
    assert failures(caplog) == [f'authentication failed user="" address={ADDRESS} reason=malformed-header']


async def test_a_header_of_8_kib_is_read(make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch) -> None:
    site, gate = make_site(), Gate(monkeypatch, is_open=True)
    with pytest.raises(UnauthorizedError, match="is wrong"):
        await site.authenticator.verify(padded(8192), ADDRESS)
    assert gate.calls == [(b"ann", b"o" * 6134)]


async def test_missing_credentials_are_challenged_and_not_logged(
    make_site: Callable[..., Site], caplog: pytest.LogCaptureFixture
) -> None:
    """Every browser begins without; an intrusion detector must not count that."""
    site = make_site()
    with pytest.raises(UnauthorizedError, match="credentials are required") as caught:
        await site.authenticator.verify(None, ADDRESS)
    assert caught.value.headers == {"WWW-Authenticate": site.authenticator.challenge}
    assert failures(caplog) == []


async def test_a_refusal_does_not_tell_whether_the_user_exists(make_site: Callable[..., Site]) -> None:
    site = make_site()
    refusals = []
    for user in ("ann", "nobody"):
        for _ in range(2):
            with pytest.raises(UnauthorizedError) as caught:
                await site.verify(user, "wrong")
            refusals.append((str(caught.value), caught.value.detail, caught.value.headers))
    assert refusals == [refusals[0]] * 4
    assert refusals[0][2] == {"WWW-Authenticate": 'Basic realm="packs"'}


@pytest.mark.parametrize(
    ("realm", "challenge"),
    [
        pytest.param("basic-realm", 'Basic realm="basic-realm"', id="plain"),
        pytest.param('a "b" \\c', 'Basic realm="a \\"b\\" \\\\c"', id="quotes-and-backslash"),
        pytest.param("a\r\nX: y\x7f", 'Basic realm="a??X: y?"', id="line-break"),
        pytest.param("für~", 'Basic realm="f?r~"', id="not-ascii"),
    ],
)
def test_the_realm_is_quoted(tmp_path: Path, realm: str, challenge: str) -> None:
    authenticator = BasicAuthenticator(HtpasswdFile(tmp_path / "users"), realm)
    assert authenticator.challenge == challenge
    authenticator.close()


@pytest.mark.parametrize(
    ("user", "address", "line"),
    [
        pytest.param("ann", "::1", 'user="ann" address=::1 reason=wrong-password', id="known"),
        pytest.param("eve", "fe80::1%eth0", 'user="eve" address=fe80::1%eth0 reason=unknown-user', id="unknown"),
        pytest.param(
            'x" address=10.0.0.1 reason=y\n',
            ADDRESS,
            f'user="x\\" address=10.0.0.1 reason=y\\n" address={ADDRESS} reason=unknown-user',
            id="forged-user",
        ),
        pytest.param("eve", "1 a\n", 'user="eve" address="1 a\\n" reason=unknown-user', id="forged-address"),
        pytest.param(b"\xe9", ADDRESS, f'user="\\u00e9" address={ADDRESS} reason=unknown-user', id="latin-1"),
    ],
)
async def test_each_failure_is_one_warning_that_cannot_be_forged(
    make_site: Callable[..., Site], caplog: pytest.LogCaptureFixture, user: str | bytes, address: str, line: str
) -> None:
    caplog.set_level(logging.DEBUG, "packregistry")
    site = make_site()
    caplog.clear()
    for _ in range(2):
        with pytest.raises(UnauthorizedError):
            await site.verify(user, "hunter2", address)
    assert caplog.record_tuples == [("packregistry.auth", logging.WARNING, f"authentication failed {line}")] * 2
    assert re.fullmatch(
        r'authentication failed user="(?:[^"\\]|\\.)*" address=(\S+|"[^"]*") reason=\S+', caplog.messages[0]
    )


async def test_success_is_not_logged_as_a_failure(
    make_site: Callable[..., Site], caplog: pytest.LogCaptureFixture
) -> None:
    site = make_site()
    await site.verify("ann", "one")
    await site.verify("ann", "one")
    assert failures(caplog) == []


async def test_a_success_is_hashed_again_only_after_five_idle_minutes(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    site, gate = make_site(), Gate(monkeypatch, is_open=True)
    await site.verify("ann", "one")
    for _ in range(3):
        site.clock.now += 299
        assert site.remembered("ann", "one")
        assert await site.verify("ann", "one")
    assert len(gate.calls) == 1
    site.clock.now += 300
    assert site.remembered("ann", "one") is None
    assert await site.verify("ann", "one")
    assert len(gate.calls) == 2


@pytest.mark.parametrize("user", ["ann", "nobody"])
async def test_the_same_wrong_password_is_hashed_once_in_five_seconds(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch, user: str
) -> None:
    site, gate = make_site(), Gate(monkeypatch, is_open=True)
    for seconds, calls in ((0, 1), (0, 1), (4.9, 1), (5, 2)):
        site.clock.now += seconds
        with pytest.raises(UnauthorizedError):
            await site.verify(user, "wrong")
        assert len(gate.calls) == calls
    with pytest.raises(UnauthorizedError):
        await site.verify(user, "other")
    assert len(gate.calls) == 3


def test_memory_is_bounded_and_forgets_what_was_used_longest_ago() -> None:
    memory: auth._Memory[int] = auth._Memory(2, 10, Clock())
    memory.put(b"a", 1)
    memory.put(b"b", 2)
    assert memory.get(b"a") == 1
    memory.put(b"c", 3)
    assert [memory.get(key) for key in (b"a", b"b", b"c")] == [1, None, 3]


async def test_passwords_and_hashes_are_not_kept(make_site: Callable[..., Site]) -> None:
    site = make_site()
    await site.verify("ann", "one")
    with pytest.raises(UnauthorizedError):
        await site.verify("ann", "hunter2")
    for memory in (site.authenticator._good, site.authenticator._bad):
        assert len(memory._entries) == 1
        assert [len(key) for key in memory._entries] == [32]
        assert "hunter2" not in repr(memory._entries)
        assert "one" not in repr(memory._entries)


async def test_two_processes_remember_under_different_keys(make_site: Callable[..., Site]) -> None:
    first, second = make_site(), make_site()
    second.put(first.path.read_bytes())
    await first.verify("ann", "one")
    await second.verify("ann", "one")
    assert set(first.authenticator._good._entries).isdisjoint(second.authenticator._good._entries)


async def test_the_loop_runs_while_passwords_are_hashed(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    site, gate = make_site(), Gate(monkeypatch)
    waiting = asyncio.create_task(site.verify("ann", "one"))
    await ticks()
    assert not waiting.done()
    gate.open()
    assert await waiting == Principal("ann", "basic")
    assert threading.get_ident() not in gate.threads


async def test_nothing_but_the_look_at_the_file_blocks_the_loop(make_site: Callable[..., Site]) -> None:
    site = make_site()
    with blockbuster_ctx() as detector:
        detector.functions["os.stat"].can_block_in("auth/htpasswd.py", "changed")
        await site.verify("ann", "one")
        assert site.remembered("ann", "one")
        with pytest.raises(UnauthorizedError):
            await site.verify("nobody", "one")
        await site.authenticator.refresh()
        assert await site.verify("bob", "two")


async def test_equal_credentials_are_hashed_once_at_a_time(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    site, gate = make_site(), Gate(monkeypatch)
    good = [asyncio.create_task(site.verify("ann", "one")) for _ in range(5)]
    bad = [asyncio.create_task(site.verify("ann", "two")) for _ in range(5)]
    await ticks()
    gate.open()
    assert await asyncio.gather(*good) == [Principal("ann", "basic")] * 5
    assert [type(result) for result in await asyncio.gather(*bad, return_exceptions=True)] == [UnauthorizedError] * 5
    assert sorted(gate.calls) == [(b"ann", b"one"), (b"ann", b"two")]


async def test_one_who_stops_waiting_does_not_stop_the_others(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    site, gate = make_site(), Gate(monkeypatch)
    first, second = (asyncio.create_task(site.verify("ann", "one")) for _ in range(2))
    await ticks()
    first.cancel()
    await ticks()
    gate.open()
    assert await second == Principal("ann", "basic")
    assert first.cancelled()
    assert len(gate.calls) == 1


async def test_a_check_nobody_waits_for_any_more_is_still_remembered(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that gives up too soon gets in at the next try."""
    site, gate = make_site(), Gate(monkeypatch)
    only = asyncio.create_task(site.verify("ann", "one"))
    await ticks()
    (check,) = site.authenticator._checks.values()
    only.cancel()
    gate.open()
    assert await check
    assert site.remembered("ann", "one")


async def test_a_full_queue_refuses_all_but_the_remembered_and_those_already_in_it(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(workers=1)
    await site.verify("bob", "two")
    gate = Gate(monkeypatch)
    flood = [asyncio.create_task(site.verify("eve", str(number))) for number in range(64)]
    last = asyncio.create_task(site.verify("ann", "one"))
    await ticks()
    with pytest.raises(TooManyRequestsError) as caught:
        await site.verify("eve", "again")
    assert caught.value.headers == {"Retry-After": "1"}
    assert site.remembered("bob", "two")
    assert await site.verify("bob", "two")
    also = asyncio.create_task(site.verify("ann", "one"))
    await ticks()
    gate.open()
    assert await last == await also == Principal("ann", "basic")
    await asyncio.gather(*flood, return_exceptions=True)
    with pytest.raises(UnauthorizedError):
        await site.verify("eve", "again")


async def test_as_many_passwords_are_hashed_at_a_time_as_there_are_workers(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    site, gate = make_site(workers=2), Gate(monkeypatch)
    waiting = [asyncio.create_task(site.verify("ann", str(number))) for number in range(6)]
    await ticks()
    gate.open()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert len(gate.calls) == 6
    assert len(gate.threads) <= 2


async def test_an_error_while_hashing_reaches_the_caller_and_is_not_remembered(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    site, errors = make_site(), loop_errors()

    def fail(_users: Users, _user: bytes, _password: bytes) -> bool:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(Users, "verify", fail)
        with pytest.raises(MemoryError):
            await site.verify("ann", "one")
    assert await site.verify("ann", "one") == Principal("ann", "basic")
    assert errors == []


async def test_the_file_is_looked_at_once_a_second(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site()
    looks: list[float] = []

    def changed(_file: HtpasswdFile) -> bool:
        looks.append(site.clock.now)
        return False

    monkeypatch.setattr(HtpasswdFile, "changed", changed)
    for now in (1_000.0, 1_000.5, 1_000.9, 1_001.0, 1_001.9, 1_002.0):
        site.clock.now = now
        site.remembered("ann", "one")
        with pytest.raises(UnauthorizedError):
            await site.authenticator.verify("", ADDRESS)
    with pytest.raises(UnauthorizedError):
        await site.authenticator.verify("", ADDRESS)
    assert looks == [1_000.0, 1_001.0, 1_002.0]


@pytest.mark.parametrize(
    "users",
    [
        pytest.param({"bob": b"two"}, id="user-removed"),
        pytest.param({"ann": b"two", "bob": b"two"}, id="password-changed"),
    ],
)
async def test_a_change_of_the_file_is_obeyed_within_a_second(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch, users: dict[str, bytes]
) -> None:
    site = make_site()
    await site.verify("ann", "one")
    await site.verify("bob", "two")
    site.write(**users)
    site.clock.now += 1
    assert site.remembered("ann", "one") is None
    assert site.remembered("bob", "two") is None, "nothing is remembered until the file is read"
    with pytest.raises(UnauthorizedError):
        await site.verify("ann", "one")
    assert site.remembered("ann", "one") is None
    gate = Gate(monkeypatch)
    assert site.remembered("bob", "two") == Principal("bob", "basic")
    assert gate.calls == [], "users who stay as they were are not hashed again"


async def test_a_user_who_is_added_gets_in_at_once_after_being_refused(make_site: Callable[..., Site]) -> None:
    site = make_site()
    with pytest.raises(UnauthorizedError):
        await site.verify("eve", "one")
    site.write(ann=b"one", eve=b"one")
    site.clock.now += 1
    assert await site.verify("eve", "one") == Principal("eve", "basic")


async def test_concurrent_requests_share_one_reading_of_the_file(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site()
    readings: list[int] = []
    load = HtpasswdFile.load

    def counted(file: HtpasswdFile) -> Users:
        readings.append(threading.get_ident())
        return load(file)

    monkeypatch.setattr(HtpasswdFile, "load", counted)
    site.write(ann=b"two")
    site.clock.now += 1
    results = [asyncio.create_task(site.verify("ann", "two")) for _ in range(5)]
    await ticks(1)
    results[0].cancel()
    assert await asyncio.gather(*results[1:]) == [Principal("ann", "basic")] * 4
    assert len(readings) == 1
    assert readings[0] != threading.get_ident()
    await site.authenticator.refresh()
    assert len(readings) == 2


async def test_a_broken_file_locks_nobody_out(make_site: Callable[..., Site]) -> None:
    site = make_site()
    await site.verify("ann", "one")
    site.put(b"\x00" * 50)
    site.clock.now += 1
    assert site.remembered("ann", "one") is None
    assert await site.verify("ann", "one") == Principal("ann", "basic")
    assert site.remembered("ann", "one") == Principal("ann", "basic")
    assert await site.verify("bob", "two") == Principal("bob", "basic")


async def test_without_a_file_there_is_nothing_to_begin_with(tmp_path: Path) -> None:
    path, errors = tmp_path / "users", loop_errors()
    authenticator = BasicAuthenticator(HtpasswdFile(path), "packs")
    with pytest.raises(UsersFileError, match=re.escape(str(path))):
        await authenticator.refresh()
    path.write_bytes(b"ann:" + HASHES[b"one"])
    assert authenticator.remembered(basic("ann", "one")) is None
    assert await authenticator.verify(basic("ann", "one"), ADDRESS) == Principal("ann", "basic")
    assert errors == []
    authenticator.close()


async def test_refresh_reads_the_file_without_waiting_for_a_look(make_site: Callable[..., Site]) -> None:
    site = make_site()
    await site.verify("ann", "one")
    site.write(bob=b"two")
    assert site.remembered("ann", "one"), "not looked at within the same second"
    await site.authenticator.refresh()
    assert site.remembered("ann", "one") is None


async def test_close_cancels_what_has_not_begun_and_ends_the_threads(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    site, gate = make_site(workers=1), Gate(monkeypatch)
    begun = asyncio.create_task(site.verify("ann", "one"))
    assert await asyncio.to_thread(gate.begun.wait, 10)
    queued = asyncio.create_task(site.verify("ann", "two"))
    await ticks()
    site.authenticator.close()
    errors = loop_errors()
    gate.open()
    assert await begun == Principal("ann", "basic")
    with pytest.raises(asyncio.CancelledError):
        await queued
    assert gate.calls == [(b"ann", b"one")]
    assert errors == []
    with pytest.raises(RuntimeError, match="after shutdown"):
        await site.verify("ann", "new")


_HEADERS = st.text() | st.builds(
    lambda scheme, token: scheme + base64.b64encode(token).decode(),
    st.sampled_from(["Basic ", "basic  ", "Basic"]),
    st.binary() | st.binary().map(b"ann:".__add__),
)


@settings(max_examples=80, deadline=None)
@given(st.lists(_HEADERS, max_size=3), st.text())
def test_any_header_gives_a_principal_or_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, headers: list[str], address: str
) -> None:
    site = Site(tmp_path_factory.mktemp("site") / "users", workers=1)

    async def outcome(header: str) -> Principal | None:
        try:
            return await site.authenticator.verify(header, address)
        except RegistryError:
            return None

    async def ask() -> None:
        for header in headers:
            expected = await outcome(header)
            assert site.authenticator.remembered(header) == expected
        assert await outcome(basic("ann", "one")) == Principal("ann", "basic")

    asyncio.run(ask())
    site.authenticator.close()
