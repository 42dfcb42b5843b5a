"""Real packs, all of them: served, downloaded, unpacked with the system's tar, and compared with their directories."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.factories import CORPUS
from tests.process import Server, serving

pytestmark = [
    pytest.mark.corpus,
    pytest.mark.thorough,
    pytest.mark.process,
    pytest.mark.skipif(not CORPUS.is_dir(), reason=f"the corpus of real packs is not at {CORPUS}"),
]

PACKS = sorted(path.parent for path in CORPUS.glob("*/pack.json"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of the whole corpus, as the README starts it."""
    with serving("--packs", str(CORPUS), "--data", str(tmp_path_factory.mktemp("data"))) as running:
        yield running


@pytest.fixture(scope="module")
def problems(server: Server) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = server.get("/api/v1/problems").json()["problems"]
    return found


def files_below(root: Path) -> dict[str, tuple[bytes, bool]]:
    """Path → content and whether it may be run, of every file below `root`."""
    return {
        str(path.relative_to(root)): (path.read_bytes(), os.access(path, os.X_OK) and bool(path.stat().st_mode & 0o111))
        for path in root.rglob("*")
        if path.is_file()
    }


def identity(directory: Path) -> tuple[str, str]:
    document = json.loads((directory / "pack.json").read_text())
    return document["name"], document["version"]


def test_every_pack_of_the_corpus_is_in_the_catalog(server: Server) -> None:
    assert len(PACKS) == 70
    names = server.get("/v1/_catalog").json()["repositories"]
    assert names == sorted({identity(directory)[0] for directory in PACKS})


@pytest.mark.parametrize("directory", PACKS, ids=lambda path: path.name)
def test_the_archive_unpacks_to_exactly_the_directory(server: Server, tmp_path: Path, directory: Path) -> None:
    name, version = identity(directory)
    manifest = server.get(f"/v1/{name}/manifests/{version}")
    assert manifest.headers["docker-content-digest"] == "sha256:" + hashlib.sha256(manifest.body).hexdigest()
    layer = manifest.json()["layers"][0]
    assert layer["annotations"]["org.opencontainers.image.title"] == f"{name}-{version}.tar.gz"

    archive = server.get(f"/api/v1/packs/{name}/versions/{version}/archive").body
    assert "sha256:" + hashlib.sha256(archive).hexdigest() == layer["digest"]
    assert len(archive) == layer["size"]
    assert server.get(f"/v1/{name}/blobs/{layer['digest']}").body == archive

    file = tmp_path / "pack.tar.gz"
    file.write_bytes(archive)
    done = subprocess.run(["tar", "-xzf", file, "-C", tmp_path], check=True, capture_output=True)
    assert done.stderr == b""
    assert files_below(tmp_path / f"{name}-{version}") == files_below(directory)


@pytest.mark.parametrize("directory", PACKS, ids=lambda path: path.name)
def test_the_small_files_are_served_as_they_are(server: Server, directory: Path) -> None:
    name, version = identity(directory)
    details = server.get(f"/api/v1/packs/{name}/versions/{version}").json()
    assert details["pack"] == json.loads((directory / "pack.json").read_text())
    assert details["values"] == (directory / "values.yaml").read_bytes().decode("utf-8-sig", "replace")
    logo = server.get(details["logoUrl"])
    assert logo.headers["content-type"] == "image/png"
    assert logo.body == (directory / "logo.png").read_bytes()
    assert {file["path"] for file in details["files"]} == set(files_below(directory))


def test_no_pack_is_refused_and_the_one_with_a_missing_chart_warns(problems: list[dict[str, Any]]) -> None:
    assert [item for item in problems if not item["published"]] == []
    warnings = {item["name"]: item["problems"] for item in problems}
    assert {problem["field"] for problem in warnings["haproxy-unified-gateway"]} == {"charts[0]"}
    assert {problem["severity"] for found in warnings.values() for problem in found} == {"warning"}


def test_a_file_deep_in_an_archive_is_served_alone(server: Server) -> None:
    path = "charts/csi-driver-nfs/templates/csi-nfs-node.yaml"
    answer = server.get(f"/api/v1/packs/csi-driver-nfs/versions/4.x/files/{path}")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.body == (CORPUS / "csi-driver-nfs" / path).read_bytes()
