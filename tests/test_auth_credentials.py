"""Who gets in: the header, what is remembered, who waits for what, tokens, and what the log says."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import logging
import re
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import bcrypt
import pytest
from blockbuster import blockbuster_ctx
from hypothesis import given, settings
from hypothesis import strategies as st

from packregistry.auth import ANONYMOUS, Authenticator, OpenAuthenticator, Principal, credentials
from packregistry.auth.credentials import REMEMBERED_SECONDS, CredentialAuthenticator
from packregistry.auth.htpasswd import HtpasswdFile, Users
from packregistry.auth.tokens import TokenFile
from packregistry.errors import RegistryError, TooManyRequestsError, UnauthorizedError
from packregistry.reload import ReloadError

HASHES = {password: bcrypt.hashpw(password, bcrypt.gensalt(4)) for password in (b"one", b"two", b"a:b:", b"\xff")}
ADDRESS = "192.0.2.7"


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Site:
    """An authenticator on files of its own, whose clocks stand still unless moved."""

    def __init__(self, directory: Path, workers: int, *, with_tokens: bool) -> None:
        directory.mkdir()
        self.path = directory / "users"
        self.clock = Clock()
        self.now = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
        self.write(ann=b"one", bob=b"two")
        self.file = HtpasswdFile(self.path)
        self.file.load()
        self.tokens = TokenFile(directory / "tokens.json", directory / "uses.json") if with_tokens else None
        self.elsewhere = TokenFile(directory / "tokens.json", directory / "uses.json")
        self.observed: list[tuple[str, str]] = []
        self.authenticator = CredentialAuthenticator(
            self.file,
            "packs",
            tokens=self.tokens,
            observe=lambda method, result: self.observed.append((method, result)),
            workers=workers,
            clock=self.clock,
            now=lambda: self.now,
        )

    def write(self, **users: bytes) -> None:
        """Replace the users, by name, with such as have these passwords."""
        self.path.write_bytes(
            b"".join(b"%s:%s\n" % (user.encode(), HASHES[password]) for user, password in users.items())
        )

    def change(self, **users: bytes) -> None:
        """Replace the users, and let it be seen."""
        self.write(**users)
        self.file.load()

    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds
        self.now += dt.timedelta(seconds=seconds)

    def token(self, name: str = "ci", expires: dt.datetime | None = None) -> str:
        """Make a token, in another process."""
        return self.elsewhere.create(name, "ann", "publisher", ["hello"], expires)[1]

    async def verify(self, user: str | bytes, password: str | bytes, address: str = ADDRESS) -> Principal:
        return await self.authenticator.verify(basic(user, password), address)

    async def outcome(self, user: str | bytes, password: str | bytes, address: str = ADDRESS) -> int:
        """Ask as a request does; return the status it would be answered with."""
        return await self.status(basic(user, password), address)

    async def status(self, header: str, address: str = ADDRESS) -> int:
        try:
            principal = self.authenticator.remembered(header) or await self.authenticator.verify(header, address)
        except RegistryError as error:
            return error.status
        assert principal is not ANONYMOUS
        return 200

    async def fail(self, times: int, address: str = ADDRESS, user: str = "ann") -> None:
        """Fail to sign in, with another password each time."""
        for number in range(times):
            assert await self.outcome(user, f"wrong {number}", address) == 401

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

    def make(workers: int = 2, *, with_tokens: bool = True) -> Site:
        sites.append(Site(tmp_path / str(len(sites)), workers, with_tokens=with_tokens))
        return sites[-1]

    yield make
    for site in sites:
        site.authenticator.close()


def basic(user: str | bytes, password: str | bytes) -> str:
    parts = [part.encode() if isinstance(part, str) else part for part in (user, password)]
    return "Basic " + base64.b64encode(b":".join(parts)).decode()


def padded(size: int) -> str:
    """Return a header of `size` characters, most of which are blanks."""
    header = basic("ann", "o" * 4000)
    return header.replace(" ", " " * (size - len(header) + 1))


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
    authenticator: Authenticator = OpenAuthenticator()
    assert Principal("anonymous", "none") == ANONYMOUS
    for header in (None, "", basic("ann", "one")):
        assert authenticator.remembered(header) is ANONYMOUS
        assert await authenticator.verify(header, ADDRESS) is ANONYMOUS
    assert authenticator.challenge == ""
    authenticator.close()


async def test_without_credentials_one_is_anonymous_and_nothing_is_logged(
    make_site: Callable[..., Site], caplog: pytest.LogCaptureFixture
) -> None:
    """Every browser begins so; whether that is enough is decided elsewhere."""
    site = make_site()
    authenticator: Authenticator = site.authenticator
    assert authenticator.remembered(None) is ANONYMOUS
    assert await authenticator.verify(None, ADDRESS) is ANONYMOUS
    assert failures(caplog) == []
    assert site.observed == []


async def test_verified_credentials_are_remembered(make_site: Callable[..., Site]) -> None:
    site = make_site()
    assert site.remembered("ann", "one") is None
    assert await site.verify("ann", "one") == Principal("ann", "basic")
    assert site.remembered("ann", "one") == Principal("ann", "basic")
    assert site.remembered("ann", "two") is None
    assert site.remembered("bob", "one") is None
    assert site.observed == [("basic", "verified"), ("basic", "remembered")]


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
    site.path.write_bytes(b"%s:%s" % (user, HASHES[password]))
    site.file.load()
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
        pytest.param("Digest YW5uOm9uZQ==", id="other-scheme"),
        pytest.param("Bearer", id="bearer-without-a-token"),
        pytest.param("Bearer a b", id="bearer-with-two"),
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
async def test_a_header_that_cannot_be_read_is_refused_without_hashing(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, header: str
) -> None:
    site, gate = make_site(), Gate(monkeypatch, is_open=True)
    assert site.authenticator.remembered(header) is None
    with pytest.raises(UnauthorizedError, match="header cannot be read") as caught:
        await site.authenticator.verify(header, ADDRESS)
    assert caught.value.headers == {"WWW-Authenticate": 'Basic realm="packs"'}
    assert gate.calls == []
    assert failures(caplog) == [f'authentication failed user="" address={ADDRESS} reason=malformed-header']
    assert site.observed == [("none", "failed")]


async def test_a_header_of_8_kib_is_read(make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch) -> None:
    site, gate = make_site(), Gate(monkeypatch, is_open=True)
    with pytest.raises(UnauthorizedError, match="is wrong"):
        await site.authenticator.verify(padded(8192), ADDRESS)
    assert gate.calls == [(b"ann", b"o" * 4000)]


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
    authenticator = CredentialAuthenticator(HtpasswdFile(tmp_path / "users"), realm)
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
    site = make_site()
    caplog.set_level(logging.DEBUG, "packregistry")
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


async def test_passwords_are_not_kept(make_site: Callable[..., Site]) -> None:
    site = make_site()
    site.change(ann=b"a:b:")
    await site.verify("ann", "a:b:")
    with pytest.raises(UnauthorizedError):
        await site.verify("ann", "hunter2")
    authenticator = site.authenticator
    for memory in (authenticator._known, authenticator._familiar, authenticator._refused):
        assert len(memory) == 1
        assert [len(key) for key in memory._entries] == [16]
        assert "hunter2" not in repr(memory._entries)
        assert "a:b:" not in repr(memory._entries)


async def test_two_processes_remember_under_different_keys(make_site: Callable[..., Site]) -> None:
    first, second = make_site(), make_site()
    await first.verify("ann", "one")
    await second.verify("ann", "one")
    assert set(first.authenticator._known._entries).isdisjoint(second.authenticator._known._entries)


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


async def test_nothing_but_the_look_at_the_tokens_blocks_the_loop(make_site: Callable[..., Site]) -> None:
    site = make_site()
    token = await asyncio.to_thread(site.token)
    with blockbuster_ctx() as detector:
        detector.functions["os.stat"].can_block_in("packregistry/reload.py", "fingerprint")
        await site.verify("ann", "one")
        assert site.remembered("ann", "one")
        with pytest.raises(UnauthorizedError):
            await site.verify("nobody", "one")
        assert await site.verify("any", token)
        assert site.remembered("any", token)
        with pytest.raises(UnauthorizedError):
            await site.verify("any", "pkr_none")


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
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    site = make_site(workers=1)
    await site.verify("bob", "two")
    gate = Gate(monkeypatch)
    flood = [asyncio.create_task(site.verify("eve", str(number), f"192.0.2.{number % 4}")) for number in range(64)]
    last = asyncio.create_task(site.verify("ann", "one"))
    await ticks()
    with pytest.raises(TooManyRequestsError) as caught:
        await site.verify("eve", "again")
    assert caught.value.headers == {"Retry-After": "1"}
    assert failures(caplog) == [f'authentication failed user="eve" address={ADDRESS} reason=busy']
    assert site.observed[-1] == ("basic", "busy")
    assert site.remembered("bob", "two")
    assert await site.verify("bob", "two")
    also = asyncio.create_task(site.verify("ann", "one", "192.0.2.0"))
    await ticks()
    gate.open()
    assert await last == await also == Principal("ann", "basic")
    await asyncio.gather(*flood, return_exceptions=True)
    with pytest.raises(UnauthorizedError):
        await site.verify("eve", "again")


@pytest.mark.parametrize(
    ("flood", "refused", "let_in"),
    [
        pytest.param(["192.0.2.8"], "192.0.2.8", ADDRESS, id="ipv4"),
        pytest.param(["::ffff:192.0.2.8", "192.0.2.8"], "192.0.2.8", "::ffff:192.0.2.7", id="ipv4-in-ipv6"),
        pytest.param(["2001:db8::1", "2001:db8::2"], "2001:db8::3", "2001:db8:0:1::1", id="ipv6-network"),
    ],
)
async def test_one_address_cannot_fill_the_queue_for_others(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch, flood: list[str], refused: str, let_in: str
) -> None:
    site, gate = make_site(workers=1), Gate(monkeypatch)
    tasks = [asyncio.create_task(site.verify(f"eve{number}", "x", flood[number % len(flood)])) for number in range(16)]
    await ticks()
    with pytest.raises(TooManyRequestsError, match="too many passwords are being checked"):
        await site.verify("ann", "one", refused)
    allowed = asyncio.create_task(site.verify("ann", "one", let_in))
    await ticks()
    same = asyncio.create_task(site.verify("ann", "one", refused))
    await ticks()
    gate.open()
    assert await allowed == await same == Principal("ann", "basic")
    await asyncio.gather(*tasks, return_exceptions=True)
    assert not site.authenticator._waiting
    assert await site.verify("bob", "one", refused) == Principal("bob", "basic"), "there is room again"


async def test_a_full_queue_has_a_place_for_an_address_that_has_none(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five addresses are enough to fill the queue, and must not be enough to keep everybody out."""
    site, gate = make_site(workers=1), Gate(monkeypatch)
    flood = [asyncio.create_task(site.verify(f"eve{number}", "x", f"192.0.2.{number % 5}")) for number in range(65)]
    await ticks()
    first = asyncio.create_task(site.verify("ann", "one", "198.51.100.1"))
    await ticks()
    with pytest.raises(TooManyRequestsError):
        await site.verify("bob", "one", "198.51.100.1")
    others = [asyncio.create_task(site.verify(f"fay{number}", "x", f"203.0.113.{number}")) for number in range(190)]
    await ticks()
    with pytest.raises(TooManyRequestsError):
        await site.verify("bob", "one", "198.51.100.2")
    gate.open()
    assert await first == Principal("ann", "basic")
    await asyncio.gather(*flood, *others, return_exceptions=True)


