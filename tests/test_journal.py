"""The journal of changed records: what one process announces, every other one finds out, whatever goes wrong."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packregistry.storage.journal import EVERYTHING, SIZE_MAX, Journal, Position


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "changes")


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond `size`, as on a full disk: a write is cut short, the next one fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def position_at_the_end(journal: Journal) -> Position:
    position, _ = journal.read(Position())
    return position


def test_who_has_never_read_looks_at_everything(journal: Journal) -> None:
    journal.announce("hello")
    assert journal.has_news(Position())
    position, lines = journal.read(Position())
    assert lines is None
    assert not journal.has_news(position)


def test_lines_are_read_once(journal: Journal) -> None:
    journal.announce("before")
    position = position_at_the_end(journal)
    journal.announce("hello")
    journal.announce("other")
    assert journal.has_news(position)
    position, lines = journal.read(position)
    assert lines == ["hello", "other"]
    assert not journal.has_news(position)
    assert journal.read(position) == (position, [])


def test_a_star_means_everything(journal: Journal) -> None:
    journal.announce("hello")
    position = position_at_the_end(journal)
    journal.announce("hello")
    journal.announce(EVERYTHING)
    assert journal.read(position)[1] is None


def test_a_missing_file_means_everything_until_it_is_there_again(journal: Journal) -> None:
    journal.announce("hello")
    position = position_at_the_end(journal)
    journal.path.unlink()
    assert journal.has_news(position)
    assert journal.read(position) == (Position(), None)
    assert journal.has_news(Position())


def test_a_file_removed_and_made_again_means_everything_even_when_it_is_longer(journal: Journal) -> None:
    """The new file often gets the inode number of the old one."""
    journal.announce("hello")
    position = position_at_the_end(journal)
    journal.path.unlink()
    for _ in range(10):
        journal.announce("other")
    assert journal.read(position)[1] is None


def test_a_file_that_was_put_back_from_a_copy_means_everything(journal: Journal) -> None:
    journal.announce("hello")
    copy = journal.path.read_bytes()
    journal.announce("other")
    position = position_at_the_end(journal)
    journal.path.write_bytes(copy)
    position, lines = journal.read(position)
    assert lines is None
    journal.announce("third")
    assert journal.read(position)[1] == ["third"]


def test_a_change_without_a_line_means_everything(journal: Journal) -> None:
    journal.announce("hello")
    position = position_at_the_end(journal)
    os.utime(journal.path, ns=(1, 1))
    assert journal.has_news(position)
    assert journal.read(position)[1] is None


@pytest.mark.parametrize("content", [b"", b"0123456789"], ids=["empty", "half a generation"])
def test_a_file_without_a_generation_means_everything(journal: Journal, content: bytes) -> None:
    journal.path.write_bytes(content)
    position, lines = journal.read(Position())
    assert lines is None
    journal.announce("hello")
    assert journal.read(position)[1] is None
    assert not position.generation


def test_half_a_line_means_everything_and_is_not_taken_for_a_name(journal: Journal) -> None:
    """A process was killed, or the machine was switched off, while it wrote."""
    journal.announce("first")
    position = position_at_the_end(journal)
    with journal.path.open("ab") as file:
        file.write(b"hel")
    position, lines = journal.read(position)
    assert lines is None
    assert not journal.has_news(position)
    journal.announce("other")
    assert journal.read(position)[1] is None
    assert b"helother" not in journal.path.read_bytes()


def test_a_line_that_is_being_written_is_left_for_the_next_time(journal: Journal) -> None:
    journal.announce("first")
    position = position_at_the_end(journal)
    with journal.path.open("ab", buffering=0) as file:
        file.write(b"hello\nothe")
        position, lines = journal.read(position)
        assert lines == ["hello"]
        file.write(b"r\n")
    assert journal.read(position)[1] == ["other"]


def test_a_long_file_begins_anew(journal: Journal) -> None:
    journal.announce("hello")
    with journal.path.open("ab") as file:
        file.write(b"hello\n" * (SIZE_MAX // 6))
    position = position_at_the_end(journal)
    journal.announce("other")
    assert journal.path.stat().st_size < 100
    assert journal.has_news(position)
    assert journal.read(position)[1] is None


def test_no_space_for_a_line_is_news_as_well(journal: Journal) -> None:
    journal.announce("hello")
    position = position_at_the_end(journal)
    journal.path.unlink()
    journal.path.symlink_to("/dev/full")
    journal.announce("other")
    assert journal.has_news(position)
    journal.announce("third")
    assert journal.read(position)[1] is None


@pytest.mark.parametrize("room", range(1, 7))
def test_space_for_half_a_line_is_news_as_well(journal: Journal, room: int) -> None:
    """Even for somebody who reads only after others have found space again."""
    journal.announce("hello")
    size = journal.path.stat().st_size
    position = position_at_the_end(journal)
    with file_size_limit(size + room):
        journal.announce("other")
    journal.announce("third")
    lines = journal.read(position)[1]
    assert lines is None or lines == ["other", "third"]


def test_a_journal_that_can_neither_be_written_nor_removed_is_an_error(journal: Journal) -> None:
    journal.path.mkdir()
    with pytest.raises(OSError, match="changes"):
        journal.announce("hello")


def test_who_waited_for_a_file_that_has_gone_writes_to_the_new_one(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.announce("hello")
    position = position_at_the_end(journal)
    calls: list[int] = []

    def lock(file: object, operation: int) -> None:
        calls.append(operation)
        if len(calls) == 1:
            journal.path.unlink()

    monkeypatch.setattr("fcntl.flock", lock)
    journal.announce("other")
    assert len(calls) == 2
    assert journal.path.read_bytes().endswith(b"\nother\n")
    assert journal.read(position)[1] is None


STEPS = st.sampled_from(["announce", "announce", "announce", "look", "look", "remove", "cut", "full", "touch"])


@settings(deadline=None, max_examples=40)
@given(steps=st.lists(STEPS, max_size=12))
def test_whatever_happens_no_announcement_is_missed(tmp_path_factory: pytest.TempPathFactory, steps: list[str]) -> None:
    journal = Journal(tmp_path_factory.mktemp("journal") / "changes")
    position, announced = Position(), set[str]()
    for number, step in enumerate([*steps, "look"]):
        if step == "announce" or (step == "full" and not journal.path.exists()):
            announced.add(f"pack{number}")
            journal.announce(f"pack{number}")
        elif step == "full":
            announced.add(f"pack{number}")
            with file_size_limit(journal.path.stat().st_size + 3):
                journal.announce(f"pack{number}")
        elif step == "remove":
            journal.path.unlink(missing_ok=True)
        elif step == "cut" and journal.path.exists():
            with journal.path.open("ab") as file:
                file.write(b"pac")
        elif step == "touch" and journal.path.exists():
            os.utime(journal.path)
        elif step == "look":
            assert journal.has_news(position) or not announced
            position, lines = journal.read(position)
            assert lines is None or announced <= set(lines)
            announced = set()
