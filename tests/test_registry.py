"""Publishing, finding and withdrawing: what is refused, what is remembered, and who sees it."""

from __future__ import annotations

import asyncio
import os
import re
import threading
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from blockbuster import blockbuster_ctx

from packregistry import archive
from packregistry.errors import (
    BlobUnknownError,
    NameUnknownError,
    PackInvalidError,
    RecordChangedError,
    ReleaseConflictError,
    StorageUnavailableError,
)
from packregistry.model import HistoryEntry, Member, Origin, PackName, Tag
from packregistry.registry import DIRECTORY, Registry, utc_now
from packregistry.storage.filesystem import FilesystemStorage
from packregistry.storage.journal import Journal
from tests.factories import ANN, PUSHED, incoming, open_registry, pack_files, png, publish, record, release

HELLO = PackName("hello")
HERE, THERE = Origin("directory", "/packs/here"), Origin("directory", "/packs/there")
ONE, TWO = Tag("1.0.0"), Tag("2.0.0")
OTHER_FILES = {"values.yaml": b"changed: true\n"}


@pytest.fixture(autouse=True)
def _no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for no disk: what is durable when is the storage's to test."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    async with open_registry(tmp_path / "data") as registry:
        yield registry


@pytest.fixture
async def other(registry: Registry, tmp_path: Path) -> AsyncIterator[Registry]:
    """A registry on the same data, as another process has it."""
    async with open_registry(tmp_path / "data") as other:
        yield other


def history(registry: Registry) -> list[HistoryEntry]:
    return list(registry._packs[HELLO].record.history)


# Publishing


async def test_a_new_version_is_created(registry: Registry) -> None:
    published = await publish(registry, version="1.0.0")
    assert published.action == "created"
    assert registry.pack(HELLO).release(ONE) == published.release
    assert registry.find(HELLO, ONE) == published.release
    assert registry.names() == ["hello"]


async def test_all_blobs_of_a_release_are_stored(registry: Registry) -> None:
    published = await publish(registry, files={"charts/a.tgz": b"chart"})
    titles = {blob.title for blob in published.release.files}
    assert titles == {"pack.json", "values.yaml", "README.md", "logo.png"}
    for blob in published.release.blobs():
        assert len(await registry.storage.read_blob(blob.digest)) == blob.size
    logo = published.release.file("logo.png")
    assert logo
    assert await registry.storage.read_blob(logo.digest) == png()


async def test_a_release_has_what_its_pack_json_says(registry: Registry) -> None:
    published = await publish(registry, version="1.2.3", group="lts", displayName="Hello!", layer="csi")
    found = published.release
    assert (found.tag, found.version) == ("lts__1.2.3", "1.2.3")
    assert (found.metadata.display_name, found.metadata.layer) == ("Hello!", "csi")
    assert found.archive.title == "hello-1.2.3.tar.gz"
    assert list(registry.pack(HELLO).tags) == ["lts__1.2.3", "lts__1.2.x", "lts__1.x"]


@pytest.mark.parametrize("origin", [PUSHED, HERE], ids=["pushed", "directory"])
async def test_the_same_content_again_is_unchanged(registry: Registry, origin: Origin) -> None:
    first = await publish(registry, origin=origin)
    again = await publish(registry, origin=origin)
    assert again.action == "unchanged"
    assert again.release == first.release
    assert len(history(registry)) == 1


async def test_the_same_content_in_another_directory_moves_the_release(registry: Registry) -> None:
    await publish(registry, origin=HERE)
    moved = await publish(registry, origin=THERE)
    assert moved.action == "unchanged"
    assert moved.release.origin == THERE
    assert registry.find(HELLO, ONE) == moved.release


@pytest.mark.parametrize(("first", "second"), [(PUSHED, HERE), (HERE, PUSHED)], ids=["then found", "then pushed"])
async def test_what_was_pushed_belongs_to_no_directory_with_the_same_content(
    registry: Registry, first: Origin, second: Origin
) -> None:
    await publish(registry, origin=first)
    again = await publish(registry, origin=second)
    assert (again.action, again.release.origin) == ("unchanged", PUSHED)


