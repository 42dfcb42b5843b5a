"""Numbers that several processes count in."""

from __future__ import annotations

import os

import pytest

from packregistry.tally import COLUMNS, Board


def test_a_total_is_of_all_rows_whoever_asks() -> None:
    board = Board(3)
    cells = [board.row(number).cells(2) for number in range(3)]
    for number, own in enumerate(cells):
        own.add(0)
        own.add(1, 10**number)
    assert [(own.total(0), own.total(1)) for own in cells] == [(3, 111)] * 3


def test_cells_that_are_allocated_one_after_another_do_not_touch() -> None:
    tally = Board(2).row(1)
    first, second = tally.cells(3), tally.cells(1)
    first.add(2, 5)
    assert second.total(0) == 0
    second.add(0, 7)
    assert [first.total(index) for index in range(3)] == [0, 0, 5]


def test_what_was_counted_stays_when_a_process_ends_and_another_takes_its_row() -> None:
    board = Board(2)
    mine = board.row(0).cells(1)
    board.row(1).cells(1).add(0, 4)
    board.leave(1)
    assert mine.total(0) == 4
    board.row(1).cells(1).add(0)
    assert mine.total(0) == 5


def test_the_highest_is_of_those_that_are_there() -> None:
    board = Board(3)
    mine, other = board.row(0).cells(1), board.row(2).cells(1)
    mine.set(0, 1)
    other.set(0, 3)
    assert (mine.highest(0), other.highest(0)) == (3, 3)
    other.set(0, 2)
    assert mine.highest(0) == 2
    board.leave(2)
    assert mine.highest(0) == 1


def test_a_process_that_is_forked_counts_in_the_same_memory() -> None:
    board = Board(2)
    mine = board.row(0).cells(1)
    mine.add(0)
    pid = os.fork()
    if not pid:
        board.row(1).cells(1).add(0, 41)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert mine.total(0) == 42


def test_a_row_has_an_end() -> None:
    tally = Board().row(0)
    tally.cells(COLUMNS - 1)
    with pytest.raises(ValueError, match="1024"):
        tally.cells(1)
