"""Who has to wait after failures, how long, and who does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packregistry.auth.throttle import Pair, Throttle, network_of


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def fail(throttle: Throttle, pair: Pair, times: int = 1) -> None:
    for _ in range(times):
        throttle.begin(pair)
        throttle.failed(pair)


def test_nine_failures_bring_no_wait_and_the_tenth_does(clock: Clock) -> None:
    throttle = Throttle(clock)
    ann = throttle.pair("192.0.2.7", b"ann")
    fail(throttle, ann, 9)
    assert throttle.wait(ann) == 0
    fail(throttle, ann)
    assert throttle.wait(ann) == 1


def test_each_failure_after_a_wait_doubles_the_next_up_to_a_minute(clock: Clock) -> None:
    throttle = Throttle(clock)
    ann = throttle.pair("192.0.2.7", b"ann")
    fail(throttle, ann, 9)
    waits = []
    for _ in range(100):
        fail(throttle, ann)
        waits.append(throttle.wait(ann))
        clock.now += waits[-1]
        assert throttle.wait(ann) == 0
    assert waits == [1, 2, 4, 8, 16, 32] + [60] * 94


def test_a_wait_gets_shorter_as_time_passes(clock: Clock) -> None:
    throttle = Throttle(clock)
    ann = throttle.pair("192.0.2.7", b"ann")
    fail(throttle, ann, 10)
    clock.now += 0.25
    assert throttle.wait(ann) == 0.75
    clock.now += 5
    assert throttle.wait(ann) == 0


def test_attempts_that_began_before_the_wait_do_not_extend_it(clock: Clock) -> None:
    throttle = Throttle(clock)
    ann = throttle.pair("192.0.2.7", b"ann")
    for _ in range(16):
        throttle.begin(ann)
    for _ in range(16):
        throttle.failed(ann)
    assert throttle.wait(ann) == 1
    clock.now += 1
    fail(throttle, ann)
    assert throttle.wait(ann) == 2


def test_after_a_wait_only_one_attempt_is_under_way_at_a_time(clock: Clock) -> None:
    throttle = Throttle(clock)
    ann = throttle.pair("192.0.2.7", b"ann")
    fail(throttle, ann, 10)
    clock.now += 1
    throttle.begin(ann)
    assert throttle.wait(ann) == 2
    throttle.failed(ann)
    assert throttle.wait(ann) == 2


def test_a_success_makes_up_for_all_failures(clock: Clock) -> None:
    throttle = Throttle(clock)
    ann = throttle.pair("192.0.2.7", b"ann")
    fail(throttle, ann, 10)
    throttle.succeeded(ann)
    assert throttle.wait(ann) == 0
    fail(throttle, ann, 9)
    assert throttle.wait(ann) == 0
    throttle.succeeded(throttle.pair("192.0.2.7", b"never failed"))


@pytest.mark.parametrize(("pause", "wait"), [(899, 1), (900, 0)], ids=["remembered", "forgotten"])
def test_failures_are_forgotten_after_fifteen_minutes_without_one(clock: Clock, pause: float, wait: float) -> None:
    throttle = Throttle(clock)
    ann = throttle.pair("192.0.2.7", b"ann")
    fail(throttle, ann, 5)
    clock.now += 899
    fail(throttle, ann, 4)
    clock.now += pause
    fail(throttle, ann)
    assert throttle.wait(ann) == wait


@pytest.mark.parametrize(
    ("network", "subject"),
    [pytest.param("192.0.2.8", b"ann", id="other-address"), pytest.param("192.0.2.7", b"bob", id="other-user")],
)
def test_other_pairs_are_not_affected(clock: Clock, network: str, subject: bytes) -> None:
    throttle = Throttle(clock)
    fail(throttle, throttle.pair("192.0.2.7", b"ann"), 10)
    assert throttle.wait(throttle.pair(network, subject)) == 0
    assert throttle.wait(throttle.pair("192.0.2.7", b"ann")) == 1


def test_a_user_is_contested_as_long_as_some_address_has_to_wait_for_them(clock: Clock) -> None:
    throttle = Throttle(clock)
    first, second, other = (
        throttle.pair(*claim) for claim in [("192.0.2.7", b"ann"), ("192.0.2.8", b"ann"), ("192.0.2.7", b"bob")]
    )
    assert first.subject == second.subject != other.subject
    fail(throttle, first, 9)
    assert not throttle.is_contested(first.subject)
    fail(throttle, first, 1)
    clock.now += 1
    assert not throttle.is_contested(first.subject)
    fail(throttle, first, 1)
    fail(throttle, second, 10)
    clock.now += 1.5
    assert throttle.is_contested(second.subject), "the first has to wait longer than the second"
    assert not throttle.is_contested(other.subject)
    clock.now += 0.5
    assert not throttle.is_contested(first.subject)


def test_no_more_than_so_many_pairs_are_kept_and_no_names(clock: Clock) -> None:
    throttle = Throttle(clock, size=20)
    for number in range(50):
        fail(throttle, throttle.pair("192.0.2.7", b"user %d" % number), 10)
    assert len(throttle._records) == 20
    assert len(throttle._contested) == 20
    assert throttle.wait(throttle.pair("192.0.2.7", b"user 29")) == 0
    assert throttle.wait(throttle.pair("192.0.2.7", b"user 30")) == 1
    for memory in (throttle._records, throttle._contested):
        assert {len(key) for key in memory._entries} == {16}


def test_two_throttles_name_a_pair_differently(clock: Clock) -> None:
    first, second = (Throttle(clock).pair("192.0.2.7", b"ann") for _ in range(2))
    assert first.key != second.key
    assert first.subject != second.subject


@pytest.mark.parametrize(
    ("address", "network"),
    [
        pytest.param("192.0.2.7", "192.0.2.7", id="ipv4"),
        pytest.param("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64", id="ipv6"),
        pytest.param("2001:DB8:1:2::", "2001:db8:1:2::/64", id="ipv6-written-otherwise"),
        pytest.param("fe80::1%eth0", "fe80::/64", id="zone"),
        pytest.param("::ffff:192.0.2.7", "192.0.2.7", id="ipv4-in-ipv6"),
        pytest.param("::1", "::/64", id="loopback"),
        pytest.param("-", "-", id="unknown"),
        pytest.param("", "", id="empty"),
    ],
)
def test_what_counts_as_one_client(address: str, network: str) -> None:
    assert network_of(address) == network


@given(st.text(st.characters()))
def test_any_text_is_some_client(address: str) -> None:
    network = network_of(address)
    throttle = Throttle(Clock())
    fail(throttle, throttle.pair(network, b"ann"), 10)
    assert throttle.wait(throttle.pair(network, b"ann")) == 1
