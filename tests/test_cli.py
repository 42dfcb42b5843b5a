"""The command line as a whole: help, completion, and how quickly it starts."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.shell_completion import BashComplete

from packregistry import __version__
from packregistry.cli import main
from tests.cli import cli, document


def commands(group: click.Command = main, *path: str) -> Iterator[tuple[str, ...]]:
    """Every command, as it is typed."""
    context = click.Context(group)
    yield path
    if isinstance(group, click.Group):
        for name in group.list_commands(context):
            found = group.get_command(context, name)
            assert found is not None
            yield from commands(found, *path, name)


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
def test_every_command_has_help_with_an_example(path: tuple[str, ...]) -> None:
    done = cli(*path, "--help")
    assert done.exit_code == 0
    assert " ".join(["packregistry", *path]) in done.stdout.partition("\n")[2]
    serverside = {"serve", "gc", "completion", "user", "config", "health"}
    assert "-s, --home DIR" in done.stdout or path[0] in serverside


@pytest.mark.parametrize("path", [path for path in commands() if len(path) > 1], ids=" ".join)
def test_the_line_in_the_list_is_there(path: tuple[str, ...]) -> None:
    assert path[-1] in cli(*path[:-1], "--help").stdout


def test_exit_codes_are_documented() -> None:
    text = " ".join(cli("--help").stdout.split())
    assert "Exit codes: 0 done, 1 refused or failed, 2 wrong usage" in text
    assert "completion bash" in text


@pytest.mark.parametrize(
    ("args", "near"),
    [(["pak"], "pack"), (["pack", "psuh"], "push"), (["pack", "tag", "remove"], "")],
    ids=["command", "pack", "tag"],
)
def test_a_command_that_is_not_there_is_a_usage_error_with_the_nearest_one(args: list[str], near: str) -> None:
    done = cli(*args)
    assert done.exit_code == 2
    assert f"Did you mean '{near}'?" in done.stderr or not near


def test_the_version_is_printed() -> None:
    assert cli("version").stdout.startswith(f"packregistry {__version__} ")
    assert document(cli("version", "-o", "json"))["version"] == __version__
    assert cli("--version").stdout == f"packregistry {__version__}\n"


@pytest.mark.parametrize("args", [["version"], ["--help"], ["pack", "--help"], ["completion", "bash"]], ids=" ".join)
def test_starting_imports_neither_the_client_nor_the_server(args: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "packregistry", *args], capture_output=True, text=True, check=True
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "packregistry.cli" in imported
    unwanted = {"aiohttp", "uvloop", "rich", "jsonschema", "yaml", "packregistry.server", "packregistry.client"}
    assert not imported & unwanted


@pytest.mark.parametrize(
    ("words", "incomplete", "expected"),
    [
        ([], "pa", ["pack"]),
        (["pack"], "pu", ["push", "pull"]),
        (["pack", "tag"], "", ["add", "delete"]),
        (["pack", "push"], "--fo", ["--force"]),
        (["pack", "lint", "--output"], "s", ["sarif"]),
        (["pack"], "--ho", ["--home"]),
    ],
    ids=str,
)
def test_commands_and_options_are_completed(words: list[str], incomplete: str, expected: list[str]) -> None:
    completion = BashComplete(main, {}, "packregistry", "_PACKREGISTRY_COMPLETE")
    assert [item.value for item in completion.get_completions(words, incomplete)] == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_is_for_the_program(shell: str) -> None:
    done = cli("completion", shell)
    assert done.exit_code == 0
    assert f"_PACKREGISTRY_COMPLETE={shell}_complete" in done.stdout


def test_a_table_names_commands_that_are_there() -> None:
    for group in (main, importlib.import_module("packregistry.cli.pack").command):
        assert isinstance(group, click.Group)
        assert group.get_command(click.Context(group), "nope") is None
