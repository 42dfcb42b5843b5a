"""The values everything speaks in: what their grammar lets in, and records there and back."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, get_args

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from packregistry.errors import DigestInvalidError, NameInvalidError, RegistryError, TagInvalidError
from packregistry.model import (
    NAME_MAX,
    TAG_MAX,
    Descriptor,
    Digest,
    HistoryEntry,
    Metadata,
    Origin,
    PackName,
    PackRecord,
    Problem,
    Release,
    Retired,
    Severity,
    Tag,
    problem_json,
    problem_of,
    shown,
)
from tests.factories import record, release

HEX = "0123456789abcdef" * 4

HOSTILE = [
    "",
    ".",
    "..",
    "../../etc/passwd",
    "..%2f",
    "%2e%2e%2f",
    "a/b",
    "a\\b",
    "/a",
    "a\0",
    "\0",
    "a\n",
    "a\r\n",
    "\na",
    " a",
    "a ",
    "a b",
    "-a",
    ".a",
    "x" * 300,
    "\u0430dmin",  # a Cyrillic a
    "caf\u00e9",
    "\uff41",  # a fullwidth a
    "\u0661",  # an Arabic digit
    "a\u2024b",  # a one dot leader
    "\u212a",  # the Kelvin sign, a K to re.IGNORECASE
    "a\u200b",
    "\ud800",
    "a<script>",
    'a"',
    "a:b",
    "a@b",
    "a+b",
]

TEXT = st.one_of(
    st.text(st.characters()),
    st.text("aZ09._-/%\\\0\n\u0430\ud800", max_size=12),
    st.sampled_from(HOSTILE),
    st.integers(0, 300).map(lambda length: "x" * length),
)


@pytest.mark.parametrize("text", [*HOSTILE, "_catalog", "_", "a_", "a.", "a-", "x" * (NAME_MAX + 1)], ids=ascii)
def test_what_is_no_pack_name_is_refused(text: str) -> None:
    with pytest.raises(NameInvalidError) as caught:
        PackName.parse(text)
    assert str(caught.value).isascii()
    assert len(str(caught.value)) < 1000
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("text", ["a", "9", "A-b_c.d", "a--b", "a__b", "a._-b", "x.json", "x" * NAME_MAX])
def test_pack_names(text: str) -> None:
    assert PackName.parse(text) == text
    assert isinstance(PackName.parse(text), PackName)


@pytest.mark.parametrize("text", [*HOSTILE, "x" * (TAG_MAX + 1)], ids=ascii)
def test_what_is_no_tag_is_refused(text: str) -> None:
    with pytest.raises(TagInvalidError) as caught:
        Tag.parse(text)
    assert str(caught.value).isascii()
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("text", "group", "label"),
    [
        ("1.0.0", "", "1.0.0"),
        ("lts__1.0.0", "lts", "1.0.0"),
        ("lts__1.x", "lts", "1.x"),
        ("a_b__c_d", "a_b", "c_d"),
        ("a__b__c", "a", "b__c"),
        ("__a", "", "a"),
        ("a__", "a", ""),
        ("_", "", "_"),
        ("x" * TAG_MAX, "", "x" * TAG_MAX),
    ],
)
def test_tags_have_a_group_and_a_label(text: str, group: str, label: str) -> None:
    tag = Tag.parse(text)
    assert (tag, tag.group, tag.label) == (text, group, label)


@pytest.mark.parametrize(
    "text",
    [
        *HOSTILE,
        HEX,
        f"sha256:{HEX[1:]}",
        f"sha256:{HEX}0",
        f"sha256:{HEX.upper()}",
        f"SHA256:{HEX}",
        f"sha512:{HEX}",
        f"sha256:{HEX}\n",
        f" sha256:{HEX}",
        f"sha256:{HEX[:-1]}\u0661",
        "sha256:" + "../" * 22,
    ],
    ids=ascii,
)
def test_what_is_no_digest_is_refused(text: str) -> None:
    with pytest.raises(DigestInvalidError) as caught:
        Digest.parse(text)
    assert str(caught.value).isascii()
    assert len(str(caught.value)) < 1000


def test_a_digest() -> None:
    assert Digest.parse(f"sha256:{HEX}").hex == HEX
    empty = Digest.of(b"")
    assert empty == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert Digest.parse(empty) == empty


@pytest.mark.parametrize("parse", [PackName.parse, Tag.parse, Digest.parse], ids=["name", "tag", "digest"])
@given(text=TEXT)
def test_whatever_is_let_in_is_safe_in_a_path_a_url_and_a_header(parse: Callable[[str], str], text: str) -> None:
    try:
        parsed = parse(text)
    except RegistryError:
        return
    assert parsed == text
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._:-]*", parsed)
    assert len(parsed) <= 128


@pytest.mark.parametrize(
    ("version", "group", "tag"),
    [
        ("1.0.0", "", "1.0.0"),
        ("1.0.0", "lts", "lts__1.0.0"),
        ("v1.1.0", "", "v1.1.0"),
        ("0.30.0-5.5.2026", "", "0.30.0-5.5.2026"),
        ("1_2", "a_b", "a_b__1_2"),
        ("1.xx", "", "1.xx"),
        ("1.x-1", "", "1.x-1"),
        ("x", "", "x"),
    ],
)
def test_the_tag_of_a_version(version: str, group: str, tag: str) -> None:
    made = Tag.of_version(version, group)
    assert made == tag
    assert (made.group, made.label) == (group, version)


@pytest.mark.parametrize(
    ("version", "group"),
    [
        ("", ""),
        ("", "lts"),
        ("1__2", ""),
        ("_1", ""),
        ("1_", ""),
        ("_", ""),
        ("1", "a__b"),
        ("1", "_a"),
        ("1", "a_"),
        ("1", "-a"),
        ("1", " "),
        ("1.x", ""),
        ("1.2.x", ""),
        ("v1.x", ""),
        ("V1.2.x", "lts"),
        ("..", ""),
        ("1+2", ""),
        ("1\n", ""),
        ("1", "a\n"),
        ("1" * TAG_MAX, "lts"),
    ],
    ids=ascii,
)
def test_versions_and_groups_that_would_be_taken_for_something_else(version: str, group: str) -> None:
    with pytest.raises(TagInvalidError) as caught:
        Tag.of_version(version, group)
    assert caught.value.remedy


@given(version=TEXT, group=TEXT)
def test_a_tag_gives_back_the_version_and_group_it_was_made_of(version: str, group: str) -> None:
    try:
        tag = Tag.of_version(version, group)
    except TagInvalidError:
        return
    assert (tag.label, tag.group) == (version, group)
    assert Tag.parse(tag) == tag


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a", '"a"'), ('a"b', '"a\\"b"'), ("a\n\0", '"a\\n\\u0000"'), ("\ud800é", '"\\ud800\\u00e9"')],
)
def test_texts_are_shown_escaped(text: str, expected: str) -> None:
    assert shown(text) == expected


def test_long_texts_are_cut() -> None:
    assert shown("x" * 81) == '"' + "x" * 80 + '\\u2026"'
    assert shown("x" * 80) == '"' + "x" * 80 + '"'
    assert shown("xyz", 2) == '"xy\\u2026"'


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (Problem("error", "pack.json", 3, "layer", "is missing", "add it"), "pack.json:3: layer: is missing (add it)"),
        (Problem("error", "pack.json", 0, "", "is missing"), "pack.json: is missing"),
        (Problem("warning", "", 0, "", "is odd"), "is odd"),
    ],
)
def test_problems_say_where_they_are(problem: Problem, text: str) -> None:
    assert str(problem) == text


def test_errors_sort_before_warnings() -> None:
    error, warning = Problem("error", "z", 9, "", "z"), Problem("warning", "a", 1, "", "a")
    assert sorted([warning, error]) == [error, warning]


def test_a_release_knows_its_files_and_blobs() -> None:
    found = release()
    assert found.file("pack.json") == found.files[0]
    assert found.file("logo.png") is None
    assert found.blobs() == (found.archive, found.content, found.manifest, *found.files)


# Records

ANY = st.text(st.characters(), max_size=8)
NAMES = st.from_regex(r"[A-Za-z0-9]{1,6}(?:[._-][A-Za-z0-9]{1,4})?", fullmatch=True).map(PackName.parse)
DIGESTS = st.binary(max_size=2).map(Digest.of)
DESCRIPTORS = st.builds(Descriptor, DIGESTS, st.integers(0, 2**60), ANY, ANY)
PROBLEMS = st.builds(Problem, st.sampled_from(get_args(Severity)), ANY, st.integers(0, 9), ANY, ANY, ANY)
TAGS = st.builds(Tag.of_version, st.from_regex(r"[0-9]\.[0-9]", fullmatch=True), st.sampled_from(["", "lts"]))
RELEASES = TAGS.flatmap(
    lambda tag: st.builds(
        Release,
        tag=st.just(tag),
        version=st.just(tag.label),
        metadata=st.builds(Metadata, ANY, ANY, ANY, ANY, st.lists(ANY, max_size=2).map(tuple)),
        archive=DESCRIPTORS,
        content=DESCRIPTORS,
        manifest=DESCRIPTORS,
        files=st.lists(DESCRIPTORS, max_size=2).map(tuple),
        origin=st.builds(Origin, st.sampled_from(["push", "directory"]), ANY),
        published=ANY,
        problems=st.lists(PROBLEMS, max_size=2).map(tuple),
    )
)
ENTRIES = st.builds(
    HistoryEntry,
    st.integers(1, 2000),
    ANY.filter(bool),
    ANY,
    ANY.filter(bool),
    TAGS,
    st.none() | DIGESTS,
    st.none() | DIGESTS,
    ANY,
)


@st.composite
def records(draw: st.DrawFn) -> PackRecord:
    releases = {item.tag: item for item in draw(st.lists(RELEASES, max_size=3))}
    tags: dict[Tag, Tag] = {}
    if releases:
        tags = draw(st.dictionaries(st.sampled_from(["stable", "latest"]).map(Tag), st.sampled_from(list(releases))))
    retired = [Retired(draw(st.text(max_size=3)), item) for item in releases.values()]
    return PackRecord(draw(NAMES), releases, tags, tuple(draw(st.lists(ENTRIES, max_size=2))), tuple(retired))


NOTHING_SAID = PackRecord(
    PackName("hello"),
    {Tag("1"): release("1", metadata=Metadata("", ""), problems=(Problem("error", "", 0, "", ""),), published="")},
    history=(HistoryEntry(1, "t", "", "publish", Tag("1")),),
)


@settings(max_examples=30)
@example(NOTHING_SAID)
@given(records())
def test_a_record_decodes_to_what_was_encoded(written: PackRecord) -> None:
    encoded = written.encode()
    assert encoded.isascii()
    decoded = PackRecord.decode(encoded)
    assert decoded == written
    assert decoded.encode() == encoded
    assert {type(tag) for tag in decoded.releases} <= {Tag}
    assert type(decoded.name) is PackName


@given(PROBLEMS)
def test_a_problem_reads_as_it_was_written(problem: Problem) -> None:
    assert problem_of(json.loads(json.dumps(problem_json(problem)))) == problem


GOOD = json.loads(
    PackRecord(
        PackName("hello"),
        {Tag("1"): release("1", problems=(Problem("warning", "values.yaml", 1, "a", "is odd", "change it"),))},
        {Tag("stable"): Tag("1")},
        (HistoryEntry(1, "t", "ann", "publish", Tag("1"), Digest.of(b""), Digest.of(b"1"), "because"),),
    ).encode()
)
PATHS: list[tuple[str | int, ...]] = [
    ("format",),
    ("name",),
    ("releases",),
    ("releases", 0),
    *(("releases", 0, key) for key in GOOD["releases"][0]),
    ("releases", 0, "archive", 0),
    ("releases", 0, "archive", 1),
    ("releases", 0, "archive", 2),
    ("releases", 0, "archive", 3),
    ("releases", 0, "files", 0),
    ("releases", 0, "metadata", "display_name"),
    ("releases", 0, "metadata", "layer"),
    ("releases", 0, "metadata", "addon_type"),
    ("releases", 0, "metadata", "addon_sub_type"),
    ("releases", 0, "metadata", "cloud_types"),
    ("releases", 0, "metadata", "cloud_types", 0),
    ("releases", 0, "origin", "kind"),
    ("releases", 0, "origin", "directory"),
    ("releases", 0, "problems", 0),
    *(("releases", 0, "problems", 0, key) for key in GOOD["releases"][0]["problems"][0]),
    ("tags",),
    ("tags", "stable"),
    ("history",),
    ("history", 0),
    *(("history", 0, key) for key in GOOD["history"][0]),
]


def with_value(path: tuple[str | int, ...], value: Any) -> bytes:
    document = json.loads(json.dumps(GOOD))
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return json.dumps(document).encode()


@pytest.mark.parametrize("path", PATHS, ids=lambda path: ".".join(map(str, path)))
def test_a_record_with_a_value_of_another_type_is_no_record(path: tuple[str | int, ...]) -> None:
    values: tuple[object, ...] = (1.5, [[]])
    for value in values:
        with pytest.raises(ValueError, match=r"not a|not known"):
            PackRecord.decode(with_value(path, value))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("format",), 2, "record format .* not known; it was written by a newer packregistry"),
        (("name",), "../x", "not a pack name"),
        (("releases", 0, "tag"), "..", "not a tag"),
        (("releases", 0, "version"), "2", "not a tag of version"),
        (("releases", 0, "origin", "kind"), "dream", "not an origin"),
        (("releases", 0, "problems", 0, "severity"), "fatal", "not a severity"),
        (("tags", "stable"), "2", 'tags for "2", which is not there'),
        (("tags", "../x"), "1", "not a tag"),
        (("history", 0, "after"), "sha256:x", "not a digest"),
    ],
)
def test_a_record_that_contradicts_itself_is_no_record(
    path: tuple[str | int, ...], value: object, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        PackRecord.decode(with_value(path, value))


@settings(max_examples=30)
@given(st.binary() | st.recursive(st.none() | st.text(), st.lists).map(lambda value: json.dumps(value).encode()))
def test_anything_else_is_no_record(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"decode|Expecting|Extra data|Invalid|Unterminated|it is not a record"):
        PackRecord.decode(data)


def test_deep_nesting_is_no_record() -> None:
    with pytest.raises(ValueError, match="not a record: RecursionError"):
        PackRecord.decode(b"[" * 100_000)


def test_the_encoding_of_a_record_is_pinned() -> None:
    """What was written by one version has to be read by all later ones."""
    assert json.loads(record("hello", release("1"), tags={"stable": "1"}).encode()) == {
        "format": 1,
        "name": "hello",
        "releases": [
            {
                "tag": "1",
                "version": "1",
                "metadata": {
                    "display_name": "Hello",
                    "layer": "addon",
                    "addon_type": "app services",
                    "cloud_types": ["all"],
                },
                "archive": [Digest.of(b"archive 1"), 9, "application/gzip", "hello-1.tar.gz"],
                "content": [Digest.of(b"listing 1"), 9, "text/plain", ""],
                "manifest": [Digest.of(b"manifest 1"), 10, "text/plain", ""],
                "files": [[Digest.of(b"pack.json 1"), 11, "application/json", "pack.json"]],
                "origin": {"kind": "push"},
                "published": "2024-05-01T12:00:00.000Z",
                "problems": [],
                "extra": [],
                "hidden": False,
            }
        ],
        "tags": {"stable": "1"},
        "history": [],
        "retired": [],
    }
