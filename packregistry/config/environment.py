"""`REGISTRY_…` variables: which option each means, and what to say of those that mean none."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from packregistry.config.document import Entry, Found, read_text
from packregistry.config.options import PREFIX, Option, options, variable_of
from packregistry.config.problems import BadValueError, nearest
from packregistry.config.schema import Ignored, Meaning, Section, Unsupported, schema
from packregistry.config.secretfile import SUFFIX, read_secret

if TYPE_CHECKING:
    from packregistry.config.collector import Collector

# A Service called registry or registry-… puts these into every pod of its namespace:
# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_SERVICE_LINK = re.compile(
    r"REGISTRY_(?:[A-Z0-9_]+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_PROTO|_PORT|_ADDR)?)"
)
_SERVICE_URL = re.compile(r"(?:tcp|udp|sctp)://.*", re.DOTALL)

# How a map in block style begins.
_KEY = re.compile(r"[\w-]+:(?:\s|$)")

# Variables of other programs that have the same beginning: where podman, buildah and skopeo keep credentials.
_FOREIGN = {"REGISTRY_AUTH_FILE": "it is for podman, buildah and skopeo"}


# Variables that give a default, which a file wins over: an image sets them for whoever mounts a file or does not.
_DEFAULTS = {"PACKREGISTRY_WORKERS": "http.workers"}


def read_defaults(environ: Mapping[str, str], collector: Collector) -> None:
    """Give the collector the defaults that variables say; an empty one is as good as none."""
    for name, path in _DEFAULTS.items():
        if text := environ.get(name, "").strip():
            collector.take(path, Found(_where(name), text))


def read(environ: Mapping[str, str], collector: Collector) -> None:
    """Give the collector what the variables say; an empty variable is as good as none, with a warning."""
    links = []
    for name in sorted(environ):
        if not name.startswith(PREFIX):
            _warn_of_near_miss(name, collector)
            continue
        target = _target(name)
        is_legacy = target is not None and isinstance(target.meaning, (Ignored, Unsupported))
        if target and not target.rest:
            _take(name, environ[name], target, collector)
        elif named := _named_file(name):
            _take_file(name, environ, named, collector)
        elif (target is None or is_legacy) and _is_service_link(name, environ[name]):
            links.append(name)
        elif target:
            _take(name, environ[name], target, collector)
        elif name in _FOREIGN:
            collector.report.warn(_where(name), "", f"has no effect: {_FOREIGN[name]}")
        else:
            near = _nearest_variable(name.removeprefix(PREFIX), 0.6)
            collector.report.error(
                _where(name), "", "there is no such option", f"did you mean {near}?" if near else "unset it"
            )
    if links:
        collector.report.warn(
            f"environment variable{'s' * (len(links) > 1)} {', '.join(links)}",
            "",
            "made by Kubernetes for a Service, no effect",
            "set enableServiceLinks: false in the pod to be rid of them",
        )
    collector.place_items()


def _where(name: str) -> str:
    return f"environment variable {name}"


def _nearest_variable(rest: str, cutoff: float) -> str | None:
    """The variable whose name after the prefix is nearest to `rest`; the prefix alone would make all of them near."""
    near = nearest(rest, [option.variable.removeprefix(PREFIX) for option in options()], cutoff)
    return near and PREFIX + near


def _is_service_link(name: str, text: str) -> bool:
    return bool(_SERVICE_LINK.fullmatch(name) or (name.endswith("_PORT") and _SERVICE_URL.fullmatch(text)))


class _Target(NamedTuple):
    """What a variable means: a key, its meaning, and what of the name is left: an index or a name, or nothing."""

    path: str
    meaning: Meaning
    rest: str


def _target(name: str) -> _Target | None:
    """What the variable means, if anything."""
    for path, meaning in _longest_first():
        variable = variable_of(path)
        if name == variable:
            return _Target(path, meaning, "")
        if not name.startswith(variable + "_"):
            continue
        rest = name.removeprefix(variable + "_")
        shape = meaning.spec.kind.shape if isinstance(meaning, Option) else ""
        is_index = rest.isascii() and rest.isdecimal() and len(rest) < 4
        if isinstance(meaning, (Ignored, Unsupported)) or shape in {"map", "lists"} or (shape == "list" and is_index):
            return _Target(path, meaning, rest)
    return None


def _named_file(name: str) -> _Target | None:
    """What a variable means that names the file with the value: an option, or a part of one."""
    if not name.endswith(SUFFIX) or name in _FOREIGN:
        return None
    target = _target(name.removesuffix(SUFFIX))
    is_option = target and (
        isinstance(target.meaning, Option) or (isinstance(target.meaning, Section) and target.meaning.driver)
    )
    return target if is_option else None


def _longest_first() -> Iterable[tuple[str, Meaning]]:
    return sorted(((path, meaning) for path, meaning in schema().items() if path), key=lambda item: -len(item[0]))


def _take_file(name: str, environ: Mapping[str, str], target: _Target, collector: Collector) -> None:
    plain, path = name.removesuffix(SUFFIX), environ[name].strip()
    where = f"{_where(name)} ({path})"
    if path and environ.get(plain, "").strip():
        collector.report.error(_where(name), "", f"is given together with {plain}", "unset one of them")
        return
    try:
        text = read_secret(path) if path else ""
    except BadValueError as error:
        collector.report.error(where, "", error.message, error.remedy)
        return
    collector.secret_places.add(where)
    collector.hides = True
    _take(name, text, target, collector, where if path else "")
    collector.hides = False


def _take(name: str, text: str, target: _Target, collector: Collector, where: str = "") -> None:
    text, where = text.strip(), where or _where(name)
    path, meaning, rest = target
    if not text:
        collector.report.warn(where, "", "is empty and has no effect", "unset it")
        return
    found = _found(where, text, target, collector)
    if found is None:
        return
    if isinstance(meaning, Option) and rest:
        if meaning.spec.kind.shape == "list":
            collector.take_item(meaning, int(rest), found)
            return
        # A shell's variable cannot have "-" in its name, and no header has "_" in its own.
        key = rest.replace("_", "-") if meaning.spec.kind.shape == "lists" else rest.lower()
        found = Found(found.where, {key: Entry(found.where, found)})
    collector.take(path, found)


def _found(where: str, text: str, target: _Target, collector: Collector) -> Found | None:
    """The value of a variable: YAML where it looks like a list, a map or a quoted text, else the text itself."""
    meaning, rest = target.meaning, target.rest
    shape = meaning.spec.kind.shape if isinstance(meaning, Option) else ""
    is_quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"
    is_flow = text[0] in "[{" and (
        isinstance(meaning, Section) or shape == "lists" or (shape in {"list", "map"} and not rest)
    )
    is_map = not rest and (isinstance(meaning, Section) or shape in {"map", "lists"}) and _KEY.match(text)
    is_list = not rest and shape == "list" and text.startswith("- ")
    if is_quoted or is_flow or is_map or is_list:
        return read_text(text, lambda _: where, where, collector.report, quotes_it=not collector.hides)
    if shape == "list" and not rest and "," in text:
        collector.report.error(where, "", "has a comma in it", "write a YAML list: [first, second]")
        return None
    return Found(where, text)


def _warn_of_near_miss(name: str, collector: Collector) -> None:
    head, _, rest = name.partition("_")
    if not rest or head[:1].upper() != PREFIX[0] or not nearest(head, [PREFIX.rstrip("_")], 0.8):
        return
    right = PREFIX + rest.upper()
    if _target(right) or _named_file(right) or (right := _nearest_variable(rest, 0.9) or ""):
        collector.report.warn(_where(name), "", "has no effect", f"did you mean {right}?")
