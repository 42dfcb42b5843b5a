"""Who may do what to which packs: presets, and the rules of a policy file."""

from __future__ import annotations

import fnmatch
import logging
import os
import random
import re
import textwrap
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packregistry.auth import ANONYMOUS, Principal
from packregistry.auth import policy as policies
from packregistry.auth.policy import OpenPolicy, Policy, PolicyFile, PresetPolicy, _Rules
from packregistry.auth.policyfile import Rule, read_rules
from packregistry.auth.rights import ALL, NOTHING, READING, ROLES, Action, Grant, Packs, Rights
from packregistry.reload import Reloadable, ReloadError

ROOT = Path(__file__).resolve().parents[1]
GUIDE = (ROOT / "docs" / "policy.md").read_text()
PROPERTY = settings(deadline=None, max_examples=50)

READ, CREATE, OVERWRITE, DELETE = Action.READ, Action.CREATE, Action.OVERWRITE, Action.DELETE
ANN = Principal("ann", "basic")
ANN_BY_CERTIFICATE = Principal("ann", "certificate")
BOB = Principal("bob", "basic")
CALLED_ANONYMOUS = Principal("anonymous", "basic")
FORGED = Principal("token:ci", "certificate")


def rights_of(*actions: Action) -> Rights:
    return frozenset(actions)


def grant(rights: Rights, *patterns: str) -> Grant:
    return Grant(rights, Packs.parse(patterns))


def token(name: str = "ci", own: Grant | None = None) -> Principal:
    return Principal(f"token:{name}", "token", own)


def write(path: Path, text: str, mtime: int = 1_000) -> Path:
    path.write_text(textwrap.dedent(text))
    os.utime(path, ns=(mtime, mtime))
    return path


def loaded(directory: Path, rules: str, groups: str = "{}") -> PolicyFile:
    """The policy of some rules, each in a line."""
    lines = [f"  - {{{line.strip()}}}" for line in rules.strip().splitlines()]
    path = directory / "policy.yml"
    path.write_text("\n".join(["version: 1", f"groups: {groups}", "rules:" if lines else "rules: []", *lines]))
    file = PolicyFile(path)
    file.load()
    return file


def problems(directory: Path, text: str) -> list[str]:
    """What is wrong with a file, line for line, its places without its path."""
    path = write(directory / "policy.yml", text)
    file = PolicyFile(path)
    with pytest.raises(ReloadError) as caught:
        file.load()
    return [line.replace(f"{path}:", "", 1) for line in str(caught.value).split("\n")]


def logged(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == level]


# Presets.


@pytest.mark.parametrize("granted", [NOTHING, READING, ALL], ids=["nothing", "reading", "all"])
def test_an_open_policy_grants_everybody_the_same(granted: Rights) -> None:
    policy: Policy = OpenPolicy(granted)
    for principal in (ANONYMOUS, ANN, token(own=grant(ALL, "*"))):
        assert policy.rights(principal, "nginx") == granted
        assert policy.everywhere(principal) == granted
        assert policy.anywhere(principal) == granted


OWN = rights_of(CREATE, DELETE)


@pytest.mark.parametrize(
    ("principal", "on_nginx", "elsewhere", "everywhere", "anywhere"),
    [
        pytest.param(ANN, ALL, ALL, ALL, ALL, id="an admin"),
        pytest.param(ANN_BY_CERTIFICATE, ALL, ALL, ALL, ALL, id="an admin by certificate"),
        pytest.param(BOB, READING, READING, READING, READING, id="another user"),
        pytest.param(Principal("Ann", "basic"), READING, READING, READING, READING, id="an admin's name in capitals"),
        pytest.param(ANONYMOUS, NOTHING, NOTHING, NOTHING, NOTHING, id="anonymous"),
        pytest.param(CALLED_ANONYMOUS, ALL, ALL, ALL, ALL, id="an admin called anonymous"),
        pytest.param(Principal("ann", "none"), NOTHING, NOTHING, NOTHING, NOTHING, id="an admin's name unproven"),
        pytest.param(token(own=grant(OWN, "ng*")), OWN, NOTHING, NOTHING, OWN, id="a token of some packs"),
        pytest.param(token(own=grant(OWN, "*")), OWN, OWN, OWN, OWN, id="a token of all packs"),
        pytest.param(token(own=None), NOTHING, NOTHING, NOTHING, NOTHING, id="a token called like an admin"),
        pytest.param(
            Principal("bob", "basic", grant(ALL, "*")), READING, READING, READING, READING, id="a user with a grant"
        ),
    ],
)
@pytest.mark.parametrize("anonymous", ["none", "read"])
def test_a_preset(
    anonymous: str, principal: Principal, on_nginx: Rights, elsewhere: Rights, everywhere: Rights, anywhere: Rights
) -> None:
    """What anybody may do, everybody may, and it depends on the way somebody has signed in what else."""
    given_to_all = READING if anonymous == "read" else NOTHING
    policy: Policy = PresetPolicy(["ann", "anonymous", "token:ci"], "read" if anonymous == "read" else "none")
    assert policy.rights(principal, "nginx") == on_nginx | given_to_all
    assert policy.rights(principal, "cilium") == elsewhere | given_to_all
    assert policy.everywhere(principal) == everywhere | given_to_all
    assert policy.anywhere(principal) == anywhere | given_to_all


