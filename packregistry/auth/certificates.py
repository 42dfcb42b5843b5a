"""Users by their client certificates: from a certificate that the TLS layer has verified to a principal.

Whoever signs client certificates says who is who, and a name that is not quite clear is nobody: several names where one
is needed, or one that is no user name. What cannot be seen in a name (control characters, odd blanks) and the colon are
in none, so that no certificate stands for a token (`token:NAME`), and none stands for `anonymous`.
"""

from __future__ import annotations

import functools
import logging
import ssl
import time
from collections.abc import Iterator, Mapping
from typing import Any

from packregistry.auth import ANONYMOUS, Principal
from packregistry.auth.htpasswd import USER_MAX
from packregistry.config import Certificates
from packregistry.model import shown

logger = logging.getLogger(__name__)

REPORTED_MAX = 1000
_NAMES_SHOWN = 5

# What `ssl` calls them: fields of the subject, kinds of alternative names.
_FIELDS = {"commonname": "commonName", "userid": "userId", "email": "emailAddress"}
_KINDS = {"email": "email", "dns": "DNS", "uri": "URI"}


class CertificateUsers:
    """Names users by client certificates, as `auth.certificates` says; each kind of refusal is logged once a name."""

    def __init__(self, config: Certificates) -> None:
        self._subject = config.subject
        self._field = _FIELDS.get(config.subject, "")
        self._kind = _KINDS.get(config.subject, "")
        self._has_list = bool(config.users)
        self._users = {name: user for name, user in config.users.items() if _is_user(user)}
        self._reported: set[str] = set()
        for name, user in config.users.items():
            if name not in self._users:
                logger.warning("auth.certificates.users: %s: %s is no user name: %s", shown(name), shown(user), _RULE)
        if config.subject == "uri" and not config.users:
            logger.warning("auth.certificates: a URI is no user name: list them in auth.certificates.users")

    def principal(self, certificate: Mapping[str, object] | None) -> Principal | None:
        """Return the user that a certificate stands for, if there is one.

        `certificate` is what `ssl.SSLObject.getpeercert()` gives: nothing or an empty mapping where none was shown or
        verified.
        """
        if not certificate or self._subject == "none" or _has_expired(certificate.get("notAfter")):
            return None
        names = set(self._names(certificate))
        # A certificate of several names is good for each of them: what counts is that they lead to one user.
        users = {self._users[name] for name in names if name in self._users} if self._has_list else names
        if len(users) == 1:
            (user,) = users
            if self._has_list or _is_user(user):
                return Principal(user, "certificate")
        self._report(names, users)
        return None

    def _names(self, certificate: Mapping[str, Any]) -> Iterator[str]:
        if self._field:
            for part in certificate.get("subject", ()):
                yield from (value for field, value in part if field == self._field)
        if self._kind:
            yield from (value for kind, value in certificate.get("subjectAltName", ()) if kind == self._kind)

    def _report(self, names: set[str], users: set[str]) -> None:
        if not names:
            reason = f"there is no {self._subject} in it: issue one with it, or change auth.certificates.subject"
        elif len(users) > 1:
            reason = f"more than one {self._subject} leads to a user: list just one in auth.certificates.users"
        elif self._has_list:
            reason = "it is not in auth.certificates.users: add it there if it is to be a user"
        else:
            reason = f"that is no user name: {_RULE}; auth.certificates.users can give it another"
        listed = ", ".join(shown(name) for name in sorted(names)[:_NAMES_SHOWN])
        line = f"client certificate{' of ' if listed else ''}{listed}: {reason}"
        if line not in self._reported and len(self._reported) < REPORTED_MAX:
            self._reported.add(line)
            logger.warning("%s", line)


_RULE = f"it takes 1 to {USER_MAX} bytes that can be seen, without ':', and not {ANONYMOUS.name}"


def _has_expired(end: object) -> bool:
    """Whether a certificate's time is over, which a connection may outlive that it was shown on."""
    return isinstance(end, str) and _seconds(end) < time.time()


# The same few certificates are shown with every request.
_seconds = functools.lru_cache(1024)(ssl.cert_time_to_seconds)


def _is_user(name: str) -> bool:
    return (
        name.isprintable()
        and ":" not in name
        and name == name.strip()
        and 0 < len(name.encode()) <= USER_MAX
        and name.casefold() != ANONYMOUS.name
    )
