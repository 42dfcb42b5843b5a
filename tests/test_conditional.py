"""Header values of conditional and range requests against a model of RFC 9110."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packregistry.errors import RangeInvalidError
from packregistry.web.conditional import byte_range, matches

ETAG = '"sha256:abc"'

opaque = st.one_of(
    st.just("sha256:abc"),
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters='"\x7f'), max_size=12),
)
tags = st.lists(st.tuples(st.booleans(), opaque), min_size=1, max_size=5)
blanks = st.text(" \t", max_size=2)
numbers = st.one_of(st.integers(0, 40), st.integers(10**18, 10**40))


@given(tags, st.lists(st.tuples(blanks, blanks), min_size=5, max_size=5), st.lists(st.booleans(), min_size=5))
def test_a_list_matches_if_any_tag_in_it_is_ours_weak_or_not(
    tags: list[tuple[bool, str]], spaces: list[tuple[str, str]], empty: list[bool]
) -> None:
    elements = [
        ("," if hollow else "") + before + ("W/" if weak else "") + f'"{tag}"' + after
        for (weak, tag), (before, after), hollow in zip(tags, spaces, empty, strict=False)
    ]
    assert matches(",".join(elements), ETAG) == any(f'"{tag}"' == ETAG for _, tag in tags)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("*", True),
        (" * ", True),
        (ETAG, True),
        (f"W/{ETAG}", True),
        (f'"other" ,{ETAG}', True),
        (f'"a,b", {ETAG}', True),
        (f", ,{ETAG},", True),
        ("", False),
        ("sha256:abc", True),
        (" sha256:abc\t", True),
        ('sha256:abc, "other"', False),
        ('"other", sha256:abc', False),
        ("W/sha256:abc", False),
        ("sha256:ab", False),
        ('"sha256:abc', False),
        ('sha256:abc"', False),
        ("SHA256:ABC", False),
        ("'sha256:abc'", False),
        (f"w/{ETAG}", False),
        (f"*, {ETAG}", False),
        ('"SHA256:ABC"', False),
        (f'"other"{ETAG}', False),
        (f'"unclosed, {ETAG}', False),
        (f"{ETAG}\n", False),
        ('"other"\n', False),
    ],
)
def test_if_none_match(header: str, expected: bool) -> None:
    assert matches(header, ETAG) is expected


@given(st.text(st.sampled_from('W/"*, \t\nabc:sha256'), max_size=60))
def test_any_header_is_read_to_an_end_and_matches_only_with_our_tag_in_it(header: str) -> None:
    if matches(header, ETAG):
        assert header.strip() in {"*", ETAG.strip('"')} or ETAG in header


def model(first: int | None, last: int | None, size: int) -> tuple[int, int] | str | None:
    """RFC 9110, 14.1.1 and 14.1.2, byte by byte."""
    if size == 0 or (first is None and last is None):
        return None
    if first is not None and last is not None and last < first:
        return None
    if first is None:
        assert last is not None
        chosen = list(range(size))[-last:] if last else []
    else:
        chosen = [at for at in range(size) if first <= at and (last is None or at <= last)]
    return (chosen[0], chosen[-1] + 1) if chosen else "unsatisfiable"


def result(header: str | None, size: int, condition: str | None = None) -> tuple[int, int] | str | None:
    try:
        return byte_range(header, condition, ETAG, size)
    except RangeInvalidError as error:
        return "unsatisfiable" if error.headers == {"Content-Range": f"bytes */{size}"} else str(error.headers)


@given(st.none() | numbers, st.none() | numbers, st.integers(0, 30), st.sampled_from(["bytes", "Bytes", "BYTES"]))
def test_a_single_range_is_what_the_standard_says(first: int | None, last: int | None, size: int, unit: str) -> None:
    header = f"{unit}={'' if first is None else first}-{'' if last is None else last}"
    assert result(header, size) == model(first, last, size)


@given(st.none() | numbers, st.none() | numbers, st.integers(0, 30), st.text(max_size=14))
def test_with_any_other_if_range_all_is_sent(first: int | None, last: int | None, size: int, condition: str) -> None:
    header = f"bytes={'' if first is None else first}-{'' if last is None else last}"
    assert result(header, size, condition) is None
    assert result(header, size, ETAG) == result(header, size)


@given(st.text(st.sampled_from("bytes=-, 0123456789\t"), max_size=40), st.integers(0, 100))
def test_whatever_is_asked_a_range_is_inside_and_not_empty(header: str, size: int) -> None:
    found = result(header, size)
    if isinstance(found, tuple):
        assert 0 <= found[0] < found[1] <= size


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("", None),
        ("bytes=0-0", (0, 1)),
        ("bytes=0-9", (0, 10)),
        ("bytes=3-", (3, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=-99", (0, 10)),
        ("bytes=9-99", (9, 10)),
        ("bytes= 2-3 ", (2, 4)),
        ("bytes=007-8", (7, 9)),
        ("bytes=10-", "unsatisfiable"),
        ("bytes=-0", "unsatisfiable"),
        ("bytes=99999999999999999999999999-", "unsatisfiable"),
        ("bytes=5-99999999999999999999999999", (5, 10)),
        ("bytes=-99999999999999999999999999", (0, 10)),
        ("bytes=-", None),
        ("bytes=5-4", None),
        ("bytes=0-1,3-4", None),
        ("bytes=0-1-2", None),
        ("bytes=+0-1", None),
        ("bytes=0x0-1", None),
        ("bytes=\u0660-1", None),
        ("bytes 0-1", None),
        ("items=0-1", None),
        (f"bytes={'9' * 601}-", None),
        (f"bytes=0-{'9' * 7000}", None),
    ],
)
def test_range_of_ten_bytes(header: str | None, expected: tuple[int, int] | str | None) -> None:
    assert result(header, 10) == expected


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (ETAG, (0, 5)),
        (f" {ETAG} ", (0, 5)),
        ('"stale"', None),
        (f"W/{ETAG}", None),
        ("Sat, 29 Oct 2022 19:43:31 GMT", None),
        ("*", None),
        ("", None),
    ],
)
def test_if_range_takes_the_strong_tag_and_nothing_else(condition: str, expected: tuple[int, int] | None) -> None:
    assert result("bytes=0-4", 10, condition) == expected
