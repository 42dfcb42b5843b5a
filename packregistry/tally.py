"""Numbers that the processes of one server count in, so that any of them can tell all.

They lie in memory that is made before the processes are, which inherit it. Each process has a row of its own and writes
nowhere else, so nothing is ever locked. Rows outlive their process: what one has counted stays counted when another
takes its row over.
"""

from __future__ import annotations

import mmap
from typing import Final

COLUMNS: Final = 1024
"""How many numbers a row has, the first of which says whether a process is there."""

_BYTES = 8


class Board:
    """Rows of numbers, all 0 at first."""

    def __init__(self, rows: int = 1) -> None:
        self.rows = rows
        self._numbers = memoryview(mmap.mmap(-1, rows * COLUMNS * _BYTES)).cast("Q")

    def row(self, row: int) -> Tally:
        """What a process counts in. Processes that allocate the same in the same order can sum up each other's."""
        return Tally(self._numbers, self.rows, row)

    def leave(self, row: int) -> None:
        """The process that had a row has ended."""
        self._numbers[row * COLUMNS] = 0


class Tally:
    """One process' row; it is there from now on."""

    def __init__(self, numbers: memoryview, rows: int, row: int) -> None:
        self._numbers, self._rows, self._first = numbers, rows, row * COLUMNS
        self._used = 1
        numbers[self._first] = 1

    def cells(self, count: int) -> Cells:
        """The next `count` numbers. Raises `ValueError` where there are no more."""
        column, self._used = self._used, self._used + count
        if self._used > COLUMNS:
            raise ValueError(f"a row has {COLUMNS} numbers")
        return Cells(self._numbers, self._rows, self._first, column)


class Cells:
    """Some numbers of a row, counted from 0."""

    def __init__(self, numbers: memoryview, rows: int, first: int, column: int) -> None:
        self._numbers = numbers
        self._mine = first + column
        self._all = [(row * COLUMNS, row * COLUMNS + column) for row in range(rows)]

    def add(self, index: int, count: int = 1) -> None:
        """Count `count` more."""
        self._numbers[self._mine + index] += count

    def set(self, index: int, value: int) -> None:
        """Say what something is now."""
        self._numbers[self._mine + index] = value

    def total(self, index: int) -> int:
        """What all processes have counted, those that have ended among them."""
        return sum(self._numbers[cells + index] for _, cells in self._all)

    def highest(self, index: int) -> int:
        """The highest that a process which is there says now."""
        return max((self._numbers[cells + index] for there, cells in self._all if self._numbers[there]), default=0)
