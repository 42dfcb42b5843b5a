"""Lines reach a reader that reads, and nothing waits for one that does not."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import os
import select
import socket
from collections.abc import Callable, Iterator
from typing import TextIO

import pytest

from packregistry import linesink
from packregistry.linesink import LineBuffer, LineSink
from tests.streams import Noticing

DEADLINE = 10


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    """A pipe: the end to read from, which never waits, and a stream to write to."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    with os.fdopen(writer, "w") as stream:
        yield reader, stream
    os.close(reader)


@pytest.fixture
def gone() -> Iterator[TextIO]:
    """A pipe that nobody reads any more."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        yield stream


class Broken(io.StringIO):
    """A stream that cannot be written to, as long as it is broken."""

    def __init__(self) -> None:
        super().__init__()
        self.is_broken = True

    def write(self, text: str, /) -> int:
        if self.is_broken:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(text)


def drained(reader: int) -> bytes:
    found = b""
    try:
        while chunk := os.read(reader, 65536):
            found += chunk
    except BlockingIOError:
        pass
    return found


def rest(reader: int, *sinks: LineSink | LineBuffer) -> bytes:
    """What is in the pipe and what the sinks have kept for it, the last sink first."""
    found, chunk = drained(reader), b"first"
    while chunk:
        for sink in reversed(sinks):
            sink.flush()
        chunk = drained(reader)
        found += chunk
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
    received += rest(reader, sink)
    assert received.decode().splitlines() == lines
    assert (sink.is_waiting, sink.lost) == (False, 0)


def test_a_full_socket_is_not_waited_for_either() -> None:
    reader, writer = socket.socketpair()
    with reader, writer, os.fdopen(os.dup(writer.fileno()), "w") as stream:
        reader.setblocking(False)
        sink = LineSink(stream)
        sink.write(["x" * 999] * 3000)
        assert sink.is_waiting
        assert rest(reader.fileno(), sink) == (b"x" * 999 + b"\n") * 3000


def test_lines_stay_whole_though_two_sinks_end_in_one_pipe(pipe: tuple[int, TextIO]) -> None:
    reader, stream = pipe
    first, second = LineSink(stream), LineSink(stream)
    first.write(["a" * 98] * 2000)
    second.write(["b" * 96] * 2000)
    found = rest(reader, first, second).decode().splitlines()
    assert sorted(found) == ["a" * 98] * 2000 + ["b" * 96] * 2000


def test_a_line_that_is_longer_than_what_stays_whole_arrives(pipe: tuple[int, TextIO]) -> None:
    reader, stream = pipe
    sink = LineSink(stream)
    sink.write(["short", "x" * 50_000, "short", "y" * 50_000])
    assert rest(reader, sink).decode().splitlines() == ["short", "x" * 50_000, "short", "y" * 50_000]


def test_beyond_what_is_kept_lines_are_dropped_and_counted(
    pipe: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, stream = pipe
    monkeypatch.setattr(linesink, "KEPT_MAX", 100_000)
    sink = LineSink(stream)
    sink.write(["x" * 99] * 3000)
    assert sink.lost == 2000
    found = rest(reader, sink).decode().splitlines()
    assert found.count("x" * 99) == 1000
    assert found[-1] == "2000 lines were dropped here, as nobody read them"
    sink.write(["more"])
    assert drained(reader) == b"more\n"


def test_what_stands_for_dropped_lines_looks_like_the_others_and_follows_the_kept_ones_at_once(
    pipe: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, stream = pipe
    monkeypatch.setattr(linesink, "KEPT_MAX", 100_000)
    sink = LineSink(stream, lambda count: f'{{"lost": {count}}}')
    sink.write(["x" * 99] * 1500)
    drained(reader)
    sink.flush()
    assert not sink.is_waiting
    assert drained(reader).endswith(b'x\n{"lost": 500}\n')


def test_a_reader_that_is_gone_is_an_error_and_what_was_for_it_is_lost(gone: TextIO) -> None:
    sink = LineSink(gone)
    with pytest.raises(BrokenPipeError):
        sink.write(["one", "two"])
    assert not sink.is_waiting
    assert sink.lost == 2


def test_lines_that_a_file_does_not_take_are_lost() -> None:
    sink = LineSink(Broken())
    with pytest.raises(OSError, match="No space left"):
        sink.write(["one", "two"])
    assert sink.lost == 2


def test_lines_for_a_stream_that_was_closed_are_lost() -> None:
    stream = io.StringIO()
    stream.close()
    sink = LineSink(stream)
    with pytest.raises(ValueError, match="closed"):
        sink.write(["one"])
    assert sink.lost == 1


# What collects lines.


def unexpected(error: Exception) -> None:
    raise AssertionError(error)


async def test_lines_are_written_together_after_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linesink, "FLUSH_SECONDS", 0)
    stream = Noticing()
    buffer = LineBuffer(stream, failed=unexpected)
    for _ in range(2):
        stream.written.clear()
        buffer.add("one")
        buffer.add("two")
        assert not stream.written.is_set()
        await asyncio.wait_for(stream.written.wait(), DEADLINE)
    assert stream.getvalue() == "one\ntwo\n" * 2


async def test_there_is_one_timer_at_a_time_and_none_when_there_is_nothing_to_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timers: list[asyncio.TimerHandle] = []
    loop = asyncio.get_running_loop()
    later = loop.call_later

    def noted(delay: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        timers.append(later(delay, callback))
        return timers[-1]

    monkeypatch.setattr(loop, "call_later", noted)
    buffer = LineBuffer(io.StringIO(), failed=unexpected)
    buffer.flush()
    assert not timers
    for _ in range(3):
        buffer.add("one")
    assert len(timers) == 1
    buffer.flush()
    assert timers[0].cancelled()
    buffer.add("two")
    assert len(timers) == 2
    buffer.flush()


async def test_many_lines_are_written_at_once() -> None:
    stream = io.StringIO()
    buffer = LineBuffer(stream, failed=unexpected)
    for number in range(linesink.FLUSH_LINES):
        assert stream.getvalue() == ""
        buffer.add(str(number))
    assert len(stream.getvalue().splitlines()) == linesink.FLUSH_LINES
    buffer.flush()
    assert len(stream.getvalue().splitlines()) == linesink.FLUSH_LINES


async def test_a_line_can_be_written_now_and_keeps_its_place() -> None:
    stream = io.StringIO()
    buffer = LineBuffer(stream, failed=unexpected)
    buffer.add("one")
    buffer.write("two")
    assert stream.getvalue() == "one\ntwo\n"


@pytest.mark.parametrize("now", [False, True], ids=["collected", "now"])
async def test_what_a_stalled_reader_left_is_written_later_without_another_line(
    pipe: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch, now: bool
) -> None:
    monkeypatch.setattr(linesink, "FLUSH_SECONDS", 0)
    reader, stream = pipe
    buffer = LineBuffer(stream, failed=unexpected)
    for _ in range(linesink.FLUSH_LINES * 4):
        (buffer.write if now else buffer.add)("x" * 99)
    received = b""
    async with asyncio.timeout(DEADLINE):
        while len(received) < linesink.FLUSH_LINES * 400:
            await asyncio.sleep(0)
            received += drained(reader)
    assert received == (b"x" * 99 + b"\n") * (linesink.FLUSH_LINES * 4)


def test_without_an_event_loop_what_was_left_is_written_with_the_next_line(pipe: tuple[int, TextIO]) -> None:
    reader, stream = pipe
    buffer = LineBuffer(stream, failed=unexpected)
    for _ in range(2000):
        buffer.write("x" * 99)
    received = drained(reader)
    buffer.write("last")
    received += rest(reader, buffer)
    assert received == (b"x" * 99 + b"\n") * 2000 + b"last\n"


def test_a_failure_is_told_once_until_lines_can_be_written_again() -> None:
    stream, errors, lost = Broken(), list[Exception](), list[int]()
    buffer = LineBuffer(stream, failed=errors.append, lost=lost.append)
    for is_broken in (True, True, False, True):
        stream.is_broken = is_broken
        buffer.write("one")
    assert [str(error) for error in errors] == ["[Errno 28] No space left on device"] * 2
    assert lost == [1, 1, 1]
    assert stream.getvalue() == "one\n"


def test_dropped_lines_are_told_and_are_no_failure(pipe: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linesink, "KEPT_MAX", 100_000)
    lost: list[int] = []
    buffer = LineBuffer(pipe[1], failed=unexpected, lost=lost.append)
    for _ in range(3000):
        buffer.write("x" * 99)
    in_pipe = len(drained(pipe[0])) // 100
    assert sum(lost) == 3000 - 1000 - in_pipe


def test_a_pipe_that_another_process_fills_after_the_look_makes_nobody_wait(
    pipe: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, stream = pipe

    class Late:
        """Says that there is room, as there was a moment ago."""

        def register(self, *_: int) -> None:
            os.set_blocking(stream.fileno(), False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    os.write(stream.fileno(), b"other\n")
            os.set_blocking(stream.fileno(), True)

        def poll(self, _: int) -> list[tuple[int, int]]:
            return [(0, 0)]

    sink = LineSink(stream)
    with monkeypatch.context() as patched:
        patched.setattr(select, "poll", Late)
        sink.write(["mine"])
    assert sink.is_waiting
    assert b"mine" not in drained(reader)
    sink.flush()
    assert drained(reader) == b"mine\n"


def test_the_pipe_that_is_shared_stays_as_it_is_and_ends_with_its_users(pipe: tuple[int, TextIO]) -> None:
    reader, stream = pipe
    sink = LineSink(stream)
    sink.write(["line"])
    assert os.get_blocking(stream.fileno())
    assert drained(reader) == b"line\n"
    stream.close()
    del sink
    assert os.read(reader, 1) == b""
