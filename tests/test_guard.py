"""What a route asks of whoever calls it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from packregistry.auth import ANONYMOUS, Principal
from packregistry.auth.rights import NOTHING, Action, Rights
from packregistry.errors import DeniedError, NameUnknownError, UnauthorizedError
from packregistry.web.guard import Access, check_access, refusal_for

ANN = Principal("ann", "basic")
CHALLENGE = 'Basic realm="packs"'


@dataclass(frozen=True)
class Given:
    """A policy that gives rights on all packs, on one called `hello`, and on some other."""

    on_all: Rights = NOTHING
    on_hello: Rights = NOTHING
    on_some: Rights = NOTHING

    def everywhere(self, principal: Principal) -> Rights:
        return self.on_all

    def rights(self, principal: Principal, pack: str) -> Rights:
        return self.on_all | (self.on_hello if pack == "hello" else NOTHING)

    def anywhere(self, principal: Principal) -> Rights:
        return self.on_all | self.on_hello | self.on_some


def of(*actions: Action) -> Rights:
    return frozenset(actions)


def is_allowed(policy: Given, access: Access, pack: str | None, principal: Principal = ANN) -> bool:
    try:
        check_access(policy, access, principal, pack)
    except DeniedError:
        return False
    return True


ENOUGH = {
    Access.READ: {Action.READ},
    Access.WRITE: {Action.CREATE, Action.OVERWRITE},
    Access.DELETE: {Action.DELETE},
    Access.ADMIN: {Action.ADMIN},
}


@pytest.mark.parametrize("access", ENOUGH, ids=lambda access: access.name)
@pytest.mark.parametrize("action", Action, ids=lambda action: action.name)
def test_one_of_a_few_rights_is_enough_and_no_other(access: Access, action: Action) -> None:
    enough = action in ENOUGH[access]
    assert is_allowed(Given(on_all=of(action)), access, "hello") == enough
    assert is_allowed(Given(on_hello=of(action)), access, "hello") == (enough and access is not Access.ADMIN)
    assert not is_allowed(Given(on_some=of(action)), access, "hello")


@pytest.mark.parametrize("policy", [Given(on_hello=of(*Action)), Given(on_some=of(*Action))], ids=["hello", "some"])
def test_administering_the_registry_takes_the_right_on_all_packs(policy: Given) -> None:
    assert not is_allowed(policy, Access.ADMIN, None)
    assert is_allowed(Given(on_all=of(Action.ADMIN)), Access.ADMIN, None)


@pytest.mark.parametrize("access", [Access.READ, Access.WRITE, Access.DELETE], ids=lambda access: access.name)
def test_without_a_pack_in_the_path_a_right_on_some_pack_is_enough(access: Access) -> None:
    assert is_allowed(Given(on_some=frozenset(ENOUGH[access])), access, None, ANONYMOUS)
    assert not is_allowed(Given(), access, None, ANONYMOUS)


def test_whoever_is_signed_in_may_try_that_out_and_do_nothing_else() -> None:
    assert is_allowed(Given(), Access.READ, None)
    assert not is_allowed(Given(), Access.WRITE, None)
    assert not is_allowed(Given(), Access.READ, "hello")


def test_what_is_public_asks_for_nothing() -> None:
    assert is_allowed(Given(), Access.PUBLIC, None, ANONYMOUS)
    assert is_allowed(Given(), Access.PUBLIC, "hello", ANONYMOUS)


def test_a_refusal_names_who_asked_for_what_and_says_the_same_of_packs_that_are_not_there() -> None:
    with pytest.raises(DeniedError) as caught:
        check_access(Given(), Access.WRITE, ANN, "a\n")
    assert str(caught.value).startswith('ann may not change the pack "a\\n": whoever runs the registry can allow it')
    assert caught.value.detail == {"subject": "ann", "access": "write", "pack": "a\n"}


def test_who_has_not_signed_in_is_asked_to() -> None:
    refusal = refusal_for(ANONYMOUS, CHALLENGE, DeniedError("no"))
    assert isinstance(refusal, UnauthorizedError)
    assert refusal.headers == {"WWW-Authenticate": CHALLENGE}


def test_who_cannot_sign_in_is_told_so() -> None:
    refusal = refusal_for(ANONYMOUS, "", DeniedError("no"))
    assert isinstance(refusal, DeniedError)
    assert "no authentication is configured" in str(refusal)


@pytest.mark.parametrize(
    ("principal", "refusal"),
    [
        pytest.param(ANN, DeniedError("no"), id="signed in"),
        pytest.param(Principal("anonymous", "basic"), DeniedError("no"), id="a user called anonymous"),
        pytest.param(ANONYMOUS, NameUnknownError("no"), id="another refusal"),
    ],
)
def test_other_refusals_stay_what_they_are(principal: Principal, refusal: DeniedError) -> None:
    assert refusal_for(principal, CHALLENGE, refusal) is refusal
