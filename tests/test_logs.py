"""How log lines look, and that nobody waits for who reads them."""

from __future__ import annotations

import io
import json
import logging
import os
import string
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, Literal

import pytest
from aiohttp.http_exceptions import BadStatusLine
from hypothesis import given
from hypothesis import strategies as st

from packregistry import linesink, logs
from packregistry.config import Log

DEADLINE = 10
SECRETS = {
    "token": ("a pkr_Abcdefgh0123456789 b", "a pkr_*** b"),
    "URL": ("cannot reach http://user:Abcdefgh@host/", "cannot reach http://***@host/"),
    "header": ("sent 'Authorization: Basic Abcdefgh'", "sent 'Authorization: Basic ***'"),
}
HOSTILE = "a\n2030-01-01T00:00:00Z INFO forged\r\x1b[2J\x85\u2028\u202e\udc80\x7f\x9b"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Leave logging as it was."""
    ours = logging.getLogger("packregistry")
    kept = logging.root.handlers[:], logging.root.level, ours.level
    yield
    logging.root.handlers[:] = kept[0]
    logging.root.setLevel(kept[1])
    ours.setLevel(kept[2])


def set_up(**options: Any) -> io.StringIO:
    stream = io.StringIO()
    logs.set_up(Log(**options), stream)
    return stream


def log(message: str, *args: object, level: int = logging.INFO, name: str = "packregistry.part", **more: Any) -> None:
    logging.getLogger(name).log(level, message, *args, **more)


def failing(message: str) -> None:
    try:
        raise RuntimeError(message)
    except RuntimeError:
        log("it failed", level=logging.ERROR, exc_info=True)


def test_a_text_line_has_time_level_logger_message_and_fields() -> None:
    stream = set_up(fields={"service": "registry", "place": 'a "b"\n'})
    log("%d packs", 3)
    stamp, rest = stream.getvalue().split(" ", 1)
    assert len(stamp) == len("2030-01-01T00:00:00Z")
    assert rest == 'INFO part 3 packs service="registry" place="a \\"b\\"\\n"\n'


def test_a_json_line_has_the_same_and_no_field_replaces_it() -> None:
    stream = set_up(formatter="json", fields={"service": "registry", "message": "forged", "level": "none"})
    log("%d packs", 3, level=logging.WARNING)
    entry = json.loads(stream.getvalue())
    assert entry.pop("time").endswith("Z")
    assert entry == {"level": "warning", "logger": "packregistry.part", "message": "3 packs", "service": "registry"}


@pytest.mark.parametrize("formatter", ["text", "json"])
def test_no_message_ends_its_line_or_reaches_the_terminal(formatter: Literal["text", "json"]) -> None:
    stream = set_up(formatter=formatter)
    log("%s", HOSTILE)
    (line,) = stream.getvalue().splitlines()
    assert line.isprintable()
    assert "\\n2030" in line


@given(st.text())
def test_what_is_printable_stays_and_all_else_is_escaped(text: str) -> None:
    escaped = logs.printable(text)
    assert escaped.isprintable()
    assert (escaped == text) == text.isprintable()


def test_a_traceback_is_indented_so_that_nothing_in_it_looks_like_a_line_of_the_log() -> None:
    stream = set_up()
    failing(HOSTILE)
    first, *traceback = stream.getvalue().splitlines()
    assert first.endswith("ERROR part it failed")
    assert traceback[0] == "    Traceback (most recent call last):"
    assert "    2030-01-01T00:00:00Z INFO forged\\r\\x1b[2J\\x85\\u2028\\u202e\\udc80\\x7f\\x9b" in traceback
    assert all(row.startswith("    ") and row.isprintable() for row in traceback)


def test_a_traceback_is_one_value_in_json() -> None:
    stream = set_up(formatter="json")
    failing("wrong")
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["traceback"].splitlines()[-1] == "RuntimeError: wrong"


@pytest.mark.parametrize(
    ("level", "ours", "others"),
    [
        ("debug", ["debug", "info", "warning", "error"], ["warning", "error"]),
        ("info", ["info", "warning", "error"], ["warning", "error"]),
        ("warn", ["warning", "error"], ["warning", "error"]),
        ("error", ["error"], ["error"]),
    ],
)
def test_the_level_holds_for_our_lines_and_libraries_are_heard_from_warnings_on(
    level: str, ours: list[str], others: list[str]
) -> None:
    for name, expected in (("packregistry.part", ours), ("library", others)):
        stream = set_up(level=level)
        for each in ("debug", "info", "warning", "error"):
            log(each, level=getattr(logging, each.upper()), name=name)
        assert [line.rsplit(" ", 1)[1] for line in stream.getvalue().splitlines()] == expected


def test_setting_up_again_replaces_what_was_set_up() -> None:
    before, after = set_up(), set_up(level="error")
    log("unheard")
    log("heard", level=logging.ERROR)
    assert before.getvalue() == ""
    assert len(after.getvalue().splitlines()) == 1


@pytest.mark.parametrize(("level", "lines"), [("info", 1), ("warn", 0)])
def test_a_request_that_is_no_http_is_one_line_and_no_error(level: str, lines: int) -> None:
    stream = set_up(level=level)
    try:
        raise BadStatusLine("\x16\x03\nINFO forged")
    except BadStatusLine:
        log("Error handling request from %s", "192.0.2.1", level=logging.ERROR, name="aiohttp.server", exc_info=True)
    written = stream.getvalue().splitlines()
    assert len(written) == lines
    assert all("INFO aiohttp.server Error handling request from 192.0.2.1: " in line for line in written)


@pytest.mark.parametrize("formatter", ["text", "json"])
@pytest.mark.parametrize(("text", "expected"), SECRETS.values(), ids=SECRETS)
def test_no_secret_is_in_a_message_an_argument_a_traceback_or_a_field(
    formatter: Literal["text", "json"], text: str, expected: str
) -> None:
    stream = set_up(formatter=formatter, fields={"field": text})
    log(text)
    log("%s", text)
    log("%s", ValueError(text))
    failing(text)
    written = stream.getvalue()
    assert "Abcdefgh" not in written
    # Three messages, one traceback, and a field on each of four lines.
    assert written.count(json.dumps(expected)[1:-1]) == 8


@given(
    st.text(max_size=19),
    st.text(string.ascii_letters + string.digits, min_size=20, max_size=50),
    st.text(max_size=19),
    st.sampled_from(["text", "json"]),
)
def test_whatever_surrounds_a_token_it_is_in_no_line(
    before: str, token: str, after: str, formatter: Literal["text", "json"]
) -> None:
    stream = set_up(formatter=formatter, fields={"field": f"{before}pkr_{token}{after}"})
    failing(f"{before}pkr_{token}{after}")
    log("%s", f"{before}pkr_{token}{after}")
    assert token not in stream.getvalue()
    assert stream.getvalue().count("pkr_***") >= 3


@pytest.fixture
def pipe() -> Iterator[tuple[io.FileIO, io.TextIOWrapper]]:
    """The ends of a pipe; reading does not wait."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    with os.fdopen(writer, "w") as stream, os.fdopen(reader, "rb", buffering=0) as source:
        yield source, stream


