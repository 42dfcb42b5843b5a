"""What is remembered, for how long, and how secrets stand in there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packregistry.auth.memory import Memory, Seal


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("touch", ["get", "put"])
def test_what_was_used_longest_ago_goes_first(touch: str) -> None:
    memory: Memory[int] = Memory(2, 10, Clock())
    memory.put(b"a", 1)
    memory.put(b"b", 2)
    if touch == "get":
        assert memory.get(b"a") == 1
    else:
        memory.put(b"a", 1)
    memory.put(b"c", 3)
    assert [memory.get(key) for key in (b"a", b"b", b"c")] == [1, None, 3]
    assert len(memory) == 2


def test_a_value_lives_for_a_time_after_its_last_use() -> None:
    clock = Clock()
    memory: Memory[int] = Memory(2, 10, clock)
    memory.put(b"a", 1)
    for _ in range(3):
        clock.now += 9.5
        assert memory.get(b"a") == 1
    clock.now += 10
    assert memory.get(b"a") is None
    assert len(memory) == 0
    memory.put(b"a", 2)
    clock.now += 9.5
    memory.put(b"a", 3)
    clock.now += 9.5
    assert memory.get(b"a") == 3


def test_a_value_can_be_dropped_whether_it_is_there_or_not() -> None:
    memory: Memory[int] = Memory(2, 10, Clock())
    memory.put(b"a", 1)
    memory.drop(b"a")
    memory.drop(b"a")
    assert memory.get(b"a") is None


@given(st.binary(), st.binary())
def test_a_seal_tells_bytes_apart(first: bytes, second: bytes) -> None:
    seal = Seal()
    assert (seal(first) == seal(second)) == (first == second)
    assert len(seal(first)) == 16


def test_each_seal_has_a_key_of_its_own() -> None:
    assert Seal()(b"a") != Seal()(b"a")
