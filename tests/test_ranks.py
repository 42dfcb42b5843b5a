"""Imports point down: the map in the package docstring is what the code does."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import packregistry

ROOT = Path(packregistry.__file__).parent

RANKS = {
    "errors": 0,
    "failures": 0,
    "model": 1,
    "versions": 1,
    "config": 1,
    "reload": 1,
    "masking": 1,
    "linesink": 1,
    "tally": 1,
    "health": 1,
    "metrics": 2,
    "start": 2,
    "signals": 2,
    "pack": 2,
    "archive": 2,
    "directory": 2,
    "sightings": 2,
    "catalog": 2,
    "manifests": 2,
    "receive": 2,
    "holdings": 2,
    "changes": 3,
    "uploads": 3,
    "pushes": 5,
    "sweep": 5,
    "auth": 2,
    "tls": 2,
    "audit": 2,
    "storage": 2,
    "logs": 2,
    "credentials": 2,
    "unpack": 3,
    "offer": 3,
    "client": 4,
    "chart": 4,
    "scaffold": 5,
    "gunzip": 2,
    "tarstream": 2,
    "blobcache": 3,
    "inspection": 3,
    "registry": 4,
    "sources": 5,
    "watcher": 6,
    "web": 7,
    "server": 8,
    "worker": 9,
    "supervisor": 10,
    "cli": 11,
    "__main__": 12,
}


def module_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """The modules of ours that a file imports, by their first name, wherever in the file the import stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("packregistry"):
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("packregistry.")}
    return found - {"__version__"}


FILES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")
IMPORTED = {path: imported(path) for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_lower_ranks(path: Path) -> None:
    own = module_of(path)
    wrong = {name for name in IMPORTED[path] if name != own and RANKS[name] >= RANKS[own]}
    assert not wrong


def test_the_map_in_the_package_docstring_has_every_module() -> None:
    assert packregistry.__doc__
    assert set(RANKS) - {"__main__"} == {module_of(path) for path in FILES} - {"__main__"}
    assert all(f" {name} " in packregistry.__doc__ for name in RANKS if name != "__main__")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_fits_on_a_few_screens(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400
