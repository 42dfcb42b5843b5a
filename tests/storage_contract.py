"""What every storage promises. A backend runs all of it by being one more parameter in `test_storage.py`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import pytest
from blockbuster import blockbuster_ctx

from packregistry.errors import BlobUnknownError, RecordChangedError
from packregistry.model import Digest, PackName, PackRecord, Tag
from packregistry.storage import Staged, Storage, Version
from tests.factories import record, release

HELLO = PackName("hello")
DATA = b"some bytes"
DIGEST = Digest.of(DATA)

Peer = Callable[[], Awaitable[Storage]]


async def joined(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


async def append(storage: Storage, version: str) -> None:
    """Add a release to the record of hello, however often others come between."""
    while True:
        found, state = await storage.read_record(HELLO)
        new = release(version)
        with suppress(RecordChangedError):
            await storage.write_record(record("hello", *found.releases.values(), new), state)
            return


class StorageContract:
    """`storage` is open and empty; `peer` opens another one on the same data, as another process would."""

    async def test_an_empty_storage_has_no_records(self, storage: Storage) -> None:
        assert await storage.refresh() == {}
        assert storage.damaged == {}

    async def test_a_record_that_is_not_there_reads_as_empty(self, storage: Storage) -> None:
        assert await storage.read_record(HELLO) == (PackRecord(HELLO), None)

    async def test_a_record_reads_as_it_was_written(self, storage: Storage) -> None:
        written = record("hello", release("1.0.0"), release("2.0.0", "lts"), tags={"stable": "lts__2.0.0"})
        await storage.write_record(written, None)
        found, state = await storage.read_record(HELLO)
        assert found == written
        assert state is not None

    async def test_a_record_is_replaced_whole(self, storage: Storage) -> None:
        await storage.write_record(record("hello", release("1.0.0")), None)
        _, state = await storage.read_record(HELLO)
        await storage.write_record(record("hello", release("2.0.0")), state)
        found, _ = await storage.read_record(HELLO)
        assert set(found.releases) == {"2.0.0"}

    @pytest.mark.parametrize("expected", ["nothing", "an older state"])
    async def test_a_write_on_another_state_is_refused_and_changes_nothing(
        self, storage: Storage, expected: str
    ) -> None:
        older = None
        for version in ("1.0.0", "2.0.0"):
            _, state = await storage.read_record(HELLO)
            await storage.write_record(record("hello", release(version)), state)
            older = older or (await storage.read_record(HELLO))[1]
        before = await storage.read_record(HELLO)
        await storage.refresh()
        with pytest.raises(RecordChangedError):
            await storage.write_record(record("hello"), None if expected == "nothing" else older)
        assert await storage.read_record(HELLO) == before
        assert not storage.stale()

    async def test_the_same_content_written_again_is_another_state(self, storage: Storage) -> None:
        states: set[Version] = {None}
        for _ in range(4):
            _, state = await storage.read_record(HELLO)
            await storage.write_record(record("hello", release("1.0.0")), state)
            states.add((await storage.read_record(HELLO))[1])
        assert len(states) == 5

    async def test_refresh_gives_each_state_once(self, storage: Storage) -> None:
        written = record("hello", release("1.0.0"))
        await storage.write_record(written, None)
        assert storage.stale()
        assert await storage.refresh() == {"hello": written}
        assert not storage.stale()
        assert await storage.refresh() == {}
        assert await storage.refresh(everything=True) == {}

    async def test_a_write_that_returned_is_news_to_everybody(self, storage: Storage, peer: Peer) -> None:
        other = await peer()
        for here, there in ((storage, other), (other, storage)):
            for version in ("1.0.0", "2.0.0"):
                await here.refresh()
                await there.refresh()
                assert not there.stale()
                found, state = await here.read_record(HELLO)
                written = record("hello", *found.releases.values(), release(version))
                await here.write_record(written, state)
                assert there.stale()
                assert await there.refresh() == {"hello": written}

    async def test_what_was_written_is_there_for_who_opens_later(self, storage: Storage, peer: Peer) -> None:
        await storage.write_record(record("hello", release()), None)
        await storage.write_record(record("other", release()), None)
        await storage.put([(DIGEST, DATA)])
        later = await peer()
        assert set(await later.refresh()) == {"hello", "other"}
        assert await later.read_blob(DIGEST) == DATA

    async def test_concurrent_writers_lose_nothing(self, storage: Storage, peer: Peer) -> None:
        other = await peer()
        versions = [f"1.0.{number}" for number in range(10)]
        await asyncio.gather(
            *(append((storage, other)[number % 2], version) for number, version in enumerate(versions))
        )
        found, _ = await storage.read_record(HELLO)
        assert set(found.releases) == set(versions)
        for each in (storage, other):
            assert await each.refresh() == {"hello": found}

    async def test_a_look_that_is_cancelled_takes_nothing_away(self, storage: Storage) -> None:
        written = record("hello", release())
        await storage.write_record(written, None)
        look = asyncio.ensure_future(storage.refresh())
        await asyncio.sleep(0)
        look.cancel()
        with pytest.raises(asyncio.CancelledError):
            await look
        assert storage.stale()
        assert await storage.refresh() == {"hello": written}

    @pytest.mark.parametrize("data", [b"", b"x", bytes(3 * 1024 * 1024)], ids=["empty", "a byte", "3 MiB"])
    @pytest.mark.parametrize("staged", [False, True], ids=["from memory", "from a file"])
    async def test_a_blob_reads_as_it_was_put(self, storage: Storage, data: bytes, staged: bool) -> None:
        digest = Digest.of(data)
        with storage.stage() as file:
            file.file.write(data)
            await storage.put([(digest, file if staged else data)])
        assert await storage.read_blob(digest) == data
        opened = await storage.open_blob(digest)
        assert opened.size == len(data)
        assert await joined(opened.chunks(0, len(data))) == data
        opened.close()

    async def test_a_blob_is_read_in_ranges(self, storage: Storage) -> None:
        await storage.put([(DIGEST, DATA)])
        opened = await storage.open_blob(DIGEST)
        assert await joined(opened.chunks(2, 7)) == DATA[2:7]
        assert await joined(opened.chunks(9, 10)) == DATA[9:]
        assert await joined(opened.chunks(4, 4)) == b""
        assert await joined(opened.chunks(8, 1000)) == DATA[8:]
        opened.close()
        opened.close()

    async def test_two_readers_of_an_open_blob_do_not_disturb_each_other(self, storage: Storage) -> None:
        data = bytes(range(256)) * 8192
        await storage.put([(Digest.of(data), data)])
        opened = await storage.open_blob(Digest.of(data))
        whole, tail = await asyncio.gather(joined(opened.chunks(0, len(data))), joined(opened.chunks(100, len(data))))
        opened.close()
        assert whole == data
        assert tail == data[100:]

    async def test_a_blob_may_be_put_again_and_twice_at_once(self, storage: Storage) -> None:
        await storage.put([(DIGEST, DATA), (DIGEST, DATA)])
        with storage.stage() as file:
            file.file.write(DATA)
            await storage.put([(DIGEST, file)])
        assert await storage.read_blob(DIGEST) == DATA

    async def test_an_unknown_blob_is_a_refusal(self, storage: Storage) -> None:
        with pytest.raises(BlobUnknownError, match=DIGEST):
            await storage.open_blob(DIGEST)
        with pytest.raises(BlobUnknownError, match=DIGEST):
            await storage.read_blob(DIGEST)

    async def test_what_was_staged_and_not_put_goes(self, storage: Storage) -> None:
        seen: list[Staged] = []

        def fail() -> None:
            with storage.stage() as file:
                file.file.write(DATA)
                assert file.path.exists()
                seen.append(file)
                raise KeyError

        with pytest.raises(KeyError):
            fail()
        assert not seen[0].path.exists()
        assert seen[0].file.closed

    async def test_blobs_are_listed_with_their_sizes_and_since_when_they_are_new(self, storage: Storage) -> None:
        begun = time.time()
        await storage.put([(DIGEST, DATA)])
        ((digest, (size, since)),) = (await storage.blobs()).items()
        assert (digest, size) == (DIGEST, len(DATA))
        # Clocks of file systems tick a few times a hundredth of a second.
        assert begun - 0.1 <= since <= time.time() + 0.1

    async def test_a_blob_is_discarded_if_it_is_older(self, storage: Storage) -> None:
        await storage.put([(DIGEST, DATA)])
        assert await storage.discard(DIGEST, time.time() + 10)
        assert await storage.blobs() == {}
        with pytest.raises(BlobUnknownError):
            await storage.read_blob(DIGEST)
        assert not await storage.discard(DIGEST, time.time() + 10)

    @pytest.mark.parametrize("renew", ["put", "keep"])
    async def test_a_blob_that_became_new_again_is_not_discarded(self, storage: Storage, renew: str) -> None:
        """A sweep that listed the blob as old comes too late."""
        await storage.put([(DIGEST, DATA)])
        _, listed = (await storage.blobs())[DIGEST]
        renewed = listed
        async with asyncio.timeout(5):  # a clock of a file system has to tick once
            while renewed <= listed:
                await (storage.put([(DIGEST, DATA)]) if renew == "put" else storage.keep([DIGEST]))
                _, renewed = (await storage.blobs())[DIGEST]
        assert not await storage.discard(DIGEST, renewed)
        assert await storage.read_blob(DIGEST) == DATA

    async def test_a_blob_that_is_not_there_cannot_be_kept(self, storage: Storage) -> None:
        await storage.put([(DIGEST, DATA)])
        with pytest.raises(BlobUnknownError):
            await storage.keep([DIGEST, Digest.of(b"another")])

    async def test_local_is_a_directory(self, storage: Storage) -> None:
        (storage.local / "state").write_text("kept")
        assert (storage.local / "state").read_text() == "kept"

    async def test_nothing_that_is_awaited_blocks_the_event_loop(self, storage: Storage) -> None:
        with blockbuster_ctx():
            await storage.put([(DIGEST, DATA)])
            await storage.write_record(record("hello", release()), None)
            await storage.refresh()
            await storage.read_record(HELLO)
            assert await storage.read_blob(DIGEST) == DATA
            opened = await storage.open_blob(DIGEST)
            assert await joined(opened.chunks(0, len(DATA))) == DATA

    async def test_names_with_the_widest_alphabet_are_records(self, storage: Storage) -> None:
        names = {PackName.parse(name) for name in ("A.b_c-9", "x.json", "con", "9" * 128, "a--b", "latest")}
        for name in names:
            await storage.write_record(PackRecord(name, {Tag("1"): release("1")}), None)
        assert set(await storage.refresh()) == names
