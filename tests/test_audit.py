"""A record of each change and each refusal."""

from __future__ import annotations

import asyncio
import datetime as dt
import errno
import io
import json
import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import given
from hypothesis import strategies as st

from packregistry import audit as module
from packregistry import linesink
from packregistry.audit import TEXT_MAX, Audit, AuditError, AuditFile, Event
from packregistry.auth import Actor
from packregistry.auth.rights import ALL
from packregistry.config import Audit as Settings
from packregistry.model import Digest, HistoryEntry, PackName, Tag

ANN = Actor("ann", "basic", "192.0.2.7", lambda _: ALL)
PUSHED = Event("ann", "basic", "192.0.2.7", "publish", "hello:1.0.0")
HOSTILE = 'a\n{"audit": true, "forged": 1}\r\x1b[2J\x85\u2028\u202e\udc80"\\'


class Losses(list[int]):
    """What was told to be lost."""

    def __call__(self, count: int) -> None:
        self.append(count)


def records(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def record(event: Event, **fields: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(event.line(fields))
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


@pytest.fixture
def lost() -> Losses:
    return Losses()


@pytest.fixture
def audit(path: Path, lost: Losses) -> Iterator[Audit]:
    """Records in a file."""
    made = Audit(Settings(path=path), {"service": "registry"}, lost=lost)
    made.open()
    yield made
    made.close()


# What is in a record.


def test_a_record_says_who_did_what_to_what_and_what_came_of_it() -> None:
    event = Event(
        "ann", "token", "192.0.2.7", "replace", "hello:1.0.0", "done", 200, "why", "sha256:a", "sha256:b", "2026-01-31"
    )
    assert record(event, service="registry") == {
        "service": "registry",
        "time": "2026-01-31",
        "audit": True,
        "subject": "ann",
        "method": "token",
        "address": "192.0.2.7",
        "action": "replace",
        "object": "hello:1.0.0",
        "before": "sha256:a",
        "after": "sha256:b",
        "result": "done",
        "status": 200,
        "reason": "why",
    }


def test_what_is_not_known_is_left_out_and_the_time_is_now() -> None:
    before = time.time()
    found = record(Event("directory", "system", "-", "withdraw", "hello:1.0.0"))
    assert found["time"].endswith("Z")
    stamp = dt.datetime.strptime(found.pop("time"), "%Y-%m-%dT%H:%M:%S.%f%z")
    assert before - 0.001 <= stamp.timestamp() <= time.time()
    assert stamp.microsecond % 1000 == 0
    assert found == {
        "audit": True,
        "subject": "directory",
        "method": "system",
        "action": "withdraw",
        "object": "hello:1.0.0",
        "result": "done",
    }


def test_a_refusal_has_its_code_status_and_reason() -> None:
    found = record(Event.of(ANN, "request", "PUT /v1/x", "DENIED", 403, "ann may not add to x"))
    del found["time"]
    assert found == {
        "audit": True,
        "subject": "ann",
        "method": "basic",
        "address": "192.0.2.7",
        "action": "request",
        "object": "PUT /v1/x",
        "result": "DENIED",
        "status": 403,
        "reason": "ann may not add to x",
    }


def test_what_is_of_an_actor_is_done_unless_it_is_said_to_be_refused() -> None:
    assert Event.of(ANN, "token.create", "ci") == Event("ann", "basic", "192.0.2.7", "token.create", "ci")


@pytest.mark.parametrize("name", ["subject", "status", "reason", "before", "time", "audit"])
def test_no_configured_field_is_taken_for_a_part_of_the_record(name: str) -> None:
    assert record(PUSHED, **{name: "forged"}).get(name) != "forged"


@given(st.text() | st.just(HOSTILE))
def test_whatever_is_in_it_a_record_is_one_line_of_ascii(text: str) -> None:
    event = Event(text, text, text, text, text, text, 1, text, text, text, text)
    line = event.line({"field": text})
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["audit"] is True


@pytest.mark.parametrize("part", ["subject", "method", "address", "action", "object", "result", "reason"])
@pytest.mark.parametrize("secret", ["pkr_abcdefgh", "http://abcdefgh:x@host", "Basic abcdefgh"])
def test_no_secret_is_in_a_record_wherever_it_is_cut(part: str, secret: str) -> None:
    parts: dict[str, Any] = dict.fromkeys(("subject", "method", "address", "action", "object"), "")
    assert "***" in Event(**{**parts, part: secret}).line({})
    for room in range(5, 40):
        assert "abcd" not in Event(**{**parts, part: "x" * (TEXT_MAX - room) + " " + secret}).line({})


def test_what_is_long_is_cut_and_shows_it() -> None:
    assert record(Event("s", "m", "a", "a", "x" * TEXT_MAX))["object"] == "x" * TEXT_MAX
    assert record(Event("s", "m", "a", "a", "x" * (TEXT_MAX + 1)))["object"] == "x" * TEXT_MAX + "…"


# A stream.


def test_without_a_path_records_are_on_the_stream_at_once() -> None:
    stream = io.StringIO()
    audit = Audit(Settings(), {"service": "registry", "secret": "pkr_abcdefgh"}, stream=stream)
    audit.open()
    audit.write(PUSHED)
    (found,) = records(stream.getvalue())
    assert (found["service"], found["secret"]) == ("registry", "pkr_***")
    assert found["object"] == "hello:1.0.0"
    audit.close()


def test_the_stream_is_standard_output_if_no_other_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    Audit(Settings(), {}).write(PUSHED)
    assert len(records(capsys.readouterr().out)) == 1


def test_a_change_is_recorded_as_the_history_of_the_pack_has_it() -> None:
    stream = io.StringIO()
    before, after = Digest.of(b"x"), Digest.of(b"y")
    entry = HistoryEntry(3, "2026-01-31T12:00:00.123Z", "ann", "replace", Tag("1.0.0"), before, after, "a fix")
    Audit(Settings(), {}, stream=stream).changed(PackName("hello"), entry, ANN)
    assert records(stream.getvalue()) == [
        {
            "time": "2026-01-31T12:00:00.123Z",
            "audit": True,
            "subject": "ann",
            "method": "basic",
            "address": "192.0.2.7",
            "action": "replace",
            "object": "hello:1.0.0",
            "before": before,
            "after": after,
            "result": "done",
            "reason": "a fix",
        }
    ]


def test_a_stalled_reader_is_not_waited_for_and_what_is_dropped_is_a_record(
    monkeypatch: pytest.MonkeyPatch, lost: Losses
) -> None:
    monkeypatch.setattr(linesink, "KEPT_MAX", 50_000)
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    received = b""
    with os.fdopen(writer, "w") as stream, os.fdopen(reader, "rb", buffering=0) as source:
        audit = Audit(Settings(), {}, stream=stream, lost=lost)
        for _ in range(2000):
            audit.write(PUSHED)
        assert 0 < sum(lost) < 2000
        while chunk := source.read(1 << 20):
            received += chunk
            audit.flush()
    *written, last = records(received.decode())
    assert len(written) == 2000 - sum(lost)
    assert (last["action"], last["object"]) == ("drop", f"{sum(lost)} audit records")


def test_closing_writes_what_a_slow_reader_takes_of_the_rest() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream, os.fdopen(reader, "rb", buffering=0) as source:
        os.set_blocking(source.fileno(), False)
        audit = Audit(Settings(), {}, stream=stream)
        for _ in range(500):
            audit.write(PUSHED)
        received = source.read(1 << 20)
        assert received.count(b"\n") < 500
        audit.close()
        received += source.read(1 << 20)
    assert len(records(received.decode())) == 500


def test_a_stream_that_cannot_be_written_loses_records_and_nobody_else_notices(
    lost: Losses, caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        audit = Audit(Settings(), {}, stream=stream, lost=lost)
        audit.write(PUSHED)
        audit.write(PUSHED)
    assert lost == [1, 1]
    assert [entry.levelname for entry in caplog.records] == ["ERROR"]


# A file.


def test_a_file_is_made_for_its_owner_alone_when_it_is_opened(audit: Audit, path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes() == b""


def test_records_are_in_the_file_in_order_when_it_was_flushed(audit: Audit, path: Path) -> None:
    for number in range(100):
        audit.write(Event.of(ANN, "publish", str(number)))
    audit.flush()
    found = records(path.read_text())
    assert [entry["object"] for entry in found] == [str(number) for number in range(100)]
    assert found[0]["service"] == "registry"


def test_a_file_that_is_there_is_appended_to_and_keeps_its_mode(path: Path) -> None:
    path.write_text("before\n")
    path.chmod(0o640)
    audit = Audit(Settings(path=path), {})
    audit.open()
    audit.write(PUSHED)
    audit.close()
    assert path.read_text().startswith("before\n{")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_file_need_not_be_opened_first(path: Path) -> None:
    audit = Audit(Settings(path=path), {})
    audit.write(PUSHED)
    audit.close()
    assert len(records(path.read_text())) == 1


async def test_the_event_loop_waits_for_no_file(audit: Audit, path: Path) -> None:
    with blockbuster_ctx():
        audit.write(PUSHED)
        audit.write(PUSHED)
    await asyncio.to_thread(audit.flush)
    assert len(records(await asyncio.to_thread(path.read_text))) == 2


def test_several_processes_and_threads_share_a_file(path: Path) -> None:
    files = [AuditFile(path, Losses()) for _ in range(3)]

    def write(file: AuditFile) -> None:
        for _ in range(200):
            file.write(PUSHED.line({}))

    threads = [threading.Thread(target=write, args=(file,)) for file in files for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for file in files:
        file.close()
    assert len(records(path.read_text())) == 1200


def test_each_record_is_one_write(audit: Audit, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []
    write = os.write

    def noted(file: int, data: memoryview) -> int:
        written.append(bytes(data))
        return write(file, data)

    monkeypatch.setattr(os, "write", noted)
    for _ in range(3):
        audit.write(PUSHED)
    audit.flush()
    assert written == path.read_bytes().splitlines(keepends=True)
    assert len(written) == 3


@pytest.mark.parametrize("remove", [False, True], ids=["moved", "removed"])
def test_a_file_that_was_rotated_away_is_made_anew(audit: Audit, path: Path, remove: bool) -> None:
    audit.write(PUSHED)
    audit.flush()
    rotated = path.with_suffix(".1")
    path.rename(rotated)
    if remove:
        rotated.unlink()
    audit.write(PUSHED)
    audit.flush()
    assert len(records(path.read_text())) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert remove or len(records(rotated.read_text())) == 1


def test_another_file_in_its_place_is_used(audit: Audit, path: Path) -> None:
    audit.write(PUSHED)
    audit.flush()
    path.rename(path.with_suffix(".1"))
    path.write_text("another\n")
    audit.write(PUSHED)
    audit.flush()
    assert path.read_text().startswith("another\n{")


def test_a_file_that_was_cut_is_written_from_its_beginning(audit: Audit, path: Path) -> None:
    audit.write(PUSHED)
    audit.flush()
    os.truncate(path, 0)
    audit.write(PUSHED)
    audit.flush()
    assert len(records(path.read_text())) == 1


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_no_descriptor_is_left_after_many_rotations(audit: Audit, path: Path) -> None:
    before = descriptors()
    for _ in range(20):
        path.unlink()
        audit.write(PUSHED)
        audit.flush()
    assert descriptors() == before
    audit.close()
    assert descriptors() == before - 1


def no_directory(path: Path) -> str:
    path.parent.rmdir()
    return "No such file or directory"


def a_directory(path: Path) -> str:
    path.mkdir()
    return "Is a directory"


def a_pipe_without_reader(path: Path) -> str:
    os.mkfifo(path)
    return "No such device or address"


@pytest.mark.parametrize("prepare", [no_directory, a_directory, a_pipe_without_reader])
def test_a_file_that_cannot_be_written_is_an_error_that_says_what_to_do(
    tmp_path: Path, prepare: Callable[[Path], str]
) -> None:
    path = tmp_path / "logs" / "audit.log"
    path.parent.mkdir()
    reason = prepare(path)
    audit = Audit(Settings(path=path), {})
    with pytest.raises(AuditError) as caught:
        audit.open()
    audit.close()
    assert str(caught.value) == (
        f"the audit file {path} cannot be written: {reason}\n"
        f"Make sure that its directory exists and that uid {os.geteuid()} may write both, or name another file with "
        "log.audit.path."
    )


class Disk:
    """A disk that takes `room` more bytes, in the place of `os.write`."""

    def __init__(self) -> None:
        self.room = 0
        self.write = os.write

    def __call__(self, file: int, data: memoryview) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        sent = self.write(file, data[: self.room])
        self.room -= sent
        return sent


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr(os, "write", disk)
    return disk


def test_what_a_full_disk_does_not_take_is_lost_and_logged_once_until_it_does(
    audit: Audit, path: Path, lost: Losses, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    for room, total, complaints in ((0, 1, 1), (0, 2, 1), (1 << 20, 2, 1), (0, 3, 2)):
        disk.room = room
        audit.write(PUSHED)
        audit.flush()
        assert sum(lost) == total
        assert len(caplog.records) == complaints
    assert {(entry.levelname, entry.name) for entry in caplog.records} == {("ERROR", "packregistry.audit")}
    assert "No space left" in caplog.text
    assert len(records(path.read_text())) == 1


def test_half_a_record_on_a_full_disk_does_not_spoil_the_next(
    audit: Audit, path: Path, lost: Losses, disk: Disk
) -> None:
    for room in (10, 0, 1, 1 << 20):
        disk.room = room
        audit.write(PUSHED)
        audit.flush()
    disk.room = 1 << 20
    audit.write(PUSHED)
    audit.flush()
    assert sum(lost) == 3
    half, *whole = path.read_text().splitlines()
    assert len(half) == 10
    assert len(records("\n".join(whole))) == 2


def test_of_records_that_are_written_together_those_that_are_on_the_disk_are_not_lost(
    path: Path, lost: Losses, disk: Disk
) -> None:
    file = AuditFile(path, lost)
    line = PUSHED.line({})
    disk.room = 2 * (len(line) + 1)
    with file._changed:
        for _ in range(5):
            file.write(line)
    file.close()
    assert sum(lost) == 3
    assert path.read_text().splitlines() == [line] * 2


def test_a_new_file_has_nothing_of_half_a_record_in_the_old_one(audit: Audit, path: Path, disk: Disk) -> None:
    disk.room = 10
    audit.write(PUSHED)
    audit.flush()
    path.unlink()
    disk.room = 1 << 20
    audit.write(PUSHED)
    audit.flush()
    assert path.read_text().startswith("{")


def test_a_record_that_took_two_writes_is_whole(audit: Audit, path: Path, lost: Losses, monkeypatch: Any) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:100]))
    audit.write(PUSHED)
    audit.write(PUSHED)
    audit.flush()
    monkeypatch.undo()
    assert len(records(path.read_text())) == 2
    assert not lost


def test_a_moved_file_is_written_on_where_no_other_can_be_made(
    audit: Audit, path: Path, tmp_path: Path, lost: Losses, caplog: pytest.LogCaptureFixture
) -> None:
    rotated = tmp_path / "rotated"
    path.rename(rotated)
    path.mkdir()
    audit.write(PUSHED)
    audit.flush()
    audit.write(PUSHED)
    audit.flush()
    assert len(records(rotated.read_text())) == 2
    assert [entry.levelname for entry in caplog.records] == ["WARNING"]
    path.rmdir()
    audit.write(PUSHED)
    audit.flush()
    assert len(records(path.read_text())) == 1
    path.rename(rotated)
    path.mkdir()
    audit.write(PUSHED)
    audit.flush()
    assert [entry.levelname for entry in caplog.records] == ["WARNING", "WARNING"]
    assert not lost


def test_what_would_go_to_a_removed_file_is_lost(
    audit: Audit, path: Path, lost: Losses, caplog: pytest.LogCaptureFixture
) -> None:
    path.unlink()
    path.mkdir()
    audit.write(PUSHED)
    audit.flush()
    assert lost == [1]
    assert [entry.levelno for entry in caplog.records] == [logging.ERROR]


def test_beyond_what_may_wait_for_a_slow_disk_records_are_lost(
    audit: Audit, path: Path, lost: Losses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT_MAX", 10_000)
    is_stalled, goes_on, write = threading.Event(), threading.Event(), os.write

    def stalled(file: int, data: memoryview) -> int:
        is_stalled.set()
        goes_on.wait(10)
        return write(file, data)

    monkeypatch.setattr(os, "write", stalled)
    audit.write(PUSHED)
    assert is_stalled.wait(10)
    for _ in range(1000):
        audit.write(PUSHED)
    goes_on.set()
    audit.flush()
    size = len(PUSHED.line({"service": "registry"})) + 1
    assert 10_000 <= (1000 - sum(lost)) * size < 10_000 + size
    assert len(records(path.read_text())) == 1001 - sum(lost)
    audit.write(PUSHED)
    audit.flush()
    assert len(records(path.read_text())) == 1002 - sum(lost)


def test_closing_writes_what_there_is_and_what_comes_later_is_lost(path: Path, lost: Losses) -> None:
    audit = Audit(Settings(path=path), {}, lost=lost)
    for _ in range(100):
        audit.write(PUSHED)
    audit.close()
    audit.write(PUSHED)
    audit.close()
    assert len(records(path.read_text())) == 100
    assert lost == [1]


def test_a_record_is_not_written_by_whoever_adds_it(audit: Audit, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []
    write = os.write

    def noted(file: int, data: memoryview) -> int:
        threads.append(threading.current_thread())
        return write(file, data)

    monkeypatch.setattr(os, "write", noted)
    audit.write(PUSHED)
    audit.flush()
    assert threads
    assert threading.current_thread() not in threads
