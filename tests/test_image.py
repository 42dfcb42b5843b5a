"""The image's files agree with each other, and its entry point takes what the legacy server's image took.

What can only be seen of an image that was built and runs, `.ci/container` proves.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from pip._internal.models.index import PyPI

from packregistry import config
from packregistry.cli import entrypoint, health

ROOT = Path(__file__).parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
FINAL = DOCKERFILE.rpartition("\nFROM ")[2].replace("\\\n", " ")


def instruction(name: str) -> str:
    """What the last stage says of `name`; it must say it once."""
    found = re.findall(rf"^{name} +(.*)$", FINAL, re.MULTILINE)
    assert len(found) == 1, found
    return str(found[0])


def toml(name: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / name).read_text())


# The Dockerfile and the configuration


def test_the_default_configuration_is_fine_and_the_legacy_servers() -> None:
    loaded = config.load(ROOT / "deploy" / "config.yml", {}, {})
    assert loaded.warnings == ()
    assert str(loaded.config.http.addr) == ":5000"
    assert loaded.config.storage.filesystem.rootdirectory == Path("/data/.spectro-server")
    assert (loaded.config.auth.mode, loaded.config.auth.htpasswd.realm) == ("htpasswd", "basic-realm")
    assert loaded.config.auth.htpasswd.path == Path("/auth/htpasswd-basic")


def test_the_ports_and_paths_of_the_dockerfile_are_those_of_the_configuration() -> None:
    loaded = config.load(ROOT / "deploy" / "config.yml", {}, {}).config
    assert instruction("EXPOSE") == str(loaded.http.addr.port)
    assert loaded.storage.filesystem.rootdirectory.is_relative_to(instruction("VOLUME"))
    assert instruction("COPY deploy/config.yml") == json.loads(instruction("CMD"))[1]
    assert str(loaded.auth.htpasswd.path) in instruction("RUN")
    assert all(str(directory) in instruction("RUN") for directory in loaded.packs.directories)


@pytest.mark.parametrize("name", ["ENTRYPOINT", "CMD", "HEALTHCHECK"])
def test_nothing_that_runs_needs_a_shell(name: str) -> None:
    assert all(
        isinstance(word, str) for word in json.loads(instruction(name).partition("CMD ")[2] or instruction(name))
    )


def test_it_does_not_run_as_root_and_says_how_it_is_stopped() -> None:
    user, group = instruction("USER").split(":")
    assert int(user) > 0
    assert group == "0"
    assert instruction("STOPSIGNAL") == "SIGTERM"


def test_the_health_check_has_more_time_than_it_takes() -> None:
    found = re.search(r"--timeout=(\d+)s", instruction("HEALTHCHECK"))
    assert found
    assert int(found[1]) > health.SECONDS


def test_the_scripts_that_the_image_starts_are_those_of_the_package() -> None:
    scripts = toml("pyproject.toml")["project"]["scripts"]
    words = [
        *json.loads(instruction("ENTRYPOINT"))[:1],
        *json.loads(instruction("HEALTHCHECK").partition("CMD ")[2])[:1],
    ]
    assert {Path(word).name for word in words} <= set(scripts)
    assert scripts["packregistry-entrypoint"] == f"{entrypoint.__name__}:{entrypoint.main.__name__}"


def test_all_that_is_copied_is_sent_to_the_build() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        word for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE) for word in line.split()[:-1]
    }
    assert copied == sent


# The lock file


def locked() -> dict[str, dict[str, Any]]:
    return {package["name"]: package for package in toml("uv.lock")["package"]}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_dependency_is_locked_at_a_version_it_allows() -> None:
    """`uv lock` brings uv.lock up to date with pyproject.toml."""
    found = locked()
    needed = [Requirement(line) for line in toml("pyproject.toml")["project"]["dependencies"]]
    own = {entry["name"] for entry in found["packregistry"]["dependencies"]}
    assert own == {normal(requirement.name) for requirement in needed}
    for requirement in needed:
        assert requirement.specifier.contains(found[normal(requirement.name)]["version"]), requirement


def test_what_builds_the_wheel_is_pinned() -> None:
    project = toml("pyproject.toml")
    pins = {
        normal(found.name): found for found in map(Requirement, project["tool"]["uv"]["build-constraint-dependencies"])
    }
    for requirement in map(Requirement, project["build-system"]["requires"]):
        (pin,) = pins[normal(requirement.name)].specifier
        assert pin.operator == "=="
        assert requirement.specifier.contains(pin.version)
    recorded = {found["name"]: found["specifier"] for found in toml("uv.lock")["manifest"]["build-constraints"]}
    assert recorded == {name: str(found.specifier) for name, found in pins.items()}


def test_the_lock_names_the_ordinary_index_and_a_hash_for_each_file() -> None:
    packages = [package for name, package in locked().items() if name != "packregistry"]
    assert {package["source"]["registry"] for package in packages} == {PyPI.simple_url}
    files = [
        file for package in packages for file in [*package.get("wheels", []), *filter(None, [package.get("sdist")])]
    ]
    assert {file["url"].split("/")[2] for file in files} == {PyPI.file_storage_domain}
    assert all(file["hash"].startswith("sha256:") for file in files)


# The entry point


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("serve /etc/spectro/config.yml", "serve /etc/spectro/config.yml"),
        ("registry serve /etc/spectro/config.yml", "serve /etc/spectro/config.yml"),
        ("/registry serve /etc/spectro/config.yml", "serve /etc/spectro/config.yml"),
        ("/registry --version", "--version"),
        ("registry login localhost:5000", "registry login localhost:5000"),
        ("user add registry", "user add registry"),
        ("registry", "registry"),
        ("", ""),
    ],
)
def test_the_legacy_names_in_front_of_serve_are_left_out(given: str, meant: str) -> None:
    assert entrypoint.arguments(given.split()) == meant.split()


def test_the_entry_point_runs_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(sys, "argv", ["/registry", "/registry", "--help"])
    monkeypatch.setenv("TMPDIR", "kept")
    try:
        with pytest.raises(SystemExit) as caught:
            entrypoint.main()
        assert callable(signal.getsignal(signal.SIGTERM))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("Usage: packregistry ")
    assert os.environ["TMPDIR"] == "kept"


def test_temporary_files_go_to_the_first_place_that_can_be_written(tmp_path: Path) -> None:
    places = (tmp_path / "is-not-there", tmp_path, Path("/"))
    environ: dict[str, str] = {}
    entrypoint.scratch(environ, places)
    assert environ == {"TMPDIR": str(tmp_path)}
    entrypoint.scratch(environ, places[::-1])
    assert environ == {"TMPDIR": str(tmp_path)}


def test_where_nothing_can_be_written_nothing_is_said(tmp_path: Path) -> None:
    environ: dict[str, str] = {}
    entrypoint.scratch(environ, (tmp_path / "is-not-there",))
    assert environ == {}
