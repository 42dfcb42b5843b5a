"""What connections are encrypted with, as it is in the files now.

Each load makes a context of its own, and leaves earlier ones as they are: connections that were accepted with those go
on. A client certificate is verified when its connection begins, so connections outlive the trust in whoever signed it;
`Tls.is_stale` tells those apart. Resumed sessions do not: the keys that their tickets are sealed with belong to a
context, and what a former one has issued means nothing to the next, which verifies the client anew.
"""

from __future__ import annotations

import hashlib
import logging
import re
import ssl
from typing import NoReturn

from packregistry.config import Tls as Settings
from packregistry.reload import ReloadError, fingerprint

_log = logging.getLogger(__name__)
# What OpenSSL's messages have around the reason.
_PLACE = re.compile(r"^\[[^]]*\] | \(_ssl\.c:\d+\)$")


class TlsError(ReloadError):
    """Certificates or a key that cannot be used."""


class Context(ssl.SSLContext):
    """A server's context; `authorities` is a digest of the CA files that it trusts clients by."""

    authorities: bytes


class Tls:
    """The server's certificates, a `Reloadable`. `load` has to succeed once before anything else is asked for."""

    what = "certificates"

    def __init__(self, settings: Settings) -> None:
        assert settings.certificate is not None
        assert settings.key is not None
        self._settings = settings
        self._certificate, self._key = settings.certificate, settings.key
        self._files = (self._certificate, self._key, *settings.clientcas)
        self._seen: tuple[int, ...] = ()
        self._context: Context | None = None

    @property
    def context(self) -> Context:
        """What the next connection is accepted with."""
        assert self._context is not None
        return self._context

    @property
    def authorities(self) -> bytes:
        """A digest of the CA files: another one when others are trusted to sign for clients."""
        return self.context.authorities

    def is_stale(self, context: ssl.SSLContext | None) -> bool:
        """Whether a connection with `context` was accepted by authorities other than those trusted now."""
        return isinstance(context, Context) and context.authorities != self.authorities

    def changed(self) -> bool:
        """Whether one of the files is another than the one last loaded; costs a `stat` each."""
        return self.state() != self._seen

    def state(self) -> tuple[int, ...]:
        """What they look like from outside."""
        return fingerprint(*self._files)

    def load(self) -> None:
        """Read the files into a new context. Raises `TlsError`, which names the option, the file and what to do."""
        self._seen = fingerprint(*self._files)
        # Not `create_default_context`: from Python 3.13 on it demands extensions that CAs made by plain openssl, as the
        # vendor's guide makes them, lack.
        context = Context(ssl.PROTOCOL_TLS_SERVER)
        is_new = self._settings.minimumtls == "tls1.3"
        context.minimum_version = ssl.TLSVersion.TLSv1_3 if is_new else ssl.TLSVersion.TLSv1_2
        self._load_pair(context)
        self._load_authorities(context)
        self._context = context
        count = len(self._settings.clientcas)
        _log.info("certificate %s%s", self._certificate, f", {count} files with CAs of clients" if count else "")

    def _load_pair(self, context: Context) -> None:
        def refuse() -> NoReturn:
            # Without this, OpenSSL asks on the terminal and waits.
            raise TlsError(
                f"http.tls.key: {self._key} is encrypted with a password, which nobody is there to give: decrypt it, "
                "as with `openssl pkey -in ENCRYPTED -out KEY`, and let only the server read it"
            )

        try:
            for path in (self._certificate, self._key):
                path.open("rb").close()
            context.load_cert_chain(self._certificate, self._key, password=refuse)
        except OSError as error:
            # OpenSSL does not say which file it is.
            files = error.filename or f"{self._certificate} and {self._key}"
            raise TlsError(
                f"http.tls: {files} cannot be used: {reason(error)}: both must be PEM, readable, and belong together"
            ) from error

    def _load_authorities(self, context: Context) -> None:
        digests = hashlib.sha256()
        for path in self._settings.clientcas:
            try:
                data = path.read_bytes()
                # Comments may be in any encoding.
                context.load_verify_locations(cadata=data.decode("ascii", "ignore"))
            except (OSError, ValueError) as error:
                raise TlsError(
                    f"http.tls.clientcas: {path} cannot be used: {reason(error)}: it must be readable and hold "
                    "certificates of CAs in PEM"
                ) from error
            digests.update(hashlib.sha256(data).digest())
        context.authorities = digests.digest()
        if self._settings.clientcas:
            needed = self._settings.clientauth == "require-and-verify-client-cert"
            context.verify_mode = ssl.CERT_REQUIRED if needed else ssl.CERT_OPTIONAL
            # A CA that another one signed is enough, as for the vendor's server, and with every version of Python.
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN


def reason(error: Exception) -> str:
    """What OpenSSL or the system has against a file or a connection, without the place in Python's sources."""
    text = error.strerror if isinstance(error, OSError) else None
    return _PLACE.sub("", text or str(error))
