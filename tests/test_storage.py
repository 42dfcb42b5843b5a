"""The storage contract, held by every backend."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from packregistry.errors import StorageUnavailableError
from packregistry.storage import Storage
from packregistry.storage.filesystem import FilesystemStorage
from packregistry.storage.memory import InMemoryStorage
from tests.storage_contract import Peer, StorageContract

BACKENDS: dict[str, Callable[[Path], tuple[Storage, Callable[[], Storage]]]] = {
    "filesystem": lambda path: (FilesystemStorage(path / "data"), lambda: FilesystemStorage(path / "data")),
    "inmemory": lambda _: (memory := InMemoryStorage(), lambda: FilesystemStorage(memory.root)),
}
"""Backend → a storage with data of its own, and a way to make another one on the same data."""


@pytest.fixture(autouse=True)
def _no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for no disk: what is durable when is for the backends' own tests."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
async def opened() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Storage, Callable[[], Storage]]:
    return BACKENDS[request.param](tmp_path)


@pytest.fixture
async def storage(backend: tuple[Storage, Callable[[], Storage]], opened: AsyncExitStack) -> Storage:
    storage, _ = backend
    await storage.open()
    opened.push_async_callback(storage.close)
    return storage


@pytest.fixture
def peer(backend: tuple[Storage, Callable[[], Storage]], opened: AsyncExitStack) -> Peer:
    async def make() -> Storage:
        storage = backend[1]()
        await storage.open()
        opened.push_async_callback(storage.close)
        return storage

    return make


class TestContract(StorageContract):
    """Every backend keeps the contract."""


async def test_inmemory_leaves_nothing_behind() -> None:
    storage = InMemoryStorage()
    await storage.open()
    root = storage.root
    (root / "more").write_text("")
    await storage.close()
    assert not root.exists()


async def test_inmemory_needs_a_temporary_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    with pytest.raises(StorageUnavailableError, match="TMPDIR"):
        InMemoryStorage()
