"""How log lines look."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from aiohttp.http_exceptions import BadStatusLine
from hypothesis import given
from hypothesis import strategies as st

from packregistry import logs
from packregistry.config import Log

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
