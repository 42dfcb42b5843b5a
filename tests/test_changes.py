"""Which right each change of a record takes, decided on what the record holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from packregistry import changes
from packregistry.auth.rights import ALL, Action, Rights
from packregistry.errors import DeniedError, RegistryError
from packregistry.model import Origin, PackRecord, Tag
from tests.factories import descriptor, record, release

ONE, TWO = Tag("1.0.0"), Tag("2.0.0")
HERE = Origin("directory", "/packs/here")
OTHER: dict[str, Any] = {
    "content": descriptor("other listing"),
    "archive": descriptor("other archive", "hello-1.0.0.tar.gz"),
}


def author(rights: Rights = ALL, **more: Any) -> changes.Author:
    return changes.Author("ann", "2026-01-01T00:00:00.000Z", rights, "why", **more)


def held(**more: Any) -> PackRecord:
    """A pack with the versions 1.0.0 and 2.0.0, and a tag on the first."""
    return record("hello", release(**more), release("2.0.0"), tags={"stable": ONE})


def replaced() -> PackRecord:
    """The same, where 1.0.0 had other content before."""
    changed, _ = changes.publish(held(), release(**OTHER), author(force=True))
    return changed


def removed() -> PackRecord:
    changed, _ = changes.remove(held(), ONE, author())
    return changed


Change = Callable[[changes.Author], tuple[PackRecord, object]]

NEEDS: Mapping[str, tuple[Change, Action]] = {
    "a new version": (lambda by: changes.publish(held(), release("3.0.0"), by), Action.CREATE),
    "the first version": (lambda by: changes.publish(record("hello"), release(), by), Action.CREATE),
    "other content by force": (
        lambda by: changes.publish(held(), release(**OTHER), replace(by, force=True)),
        Action.OVERWRITE,
    ),
    "the same content by force": (
        lambda by: changes.publish(held(), release(), replace(by, force=True, skip_digest_check=True)),
        Action.OVERWRITE,
    ),
    "a hidden tag shown again by a push": (lambda by: changes.publish(held(hidden=True), release(), by), Action.CREATE),
    "a hidden tag shown again": (lambda by: changes.tag(held(hidden=True), ONE, Tag("stable"), by), Action.CREATE),
    "a new tag": (lambda by: changes.tag(held(), Tag("new"), ONE, by), Action.CREATE),
    "a tag moved": (lambda by: changes.tag(held(), Tag("stable"), TWO, by), Action.OVERWRITE),
    "a tag removed": (lambda by: changes.untag(held(), Tag("stable"), by), Action.DELETE),
    "a version's own tag removed": (lambda by: changes.untag(held(), ONE, by), Action.DELETE),
    "a version removed": (lambda by: changes.remove(held(), ONE, by), Action.DELETE),
    "a version rolled back": (lambda by: changes.restore(replaced(), ONE, None, by), Action.OVERWRITE),
    "a removed version restored": (lambda by: changes.restore(removed(), ONE, None, by), Action.CREATE),
}


@pytest.mark.parametrize(("change", "needed"), NEEDS.values(), ids=NEEDS)
def test_a_change_takes_one_right_and_no_other_will_do(change: Change, needed: Action) -> None:
    changed, _ = change(author(frozenset({needed})))
    assert changed.history[-1].user == "ann"
    with pytest.raises(DeniedError) as caught:
        change(author(ALL - {needed}))
    assert caught.value.detail["pack"] == "hello"


@pytest.mark.parametrize("right", [Action.CREATE, Action.OVERWRITE], ids=lambda right: right.value)
def test_the_same_content_again_takes_either_right_to_publish(right: Action) -> None:
    changed, published = changes.publish(held(), release(), author(frozenset({right})))
    assert (changed, published.action) == (held(), "unchanged")


@pytest.mark.parametrize("rights", [frozenset(), frozenset({Action.READ, Action.DELETE})], ids=["none", "others"])
@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    "offered", [release(), release(**OTHER), release("3.0.0")], ids=["the same", "other content", "new"]
)
def test_who_may_publish_nothing_learns_nothing_of_what_is_there(rights: Rights, force: bool, offered: Any) -> None:
    with pytest.raises(DeniedError) as caught:
        changes.publish(held(), offered, author(rights, force=force))
    assert caught.value.detail == {"subject": "ann", "action": "create", "pack": "hello"}


def test_another_manifest_of_the_same_archive_stays_out_without_the_right_to_overwrite() -> None:
    offered = release(manifest=descriptor("another manifest"), extra=(descriptor("a signature"),))
    kept, published = changes.publish(held(), offered, author(frozenset({Action.CREATE})))
    assert published.release.manifest == kept.releases[ONE].manifest == release().manifest
    assert kept.releases[ONE].extra == ()
    changed, published = changes.publish(held(), offered, author(frozenset({Action.OVERWRITE})))
    assert published.release.manifest == changed.releases[ONE].manifest == offered.manifest
    assert changed.releases[ONE].extra == offered.extra


def test_a_conflict_is_named_to_whoever_may_create() -> None:
    with pytest.raises(RegistryError) as caught:
        changes.publish(held(), release(**OTHER), author(frozenset({Action.CREATE})))
    assert caught.value.code == "RELEASE_CONFLICT"


def test_a_directory_replaces_its_own_content_with_the_rights_of_the_registry() -> None:
    before = held(origin=HERE)
    _, published = changes.publish(before, release(origin=HERE, **OTHER), author())
    assert published.action == "replaced"
    with pytest.raises(DeniedError):
        changes.publish(before, release(origin=HERE, **OTHER), author(ALL - {Action.OVERWRITE}))


def test_what_a_directory_holds_is_taken_over_by_whoever_may_overwrite_and_that_is_noted() -> None:
    before = held(origin=HERE)
    kept, _ = changes.publish(before, release(), author(frozenset({Action.CREATE})))
    assert kept.releases[ONE].origin == HERE
    assert kept.history == ()
    changed, published = changes.publish(before, release(), author(frozenset({Action.OVERWRITE})))
    assert (changed.releases[ONE].origin.kind, published.action) == ("push", "unchanged")
    assert [(entry.action, entry.user) for entry in changed.history] == [("adopt", "ann")]


def test_another_manifest_is_noted_and_is_no_content_to_go_back_from() -> None:
    changed, _ = changes.publish(held(), release(manifest=descriptor("another manifest")), author())
    assert [entry.action for entry in changed.history] == ["manifest"]
    with pytest.raises(RegistryError) as caught:
        changes.restore(changed, ONE, None, author())
    assert caught.value.code == "PARAMETER_INVALID"


def test_a_release_that_has_another_manifest_by_now_is_not_removed() -> None:
    manifest = release().manifest.digest
    changed, removed_now = changes.remove(held(), ONE, author(), manifest)
    assert removed_now.release is not None
    assert ONE not in changed.releases
    with pytest.raises(RegistryError) as caught:
        changes.remove(replaced(), ONE, author(), descriptor("something else").digest)
    assert caught.value.code == "MANIFEST_UNKNOWN"