def test_without_admins_users_read() -> None:
    assert PresetPolicy((), "none").everywhere(Principal("admin", "basic")) == READING


# Rules.

TABLE = """
    subjects: [anonymous], packs: ["nginx-*"], role: reader
    subjects: [authenticated], packs: [harbor], allow: [create]
    subjects: ["user:ann"], packs: ["nginx-*", "calico"], allow: [overwrite]
    subjects: ["token:ci"], packs: ["nginx-*"], allow: [delete]
    subjects: ["group:platform"], packs: ["*"], role: publisher
    subjects: ["user:root"], packs: ["vault"], allow: [admin]
"""
GROUPS = "{platform: [carol, dave]}"


@pytest.mark.parametrize(
    ("principal", "pack", "expected"),
    [
        pytest.param(ANONYMOUS, "nginx-1", READING, id="anonymous"),
        pytest.param(ANONYMOUS, "nginx", NOTHING, id="anonymous elsewhere"),
        pytest.param(ANONYMOUS, "harbor", NOTHING, id="anonymous is not authenticated"),
        pytest.param(BOB, "nginx-1", READING, id="a user has what anonymous has"),
        pytest.param(BOB, "harbor", rights_of(CREATE), id="create alone is create alone"),
        pytest.param(BOB, "calico", NOTHING, id="a user no rule names"),
        pytest.param(ANN, "nginx-1", rights_of(READ, OVERWRITE), id="a user has what several rules grant"),
        pytest.param(ANN, "calico", rights_of(OVERWRITE), id="another pattern of a rule"),
        pytest.param(ANN, "harbor", rights_of(CREATE), id="a named user is authenticated too"),
        pytest.param(ANN_BY_CERTIFICATE, "calico", rights_of(OVERWRITE), id="a user by certificate"),
        pytest.param(ANN_BY_CERTIFICATE, "harbor", rights_of(CREATE), id="authenticated by certificate"),
        pytest.param(Principal("Ann", "basic"), "calico", NOTHING, id="another case"),
        pytest.param(Principal("ann", "none"), "calico", NOTHING, id="a name that is not proven"),
        pytest.param(Principal("carol", "basic"), "calico", ROLES["publisher"], id="a member of a group"),
        pytest.param(Principal("dave", "certificate"), "calico", ROLES["publisher"], id="another member of a group"),
        pytest.param(Principal("platform", "basic"), "calico", NOTHING, id="a user called like a group"),
        pytest.param(Principal("group:platform", "basic"), "calico", NOTHING, id="a user called group:platform"),
        pytest.param(token("ci"), "nginx-1", rights_of(READ, DELETE), id="a token a rule names"),
        pytest.param(Principal("token:ci", "none"), "nginx-1", READING, id="a token's name that is not proven"),
        pytest.param(token("ci"), "harbor", NOTHING, id="a token is not authenticated"),
        pytest.param(token("other"), "nginx-1", READING, id="a token no rule names"),
        pytest.param(token("ann"), "calico", NOTHING, id="a token called like a user"),
        pytest.param(Principal("user:ann", "token"), "calico", NOTHING, id="a token called user:ann"),
        pytest.param(Principal("ci", "basic"), "nginx-1", READING, id="a user called like a token"),
        pytest.param(FORGED, "nginx-1", READING, id="a user called token:ci"),
        pytest.param(CALLED_ANONYMOUS, "harbor", rights_of(CREATE), id="a user called anonymous"),
        pytest.param(Principal("root", "basic"), "vault", ALL, id="admin is everything on its packs"),
        pytest.param(Principal("root", "basic"), "calico", NOTHING, id="admin is nothing on others"),
        pytest.param(Principal("admin", "basic"), "vault", NOTHING, id="no name is special"),
        pytest.param(token(own=grant(OWN, "har*")), "harbor", OWN, id="a token's own grant"),
        pytest.param(token(own=grant(OWN, "har*")), "nginx-1", rights_of(READ, DELETE), id="a grant on other packs"),
        pytest.param(token(own=grant(OWN, "*")), "nginx-1", OWN | rights_of(READ, DELETE), id="grant and rules"),
        pytest.param(Principal("bob", "basic", grant(ALL, "*")), "calico", NOTHING, id="a user with a grant"),
    ],
)
def test_a_rule(tmp_path: Path, principal: Principal, pack: str, expected: Rights) -> None:
    policy: Policy = loaded(tmp_path, TABLE, GROUPS)
    assert policy.rights(principal, pack) == expected
    assert policy.rights(principal, pack) == expected


