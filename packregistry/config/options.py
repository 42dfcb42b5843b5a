"""The options that the declarations in `settings` make: by key, by variable, as a table, and back to a `Config`."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast, get_args

from packregistry.config.settings import Config, Spec

PREFIX: Final = "REGISTRY_"


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


def value_of(config: Config, option: Option) -> Any:
    """What a configuration has for an option."""
    value: Any = config
    for name in option.attribute.split("."):
        value = getattr(value, name)
    return value


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
