"""Values gathered from sources of rising precedence, checked where they are found, then made a `Config` of."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from packregistry.config.options import Option, build, options
from packregistry.config.problems import BadValueError, Report, nearest, quoted, suggestion
from packregistry.config.quotes import unbalanced
from packregistry.config.schema import Ignored, Renamed, Section, Unsupported, join, schema, useful
from packregistry.config.settings import Config

if TYPE_CHECKING:
    from packregistry.config.document import Found
    from packregistry.config.values import Kind

_BAD = object()

# Options that mean something only with another.
_NEEDED = (
    ("auth.policy", "auth.htpasswd.path"),
    ("auth.anonymous", "auth.htpasswd.path"),
    ("auth.tokens", "auth.htpasswd.path"),
    ("auth.certificates.subject", "auth.htpasswd.path"),
    ("auth.certificates.subject", "http.tls.clientcas"),
    ("auth.certificates.users", "auth.certificates.subject"),
    ("http.tls.clientcas", "http.tls.certificate"),
    ("http.tls.clientauth", "http.tls.clientcas"),
    ("http.debug.prometheus.enabled", "http.debug.addr"),
)


@dataclass(frozen=True, slots=True)
class Given:
    """A value that a source gave: where, and the rank of the source.

    `parts` has the place of each part of it: by name, or by index from 0.
    """

    value: Any
    where: str
    rank: int
    parts: Mapping[str, str] = field(default_factory=dict)


class Collector:
    """Takes what the sources have, in order of precedence; a later `rank` wins over an earlier one.

    Everything that is wrong goes to `report`, also what a later source overrides. While it `hides`, no value is shown
    there: what comes from a file of secrets may be one.
    """

    def __init__(self, report: Report) -> None:
        self.report = report
        self.rank = 0
        self.hides = False
        self.secret_places: set[str] = set()
        self._given: dict[str, Given] = {}
        self._items: dict[str, dict[int, Given]] = {}
        self._refused: list[tuple[Unsupported, Given]] = []
        self._seen: set[str] = set()

    @property
    def origins(self) -> dict[str, str]:
        """Where the values are from, by the dotted key of their option, and that of each part of a list or a map."""
        found = {}
        for path, given in self._given.items():
            found[path] = given.where
            found |= {join(path, name): where for name, where in given.parts.items()}
        return found

    @property
    def hidden(self) -> frozenset[str]:
        """The keys of `origins` whose value is from one of the `secret_places`."""
        return frozenset(path for path, where in self.origins.items() if where in self.secret_places)

    def take(self, path: str, found: Found) -> None:
        """Take what was found at a key of the schema. Null and an empty text are as good as nothing."""
        meaning = schema()[path]
        if isinstance(meaning, Ignored):
            if meaning.kind is None or self._text(meaning.kind, path, found) is not _BAD:
                self.report.warn(found.where, path, f"has no effect: {meaning.why}")
        elif isinstance(meaning, Unsupported):
            if meaning.driver:
                self._refused.append((meaning, Given(None, found.where, self.rank)))
            elif not _is_nothing(found):
                self.report.error(found.where, path, meaning.why)
        elif isinstance(meaning, Renamed):
            new = meaning.option.path
            self.report.warn(found.where, path, f"is the former name of {new}", "write that")
            before = self._given.get(new)
            if before is None or before.rank < self.rank:
                self.take(new, found)
        elif found.value in (None, ""):
            return
        elif isinstance(meaning, Section):
            self._enter(meaning, found)
        else:
            self._give(meaning, found)

    def take_item(self, option: Option, index: int, found: Found) -> None:
        """Take the item `index` of a list; `place_items` puts it there."""
        value = self._text(option.spec.kind, option.path, found)
        if value is not _BAD:
            self._items.setdefault(option.path, {})[index] = Given(value, found.where, self.rank)

    def place_items(self) -> None:
        """Put the items taken by index into their lists, each over one that is there or after the last."""
        for path, items in self._items.items():
            before = self._given.get(path)
            values = list(before.value) if before else []
            parts = dict(before.parts) if before else {}
            for index, item in sorted(items.items()):
                if index > len(values):
                    self.report.error(item.where, path, f"there is no item {len(values)} before this one")
                    break
                values[index : index + 1] = [item.value]
                parts[str(index)] = item.where
                self._given[path] = Given(tuple(values), item.where, self.rank, dict(parts))

    def _enter(self, section: Section, found: Found) -> None:
        if not isinstance(found.value, dict):
            if section.driver and isinstance(found.value, str):
                self._choose(section.driver, found.value, found)
                return
            self.report.error(found.where, section.path, "must be a map of keys", _keys(useful(section)))
            return
        for key, entry in found.value.items():
            path = join(section.path, key)
            if key in section.keys:
                self.take(path, entry.found)
            else:
                self.report.error(entry.where, path, "unknown key", _unknown_remedy(key, section))
        if section.driver:
            named = [key for key in found.value if key in section.driver.spec.kind.values]
            if len(named) > 1:
                where = found.value[named[1]].where
                self.report.error(where, section.path, f"names {' and '.join(named)}", "leave one of them")
            for key in named[:1]:
                self._given[section.path] = Given(key, found.value[key].where, self.rank)

    def _choose(self, driver: Option, text: str, found: Found) -> None:
        unsupported = schema().get(join(driver.path, text.lower()))
        if isinstance(unsupported, Unsupported):
            self.report.error(found.where, driver.path, unsupported.why)
        else:
            self._give(driver, found)

    def _give(self, option: Option, found: Found) -> None:
        self._seen.add(option.path)
        kind = option.spec.kind
        value: Any
        parts: dict[str, str] = {}
        if kind.shape == "scalar":
            value = self._text(kind, option.path, found)
        elif kind.shape == "list":
            value = self._texts(kind, option.path, found)
            items = found.value if isinstance(found.value, list) else [found]
            parts = {str(index): item.where for index, item in enumerate(items)}
        else:
            value = self._map(kind, option.path, found)
            if value is not _BAD and isinstance(found.value, dict):
                parts = {name: entry.where for name, entry in found.value.items()}
                if before := self._given.get(option.path):
                    value, parts = overlay(before.value, value), overlay(before.parts, parts)
        if value is not _BAD:
            self._given[option.path] = Given(value, found.where, self.rank, parts)

    def _text(self, kind: Kind, path: str, found: Found) -> Any:
        if not isinstance(found.value, str):
            what = kind.name if kind.shape == "scalar" else "a text"
            self.report.error(found.where, path, f"must be {what}, not {self._shape(found)}")
            return _BAD
        try:
            return kind.parse(found.value)
        except BadValueError as error:
            if self.hides:
                self.report.error(found.where, path, f"must be {kind.name}")
            else:
                self.report.error(found.where, path, error.message, error.remedy)
            return _BAD

    def _texts(self, kind: Kind, path: str, found: Found) -> Any:
        parts = found.value if isinstance(found.value, list) else [found]
        values = tuple(self._text(kind, path, part) for part in parts)
        return _BAD if _BAD in values else values

    def _map(self, kind: Kind, path: str, found: Found) -> Any:
        if not isinstance(found.value, dict):
            self.report.error(found.where, path, f"must be {kind.name}, not {self._shape(found)}")
            return _BAD
        values: dict[str, Any] = {}
        names: set[str] = set()
        read = self._text if kind.shape == "map" else self._texts
        for name, entry in found.value.items():
            try:
                if kind.check_name:
                    kind.check_name(name)
            except BadValueError as error:
                self.report.error(entry.where, path, error.message, error.remedy)
            if name.lower() in names:
                self.report.error(
                    entry.where, join(path, name), "is given twice", "names are the same in whatever case"
                )
            names.add(name.lower())
            values[name] = read(kind, join(path, name), entry.found)
            if kind.shape == "lists" and values[name] is not _BAD and (flaw := unbalanced(name, values[name])):
                message, remedy = flaw
                self.report.warn(entry.where, join(path, name), message, "" if self.hides else remedy)
        return _BAD if _BAD in values.values() else values

    def _shape(self, found: Found) -> str:
        if isinstance(found.value, dict):
            return "a map"
        if isinstance(found.value, list):
            return "a list"
        return "nothing" if found.value is None else "a text" if self.hides else quoted(found.value)

    def finish(self, *, has_file: bool) -> Config:
        """The configuration of everything taken, with defaults for the rest; for what `report` has no error of."""
        for meaning in schema().values():
            if isinstance(meaning, Section) and meaning.driver:
                self._refuse(meaning.driver)
                self._settle(meaning.driver)
        self._check_together()
        values: dict[str, Any] = {}
        for option in options():
            value = default = option.file_default if has_file else option.default
            if option.path in self._given:
                given = self._given[option.path].value
                value = overlay(default, given) if option.spec.kind.shape in {"map", "lists"} else given
            if option.spec.kind.shape == "lists":
                value = {name: texts for name, texts in value.items() if texts}
            values[option.attribute] = value
        return build(values)

    def _refuse(self, driver: Option) -> None:
        """Report drivers that cannot be had, but for those that a variable or a flag has switched away from."""
        for unsupported, given in self._refused:
            if unsupported.driver is not driver:
                continue
            chosen = self._given.get(driver.path)
            if chosen and chosen.rank >= max(given.rank, 1):
                message = f"has no effect, because {driver.path} is {chosen.value} ({chosen.where})"
                self.report.warn(given.where, unsupported.path, message)
            else:
                self.report.error(given.where, unsupported.path, unsupported.why)

    def _settle(self, driver: Option) -> None:
        """Decide on one driver: the one named last, else the one that has something set."""
        for path, given in sorted(self._given.items(), key=lambda item: -item[1].rank):
            name = path.removeprefix(driver.path + ".").partition(".")[0]
            if name == path or name not in driver.spec.kind.values:
                continue
            chosen = self._given.setdefault(driver.path, Given(name, given.where, given.rank))
            if name == chosen.value or given.rank < chosen.rank:
                continue
            message = f"has no effect, because {driver.path} is {chosen.value} ({chosen.where})"
            if given.rank == chosen.rank:
                self.report.warn(given.where, path, message)
            else:
                remedy = f"set {driver.variable}={name} as well, or leave this out"
                self.report.error(given.where, path, message, remedy)

    def _check_together(self) -> None:
        mode = self._given.get("auth")
        if mode and mode.value == "htpasswd" and "auth.htpasswd.path" not in self._seen:
            self.report.error(mode.where, "auth.htpasswd.path", "is required", "name the file with the users")
        for one, other in (("certificate", "key"), ("key", "certificate")):
            given = self._given.get(f"http.tls.{one}")
            if given and f"http.tls.{other}" not in self._seen:
                self.report.error(given.where, f"http.tls.{one}", f"is given without http.tls.{other}", "give both")
        for path, needed in _NEEDED:
            given = self._set(path)
            is_bad = needed in self._seen and needed not in self._given
            if given and not is_bad and not self._set(needed):
                self.report.error(given.where, path, f"has no effect without {needed}", "give both, or neither")
        minimum = self._set("http.tls.minimumtls")
        if minimum and "http.tls.certificate" not in self._seen:
            self.report.warn(minimum.where, "http.tls.minimumtls", "has no effect without http.tls.certificate")
        for path in ("auth.admins", "auth.anonymous"):
            given = self._set(path)
            if given and self._set("auth.policy"):
                self.report.error(given.where, path, "has no effect with auth.policy", "write it as a rule there")

    def _set(self, path: str) -> Given | None:
        """What was given for an option, if it differs from the default."""
        given = self._given.get(path)
        option = schema()[path]
        return given if given and isinstance(option, Option) and given.value != option.default else None


def overlay(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of both; names are the same in whatever case, and `above` wins."""
    hidden = {name.lower() for name in above}
    return {name: value for name, value in below.items() if name.lower() not in hidden} | dict(above)


def _is_nothing(found: Found) -> bool:
    """Whether a value says nothing: null, an empty text, or a list or a map of such."""
    if isinstance(found.value, dict):
        return all(_is_nothing(entry.found) for entry in found.value.values())
    return all(map(_is_nothing, found.value)) if isinstance(found.value, list) else not found.value


def _keys(keys: Collection[str]) -> str:
    return f"known: {', '.join(keys)}" if keys else "leave it empty"


def _unknown_remedy(key: str, section: Section) -> str:
    if near := nearest(key, section.keys):
        return f"did you mean {near}?"
    elsewhere = [path for path in schema() if path.rpartition(".")[2] == key]
    return f"did you mean {elsewhere[0]}?" if len(elsewhere) == 1 else suggestion(key, useful(section))