@pytest.mark.parametrize(
    ("principal", "everywhere", "anywhere"),
    [
        pytest.param(ANONYMOUS, NOTHING, READING, id="anonymous"),
        pytest.param(BOB, NOTHING, rights_of(READ, CREATE), id="a user"),
        pytest.param(ANN, NOTHING, rights_of(READ, CREATE, OVERWRITE), id="a user that a rule names"),
        pytest.param(Principal("carol", "basic"), ROLES["publisher"], ROLES["publisher"], id="a member of a group"),
        pytest.param(Principal("root", "basic"), NOTHING, ALL, id="an admin of one pack is none of the registry"),
        pytest.param(token("other"), NOTHING, READING, id="a token"),
        pytest.param(token("ci"), NOTHING, rights_of(READ, DELETE), id="a token that a rule names"),
        pytest.param(token(own=grant(OWN, "vault")), NOTHING, rights_of(READ) | OWN, id="a token with a grant"),
        pytest.param(token(own=grant(ALL, "*")), ALL, ALL, id="a token with a grant on all packs"),
        pytest.param(Principal("bob", "basic", grant(ALL, "*")), NOTHING, rights_of(READ, CREATE), id="a user's grant"),
    ],
)
def test_rights_on_all_packs_and_on_some(
    tmp_path: Path, principal: Principal, everywhere: Rights, anywhere: Rights
) -> None:
    policy = loaded(tmp_path, TABLE, GROUPS)
    assert policy.everywhere(principal) == everywhere
    assert policy.anywhere(principal) == anywhere


@pytest.mark.parametrize("role", ROLES)
def test_a_role_is_the_actions_of_its_name(tmp_path: Path, role: str) -> None:
    policy = loaded(tmp_path, f"""subjects: ["user:ann"], packs: ["*"], role: {role}""")
    assert policy.everywhere(ANN) == ROLES[role]


@pytest.mark.parametrize("action", Action, ids=lambda action: action.value)
def test_an_action_includes_no_other_but_for_admin(tmp_path: Path, action: Action) -> None:
    policy = loaded(tmp_path, f"""subjects: ["user:ann"], packs: ["nginx"], allow: [{action.value}]""")
    assert policy.rights(ANN, "nginx") == (ALL if action is Action.ADMIN else {action})


def test_without_rules_there_is_nothing_but_what_tokens_were_made_for(tmp_path: Path) -> None:
    policy = loaded(tmp_path, "")
    for principal in (ANONYMOUS, ANN, ANN_BY_CERTIFICATE, token()):
        assert (
            policy.rights(principal, "nginx") == policy.everywhere(principal) == policy.anywhere(principal) == NOTHING
        )
    assert policy.rights(token(own=grant(READING, "nginx")), "nginx") == READING


def test_a_token_has_its_own_grant_and_its_rules_on_all_packs(tmp_path: Path) -> None:
    policy = loaded(tmp_path, """subjects: ["token:ci"], packs: ["*"], role: reader""")
    made_for = token(own=grant(OWN, "*"))
    assert policy.everywhere(made_for) == policy.anywhere(made_for) == policy.rights(made_for, "nginx") == READING | OWN
    assert policy.everywhere(token(own=grant(OWN, "nginx"))) == READING


def test_an_empty_group_is_nobody(tmp_path: Path) -> None:
    policy = loaded(tmp_path, """subjects: ["group:platform"], packs: ["*"], role: admin""", "{platform: []}")
    assert policy.anywhere(ANN) == NOTHING


def test_users_and_groups_are_named_by_any_text(tmp_path: Path) -> None:
    rules = """subjects: ["user:on", "group:1.0", "user:jürgen müller", "user:x*"], packs: ["*"], role: reader"""
    policy = loaded(tmp_path, rules, "{1.0: [007]}")
    assert {policy.everywhere(Principal(name, "basic")) for name in ("on", "007", "jürgen müller", "x*")} == {READING}


# The same, said in so many words.

SUBJECTS = ("anonymous", "authenticated", "user:ann", "user:bob", "user:anonymous", "token:ci", "token:ann")
PATTERNS = ("*", "a*", "*b", "ab", "?b", "b")
NAMES = ("a", "b", "ab", "bb", "aab", "c")
RIGHTS = st.frozensets(st.sampled_from([*Action]), min_size=1, max_size=2)
GRANTS = st.builds(Grant, RIGHTS, st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=3).map(Packs.parse))
RULES = st.lists(
    st.builds(Rule, st.lists(st.sampled_from(SUBJECTS), max_size=3, unique=True).map(tuple), GRANTS), max_size=6
)
PRINCIPALS = st.one_of(
    st.sampled_from([ANONYMOUS, ANN, ANN_BY_CERTIFICATE, BOB, CALLED_ANONYMOUS, FORGED, Principal("eve", "basic")]),
    st.builds(token, st.sampled_from(["ci", "ann", "bob"]), st.none() | GRANTS),
)


def ruled(rules: Iterable[Rule]) -> PolicyFile:
    policy = PolicyFile(Path("policy.yml"))
    policy._rules = _Rules(rules)
    return policy


def plainly(rules: Iterable[Rule], principal: Principal, pack: str) -> Rights:
    """What a policy grants, rule by rule."""
    subjects = {"anonymous"}
    if principal.method == "token":
        subjects.add(principal.name)
    elif principal.method != "none":
        subjects |= {"authenticated", f"user:{principal.name}"}
    granted = [rule.grant for rule in rules if subjects & {*rule.subjects}]
    granted += [principal.grant] if principal.grant else []
    found = (one.rights for one in granted if any(fnmatch.fnmatchcase(pack, pattern) for pattern in one.packs.patterns))
    return frozenset().union(*found)


