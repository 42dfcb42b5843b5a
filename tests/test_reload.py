"""Files that change are read again, and what cannot be used changes nothing and is reported once."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from blockbuster import blockbuster_ctx

from packregistry.reload import LOOK_SECONDS, WAITS_MAX, Reloader, ReloadError, fingerprint

DEADLINE = 10


class Source:
    """A source whose loads do what it is told: nothing, or raise."""

    def __init__(self, what: str = "users") -> None:
        self.what = what
        self.is_changed = False
        self.error: Exception | None = None
        self.loads = 0
        self.looks: object = "as ever"
        self.during: Callable[[], object] = lambda: None

    def changed(self) -> bool:
        return self.is_changed

    def state(self) -> object:
        return self.looks

    def load(self) -> None:
        self.loads += 1
        self.during()
        if self.error is not None:
            raise self.error


class Steps:
    """Waiting that ends when the test says so, and only then."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[tuple[float, asyncio.Event]] = asyncio.Queue()

    async def sleep(self, seconds: float) -> None:
        step = asyncio.Event()
        await self.asked.put((seconds, step))
        await step.wait()

    async def next(self) -> float:
        """Let one who waits go on, and say for how long it wanted to wait."""
        async with asyncio.timeout(DEADLINE):
            seconds, step = await self.asked.get()
        step.set()
        return seconds


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.INFO, "packregistry.reload")
    return lambda: [f"{record.levelname} {record.getMessage()}" for record in caplog.records]


async def test_what_has_not_changed_is_not_loaded(source: Source) -> None:
    await Reloader([source]).look()
    assert source.loads == 0


async def test_what_has_changed_is_loaded_in_a_thread(source: Source) -> None:
    source.is_changed, threads = True, []
    source.during = lambda: threads.append(threading.current_thread())
    await Reloader([source]).look()
    assert len(threads) == 1
    assert threads != [threading.current_thread()]


async def test_everything_is_loaded_on_demand() -> None:
    sources = [Source("users"), Source("policy")]
    await Reloader(sources).look(everything=True)
    assert [source.loads for source in sources] == [1, 1]


async def test_what_failed_is_tried_again_though_it_looks_the_same(source: Source) -> None:
    reloader = Reloader([source])
    source.is_changed, source.error = True, ReloadError("no")
    await reloader.look()
    source.is_changed = False
    await reloader.look()
    assert source.loads == 2
    source.error = None
    await reloader.look()
    await reloader.look()
    assert source.loads == 3


async def test_a_failure_is_reported_once_and_so_is_its_end(source: Source, logged: Callable[[], list[str]]) -> None:
    reloader = Reloader([source])
    source.is_changed, source.error = True, ReloadError("u: cannot be read")
    for _ in range(4):
        await reloader.look()
    reported = "ERROR users: u: cannot be read: what was read before stays in force"
    assert logged() == [reported]
    source.error = None
    for _ in range(2):
        await reloader.look()
    assert logged() == [reported, "INFO users: in order again"]
    source.error = ReloadError("u: cannot be read")
    for _ in range(2):
        await reloader.look()
    assert logged()[2:] == [reported]


async def test_a_failure_that_the_next_look_does_not_find_is_not_reported(
    source: Source, logged: Callable[[], list[str]]
) -> None:
    """A certificate and its key are written one after the other."""
    reloader = Reloader([source])
    source.is_changed = True
    for error in (ReloadError("they do not match"), None, ReloadError("they do not match"), None):
        source.error = error
        await reloader.look()
    assert logged() == []


async def test_each_failure_is_reported_once_however_they_alternate(
    source: Source, logged: Callable[[], list[str]]
) -> None:
    reloader = Reloader([source])
    source.is_changed = True
    for text in "aabbaabbab":
        source.error = ReloadError(text)
        await reloader.look()
    assert [line.split()[2] for line in logged()] == ["a:", "b:"]


async def test_a_failure_of_many_lines_is_reported_on_one(source: Source, logged: Callable[[], list[str]]) -> None:
    reloader = Reloader([source])
    source.is_changed, source.error = True, ReloadError("1:1: no\n2:1: nor this")
    for _ in range(2):
        await reloader.look()
    assert logged() == ["ERROR users: 1:1: no; 2:1: nor this: what was read before stays in force"]


