"""The options: one declaration for each gives its type, default, YAML key, variable, flag and help.

The classes are nested as the YAML file is, so `http.addr` in the file is `config.http.addr` here. A key that
names one of several drivers (`storage`, `auth`) is an option of its own, kept in a field of another name.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal, cast, get_args

from packregistry.config.values import (
    ADDRESS,
    BOOLEAN,
    COUNT,
    DURATION,
    HEADERS,
    PATH,
    PATHS,
    POSITIVE_DURATION,
    SIZE,
    STRING,
    STRING_LIST,
    STRINGS,
    Address,
    Kind,
    must_be_empty,
    one_of,
)

PREFIX: Final = "REGISTRY_"

DEFAULT_HEADERS: Final[Mapping[str, tuple[str, ...]]] = {
    "X-Content-Type-Options": ("nosniff",),
    "Strict-Transport-Security": ("max-age=63072000; includeSubdomains; preload",),
    "Content-Security-Policy": ("img-src 'self'; script-src 'self'; style-src 'self'",),
    "X-Frame-Options": ("DENY",),
    "X-XSS-Protection": ("1; mode=block",),
    "Referrer-Policy": ("same-origin",),
}

# What existing files have in them and what needs nothing done, by key: the reason is for the warning.
IGNORED: Final[Mapping[str, str]] = {
    "storage.cache": "pack records are always kept in memory",
    "storage.maintenance": "unused blobs and stale uploads are removed while the server runs",
    "storage.redirect": "blobs are always served by the registry itself",
    "http.secret": "uploads are not signed",
    "http.relativeurls": "every URL in an answer is relative",
    "http.net": "the form of http.addr says what to listen on",
    "http.debug": "there is no debug server",
    "http.http2": "the server speaks HTTP/1.1",
}

# What existing files may ask for and what cannot be done, by key.
UNSUPPORTED: Final[Mapping[str, str]] = {
    "storage.s3": "S3 storage is not supported yet: use filesystem",
    "auth.silly": "silly authentication is not supported: use htpasswd or none",
    "auth.token": "token authentication is not supported: use htpasswd or none",
}

_NO_ACME = "Let's Encrypt is not supported yet: use certificate and key"
_OLD_TLS = "it is broken: use tls1.2 or tls1.3"
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
class Log:
    """What is logged, and how."""

    level: Annotated[
        Literal["debug", "info", "warn", "error"],
        Spec(one_of("debug", "info", "warn", "error"), "the least severity that is logged"),
    ] = "info"
    formatter: Annotated[Literal["text", "json"], Spec(one_of("text", "json"), "how a log line is written")] = "text"
    fields: Annotated[Mapping[str, str], Spec(STRINGS, "what every log line carries, such as `service: registry`")] = (
        field(default_factory=dict)
    )
    accesslog: AccessLog = field(default_factory=AccessLog)


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
    minimumtls: Annotated[
        Literal["tls1.2", "tls1.3"],
        Spec(one_of("tls1.2", "tls1.3", refused={"tls1.0": _OLD_TLS, "tls1.1": _OLD_TLS}), "the oldest version spoken"),
    ] = "tls1.2"
    letsencrypt: LetsEncrypt = field(default_factory=LetsEncrypt)


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
    headers: Annotated[
        Mapping[str, tuple[str, ...]],
        Spec(
            HEADERS,
            "what every response carries: each header given replaces the default of its name, `[]` removes it; in a "
            "variable's name `_` stands for `-`, as in `REGISTRY_HTTP_HEADERS_X_FRAME_OPTIONS`",
        ),
    ] = field(default_factory=lambda: dict(DEFAULT_HEADERS))
    draintimeout: Annotated[
        float, Spec(DURATION, "how long requests under way may take to end when the server is stopped")
    ] = 30.0
    tls: Tls = field(default_factory=Tls)


@dataclass(frozen=True, slots=True)
class Htpasswd:
    """Users in a file; `path` is given whenever the mode is htpasswd."""

    realm: Annotated[str, Spec(STRING, "the realm that clients are asked for credentials of")] = "basic-realm"
    path: Annotated[
        Path | None, Spec(PATH, f"the htpasswd file, bcrypt entries only; required with htpasswd, {_CWD}")
    ] = None


@dataclass(frozen=True, slots=True)
class Auth:
    """Who is asked for credentials. `none` is open because somebody said so, `unset` because nobody said anything."""

    mode: Annotated[
        Literal["unset", "none", "htpasswd"],
        Spec(one_of("none", "htpasswd"), "how clients authenticate; none lets everybody in", is_driver=True),
    ] = "unset"
    htpasswd: Htpasswd = field(default_factory=Htpasswd)
    admins: Annotated[tuple[str, ...], Spec(STRING_LIST, "users who may push and change; all others only read")] = (
        "admin",
    )


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


@dataclass(frozen=True, slots=True)
class Option:
    """One option as it is found in files, variables and flags.

    Attributes:
        path: the key in the YAML file, dotted.
        attribute: the field of `Config`, dotted; the same, but for drivers.
        spec: what was declared.
        default: the value when there is no configuration file.
        file_default: the value when there is a configuration file that does not have the key.
    """

    path: str
    attribute: str
    spec: Spec
    default: Any
    file_default: Any

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return variable_of(self.path)


def variable_of(path: str) -> str:
    """The environment variable of a dotted key."""
    return PREFIX + path.upper().replace(".", "_")


@functools.cache
def options() -> tuple[Option, ...]:
    """Every option, in the order of declaration."""
    return tuple(_options(Config, ""))


def _options(section: type[Any], prefix: str) -> Iterator[Option]:
    for item in dataclasses.fields(section):
        attribute = prefix + item.name
        if dataclasses.is_dataclass(item.type):
            yield from _options(cast("type[Any]", item.type), attribute + ".")
            continue
        spec: Spec = get_args(item.type)[1]
        path = prefix.removesuffix(".") if spec.is_driver else attribute
        default = item.default if item.default_factory is dataclasses.MISSING else item.default_factory()
        yield Option(path, attribute, spec, default, default if spec.in_file is None else spec.in_file)


def build(values: Mapping[str, Any]) -> Config:
    """The configuration that has `values`, which are by attribute and complete."""
    return cast("Config", _build(Config, "", values))


def _build(section: type[Any], prefix: str, values: Mapping[str, Any]) -> Any:
    parts = {}
    for item in dataclasses.fields(section):
        name = prefix + item.name
        nested = dataclasses.is_dataclass(item.type)
        parts[item.name] = _build(cast("type[Any]", item.type), name + ".", values) if nested else values[name]
    return section(**parts)


def markdown_table() -> str:
    """README's table of options, one row for each, with a line break at the end of every row."""
    rows = ["| Key | Variable | Flag | Default | Meaning |", "| --- | --- | --- | --- | --- |"]
    for option in options():
        kind = option.spec.kind
        is_written = not kind.values or option.default in kind.values
        default = _code(kind.render(option.default)) if is_written else "not set"
        if option.file_default != option.default:
            default += f"; with a configuration file {_code(kind.render(option.file_default))}"
        meaning = option.spec.help + (f" (one of {', '.join(map(_code, kind.values))})" if kind.values else "")
        cells = (_code(option.path), _code(option.variable), _code(option.spec.flag), default, meaning)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def _code(text: str) -> str:
    return f"`{text}`" if text else ""
