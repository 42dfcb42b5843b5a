"""A pack in memory: releases in order, parent tags, and blobs that belong to it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from packregistry.catalog import Pack
from packregistry.errors import BlobUnknownError, ManifestUnknownError
from packregistry.model import TAG_MAX, Digest, Tag
from tests.factories import descriptor, record, release


def pack(*versions: str, tags: Mapping[str, str] | None = None) -> Pack:
    """A pack with these releases, each `[group__]version`."""
    made = []
    for text in versions:
        tag = Tag.parse(text)
        made.append(release(tag.label, tag.group))
    return Pack(record("hello", *made, tags=tags))


def test_releases_are_newest_first_and_of_equal_versions_those_without_a_group_first() -> None:
    found = pack("1.9.0", "lts__1.10.0", "1.10.0", "1.10.0-rc.1", "2", "beta__1.10.0")
    assert [item.tag for item in found.releases] == [
        "2",
        "1.10.0",
        "beta__1.10.0",
        "lts__1.10.0",
        "1.10.0-rc.1",
        "1.9.0",
    ]
    assert found.latest.tag == "2"


@pytest.mark.parametrize(
    ("versions", "parents"),
    [
        ((), {}),
        (("14.4.3",), {"14.x": "14.4.3", "14.4.x": "14.4.3"}),
        (("14.4.3", "14.10.0"), {"14.x": "14.10.0", "14.4.x": "14.4.3", "14.10.x": "14.10.0"}),
        (("lts__14.4.3",), {"lts__14.x": "lts__14.4.3", "lts__14.4.x": "lts__14.4.3"}),
        (
            ("lts__1.0.0", "1.5.0"),
            {"1.x": "1.5.0", "1.5.x": "1.5.0", "lts__1.x": "lts__1.0.0", "lts__1.0.x": "lts__1.0.0"},
        ),
        (("v1.1.0", "23.07.1"), {"1.x": "v1.1.0", "1.1.x": "v1.1.0", "23.x": "23.07.1", "23.07.x": "23.07.1"}),
        (("1.0.0", "1.0.1-rc.1"), {"1.x": "1.0.1-rc.1", "1.0.x": "1.0.1-rc.1"}),
        (("latest",), {}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_parent_tags_stand_for_the_newest_release_of_their_group(
    versions: tuple[str, ...], parents: dict[str, str]
) -> None:
    assert pack(*versions).parents == parents


def test_a_parent_that_would_be_too_long_for_a_tag_is_left_out() -> None:
    """`1.2` is shorter than its parent `1.2.x`."""
    minor = "2" * (TAG_MAX - 3)
    found = pack(f"1.{minor}")
    assert found.parents == {"1.x": f"1.{minor}"}


def test_tags_are_sorted_and_have_all_kinds() -> None:
    found = pack("1.0.0", "0.9.0", tags={"stable": "0.9.0"})
    assert list(found.tags.items()) == [
        ("0.9.0", "0.9.0"),
        ("0.9.x", "0.9.0"),
        ("0.x", "0.9.0"),
        ("1.0.0", "1.0.0"),
        ("1.0.x", "1.0.0"),
        ("1.x", "1.0.0"),
        ("stable", "0.9.0"),
    ]
    assert found.tags_of(found.record.releases[Tag("0.9.0")]) == ("0.9.0", "0.9.x", "0.x", "stable")
    assert found.tags_of(found.latest) == ("1.0.0", "1.0.x", "1.x")


def test_a_release_s_own_tag_comes_before_one_that_was_added_and_that_before_a_parent() -> None:
    found = pack("1.0.0", "2.0.0", tags={"1.0.0": "2.0.0", "1.x": "2.0.0"})
    assert found.release(Tag("1.0.0")).tag == "1.0.0"
    assert found.release(Tag("1.x")).tag == "2.0.0"


def test_a_release_is_found_by_any_of_its_tags() -> None:
    found = pack("1.0.0", "lts__1.2.0", tags={"stable": "lts__1.2.0"})
    for tag, expected in [("1.0.0", "1.0.0"), ("1.x", "1.0.0"), ("lts__1.2.x", "lts__1.2.0"), ("stable", "lts__1.2.0")]:
        assert found.release(Tag(tag)).tag == expected


def test_an_unknown_tag_is_refused_with_the_newest_version() -> None:
    with pytest.raises(ManifestUnknownError, match=r'hello has no tag "3": its newest version is 2') as caught:
        pack("1", "2").release(Tag("3"))
    assert caught.value.detail == {"name": "hello", "tag": "3"}


def test_a_pack_without_releases_has_no_newest_version() -> None:
    with pytest.raises(ManifestUnknownError, match=r'hello has no tag "3"$'):
        pack().release(Tag("3"))


def test_a_release_is_found_by_its_manifest() -> None:
    found = pack("1", "2")
    for item in found.releases:
        assert found.release_of_manifest(item.manifest.digest) == item
    archive = found.latest.archive.digest
    with pytest.raises(ManifestUnknownError, match=f"hello has no manifest {archive}"):
        found.release_of_manifest(archive)


def test_all_blobs_of_all_releases_belong_to_the_pack() -> None:
    found = pack("1", "2")
    for item in found.releases:
        for blob in item.blobs():
            assert found.blob(blob.digest) == blob


def test_what_another_pack_holds_is_unknown() -> None:
    digest = Digest.of(b"of another pack")
    with pytest.raises(BlobUnknownError, match=f"hello has no blob {digest}") as caught:
        pack("1").blob(digest)
    assert caught.value.detail == {"name": "hello", "digest": digest}


def test_blobs_go_with_their_release() -> None:
    shared = descriptor("shared", "values.yaml")
    one, two = release("1", files=(shared,)), release("2", files=(shared,))
    left = Pack(record("hello", two))
    assert left.blob(shared.digest) == shared
    with pytest.raises(BlobUnknownError):
        left.blob(one.archive.digest)
