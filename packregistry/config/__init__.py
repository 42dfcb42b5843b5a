"""The server's configuration: a YAML file, `REGISTRY_…` variables over it, flags over those.

    settings     one declaration per option; the typed, frozen `Config`
    legacy       keys of existing files that need nothing done, or cannot be had
    options      the options by key and variable; README's table
    schema       what each key stands for
    values       the kinds of values, each read from text
    document     YAML as texts with their places; `quotes` says where one is not closed
    environment  which variable means which option, and `secretfile` the value in a file that a variable names
    collector    checks what the sources have, in order, and makes a `Config` of it
    written      a `Config` as a file again, with the origin of each value
    jsonschema   a JSON Schema of the file, for editors

A key or variable that nobody knows is an error with a suggestion, and all errors are reported together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from packregistry.config import environment
from packregistry.config.collector import Collector
from packregistry.config.document import found_of, read_file
from packregistry.config.options import Option, markdown_table, options
from packregistry.config.problems import ConfigError, Report
from packregistry.config.settings import (
    Audit,
    Auth,
    Certificates,
    Config,
    Debug,
    Htpasswd,
    Http,
    Limits,
    Log,
    Packs,
    Storage,
    Sweep,
    Tls,
    Uploads,
)
from packregistry.config.values import Address, Network

__all__ = [
    "Address",
    "Audit",
    "Auth",
    "Certificates",
    "Config",
    "ConfigError",
    "Debug",
    "Htpasswd",
    "Http",
    "Limits",
    "Loaded",
    "Log",
    "Network",
    "Option",
    "Packs",
    "Storage",
    "Sweep",
    "Tls",
    "Uploads",
    "load",
    "markdown_table",
    "options",
]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that can be used, and what an operator should be told about it, one line each.

    `origins` has the place of each value that is not a default, by the dotted key of its option; of a list also that of
    each item, by index from 0 behind the key, of a map that of each entry, by name. `hidden` are those of its keys
    whose value was in a file that a variable names, and is to be shown to nobody.
    """

    config: Config
    warnings: tuple[str, ...]
    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    hidden: frozenset[str] = field(default=frozenset(), compare=False, repr=False)


def load(path: Path | None, environ: Mapping[str, str], flags: Mapping[str, object]) -> Loaded:
    """Read the configuration: the file at `path`, overridden by `environ`, overridden by `flags`.

    Without a file the defaults are those for trying things out on one machine; with one, those of the legacy server.

    Args:
        path: the YAML file, if there is one.
        environ: environment variables; those that do not begin with `REGISTRY_` or nearly so are none of ours, but
            for `PACKREGISTRY_WORKERS`, which the file wins over.
        flags: values by the dotted key of their option. None and an empty list or tuple mean that the flag is not
            there; other values are what the YAML file could have, or what `Config` has. An unknown key is a
            `KeyError`: it is the program that is wrong.

    Raises:
        ConfigError: with every problem there is.
    """
    report = Report()
    collector = Collector(report)
    collector.rank = -1
    environment.read_defaults(environ, collector)
    collector.rank = 0
    if path is not None and (document := read_file(path, report)):
        collector.take("", document)
    collector.rank = 1
    environment.read(environ, collector)
    collector.rank = 2
    declared = {option.path: option.spec.flag or "command line" for option in options()}
    for key, value in flags.items():
        where = declared[key]
        if value is not None and value not in ([], ()):
            collector.take(key, found_of(value, where))
    config = collector.finish(has_file=path is not None)
    if report.errors:
        raise ConfigError(report.errors, report.warnings)
    return Loaded(config, tuple(report.warnings), collector.origins, collector.hidden)
