"""`REGISTRY_…` variables: which option each means, and what to say of those that mean none."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from packregistry.config.document import Entry, Found, read_text
from packregistry.config.options import PREFIX, Option, options, variable_of
from packregistry.config.problems import nearest
from packregistry.config.schema import Ignored, Meaning, Section, Unsupported, schema

if TYPE_CHECKING:
    from packregistry.config.collector import Collector

# A Service called registry or registry-… puts these into every pod of its namespace:
# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_SERVICE_LINK = re.compile(
    r"REGISTRY_(?:[A-Z0-9_]+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_PROTO|_PORT|_ADDR)?)"
)
_SERVICE_URL = re.compile(r"(?:tcp|udp|sctp)://.*", re.DOTALL)

# Variables of other programs that have the same beginning: where podman, buildah and skopeo keep credentials.
_FOREIGN = {"REGISTRY_AUTH_FILE": "it is for podman, buildah and skopeo"}


def read(environ: Mapping[str, str], collector: Collector) -> None:
    """Give the collector what the variables say; an empty variable is as good as none, with a warning."""
    links = []
    for name in sorted(environ):
        if not name.startswith(PREFIX):
            _warn_of_near_miss(name, collector)
        elif target := _target(name):
            _take(name, environ[name].strip(), target, collector)
        elif _SERVICE_LINK.fullmatch(name) or (name.endswith("_PORT") and _SERVICE_URL.fullmatch(environ[name])):
            links.append(name)
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


def _target(name: str) -> tuple[str, Meaning, str] | None:
    """The key that a variable means, its meaning, and what of the name is left: an index or a name, or nothing."""
    for path, meaning in _longest_first():
        variable = variable_of(path)
        if name == variable:
            return path, meaning, ""
        if not name.startswith(variable + "_"):
            continue
        rest = name.removeprefix(variable + "_")
        shape = meaning.spec.kind.shape if isinstance(meaning, Option) else ""
        is_index = rest.isascii() and rest.isdecimal() and len(rest) < 4
        if isinstance(meaning, (Ignored, Unsupported)) or shape in {"map", "lists"} or (shape == "list" and is_index):
            return path, meaning, rest
    return None


def _longest_first() -> Iterable[tuple[str, Meaning]]:
    return sorted(((path, meaning) for path, meaning in schema().items() if path), key=lambda item: -len(item[0]))


def _take(name: str, text: str, target: tuple[str, Meaning, str], collector: Collector) -> None:
    path, meaning, rest = target
    if not text:
        collector.report.warn(_where(name), "", "is empty and has no effect", "unset it")
        return
    found = _found(name, text, meaning, rest, collector)
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


def _found(name: str, text: str, meaning: Meaning, rest: str, collector: Collector) -> Found | None:
    """The value of a variable: YAML where it looks like a list, a map or a quoted text, else the text itself."""
    where = _where(name)
    shape = meaning.spec.kind.shape if isinstance(meaning, Option) else ""
    takes_yaml = isinstance(meaning, Section) or (shape == "lists") or (shape in {"list", "map"} and not rest)
    is_quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"
    if is_quoted or (takes_yaml and text[0] in "[{"):
        return read_text(text, lambda _: where, where, collector.report)
    if shape == "list" and not rest and "," in text:
        collector.report.error(where, "", "has a comma in it", "write a YAML list: [first, second]")
        return None
    return Found(where, text)


def _warn_of_near_miss(name: str, collector: Collector) -> None:
    head, _, rest = name.partition("_")
    if not rest or head[:1].upper() != PREFIX[0] or not nearest(head, [PREFIX.rstrip("_")], 0.8):
        return
    right = PREFIX + rest.upper()
    if _target(right) or (right := _nearest_variable(rest, 0.9) or ""):
        collector.report.warn(_where(name), "", "has no effect", f"did you mean {right}?")