async def test_other_content_from_a_directory_replaces_what_a_directory_gave(registry: Registry) -> None:
    first = await publish(registry, origin=HERE)
    second = await publish(registry, origin=THERE, files=OTHER_FILES)
    assert second.action == "replaced"
    assert registry.find(HELLO, ONE) == second.release
    assert second.release.archive.digest != first.release.archive.digest


@pytest.mark.parametrize(
    ("first", "second"),
    [(PUSHED, PUSHED), (PUSHED, HERE), (HERE, PUSHED)],
    ids=["pushed twice", "pushed and found", "found and pushed"],
)
async def test_other_content_is_a_conflict_naming_both_digests(
    registry: Registry, first: Origin, second: Origin
) -> None:
    published = await publish(registry, origin=first)
    with pytest.raises(ReleaseConflictError, match=r"hello:1\.0\.0 exists with other content") as caught:
        await publish(registry, origin=second, files=OTHER_FILES)
    detail = caught.value.detail
    assert detail["name"] == "hello"
    assert detail["tag"] == "1.0.0"
    assert detail["existing"] == published.release.archive.digest
    assert re.fullmatch("sha256:[0-9a-f]{64}", detail["offered"])
    assert detail["offered"] != detail["existing"]
    assert registry.find(HELLO, ONE) == published.release
    assert len(history(registry)) == 1


async def test_a_pack_with_errors_is_refused_with_all_of_them(registry: Registry) -> None:
    with pytest.raises(PackInvalidError) as caught:
        await publish(registry, layer="cellar", files={"values.yaml": b"a: ["})
    files = [problem["file"] for problem in caught.value.detail if problem["severity"] == "error"]
    assert files == ["pack.json", "values.yaml"]
    assert "cellar" in caught.value.message
    assert registry.names() == []


