"""What the operating system refuses, as the registry's refusals."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from packregistry.errors import StorageFullError, StorageUnavailableError


def is_full(error: OSError) -> bool:
    """Whether the error is about space: of the volume, or of a quota."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT}


def full(root: Path) -> StorageFullError:
    """The refusal for want of space."""
    return StorageFullError(f"there is no space left below {root}", remedy="free some, or give the volume more")


@contextlib.contextmanager
def translated(root: Path) -> Iterator[None]:
    """Turn an `OSError` into `StorageFullError` or `StorageUnavailableError`, naming `root` where it names no file."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise full(root) from error
        raise StorageUnavailableError(
            f"{error.filename or root} cannot be used: {error.strerror}",
            remedy=f"check that the volume is mounted and that uid {os.getuid()} can write it",
        ) from error
