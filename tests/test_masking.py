"""Secrets are not in what is logged."""

from __future__ import annotations

import base64
import string

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from packregistry.masking import TOKEN_PREFIX, is_suspect, masked

LETTERS = string.ascii_letters + string.digits
TOKENS = st.text(LETTERS, min_size=20, max_size=60).map(TOKEN_PREFIX.__add__)
# What could hide a secret from whoever looks for it.
AROUND = st.lists(
    st.text(max_size=8)
    | st.text(LETTERS + "_", max_size=12)
    | st.sampled_from(
        ["pkr_", "pkr_A", "pkr", "_", "://", "@", "/", "Basic ", "bearer ", "%20", "+", " ", "\n", '"', "Basic"]
    ),
    max_size=6,
).map("".join)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pkr_abcdefgh", "pkr_***"),
        ("token pkr_Abcdefgh0123456789, again", "token pkr_***, again"),
        ("/v1/?token=pkr_abcdefgh&n=1", "/v1/?token=pkr_***&n=1"),
        ("pkr_abcdefghpkr_ijklmnop", "pkr_***"),
        ("xpkr_abcdefgh", "xpkr_***"),
        ("pkr_1-pkr_abcdefgh", "pkr_1-pkr_***"),
        ("http://user:secret@host/path", "http://***@host/path"),
        ("https://secret@host:5000", "https://***@host:5000"),
        ("git+ssh://user:se@cret@host", "git+ssh://***@host"),
        ("from http://a:b@c/d to oci://e:f@g/h", "from http://***@c/d to oci://***@g/h"),
        ("http://user:pkr_abcdefgh@host", "http://***@host"),
        ("Authorization: Basic dXNlcjpwYXNz", "Authorization: Basic ***"),
        ("authorization=basic dXNlcjpwYXM=,", "authorization=basic ***,"),
        ("BASIC dXNlcjpwYXNz", "BASIC ***"),
        ("Basic dXNlBasic dXNlcjpwYXNz", "Basic dXNlBasic ***"),
        ("Basic dXNlcjpwYXNzBasic dXNlcjpwYXNz", "Basic ***Basic ***"),
        ("Bearer  eyJhbGciOi.J9-_~+/x==", "Bearer  ***"),
        ("Bearer   abcdefgh", "Bearer   ***"),
        ("['Bearer\tabcdefgh']", "['Bearer\t***']"),
        ("BEARER abcdefgh", "BEARER ***"),
        ("/?auth=Basic%20dXNlcjpwYXNz&n=1", "/?auth=Basic%20***&n=1"),
        ("/?auth=bearer+dXNlcjpwYXNz", "/?auth=bearer+***"),
    ],
)
def test_a_secret_is_masked_and_what_is_around_it_stays(text: str, expected: str) -> None:
    assert masked(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "GET /api/v1/packs/kubernetes/versions/1.27.5/archive",
        "pkr_abcdefg is too short",
        "http://host?mail=a@b",
        "http://host#a@b",
        "http://host/a@b",
        "http://host and a@b",
        "ann@example.com",
        "send Basic base64(user:password), or Bearer and a token",
        "Bearer token",
        "a basic_authentication",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert masked(text) == text


@given(AROUND, TOKENS, AROUND)
def test_no_part_of_a_token_that_is_one_is_left_whatever_surrounds_it(before: str, token: str, after: str) -> None:
    secret = token.removeprefix(TOKEN_PREFIX)
    assume(secret not in before + after)
    assert secret not in masked(before + token + after)


@given(AROUND, st.text(string.printable.strip().translate({ord(char): None for char in "/?#"}), min_size=9), AROUND)
def test_no_password_in_a_url_is_left_whatever_surrounds_it(before: str, password: str, after: str) -> None:
    secret = f"0123{password}6789"
    assert secret not in masked(f"{before}https://user:{secret}@host/{after}")


@given(AROUND, st.binary(min_size=12), st.sampled_from(["Basic ", "basic ", "Bearer  ", "bearer%20", "Basic+"]), AROUND)
def test_no_value_of_a_header_is_left_whatever_surrounds_it(
    before: str, secret: bytes, scheme: str, after: str
) -> None:
    value = base64.b64encode(secret + b"0123456789").decode()
    assert value not in masked(before + scheme + value + after)


@given(AROUND)
def test_only_what_is_suspect_is_changed_and_once_is_enough(text: str) -> None:
    once = masked(text)
    assert once == text or is_suspect(text)
    assert masked(once) == once


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/v1/?x=https%3A%2F%2Fann%3AHUNTER3%40host%2Fpath", "/v1/?x=https%3A%2F%2F***%40host%2Fpath"),
        ("/v1/?x=https%3a%2f%2fann:HUNTER3@host&y=1", "/v1/?x=https%3a%2f%2f***@host&y=1"),
        ("/v1/pkr%5Fabcdefghijkl/tags", "/v1/pkr%5F***/tags"),
        ("/v1/?x=https%3A%2F%2Fhost%2Fa%40b", "/v1/?x=https%3A%2F%2Fhost%2Fa%40b"),
        ("/v1/a%2Fb%5Fc", "/v1/a%2Fb%5Fc"),
    ],
)
def test_what_is_encoded_in_a_url_is_masked_as_well(text: str, shown: str) -> None:
    assert masked(text) == shown
