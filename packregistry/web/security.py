"""What decides who gets in, assembled from the configuration, and shared by every request."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from packregistry.audit import Audit
from packregistry.auth import Authenticator, OpenAuthenticator
from packregistry.auth.certificates import CertificateUsers
from packregistry.auth.credentials import CredentialAuthenticator
from packregistry.auth.htpasswd import HtpasswdFile
from packregistry.auth.policy import OpenPolicy, Policy, PolicyFile, PresetPolicy
from packregistry.auth.rights import ALL, READING
from packregistry.auth.tokens import TOKEN_USE, TOKENS, TokenFile
from packregistry.config import Config
from packregistry.metrics import Metrics
from packregistry.reload import Reloadable
from packregistry.tls import Tls


@dataclass(frozen=True, slots=True)
class Security:
    """Who asks, what they may do, and where it is noted.

    `certificates` names users by their client certificates, `tokens` are those there are; without them there are none.
    Without `audit` no record is kept. `tls` knows which connections rest on trust that is gone; `sources` are the other
    files that all of it was read from.
    """

    authenticator: Authenticator
    policy: Policy
    metrics: Metrics
    audit: Audit | None = None
    certificates: CertificateUsers | None = None
    tokens: TokenFile | None = None
    tls: Tls | None = None
    sources: tuple[Reloadable, ...] = ()


async def secured(
    config: Config,
    local: Path,
    metrics: Metrics,
    audit: Audit | None,
    tls: Tls | None = None,
) -> Security:
    """The security that is configured, with every file read; `local` is the directory that tokens are kept in.

    Raises `ReloadError` where one cannot be used.
    """
    auth = config.auth
    if auth.mode != "htpasswd" or auth.htpasswd.path is None:
        policy = OpenPolicy(ALL if auth.mode == "none" or config.http.addr.is_loopback else READING)
        return Security(OpenAuthenticator(), policy, metrics, audit, tls=tls)
    users = HtpasswdFile(auth.htpasswd.path)
    tokens = TokenFile(auth.tokens or local / TOKENS, local / TOKEN_USE)
    rules = PolicyFile(auth.policy) if auth.policy else None
    sources: tuple[Reloadable, ...] = (users, tokens, rules) if rules else (users, tokens)
    for source in sources:
        await asyncio.to_thread(source.load)
    return Security(
        CredentialAuthenticator(users, auth.htpasswd.realm, tokens=tokens, observe=metrics.authentication),
        rules or PresetPolicy(auth.admins, auth.anonymous),
        metrics,
        audit,
        CertificateUsers(auth.certificates) if auth.certificates.subject != "none" else None,
        tokens,
        tls,
        sources,
    )
