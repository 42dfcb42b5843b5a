"""Pack directories on their way to a registry."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from packregistry import offer
from packregistry.config import Limits
from packregistry.directory import DirectoryChangedError
from packregistry.errors import PackInvalidError
from packregistry.model import Digest
from packregistry.sources import read
from tests.factories import make_pack, open_registry


def test_the_verdict_is_the_one_of_a_watched_directory(tmp_path: Path) -> None:
    root = make_pack(tmp_path, files={"logo.png": b"no", "charts/x": b""}, charts=["nope.tgz"], layer="top")
    found = offer.inspect(root, Limits())
    assert found.reading == read(found.tree, Limits()).reading
    assert found.reading.errors


async def test_the_archive_is_the_one_of_a_watched_directory(tmp_path: Path) -> None:
    root = make_pack(tmp_path / "packs", files={"run.sh": b"#!"})
    out = io.BytesIO()
    packed = offer.pack(offer.inspect(root, Limits()), out, Limits())
    async with open_registry(tmp_path / "data", tmp_path / "packs") as registry:
        (pack,) = registry.packs()
        assert pack.latest.archive.digest == packed.digest == Digest.of(out.getvalue())


@pytest.mark.parametrize(
    ("changes", "label"),
    [({}, "hello:1.0.0"), ({"group": "lts"}, "hello:lts__1.0.0"), ({"version": None}, "x")],
    ids=str,
)
def test_a_pack_is_called_what_it_says_or_where_it_lies(
    tmp_path: Path, changes: dict[str, str | None], label: str
) -> None:
    root = make_pack(tmp_path, directory="x", **{"version": "1.0.0", **changes})  # type: ignore[arg-type]
    expected = str(root) if label == "x" else label
    assert offer.inspect(root, Limits()).label == expected


def test_a_pack_with_errors_is_not_packed_and_lists_them_all(tmp_path: Path) -> None:
    root = make_pack(tmp_path, layer="top", files={"logo.png": b"no"})
    out = io.BytesIO()
    with pytest.raises(PackInvalidError) as caught:
        offer.pack(offer.inspect(root, Limits()), out, Limits())
    assert [item["file"] for item in caught.value.detail] == ["logo.png", "pack.json"]
    assert out.getvalue() == b""


def test_a_metadata_file_that_is_too_large_is_an_error(tmp_path: Path) -> None:
    found = offer.inspect(make_pack(tmp_path, files={"README.md": b"x" * 3000}), Limits(metadata=2000))
    assert any("limits.metadata" in problem.remedy for problem in found.reading.errors)


def test_an_archive_that_is_too_large_is_refused(tmp_path: Path) -> None:
    found = offer.inspect(make_pack(tmp_path), Limits())
    with pytest.raises(PackInvalidError, match=r"limits\.archive"):
        offer.pack(found, io.BytesIO(), Limits(archive=100))


def test_a_directory_that_changes_meanwhile_is_noticed(tmp_path: Path) -> None:
    root = make_pack(tmp_path)
    found = offer.inspect(root, Limits())
    (root / "values.yaml").write_text("other: 1\n")
    with pytest.raises(DirectoryChangedError):
        offer.pack(found, io.BytesIO(), Limits())


def test_what_was_linted_is_what_is_packed(tmp_path: Path) -> None:
    """Also where a file system tells nothing of a change."""
    found = offer.inspect(make_pack(tmp_path), Limits())
    found = offer.Offer(found.tree, {**found.files, "values.yaml": b"other"}, found.reading)
    with pytest.raises(DirectoryChangedError, match=r"values\.yaml changed"):
        offer.pack(found, io.BytesIO(), Limits())
