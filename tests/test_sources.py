"""The registry follows the watched directories, whatever happens to them between two looks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packregistry import archive, directory, sources
from packregistry import pack as pack_module
from packregistry.config import Limits
from packregistry.errors import ReleaseConflictError, StorageFullError, StorageUnavailableError
from packregistry.model import PackName, PackRecord, Problem, Tag
from packregistry.registry import Registry
from packregistry.sightings import Sighting, Sightings
from packregistry.sources import Outcome, Sources, claims
from packregistry.storage.filesystem import FilesystemStorage
from tests.factories import ANN, make_pack, publish

SETTLE = 60.0
LATER = 1e6
HELLO = PackName("hello")


@dataclass
class Site:
    """A registry, its watched roots, and the clocks that decide what is still.

    The clock runs far ahead of the files' times, so that they have been still for long; with `now` it does not.
    """

    registry: Registry
    roots: list[Path]
    limits: Limits = field(default_factory=Limits)
    ahead: float = LATER
    monotonic: float = 0.0
    sources: Sources = field(init=False)

    async def restart(self, roots: list[Path] | None = None, limits: Limits | None = None) -> bool:
        """Begin anew, as after a restart: what is in memory is lost. Return whether the roots were known."""
        self.roots, self.limits = roots or self.roots, limits or self.limits
        await self.stop()
        self.sources = Sources(
            self.registry,
            self.roots,
            self.limits,
            settle=SETTLE,
            clock=lambda: time.time() + self.ahead,
            monotonic=lambda: self.monotonic,
        )
        return await self.sources.open()

    async def stop(self) -> None:
        if hasattr(self, "sources"):
            await self.sources.close()

    def now(self) -> None:
        """From now on files that were just written have just been written."""
        self.ahead = 0.0

    async def look(self, after: float = 0.0) -> Outcome:
        self.monotonic += after
        return await self.sources.look()

    async def settled(self) -> None:
        """Look until nothing is waited for any more."""
        for _ in range(4):
            if not (await self.look(SETTLE)).unsettled:
                return
        raise AssertionError("the directories do not settle")

    def releases(self) -> dict[str, str]:
        """`name:tag` → the directory it comes from, by its name, or nothing."""
        return {
            f"{pack.name}:{release.tag}": Path(release.origin.directory).name
            for pack in self.registry.packs()
            for release in pack.releases
        }

    def history(self, name: str = "hello") -> list[tuple[str, str]]:
        """What happened to a pack: action and tag."""
        entries = self.registry._packs[PackName(name)].record.history
        return [(entry.action, str(entry.tag)) for entry in entries]

    def problems(self) -> dict[str, list[str]]:
        """What is listed as not published, and why, by the name of the directory."""
        listed = Sightings.load(self.registry.storage.local / "sources.json").unpublished()
        return {path.name: [problem.message for problem in found] for path, _, found in listed}


@contextlib.asynccontextmanager
async def opened(place: Path, *names: str) -> AsyncIterator[Site]:
    roots = [place / name for name in names or ("packs",)]
    for root in roots:
        root.mkdir()
    registry = Registry(FilesystemStorage(place / "data"))
    await registry.open()
    site = Site(registry, roots)
    await site.restart()
    try:
        yield site
    finally:
        await site.stop()
        await registry.close()


@pytest.fixture(autouse=True)
def _without_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Durability is the storage's, and tested there."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
async def site(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Site]:
    caplog.set_level(logging.INFO, "packregistry")
    async with opened(tmp_path) as opened_site:
        yield opened_site


@pytest.fixture
def packs(tmp_path: Path, site: Site) -> Path:
    return site.roots[0]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch, packs: Path) -> list[str]:
    """The files below the root that are opened, by their names."""
    found = []
    real = os.open

    def counting(path: Any, *args: Any, **kwargs: Any) -> int:
        if str(path).startswith(str(packs)):
            found.append(Path(path).name)
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", counting)
    return found


def spoil(root: Path) -> None:
    """Make a pack invalid."""
    (root / "logo.png").unlink()


def mend(root: Path) -> None:
    shutil.copy(make_pack(root.parent.parent / "spare") / "logo.png", root / "logo.png")


def tick(place: Path) -> None:
    """Wait until the file system's clock has ticked: two changes within one tick look like one."""
    probe = place / "probe"
    probe.touch()
    before = probe.stat().st_ctime_ns
    while probe.stat().st_ctime_ns == before:
        probe.touch()


def move(source: Path, target: Path) -> None:
    """Rename a root, over what is no directory."""
    target.unlink(missing_ok=True)
    source.rename(target)


def put(place: Path, kind: str) -> None:
    """Put something that is no directory, or nothing."""
    if kind == "a file":
        place.write_text("")
    elif kind == "a link to nothing":
        place.symlink_to("nowhere")


def messages(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == level]


