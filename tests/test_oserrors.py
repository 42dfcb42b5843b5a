"""What the system refuses is told with what was refused, to whom, whose it is, and how it is put right."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from packregistry.errors import RegistryError, StorageFullError, StorageUnavailableError
from packregistry.storage import oserrors
from packregistry.storage.oserrors import translated

ME = f"{os.geteuid()}:{os.getegid()}"


def refusal(root: Path, number: int, path: Path | None = None) -> RegistryError:
    """What becomes of an error of the system about `path`, or about nothing in particular."""
    with pytest.raises(RegistryError) as caught, translated(root):
        raise OSError(number, os.strerror(number), None if path is None else str(path))
    return caught.value


@pytest.fixture
def mounted(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The directories that count as mount points."""
    mounts: list[Path] = []
    monkeypatch.setattr(oserrors, "_is_mounted", lambda path: path in mounts)
    return mounts


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM], ids=errno.errorcode.__getitem__)
def test_a_denial_names_the_process_and_the_directory_with_owner_and_mode(tmp_path: Path, number: int) -> None:
    tmp_path.chmod(0o750)
    owner = tmp_path.stat()
    found = refusal(tmp_path, number, tmp_path / "packs")
    assert isinstance(found, StorageUnavailableError)
    assert found.message == (
        f"{tmp_path}/packs cannot be used: {os.strerror(number)}: this process is uid {os.geteuid()}, "
        f"gid {os.getegid()}, and {tmp_path} belongs to {owner.st_uid}:{owner.st_gid}, mode 0750"
    )
    assert "\n" not in str(found)


def test_a_data_directory_of_somebody_else_is_to_be_given_with_all_in_it(tmp_path: Path) -> None:
    root = tmp_path / "the data"
    root.mkdir()
    found = refusal(root, errno.EACCES, root / "format")
    assert found.remedy.startswith(f"run `chown -R {ME} '{root}'` as root")
    assert found.remedy.endswith(f"in Kubernetes set securityContext.fsGroup: {os.getegid()}")


def test_a_volume_that_is_still_empty_is_to_be_given_by_itself(tmp_path: Path, mounted: list[Path]) -> None:
    mounted.append(tmp_path)
    assert f"run `chown {ME} {tmp_path}` as root" in refusal(tmp_path / ".spectro-server", errno.EACCES).remedy


def test_nobody_is_told_to_give_away_what_lies_above(tmp_path: Path, mounted: list[Path]) -> None:
    """`--data /srv/packs` where there is no /srv/packs must not end in a `chown` of /srv."""
    root = tmp_path / "data"
    assert f"run `mkdir -p {root} && chown {ME} {root}` as root" in refusal(root, errno.EACCES).remedy
    mounted.append(Path("/"))
    assert "chown" not in refusal(Path("/nowhere"), errno.EACCES).remedy.partition("&&")[0]


def test_a_read_only_volume_is_to_be_mounted_otherwise(tmp_path: Path) -> None:
    found = refusal(tmp_path / ".spectro-server", errno.EROFS)
    assert "Read-only file system" in found.message
    assert found.remedy == f"mount a volume that can be written at {tmp_path}: without `ro` or `readonly`"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT], ids=errno.errorcode.__getitem__)
def test_want_of_space_is_another_refusal(tmp_path: Path, number: int) -> None:
    found = refusal(tmp_path, number, tmp_path / "packs")
    assert isinstance(found, StorageFullError)
    assert found.message == f"there is no space left below {tmp_path}"


def test_any_other_error_names_the_file_or_else_the_directory(tmp_path: Path) -> None:
    assert refusal(tmp_path, errno.EIO, tmp_path / "x").message == f"{tmp_path}/x cannot be used: Input/output error"
    assert refusal(tmp_path, errno.EIO).message == f"{tmp_path} cannot be used: Input/output error"


def test_what_is_mounted_is_known_from_the_kernel(tmp_path: Path) -> None:
    assert oserrors._is_mounted(Path("/proc"))
    assert not oserrors._is_mounted(tmp_path)