def at_once(source: io.FileIO, act: Callable[[], None]) -> None:
    """Do it in a thread, so that it can be told from waiting for ever."""
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    thread.join(DEADLINE)
    is_waiting = thread.is_alive()
    while is_waiting and source.read(1 << 20):
        thread.join(0.1)
    assert not is_waiting


def test_logging_returns_at_once_though_nobody_reads_and_the_rest_comes_with_the_next_record(
    pipe: tuple[io.FileIO, io.TextIOWrapper],
) -> None:
    source, stream = pipe
    logs.set_up(Log(), stream)

    def log_much() -> None:
        for _ in range(700):
            log("%s", "x" * 100)

    at_once(source, log_much)
    received = source.read(1 << 20) or b""
    assert 0 < received.count(b"x" * 100) < 700
    log("next")
    received += source.read(1 << 20) or b""
    lines = received.decode().splitlines()
    assert [line.rsplit(" ", 1)[1] for line in lines] == ["x" * 100] * 700 + ["next"]


@pytest.mark.parametrize("formatter", ["text", "json"])
def test_records_that_were_dropped_are_counted_in_a_line_like_any_other(
    pipe: tuple[io.FileIO, io.TextIOWrapper], monkeypatch: pytest.MonkeyPatch, formatter: Literal["text", "json"]
) -> None:
    monkeypatch.setattr(linesink, "KEPT_MAX", 10_000)
    source, stream = pipe
    logs.set_up(Log(formatter=formatter, fields={"service": "registry"}), stream)
    for _ in range(3000):
        log("%s", "x" * 100)
    received = b""
    while chunk := source.read(1 << 20):
        received += chunk
        logging.root.handlers[0].flush()
    *lines, last = received.decode().splitlines()
    message = f"{3000 - len(lines)} lines were dropped here, as nobody read them"
    if formatter == "json":
        entry = json.loads(last)
        assert (entry["level"], entry["message"], entry["service"]) == ("warning", message, "registry")
    else:
        assert last.endswith(f'WARNING logs {message} service="registry"')


def test_who_logs_does_not_hear_that_the_reader_is_gone(pipe: tuple[io.FileIO, io.TextIOWrapper], capsys: Any) -> None:
    source, stream = pipe
    logs.set_up(Log(), stream)
    source.close()
    log("unheard")
    logging.root.handlers[0].flush()
    assert capsys.readouterr() == ("", "")


def test_a_mistake_in_a_call_ends_nothing_and_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    stream = set_up()
    log("%d", "no number")
    log("next")
    assert len(stream.getvalue().splitlines()) == 1
    assert "TypeError: %d format" in capsys.readouterr().err


@pytest.mark.thorough
def test_what_is_left_is_written_when_the_process_ends() -> None:
    reader, writer = os.pipe()
    code = (
        "import logging, os, sys; from packregistry import logs; from packregistry.config import Log\n"
        "logs.set_up(Log(), sys.stderr)\n"
        "for _ in range(700): logging.getLogger('packregistry.part').info('x' * 100)\n"
        "print('full', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code]
    with (
        os.fdopen(reader, "rb", buffering=0) as source,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=writer) as process,
    ):
        os.close(writer)
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"full\n"
        received = source.read(1 << 20)
        process.stdin.close()
        while chunk := source.read(1 << 20):
            received += chunk
    assert received.count(b"x" * 100) == 700
