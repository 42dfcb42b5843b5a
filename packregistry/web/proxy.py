"""How clients see the registry: which address they ask from, whether that is encrypted, and what its URLs begin with.

Where a reverse proxy stands between, it says so in headers, and so can anybody else: they are believed from
`http.trustedproxies` alone. `X-Forwarded-Host` is believed from nobody. Without `http.host` a `Location` is a path,
which is right behind any proxy; with a host from a header, whoever gets that header past a proxy would decide where
others are sent, as soon as a cache keeps the answer.
"""

from __future__ import annotations

import functools
import ipaddress
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from packregistry.config import Http, Network
from packregistry.config.problems import BadValueError
from packregistry.config.values import URL_PREFIX

NOWHERE: Final = "-"
HOPS_MAX = 32
PEERS_MAX = 4096
PREFIX_MAX = 256

# Zone identifiers are up to the system, so no address with one is longer than this for a good reason.
_ENTRY_MAX = 128
_IPV4_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/]*", re.ASCII | re.IGNORECASE)
_WITH_PORT = re.compile(r"(?:\[([^\[\]]*:[^\[\]]*)\]|([0-9.]+))(?::[0-9]{1,5})?", re.ASCII)

_IPAddress: TypeAlias = "ipaddress.IPv4Address | ipaddress.IPv6Address"


class Headers(Protocol):
    """The headers of a request; names are found in any case."""

    def getall(self, key: str, default: tuple[()], /) -> Sequence[str]:
        """Return the values of all headers called `key`, in order."""


class Asked(Protocol):
    """What is looked at of a request: the peer of its connection, whether that is TLS, and the headers."""

    @property
    def remote(self) -> str | None:
        """The address at the other end of the connection."""

    @property
    def secure(self) -> bool:
        """Whether the connection is TLS."""

    @property
    def headers(self) -> Headers:
        """What was sent along."""


@dataclass(frozen=True, slots=True)
class Seen:
    """How one client sees the registry.

    Attributes:
        address: the client's IP address as `ipaddress` writes it, without port and zone; `-` where it has none.
        secure: whether the client's own connection is encrypted.
        base: what stands before a path in a URL: nothing, `/packs`, or `https://registry.example/packs`. It never has
            a character that ends a header or a quoted text.
    """

    address: str
    secure: bool
    base: str


@dataclass(frozen=True, slots=True)
class _Peer:
    """The other end of a connection: whether it is a trusted proxy, and what it sees where it is none."""

    is_trusted: bool
    plain: Seen
    encrypted: Seen


