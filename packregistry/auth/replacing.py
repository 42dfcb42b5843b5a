"""Files that several processes rewrite: one at a time, each replaced in one step, with mode and owner kept.

Writers wait for each other at `.NAME.lock` beside the file, which is left there. All of it is synchronous.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path


class OwnerError(PermissionError):
    """A file whose owner could not be given to what replaces it: they would not be able to read it any more."""

    def __init__(self, before: os.stat_result) -> None:
        super().__init__(errno.EPERM, f"it is of uid {before.st_uid} and gid {before.st_gid}: run this as that user")


@contextlib.contextmanager
def locked(target: Path) -> Iterator[None]:
    """Have the file to oneself among those who edit it this way, in this process or another. Raises `OSError`."""
    lock = _opened(target.with_name(f".{target.name}.lock"))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def replace(target: Path, data: bytes) -> None:
    """Put `data` in place of the file in one step, with its mode and owner; a new one is for its owner only.

    It is durable when this returns, and nothing of it is left where it raises `OSError`.
    """
    before = status_of(target)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if before:
                _make_like(descriptor, before)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        Path(temporary).rename(target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise
    directory = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def status_of(path: Path) -> os.stat_result | None:
    """The `stat` of a file, or nothing where there is none."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def remedy(target: Path, error: OSError) -> str:
    """What to do about a file that cannot be rewritten."""
    if isinstance(error, OwnerError):
        return "its owner can"
    if any(part.startswith("..") for part in target.parts):
        return "it comes from a Kubernetes Secret or ConfigMap: edit that one, and the mounted file follows"
    if error.errno in {errno.ENOENT, errno.ENOTDIR}:
        return f"make the directory {target.parent} first"
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return "free some space"
    if error.errno == errno.EBUSY:
        return "it is mounted by itself: edit it where it is mounted from, and better mount its directory"
    return (
        f"make the directory {target.parent} writable, or edit the file where it comes from (in Kubernetes, the Secret)"
    )


def _opened(lock: Path) -> int:
    """Open the lock file, to write as NFS wants it, or to read if it is somebody else's."""
    flags = os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(lock, flags | os.O_RDWR | os.O_CREAT, 0o644)
    except PermissionError:
        with contextlib.suppress(OSError):
            return os.open(lock, flags | os.O_RDONLY)
        raise


def _make_like(descriptor: int, before: os.stat_result) -> None:
    made = os.fstat(descriptor)
    if (made.st_uid, made.st_gid) != (before.st_uid, before.st_gid):
        try:
            os.fchown(descriptor, before.st_uid, before.st_gid)
        except PermissionError as error:
            raise OwnerError(before) from error
    os.fchmod(descriptor, stat.S_IMODE(before.st_mode))
