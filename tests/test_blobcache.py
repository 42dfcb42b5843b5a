"""Small blobs in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from packregistry.blobcache import ITEM_MAX, BlobCache
from packregistry.errors import BlobUnknownError
from packregistry.model import Descriptor, Digest
from packregistry.storage.filesystem import FilesystemStorage


class CountingStorage(FilesystemStorage):
    """Counts how often each blob is read."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.reads: list[Digest] = []

    async def read_blob(self, digest: Digest) -> bytes:
        self.reads.append(digest)
        return await super().read_blob(digest)


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[CountingStorage]:
    storage = CountingStorage(tmp_path)
    await storage.open()
    yield storage
    await storage.close()


async def stored(storage: CountingStorage, letter: str, size: int) -> Descriptor:
    data = letter.encode() * size
    await storage.put([(Digest.of(data), data)])
    return Descriptor(Digest.of(data), size, "text/plain")


async def test_a_small_blob_is_read_once(storage: CountingStorage) -> None:
    cache = BlobCache(storage)
    blob = await stored(storage, "a", ITEM_MAX)
    assert cache.fits(blob)
    assert cache.get(blob.digest) is None
    for _ in range(3):
        assert await cache.read(blob) == b"a" * ITEM_MAX
    assert cache.get(blob.digest) == b"a" * ITEM_MAX
    assert len(storage.reads) == 1


async def test_a_large_blob_is_read_each_time(storage: CountingStorage) -> None:
    cache = BlobCache(storage)
    blob = await stored(storage, "a", ITEM_MAX + 1)
    assert not cache.fits(blob)
    for _ in range(2):
        assert await cache.read(blob) == b"a" * (ITEM_MAX + 1)
    assert cache.get(blob.digest) is None
    assert len(storage.reads) == 2


async def test_the_least_recently_used_go_when_it_is_full(storage: CountingStorage) -> None:
    cache = BlobCache(storage, total=30)
    a, b, c = [await stored(storage, letter, 10) for letter in "abc"]
    for blob in (a, b, c):
        await cache.read(blob)
    assert cache.get(a.digest)
    d = await stored(storage, "d", 11)
    await cache.read(d)
    assert [bool(cache.get(blob.digest)) for blob in (a, b, c, d)] == [True, False, False, True]


async def test_it_never_holds_more_than_its_total(storage: CountingStorage) -> None:
    cache = BlobCache(storage, total=10)
    for blob in [await stored(storage, letter, size) for letter, size in [("a", 10), ("b", 11), ("c", 5), ("d", 5)]]:
        await cache.read(blob)
    held = [cache.get(Digest.of(letter.encode() * size)) for letter, size in [("a", 10), ("b", 11), ("c", 5), ("d", 5)]]
    assert held == [None, None, b"ccccc", b"ddddd"]


async def test_blobs_read_at_the_same_time_are_counted_once(storage: CountingStorage) -> None:
    cache = BlobCache(storage, total=20)
    a, b = [await stored(storage, letter, 10) for letter in "ab"]
    await asyncio.gather(*(cache.read(a) for _ in range(5)))
    await cache.read(b)
    assert cache.get(a.digest)
    assert cache.get(b.digest)


async def test_a_blob_that_is_not_there_is_not_remembered(storage: CountingStorage) -> None:
    cache = BlobCache(storage)
    blob = Descriptor(Digest.of(b"aaa"), 3, "text/plain")
    with pytest.raises(BlobUnknownError):
        await cache.read(blob)
    await stored(storage, "a", 3)
    assert await cache.read(blob) == b"aaa"
