"""Certificates as they are in the files: what is accepted, what is refused and why, and what a new load changes."""

from __future__ import annotations

import logging
import os
import re
import ssl
from pathlib import Path
from typing import Any

import pytest

from packregistry.config import Tls as Settings
from packregistry.reload import Reloadable
from packregistry.tls import Tls, TlsError
from tests import certificates
from tests.certificates import Pair, trusting


def loaded(pair: Pair | None = None, *clientcas: Path, **options: Any) -> Tls:
    used = pair or certificates.server()
    tls = Tls(Settings(used.certificate, used.key, clientcas, **options))
    tls.load()
    return tls


def reason(tls: Tls) -> str:
    with pytest.raises(TlsError) as caught:
        tls.load()
    return str(caught.value)


class Shaken:
    """A handshake in memory: either side's connection, and what the server and the client think of it."""

    def __init__(self, server: ssl.SSLContext, client: ssl.SSLContext, session: ssl.SSLSession | None = None) -> None:
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.server = server.wrap_bio(to_server, to_client, server_side=True)
        self.client = client.wrap_bio(to_client, to_server, server_hostname="127.0.0.1", session=session)
        self.refusal: ssl.SSLError | None = None
        waiting = [self.client, self.server]
        for _ in range(10):
            for side in list(waiting):
                try:
                    side.do_handshake()
                    waiting.remove(side)
                except ssl.SSLWantReadError:
                    pass
                except ssl.SSLError as error:
                    self.refusal = error
                    return
        assert not waiting
        # Tickets come with what the server says next.
        self.server.write(b"hello")
        assert self.client.read(5) == b"hello"

    @property
    def serial(self) -> str:
        """Which certificate the server showed."""
        shown = self.client.getpeercert()
        assert shown
        return str(shown["serialNumber"])


def test_it_can_be_reloaded() -> None:
    source: Reloadable = loaded()
    assert source.what == "certificates"


def test_a_client_that_trusts_the_authority_gets_through() -> None:
    shaken = Shaken(loaded().context, trusting())
    assert shaken.refusal is None
    assert shaken.client.version() == "TLSv1.3"


@pytest.mark.parametrize(
    ("minimum", "spoken", "refused"),
    [
        ("tls1.2", ssl.TLSVersion.TLSv1_2, False),
        ("tls1.3", ssl.TLSVersion.TLSv1_2, True),
        ("tls1.3", ssl.TLSVersion.TLSv1_3, False),
    ],
    ids=["old", "too old", "new"],
)
def test_old_versions_are_refused_as_configured(minimum: str, spoken: ssl.TLSVersion, refused: bool) -> None:
    client = trusting()
    client.maximum_version = spoken
    tls = loaded(minimumtls=minimum)
    assert (Shaken(tls.context, client).refusal is not None) is refused
    assert tls.context.minimum_version >= ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    ("clientauth", "own", "refused"),
    [
        ("require-and-verify-client-cert", "clients", None),
        ("require-and-verify-client-cert", None, "PEER_DID_NOT_RETURN_A_CERTIFICATE"),
        ("require-and-verify-client-cert", "others", "CERTIFICATE_VERIFY_FAILED"),
        ("verify-client-cert-if-given", "clients", None),
        ("verify-client-cert-if-given", None, None),
        ("verify-client-cert-if-given", "others", "CERTIFICATE_VERIFY_FAILED"),
    ],
)
def test_clients_are_asked_for_certificates_as_configured(
    clientauth: str, own: str | None, refused: str | None
) -> None:
    tls = loaded(None, certificates.authority("clients").certificate, clientauth=clientauth)
    pair = certificates.client("ann", own) if own else None
    shaken = Shaken(tls.context, trusting(own=pair))
    assert (shaken.refusal.reason if shaken.refusal else None) == refused
    if refused is None:
        peer = shaken.server.getpeercert()
        assert (peer or {}).get("subject") == (((("commonName", "ann"),),) if own else None)


def test_without_authorities_no_client_is_asked() -> None:
    assert loaded().context.verify_mode is ssl.CERT_NONE


