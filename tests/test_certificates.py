"""Whom a client certificate stands for, and whom never."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packregistry.auth import Principal
from packregistry.auth.certificates import REPORTED_MAX, CertificateUsers
from packregistry.config import Certificates

# CN=ann, UID=u-1, emailAddress=ann@example.org, and each of the alternative names; valid until 2126.
PEM = """\
-----BEGIN CERTIFICATE-----
MIICMzCCAdmgAwIBAgIUJHPGSQHTDigXvb9WkDfetT8GFXwwCgYIKoZIzj0EAwIw
YDELMAkGA1UEBhMCU0UxDjAMBgNVBAoMBVBhY2tzMQwwCgYDVQQDDANhbm4xEzAR
BgoJkiaJk/IsZAEBDAN1LTExHjAcBgkqhkiG9w0BCQEWD2FubkBleGFtcGxlLm9y
ZzAgFw0yNjExMjQxMDQyNDhaGA8yMTI2MTAzMTEwNDI0OFowYDELMAkGA1UEBhMC
U0UxDjAMBgNVBAoMBVBhY2tzMQwwCgYDVQQDDANhbm4xEzARBgoJkiaJk/IsZAEB
DAN1LTExHjAcBgkqhkiG9w0BCQEWD2FubkBleGFtcGxlLm9yZzBZMBMGByqGSM49
AgEGCCqGSM49AwEHA0IABKja8jJdm0swxkuKEaPeWbceFBwnUtf3vk6qsGWmn1Zt
xClF7m1UBysxufQ+ufd/e6pgRI5kZdrRKkGhuJs0Cy6jbzBtMEwGA1UdEQRFMEOC
CWEuZXhhbXBsZYIJYi5leGFtcGxlgQ9hbm5AZXhhbXBsZS5vcmeGFHNwaWZmZTov
L2NsdXN0ZXIvYW5uhwTAAAIBMB0GA1UdDgQWBBQafichW7qdKduBSR/NRuYQyuCW
nzAKBggqhkjOPQQDAgNIADBFAiA8SiAbQmsgshNuSWpnyomIAN0MTDJj+02CvlYv
PzSGkwIhALoSN1XHffUHJf+vLfUca4k26yERdfW6mhDLpp9b3dXs
-----END CERTIFICATE-----
"""


def certificate(*fields: tuple[str, str], names: tuple[tuple[str, Any], ...] = ()) -> dict[str, object]:
    """What `ssl` gives of a certificate with these fields in its subject and these alternative names."""
    found: dict[str, object] = {"subject": tuple((field,) for field in fields), "issuer": ((("commonName", "CA"),),)}
    return {**found, "subjectAltName": names} if names else found


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


@pytest.fixture
def decoded(tmp_path: Path) -> dict[str, object]:
    """What `ssl` gives of the certificate in `PEM`."""
    ssl_module = pytest.importorskip("_ssl", reason="only CPython's own module decodes a certificate without a peer")
    path = tmp_path / "client.pem"
    path.write_text(PEM)
    found: dict[str, object] = ssl_module._test_decode_cert(str(path))
    return found


@pytest.mark.parametrize(
    ("config", "name"),
    [
        pytest.param(Certificates("commonname"), "ann", id="commonname"),
        pytest.param(Certificates("userid"), "u-1", id="userid"),
        pytest.param(Certificates("email"), "ann@example.org", id="email"),
        pytest.param(Certificates("dns"), None, id="two-dns-names"),
        pytest.param(Certificates("dns", {"b.example": "bob"}), "bob", id="listed-dns-name"),
        pytest.param(Certificates("uri"), None, id="uri-is-no-user-name"),
        pytest.param(Certificates("uri", {"spiffe://cluster/ann": "ann"}), "ann", id="listed-uri"),
        pytest.param(Certificates(), None, id="none"),
        pytest.param(Certificates("none", {"ann": "ann"}), None, id="none-with-a-list"),
    ],
)
def test_a_real_certificate(decoded: dict[str, object], config: Certificates, name: str | None) -> None:
    expected = None if name is None else Principal(name, "certificate")
    assert CertificateUsers(config).principal(decoded) == expected


@pytest.mark.parametrize(
    ("subject", "given", "name"),
    [
        pytest.param("email", certificate(names=(("email", "a@b"),)), "a@b", id="email-as-alternative-name-alone"),
        pytest.param("email", certificate(("emailAddress", "a@b")), "a@b", id="email-in-the-subject-alone"),
        pytest.param(
            "email", certificate(("emailAddress", "a@b"), names=(("email", "c@d"),)), None, id="two-email-addresses"
        ),
        pytest.param("dns", certificate(("commonName", "x"), names=(("DNS", "a.b"),)), "a.b", id="one-dns-name"),
        pytest.param("dns", certificate(("commonName", "x")), None, id="a-common-name-is-no-dns-name"),
        pytest.param("commonname", certificate(names=(("DNS", "a.b"),)), None, id="a-dns-name-is-no-common-name"),
        pytest.param("commonname", certificate(("commonName", "a"), ("commonName", "b")), None, id="two-common-names"),
        pytest.param("commonname", certificate(("commonName", "a"), ("commonName", "a")), "a", id="one-name-twice"),
        pytest.param(
            "commonname", {"subject": ((("commonName", "a"), ("commonName", "b")),)}, None, id="two-names-in-one-part"
        ),
        pytest.param("userid", certificate(("commonName", "a")), None, id="field-missing"),
        pytest.param(
            "dns", certificate(names=(("DirName", ((("commonName", "x"),),)), ("DNS", "a"))), "a", id="other-kinds"
        ),
    ],
)
def test_the_part_that_is_asked_for_names_the_user(subject: Any, given: dict[str, object], name: str | None) -> None:
    expected = None if name is None else Principal(name, "certificate")
    assert CertificateUsers(Certificates(subject)).principal(given) == expected


@pytest.mark.parametrize("given", [None, {}], ids=["no-certificate", "none-verified"])
def test_without_a_certificate_there_is_nobody_and_nothing_to_say(
    caplog: pytest.LogCaptureFixture, given: dict[str, object] | None
) -> None:
    assert CertificateUsers(Certificates("commonname", {"": "ann"})).principal(given) is None
    assert warnings(caplog) == []


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("token:ci", id="token"),
        pytest.param("anonymous", id="anonymous"),
        pytest.param("Anonymous", id="anonymous-in-another-case"),
        pytest.param("", id="empty"),
        pytest.param("ann\n", id="line-break"),
        pytest.param("ann\0", id="nul"),
        pytest.param("ann\x7f", id="delete"),
        pytest.param("ann\u200b", id="zero-width"),
        pytest.param("ann\u00a0", id="odd-blank"),
        pytest.param("\u202enna", id="right-to-left"),
        pytest.param("\ud800", id="surrogate"),
        pytest.param(" ann", id="blank-before"),
        pytest.param("ann ", id="blank-after"),
        pytest.param("a" * 256, id="256-bytes"),
        pytest.param("é" * 128, id="256-bytes-of-128-characters"),
    ],
)
def test_some_names_are_nobody_also_where_a_list_gives_them(name: str) -> None:
    assert CertificateUsers(Certificates("commonname")).principal(certificate(("commonName", name))) is None
    listing = CertificateUsers(Certificates("commonname", {"x": name}))
    assert listing.principal(certificate(("commonName", "x"))) is None
    assert listing.principal(certificate(("commonName", "y"))) is None, "a list without a usable user is still a list"


@pytest.mark.parametrize("name", ["a" * 255, "Ève Müller", "ann@example.org", "*.example", "CN=a/b", "日本"])
def test_other_names_are_users_as_they_are(name: str) -> None:
    found = CertificateUsers(Certificates("commonname")).principal(certificate(("commonName", name)))
    assert found == Principal(name, "certificate")


@given(st.text(st.characters()))
def test_a_name_is_itself_or_nobody(name: str) -> None:
    found = CertificateUsers(Certificates("commonname")).principal(certificate(("commonName", name)))
    assert found in {None, Principal(name, "certificate")}
    assert found is None or (":" not in name and name.isprintable())


def test_with_a_list_only_those_in_it_are_users_under_the_names_it_gives() -> None:
    users = CertificateUsers(Certificates("commonname", {"ann": "admin", "a:b": "bob"}))
    assert users.principal(certificate(("commonName", "ann"))) == Principal("admin", "certificate")
    assert users.principal(certificate(("commonName", "a:b"))) == Principal("bob", "certificate")
    assert users.principal(certificate(("commonName", "admin"))) is None
    assert users.principal(certificate(("commonName", "Ann"))) is None


@pytest.mark.parametrize(
    ("users", "name"),
    [
        pytest.param({"a": "ann"}, "ann", id="one-of-both"),
        pytest.param({"a": "ann", "b": "ann"}, "ann", id="the-same-user"),
        pytest.param({"a": "ann", "b": "bob"}, None, id="two-users"),
        pytest.param({"c": "cid"}, None, id="neither"),
    ],
)
def test_several_names_are_one_user_where_the_list_says_so(users: dict[str, str], name: str | None) -> None:
    given = certificate(names=(("DNS", "a"), ("DNS", "b")))
    expected = None if name is None else Principal(name, "certificate")
    assert CertificateUsers(Certificates("dns", users)).principal(given) == expected


@pytest.mark.parametrize(
    ("config", "given", "line"),
    [
        pytest.param(
            Certificates("email"), certificate(("commonName", "a")), "client certificate: there is no email in it: ",
            id="no-name",
        ),
        pytest.param(
            Certificates("dns"), certificate(names=(("DNS", "b"), ("DNS", "a\n"))),
            'client certificate of "a\\n", "b": more than one dns leads to a user: ', id="several",
        ),
        pytest.param(
            Certificates("commonname", {"b": "bob"}), certificate(("commonName", "a")),
            'client certificate of "a": it is not in auth.certificates.users: ', id="not-listed",
        ),
        pytest.param(
            Certificates("commonname"), certificate(("commonName", "token:a")),
            'client certificate of "token:a": that is no user name: ', id="no-user-name",
        ),
        pytest.param(
            Certificates("dns"), certificate(names=tuple(("DNS", letter) for letter in "fedcba")),
            'client certificate of "a", "b", "c", "d", "e": more than one', id="many",
        ),
    ],
)  # fmt: skip
def test_why_a_certificate_is_nobody_is_logged_once(
    caplog: pytest.LogCaptureFixture, config: Certificates, given: dict[str, object], line: str
) -> None:
    users = CertificateUsers(config)
    assert [users.principal(given) for _ in range(3)] == [None] * 3
    (warning,) = warnings(caplog)
    assert warning.startswith(line)


def test_what_is_logged_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    users = CertificateUsers(Certificates("commonname", {"ann": "ann"}))
    for number in range(REPORTED_MAX + 5):
        users.principal(certificate(("commonName", str(number))))
    assert len(warnings(caplog)) == len(users._reported) == REPORTED_MAX


def test_a_user_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    CertificateUsers(Certificates("commonname", {"a": "ann"})).principal(certificate(("commonName", "a")))
    assert warnings(caplog) == []


@pytest.mark.parametrize(
    ("config", "beginnings"),
    [
        pytest.param(
            Certificates("commonname", {"a": "ann", "b": "token:b"}),
            ['auth.certificates.users: "b": "token:b" is no user name: '],
            id="no-user-name",
        ),
        pytest.param(Certificates("uri"), ["auth.certificates: a URI is no user name: "], id="uri-without-a-list"),
        pytest.param(Certificates("uri", {"urn:a": "ann"}), [], id="uri-with-a-list"),
        pytest.param(Certificates("dns"), [], id="dns-without-a-list"),
    ],
)
def test_what_the_configuration_can_never_mean_is_said_at_the_start(
    caplog: pytest.LogCaptureFixture, config: Certificates, beginnings: list[str]
) -> None:
    CertificateUsers(config)
    assert [line[: len(start)] for line, start in zip(warnings(caplog), beginnings, strict=True)] == beginnings


@pytest.mark.parametrize(
    ("end", "is_somebody"), [("Jan  1 00:00:00 2020 GMT", False), ("Jan  1 00:00:00 2120 GMT", True)]
)
def test_a_certificate_is_good_until_its_time_is_over(end: str, is_somebody: bool) -> None:
    users = CertificateUsers(Certificates(subject="commonname"))
    certificate = {"subject": ((("commonName", "ann"),),), "notAfter": end}
    assert (users.principal(certificate) is not None) == is_somebody