async def test_who_was_here_before_has_a_place_in_a_full_queue(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(workers=1)
    assert await site.verify("ann", "one")
    site.clock.now += REMEMBERED_SECONDS + 1
    gate = Gate(monkeypatch)
    flood = [asyncio.create_task(site.verify(f"eve{number}", "x", ADDRESS)) for number in range(16)]
    await ticks()
    again = asyncio.create_task(site.verify("ann", "one"))
    await ticks()
    gate.open()
    assert await again == Principal("ann", "basic")
    await asyncio.gather(*flood, return_exceptions=True)


async def test_credentials_that_are_used_all_day_stay_familiar_where_they_are_used(
    make_site: Callable[..., Site],
) -> None:
    site = make_site()
    assert await site.verify("ann", "one", THERE)
    for _ in range(25 * 60):
        site.clock.now += 60
        assert site.authenticator.remembered(basic("ann", "one"), ADDRESS)
    await site.fail(10)
    assert await site.outcome("ann", "wrong") == 429
    assert await site.verify("ann", "one", ADDRESS) == Principal("ann", "basic")


async def test_credentials_hold_until_the_user_is_gone(make_site: Callable[..., Site]) -> None:
    site = make_site()
    principal = await site.verify("ann", "one")
    assert site.authenticator.holds(principal)
    assert site.authenticator.holds(ANONYMOUS)
    site.write(bob=b"two")
    site.file.load()
    assert not site.authenticator.holds(principal)


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


@pytest.mark.parametrize(
    "users",
    [
        pytest.param({"bob": b"two"}, id="user-removed"),
        pytest.param({"ann": b"two", "bob": b"two"}, id="password-changed"),
    ],
)
async def test_a_change_of_the_users_is_obeyed_at_once(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch, users: dict[str, bytes]
) -> None:
    site = make_site()
    await site.verify("ann", "one")
    await site.verify("bob", "two")
    site.change(**users)
    assert site.remembered("ann", "one") is None
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
    site.change(ann=b"one", eve=b"one")
    assert await site.verify("eve", "one") == Principal("eve", "basic")


@pytest.mark.parametrize(
    ("before", "asked", "after", "status"),
    [
        pytest.param({"ann": b"one"}, b"one", {"bob": b"two"}, 401, id="user-removed"),
        pytest.param({"ann": b"one"}, b"one", {"ann": b"two"}, 401, id="password-changed-from-it"),
        pytest.param({"ann": b"two"}, b"one", {"ann": b"one"}, 200, id="password-changed-to-it"),
        pytest.param({"bob": b"two"}, b"one", {"ann": b"one"}, 200, id="user-added"),
    ],
)
async def test_what_is_found_out_counts_only_if_the_user_is_still_the_same(
    make_site: Callable[..., Site],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    before: dict[str, bytes],
    asked: bytes,
    after: dict[str, bytes],
    status: int,
) -> None:
    site = make_site(workers=1)
    site.change(**before)
    verify, begun, opened = Users.verify, threading.Event(), threading.Event()

    def wait(users: Users, user: bytes, password: bytes) -> bool:
        begun.set()
        assert opened.wait(10)
        return verify(users, user, password)

    monkeypatch.setattr(Users, "verify", wait)
    asking = asyncio.create_task(site.outcome("ann", asked))
    assert await asyncio.to_thread(begun.wait, 10)
    site.change(**after)
    opened.set()
    assert await asking == status
    assert len(failures(caplog)) == (status == 401)
    assert (site.remembered("ann", asked) is not None) == (status == 200)


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


THERE = "192.0.2.8"


async def test_after_ten_failures_nothing_is_looked_at_until_the_time_given_is_over(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    site, gate = make_site(), Gate(monkeypatch, is_open=True)
    await site.fail(10)
    caplog.clear()
    for passed, seconds in ((0, "1"), (0.75, "1")):
        site.clock.now += passed
        with pytest.raises(TooManyRequestsError, match="too many failed attempts: try again in 1 s") as caught:
            await site.verify("ann", "one")
        assert caught.value.headers == {"Retry-After": seconds}
    assert len(gate.calls) == 10
    assert failures(caplog) == [f'authentication failed user="ann" address={ADDRESS} reason=throttled'] * 2
    assert site.observed[-1] == ("basic", "throttled")
    site.clock.now += 0.25
    assert await site.verify("ann", "one") == Principal("ann", "basic")
    await site.fail(9)
    assert await site.outcome("ann", "also wrong") == 401, "the success made up for what was before"


async def test_the_wait_grows_with_failures_and_not_with_attempts_during_it(make_site: Callable[..., Site]) -> None:
    site = make_site()
    await site.fail(10)
    for seconds in (1, 2, 4, 8, 16, 32, 60, 60):
        for _ in range(5):
            with pytest.raises(TooManyRequestsError) as caught:
                await site.verify("ann", "wrong")
            assert caught.value.headers == {"Retry-After": str(seconds)}
        site.clock.now += seconds
        assert await site.outcome("ann", "wrong") == 401


async def test_the_same_wrong_password_counts_each_time(make_site: Callable[..., Site]) -> None:
    site = make_site()
    outcomes = [await site.outcome("ann", "wrong") for _ in range(11)]
    assert outcomes == [401] * 10 + [429]
    site.clock.now += 1
    assert [await site.outcome("ann", "wrong") for _ in range(2)] == [401, 429]


@pytest.mark.parametrize(
    ("user", "password", "address"),
    [
        pytest.param("ann", "one", THERE, id="other-address"),
        pytest.param("bob", "two", ADDRESS, id="other-user"),
        pytest.param("ann", "one", "2001:db8:0:1::7", id="other-network"),
    ],
)
async def test_others_do_not_have_to_wait(
    make_site: Callable[..., Site], user: str, password: str, address: str
) -> None:
    site = make_site()
    for place in (ADDRESS, "2001:db8::7"):
        await site.fail(10, place)
    assert await site.outcome(user, password, address) == 200
    assert await site.outcome("ann", "one", "2001:db8::8") == 429, "whoever has a network has all of its addresses"


async def test_unknown_users_have_to_wait_as_known_ones(make_site: Callable[..., Site]) -> None:
    site = make_site()
    outcomes = {user: [await site.outcome(user, str(number)) for number in range(12)] for user in ("ann", "nobody")}
    assert outcomes["ann"] == outcomes["nobody"] == [401] * 10 + [429] * 2


@pytest.mark.parametrize("password", ["", "one\0", "o" * 4097], ids=["empty", "nul", "too-long"])
async def test_what_cannot_be_a_password_is_refused_without_hashing_and_not_counted(
    make_site: Callable[..., Site],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    password: str,
) -> None:
    """It costs nothing, so that a flood of it with many user names would push the failures of others out."""
    site, gate = make_site(), Gate(monkeypatch, is_open=True)
    assert [await site.outcome("ann", password) for _ in range(12)] == [401] * 12
    assert len(failures(caplog)) == 12
    assert gate.calls == []
    assert len(site.authenticator._throttle._records) == 0
    assert await site.outcome("ann", "one") == 200


async def test_a_long_password_is_compared_by_what_bcrypt_takes_of_it(make_site: Callable[..., Site]) -> None:
    site = make_site()
    site.path.write_bytes(b"ann:" + bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4)))
    site.file.load()
    outcomes = [await site.outcome("ann", password) for password in ("x" * 72, "x" * 73, "x" * 71, "x" * 4096)]
    assert outcomes == [200, 200, 401, 200]