class Vantage:
    """Tells of each request how its sender sees the registry. Nothing here raises, whatever is sent."""

    def __init__(self, http: Http) -> None:
        self._trusted = tuple(map(_unmapped, http.trustedproxies))
        self._host = http.host
        self._base = http.host + http.prefix
        self._prefix = _pattern(http.prefix) if http.prefix else None
        self._peer = functools.lru_cache(PEERS_MAX)(self._look_at)

    def of(self, request: Asked) -> Seen:
        """Return what the sender of a request sees; the same object again and again where no proxy is trusted."""
        remote = request.remote
        peer = self._peer(remote)
        if not peer.is_trusted:
            return peer.encrypted if request.secure else peer.plain
        headers = request.headers
        secure = self.is_secure(remote, headers, request.secure)
        return Seen(self.client_of(remote, headers), secure, self.url("", remote, headers))

    def path_of(self, raw_path: str) -> str:
        """Return the path inside the registry, still encoded, for the path of a request (or its absolute form).

        `http.prefix` is taken away where it is there, in whole segments, however encoded and with however many slashes.
        Where it is not, a proxy has taken it away already, or a probe asks the registry directly.
        """
        if origin := _ORIGIN.match(raw_path):
            raw_path = raw_path[origin.end() :] or "/"
        if self._prefix is None or not (found := self._prefix.match(raw_path)):
            return raw_path
        return raw_path[found.end() :] or "/"

    def client_of(self, remote: str | None, headers: Headers) -> str:
        """Return the address of the client, as `Seen` has it.

        That is `remote`, the peer of the connection, as long as it is no trusted proxy. What one of those appended to
        `X-Forwarded-For` is its own peer: so the addresses are followed from the right, up to the first one that is no
        trusted proxy, or to the last before one that cannot be read.
        """
        peer = self._peer(remote)
        if not peer.is_trusted:
            return peer.plain.address
        for hop in itertools.islice(_from_the_right(headers.getall("X-Forwarded-For", ())), HOPS_MAX):
            address = _forwarded(hop)
            if address is None:
                break
            peer = self._peer(str(address))
            if not peer.is_trusted:
                break
        return peer.plain.address

    def is_secure(self, remote: str | None, headers: Headers, tls: bool) -> bool:
        """Whether the client's connection is encrypted: this one is (`tls`), or a trusted proxy says its own is."""
        return tls or (self._peer(remote).is_trusted and _last(headers, "X-Forwarded-Proto").lower() == "https")

    def url(self, path: str, remote: str | None = None, headers: Headers | None = None) -> str:
        """Return what a client asks for to get `path`: a path without `http.host`, else a whole URL.

        Without `http.prefix`, `X-Forwarded-Prefix` counts from a trusted proxy, as far as it could be in the
        configuration.
        """
        if headers is None or self._prefix is not None or not self._peer(remote).is_trusted:
            return self._base + path
        return self._host + _prefix(_last(headers, "X-Forwarded-Prefix")) + path

    def _look_at(self, remote: str | None) -> _Peer:
        found = _parsed(remote or "")
        address = NOWHERE if found is None else str(found)
        is_trusted = found is not None and any(found in network for network in self._trusted)
        return _Peer(is_trusted, Seen(address, False, self._base), Seen(address, True, self._base))


def _pattern(prefix: str) -> re.Pattern[str]:
    """What matches `prefix` at the beginning of a path: `/+`, then characters as they are or percent-encoded."""
    segments = (
        "".join(f"(?:{re.escape(letter)}|%(?i:{ord(letter):02x}))" for letter in segment)
        for segment in prefix.split("/")
    )
    return re.compile("/+".join(segments) + r"(?=/|\Z)", re.ASCII)


def _from_the_right(values: Sequence[str]) -> Iterator[str]:
    """The entries of a header that is a list, last first; of a line only as many as anybody looks at."""
    for value in reversed(values):
        yield from reversed(value.rsplit(",", HOPS_MAX))


def _last(headers: Headers, name: str) -> str:
    """The last value of a header, which is the nearest proxy's; empty without one."""
    return next(_from_the_right(headers.getall(name, ())), "").strip(" \t")


def _prefix(text: str) -> str:
    """A prefix from a header, without a slash at its end; nothing where it could not be `http.prefix`."""
    if len(text) > PREFIX_MAX:
        return ""
    try:
        prefix: str = URL_PREFIX.parse(text)
    except BadValueError:
        return ""
    return prefix


def _forwarded(entry: str) -> _IPAddress | None:
    """The address in an entry of `X-Forwarded-For`: alone, in brackets, or with a port."""
    text = entry.strip(" \t")
    found = _WITH_PORT.fullmatch(text) if len(text) <= _ENTRY_MAX else None
    return _parsed((found[1] or found[2]) if found else text)


def _parsed(text: str) -> _IPAddress | None:
    """An address without its zone, as IPv4 where a dual-stack socket shows it as IPv6; None for anything else."""
    if len(text) > _ENTRY_MAX:
        return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return address
    return address.ipv4_mapped or ipaddress.IPv6Address(int(address))


def _unmapped(network: Network) -> Network:
    """A network as the addresses in it are compared: as `_parsed` has them."""
    if isinstance(network, ipaddress.IPv4Network) or not network.subnet_of(_IPV4_MAPPED):
        return network
    mapped = network.network_address.ipv4_mapped
    assert mapped is not None
    return ipaddress.IPv4Network((mapped, network.prefixlen - _IPV4_MAPPED.prefixlen))