@PROPERTY
@given(RULES, st.lists(PRINCIPALS, min_size=1, max_size=4))
def test_rights_are_those_of_each_rule_together(rules: list[Rule], principals: list[Principal]) -> None:
    policy = ruled(rules)
    for principal in principals:
        for name in NAMES:
            assert policy.rights(principal, name) == plainly(rules, principal, name)


@PROPERTY
@given(RULES, PRINCIPALS, st.sampled_from(NAMES))
def test_rights_on_a_pack_are_between_those_on_all_and_those_on_some(
    rules: list[Rule], principal: Principal, name: str
) -> None:
    policy = ruled(rules)
    assert policy.everywhere(principal) <= policy.rights(principal, name) <= policy.anywhere(principal)


@PROPERTY
@given(RULES, RULES, PRINCIPALS, st.sampled_from(NAMES))
def test_more_rules_never_take_a_right_away(
    rules: list[Rule], more: list[Rule], principal: Principal, name: str
) -> None:
    before, after = ruled(rules), ruled([*rules, *more])
    assert before.rights(principal, name) <= after.rights(principal, name)
    assert before.everywhere(principal) <= after.everywhere(principal)
    assert before.anywhere(principal) <= after.anywhere(principal)


@PROPERTY
@given(RULES, st.randoms(use_true_random=False), PRINCIPALS, st.sampled_from(NAMES))
def test_the_order_of_rules_does_not_matter(
    rules: list[Rule], shuffle: random.Random, principal: Principal, name: str
) -> None:
    before = ruled(rules).rights(principal, name)
    shuffle.shuffle(rules)
    assert ruled(rules).rights(principal, name) == before


@PROPERTY
@given(RULES, PRINCIPALS, st.sampled_from(NAMES))
def test_who_has_not_signed_in_has_nothing_that_others_have_not(
    rules: list[Rule], principal: Principal, name: str
) -> None:
    policy = ruled(rules)
    assert policy.rights(ANONYMOUS, name) <= policy.rights(principal, name)


# What answers cost.


