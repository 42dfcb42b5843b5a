"""The order of versions and the parent tags computed from it."""

from __future__ import annotations

import itertools
import random
import time

import pytest
import semver
from hypothesis import given, settings
from hypothesis import strategies as st

from packregistry.versions import is_strict_semver, newest, parent_labels, parents, version_key

UNNUMBERED = ["", "-1.0", ".5", "V", "latest", "v", "v-1", "version9", "vv1.0", "\u0663.1"]
NUMBERED = [
    "0-0",
    "0-",
    "0-rc.1",
    "0.0-rc.2",
    "0",
    "0.0.0",
    "V0",
    "v0.0",
    "0.0.1",
    "0.9",
    "0.10.0",
    # the example of the SemVer specification, with what lies between
    "1.0.0-0",
    "1.0.0-1",
    "1.0.0-1.1",
    "1.0.0-2",
    "1.0.0-009",
    "1.0.0-9",
    "1.0.0-10",
    "1.0.0-",
    "1.0.0--1",
    "1.0.0-1a",
    "1.0.0-Final",
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-alpha.beta",
    "1.0.0-beta",
    "1.0.0-beta.2",
    "1.0.0-beta.11",
    "1.0.0-rc.1",
    "1.0.0-\u0663",
    "1.0.0",
    # any suffix makes a pre-release, whatever it begins with
    "1.2_2",
    "1.2-3",
    "1.2.0_4",
    "1.2+5",
    "1.2.",
    "1.2 final",
    "1.2.Final",
    "1.2rc1",
    "1.2",
    "1.2.0.1",
    "1.2.1-rc1",
    "1.2.1rc1",
    "1.2.1rc1.1",
    "1.2.1",
    # any count of fields, trailing zero fields and leading zeros ignored
    "1.5.0-rc.1",
    "v1.5-rc.2",
    "1.5.0.0-rc.3",
    "1.5",
    "1.5.0",
    "v1.5",
    "1.5.0.0.1",
    "1.5.1",
    "1.010",
    "1.10",
    "1.11.x",
    "1.11",
    "2.0.1-up.1",
    "2.0.1-up.2",
    "2.0.1-up.10",
    "2.0.1",
    "9.0.0",
    "V10",
    "23.07.1",
    "23.8.0",
    "23.10.0",
    "26.04.4",
]
MESSY = st.text(alphabet="vV0129.-_+aXrc \n\u0663\u00b2", max_size=12) | st.text(max_size=12)
PROPERTY = settings(deadline=None)


def semvers() -> st.SearchStrategy[str]:
    """Strict SemVer strings without build metadata, from few enough values to collide often."""
    numbers = (st.integers(0, 11) | st.integers(0, 10**30)).map(str)
    names = st.sampled_from(
        ["a", "b", "B", "-", "--", "1a", "9a", "10a", "a1", "a9", "a10", "0a", "00a", "-1", "1-", "ab"]
    )
    releases = st.lists(numbers, min_size=3, max_size=3).map(".".join)
    prereleases = st.lists(numbers | names, min_size=1, max_size=4).map(lambda parts: "-" + ".".join(parts))
    return st.tuples(releases, st.just("") | prereleases).map("".join)


def order(left: str, right: str) -> int:
    """-1, 0 or 1, as the key of `left` is below, equal to or above the key of `right`."""
    a, b = version_key(left), version_key(right)
    assert [a < b, a == b, a > b].count(True) == 1
    assert (a <= b, a >= b) == (not a > b, not a < b)
    return (a > b) - (a < b)


def test_the_order_is_the_one_written_down() -> None:
    expected = UNNUMBERED + NUMBERED
    shuffled = random.Random(1).sample(expected, len(expected))
    assert sorted(shuffled, key=version_key) == expected


@pytest.mark.parametrize(
    ("left", "right"),
    [
        pytest.param("1.5", "1.5.0", id="trailing-zero-field"),
        pytest.param("1.5", "v1.5", id="leading-v"),
        pytest.param("V1.5", "v1.5", id="upper-case-v"),
        pytest.param("23.07.1", "23.7.1", id="leading-zero"),
        pytest.param("1.2.3-rc1", "1.2.3rc1", id="other-separator"),
        pytest.param("1.2.3-rc.07", "1.2.3-rc.7", id="leading-zero-in-pre-release"),
        pytest.param("0", "000.00", id="zero"),
    ],
)
def test_same_precedence_leaves_the_strings_to_decide(left: str, right: str) -> None:
    """Nothing comes between the two, but they are different versions."""
    a, b = version_key(left), version_key(right)
    assert (a.release, a.final, a.identifiers) == (b.release, b.final, b.identifiers)
    assert order(left, right) == (left > right) - (left < right) != 0


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        pytest.param("9" * 5000, "1" + "0" * 5000, id="release"),
        pytest.param("1-" + "9" * 5000, "1-1" + "0" * 5000, id="pre-release"),
        pytest.param("0" * 5000 + "1", "2", id="leading-zeros"),
        pytest.param("1-" + "0" * 5000 + "1", "1-2", id="leading-zeros-in-pre-release"),
    ],
)
def test_numbers_compare_as_numbers_at_any_length(older: str, newer: str) -> None:
    """Also beyond the 4300 digits that `int` reads."""
    assert order(older, newer) == -1


