"""Storage that goes with the process: the filesystem driver on a private temporary directory."""

from __future__ import annotations

import tempfile
from pathlib import Path

from packregistry.storage.filesystem import FilesystemStorage


class InMemoryStorage(FilesystemStorage):
    """What `storage: inmemory` means: nothing is kept when the process ends.

    The directory lies where the platform keeps temporary files (`TMPDIR`), which a container mounts as tmpfs.
    """

    def __init__(self) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="packregistry-")
        super().__init__(Path(self._temporary.name))

    async def close(self) -> None:
        """Remove everything."""
        await super().close()
        self._temporary.cleanup()