async def test_a_failure_without_a_text_is_one(source: Source) -> None:
    seen: list[tuple[str, bool]] = []
    reloader = Reloader([source], observe=lambda what, ok: seen.append((what, ok)))
    source.is_changed, source.error = True, ReloadError()
    await reloader.look()
    source.is_changed = False
    await reloader.look()
    assert seen == [("users", False)] * 2


async def test_a_mistake_is_logged_with_its_traceback_and_the_source_tried_again(
    source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[bool] = []
    reloader = Reloader([source], observe=lambda _, ok: seen.append(ok))
    source.is_changed, source.error = True, ValueError("bug")
    await reloader.look()
    source.is_changed, source.error = False, ValueError("the same bug, told differently")
    await reloader.look()
    (record,) = caplog.records
    assert (record.levelname, record.getMessage()) == ("ERROR", "users: what was read before stays in force")
    assert record.exc_info
    assert str(record.exc_info[1]) == "bug"
    assert seen == [False, False]


async def test_a_mistake_in_looking_for_changes_is_one_too(source: Source, caplog: pytest.LogCaptureFixture) -> None:
    def changed() -> bool:
        raise KeyError

    source.changed = changed  # type: ignore[method-assign]
    seen: list[bool] = []
    await Reloader([source], observe=lambda _, ok: seen.append(ok)).look()
    assert seen == [False]
    assert [record.exc_info is not None for record in caplog.records] == [True]


async def test_every_load_is_observed_and_no_other_look() -> None:
    users, policy = Source("users"), Source("policy")
    seen: list[tuple[str, bool]] = []
    reloader = Reloader([users, policy], observe=lambda what, ok: seen.append((what, ok)))
    policy.is_changed, policy.error = True, ReloadError("no")
    await reloader.look()
    policy.error = None
    await reloader.look()
    policy.is_changed = False
    await reloader.look()
    assert seen == [("policy", False), ("policy", True)]


async def test_one_source_that_fails_keeps_no_other_from_being_loaded() -> None:
    sources = [Source("users"), Source("policy"), Source("tokens")]
    for source, error in zip(sources, (ReloadError("no"), ValueError("bug"), None), strict=True):
        source.is_changed, source.error = True, error
    await Reloader(sources).look()
    assert [source.loads for source in sources] == [1, 1, 1]


async def test_what_follows_a_load_runs_after_it_on_the_loop(source: Source) -> None:
    order: list[str] = []
    source.during = lambda: order.append("load")

    async def after() -> None:
        assert asyncio.get_running_loop().is_running()
        order.append("after")

    reloader = Reloader([], observe=lambda what, ok: order.append(f"{what} {ok}"))
    reloader.add(source, after)
    await reloader.look()
    assert order == []
    source.is_changed = True
    await reloader.look()
    assert order == ["load", "after", "users True"]
    source.error = ReloadError("no")
    await reloader.look()
    assert order[3:] == ["load", "users False"]


@pytest.mark.parametrize("error", [ReloadError("no listener"), RuntimeError("bug")], ids=["foreseen", "mistake"])
async def test_what_follows_a_load_may_fail_and_is_tried_again(
    source: Source, error: Exception, logged: Callable[[], list[str]]
) -> None:
    errors: list[Exception | None] = [error, error, None]
    seen: list[bool] = []

    async def after() -> None:
        if found := errors.pop(0):
            raise found

    reloader = Reloader([], observe=lambda _, ok: seen.append(ok))
    reloader.add(source, after)
    source.is_changed = True
    await reloader.look()
    source.is_changed = False
    for _ in range(3):
        await reloader.look()
    assert seen == [False, False, True]
    assert [line.split()[0] for line in logged()] == ["ERROR", "INFO"]


async def test_a_load_never_overlaps_itself(source: Source) -> None:
    under_way, most = 0, 0
    begun, go = threading.Event(), threading.Event()

    def during() -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        begun.set()
        assert go.wait(DEADLINE)
        under_way -= 1

    source.during = during
    reloader = Reloader([source])
    looks = [asyncio.create_task(reloader.look(everything=True)) for _ in range(3)]
    await asyncio.to_thread(begun.wait, DEADLINE)
    assert not any(look.done() for look in looks)
    go.set()
    await asyncio.gather(*looks)
    assert (source.loads, most) == (3, 1)


async def test_a_look_comes_after_each_interval(source: Source) -> None:
    steps, loaded = Steps(), asyncio.Queue[int]()
    reloader = Reloader([source], sleep=steps.sleep, observe=lambda *_: loaded.put_nowait(source.loads))
    source.is_changed = True
    async with reloader.running(), asyncio.timeout(DEADLINE):
        for count in (1, 2, 3):
            # A change is left alone at the look that finds it: its writer may not be done.
            assert await steps.next() == LOOK_SECONDS
            assert await steps.next() == LOOK_SECONDS
            assert await loaded.get() == count
        source.error = ValueError("a mistake does not end it")
        await steps.next()
        for count in (4, 5):
            await steps.next()
            assert await loaded.get() == count
    assert source.loads == 5


async def test_what_is_being_written_is_left_alone_until_it_is_still_but_not_for_ever(source: Source) -> None:
    steps = Steps()
    source.is_changed = True
    async with Reloader([source], sleep=steps.sleep).running(), asyncio.timeout(DEADLINE):
        for part in range(3):
            source.looks = part
            await steps.next()
        await steps.next()  # the same again
        await steps.next()
        assert source.loads == 1
        for part in range(WAITS_MAX + 2):
            source.looks = part
            await steps.next()
        assert source.loads == 2


async def test_the_interval_is_what_is_asked_for(source: Source) -> None:
    steps = Steps()
    async with Reloader([source], interval=7, sleep=steps.sleep).running():
        assert await steps.next() == 7


async def test_a_source_that_takes_long_keeps_no_other_waiting() -> None:
    """A file on a file system that hangs, for instance."""
    slow, quick = Source("certificates"), Source("users")
    go, loaded = threading.Event(), asyncio.Queue[str]()
    slow.is_changed = quick.is_changed = True
    slow.during = lambda: go.wait(DEADLINE)
    reloader = Reloader([slow, quick], interval=0.001, observe=lambda what, _: loaded.put_nowait(what))
    async with reloader.running(), asyncio.timeout(DEADLINE):
        assert [await loaded.get() for _ in range(3)] == ["users"] * 3
        go.set()
        while await loaded.get() != "certificates":
            pass


async def test_nothing_is_looked_at_after_the_end(source: Source) -> None:
    steps = Steps()
    source.is_changed = True
    async with Reloader([source], sleep=steps.sleep).running():
        _, step = await steps.asked.get()
    step.set()
    for _ in range(3):
        await asyncio.sleep(0)
    assert source.loads == 0
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


async def test_the_loop_is_not_blocked_by_looking(tmp_path: Path) -> None:
    class File(Source):
        def changed(self) -> bool:
            return fingerprint(tmp_path / "file") != ()

        def load(self) -> None:
            self.loads += 1
            (tmp_path / "file").write_text("read and written in a thread")

    source = File()
    with blockbuster_ctx():
        await Reloader([source]).look()
    assert source.loads == 1


def _rewritten(path: Path) -> None:
    path.write_text("other")


def _replaced(path: Path) -> None:
    other = path.with_name("other")
    other.write_text("text")
    other.replace(path)


def _touched(path: Path) -> None:
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize("change", [_rewritten, _replaced, _touched, Path.unlink], ids=lambda change: change.__name__)
def test_a_changed_file_has_another_fingerprint(tmp_path: Path, change: Callable[[Path], object]) -> None:
    path = tmp_path / "file"
    path.write_text("text")
    os.utime(path, ns=(1_000_000_000, 1_000_000_000))
    before = fingerprint(path)
    assert fingerprint(path) == before
    change(path)
    assert fingerprint(path) != before


def test_a_fingerprint_covers_all_files_and_links_to_them(tmp_path: Path) -> None:
    """As a volume of Kubernetes has it: `..data` is another directory after a change."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "key").write_text("text")
    data, other = tmp_path / "..data", tmp_path / "fixed"
    other.write_text("text")
    data.symlink_to("one")
    before = fingerprint(other, data / "key")
    (tmp_path / "new").symlink_to("two")
    (tmp_path / "new").replace(data)
    assert fingerprint(other, data / "key") != before
    assert len(fingerprint(tmp_path / "absent", other)) == 5
