"""Transfers on a terminal: a bar each, with what is through, how fast, and how long it will take."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

import rich.progress as bar
from rich.console import Console

from packregistry.client import Progress

Transfers = Callable[[str], Progress]
"""Makes what is told of the progress of the transfer with this label."""


@contextlib.contextmanager
def transfers(*, quiet: bool) -> Iterator[Transfers]:
    """Bars on standard error while the context is open; nothing when that is no terminal, or `quiet` is wanted."""
    if quiet or not sys.stderr.isatty():
        yield lambda _label: _ignore
        return
    with _bars() as bars:
        yield bars


def _ignore(_done: int, _size: int) -> None:
    pass


@contextlib.contextmanager
def _bars() -> Iterator[Transfers]:
    columns = (
        bar.TextColumn("{task.description}", markup=False),
        bar.BarColumn(),
        bar.DownloadColumn(),
        bar.TransferSpeedColumn(),
        bar.TimeRemainingColumn(),
    )
    with bar.Progress(*columns, console=Console(stderr=True), transient=True) as bars:

        def add(label: str) -> Progress:
            task = bars.add_task(label, total=None)

            def update(done: int, size: int) -> None:
                bars.update(task, completed=done, total=size, visible=done < size)

            return update

        yield add
