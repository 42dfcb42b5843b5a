"""The kinds of values options have: how each is read from text and shown again.

Everything is read from the text as it was written, never from what YAML makes of it: `realm: 0123` is the realm
`0123`, and `12:30` is not a number of minutes.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias
from urllib.parse import urlsplit

from packregistry.config.problems import BadValueError, quoted, suggestion

Shape = Literal["scalar", "list", "map", "lists"]
"""One text; several; texts by name; or several texts by name, where one text stands for a list of one."""

Network: TypeAlias = "ipaddress.IPv4Network | ipaddress.IPv6Network"
"""Addresses that have their first bits in common."""

# What a response says of itself, or of the connection, and the server alone knows.
_FRAMING = {
    "connection",
    "content-length",
    "content-type",
    "date",
    "etag",
    "keep-alive",
    "trailer",
    "transfer-encoding",
    "upgrade",
}
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZES = {"": 1, "b": 1}
_SIZES |= {unit: 1024**power for power, letter in enumerate("kmgt", 1) for unit in (letter, letter + "ib")}
_SIZES |= {letter + "b": 1000**power for power, letter in enumerate("kmgt", 1)}
_DURATION_MAX = 365 * 24 * 3600.0
_WORKERS_MAX = 64

_NUMBER = r"[0-9]{1,15}(?:\.[0-9]{1,9})?"
_SECONDS = re.compile(_NUMBER, re.ASCII)
_DURATION = re.compile(rf"(?:{_NUMBER}(?:ms|s|m|h))+", re.ASCII)
_DURATION_PART = re.compile(rf"({_NUMBER})(ms|s|m|h)", re.ASCII)
_SIZE = re.compile(rf"({_NUMBER}) ?([a-z]*)", re.ASCII | re.IGNORECASE)
_COUNT = re.compile(r"[0-9]{1,9}", re.ASCII)
_ADDRESS = re.compile(r"(\[[0-9A-Za-z:.%_-]*\]|[^\[\]:/]*):([0-9]{1,5})", re.ASCII)
_HOST = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?", re.ASCII | re.IGNORECASE)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_URL_PATH = re.compile(r"(?:/[A-Za-z0-9._~-]+)+", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ANY_TEXT = {"type": ["string", "number", "boolean"], "pattern": r"^[^\u0000-\u001f\u007f]*$"}
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_NOT_A_BYTE = re.compile(r"[\ud800-\udc7f\udd00-\udfff]")


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen. An empty `host` means every interface, port 0 a port of the system's choice."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the address that `HOST:PORT` is, or raise `BadValueError`."""
        found = _ADDRESS.fullmatch(text)
        if not found:
            raise BadValueError(f"{quoted(text)} is not HOST:PORT", _address_remedy(text))
        host, port = found[1], int(found[2])
        if port > 0xFFFF:
            raise BadValueError(f"port {port} is out of range", "use 0 to 65535")
        if host.startswith("["):
            host = host[1:-1]
            _check_ip(host, 6)
        elif host and not host.strip("0123456789."):
            _check_ip(host, 4)
        elif host and not _HOST.fullmatch(host):
            raise BadValueError(f"{quoted(host)} is not a host name or IP address")
        return cls(host, port)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect: `localhost`, 127.0.0.0/8 or ::1."""
        if self.host.lower() == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _check_ip(text: str, version: Literal[4, 6]) -> None:
    try:
        ipaddress.IPv4Address(text) if version == 4 else ipaddress.IPv6Address(text)
    except ValueError:
        raise BadValueError(f"{quoted(text)} is not an IPv{version} address") from None


def _address_remedy(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if "/" in text:
        return "write the host and the port alone, without http:// and without a path"
    if text.isdecimal():
        return f'write ":{text}" to listen on every interface'
    if ":" in host and port.isdecimal():
        return f"write an IPv6 address in brackets: [{host}]:{port}"
    if not colon:
        return f"add the port: {text}:5000"
    return "write host:port, or :port for every interface"


@dataclass(frozen=True, slots=True)
class Kind:
    """How values of one kind are read and shown.

    Attributes:
        name: what a value must be, as in "must be a path".
        parse: makes a value (of each part, where `shape` has parts) of a text, or raises `BadValueError`.
        show: the text that `parse` would read as that value.
        shape: how many texts there are.
        check_name: raises `BadValueError` on a name that may not be in the map.
        values: all there are, where they can be listed.
        json: the JSON Schema of one text, as editors read YAML: without quotes it may be a number or a boolean.
    """

    name: str
    parse: Callable[[str], Any]
    show: Callable[[Any], str] = str
    shape: Shape = "scalar"
    check_name: Callable[[str], object] | None = None
    values: tuple[str, ...] = ()
    json: Mapping[str, Any] = field(default_factory=lambda: dict(_ANY_TEXT))

    def render(self, value: Any) -> str:
        """`value` as it would be written in a YAML file; empty for no value."""
        if value is None:
            return ""
        if self.shape == "list":
            return "[" + ", ".join(map(self.show, value)) + "]"
        if self.shape == "map":
            return "{" + ", ".join(f"{name}: {self.show(text)}" for name, text in value.items()) + "}"
        if self.shape == "lists":
            lists = (f"{name}: [{', '.join(map(self.show, texts))}]" for name, texts in value.items())
            return "{" + ", ".join(lists) + "}"
        return self.show(value)

    def plain(self, value: Any) -> Any:
        """`value` as JSON has it: numbers and booleans as they are, durations and sizes as texts with their units."""
        if self.shape == "list":
            return [self.show(part) for part in value]
        if self.shape == "map":
            return {name: self.show(text) for name, text in value.items()}
        if self.shape == "lists":
            return {name: [self.show(text) for text in texts] for name, texts in value.items()}
        if value is None or isinstance(value, bool):
            return value
        text = self.show(value)
        return int(text) if isinstance(value, int) and text.isdecimal() else text


def _string(text: str) -> str:
    if _CONTROL.search(text) or _SURROGATE.search(text):
        raise BadValueError(f"{quoted(text)} has a line break or another control character in it")
    return text


def _path(text: str) -> Path:
    if not text or _CONTROL.search(text) or _NOT_A_BYTE.search(text):
        raise BadValueError(f"{quoted(text)} is not a path")
    return Path(text)


def _show_path(path: Path) -> str:
    text = str(path)
    return text if path.is_absolute() or text == "." or text.startswith("..") else f"./{text}"


def _boolean(text: str) -> bool:
    known = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
    if text.lower() not in known:
        raise BadValueError(f"{quoted(text)} is neither true nor false", "write true or false")
    return known[text.lower()]


def _count(text: str) -> int:
    if not _COUNT.fullmatch(text) or int(text) == 0:
        raise BadValueError(f"{quoted(text)} is not a count", "write a whole number from 1 to 999999999")
    return int(text)


def _workers(text: str) -> int:
    if text.lower() == "auto":
        return 0
    if not _COUNT.fullmatch(text) or not 1 <= int(text) <= _WORKERS_MAX:
        remedy = f"write a whole number from 1 to {_WORKERS_MAX}, or auto"
        raise BadValueError(f"{quoted(text)} is not a count of workers", remedy)
    return int(text)


def _seconds(text: str) -> float:
    if _SECONDS.fullmatch(text):
        seconds = float(text)
    elif _DURATION.fullmatch(text):
        seconds = sum(float(number) * _UNITS[unit] for number, unit in _DURATION_PART.findall(text))
        # To what can be written down: 0.1 + 0.2 is 0.30000000000000004.
        seconds = round(seconds, 9)
    else:
        raise BadValueError(f"{quoted(text)} is not a duration", "write seconds, or like 500ms, 30s, 1m30s, 2h")
    if seconds > _DURATION_MAX:
        raise BadValueError(f"{quoted(text)} is too long", "use at most 8760h")
    return seconds


def _positive_seconds(text: str) -> float:
    seconds = _seconds(text)
    if seconds == 0:
        raise BadValueError(f"{quoted(text)} is no time at all", "use more than 0")
    return seconds


def _size(text: str) -> int:
    found = _SIZE.fullmatch(text)
    if not found or found[2].lower() not in _SIZES:
        raise BadValueError(
            f"{quoted(text)} is not a size", "write bytes, or like 512K, 4MiB (4194304), 10MB (10000000)"
        )
    size = int(float(found[1]) * _SIZES[found[2].lower()])
    if size == 0:
        raise BadValueError(f"{quoted(text)} allows nothing", "use at least 1 byte")
    return size


def _show_size(size: int) -> str:
    for unit in ("GiB", "MiB", "KiB"):
        if size % _SIZES[unit.lower()] == 0:
            return f"{size // _SIZES[unit.lower()]}{unit}"
    return str(size)


def _check_header(name: str) -> None:
    if not _TOKEN.fullmatch(name):
        raise BadValueError(f"{quoted(name)} is not the name of an HTTP header")
    if name.lower() in _FRAMING:
        raise BadValueError(f"{quoted(name)} differs from response to response", "leave it to the server")


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise BadValueError(
            f"{quoted(text)} is not an address or a network", f"{error}: write like 10.0.0.0/8"
        ) from None


def _url_path(text: str) -> str:
    if not _URL_PATH.fullmatch(text) or not {".", ".."}.isdisjoint(text.split("/")):
        raise BadValueError(f"{quoted(text)} is not a path", "write like /metrics")
    return text


def _url_prefix(text: str) -> str:
    return _url_path(text.rstrip("/")) if text.rstrip("/") else ""


def _origin(text: str) -> str:
    try:
        parts = urlsplit(text)
        has_port = parts.port is not None
    except ValueError:
        raise BadValueError(f"{quoted(text)} is not a URL", "write like https://registry.example") from None
    host = parts.hostname or ""
    if parts.scheme not in {"http", "https"} or not (_HOST.fullmatch(host) or ":" in host):
        raise BadValueError(f"{quoted(text)} is not a URL with a host", "write like https://registry.example")
    if parts.path.rstrip("/") or parts.query or parts.fragment or parts.username is not None:
        raise BadValueError(f"{quoted(text)} is more than a scheme and a host", "write a path into http.prefix")
    name = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{name}:{parts.port}" if has_port else f"{parts.scheme}://{name}"


def _show_seconds(seconds: float) -> str:
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"


def one_of(*values: str, refused: Mapping[str, str] | None = None) -> Kind:
    """The kind of value that is one of `values`, in whatever case; `refused` gives remedies for values it is not."""

    def parse(text: str) -> str:
        word = text.lower()
        if word in values:
            return word
        remedy = (refused or {}).get(word) or suggestion(text, values)
        raise BadValueError(f"{quoted(text)} is not one of {', '.join(values)}", remedy)

    # The names are offered by editors; the pattern takes them in whatever case.
    pattern = "|".join(_in_any_case(value) for value in values)
    numbers = [float(value) for value in values if _SECONDS.fullmatch(value)]
    json = {"anyOf": [{"enum": [*values, *numbers]}, {"type": "string", "pattern": f"^(?:{pattern})$"}]}
    return Kind(f"one of {', '.join(values)}", parse, values=values, json=json)


def only(kind: Kind, value: object, why: str, remedy: str) -> Kind:
    """The kind of value that is `value` alone, because of `why`."""

    def parse(text: str) -> object:
        if kind.parse(text) != value:
            raise BadValueError(why, remedy)
        return value

    return replace(kind, parse=parse, json={"enum": [value, kind.show(value)]})


def must_be_empty(why: str, shape: Shape = "scalar") -> Kind:
    """The kind of value that a configuration may name but not set, because of `why`."""

    def parse(text: str) -> str:
        if text:
            raise BadValueError(why)
        return text

    return Kind("empty", parse, shape=shape, json={"const": ""})


def _in_any_case(word: str) -> str:
    return "".join(f"[{char.upper()}{char}]" if char.isalpha() else re.escape(char) for char in word)


def _patterned(pattern: str, **others: Any) -> dict[str, Any]:
    return {"type": ["string"], "pattern": f"^(?:{pattern})$", **others}


def _numeric(pattern: str, minimum: int) -> dict[str, Any]:
    """A number, or a text of a number and units."""
    return _patterned(pattern, minimum=minimum) | {"type": ["string", "number"]}


# Regular expressions of JSON Schema are those of ECMAScript, which has no flag for case in them.
_JSON_BOOLEAN = {
    "anyOf": [
        {"type": "boolean"},
        _patterned("|".join(_in_any_case(word) for word in ("true", "false", "yes", "no", "on", "off"))),
    ]
}
_JSON_COUNT = {
    "type": ["string", "integer"],
    "pattern": "^0*[1-9][0-9]*$",
    "minimum": 1,
    "maximum": 999_999_999,
    "maxLength": 9,
}
_JSON_DURATION = _numeric(rf"{_NUMBER}|(?:{_NUMBER}(?:ms|s|m|h))+", 0)
_JSON_SIZE = _numeric(rf"{_NUMBER} ?(?:[kKmMgGtT][iI]?[bB]?|[bB])?", 1)
_JSON_ADDRESS = _patterned(_ADDRESS.pattern)
_JSON_URL_PATH = _patterned(_URL_PATH.pattern)
_JSON_PREFIX = _patterned(rf"/*|(?:{_URL_PATH.pattern})/*")
_JSON_ORIGIN = _patterned(r"[hH][tT][tT][pP][sS]?://[^/?#@]+/*")
_JSON_NETWORK = _patterned("[0-9A-Fa-f:.]+(?:%[^/]+)?(?:/[0-9.]+)?")
_JSON_WORKERS_COUNT = _JSON_COUNT | {"pattern": "^0*(?:[1-9]|[1-5][0-9]|6[0-4])$", "maximum": _WORKERS_MAX}
_JSON_WORKERS = {"anyOf": [_JSON_WORKERS_COUNT, _patterned(_in_any_case("auto"))]}

STRING = Kind("a text", _string)
STRINGS = Kind("a map of texts", _string, shape="map", check_name=_string)
STRING_LIST = Kind("a list of texts", _string, shape="list")
PATH = Kind("a path", _path, _show_path)
PATHS = Kind("a list of paths", _path, _show_path, shape="list")
BOOLEAN = Kind("true or false", _boolean, lambda value: "true" if value else "false", json=_JSON_BOOLEAN)
COUNT = Kind("a count", _count, json=_JSON_COUNT)
WORKERS = Kind("a count, or auto", _workers, lambda value: str(value or "auto"), json=_JSON_WORKERS)
DURATION = Kind("a duration", _seconds, _show_seconds, json=_JSON_DURATION)
POSITIVE_DURATION = Kind("a duration", _positive_seconds, _show_seconds, json=_JSON_DURATION)
SIZE = Kind("a size", _size, _show_size, json=_JSON_SIZE)
ADDRESS = Kind("an address", Address.parse, json=_JSON_ADDRESS)
HEADERS = Kind("a map of HTTP headers", _string, shape="lists", check_name=_check_header)
NETWORKS = Kind("a list of networks", _network, shape="list", json=_JSON_NETWORK)
URL_PATH = Kind("the path of a URL", _url_path, json=_JSON_URL_PATH)
URL_PREFIX = Kind("the path of a URL", _url_prefix, json=_JSON_PREFIX)
ORIGIN = Kind("a URL", _origin, json=_JSON_ORIGIN)
