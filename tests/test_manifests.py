"""The pack manifest, to the byte: its digest is what clients pin."""

from __future__ import annotations

import itertools
import json

import pytest

from packregistry.manifests import MEDIA_TYPES, pack_manifest
from packregistry.model import Digest, PackName, Tag
from packregistry.pack import METADATA_FILES
from tests.factories import descriptor

ARCHIVE = descriptor("archive", "hello-1.0.0.tar.gz", "application/vnd.oci.image.layer.v1.tar+gzip")
FILES = tuple(descriptor(title, title, MEDIA_TYPES[title]) for title in ("values.yaml", "pack.json", "logo.png"))


def manifest(name: str = "hello", tag: str = "1.0.0") -> bytes:
    return pack_manifest(PackName(name), Tag(tag), ARCHIVE, FILES)


def test_it_is_an_oci_image_manifest() -> None:
    document = json.loads(manifest(tag="lts__1.0.0"))
    assert document["schemaVersion"] == 2
    assert document["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert document["annotations"] == {
        "org.opencontainers.image.ref.name": "lts__1.0.0",
        "org.opencontainers.image.title": "hello",
    }


def test_the_config_is_pack_json_and_the_layers_are_the_archive_and_then_the_other_files() -> None:
    document = json.loads(manifest())
    assert document["config"] == {
        "mediaType": "application/json",
        "digest": Digest.of(b"pack.json"),
        "size": 9,
        "annotations": {"org.opencontainers.image.title": "pack.json"},
    }
    titles = [layer["annotations"]["org.opencontainers.image.title"] for layer in document["layers"]]
    assert titles == ["hello-1.0.0.tar.gz", "logo.png", "values.yaml"]
    assert document["layers"][0]["digest"] == ARCHIVE.digest
    assert document["layers"][0]["mediaType"] == ARCHIVE.media_type


def test_the_same_release_gives_the_same_bytes_whatever_the_order() -> None:
    made = {pack_manifest(PackName("hello"), Tag("1.0.0"), ARCHIVE, files) for files in itertools.permutations(FILES)}
    assert made == {manifest()}


def test_its_digest_is_pinned() -> None:
    assert Digest.of(manifest()) == "sha256:4c4507da090c60a217f375d4d04e81d81f3aaa40ec18d4b25c56db0550b61aac"


def test_name_and_tag_are_part_of_it() -> None:
    assert len({manifest(), manifest(name="other"), manifest(tag="2.0.0")}) == 3


@pytest.mark.parametrize("title", METADATA_FILES)
def test_every_small_file_has_a_media_type(title: str) -> None:
    assert MEDIA_TYPES[title]