def test_every_authority_of_every_file_is_trusted(tmp_path: Path) -> None:
    """As the files are: comments in any encoding, several certificates in one."""
    bundle = tmp_path / "bundle.pem"
    comment = "# Behörde\n"
    texts = [certificates.authority(name).certificate.read_text() for name in ("clients", "others")]
    bundle.write_bytes((comment + comment.join(texts)).encode("latin-1"))
    tls = loaded(None, bundle, certificates.authority("more").certificate)
    for name in ("clients", "others", "more"):
        assert Shaken(tls.context, trusting(own=certificates.client("ann", name))).refusal is None, name


def test_an_authority_that_another_one_signed_for_is_enough() -> None:
    middle = certificates.intermediate("middle", "clients")
    tls = loaded(None, middle.certificate)
    assert Shaken(tls.context, trusting(own=certificates.client("ann", middle))).refusal is None
    assert Shaken(tls.context, trusting(own=certificates.client("ann", "clients"))).refusal is not None


def test_authorities_need_no_extensions_that_plain_openssl_leaves_out() -> None:
    """Python 3.13 demands some unless told otherwise; earlier ones show it by the flag."""
    tls = loaded(None, certificates.authority("clients").certificate)
    assert not tls.context.verify_flags & ssl.VERIFY_X509_STRICT


@pytest.mark.parametrize("form", ["pkcs8", "traditional"])
def test_an_encrypted_key_is_refused_and_nobody_is_asked(form: str) -> None:
    key = certificates.encrypted(form)
    text = reason(Tls(Settings(certificates.server().certificate, key)))
    assert text.startswith(f"http.tls.key: {key} is encrypted with a password")
    assert "openssl pkey" in text


@pytest.mark.parametrize(
    ("option", "content", "named"),
    [
        ("certificate", None, "{certificate} cannot be used: No such file or directory"),
        ("key", None, "{key} cannot be used: No such file or directory"),
        ("certificate", "", "{certificate} and {key} cannot be used: "),
        ("key", "no key", "{certificate} and {key} cannot be used: "),
        ("key", "other", "{certificate} and {key} cannot be used: key values mismatch"),
    ],
    ids=["no certificate", "no key", "empty certificate", "text for a key", "key of another"],
)
def test_a_pair_that_cannot_be_used_is_named(tmp_path: Path, option: str, content: str | None, named: str) -> None:
    pair = certificates.server().copy(tmp_path)
    path: Path = getattr(pair, option)
    path.unlink()
    if content is not None:
        path.write_text(certificates.server("two").key.read_text() if content == "other" else content)
    text = reason(Tls(Settings(pair.certificate, pair.key)))
    assert text.startswith("http.tls: " + named.format(certificate=pair.certificate, key=pair.key))
    assert text.endswith(": both must be PEM, readable, and belong together")
    assert "_ssl.c" not in text
    assert "[" not in text


def unusable(kind: str) -> str:
    """What may be in a file where a CA should be."""
    good = certificates.authority("clients").certificate.read_text()
    damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    key = certificates.authority("clients").key.read_text()
    return {"empty": "", "text": "none", "key": key, "cut": good[:200], "half damaged": good + damaged}[kind]


@pytest.mark.parametrize("kind", ["absent", "empty", "text", "key", "cut", "half damaged"])
def test_a_file_without_authorities_is_named(tmp_path: Path, kind: str) -> None:
    """Trusting nobody by accident would lock everybody out; OpenSSL must not be what decides that."""
    path = tmp_path / "cas.pem"
    if kind != "absent":
        path.write_text(unusable(kind))
    pair = certificates.server()
    said = reason(Tls(Settings(pair.certificate, pair.key, (certificates.authority("clients").certificate, path))))
    assert re.fullmatch(
        rf"http\.tls\.clientcas: {path} cannot be used: .+: it must be readable and hold certificates of CAs in PEM",
        said,
    )
    assert "_ssl.c" not in said


def test_a_load_that_fails_changes_nothing(tmp_path: Path) -> None:
    pair, cas = certificates.server().copy(tmp_path), tmp_path / "cas.pem"
    cas.write_bytes(certificates.authority("clients").certificate.read_bytes())
    tls = loaded(pair, cas)
    before, authorities = tls.context, tls.authorities
    cas.write_text("no longer one")
    assert tls.changed()
    reason(tls)
    assert tls.context is before
    assert tls.authorities == authorities
    assert Shaken(tls.context, trusting(own=certificates.client("ann", "clients"))).refusal is None
    assert not tls.changed()