@pytest.mark.parametrize("unit", ["1", "0", "1.", ".0", "-", "-a", ".", "1-1.", "\u0663"], ids=ascii)
def test_hostile_lengths_take_linear_time(unit: str) -> None:
    """Of half a million characters each is looked at a few times; anything quadratic would take many seconds."""
    version = "1.0" + unit * (500_000 // len(unit))
    start = time.process_time()
    assert version_key(version) > version_key("1.0-0")
    assert parent_labels(version)[0] == "1.x"
    assert time.process_time() - start < 5


@PROPERTY
@given(semvers(), semvers())
def test_strict_semver_is_ordered_as_semver_says(left: str, right: str) -> None:
    assert is_strict_semver(left)
    assert order(left, right) == semver.Version.parse(left).compare(right)


@PROPERTY
@given(MESSY, MESSY)
def test_keys_are_equal_only_for_equal_strings(left: str, right: str) -> None:
    assert (order(left, right) == 0) == (left == right)
    copy = "".join(list(left))
    assert version_key(copy) == version_key(left)
    assert hash(version_key(copy)) == hash(version_key(left))
    assert len({version_key(left), version_key(copy), version_key(right)}) == len({left, right})


@PROPERTY
@given(st.lists(MESSY, unique=True, max_size=6), st.randoms(use_true_random=False))
def test_any_permutation_sorts_to_the_same_list(versions: list[str], rng: random.Random) -> None:
    """And in that list each stands below all that follow: the order is transitive."""
    ordered = sorted(versions, key=version_key)
    assert sorted(rng.sample(versions, len(versions)), key=version_key) == ordered
    assert all(order(older, newer) == -1 for older, newer in itertools.combinations(ordered, 2))


@PROPERTY
@given(st.lists(MESSY, min_size=1, max_size=6))
def test_newest_is_a_version_that_none_exceeds(versions: list[str]) -> None:
    found = newest(iter(versions))
    assert found in versions
    assert all(order(found, version) >= 0 for version in versions)


def test_newest_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no versions"):
        newest([])


@pytest.mark.parametrize(
    ("version", "labels"),
    [
        ("14.4.3", ("14.x", "14.4.x")),
        ("23.07.1", ("23.x", "23.07.x")),
        ("007.00.1", ("007.x", "007.00.x")),
        ("v1.1.0", ("1.x", "1.1.x")),
        ("V1.1.0", ("1.x", "1.1.x")),
        ("1.5", ("1.x", "1.5.x")),
        ("14", ("14.x",)),
        ("v14", ("14.x",)),
        ("14-3.4", ("14.x",)),
        ("14.", ("14.x",)),
        ("14.x", ("14.x",)),
        ("1.2.3.4", ("1.x", "1.2.x")),
        ("0.30.0-5.5.2026", ("0.x", "0.30.x")),
        ("1.2rc1", ("1.x", "1.2.x")),
        ("1.2.Final", ("1.x", "1.2.x")),
        ("", ()),
        ("v", ()),
        ("latest", ()),
        ("vv1.0", ()),
        ("\u0663.1", ()),
        ("1.\u0663", ("1.x",)),
    ],
    ids=ascii,
)
def test_parent_labels_are_major_and_minor_as_written(version: str, labels: tuple[str, ...]) -> None:
    assert parent_labels(version) == labels


def test_parents_point_at_the_newest_matching_version_in_the_order_of_versions() -> None:
    versions = ["14.10.0", "latest", "14.4.3", "v9.1", "14.4.10-rc1", "14.4.9", "3", "14.10", "3.0.0-rc1"]
    assert list(parents(versions).items()) == [
        ("3.x", "3"),
        ("3.0.x", "3.0.0-rc1"),
        ("9.x", "v9.1"),
        ("9.1.x", "v9.1"),
        ("14.x", "14.10.0"),
        ("14.4.x", "14.4.10-rc1"),
        ("14.10.x", "14.10.0"),
    ]


def test_labels_that_differ_only_in_leading_zeros_follow_their_text() -> None:
    """They are labels of their own, each with the versions written so."""
    assert list(parents(["7.1.2", "07.1.3", "07.01.9", "7.01.1"]).items()) == [
        ("07.x", "07.01.9"),
        ("7.x", "7.1.2"),
        ("07.01.x", "07.01.9"),
        ("07.1.x", "07.1.3"),
        ("7.01.x", "7.01.1"),
        ("7.1.x", "7.1.2"),
    ]


def test_nothing_has_no_parents() -> None:
    assert parents([]) == {}


@PROPERTY
@given(st.lists(MESSY | semvers(), max_size=8), st.randoms(use_true_random=False))
def test_each_parent_is_the_newest_of_the_versions_that_have_it(versions: list[str], rng: random.Random) -> None:
    found = parents(iter(versions))
    assert set(found) == {label for version in versions for label in parent_labels(version)}
    for label, target in found.items():
        assert target == newest(version for version in versions if label in parent_labels(version))
    assert list(parents(rng.sample(versions, len(versions))).items()) == list(found.items())


@pytest.mark.parametrize(
    ("version", "strict"),
    [
        ("1.2.3", True),
        ("0.30.0-5.5.2026", True),
        ("2.0.1-up.1", True),
        ("1.2.3-rc.1+build.7", True),
        ("1.5", False),
        ("1.2.3.4", False),
        ("v1.1.0", False),
        ("23.07.1", False),
        ("1.2.3-07", False),
        ("1.2.3rc1", False),
        ("1.2.3_4", False),
        ("1.2.3\n", False),
        ("1.2.1\u0663", False),
        ("", False),
        ("1" * 5000 + ".0.0", False),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_strict_semver_goes_by_the_letter(version: str, strict: bool) -> None:
    assert is_strict_semver(version) is strict
