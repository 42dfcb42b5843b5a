"""Actions, roles, and the patterns of pack names that rights are granted on."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packregistry.auth.rights import (
    ALL,
    NOTHING,
    PATTERN_MAX,
    READING,
    ROLES,
    Action,
    Grant,
    Packs,
    PatternError,
    check_pattern,
)
from packregistry.errors import NameInvalidError
from packregistry.model import NAME_MAX, PackName

PROPERTY = settings(deadline=None)
# Of few characters, so that names match patterns now and then.
NAMES = st.text("ab.", min_size=1, max_size=8)
PATTERNS = st.text("ab.*?", min_size=1, max_size=8).filter(lambda text: text[0] != "." != text[-1])


def naive(pattern: str, name: str) -> bool:
    """What a pattern means, in so many words."""
    if not pattern:
        return not name
    if pattern[0] == "*":
        return naive(pattern[1:], name) or (bool(name) and naive(pattern, name[1:]))
    return bool(name) and pattern[0] in {"?", name[0]} and naive(pattern[1:], name[1:])


def is_name(text: str) -> bool:
    try:
        PackName.parse(text)
    except NameInvalidError:
        return False
    return True


def test_each_role_has_all_that_the_one_before_has_and_more() -> None:
    rights = list(ROLES.values())
    assert all(less < more for less, more in itertools.pairwise(rights))
    assert [*ROLES] == ["reader", "publisher", "maintainer", "admin"]


def test_a_publisher_changes_and_removes_nothing_that_there_is() -> None:
    assert ROLES["publisher"] == {Action.READ, Action.CREATE}
    assert ROLES["maintainer"] == set(Action) - {Action.ADMIN}


def test_a_reader_only_reads_and_an_admin_does_everything() -> None:
    assert ROLES["reader"] == READING == {Action.READ}
    assert ROLES["admin"] == ALL == set(Action)
    assert not NOTHING


@PROPERTY
@given(st.lists(PATTERNS, min_size=1, max_size=5), NAMES)
def test_patterns_match_what_one_of_them_means(patterns: list[str], name: str) -> None:
    assert Packs.parse(patterns).matches(name) == any(naive(pattern, name) for pattern in patterns)


@PROPERTY
@given(PATTERNS)
def test_what_a_pattern_allows_for_it_matches(pattern: str) -> None:
    packs = Packs.parse([pattern])
    assert packs.matches(pattern.replace("*", "").replace("?", "a"))
    assert packs.matches(pattern.replace("*", "b-1").replace("?", "."))


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        pytest.param("nginx", "nginx", True, id="itself"),
        pytest.param("nginx", "nginx-1", False, id="no prefix by itself"),
        pytest.param("nginx", "my-nginx", False, id="no suffix by itself"),
        pytest.param("nginx", "Nginx", False, id="another case"),
        pytest.param("nginx", "nginx\n", False, id="a line's end"),
        pytest.param("nginx*", "nginx", True, id="star for nothing"),
        pytest.param("nginx*", "nginx-a.b_c", True, id="star for any characters"),
        pytest.param("nginx*", "my-nginx", False, id="star at the end only"),
        pytest.param("*nginx", "my-nginx", True, id="star first"),
        pytest.param("*nginx", "nginx-1", False, id="star first only"),
        pytest.param("*nginx*", "my-nginx-1", True, id="stars at both ends"),
        pytest.param("a*b*c", "abxbc", True, id="the last part found late"),
        pytest.param("a*b*c", "acb", False, id="parts in another order"),
        pytest.param("a*b*c", "ac", False, id="a part that is missing"),
        pytest.param("*a*b*c", "xaxc", False, id="a part that is missing after a star"),
        pytest.param("*ab*ab", "ab", False, id="parts that overlap"),
        pytest.param("a*a", "a", False, id="ends that overlap"),
        pytest.param("l?ki", "loki", True, id="question mark"),
        pytest.param("l?ki", "lki", False, id="question mark for nothing"),
        pytest.param("*?ki", "ki", False, id="question mark after a star"),
        pytest.param("a.b", "axb", False, id="a dot is a dot"),
        pytest.param("*a.b", "axb", False, id="a dot is a dot after a star"),
        pytest.param("*", "anything", True, id="everything"),
    ],
)
def test_a_pattern(pattern: str, name: str, expected: bool) -> None:
    assert Packs.parse([pattern]).matches(name) == expected
    assert naive(pattern, name) == expected


@pytest.mark.parametrize("pattern", ["*", "**", "?*", "*?", "*?*"])
def test_a_pattern_that_all_names_match_is_everything(pattern: str) -> None:
    assert Packs.parse(["nginx", pattern]).is_everything


@pytest.mark.parametrize("pattern", ["?", "??*", "a*", "*a", "*a*", "*?*?"])
def test_a_pattern_that_some_name_does_not_match_is_not_everything(pattern: str) -> None:
    assert not Packs.parse([pattern]).is_everything


@PROPERTY
@given(st.lists(st.text("*?a", min_size=1, max_size=3), min_size=1, max_size=4), NAMES)
def test_everything_is_what_every_name_matches(patterns: list[str], name: str) -> None:
    packs = Packs.parse(patterns)
    assert packs.matches(name) or not packs.is_everything


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        pytest.param("", '"" is not a pattern of pack names: use letters', id="empty"),
        pytest.param("a/b", "is not a pattern of pack names: use letters", id="slash"),
        pytest.param("[ab]", "is not a pattern of pack names: use letters", id="brackets"),
        pytest.param("a b", "is not a pattern of pack names: use letters", id="blank"),
        pytest.param("a\n", '"a\\n" is not a pattern of pack names: use letters', id="line's end"),
        pytest.param("ä", "is not a pattern of pack names: use letters", id="letter beyond ASCII"),
        pytest.param("!a", "is not a pattern of pack names: use letters", id="negation"),
        pytest.param("a" * (PATTERN_MAX + 1), "is longer than 128 characters: write * for some", id="long"),
        pytest.param("nginx-", '"nginx-" matches no pack', id="end that no name has"),
        pytest.param("*.", "matches no pack", id="end that no name has after a star"),
        pytest.param("_nginx*", "matches no pack", id="beginning that no name has"),
        pytest.param("-", "matches no pack, as names have a letter or digit at both ends: write *", id="neither"),
    ],
)
def test_what_is_no_pattern_is_refused_with_the_reason(pattern: str, reason: str) -> None:
    with pytest.raises(PatternError, match=re.escape(reason)):
        check_pattern(pattern)
    with pytest.raises(PatternError, match=re.escape(reason)):
        Packs.parse(["nginx", pattern])


@PROPERTY
@given(st.text("ab.-_*?", min_size=1, max_size=6))
def test_a_pattern_is_refused_only_if_no_name_matches_it(pattern: str) -> None:
    try:
        check_pattern(pattern)
    except PatternError:
        some = pattern.replace("?", "a")
        assert not is_name(some.replace("*", ""))
        assert not is_name(some.replace("*", "a"))
    else:
        assert is_name(pattern.replace("?", "a").replace("*", "a"))


def test_there_is_at_least_one_pattern() -> None:
    with pytest.raises(PatternError, match=r"there is no pattern: write \* for all packs"):
        Packs.parse([])


def test_the_longest_pattern_and_the_longest_name_are_taken() -> None:
    assert Packs.parse(["a" * PATTERN_MAX]).matches("a" * PATTERN_MAX)
    assert Packs.parse(["*a"]).matches("a" * NAME_MAX)


def test_a_name_that_no_pack_can_have_for_its_length_matches_nothing_but_everything() -> None:
    name = "a" * (NAME_MAX + 1)
    assert not Packs.parse(["a*", "*a"]).matches(name)
    assert Packs.parse(["a*", "*"]).matches(name)


def test_many_stars_take_no_longer_than_few() -> None:
    """One that goes back on what it has found would not end."""
    name = "a" * (NAME_MAX - 1) + "b"
    assert not Packs.parse(["a*" * 60 + "c", "*a" * 60 + "*c", "*a*?" * 30 + "c"]).matches(name)


def test_patterns_are_kept_in_order_and_once() -> None:
    packs = Packs.parse(iter(["b*", "a", "b*"]))
    assert packs.patterns == ("b*", "a")
    assert packs == Packs.parse(["b*", "a"])
    assert repr(packs) == "Packs(patterns=('b*', 'a'), is_everything=False)"


def test_grants_of_the_same_are_the_same() -> None:
    assert len({Grant(READING, Packs.parse(["a*"])), Grant(READING, Packs.parse(["a*"]))}) == 1
