"""The settings: one declaration for each gives its type, default, YAML key, variable, flag and help.

The classes are nested as the YAML file is, so `http.addr` in the file is `config.http.addr` here. A key that
names one of several drivers (`storage`, `auth`) is an option of its own, kept in a field of another name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from packregistry.config.values import (
    ADDRESS,
    BOOLEAN,
    COUNT,
    DURATION,
    HEADERS,
    NETWORKS,
    ORIGIN,
    PATH,
    PATHS,
    POSITIVE_DURATION,
    SIZE,
    STRING,
    STRING_LIST,
    STRINGS,
    URL_PATH,
    URL_PREFIX,
    WORKERS,
    Address,
    Kind,
    Network,
    must_be_empty,
    one_of,
)

DEFAULT_HEADERS: Final[Mapping[str, tuple[str, ...]]] = {
    "X-Content-Type-Options": ("nosniff",),
    "Strict-Transport-Security": ("max-age=63072000; includeSubdomains; preload",),
    "Content-Security-Policy": ("img-src 'self'; script-src 'self'; style-src 'self'",),
    "X-Frame-Options": ("DENY",),
    "X-XSS-Protection": ("1; mode=block",),
    "Referrer-Policy": ("same-origin",),
}

_NO_ACME = "Let's Encrypt is not supported yet: use certificate and key"
_OLD_TLS = "it is broken: use tls1.2 or tls1.3"
_UNVERIFIED = "it proves nothing: use verify-client-cert-if-given"
_CWD = "relative to the working directory of the process"


@dataclass(frozen=True, slots=True)
class Spec:
    """What a declaration says besides the type and the default.

    Attributes:
        kind: how values are read and shown.
        help: what the option means, as README tells it.
        flag: the command line flag that sets it, if there is one.
        in_file: the default when a configuration file is given, where that is another; None: the same.
        is_driver: whether the option is the key of the section it is in, and names one of its subsections.
    """

    kind: Kind
    help: str
    flag: str = ""
    in_file: Any = None
    is_driver: bool = False


@dataclass(frozen=True, slots=True)
class AccessLog:
    """One line for each request."""

    disabled: Annotated[bool, Spec(BOOLEAN, "do not log requests")] = False


@dataclass(frozen=True, slots=True)
class Audit:
    """One line of JSON for each change and each refusal."""

    disabled: Annotated[bool, Spec(BOOLEAN, "keep no audit records")] = False
    path: Annotated[
        Path | None, Spec(PATH, f"the file that audit records are appended to, {_CWD}; without one, standard output")
    ] = None


@dataclass(frozen=True, slots=True)
class Log:
    """What is logged, and how."""

    level: Annotated[
        Literal["debug", "info", "warn", "error"],
        Spec(one_of("debug", "info", "warn", "error"), "the least severity that is logged"),
    ] = "info"
    formatter: Annotated[
        Literal["text", "json"],
        Spec(one_of("text", "json", refused={"logstash": "use json"}), "how a log line is written"),
    ] = "text"
    fields: Annotated[Mapping[str, str], Spec(STRINGS, "what every log line carries, such as `service: registry`")] = (
        field(default_factory=dict)
    )
    accesslog: AccessLog = field(default_factory=AccessLog)
    audit: Audit = field(default_factory=Audit)


@dataclass(frozen=True, slots=True)
class Filesystem:
    """Blobs and records as files."""

    rootdirectory: Annotated[
        Path,
        Spec(
            PATH,
            f"the directory that blobs and records are kept in, {_CWD}",
            flag="--data",
            in_file=Path("/data/.spectro-server"),
        ),
    ] = Path(".packregistry")


@dataclass(frozen=True, slots=True)
class Delete:
    """Removal of releases."""

    enabled: Annotated[bool, Spec(BOOLEAN, "whether releases and blobs can be deleted")] = True


@dataclass(frozen=True, slots=True)
class Sweep:
    """Removal of what nothing refers to."""

    grace: Annotated[
        float,
        Spec(DURATION, "how long a replaced or removed release can be restored, and an unused blob is kept"),
    ] = 86400.0
    interval: Annotated[float, Spec(POSITIVE_DURATION, "how often unused blobs are removed")] = 3600.0


@dataclass(frozen=True, slots=True)
class Uploads:
    """Uploads that take several requests."""

    expire: Annotated[
        float, Spec(POSITIVE_DURATION, "how long an unfinished upload, or an uploaded blob without a manifest, is kept")
    ] = 604800.0


@dataclass(frozen=True, slots=True)
class Storage:
    """Where blobs and records are kept."""

    driver: Annotated[
        Literal["filesystem", "inmemory"],
        Spec(
            one_of("filesystem", "inmemory"), "where blobs and records are kept; inmemory forgets them", is_driver=True
        ),
    ] = "filesystem"
    filesystem: Filesystem = field(default_factory=Filesystem)
    delete: Delete = field(default_factory=Delete)
    sweep: Sweep = field(default_factory=Sweep)
    uploads: Uploads = field(default_factory=Uploads)


@dataclass(frozen=True, slots=True)
class LetsEncrypt:
    """Accepted as the vendor's sample has it: empty."""

    cachefile: Annotated[str, Spec(must_be_empty(_NO_ACME), "must be empty: Let's Encrypt is not supported yet")] = ""
    email: Annotated[str, Spec(must_be_empty(_NO_ACME), "must be empty: Let's Encrypt is not supported yet")] = ""
    hosts: Annotated[
        tuple[str, ...], Spec(must_be_empty(_NO_ACME, "list"), "must be empty: Let's Encrypt is not supported yet")
    ] = ()


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS is on when `certificate` and `key` are given; neither is given without the other."""

    certificate: Annotated[Path | None, Spec(PATH, f"the server's certificate chain in PEM, {_CWD}")] = None
    key: Annotated[Path | None, Spec(PATH, f"the certificate's private key in PEM, {_CWD}")] = None
    clientcas: Annotated[
        tuple[Path, ...], Spec(PATHS, f"CA certificates in PEM, one of which a client's must be signed by, {_CWD}")
    ] = ()
    clientauth: Annotated[
        Literal["require-and-verify-client-cert", "verify-client-cert-if-given"],
        Spec(
            one_of(
                "require-and-verify-client-cert",
                "verify-client-cert-if-given",
                refused={"request-client-cert": _UNVERIFIED, "require-any-client-cert": _UNVERIFIED},
            ),
            "with clientcas, whether a client may come without a certificate",
        ),
    ] = "require-and-verify-client-cert"
    minimumtls: Annotated[
        Literal["tls1.2", "tls1.3"],
        Spec(one_of("tls1.2", "tls1.3", refused={"tls1.0": _OLD_TLS, "tls1.1": _OLD_TLS}), "the oldest version spoken"),
    ] = "tls1.2"
    letsencrypt: LetsEncrypt = field(default_factory=LetsEncrypt)


@dataclass(frozen=True, slots=True)
class Prometheus:
    """Metrics for Prometheus, on the debug address."""

    enabled: Annotated[bool, Spec(BOOLEAN, "serve metrics on http.debug.addr")] = False
    path: Annotated[str, Spec(URL_PATH, "the path that metrics are served at")] = "/metrics"


@dataclass(frozen=True, slots=True)
class Debug:
    """A listener for whoever runs the server: without TLS and without authentication."""

    addr: Annotated[
        Address | None, Spec(ADDRESS, "where to listen for whoever runs the server, such as 127.0.0.1:5001")
    ] = None
    prometheus: Prometheus = field(default_factory=Prometheus)


@dataclass(frozen=True, slots=True)
class Http:
    """The server."""

    addr: Annotated[
        Address,
        Spec(
            ADDRESS,
            "where to listen: host:port; `:5000` is port 5000 of every interface, port 0 any free one",
            flag="--addr",
            in_file=Address("", 5000),
        ),
    ] = field(default=Address("127.0.0.1", 5000))
    host: Annotated[
        str,
        Spec(
            ORIGIN,
            "the registry's address as clients see it, such as https://registry.example: what `Location` and `Link` "
            "begin with, which are paths without it",
        ),
    ] = ""
    prefix: Annotated[
        str,
        Spec(
            URL_PREFIX,
            "the path below which clients see the registry, such as /packs/: it may stand before every path in a "
            "request, and does in every URL in an answer",
        ),
    ] = ""
    trustedproxies: Annotated[
        tuple[Network, ...],
        Spec(
            NETWORKS,
            "addresses or networks of proxies whose X-Forwarded-For, -Proto and -Prefix are believed, as 10.0.0.0/8",
        ),
    ] = ()
    headers: Annotated[
        Mapping[str, tuple[str, ...]],
        Spec(
            HEADERS,
            "what every response carries: each header given replaces the default of its name, `[]` removes it; in a "
            "variable's name `_` stands for `-`, as in `REGISTRY_HTTP_HEADERS_X_FRAME_OPTIONS`",
        ),
    ] = field(default_factory=lambda: dict(DEFAULT_HEADERS))
    workers: Annotated[
        int,
        Spec(
            WORKERS,
            "how many processes answer requests, 1 to 64; `auto`: one for each CPU there is. Where nothing says it, "
            "`PACKREGISTRY_WORKERS` does, which is `auto` in the image",
            flag="--workers",
        ),
    ] = 1
    maxconnections: Annotated[
        int, Spec(COUNT, "how many connections a process has at most; those that are idle make room, others wait")
    ] = 4096
    headertimeout: Annotated[
        float, Spec(POSITIVE_DURATION, "how long a TLS handshake, and each request's headers, may take to arrive")
    ] = 15.0
    keepalivetimeout: Annotated[
        float, Spec(POSITIVE_DURATION, "how long a connection is kept that nothing is asked on")
    ] = 75.0
    stalltimeout: Annotated[
        float,
        Spec(POSITIVE_DURATION, "how long a body may stand still, in or out; as long as it moves it may take any time"),
    ] = 60.0
    draintimeout: Annotated[
        float, Spec(DURATION, "how long requests under way may take to end when the server is stopped")
    ] = 30.0
    tls: Tls = field(default_factory=Tls)
    debug: Debug = field(default_factory=Debug)


@dataclass(frozen=True, slots=True)
class Htpasswd:
    """Users in a file; `path` is given whenever the mode is htpasswd."""

    realm: Annotated[str, Spec(STRING, "the realm that clients are asked for credentials of")] = "basic-realm"
    path: Annotated[
        Path | None, Spec(PATH, f"the htpasswd file, bcrypt entries only; required with htpasswd, {_CWD}")
    ] = None


@dataclass(frozen=True, slots=True)
class Certificates:
    """Users who show a client certificate that one of `http.tls.clientcas` signed."""

    subject: Annotated[
        Literal["none", "commonname", "email", "dns", "uri", "userid"],
        Spec(
            one_of("none", "commonname", "email", "dns", "uri", "userid"),
            "what of a client certificate names the user; with none, a certificate alone signs nobody in",
        ),
    ] = "none"
    users: Annotated[
        Mapping[str, str],
        Spec(STRINGS, "name in the certificate → user; empty: every name is a user, else only those given are"),
    ] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Auth:
    """Who is asked for credentials. `none` is open because somebody said so, `unset` because nobody said anything."""

    mode: Annotated[
        Literal["unset", "none", "htpasswd"],
        Spec(one_of("none", "htpasswd"), "how clients authenticate; none lets everybody in", is_driver=True),
    ] = "unset"
    htpasswd: Htpasswd = field(default_factory=Htpasswd)
    admins: Annotated[
        tuple[str, ...],
        Spec(STRING_LIST, "users who may do everything; all others only read. No effect with auth.policy"),
    ] = ("admin",)
    anonymous: Annotated[
        Literal["none", "read"],
        Spec(one_of("none", "read"), "what is allowed without credentials. No effect with auth.policy"),
    ] = "none"
    policy: Annotated[
        Path | None, Spec(PATH, f"a policy file: who may do what to which packs, and nobody anything else, {_CWD}")
    ] = None
    tokens: Annotated[
        Path | None,
        Spec(PATH, f"the file of tokens, {_CWD}; without one, tokens.json in the directory of blobs and records"),
    ] = None
    certificates: Certificates = field(default_factory=Certificates)


@dataclass(frozen=True, slots=True)
class Packs:
    """Watched directories of packs."""

    directories: Annotated[
        tuple[Path, ...],
        Spec(PATHS, f"directories whose packs are published, {_CWD}", flag="--packs", in_file=()),
    ] = (Path("packs"),)
    rescan: Annotated[float, Spec(POSITIVE_DURATION, "how often directories are looked through")] = 30.0
    settle: Annotated[float, Spec(DURATION, "how long a directory must have been still before it is published")] = 2.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What a pack may be at most. Sizes are bytes."""

    archive: Annotated[int, Spec(SIZE, "the size of an archive, compressed")] = 512 * 1024**2
    expanded: Annotated[int, Spec(SIZE, "the size of all files of an archive, expanded")] = 1024**3
    ratio: Annotated[int, Spec(COUNT, "how many times larger an archive may be expanded")] = 200
    members: Annotated[int, Spec(COUNT, "how many members an archive may have")] = 20_000
    path: Annotated[int, Spec(SIZE, "the length of a member's path, in bytes")] = 512
    metadata: Annotated[
        int, Spec(SIZE, "the size of each file read by the server: pack.json, values.yaml, logo.png, README.md, …")
    ] = 4 * 1024**2


@dataclass(frozen=True, slots=True)
class Config:
    """All the server can be told. Durations are seconds, sizes bytes, paths as they were given."""

    version: Annotated[Literal["0.1"], Spec(one_of("0.1"), "the version of the configuration's format")] = "0.1"
    log: Log = field(default_factory=Log)
    storage: Storage = field(default_factory=Storage)
    http: Http = field(default_factory=Http)
    auth: Auth = field(default_factory=Auth)
    packs: Packs = field(default_factory=Packs)
    limits: Limits = field(default_factory=Limits)
