"""A configuration as a file again: complete, so that it means the same wherever it is read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from packregistry.config.options import Option, options, value_of
from packregistry.config.problems import printable
from packregistry.config.settings import Config

Tree: TypeAlias = "dict[str, Any]"
"""Sections by key, in them options by key: booleans, numbers, texts, lists and maps of texts, None."""

Hide: TypeAlias = "Callable[[str, str], str]"
"""Makes of a dotted key, behind that of a list an index, and a text what may be shown of it."""

# Texts that YAML takes for themselves without quotes, wherever they stand.
_PLAIN: Final = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_./+-]*(?: [A-Za-z0-9_./(][A-Za-z0-9_./+()-]*)*", re.ASCII)
_NULLS: Final = {"null", "Null", "NULL"}


def shown(_path: str, text: str) -> str:
    """Hide nothing."""
    return text


def tree(config: Config, hide: Hide = shown) -> Tree:
    """The configuration as a file has it. What only another driver would use is left out."""
    root: Tree = {}
    for option in options():
        value = value_of(config, option)
        if option.spec.is_driver:
            if value in option.spec.kind.values:
                _section(root, option.path)[value] = {}
        elif _is_used(config, option):
            section, _, key = option.path.rpartition(".")
            _section(root, section)[key] = _hidden(option, _complete(option, value), hide)
    return root


def as_yaml(config: Config, origins: Mapping[str, str] | None, hide: Hide = shown) -> str:
    """The configuration as YAML. With `origins`, as `Loaded` has them, a comment says where each value is from."""
    lines: list[str] = []
    for line, paths in _lines(tree(config, hide), "", 0):
        if origins is None or not paths:
            lines.append(line)
            continue
        origin = next((origins[path] for path in paths if path in origins), "default")
        lines.append(f"{line}  # {printable(origin)}")
    return "\n".join(lines) + "\n"


def _is_used(config: Config, option: Option) -> bool:
    """Whether an option is outside of any driver's section, or in that of the driver which was chosen."""
    for driver in options():
        if driver.spec.is_driver and option.path.startswith(driver.path + "."):
            name = option.path.removeprefix(driver.path + ".").partition(".")[0]
            if name in driver.spec.kind.values:
                return bool(name == value_of(config, driver))
    return True


def _complete(option: Option, value: Any) -> Any:
    """A map of headers that removes the defaults it does not have; everything else as it is."""
    if option.spec.kind.shape != "lists":
        return value
    names = {name.lower() for name in value}
    return dict(value) | {name: () for name in option.file_default if name.lower() not in names}


def _hidden(option: Option, value: Any, hide: Hide) -> Any:
    plain, path = option.spec.kind.plain(value), option.path
    if isinstance(plain, str):
        return hide(path, plain)
    if isinstance(plain, int):
        # A number or a boolean keeps its type, unless it is hidden.
        text = option.spec.kind.show(value)
        return plain if (seen := hide(path, text)) == text else seen
    if isinstance(plain, list):
        return [hide(f"{path}.{index}", text) for index, text in enumerate(plain)]
    if isinstance(plain, dict):
        return {
            name: [hide(f"{path}.{name}", text) for text in part]
            if isinstance(part, list)
            else hide(f"{path}.{name}", part)
            for name, part in plain.items()
        }
    return plain


def _section(root: Tree, path: str) -> Tree:
    for key in path.split(".") if path else ():
        root = root.setdefault(key, {})
    return root


def _lines(section: Tree, path: str, depth: int) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The lines of a section, each with the dotted keys that its origin may be known by; none where it has no value."""
    indent = "  " * depth
    known = {option.path: option for option in options()}
    for key, value in section.items():
        here = f"{path}.{key}" if path else key
        head = f"{indent}{_scalar(key)}:"
        option = known.get(here)
        shape = option.spec.kind.shape if option and not option.spec.is_driver else ""
        if isinstance(value, dict) and shape in {"map", "lists"} and value:
            yield head, ()
            for name, part in value.items():
                yield f"{indent}  {_scalar(name)}: {_flow(part)}", (f"{here}.{name}", *_removed(part, here))
        elif isinstance(value, dict) and value:
            chooser = known.get(path)
            yield head, (path,) if chooser and key in chooser.spec.kind.values else ()
            yield from _lines(value, here, depth + 1)
        elif isinstance(value, list) and value:
            yield head, ()
            for index, item in enumerate(value):
                yield f"{indent}  - {_scalar(item)}", (f"{here}.{index}", here)
        else:
            # What a driver's section is named by, where nothing is in it, is the value of the driver's option.
            yield f"{head} {_flow(value)}".rstrip(), (here if here in known else path,)


def _removed(part: Any, path: str) -> tuple[str, ...]:
    """A default header that is not there was removed by an entry of another spelling: the whole map tells by which."""
    return (path,) if part == [] else ()


def _flow(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_scalar, value)) + "]"
    if isinstance(value, dict):
        return "{}"
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else _scalar(value)


def _scalar(text: str) -> str:
    """A text as YAML: plain if it can be, else in double quotes."""
    if _PLAIN.fullmatch(text) and text not in _NULLS:
        return text
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    if char.isprintable():
        return char
    return f"\\u{ord(char):04x}" if ord(char) <= 0xFFFF else f"\\U{ord(char):08x}"