async def test_publishing_does_not_block_the_event_loop(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one `stat` that says whether anything has changed is cheaper than asking a thread for it."""
    threads: list[threading.Thread] = []
    listing = archive.listing

    def listed(members: Iterable[Member]) -> bytes:
        threads.append(threading.current_thread())
        return listing(members)

    monkeypatch.setattr(archive, "listing", listed)
    with registry.storage.stage() as staged:
        ready = incoming(pack_files(), staged)
        with blockbuster_ctx() as blockbuster:
            blockbuster.functions["os.stat"].can_block_in("packregistry/storage/journal.py", {"has_news"})
            await registry.publish(ready, origin=PUSHED, by=ANN)
    assert threads
    assert threading.main_thread() not in threads


# History


async def test_every_change_is_a_history_entry(tmp_path: Path) -> None:
    times = iter(["t1", "t2", "t3", "t4"])
    registry = Registry(FilesystemStorage(tmp_path), now=lambda: next(times))
    await registry.open()
    first = await publish(registry, origin=HERE, by=DIRECTORY)
    second = await publish(registry, origin=HERE, by=DIRECTORY, files=OTHER_FILES, message="why")
    await publish(registry, origin=HERE, by=DIRECTORY, files=OTHER_FILES)
    await registry.withdraw(HELLO, [ONE], by=ANN, message="gone")
    one, two = first.release.archive.digest, second.release.archive.digest
    assert history(registry) == [
        HistoryEntry(1, "t1", "directory", "publish", ONE, None, one),
        HistoryEntry(2, "t2", "directory", "replace", ONE, one, two, "why"),
        HistoryEntry(3, "t4", "ann", "withdraw", ONE, two, None, "gone"),
    ]
    await registry.close()


def test_times_are_utc_to_the_millisecond() -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", utc_now())


# Withdrawing


async def test_a_withdrawn_release_is_gone_with_its_tags(registry: Registry) -> None:
    await publish(registry, version="1.0.0")
    await publish(registry, version="2.0.0")
    await registry.withdraw(HELLO, [TWO], by=ANN)
    assert list(registry.pack(HELLO).tags) == ["1.0.0", "1.0.x", "1.x"]
    assert registry.find(HELLO, TWO) is None


async def test_added_tags_go_with_what_they_stand_for(registry: Registry) -> None:
    one, two = (await publish(registry, version="1.0.0")), (await publish(registry, version="2.0.0"))
    _, state = await registry.storage.read_record(HELLO)
    tags = {"stable": "1.0.0", "edge": "2.0.0"}
    await registry.storage.write_record(record("hello", one.release, two.release, tags=tags), state)
    await registry.withdraw(HELLO, [ONE], by=ANN)
    assert registry.pack(HELLO).record.tags == {"edge": "2.0.0"}


async def test_a_pack_without_releases_is_unknown_and_keeps_its_history(registry: Registry) -> None:
    await publish(registry)
    await registry.withdraw(HELLO, [ONE], by=ANN)
    assert registry.names() == []
    assert registry.packs() == []
    with pytest.raises(NameUnknownError, match="no pack is called hello"):
        registry.pack(HELLO)
    assert [entry.action for entry in history(registry)] == ["publish", "withdraw"]
    assert (await publish(registry, files=OTHER_FILES)).action == "created"
    assert len(history(registry)) == 3


@pytest.mark.parametrize("tags", [[], [TWO], [Tag("1.x")]], ids=["none", "unknown", "a parent"])
async def test_withdrawing_what_is_not_there_changes_nothing(registry: Registry, tags: list[Tag]) -> None:
    await publish(registry)
    await registry.withdraw(HELLO, tags, by=ANN)
    assert len(history(registry)) == 1
    assert registry.names() == ["hello"]


async def test_a_tag_named_twice_is_withdrawn_once(registry: Registry) -> None:
    await publish(registry)
    await registry.withdraw(HELLO, [ONE, ONE], by=ANN)
    assert [entry.action for entry in history(registry)] == ["publish", "withdraw"]


async def test_withdrawing_from_an_unknown_pack_makes_no_record(registry: Registry, tmp_path: Path) -> None:
    await registry.withdraw(HELLO, [ONE], by=ANN)
    assert not (tmp_path / "data" / "packs" / "hello.json").exists()


# Finding


async def test_names_are_sorted_and_paged(registry: Registry) -> None:
    names = ["a", "B", "c", "a-b", "a.b", "a9", "Z"]
    for name in names:
        await publish(registry, name=name)
    ordered = sorted(names)
    assert registry.names() == ordered
    assert [pack.name for pack in registry.packs()] == ordered
    assert registry.names(limit=3) == ordered[:3]
    assert registry.names(after=ordered[2], limit=3) == ordered[3:6]
    assert registry.names(after="aa") == [name for name in ordered if name > "aa"]
    assert registry.names(after="zzz") == []
    assert registry.names(after="\ud800") == []
    assert registry.names(limit=0) == []


async def test_what_is_not_there_is_not_found(registry: Registry) -> None:
    await publish(registry)
    assert registry.find(PackName("other"), ONE) is None
    assert registry.find(HELLO, TWO) is None
    with pytest.raises(NameUnknownError) as caught:
        registry.pack(PackName("other"))
    assert caught.value.detail == {"name": "other"}


async def test_a_blob_is_found_only_through_a_pack_that_has_it(registry: Registry) -> None:
    hello = (await publish(registry)).release
    other = (await publish(registry, name="other")).release
    assert registry.pack(HELLO).blob(hello.archive.digest) == hello.archive
    with pytest.raises(BlobUnknownError):
        registry.pack(HELLO).blob(other.archive.digest)
    assert hello.file("logo.png") == other.file("logo.png")
    logo = hello.file("logo.png")
    assert logo
    assert registry.pack(PackName("other")).blob(logo.digest) == logo


# Damage


async def test_a_pack_whose_record_is_damaged_is_unavailable(tmp_path: Path) -> None:
    async with open_registry(tmp_path) as registry:
        await publish(registry)
        await publish(registry, name="other")
    path = tmp_path / "packs" / "hello.json"
    good = path.read_bytes()
    path.write_bytes(b"damaged")
    async with open_registry(tmp_path) as registry:
        assert registry.names() == ["other"]
        with pytest.raises(StorageUnavailableError, match=r"hello\.json is damaged: .*backup"):
            registry.pack(HELLO)
        with pytest.raises(StorageUnavailableError, match="hello"):
            await publish(registry)
        assert path.read_bytes() == b"damaged"
        path.write_bytes(good)
        await registry.refresh(everything=True)
        assert registry.pack(HELLO).latest.tag == ONE


async def test_the_last_good_state_of_a_damaged_record_stays_in_use(registry: Registry, tmp_path: Path) -> None:
    await publish(registry)
    (tmp_path / "data" / "packs" / "hello.json").write_bytes(b"damaged")
    await registry.refresh(everything=True)
    assert registry.pack(HELLO).latest.tag == ONE
    assert registry.names() == ["hello"]


# Several registries on the same data


async def test_a_publication_is_seen_by_the_next_look_of_another_registry(registry: Registry, other: Registry) -> None:
    published = await publish(registry)
    assert other.names() == []
    await other.refresh()
    assert other.pack(HELLO).release(ONE) == published.release
    await other.withdraw(HELLO, [ONE], by=ANN)
    await registry.refresh()
    assert registry.names() == []


async def test_what_another_registry_published_is_unchanged_and_seen(registry: Registry, other: Registry) -> None:
    await publish(registry)
    assert (await publish(other)).action == "unchanged"
    assert other.names() == ["hello"]


async def test_versions_published_at_once_by_two_registries_are_all_there(registry: Registry, other: Registry) -> None:
    versions = [f"1.0.{number}" for number in range(8)]
    await asyncio.gather(
        *(publish((registry, other)[number % 2], version=version) for number, version in enumerate(versions))
    )
    for each in (registry, other):
        await each.refresh()
        assert {found.version for found in each.pack(HELLO).releases} == set(versions)
        assert len(history(each)) == len(versions)


async def test_of_two_contents_for_one_version_one_is_refused(registry: Registry, other: Registry) -> None:
    results = await asyncio.gather(publish(registry), publish(other, files=OTHER_FILES), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["Published", "ReleaseConflictError"]
    await registry.refresh()
    await other.refresh()
    assert registry.find(HELLO, ONE) == other.find(HELLO, ONE) is not None


async def test_who_was_slower_looks_again(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """The conflict of writers is the registry's to solve, not its caller's."""
    write = registry.storage.write_record
    refused = iter([True, True, False])

    async def slow(*args: Any) -> None:
        if next(refused):
            raise RecordChangedError("somebody else was faster")
        await write(*args)

    monkeypatch.setattr(registry.storage, "write_record", slow)
    assert (await publish(registry)).action == "created"
    assert len(history(registry)) == 1


async def test_nothing_is_read_while_nothing_changes(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    await publish(registry)
    pack = registry.pack(HELLO)

    async def refuse(**_: object) -> None:
        raise AssertionError("nothing has changed")

    monkeypatch.setattr(registry.storage, "refresh", refuse)
    await registry.refresh()
    assert registry.pack(HELLO) is pack


async def test_requests_that_find_a_change_together_read_it_once(
    registry: Registry, other: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    await publish(registry)
    calls = []
    refresh = other.storage.refresh

    async def counted(**kwargs: bool) -> Any:
        calls.append(kwargs)
        return await refresh(**kwargs)

    monkeypatch.setattr(other.storage, "refresh", counted)
    await asyncio.gather(*(other.refresh() for _ in range(10)))
    assert len(calls) == 1
    assert other.names() == ["hello"]


async def test_a_look_that_is_cancelled_loses_nothing(registry: Registry, other: Registry) -> None:
    """As when a client goes away while its request has found a change."""
    await publish(registry)
    look = asyncio.ensure_future(other.refresh())
    await asyncio.sleep(0)
    look.cancel()
    with suppress(asyncio.CancelledError):
        await look
    await other.refresh()
    assert other.names() == ["hello"]


async def test_what_a_killed_process_could_not_announce_is_found(
    registry: Registry, other: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "announce", lambda *_: None)
        await publish(registry)
    await other.refresh()
    assert other.names() == []
    await other.refresh(everything=True)
    assert other.names() == ["hello"]


async def test_packs_are_not_made_again_for_a_record_of_another(registry: Registry) -> None:
    await publish(registry)
    pack = registry.pack(HELLO)
    await registry.storage.write_record(record("other", release()), None)
    await registry.refresh()
    assert registry.pack(HELLO) is pack
    assert registry.names() == ["hello", "other"]
