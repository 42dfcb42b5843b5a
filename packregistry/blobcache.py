"""Small blobs in memory: a blob never changes, so what was read once need not be read again."""

from __future__ import annotations

from collections import OrderedDict

from packregistry.model import Descriptor, Digest
from packregistry.storage import Storage

ITEM_MAX = 64 * 1024
TOTAL_MAX = 32 * 1024 * 1024


class BlobCache:
    """The blobs of up to `ITEM_MAX` bytes that were asked for most recently, `TOTAL_MAX` bytes in all.

    Whether somebody may have a blob is decided before it is asked for here.
    """

    def __init__(self, storage: Storage, *, total: int = TOTAL_MAX) -> None:
        self._storage = storage
        self._total = total
        self._items: OrderedDict[Digest, bytes] = OrderedDict()
        self._size = 0

    def fits(self, blob: Descriptor) -> bool:
        """Whether the blob is small enough to be kept."""
        return blob.size <= ITEM_MAX

    def get(self, digest: Digest) -> bytes | None:
        """The blob, if it is in memory."""
        data = self._items.get(digest)
        if data is not None:
            self._items.move_to_end(digest)
        return data

    async def read(self, blob: Descriptor) -> bytes:
        """The whole blob, from memory or from the storage. Raises `BlobUnknownError`."""
        data = self.get(blob.digest)
        if data is None:
            data = await self._storage.read_blob(blob.digest)
            if self.fits(blob) and blob.digest not in self._items:
                self._items[blob.digest] = data
                self._size += len(data)
                while self._size > self._total:
                    _, dropped = self._items.popitem(last=False)
                    self._size -= len(dropped)
        return data
