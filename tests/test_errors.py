"""The table of refusals."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator

import pytest

from packregistry import errors
from packregistry.errors import RegistryError


def subclasses(cls: type[RegistryError]) -> Iterator[type[RegistryError]]:
    for each in cls.__subclasses__():
        yield each
        yield from subclasses(each)


ALL = sorted((each for each in subclasses(RegistryError) if each.__module__ == errors.__name__), key=lambda c: c.code)


def test_codes_are_unique() -> None:
    codes = [each.code for each in ALL]
    assert len(codes) == len(set(codes)) > 20
    assert RegistryError.code not in codes


@pytest.mark.parametrize("error", ALL, ids=lambda cls: cls.code)
def test_every_refusal_has_a_code_a_status_and_a_reason(error: type[RegistryError]) -> None:
    assert re.fullmatch(r"[A-Z]+(_[A-Z]+)*", error.code)
    assert 400 <= error.status < 600
    assert error.__name__.endswith("Error")
    assert error.__doc__
    assert "code" in vars(error)
    assert "status" in vars(error)


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (errors.UnauthorizedError, "UNAUTHORIZED", 401),
        (errors.DeniedError, "DENIED", 403),
        (errors.TooManyRequestsError, "TOOMANYREQUESTS", 429),
        (errors.NameInvalidError, "NAME_INVALID", 400),
        (errors.NameUnknownError, "NAME_UNKNOWN", 404),
        (errors.ManifestUnknownError, "MANIFEST_UNKNOWN", 404),
        (errors.ManifestInvalidError, "MANIFEST_INVALID", 400),
        (errors.BlobUnknownError, "BLOB_UNKNOWN", 404),
        (errors.BlobUploadUnknownError, "BLOB_UPLOAD_UNKNOWN", 404),
        (errors.BlobUploadInvalidError, "BLOB_UPLOAD_INVALID", 400),
        (errors.DigestInvalidError, "DIGEST_INVALID", 400),
        (errors.RangeInvalidError, "RANGE_INVALID", 416),
        (errors.PaginationNumberInvalidError, "PAGINATION_NUMBER_INVALID", 400),
        (errors.UnsupportedError, "UNSUPPORTED", 405),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_codes_of_the_distribution_api_are_its_own(error: type[RegistryError], code: str, status: int) -> None:
    assert (error.code, error.status) == (code, status)


def test_the_text_is_the_message_and_what_to_do() -> None:
    assert str(errors.DeniedError("no", remedy="ask")) == "no: ask"
    assert str(errors.DeniedError("no")) == "no"


def test_nothing_is_shared_between_refusals() -> None:
    first, second = errors.DeniedError("one"), errors.DeniedError("two")
    first.headers["Retry-After"] = "1"
    assert second.headers == {}
    assert second.detail is None
    given = errors.TooManyRequestsError("three", headers={"Retry-After": "2"}, detail=[3])
    assert (given.headers, given.detail) == ({"Retry-After": "2"}, [3])


def test_a_refusal_can_be_copied() -> None:
    """As futures and process pools do."""
    copied = copy.copy(errors.DeniedError("no", detail={"a": 1}, remedy="ask"))
    assert (copied.message, copied.detail, copied.remedy) == ("no", {"a": 1}, "ask")