class TestFollowing:
    async def test_what_is_new_is_published(self, site: Site, packs: Path, caplog: pytest.LogCaptureFixture) -> None:
        make_pack(packs, "hello", "1.0.0")
        make_pack(packs / "deep" / "er", "other", "2.0.0", group="lts")
        assert await site.look() == Outcome(2, 0, unsettled=False)
        assert site.releases() == {"hello:1.0.0": "hello-1.0.0", "other:lts__2.0.0": "other-2.0.0"}
        assert site.history() == [("publish", "1.0.0")]
        assert f"created hello:1.0.0 from {packs / 'hello-1.0.0'}" in caplog.text

    async def test_what_is_as_it_was_is_left_alone(self, site: Site, packs: Path, reads: list[str]) -> None:
        make_pack(packs)
        await site.look()
        assert "pack.json" in reads
        reads.clear()
        state = (site.registry.storage.local / "sources.json").stat()
        assert await site.look() == Outcome(0, 0, unsettled=False)
        assert reads == []
        assert (site.registry.storage.local / "sources.json").stat() == state

    async def test_what_changed_replaces_its_release(self, site: Site, packs: Path) -> None:
        root = make_pack(packs)
        await site.look()
        before = site.registry.find(HELLO, Tag("1.0.0"))
        (root / "README.md").write_text("# another\n")
        assert await site.look() == Outcome(1, 0, unsettled=False)
        after = site.registry.find(HELLO, Tag("1.0.0"))
        assert before
        assert after
        assert before.content.digest != after.content.digest
        assert site.history() == [("publish", "1.0.0"), ("replace", "1.0.0")]
        assert site.registry.pack(HELLO).record.history[-1].user == "directory"

    async def test_what_is_only_touched_stays_as_it_is(self, site: Site, packs: Path, tmp_path: Path) -> None:
        root = make_pack(packs)
        await site.look()
        release = site.registry.find(HELLO, Tag("1.0.0"))
        tick(tmp_path)
        os.utime(root / "pack.json")
        assert await site.look() == Outcome(0, 0, unsettled=False)
        assert site.registry.find(HELLO, Tag("1.0.0")) == release
        assert site.history() == [("publish", "1.0.0")]

    async def test_a_version_that_is_bumped_in_place_takes_the_old_one_away(
        self, site: Site, packs: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        root = make_pack(packs, version="1.0.0", directory="hello")
        await site.look()
        make_pack(packs, version="1.10.0", directory="hello")
        assert await site.look() == Outcome(1, 1, unsettled=False)
        assert site.releases() == {"hello:1.10.0": "hello"}
        assert site.history() == [("publish", "1.0.0"), ("publish", "1.10.0"), ("withdraw", "1.0.0")]
        assert f"withdrew hello:1.0.0: {root} is another version now" in caplog.text

    async def test_a_directory_that_is_renamed_keeps_its_release(self, site: Site, packs: Path) -> None:
        root = make_pack(packs)
        await site.look()
        root.rename(packs / "renamed")
        assert await site.look() == Outcome(0, 0, unsettled=False)
        assert site.releases() == {"hello:1.0.0": "renamed"}
        assert site.history() == [("publish", "1.0.0")]

    async def test_a_directory_that_is_renamed_is_never_missed_even_while_it_settles(
        self, site: Site, packs: Path
    ) -> None:
        root = make_pack(packs)
        await site.look()
        site.now()
        root.rename(packs / "renamed")
        for after in (0, SETTLE / 2, SETTLE / 2):
            await site.look(after)
            assert list(site.releases()) == ["hello:1.0.0"]
        assert site.releases() == {"hello:1.0.0": "renamed"}
        assert site.history() == [("publish", "1.0.0")]

    async def test_two_directories_that_change_places_keep_both_releases(self, site: Site, packs: Path) -> None:
        for version in ("1.0.0", "2.0.0"):
            make_pack(packs, version=version)
        await site.look()
        (packs / "hello-1.0.0").rename(packs / "t")
        (packs / "hello-2.0.0").rename(packs / "hello-1.0.0")
        (packs / "t").rename(packs / "hello-2.0.0")
        await site.look()
        assert site.releases() == {"hello:2.0.0": "hello-1.0.0", "hello:1.0.0": "hello-2.0.0"}
        assert site.history() == [("publish", "1.0.0"), ("publish", "2.0.0")] or site.history() == [
            ("publish", "2.0.0"),
            ("publish", "1.0.0"),
        ]

    async def test_what_is_gone_is_withdrawn_once_it_has_been_gone_for_long_enough(
        self, site: Site, packs: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        root = make_pack(packs)
        await site.look()
        shutil.rmtree(root)
        assert await site.look() == Outcome(0, 0, unsettled=True)
        assert await site.look(SETTLE - 1) == Outcome(0, 0, unsettled=True)
        assert site.releases() == {"hello:1.0.0": "hello-1.0.0"}
        assert await site.look(1) == Outcome(0, 1, unsettled=False)
        assert site.releases() == {}
        assert site.history()[-1] == ("withdraw", "1.0.0")
        assert f"withdrew hello:1.0.0: {root} is gone" in caplog.text

    async def test_what_comes_back_in_time_was_never_gone(self, site: Site, packs: Path) -> None:
        root = make_pack(packs)
        await site.look()
        for _ in range(3):
            root.rename(packs.parent / "aside")
            assert (await site.look(SETTLE - 1)).unsettled
            (packs.parent / "aside").rename(root)
            assert not (await site.look(SETTLE - 1)).unsettled
        assert site.history() == [("publish", "1.0.0")]

    async def test_what_somebody_else_takes_away_meanwhile_is_not_waited_for(self, site: Site, packs: Path) -> None:
        make_pack(packs)
        await site.look()
        shutil.rmtree(packs / "hello-1.0.0")
        assert (await site.look()).unsettled
        await site.registry.withdraw(HELLO, [Tag("1.0.0")], by=ANN)
        assert await site.look() == Outcome(0, 0, unsettled=False)

    async def test_a_release_that_vanished_from_the_registry_is_published_again(self, site: Site, packs: Path) -> None:
        make_pack(packs)
        await site.look()
        await site.registry.withdraw(HELLO, [Tag("1.0.0")], by=ANN)
        assert await site.look() == Outcome(1, 0, unsettled=False)
        assert site.releases() == {"hello:1.0.0": "hello-1.0.0"}

    async def test_a_release_that_is_not_what_was_published_is_published_again(self, site: Site, packs: Path) -> None:
        """As when the registry's records were restored from a backup."""
        root = make_pack(packs)
        await site.look()
        storage = site.registry.storage
        old, _ = await storage.read_record(HELLO)
        (root / "README.md").write_text("# another\n")
        await site.look()
        _, version = await storage.read_record(HELLO)
        await storage.write_record(old, version)
        assert await site.look() == Outcome(1, 0, unsettled=False)
        assert await site.look() == Outcome(0, 0, unsettled=False)

    async def test_what_another_writer_published_is_seen(self, tmp_path: Path, site: Site) -> None:
        other = Registry(FilesystemStorage(tmp_path / "data"))
        await other.open()
        make_pack(site.roots[0])
        await site.look()
        await other.refresh()
        await other.withdraw(HELLO, [Tag("1.0.0")], by=ANN)
        assert (await site.look()).published == 1
        await other.close()

    async def test_many_packs_are_published_with_few_open_files(
        self, site: Site, packs: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in range(20):
            make_pack(packs, version=f"1.{number}.0")
        storage = site.registry.storage
        real, now, most = storage.stage, 0, 0

        @contextlib.contextmanager
        def counting() -> Iterator[Any]:
            nonlocal now, most
            # The storage stages files of its own, in its threads; here only archives count.
            archives = int(threading.current_thread() is threading.main_thread())
            now += archives
            most = max(most, now)
            with real() as staged:
                yield staged
            now -= archives

        monkeypatch.setattr(storage, "stage", counting)
        assert (await site.look()).published == 20
        assert 0 < most <= 16


class TestStillness:
    async def test_what_was_just_written_is_published_when_it_is_the_same_after_a_while(
        self, site: Site, packs: Path, reads: list[str]
    ) -> None:
        site.now()
        make_pack(packs)
        assert await site.look() == Outcome(0, 0, unsettled=True)
        assert await site.look(SETTLE - 1) == Outcome(0, 0, unsettled=True)
        assert reads == []
        assert await site.look(1) == Outcome(1, 0, unsettled=False)

    async def test_what_has_been_still_by_its_own_times_is_published_at_the_first_look(
        self, site: Site, packs: Path
    ) -> None:
        make_pack(packs)
        site.ahead = SETTLE + 1
        assert await site.look() == Outcome(1, 0, unsettled=False)

    async def test_what_is_being_copied_is_not_published_in_part(self, site: Site, packs: Path) -> None:
        site.now()
        source = make_pack(packs.parent / "source", files={"charts/a.tgz": b"x" * 100})
        target = packs / "copy"
        target.mkdir()
        for number, path in enumerate(sorted(path for path in source.rglob("*") if path.is_file())):
            (target / path.relative_to(source)).parent.mkdir(exist_ok=True)
            shutil.copy(path, target / path.relative_to(source))
            outcome = await site.look(SETTLE - 1)
            assert outcome.published == 0, number
        await site.look(SETTLE)
        assert site.releases() == {"hello:1.0.0": "copy"}
        assert site.history() == [("publish", "1.0.0")]

    async def test_times_in_the_future_do_not_keep_a_pack_from_being_published(self, site: Site, packs: Path) -> None:
        """The clock of a file server may be ahead of ours."""
        make_pack(packs)
        site.ahead = -LATER
        await site.look()
        assert (await site.look(SETTLE)).published == 1

    async def test_a_published_pack_keeps_its_release_while_it_changes(self, site: Site, packs: Path) -> None:
        root = make_pack(packs)
        await site.look()
        site.now()
        for number in range(3):
            (root / "README.md").write_text("x" * number)
            assert await site.look(SETTLE - 1) == Outcome(0, 0, unsettled=True)
        assert site.history() == [("publish", "1.0.0")]
        assert await site.look(SETTLE) == Outcome(1, 0, unsettled=False)

    async def test_a_pack_that_is_gone_again_is_not_waited_for(self, site: Site, packs: Path) -> None:
        site.now()
        root = make_pack(packs)
        assert (await site.look()).unsettled
        shutil.rmtree(root)
        assert not (await site.look()).unsettled

    @pytest.mark.parametrize("when", ["lint", "pack"])
    async def test_a_pack_that_changes_while_it_is_read_is_read_again(
        self, site: Site, packs: Path, monkeypatch: pytest.MonkeyPatch, when: str, tmp_path: Path
    ) -> None:
        """And its old release stays until then."""
        root = make_pack(packs, version="1.0.0", directory="hello")
        await site.look()
        tick(tmp_path)
        make_pack(packs, version="2.0.0", directory="hello")
        module, name = {"lint": (sources, "lint"), "pack": (archive, "pack")}[when]
        real = getattr(module, name)

        def changing(*args: Any) -> Any:
            tick(tmp_path)
            (root / "README.md").write_text("longer than it was")
            return real(*args)

        with monkeypatch.context() as patch:
            patch.setattr(module, name, changing)
            outcome = await site.look()
        assert outcome == Outcome(0, 0, unsettled=True)
        assert site.releases() == {"hello:1.0.0": "hello"}
        assert await site.look() == Outcome(1, 1, unsettled=False)
        assert site.releases() == {"hello:2.0.0": "hello"}

    async def test_a_file_that_differs_between_linting_and_packing_is_noticed(
        self, site: Site, packs: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Even where its times do not show it."""
        make_pack(packs)
        real = directory.Tree.read

        def other(*args: Any) -> Any:
            files, problems = real(*args)
            return {**files, "README.md": b"# another\n"}, problems

        with monkeypatch.context() as patch:
            patch.setattr(directory.Tree, "read", other)
            assert await site.look() == Outcome(0, 0, unsettled=True)
        assert await site.look() == Outcome(1, 0, unsettled=False)

    async def test_a_pack_that_vanishes_while_it_is_read_is_no_error(
        self, site: Site, packs: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        root = make_pack(packs)
        real = directory.Tree.read

        def vanishing(*args: Any) -> Any:
            shutil.rmtree(root)
            return real(*args)

        monkeypatch.setattr(directory.Tree, "read", vanishing)
        assert await site.look() == Outcome(0, 0, unsettled=True)
        assert await site.look() == Outcome(0, 0, unsettled=False)
        assert not messages(caplog, logging.ERROR)


class TestInvalid:
    async def test_it_is_skipped_listed_and_logged_exactly_once(
        self, site: Site, packs: Path, caplog: pytest.LogCaptureFixture, reads: list[str]
    ) -> None:
        spoil(make_pack(packs, "bad"))
        make_pack(packs, "good")
        assert await site.look() == Outcome(1, 0, unsettled=False)
        assert site.releases() == {"good:1.0.0": "good-1.0.0"}
        assert site.problems() == {"bad-1.0.0": ["is missing"]}
        reads.clear()
        for _ in range(2):
            assert await site.look() == Outcome(0, 0, unsettled=False)
        await site.restart()
        assert await site.look() == Outcome(0, 0, unsettled=False)
        (message,) = messages(caplog, logging.ERROR)
        assert message.startswith(f"{packs / 'bad-1.0.0'} is not published: ")
        assert "logo.png: is missing" in message
        assert reads == []

    async def test_its_last_good_release_stays_and_it_recovers(self, site: Site, packs: Path) -> None:
        root = make_pack(packs)
        await site.look()
        spoil(root)
        assert await site.look(SETTLE) == Outcome(0, 0, unsettled=False)
        assert await site.look(SETTLE) == Outcome(0, 0, unsettled=False)
        assert site.releases() == {"hello:1.0.0": "hello-1.0.0"}
        mend(root)
        assert await site.look() == Outcome(0, 0, unsettled=False)
        assert site.problems() == {}
        assert site.history() == [("publish", "1.0.0")]

    @pytest.mark.parametrize("lost", [False, True], ids=["restarted", "state lost"])
    async def test_its_last_good_release_stays_even_when_the_version_changed_and_memory_is_lost(
        self, site: Site, packs: Path, lost: bool
    ) -> None:
        root = make_pack(packs, version="1.0.0", directory="hello")
        await site.look()
        make_pack(packs, version="2.0.0", directory="hello")
        spoil(root)
        await site.look()
        if lost:
            (site.registry.storage.local / "sources.json").unlink()
        await site.restart()
        for _ in range(3):
            await site.look(SETTLE)
        assert site.releases() == {"hello:1.0.0": "hello"}
        mend(root)
        await site.look()
        assert site.releases() == {"hello:2.0.0": "hello"}

    async def test_its_last_good_release_goes_with_the_directory(self, site: Site, packs: Path) -> None:
        root = make_pack(packs)
        await site.look()
        spoil(root)
        await site.look()
        shutil.rmtree(root)
        await site.settled()
        assert site.releases() == {}
        assert site.problems() == {}

    async def test_another_problem_is_logged_again(
        self, site: Site, packs: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        root = make_pack(packs)
        spoil(root)
        await site.look()
        (root / "pack.json").write_text("{")
        await site.look()
        assert len(messages(caplog, logging.ERROR)) == 2

    async def test_a_file_over_the_limit_gets_another_chance_with_a_higher_one(self, site: Site, packs: Path) -> None:
        make_pack(packs, files={"README.md": b"x" * 5000})
        await site.restart(limits=replace(Limits(), metadata=4999))
        await site.look()
        assert site.problems() == {"hello-1.0.0": ["the file has 5000 bytes"]}
        await site.restart(limits=Limits())
        assert (await site.look()).published == 1

    async def test_an_archive_over_the_limit_is_refused_once_and_gets_another_chance(
        self, site: Site, packs: Path, caplog: pytest.LogCaptureFixture, reads: list[str]
    ) -> None:
        root = make_pack(packs)
        await site.look()
        (root / "noise").write_bytes(os.urandom(5000))
        await site.restart(limits=replace(Limits(), archive=4000))
        await site.look()
        reads.clear()
        await site.look(SETTLE)
        assert reads == []
        assert site.releases() == {"hello:1.0.0": "hello-1.0.0"}
        assert site.history() == [("publish", "1.0.0")]
        (problem,) = site.problems()["hello-1.0.0"]
        assert problem.startswith("the archive has ")
        assert len(messages(caplog, logging.ERROR)) == 1
        await site.restart(limits=Limits())
        assert (await site.look()).published == 1

    async def test_a_fault_of_ours_with_one_pack_does_not_hold_up_the_others(
        self, site: Site, packs: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        for name in ("cursed", "hello", "hexed"):
            make_pack(packs, name)
        real_lint, real_pack = pack_module.lint, archive.pack

        def lint(files: dict[str, bytes], members: dict[str, int]) -> Any:
            if b"cursed" in files["pack.json"]:
                raise RecursionError("too deep")
            return real_lint(files, members)

        def pack(files: Any, folder: str, out: Any) -> Any:
            if "hexed" in folder:
                raise ZeroDivisionError
            return real_pack(files, folder, out)

        with monkeypatch.context() as patch:
            patch.setattr(sources, "lint", lint)
            patch.setattr(archive, "pack", pack)
            await site.look()
        assert list(site.releases()) == ["hello:1.0.0"]
        assert "too deep" in caplog.text
        assert "ZeroDivisionError" in caplog.text
        await site.look()
        assert list(site.releases()) == ["cursed:1.0.0", "hello:1.0.0", "hexed:1.0.0"]


class TestTwins:
    async def test_the_first_wins_and_a_warning_names_both_once(
        self, site: Site, packs: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        for name in ("b", "a", "c"):
            make_pack(packs, directory=name, files={"README.md": name.encode()})
        assert (await site.look()).published == 1
        assert site.releases() == {"hello:1.0.0": "a"}
        await site.look()
        await site.restart()
        await site.look()
        assert messages(caplog, logging.WARNING) == [
            f"{packs / name} is not used: hello:1.0.0 is published from {packs / 'a'}" for name in ("b", "c")
        ]
        assert site.problems() == {name: [f"the same pack is published from {packs / 'a'}"] for name in ("b", "c")}

    async def test_the_order_of_the_roots_comes_before_that_of_names(self, tmp_path: Path) -> None:
        async with opened(tmp_path, "z", "a") as site:
            for root in site.roots:
                make_pack(root, directory=root.name)
            await site.look()
            assert site.releases() == {"hello:1.0.0": "z"}

    async def test_the_next_takes_over_when_the_first_goes(self, site: Site, packs: Path) -> None:
        for name in ("a", "b"):
            make_pack(packs, directory=name, files={"README.md": name.encode()})
        await site.look()
        shutil.rmtree(packs / "a")
        assert await site.look() == Outcome(1, 0, unsettled=False)
        assert site.releases() == {"hello:1.0.0": "b"}
        assert site.history() == [("publish", "1.0.0"), ("replace", "1.0.0")]
        assert site.problems() == {}

    async def test_the_next_takes_over_when_the_first_is_another_version(self, site: Site, packs: Path) -> None:
        for name in ("a", "b"):
            make_pack(packs, directory=name)
        await site.look()
        make_pack(packs, directory="a", version="2.0.0")
        await site.look()
        assert site.releases() == {"hello:2.0.0": "a", "hello:1.0.0": "b"}
        assert site.history() == [("publish", "1.0.0"), ("publish", "2.0.0")]

    async def test_one_that_comes_earlier_takes_over(self, site: Site, packs: Path) -> None:
        make_pack(packs, directory="b")
        await site.look()
        make_pack(packs, directory="a")
        await site.look()
        assert site.releases() == {"hello:1.0.0": "a"}
        assert list(site.problems()) == ["b"]

    async def test_one_that_takes_over_again_is_where_the_release_comes_from(self, site: Site, packs: Path) -> None:
        """So that it keeps the release when it becomes invalid then."""
        make_pack(packs, directory="b")
        await site.look()
        make_pack(packs, directory="a")
        await site.look()
        shutil.rmtree(packs / "a")
        await site.look()
        assert site.releases() == {"hello:1.0.0": "b"}
        assert site.history() == [("publish", "1.0.0")]

    async def test_the_first_keeps_its_place_while_it_is_invalid(self, site: Site, packs: Path) -> None:
        for name in ("a", "b"):
            make_pack(packs, directory=name)
        await site.look()
        spoil(packs / "a")
        await site.look(SETTLE)
        assert site.releases() == {"hello:1.0.0": "a"}
        assert sorted(site.problems()) == ["a", "b"]

    async def test_one_that_was_never_good_stands_for_nothing(self, site: Site, packs: Path) -> None:
        for name in ("a", "b"):
            make_pack(packs, directory=name)
        spoil(packs / "a")
        await site.look()
        assert site.releases() == {"hello:1.0.0": "b"}
        mend(packs / "a")
        await site.look()
        assert site.releases() == {"hello:1.0.0": "a"}

    async def test_a_first_that_cannot_be_read_now_keeps_its_place(self, tmp_path: Path) -> None:
        async with opened(tmp_path, "one", "two") as site:
            for root in site.roots:
                make_pack(root, directory=root.name, files={"README.md": root.name.encode()})
            await site.look()
            site.roots[0].rename(tmp_path / "aside")
            for _ in range(2):
                assert await site.look(SETTLE) == Outcome(0, 0, unsettled=False)
            assert site.releases() == {"hello:1.0.0": "one"}


class TestPushed:
    async def test_a_release_that_was_pushed_is_not_replaced(
        self, site: Site, packs: Path, caplog: pytest.LogCaptureFixture, reads: list[str]
    ) -> None:
        await publish(site.registry, files={"README.md": b"pushed"})
        make_pack(packs)
        assert await site.look() == Outcome(0, 0, unsettled=False)
        assert site.releases() == {"hello:1.0.0": ""}
        assert site.problems() == {"hello-1.0.0": ["hello:1.0.0 exists with other content"]}
        reads.clear()
        await site.restart()
        await site.look(SETTLE)
        assert reads == []
        assert len(messages(caplog, logging.ERROR)) == 1

    async def test_when_the_pushed_one_goes_the_directory_is_published(self, site: Site, packs: Path) -> None:
        await publish(site.registry, files={"README.md": b"pushed"})
        make_pack(packs)
        await site.look()
        await site.registry.withdraw(HELLO, [Tag("1.0.0")], by=ANN)
        assert await site.look() == Outcome(1, 0, unsettled=False)
        assert site.releases() == {"hello:1.0.0": "hello-1.0.0"}
        assert site.problems() == {}

    async def test_when_the_pushed_one_becomes_the_same_there_is_no_conflict(self, site: Site, packs: Path) -> None:
        await publish(site.registry, files={"README.md": b"pushed"})
        make_pack(packs)
        await site.look()
        await site.registry.withdraw(HELLO, [Tag("1.0.0")], by=ANN)
        await publish(site.registry)
        assert await site.look() == Outcome(0, 0, unsettled=False)
        assert site.problems() == {}
        assert site.releases() == {"hello:1.0.0": ""}

    async def test_when_another_is_pushed_in_its_place_that_is_a_conflict_as_well(
        self, site: Site, packs: Path
    ) -> None:
        make_pack(packs)
        await site.look()
        await site.registry.withdraw(HELLO, [Tag("1.0.0")], by=ANN)
        await publish(site.registry, files={"README.md": b"pushed"})
        await site.look()
        assert list(site.problems()) == ["hello-1.0.0"]

    async def test_a_pushed_release_of_the_same_content_outlives_the_directory(self, site: Site, packs: Path) -> None:
        await publish(site.registry)
        root = make_pack(packs)
        await site.look()
        shutil.rmtree(root)
        await site.settled()
        assert site.releases() == {"hello:1.0.0": ""}


class TestRoots:
    @pytest.mark.parametrize("how", ["missing", "a file", "a link to nothing"])
    async def test_a_root_that_is_no_directory_withdraws_nothing_and_is_listed(
        self, site: Site, packs: Path, caplog: pytest.LogCaptureFixture, how: str
    ) -> None:
        make_pack(packs)
        await site.look()
        move(packs, packs.parent / "aside")
        put(packs, how)
        for _ in range(3):
            assert await site.look(SETTLE) == Outcome(0, 0, unsettled=False)
        assert site.releases() == {"hello:1.0.0": "hello-1.0.0"}
        assert list(site.problems()) == ["packs"]
        (message,) = messages(caplog, logging.ERROR)
        assert message.startswith(f"{packs}: cannot be read")
        move(packs.parent / "aside", packs)
        await site.look()
        assert site.problems() == {}

    async def test_a_root_that_is_missing_at_a_restart_withdraws_nothing(self, site: Site, packs: Path) -> None:
        make_pack(packs)
        await site.look()
        move(packs, packs.parent / "aside")
        (site.registry.storage.local / "sources.json").unlink()
        await site.restart()
        await site.look(SETTLE)
        await site.look(SETTLE)
        assert site.releases() == {"hello:1.0.0": "hello-1.0.0"}

    async def test_a_directory_that_cannot_be_entered_withdraws_nothing_below_it(
        self, site: Site, packs: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_pack(packs / "closed", "kept")
        make_pack(packs / "open", "gone")
        await site.look()
        shutil.rmtree(packs / "open")
        real = os.scandir

        def refusing(path: Any) -> Any:
            if Path(path) == packs / "closed":
                raise PermissionError(13, "Permission denied", str(path))
            return real(path)

        monkeypatch.setattr(os, "scandir", refusing)
        await site.settled()
        assert site.releases() == {"kept:1.0.0": "kept-1.0.0"}
        assert list(site.problems()) == ["closed"]

    async def test_another_file_system_without_packs_in_its_place_withdraws_nothing(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """As when a volume is not mounted any more, and its mount point is seen instead."""
        async with opened(tmp_path, "volume") as site:
            root = site.roots[0]
            (tmp_path / "packs").symlink_to("volume")
            await site.restart(roots=[tmp_path / "packs"])
            make_pack(root)
            await site.look()
            with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
                (tmp_path / "packs").unlink()
                (tmp_path / "packs").symlink_to(other)
                for _ in range(3):
                    assert await site.look(SETTLE) == Outcome(0, 0, unsettled=False)
                assert site.releases() == {"hello:1.0.0": "hello-1.0.0"}
                assert list(site.problems()) == ["packs"]
                assert len(messages(caplog, logging.ERROR)) == 1
                make_pack(Path(other), "other")
                await site.settled()
                assert site.releases() == {"other:1.0.0": "other-1.0.0"}

    async def test_a_root_that_was_emptied_withdraws_everything(self, site: Site, packs: Path) -> None:
        make_pack(packs, "one")
        make_pack(packs, "two")
        await site.look()
        for name in ("one", "two"):
            shutil.rmtree(packs / f"{name}-1.0.0")
        await site.settled()
        assert site.releases() == {}

    async def test_a_root_taken_out_of_the_configuration_withdraws_its_packs(self, tmp_path: Path) -> None:
        async with opened(tmp_path, "one", "two") as site:
            for root in site.roots:
                make_pack(root, root.name)
            await site.look()
            assert await site.restart(roots=[tmp_path / "two"])
            await site.settled()
            assert list(site.releases()) == ["two:1.0.0"]

    async def test_a_root_added_to_the_configuration_is_not_known_yet(self, tmp_path: Path) -> None:
        async with opened(tmp_path, "one", "two") as site:
            await site.restart(roots=[tmp_path / "one"])
            await site.look()
            assert await site.restart(roots=[tmp_path / "one"])
            assert not await site.restart(roots=[tmp_path / "one", tmp_path / "two"])

    async def test_roots_that_lie_in_each_other_or_are_the_same_give_each_pack_once(
        self, site: Site, packs: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        make_pack(packs / "team")
        await site.restart(roots=[packs / "team", packs, packs])
        assert await site.look() == Outcome(1, 0, unsettled=False)
        assert not messages(caplog, logging.WARNING)

    async def test_a_relative_root_means_the_working_directory(
        self, site: Site, packs: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_pack(packs)
        monkeypatch.chdir(packs.parent)
        await site.restart(roots=[Path("packs")])
        monkeypatch.chdir("/")
        assert (await site.look()).published == 1

    async def test_without_roots_there_is_nothing_to_do(self, site: Site) -> None:
        site.roots = []
        assert await site.restart()
        assert await site.look() == Outcome(0, 0, unsettled=False)


class TestRestart:
    async def test_what_is_unchanged_is_not_opened_nor_published_again(
        self, site: Site, packs: Path, reads: list[str]
    ) -> None:
        make_pack(packs, "good")
        make_pack(packs, "good", directory="twin")
        spoil(make_pack(packs, "bad"))
        await site.look()
        reads.clear()
        assert await site.restart()
        assert await site.look() == Outcome(0, 0, unsettled=False)
        assert reads == []
        assert site.history("good") == [("publish", "1.0.0")]

    async def test_what_changed_meanwhile_is_followed(self, site: Site, packs: Path) -> None:
        for name in ("gone", "changed"):
            make_pack(packs, name)
        await site.look()
        await site.stop()
        shutil.rmtree(packs / "gone-1.0.0")
        (packs / "changed-1.0.0" / "README.md").write_text("# another\n")
        make_pack(packs, "new")
        await site.restart()
        await site.settled()
        assert list(site.releases()) == ["changed:1.0.0", "new:1.0.0"]
        assert site.history("changed") == [("publish", "1.0.0"), ("replace", "1.0.0")]

    @pytest.mark.parametrize("data", [None, b"", b"[]"], ids=["missing", "empty", "damaged"])
    async def test_without_what_was_known_everything_is_read_and_nothing_changes(
        self, site: Site, packs: Path, reads: list[str], data: bytes | None
    ) -> None:
        make_pack(packs)
        await site.look()
        state = site.registry.storage.local / "sources.json"
        before = state.read_bytes()
        state.unlink()
        if data is not None:
            state.write_bytes(data)
        reads.clear()
        assert not await site.restart()
        site.now()
        assert await site.look(SETTLE) == Outcome(0, 0, unsettled=True)
        assert await site.look(SETTLE) == Outcome(0, 0, unsettled=False)
        assert "pack.json" in reads
        assert site.history() == [("publish", "1.0.0")]
        assert state.read_bytes() == before

    async def test_what_cannot_be_remembered_is_remembered_later(
        self, site: Site, packs: Path, monkeypatch: pytest.MonkeyPatch, reads: list[str]
    ) -> None:
        make_pack(packs)

        def full(self: Sightings, path: Path) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(Sightings, "save", full)
            with pytest.raises(OSError, match="No space"):
                await site.look()
        reads.clear()
        await site.look()
        assert reads == []
        assert site.problems() == {}
        assert (site.registry.storage.local / "sources.json").exists()


class TestStorageErrors:
    @pytest.mark.parametrize(
        "error", [StorageFullError("full"), OSError(28, "No space left on device")], ids=["storage", "operating system"]
    )
    async def test_publishing_is_tried_again_and_the_old_release_stays(
        self,
        site: Site,
        packs: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        error: Exception,
    ) -> None:
        make_pack(packs, version="1.0.0", directory="hello")
        await site.look()
        make_pack(packs, version="2.0.0", directory="hello")

        async def failing(*_: Any) -> None:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(site.registry.storage, "put", failing)
            assert (await site.look()).published == 0
        assert site.releases() == {"hello:1.0.0": "hello"}
        assert "is not published, and will be tried again" in caplog.text
        await site.look()
        assert site.releases() == {"hello:2.0.0": "hello"}

    async def test_withdrawing_is_tried_again_and_does_not_hold_up_the_others(
        self, site: Site, packs: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        for name in ("a", "b"):
            make_pack(packs, name)
        await site.look()
        for name in ("a", "b"):
            shutil.rmtree(packs / f"{name}-1.0.0")
        await site.look()
        real = site.registry.storage.read_record

        async def damaged(name: PackName) -> tuple[PackRecord, Any]:
            if name == "a":
                raise StorageUnavailableError("the record of a is damaged")
            return await real(name)

        with monkeypatch.context() as patch:
            patch.setattr(site.registry.storage, "read_record", damaged)
            assert (await site.look(SETTLE)).withdrawn == 1
        assert list(site.releases()) == ["a:1.0.0"]
        assert "a:1.0.0 is not withdrawn, and will be tried again: the record of a is damaged" in caplog.text
        await site.settled()
        assert site.releases() == {}


def identity(version: str) -> tuple[PackName, Tag]:
    return HELLO, Tag(version)


GOOD = Sighting("f", identity("1"))
BAD = Sighting("f", identity("1"), (Problem("error", "", 0, "", "bad"),))


@pytest.mark.parametrize(
    ("known", "held", "winner"),
    [
        ({}, {}, None),
        ({"/r1/a": GOOD}, {}, "/r1/a"),
        ({"/r1/b": GOOD, "/r1/a": GOOD}, {}, "/r1/a"),
        ({"/r1/z": GOOD, "/r0/a": GOOD}, {}, "/r1/z"),
        ({"/r1/a/x": GOOD, "/r1/a-b": GOOD}, {}, "/r1/a/x"),
        ({"/r1/a": BAD}, {}, None),
        ({"/r1/a": BAD}, {"/r1/a": ["1"]}, "/r1/a"),
        ({}, {"/r1/a": ["1"]}, "/r1/a"),
        ({"/r1/b": GOOD}, {"/r1/a": ["1"]}, "/r1/a"),
        ({"/r1/a": Sighting("f", identity("2"))}, {"/r1/a": ["1"]}, None),
        ({"/elsewhere": GOOD, "/r0/a": GOOD}, {}, "/r0/a"),
    ],
)
def test_the_first_directory_that_claims_a_release_stands_for_it(
    known: dict[str, Sighting], held: dict[str, list[str]], winner: str | None
) -> None:
    found = claims(
        [Path("/r1"), Path("/r0")],
        {Path(path): sighting for path, sighting in known.items()},
        {Path(path): [identity(version) for version in versions] for path, versions in held.items()},
    )
    assert found.get(identity("1")) == (Path(winner) if winner else None)


DIRECTORIES = ("one/a", "one/b", "two/a", "two/b")
VERSIONS = ("1.0.0", "2.0.0")


@dataclass
class Model:
    """What the registry is to hold, in the simplest words.

    `disk` has the good packs of each directory as version and content, and None for what is there and is no good.
    `seen` has what each directory was when it could last be looked at.
    """

    disk: dict[str, tuple[str, int] | None] = field(default_factory=dict)
    away: set[str] = field(default_factory=set)
    seen: dict[str, tuple[str, int] | None] = field(default_factory=dict)
    releases: dict[str, tuple[str, int]] = field(default_factory=dict)

    def is_away(self, place: str) -> bool:
        return place.partition("/")[0] in self.away

    def look(self) -> None:
        for place in DIRECTORIES:
            if not self.is_away(place):
                self.seen.pop(place, None)
                if place in self.disk:
                    self.seen[place] = self.disk[place]
        after = {version: release for version, release in self.releases.items() if release[0] == "pushed"}
        for version in VERSIONS:
            first = next((place for place in DIRECTORIES if self.claims(place, version)), None)
            if first is not None and version not in after:
                pack = self.seen.get(first)
                if pack and not self.is_away(first):
                    after[version] = (first, pack[1])
                elif version in self.releases:
                    after[version] = self.releases[version]
        self.releases = after

    def claims(self, place: str, version: str) -> bool:
        pack = self.seen.get(place)
        if pack:
            return pack[0] == version
        present = place in self.seen or self.is_away(place)
        return present and self.releases.get(version, ("",))[0] == place


VERSION = st.sampled_from(VERSIONS)
CONTENT = st.sampled_from((0, 1))
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.sampled_from(DIRECTORIES), VERSION, CONTENT),
        st.tuples(st.sampled_from(("spoil", "remove")), st.sampled_from(DIRECTORIES)),
        st.tuples(st.just("rename"), st.sampled_from(DIRECTORIES), st.sampled_from(DIRECTORIES)),
        st.tuples(st.sampled_from(("away", "back")), st.sampled_from(("one", "two"))),
        st.tuples(st.just("push"), VERSION, CONTENT),
        st.tuples(st.just("withdraw"), VERSION),
        st.tuples(st.sampled_from(("look", "look", "look", "restart", "forget"))),
    ),
    max_size=16,
)


class Machine:
    """Carries out operations on real directories and on the model."""

    def __init__(self, site: Site, place: Path) -> None:
        self.site = site
        self.place = place
        self.model = Model()

    async def do(self, operation: tuple[Any, ...]) -> None:
        name, *arguments = operation
        if any(self.model.is_away(place) for place in arguments if place in DIRECTORIES):
            return
        done = getattr(self, name)(*arguments)
        if done is not None:
            await done

    def write(self, place: str, version: str, content: int) -> None:
        self.remove(place)
        # No two packs that differ have files of the same sizes: within one tick of the clock nothing else tells them.
        readme = b"x" * (10 + 2 * VERSIONS.index(version) + content)
        root, name = place.split("/")
        make_pack(self.place / root, version=version, directory=name, files={"README.md": readme})
        self.model.disk[place] = (version, content)

    def spoil(self, place: str) -> None:
        if self.model.disk.get(place):
            spoil(self.place / place)
            self.model.disk[place] = None

    def remove(self, place: str) -> None:
        shutil.rmtree(self.place / place, ignore_errors=True)
        self.model.disk.pop(place, None)

    def rename(self, place: str, target: str) -> None:
        if place in self.model.disk and place != target:
            self.remove(target)
            (self.place / place).rename(self.place / target)
            self.model.disk[target] = self.model.disk.pop(place)

    def away(self, root: str) -> None:
        if root not in self.model.away:
            (self.place / root).rename(self.place / f"{root}-aside")
            self.model.away.add(root)

    def back(self, root: str) -> None:
        if root in self.model.away:
            (self.place / f"{root}-aside").rename(self.place / root)
            self.model.away.remove(root)

    async def push(self, version: str, content: int) -> None:
        readme = b"x" * (10 + 2 * VERSIONS.index(version) + content)
        before = self.model.releases.get(version)
        if before is None:
            self.model.releases[version] = ("pushed", content)
            await publish(self.site.registry, version=version, files={"README.md": readme})
        elif before[1] != content:
            with pytest.raises(ReleaseConflictError):
                await publish(self.site.registry, version=version, files={"README.md": readme})

    async def withdraw(self, version: str) -> None:
        await self.site.registry.withdraw(HELLO, [Tag(version)], by=ANN)
        self.model.releases.pop(version, None)

    async def restart(self) -> None:
        await self.site.restart()

    async def forget(self) -> None:
        (self.site.registry.storage.local / "sources.json").unlink(missing_ok=True)
        await self.site.restart()
        self.model.seen.clear()

    async def look(self) -> None:
        await self.site.settled()
        self.model.look()
        found = {}
        for pack in self.site.registry.packs():
            for release in pack.releases:
                origin = Path(release.origin.directory)
                readme = release.file("README.md")
                assert readme is not None
                content = readme.size - 10 - 2 * VERSIONS.index(release.version)
                kind = release.origin.kind
                place = str(origin.relative_to(self.place)) if kind == "directory" else "pushed"
                found[release.version] = (place, content)
        assert found == self.model.releases


@given(operations=OPERATIONS)
@settings(max_examples=20, deadline=None)
def test_after_any_changes_the_registry_is_what_the_directories_say(operations: list[tuple[Any, ...]]) -> None:
    async def run(place: Path) -> None:
        async with opened(place, "one", "two") as site:
            machine = Machine(site, place)
            for operation in [*operations, ("look",)]:
                await machine.do(operation)

    with tempfile.TemporaryDirectory() as place:
        asyncio.run(run(Path(place)))
