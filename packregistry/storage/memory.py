"""Storage that goes with the process: the filesystem driver on a private temporary directory."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from packregistry.errors import StorageUnavailableError
from packregistry.storage.filesystem import FilesystemStorage


class InMemoryStorage(FilesystemStorage):
    """What `storage: inmemory` means: nothing is kept when the process ends.

    The directory lies where the platform keeps temporary files (`TMPDIR`), which a container mounts as tmpfs. Raises
    `StorageUnavailableError` when none can be made.
    """

    def __init__(self) -> None:
        try:
            self._temporary = tempfile.TemporaryDirectory(prefix="packregistry-")
        except OSError as error:
            raise StorageUnavailableError(
                f"no temporary directory can be made: {error.strerror}", remedy="name one that can be written in TMPDIR"
            ) from error
        super().__init__(Path(self._temporary.name))

    async def close(self) -> None:
        """Remove everything."""
        await super().close()
        await asyncio.to_thread(self._temporary.cleanup)
