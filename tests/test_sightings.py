"""What is remembered of watched directories survives the process, and nothing depends on it."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

import packregistry
from packregistry import sightings
from packregistry.model import Digest, PackName, Problem, Tag
from packregistry.sightings import Sighting, Sightings

ERROR = Problem("error", "pack.json", 3, "version", "is empty", "give it a value")
WARNING = Problem("warning", "README.md", 0, "", "is missing")
HELLO = (PackName("hello"), Tag("lts__1.0.0"))
STANDING = Digest.of(b"archive")
EVERYTHING = Sightings(
    roots=(Path("/packs"), Path("/more")),
    directories={
        Path("/packs/good"): Sighting("f1", HELLO, (WARNING,), STANDING),
        Path("/packs/twin"): Sighting("f2", HELLO),
        Path("/packs/bad"): Sighting("f3", None, (ERROR, WARNING)),
        Path("/packs/worse"): Sighting("f4", HELLO, (ERROR,)),
        Path("/packs/refused"): Sighting("f5", HELLO, (WARNING,), STANDING, ERROR),
    },
    duplicates={Path("/packs/twin"): Path("/packs/good")},
    problems={Path("/more"): (ERROR,)},
)


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    EVERYTHING.save(tmp_path / "sources.json")
    assert Sightings.load(tmp_path / "sources.json") == EVERYTHING
    assert [path.name for path in tmp_path.iterdir()] == ["sources.json"]


def test_the_same_sightings_are_the_same_file(tmp_path: Path) -> None:
    turned = Sightings(
        EVERYTHING.roots, dict(reversed([*EVERYTHING.directories.items()])), EVERYTHING.duplicates, EVERYTHING.problems
    )
    EVERYTHING.save(tmp_path / "one")
    turned.save(tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_where_nothing_was_saved_nothing_is_known(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert Sightings.load(tmp_path / "sources.json") == Sightings()
    assert not caplog.records


def damaged(**changes: object) -> bytes:
    """The file with some of its keys replaced, or taken away by `...`."""
    document = {"version": packregistry.__version__, "roots": [], "directories": {}, "duplicates": {}, "problems": {}}
    return json.dumps({key: value for key, value in {**document, **changes}.items() if value is not ...}).encode()


SIGHTING: dict[str, object] = {
    "fingerprint": "f",
    "name": "a",
    "tag": "1",
    "problems": [],
    "standing": None,
    "conflict": None,
}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\xff",
        b"null",
        b"[]",
        b'{"version": ',
        damaged(version=...),
        damaged(roots=...),
        damaged(roots=[1]),
        damaged(roots=None),
        damaged(directories=[]),
        damaged(directories={"/a": {}}),
        damaged(directories={"/a": {**SIGHTING, "name": "../a"}}),
        damaged(directories={"/a": {**SIGHTING, "tag": "a b"}}),
        damaged(directories={"/a": {**SIGHTING, "standing": "md5:0"}}),
        damaged(directories={"/a": {**SIGHTING, "problems": [{}]}}),
        damaged(duplicates={"/a": None}),
        damaged(problems={"/a": 7}),
    ],
)
def test_a_damaged_file_is_a_warning_and_nothing_is_known(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, data: bytes
) -> None:
    (tmp_path / "sources.json").write_bytes(data)
    assert Sightings.load(tmp_path / "sources.json") == Sightings()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "sources.json cannot be read, so every directory is read again" in caplog.text


def test_a_file_that_is_not_damaged_is_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The examples above are one step away from this."""
    (tmp_path / "sources.json").write_bytes(damaged(directories={"/a": SIGHTING}))
    assert list(Sightings.load(tmp_path / "sources.json").directories) == [Path("/a")]
    assert not caplog.records


def test_what_another_version_found_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What was an error for one version need not be for the next."""
    EVERYTHING.save(tmp_path / "sources.json")
    monkeypatch.setattr(sightings, "__version__", "99.0.0")
    assert Sightings.load(tmp_path / "sources.json") == Sightings()
    assert not caplog.records


def test_saving_replaces_the_file_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    EVERYTHING.save(tmp_path / "sources.json")

    def full(self: Path, *_: object, **__: object) -> int:
        self.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        Sightings().save(tmp_path / "sources.json")
    assert Sightings.load(tmp_path / "sources.json") == EVERYTHING


@pytest.mark.parametrize(
    ("sighting", "claim"),
    [
        (Sighting("f", HELLO), HELLO),
        (Sighting("f", HELLO, (WARNING,)), HELLO),
        (Sighting("f", HELLO, (), STANDING, ERROR), HELLO),
        (Sighting("f", HELLO, (WARNING, ERROR)), None),
        (Sighting("f", None, (ERROR,)), None),
    ],
    ids=["good", "warning", "refused", "error", "unknown"],
)
def test_a_directory_without_errors_claims_its_release(sighting: Sighting, claim: object) -> None:
    assert sighting.claim == claim


def test_what_is_not_published_is_listed_with_the_reason_in_order() -> None:
    found = {str(path): (identity, problems) for path, identity, problems in EVERYTHING.unpublished()}
    assert list(found) == ["/packs/bad", "/packs/refused", "/packs/twin", "/packs/worse", "/more"]
    assert found["/packs/bad"] == (None, (ERROR, WARNING))
    assert found["/packs/worse"] == (HELLO, (ERROR,))
    assert found["/packs/refused"] == (HELLO, (WARNING, ERROR))
    assert found["/more"] == (None, (ERROR,))
    identity, (problem,) = found["/packs/twin"]
    assert identity == HELLO
    assert (problem.severity, problem.message) == ("warning", "the same pack is published from /packs/good")