async def test_what_is_remembered_from_an_address_never_waits_there(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site()
    await site.verify("ann", "one")
    await site.fail(10)
    gate = Gate(monkeypatch)
    assert [await site.outcome("ann", "one") for _ in range(3)] == [200] * 3
    assert site.observed[-1] == ("basic", "remembered")
    assert gate.calls == []
    assert await site.outcome("ann", "two") == 429


async def test_who_guesses_at_a_user_does_not_learn_from_what_is_remembered_of_them(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers at once, so that a wait would be of no use while the user is at work elsewhere."""
    site = make_site()
    await site.verify("ann", "one", THERE)
    await site.verify("bob", "two", THERE)
    await site.fail(10)
    gate = Gate(monkeypatch)
    assert site.remembered("ann", "one") is None
    assert await site.outcome("ann", "one") == 429
    assert await site.outcome("ann", "one", THERE) == 200
    assert site.observed[-1] == ("basic", "remembered")
    assert site.remembered("bob", "two") == Principal("bob", "basic"), "nobody guesses at bob"
    assert gate.calls == []
    site.clock.now += 1
    assert site.remembered("ann", "one") == Principal("ann", "basic")


async def test_what_is_remembered_becomes_familiar_where_it_is_used_while_others_guess(
    make_site: Callable[..., Site],
) -> None:
    site = make_site()
    await site.verify("ann", "one", "198.51.100.1")
    await site.fail(10)
    assert await site.outcome("ann", "one", THERE) == 200
    await site.fail(10, THERE)
    assert await site.outcome("ann", "one", THERE) == 200


@pytest.mark.parametrize(
    ("address", "seconds", "password", "calls", "status"),
    [
        pytest.param(ADDRESS, 86399, b"one", 1, 200, id="familiar"),
        pytest.param(ADDRESS, 86400, b"one", 0, 429, id="a-day-later"),
        pytest.param(THERE, 86399, b"one", 0, 429, id="from-elsewhere"),
        pytest.param(ADDRESS, 86399, b"two", 0, 429, id="password-changed"),
    ],
)
async def test_credentials_that_were_good_are_looked_at_although_their_user_has_to_wait(
    make_site: Callable[..., Site],
    monkeypatch: pytest.MonkeyPatch,
    address: str,
    seconds: float,
    password: bytes,
    calls: int,
    status: int,
) -> None:
    site = make_site()
    await site.verify("ann", "one", address)
    site.change(ann=password)
    site.clock.now += seconds
    await site.fail(10)
    gate = Gate(monkeypatch, is_open=True)
    assert await site.outcome("ann", "one") == status
    assert len(gate.calls) == calls


async def test_after_a_wait_one_attempt_is_looked_at_and_equal_ones_share_it(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site()
    await site.fail(10)
    site.clock.now += 1
    gate = Gate(monkeypatch)
    first = [asyncio.create_task(site.outcome("ann", "one")) for _ in range(3)]
    await ticks()
    assert await site.outcome("ann", "two") == 429
    gate.open()
    assert await asyncio.gather(*first) == [200] * 3
    assert gate.calls == [(b"ann", b"one")]


async def test_attempts_that_are_not_looked_at_for_want_of_room_do_not_count(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(workers=1)
    await site.fail(10)
    site.clock.now += 1
    gate = Gate(monkeypatch)
    flood = [asyncio.create_task(site.outcome(f"eve{number}", "x")) for number in range(16)]
    await ticks()
    assert [await site.outcome("ann", "one") for _ in range(2)] == [429] * 2
    assert site.observed[-2:] == [("basic", "busy")] * 2
    gate.open()
    await asyncio.gather(*flood)
    assert await site.outcome("ann", "one") == 200


TOKEN_HEADERS: list[Callable[[str], str]] = [
    lambda token: f"Bearer {token}",
    lambda token: f" bEARER   {token} ",
    lambda token: basic("token", token),
    lambda token: basic("", token),
    lambda token: basic(b"\xff\0", token),
    lambda token: basic("ann", token),
    lambda token: basic("pkr_" + "x" * 40, token),
    lambda token: basic(token, ""),
]
token_headers = pytest.mark.parametrize(
    "header", TOKEN_HEADERS,
    ids=["bearer", "spaced", "password", "no-user", "odd-user", "a-users-name", "token-as-user", "user-alone"],
)  # fmt: skip


@token_headers
async def test_a_token_signs_in_without_hashing(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch, header: Callable[[str], str]
) -> None:
    site, gate = make_site(), Gate(monkeypatch)
    given = header(site.token())
    assert site.authenticator.remembered(given) is None, "the file has not been read"
    principal = await site.authenticator.verify(given, ADDRESS)
    assert (principal.name, principal.method) == ("token:ci", "token")
    assert principal.grant is not None
    assert principal.grant.packs.patterns == ("hello",)
    assert site.authenticator.remembered(given) == principal
    assert site.observed == [("token", "verified"), ("token", "remembered")]
    assert gate.calls == []


@token_headers
@pytest.mark.parametrize("state", ["mistyped", "unknown", "revoked", "expired"])
async def test_a_token_that_is_not_valid_is_refused_in_the_same_words(
    make_site: Callable[..., Site],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    header: Callable[[str], str],
    state: str,
) -> None:
    site, gate = make_site(), Gate(monkeypatch)
    token = site.token(expires=site.now + dt.timedelta(days=1))
    assert await site.authenticator.verify(header(token), ADDRESS)
    if state == "revoked":
        site.elsewhere.revoke("ci")
    elif state == "expired":
        site.pass_time(86400)
    elif state == "mistyped":
        token = "pkr_" + "a" * len(token[4:])
    else:
        site.elsewhere.path.unlink()
    assert site.authenticator.remembered(header(token)) is None
    with pytest.raises(UnauthorizedError) as caught:
        await site.authenticator.verify(header(token), ADDRESS)
    assert str(caught.value) == "the token is not valid: it may have expired or been revoked: use another"
    assert caught.value.headers == {"WWW-Authenticate": 'Basic realm="packs"'}
    (line,) = failures(caplog)
    assert line.endswith(f" address={ADDRESS} reason={state}-token")
    assert line.startswith('authentication failed user="token:ci"') == (state in {"revoked", "expired"})
    assert token[4:] not in caplog.text
    assert site.observed[-1] == ("token", "failed")
    assert gate.calls == []


@pytest.mark.parametrize(
    ("given", "user"),
    [
        pytest.param("Bearer pkr_abcdefghijkl", "", id="bearer"),
        pytest.param(basic("ann", "pkr_abcdefghijkl"), "ann", id="password"),
        pytest.param(basic("pkr_abcdefghijkl", ""), "pkr_***", id="user-alone"),
        pytest.param(basic("a\npkr_abcdefghijkl", "x"), "a\\npkr_***", id="in-a-user-name"),
        pytest.param(basic("pkr_abcdefghijkl", "x"), "pkr_***", id="user-with-a-password"),
    ],
)
async def test_what_looks_like_a_token_is_never_logged(
    make_site: Callable[..., Site], caplog: pytest.LogCaptureFixture, given: str, user: str
) -> None:
    site = make_site()
    assert await site.status(given) == 401
    (line,) = failures(caplog)
    assert line.startswith(f'authentication failed user="{user}" address={ADDRESS} reason=')


@pytest.mark.parametrize("secret", [b"pkr_one", b"pkr_\xff", b"pkr_"], ids=["known", "not-ascii", "prefix-alone"])
@pytest.mark.parametrize("with_tokens", [True, False], ids=["tokens", "no-tokens"])
async def test_a_password_that_begins_like_a_token_is_none(
    make_site: Callable[..., Site],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    secret: bytes,
    with_tokens: bool,
) -> None:
    site, gate = make_site(with_tokens=with_tokens), Gate(monkeypatch)
    given = basic("ann", secret)
    assert site.authenticator.remembered(given) is None
    assert await site.status(given) == 401
    assert failures(caplog) == [f'authentication failed user="ann" address={ADDRESS} reason=mistyped-token']
    assert gate.calls == []


async def test_without_tokens_a_token_is_refused(make_site: Callable[..., Site]) -> None:
    site = make_site(with_tokens=False)
    token = site.token()
    for header in TOKEN_HEADERS:
        assert site.authenticator.remembered(header(token)) is None
        with pytest.raises(UnauthorizedError, match="the token is not valid"):
            await site.authenticator.verify(header(token), ADDRESS)
    assert await site.outcome("ann", "one") == 200


async def test_tokens_of_another_process_are_in_force_and_void_at_once(make_site: Callable[..., Site]) -> None:
    site = make_site()
    first = f"Bearer {site.token('first')}"
    assert await site.status(first) == 200
    second = f"Bearer {site.token('second')}"
    assert await site.status(second) == 200
    site.elsewhere.revoke("first")
    assert site.authenticator.remembered(second) is None, "nothing is known until the file is read"
    assert await site.status(first) == 401
    assert await site.status(second) == 200
    assert site.authenticator.remembered(second) is not None


async def test_tokens_stay_in_force_while_their_file_cannot_be_read(make_site: Callable[..., Site]) -> None:
    site = make_site()
    token = f"Bearer {site.token()}"
    assert await site.status(token) == 200
    site.elsewhere.path.write_bytes(b"{")
    assert [await site.status(token) for _ in range(3)] == [200] * 3
    assert await site.status("Bearer pkr_none") == 401


async def test_nothing_is_remembered_of_tokens_whose_file_cannot_be_read(make_site: Callable[..., Site]) -> None:
    """It may become readable without looking any different, and say that they are revoked."""
    site = make_site()
    token = f"Bearer {site.token()}"
    assert await site.status(token) == 200
    good = site.elsewhere.path.read_bytes()
    site.elsewhere.path.write_bytes(b"{" + good[1:-1] + b"}")
    assert await site.status(token) == 200
    assert site.authenticator.remembered(token) is None
    site.elsewhere.path.write_bytes(good)
    assert await site.status(token) == 200
    assert site.authenticator.remembered(token) is not None


class Reading:
    """Stands in for reading the file of tokens, which changes so many times, each time while it is read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, changes: int, error: Exception | None = None) -> None:
        self.threads: list[int] = []
        self.opened = threading.Event()
        self._changes = changes
        self._error = error
        monkeypatch.setattr(TokenFile, "load", lambda _file: self._load())
        monkeypatch.setattr(credentials, "fingerprint", lambda _path: (min(len(self.threads), self._changes),))

    def _load(self) -> None:
        assert self.opened.wait(10)
        self.threads.append(threading.get_ident())
        if self._error is not None:
            raise self._error


async def test_concurrent_requests_share_one_reading_of_the_tokens(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site()
    reading = Reading(monkeypatch, changes=0)
    tasks = [asyncio.create_task(site.status("Bearer pkr_none")) for _ in range(5)]
    await ticks()
    tasks[0].cancel()
    reading.opened.set()
    assert await asyncio.gather(*tasks[1:]) == [401] * 4
    assert len(reading.threads) == 1
    assert reading.threads[0] != threading.get_ident()


@pytest.mark.parametrize(
    ("changes", "error", "readings"),
    [
        pytest.param(0, None, 1, id="once"),
        pytest.param(1, None, 2, id="changed-while-read"),
        pytest.param(99, None, 3, id="changes-all-the-time"),
        pytest.param(0, ReloadError("no"), 2, id="cannot-be-read"),
    ],
)
async def test_the_tokens_are_read_until_they_are_those_of_the_file(
    make_site: Callable[..., Site],
    monkeypatch: pytest.MonkeyPatch,
    changes: int,
    error: Exception | None,
    readings: int,
) -> None:
    site = make_site()
    reading = Reading(monkeypatch, changes, error)
    reading.opened.set()
    assert await site.status("Bearer pkr_none") == 401
    first = len(reading.threads)
    assert await site.status("Bearer pkr_none") == 401
    assert (first, len(reading.threads)) == (1 if error else readings, 6 if changes == 99 else readings)


async def test_an_error_while_the_tokens_are_read_reaches_the_caller_and_is_not_remembered(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    site, errors = make_site(), loop_errors()
    token = f"Bearer {site.token()}"
    with monkeypatch.context() as patch:
        Reading(patch, 0, MemoryError()).opened.set()
        with pytest.raises(MemoryError):
            await site.status(token)
    assert await site.status(token) == 200
    assert errors == []


async def test_tokens_that_somebody_else_has_begun_to_read_are_not_taken_for_read(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever looks after all files may see the change first, and take its time."""
    site = make_site()
    token = f"Bearer {site.token()}"
    assert await site.status(token) == 200
    site.elsewhere.revoke("ci")
    monkeypatch.setattr(TokenFile, "changed", lambda _file: False)
    assert site.authenticator.remembered(token) is None
    assert await site.status(token) == 401


async def test_the_use_of_a_valid_token_is_noted_once_a_minute(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site()
    uses: list[tuple[str, dt.datetime]] = []
    monkeypatch.setattr(TokenFile, "note_use", lambda _file, token, now: uses.append((token.name, now)))
    start, token = site.now, f"Bearer {site.token()}"
    for seconds in (0, 59, 1, 59, 1):
        site.pass_time(seconds)
        assert await site.status(token) == 200
    assert uses == [("ci", start + dt.timedelta(minutes=minutes)) for minutes in (0, 1, 2)]
    site.elsewhere.revoke("ci")
    assert await site.status(token) == 401
    assert len(uses) == 3


async def test_a_token_expires_to_the_second(make_site: Callable[..., Site]) -> None:
    site = make_site()
    token = f"Bearer {site.token(expires=site.now + dt.timedelta(seconds=90))}"
    for seconds, status in ((0, 200), (59, 200), (30, 200), (0.5, 200), (0.5, 401)):
        site.pass_time(seconds)
        assert (site.authenticator.remembered(token) is not None) == (status == 200 and seconds in {59, 0.5})
        assert await site.status(token) == status


async def test_a_token_with_many_user_names_makes_no_user_forgotten(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "REMEMBERED_MAX", 3)
    site = make_site()
    token = site.token()
    await site.verify("ann", "one")
    for number in range(9):
        assert await site.status(basic(f"user {number}", token)) == 200
    assert site.remembered("ann", "one") == Principal("ann", "basic")
    remembered = [number for number in range(9) if site.remembered(f"user {number}", token)]
    assert remembered == [6, 7, 8]


async def test_wrong_tokens_make_an_address_wait_for_wrong_tokens_alone(
    make_site: Callable[..., Site], caplog: pytest.LogCaptureFixture
) -> None:
    site = make_site()
    good = site.token()
    outcomes = [await site.status(f"Bearer pkr_{number}") for number in range(11)]
    assert outcomes == [401] * 10 + [429]
    assert failures(caplog)[-1] == f'authentication failed user="" address={ADDRESS} reason=throttled'
    assert site.observed[-1] == ("token", "throttled")
    assert await site.status(basic("x", "pkr_1")) == 429
    assert await site.status("Bearer pkr_1", THERE) == 401
    assert await site.status(f"Bearer {good}") == 200
    site.token("other")
    assert await site.status(f"Bearer {good}") == 200, "a good one is looked up before"
    assert await site.outcome("ann", "one") == 200
    for seconds in (1, 2):
        site.clock.now += seconds
        assert [await site.status("Bearer pkr_1") for _ in range(2)] == [401, 429]


@pytest.mark.thorough
async def test_a_failed_check_takes_as_long_whoever_it_is_for(make_site: Callable[..., Site]) -> None:
    """Measured on the processor, which other processes make less difference to; `benchmarks` shows what passes."""
    site = make_site()
    costs = {b"high": 9, b"low": 7}
    lines = [b"%b:%b" % (user, bcrypt.hashpw(b"x", bcrypt.gensalt(cost))) for user, cost in costs.items()]
    site.path.write_bytes(b"\n".join(lines))
    site.file.load()
    times: dict[str, list[float]] = {"high": [], "low": [], "nobody": []}
    for number in range(40):
        for user, taken in times.items():
            begun = time.process_time()
            assert await site.outcome(user, f"wrong {number}", f"192.0.2.{number}") == 401
            taken.append(time.process_time() - begun)
    medians = [statistics.median(taken) for taken in times.values()]
    assert max(medians) <= 1.1 * min(medians), medians


_HEADERS = st.text(st.characters()) | st.builds(
    lambda scheme, token: scheme + base64.b64encode(token).decode(),
    st.sampled_from(["Basic ", "basic  ", "Basic", "Bearer "]),
    st.binary() | st.binary().map(b"ann:".__add__) | st.binary().map(b"ann:pkr_".__add__),
)


@settings(max_examples=80, deadline=None)
@given(st.lists(_HEADERS, max_size=3), st.text(st.characters()))
def test_any_header_gives_a_principal_or_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, headers: list[str], address: str
) -> None:
    site = Site(tmp_path_factory.mktemp("any") / "site", workers=1, with_tokens=True)

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