def test_a_load_makes_a_new_context_and_leaves_the_old_one_as_it_was(tmp_path: Path) -> None:
    pair = certificates.server("one").copy(tmp_path)
    tls = loaded(pair)
    first = tls.context
    certificates.server("two").copy(tmp_path)
    tls.load()
    serials = [Shaken(context, trusting()).serial for context in (first, tls.context, first)]
    assert serials[0] == serials[2] != serials[1]


def test_what_is_loaded_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "packregistry.tls")
    certificate = certificates.server().certificate
    loaded()
    loaded(None, certificates.authority("clients").certificate)
    assert [record.getMessage() for record in caplog.records] == [
        f"certificate {certificate}",
        f"certificate {certificate}, 1 files with CAs of clients",
    ]


@pytest.mark.parametrize("which", ["certificate", "key", "clientcas"])
def test_a_change_of_any_file_is_one(tmp_path: Path, which: str) -> None:
    pair, cas = certificates.server().copy(tmp_path), tmp_path / "cas.pem"
    cas.write_bytes(certificates.authority("clients").certificate.read_bytes())
    tls = Tls(Settings(pair.certificate, pair.key, (cas,)))
    assert tls.changed()
    tls.load()
    assert not tls.changed()
    os.utime({"certificate": pair.certificate, "key": pair.key, "clientcas": cas}[which], ns=(1, 1))
    assert tls.changed()


def test_certificates_of_a_volume_are_followed(tmp_path: Path) -> None:
    """Kubernetes replaces `..data`, a link to the directory that holds the files."""
    for name in ("one", "two"):
        certificates.server(name).copy(tmp_path / name)
    data = tmp_path / "..data"
    data.symlink_to("one")
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    tls = loaded(Pair(tmp_path / "tls.crt", tmp_path / "tls.key"))
    first = Shaken(tls.context, trusting()).serial
    (tmp_path / "..next").symlink_to("two")
    (tmp_path / "..next").replace(data)
    assert tls.changed()
    tls.load()
    assert Shaken(tls.context, trusting()).serial != first


def test_only_other_authorities_make_connections_stale(tmp_path: Path) -> None:
    pair, cas = certificates.server("one").copy(tmp_path), tmp_path / "cas.pem"
    cas.write_bytes(certificates.authority("clients").certificate.read_bytes())
    tls = loaded(pair, cas)
    first, digest = tls.context, tls.authorities
    certificates.server("two").copy(tmp_path)
    tls.load()
    assert tls.context is not first
    assert tls.authorities == digest
    assert not tls.is_stale(first)
    cas.write_bytes(certificates.authority("others").certificate.read_bytes())
    tls.load()
    assert tls.authorities != digest
    assert tls.is_stale(first)
    assert not tls.is_stale(tls.context)
    assert not tls.is_stale(None)


def test_which_file_an_authority_is_in_makes_a_difference(tmp_path: Path) -> None:
    """The digest is of files, so that no two sets of them have the same one."""
    one, two = (certificates.authority(name).certificate for name in ("clients", "others"))
    both = tmp_path / "both.pem"
    both.write_bytes(one.read_bytes() + two.read_bytes())
    digests = {loaded(None, *files).authorities for files in ((), (one,), (two,), (one, two), (both,))}
    assert len(digests) == 5


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda version: version.name)
def test_a_session_is_not_resumed_past_the_trust_it_began_with(tmp_path: Path, version: ssl.TLSVersion) -> None:
    cas = tmp_path / "cas.pem"
    cas.write_bytes(certificates.authority("clients").certificate.read_bytes())
    tls = loaded(None, cas)
    client = trusting(own=certificates.client("ann", "clients"))
    client.maximum_version = version
    session = Shaken(tls.context, client).client.session
    assert session is not None
    assert Shaken(tls.context, client, session).client.session_reused
    cas.write_bytes(certificates.authority("others").certificate.read_bytes())
    tls.load()
    refusal = Shaken(tls.context, client, session).refusal
    assert refusal is not None
    assert refusal.reason == "CERTIFICATE_VERIFY_FAILED"
