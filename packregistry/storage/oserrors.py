"""What the operating system refuses, as the registry's refusals."""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from packregistry.errors import StorageFullError, StorageUnavailableError


def is_full(error: OSError) -> bool:
    """Whether the error is about space: of the volume, or of a quota."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT}


def is_denied(error: OSError) -> bool:
    """Whether the error is about rights: of this process, or of everybody where the volume is read-only."""
    return error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}


def full(root: Path) -> StorageFullError:
    """The refusal for want of space."""
    return StorageFullError(f"there is no space left below {root}", remedy="free some, or give the volume more")


def denied(root: Path, error: OSError) -> StorageUnavailableError:
    """The refusal for want of rights: one line with what was refused, to whom, whose it is, and how it is put right."""
    path = Path(os.fsdecode(error.filename or root))
    found, about = _nearest(path)
    whose = f"{found} belongs to {about.st_uid}:{about.st_gid}, mode {stat.S_IMODE(about.st_mode):04o}"
    return StorageUnavailableError(
        f"{path} cannot be used: {error.strerror}: this process is uid {os.geteuid()}, gid {os.getegid()}, and {whose}",
        remedy=_unlock(root) if error.errno == errno.EROFS else _give(root),
    )


@contextlib.contextmanager
def translated(root: Path) -> Iterator[None]:
    """Turn an `OSError` into `StorageFullError` or `StorageUnavailableError`, naming `root` where it names no file."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise full(root) from error
        if is_denied(error):
            raise denied(root, error) from error
        raise StorageUnavailableError(
            f"{error.filename or root} cannot be used: {error.strerror}",
            remedy=f"check that the volume is mounted and that uid {os.getuid()} can write it",
        ) from error


def _nearest(path: Path) -> tuple[Path, os.stat_result]:
    """The path, or the first directory above it that can be looked at: there the refusal came from."""
    for candidate in (path, *path.absolute().parents):
        with contextlib.suppress(OSError):
            return candidate, candidate.stat()
    msg = f"nothing above {path} can be looked at"
    raise AssertionError(msg)


def _give(root: Path) -> str:
    """How this process gets the directory."""
    owner = f"{os.geteuid()}:{os.getegid()}"
    directory, _ = _nearest(root)
    if directory == root:
        command = f"chown -R {owner} {shlex.quote(str(root))}"
    elif directory != Path(directory.anchor) and _is_mounted(directory):
        command = f"chown {owner} {shlex.quote(str(directory))}"
    else:
        # What lies above may be anybody's, such as / or /home: nobody is told to give that away.
        quoted = shlex.quote(str(root))
        command = f"mkdir -p {quoted} && chown {owner} {quoted}"
    return (
        f"run `{command}` as root (for a container, on the directory that is mounted there), "
        f"or in Kubernetes set securityContext.fsGroup: {os.getegid()}"
    )


def _is_mounted(directory: Path) -> bool:
    """Whether something is mounted there. `os.path.ismount` does not see a directory of the same file system."""
    escaped = str(directory).replace("\\", "\\134").replace(" ", "\\040")
    try:
        mounts = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return os.path.ismount(directory)
    return escaped in {line.split(" ")[4] for line in mounts}


def _unlock(root: Path) -> str:
    directory, _ = _nearest(root)
    return f"mount a volume that can be written at {directory}: without `ro` or `readonly`"
