"""Lines reach a reader that reads, and nothing waits for one that does not."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import TextIO

import pytest

from packregistry.web import linesink
from packregistry.web.linesink import LineSink


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    """A pipe: the end to read from, which never waits, and a stream to write to."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    with os.fdopen(writer, "w") as stream:
        yield reader, stream
    os.close(reader)


def drained(reader: int) -> bytes:
    found = b""
    try:
        while chunk := os.read(reader, 65536):
            found += chunk
    except BlockingIOError:
        pass
    return found


def test_lines_are_written_in_order_to_a_pipe_and_to_anything_else(pipe: tuple[int, TextIO]) -> None:
    reader, stream = pipe
    LineSink(stream).write(["one", "zw\u00f6lf \ud800"])
    assert drained(reader) == "one\nzw\u00f6lf ?\n".encode()
    other = io.StringIO()
    LineSink(other).write(["one", "two"])
    assert other.getvalue() == "one\ntwo\n"


def test_a_full_pipe_is_not_waited_for_and_gets_the_rest_when_it_is_read(pipe: tuple[int, TextIO]) -> None:
    reader, stream = pipe
    sink = LineSink(stream)
    lines = [f"{number:099}" for number in range(2000)]
    sink.write(lines)
    assert sink.is_waiting
    received = drained(reader)
    assert 0 < len(received) < 200_000
    while len(received) < 200_000:
        sink.write([])
        received += drained(reader)
    assert received.decode().splitlines() == lines


def test_beyond_what_is_kept_lines_are_dropped_and_counted(
    pipe: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, stream = pipe
    monkeypatch.setattr(linesink, "KEPT_MAX", 100_000)
    sink = LineSink(stream)
    sink.write(["x" * 99] * 3000)
    received = drained(reader)
    while sink.is_waiting:
        sink.write([])
        received += drained(reader)
    found = received.decode().splitlines()
    assert found.count("x" * 99) == 1000
    assert found[-1] == "2000 lines were dropped here, as nobody read them"


def test_a_reader_that_is_gone_is_an_error_and_what_was_for_it_is_not_kept() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        sink = LineSink(stream)
        with pytest.raises(BrokenPipeError):
            sink.write(["one"])
        assert not sink.is_waiting