@pytest.fixture
def matched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that patterns were tried on."""
    names: list[str] = []
    matches = Packs.matches

    def counted(self: Packs, name: str) -> bool:
        names.append(name)
        return matches(self, name)

    monkeypatch.setattr(Packs, "matches", counted)
    return names


def test_an_answer_is_worked_out_once(tmp_path: Path, matched: list[str]) -> None:
    policy = loaded(tmp_path, TABLE, GROUPS)
    for _ in range(3):
        assert policy.rights(ANONYMOUS, "nginx-1") == READING
    assert matched == ["nginx-1"]


def test_an_answer_is_not_another_users(tmp_path: Path) -> None:
    policy = loaded(tmp_path, TABLE, GROUPS)
    assert policy.rights(ANN, "calico") == rights_of(OVERWRITE)
    assert policy.rights(BOB, "calico") == NOTHING
    assert policy.rights(token("ann"), "calico") == NOTHING


def test_who_has_the_same_rules_shares_the_answers(tmp_path: Path, matched: list[str]) -> None:
    rules = """subjects: ["group:platform"], packs: ["nginx*"], role: reader"""
    policy = loaded(tmp_path, rules, GROUPS)
    for principal in (Principal("carol", "basic"), Principal("dave", "certificate")):
        assert policy.rights(principal, "nginx") == READING
    assert matched == ["nginx"]


def test_nothing_is_matched_for_who_has_the_same_rights_on_all_packs(tmp_path: Path, matched: list[str]) -> None:
    rules = """
        subjects: [authenticated], packs: ["*"], role: maintainer
        subjects: [authenticated], packs: ["nginx*"], role: reader
    """
    policy = loaded(tmp_path, rules)
    assert policy.rights(ANN, "nginx") == ROLES["maintainer"]
    assert matched == []
    assert policy._rules._kept == {}


def test_the_own_grant_of_a_token_is_not_kept_with_its_name(tmp_path: Path) -> None:
    policy = loaded(tmp_path, TABLE, GROUPS)
    assert CREATE in policy.rights(token(own=grant(OWN, "nginx-*")), "nginx-1")
    assert CREATE not in policy.rights(token(own=None), "nginx-1")


def test_answers_kept_are_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, matched: list[str]) -> None:
    monkeypatch.setattr(policies, "KEPT_MAX", 3)
    policy = loaded(tmp_path, TABLE, GROUPS)
    for name in ("a", "b", "c", "a", "d", "d", "a"):
        assert policy.rights(ANONYMOUS, name) == NOTHING
        assert len(policy._rules._kept) <= 3
    assert matched == ["a", "b", "c", "d", "a"]


def test_what_is_longer_than_a_name_is_answered_and_not_kept(tmp_path: Path) -> None:
    policy = loaded(tmp_path, TABLE, GROUPS)
    policy.rights(ANN, "n" * 128)
    kept = len(policy._rules._kept)
    assert policy.rights(ANN, "nginx-" + "1" * 200) == NOTHING
    assert policy.rights(Principal("carol", "basic"), "n" * 200) == ROLES["publisher"]
    assert len(policy._rules._kept) == kept == 1


@pytest.mark.thorough
def test_ten_thousand_packs_pass_two_hundred_rules_much_quicker_than_pattern_by_pattern() -> None:
    patterns = [f"team{number}-*" for number in range(150)]
    patterns += [f"*-{number}x" for number in range(25)] + [f"*e-*{number}x-*" for number in range(25)]
    policy = ruled(Rule(("user:ann",), grant(READING, pattern)) for pattern in patterns)
    names = [f"cilium-edge-{number}" for number in range(9_900)] + [f"team{number}-a" for number in range(100)]
    each = [re.compile(fnmatch.translate(pattern)) for pattern in patterns]
    begun = time.process_time()
    assert sum(any(one.match(name) for one in each) for name in names[::10]) == 10
    one_by_one = 10 * (time.process_time() - begun)
    took = []
    for _ in range(2):
        begun = time.process_time()
        assert sum(READ in policy.rights(ANN, name) for name in names) == 100
        took.append(time.process_time() - begun)
    assert took[0] < one_by_one / 2
    assert took[1] < one_by_one / 10


# What is wrong with a file.

HINT = "put what begins with * in quotes"
CHARACTER = "alphabetic or numeric character"
CHARACTERS = "use letters, digits, '.', '_', '-', * and ?"
COLON = "there is a colon in the name"
ENDS = "as names have a letter or digit at both ends: write * beyond the ends"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("version: 2\nrules: []", ["1:10: version: must be 1 (write version: 1)"], id="version"),
        pytest.param("version:\nrules: []", ["1:9: version: must be 1 (write version: 1)"], id="version without value"),
        pytest.param("rules: []", ["1:1: version: is missing (write version: 1)"], id="no version"),
        pytest.param(
            "version: 1", ["1:1: rules: is missing (write rules: [], if nobody may do anything)"], id="no rules"
        ),
        pytest.param(
            "version: 1\nrules:",
            ["2:7: rules: must be a list of rules (write rules: [], if nobody may do anything)"],
            id="rules without value",
        ),
        pytest.param(
            "version: 1\nrules: []\nrule: []", ['3:1: unknown key "rule" (did you mean rules?)'], id="unknown key"
        ),
        pytest.param("[]", ["1:1: must be a map of keys (known: version, groups, rules)"], id="no map"),
        pytest.param(
            "version: 1\nversion: 1", ['2:1: key "version" is given twice (the first is at FILE1:1)'], id="twice"
        ),
        pytest.param(
            "version: 1\nrules: }",
            ["2:8: is not YAML: while parsing a block node, expected the node content, but found '}'"],
            id="no YAML",
        ),
        pytest.param(
            "version: 1\nrules:\n  - {subjects: [anonymous], packs: [*], role: reader}",
            [
                f"3:38: is not YAML: while scanning an alias, expected {CHARACTER}, but found ']' ({HINT})",
            ],
            id="star without quotes",
        ),
        pytest.param(
            "version: 1\nrules:\n  - {subjects: [anonymous], packs: [*a-b], role: reader}",
            [f"3:37: is not YAML: found undefined alias 'a-b' ({HINT})"],
            id="star and more without quotes",
        ),
    ],
)
def test_what_is_wrong_with_a_file(tmp_path: Path, text: str, expected: list[str]) -> None:
    path = f"{tmp_path / 'policy.yml'}:"
    assert problems(tmp_path, text) == [line.replace("FILE", path) for line in expected]


SUBJECT_FORMS = "write user:NAME, group:NAME, token:NAME, anonymous or authenticated"


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        pytest.param("anonymus", "it is of no kind that there is (did you mean anonymous?)", id="anonymus"),
        pytest.param("Authenticated", "it is of no kind that there is (did you mean authenticated?)", id="capital"),
        pytest.param("platform", "it is of no kind that there is (write group:platform)", id="a group without kind"),
        pytest.param("ann", f"it is of no kind that there is ({SUBJECT_FORMS})", id="a user without kind"),
        pytest.param("usr:ann", 'it is of no kind that there is (did you mean "user:ann"?)', id="kind misspelt"),
        pytest.param("usr", f"it is of no kind that there is ({SUBJECT_FORMS})", id="kind alone"),
        pytest.param("role:admin", f"it is of no kind that there is ({SUBJECT_FORMS})", id="kind unknown"),
        pytest.param("user:", f"a name has at least one character ({SUBJECT_FORMS})", id="no name"),
        pytest.param("user: ", f"a name has at least one character ({SUBJECT_FORMS})", id="blank name"),
        pytest.param("token:a:b", f"there is a colon in the name ({SUBJECT_FORMS})", id="colon"),
        pytest.param("user: ann", f"there is a blank at an end of the name ({SUBJECT_FORMS})", id="blank first"),
        pytest.param("user:ann ", f"there is a blank at an end of the name ({SUBJECT_FORMS})", id="blank last"),
        pytest.param("user:*", "only packs have patterns (write authenticated)", id="all users"),
        pytest.param("token:*", f"only packs have patterns ({SUBJECT_FORMS})", id="all tokens"),
        pytest.param("group:", f"a name has at least one character ({SUBJECT_FORMS})", id="no name of a group"),
    ],
)
def test_what_is_no_subject(tmp_path: Path, subject: str, expected: str) -> None:
    text = f"version: 1\ngroups: {GROUPS}\nrules:\n  - {{subjects: [anonymous, '{subject}'], packs: [a], role: reader}}"
    assert problems(tmp_path, text) == [f'4:28: rules.subjects: "{subject}" is not a subject: {expected}']


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        pytest.param("groups: {platform: [ann]}", 'there is no group "platfrm" (did you mean platform?)', id="near"),
        pytest.param("groups: {x: [], y: []}", 'there is no group "platfrm" (known: x, y)', id="others"),
        pytest.param("", 'there is no group "platfrm" (define it: groups: {platfrm: [ … ]})', id="none"),
    ],
)
def test_a_group_is_defined(tmp_path: Path, groups: str, expected: str) -> None:
    text = f"version: 1\n{groups}\nrules:\n  - {{subjects: [group:platfrm], packs: [a], role: reader}}"
    assert problems(tmp_path, text) == [f"4:17: rules.subjects: {expected}"]


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        pytest.param("[ann]", ["groups: must be a map of groups to lists of users (or leave it out)"], id="no map"),
        pytest.param("", ["groups: must be a map of groups to lists of users (or leave it out)"], id="nothing"),
        pytest.param("{a: ann}", ["groups.a: must be a list (write it in [ ])"], id="text for list"),
        pytest.param("{a: }", ["groups.a: must be a list (write it in [ ])"], id="nothing for list"),
        pytest.param("{a: [[ann]]}", ["groups.a: must be a text"], id="list in list"),
        pytest.param("{a: [~, '']}", ["groups.a: must be a text", "groups.a: must be a text"], id="empty names"),
        pytest.param("{a: [x, y, x]}", ['groups.a: "x" is given twice (the first is at FILE2:14)'], id="member twice"),
        pytest.param("{a: [x], a: [y]}", ['key "a" is given twice (the first is at FILE2:10)'], id="group twice"),
        pytest.param(
            "{a: ['user:x']}",
            [
                f'groups.a: "user:x" is not a user: {COLON} (write the names of users, and nothing else)',
            ],
            id="member with kind",
        ),
        pytest.param(
            "{a: ['*']}",
            ['groups.a: "*" is not a user: only packs have patterns (write the names of users, and nothing else)'],
            id="a pattern of users",
        ),
        pytest.param(
            "{a: [user: x]}", ["groups.a: must be a text (write no blank after a colon)"], id="blank after colon"
        ),
        pytest.param(
            "{'a:b': []}",
            ['groups.a:b: "a:b" is not the name of a group: there is a colon in the name'],
            id="colon in a name",
        ),
        pytest.param(
            "{'': []}", ['groups.: "" is not the name of a group: a name has at least one character'], id="no name"
        ),
    ],
)
def test_what_is_wrong_with_groups(tmp_path: Path, groups: str, expected: list[str]) -> None:
    found = problems(tmp_path, f"version: 1\ngroups: {groups}\nrules: []")
    path = f"{tmp_path / 'policy.yml'}:"
    assert [re.sub(r"^2:\d+: ", "", line) for line in found] == [line.replace("FILE", path) for line in expected]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        pytest.param(
            "{}",
            [
                "3:5: rules: this rule has no subjects (write subjects: [ … ])",
                "3:5: rules: this rule has no packs (write packs: [ … ])",
                "3:5: rules: this rule grants nothing (write allow: [ … ], or role: …)",
            ],
            id="empty",
        ),
        pytest.param("", ["3:4: rules: must be a map of keys (known: subjects, packs, allow, role)"], id="nothing"),
        pytest.param("ann", ["3:5: rules: must be a map of keys (known: subjects, packs, allow, role)"], id="text"),
        pytest.param(
            "{subjects: [], packs: [], allow: []}",
            [
                "3:16: rules.subjects: is empty (write what it is for, or leave the rule out)",
                "3:27: rules.packs: is empty (write what it is for, or leave the rule out)",
                "3:38: rules.allow: is empty (write what it is for, or leave the rule out)",
            ],
            id="empty lists",
        ),
        pytest.param(
            "{subjects: anonymous, packs: '*', allow: read}",
            [
                "3:16: rules.subjects: must be a list (write it in [ ])",
                "3:34: rules.packs: must be a list (write it in [ ])",
                "3:46: rules.allow: must be a list (write it in [ ])",
            ],
            id="texts for lists",
        ),
        pytest.param(
            "{subjects: [anonymous], packs: [a], role: reader, allow: [read]}",
            ["3:55: rules: this rule has both allow and role (leave one of them)"],
            id="allow and role",
        ),
        pytest.param(
            "{subjects: [anonymous], packs: [a], allow: [read], role: reader}",
            ["3:56: rules: this rule has both allow and role (leave one of them)"],
            id="role and allow",
        ),
        pytest.param(
            "{subjects: [anonymous], pack: [a], role: reader}",
            [
                '3:29: rules: unknown key "pack" (did you mean packs?)',
                "3:5: rules: this rule has no packs (write packs: [ … ])",
            ],
            id="unknown key",
        ),
        pytest.param(
            "{subjects: [anonymous, anonymous], packs: [a, b, a], allow: [read, read]}",
            [
                '3:28: rules.subjects: "anonymous" is given twice (the first is at FILE3:17)',
                '3:54: rules.packs: "a" is given twice (the first is at FILE3:48)',
                '3:72: rules.allow: "read" is given twice (the first is at FILE3:66)',
            ],
            id="twice",
        ),
        pytest.param(
            "{subjects: [user: ann], packs: [a], role: reader}",
            ["3:17: rules.subjects: must be a text (write no blank after a colon)"],
            id="blank after the colon",
        ),
        pytest.param(
            "{subjects: [anonymous], packs: [a, b/c, nginx-, '-*'], role: reader}",
            [
                f'3:40: rules.packs: "b/c" is not a pattern of pack names: {CHARACTERS}',
                f'3:45: rules.packs: "nginx-" matches no pack, {ENDS}',
                f'3:53: rules.packs: "-*" matches no pack, {ENDS}',
            ],
            id="patterns",
        ),
        pytest.param(
            "{subjects: [anonymous], packs: [a], allow: [raed, write, push, pull, '*', maintainer, list]}",
            [
                '3:49: rules.allow: "raed" is not an action (did you mean read?)',
                '3:55: rules.allow: "write" is not an action (write create, and overwrite if they may change versions)',
                '3:62: rules.allow: "push" is not an action (write create)',
                '3:68: rules.allow: "pull" is not an action (write read)',
                '3:74: rules.allow: "*" is not an action (write admin)',
                '3:79: rules.allow: "maintainer" is not an action (write role: maintainer)',
                '3:91: rules.allow: "list" is not an action (known: read, create, overwrite, delete, admin)',
            ],
            id="actions",
        ),
        pytest.param(
            "{subjects: [anonymous], packs: [a], role: maintaner}",
            ['3:47: rules.role: "maintaner" is not a role (did you mean maintainer?)'],
            id="role",
        ),
        pytest.param(
            "{subjects: [anonymous], packs: [a], role: owner}",
            ['3:47: rules.role: "owner" is not a role (known: reader, publisher, maintainer, admin)'],
            id="role unknown",
        ),
        pytest.param(
            "{subjects: [anonymous], packs: [a], role: [reader]}",
            ["3:47: rules.role: must be the name of one role (known: reader, publisher, maintainer, admin)"],
            id="roles",
        ),
    ],
)
def test_what_is_wrong_with_a_rule(tmp_path: Path, rule: str, expected: list[str]) -> None:
    path = f"{tmp_path / 'policy.yml'}:"
    assert problems(tmp_path, f"version: 1\nrules:\n  - {rule}") == [line.replace("FILE", path) for line in expected]


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    text = """\
        version: 2
        group: {}
        groups: {platform: [ann, ann]}
        rules:
          - {subjects: [group:plattform], packs: [a], role: reader}
          - {subjects: [anonymous], packs: [a], role: redaer}
    """
    assert [line.partition(" ")[0] for line in problems(tmp_path, text)] == ["2:1:", "1:10:", "3:26:", "5:17:", "6:47:"]


def test_a_problem_behind_an_anchor_is_told_once(tmp_path: Path) -> None:
    text = """\
        version: 1
        rules:
          - {subjects: [anonymous], packs: &packs [a/b], role: reader}
          - {subjects: [authenticated], packs: *packs, role: reader}
    """
    assert len(problems(tmp_path, text)) == 1


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        pytest.param(lambda path: None, "there is no such file", id="missing"),
        pytest.param(Path.mkdir, "this is a directory", id="directory"),
        pytest.param(lambda path: path.write_bytes(b""), "is empty", id="empty"),
        pytest.param(lambda path: path.write_bytes(b"~"), "is empty", id="null"),
        pytest.param(lambda path: path.write_bytes(b"version: \xff"), "is not UTF-8 text", id="no text"),
        pytest.param(lambda path: path.write_bytes(b"[" * 1000), "is nested too deeply", id="deep"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, make: object, expected: str) -> None:
    path = tmp_path / "policy.yml"
    assert callable(make)
    make(path)
    with pytest.raises(ReloadError, match=re.escape(expected)) as caught:
        PolicyFile(path).load()
    assert str(caught.value).startswith(str(path))
    assert len(str(caught.value).splitlines()) == 1


# Reading again.

FIRST = """\
    version: 1
    groups: {platform: [ann], other: [bob]}
    rules:
      - {subjects: [group:platform], packs: ["nginx"], role: reader}
      - {subjects: [user:root], packs: ["*"], role: admin}
"""
SECOND = """\
    version: 1
    groups: {platform: [bob]}
    rules:
      - {subjects: [group:platform], packs: ["nginx"], allow: [create]}
      - {subjects: [user:root], packs: ["*"], role: admin}
"""


def test_a_change_is_seen_and_replaces_all_there_was(tmp_path: Path) -> None:
    file = PolicyFile(write(tmp_path / "policy.yml", FIRST))
    source: Reloadable = file
    assert source.what == "policy"
    assert source.changed()
    source.load()
    assert not source.changed()
    assert file.rights(ANN, "nginx") == READING
    assert file.rights(BOB, "nginx") == NOTHING
    write(file.path, SECOND, mtime=2_000)
    assert source.changed()
    assert file.rights(ANN, "nginx") == READING
    source.load()
    assert not source.changed()
    assert file.rights(ANN, "nginx") == NOTHING
    assert file.rights(BOB, "nginx") == rights_of(CREATE)


def test_groups_of_an_earlier_reading_are_gone(tmp_path: Path) -> None:
    file = PolicyFile(write(tmp_path / "policy.yml", FIRST))
    file.load()
    write(file.path, SECOND.replace("group:platform", "group:other"), mtime=2_000)
    with pytest.raises(ReloadError, match='there is no group "other"'):
        file.load()


@pytest.mark.parametrize("text", ["version: 1", "rules: [", FIRST.replace("reader", "redaer")])
def test_a_file_that_cannot_be_used_leaves_the_last_good_rules_in_force(tmp_path: Path, text: str) -> None:
    file = PolicyFile(write(tmp_path / "policy.yml", FIRST))
    file.load()
    write(file.path, text, mtime=2_000)
    with pytest.raises(ReloadError):
        file.load()
    assert not file.changed()
    assert file.rights(ANN, "nginx") == READING
    assert file.everywhere(Principal("root", "basic")) == ALL


def test_a_removed_file_leaves_the_rules_in_force(tmp_path: Path) -> None:
    file = PolicyFile(write(tmp_path / "policy.yml", FIRST))
    file.load()
    file.path.unlink()
    assert file.changed()
    with pytest.raises(ReloadError):
        file.load()
    assert file.rights(ANN, "nginx") == READING


def test_a_change_while_the_file_is_read_is_seen_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = PolicyFile(write(tmp_path / "policy.yml", FIRST))

    def overtaken(path: Path) -> object:
        rules = read_rules(path)
        write(path, SECOND, mtime=2_000)
        return rules

    monkeypatch.setattr(policies, "read_rules", overtaken)
    file.load()
    assert file.changed()


def test_nobody_has_anything_before_the_first_reading(tmp_path: Path) -> None:
    assert PolicyFile(tmp_path / "policy.yml").anywhere(ANN) == NOTHING


@pytest.mark.parametrize(
    ("rules", "warned"),
    [
        pytest.param("""subjects: ["user:root"], packs: ["*"], role: admin""", False, id="role"),
        pytest.param("""subjects: ["token:root"], packs: ["a", "*"], allow: [admin]""", False, id="action"),
        pytest.param("""subjects: ["user:root"], packs: ["a*"], role: admin""", True, id="some packs"),
        pytest.param("""subjects: ["user:root"], packs: ["*"], role: maintainer""", True, id="no admin"),
        pytest.param("""subjects: ["group:none"], packs: ["*"], role: admin""", True, id="an empty group"),
        pytest.param("", True, id="no rules"),
    ],
)
def test_that_nobody_administers_the_registry_is_warned_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, rules: str, warned: bool
) -> None:
    caplog.set_level(logging.INFO)
    file = loaded(tmp_path, rules, "{none: []}")
    warnings = logged(caplog, logging.WARNING)
    assert [line.startswith(f"policy {file.path}: nobody can administer the registry") for line in warnings] == (
        [True] if warned else []
    )
    assert logged(caplog, logging.INFO) == [f"policy {file.path}: {int(bool(rules))} rules"]


def test_a_state_of_the_file_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    file = PolicyFile(write(tmp_path / "policy.yml", "version: 1\nrules: []"))
    for _ in range(3):
        file.load()
    assert len(caplog.records) == 2
    write(file.path, "version: 1\nrules: []\n", mtime=2_000)
    file.load()
    assert len(caplog.records) == 4


# The guide.


def examples() -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)


def test_the_example_in_the_guide_does_what_its_comments_say(tmp_path: Path) -> None:
    (text,) = (example for example in examples() if example.startswith("version:"))
    file = PolicyFile(write(tmp_path / "policy.yml", text))
    file.load()
    assert Action.ADMIN in file.everywhere(Principal("root", "basic"))
    assert file.everywhere(Principal("admin", "basic")) == READING
    assert file.everywhere(ANN) == ROLES["maintainer"]
    assert file.rights(Principal("carol", "certificate"), "grafana") == rights_of(READ, CREATE)
    assert file.rights(Principal("carol", "certificate"), "cilium") == READING
    assert file.rights(token("mirror"), "cni-calico") == rights_of(READ, CREATE, OVERWRITE)
    assert file.rights(ANONYMOUS, "nginx-1") == READING
    assert file.rights(ANONYMOUS, "grafana") == NOTHING


def test_the_guide_has_every_action_and_what_each_role_is() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", GUIDE, re.MULTILINE))
    assert {action.value for action in Action} <= {*rows}
    for role, rights in ROLES.items():
        words = [f"`{action.value}`" for action in Action if action in rights]
        assert rows[role] == (", ".join(words) if role != "admin" else "`admin`")


def test_the_problems_that_the_guide_shows_are_those_that_are_told(tmp_path: Path) -> None:
    text = """\
        version: 1
        groups: {platform: []}
        rules:
          - {subjects: [group:platfrom], packs: [a], allow: [write]}
    """
    shown = re.findall(r"^policy\.yml:\d+:\d+: (.*)$", GUIDE, re.MULTILINE)
    assert [re.sub(r"^\d+:\d+: ", "", line) for line in problems(tmp_path, text)] == shown
