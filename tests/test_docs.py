"""What the guides say is true: every command in them is run here, or looked up where it cannot be."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bcrypt
import click
import pytest
import yaml

from packregistry import config
from packregistry.auth import policyfile
from packregistry.cli import main
from packregistry.config import legacy
from packregistry.credentials import Credentials
from packregistry.metrics import Metrics
from tests.docs import GUIDES, MARKERS, README, ROOT, Block, GuideError, Session, blocks_of, exchanges, marked, matches
from tests.factories import make_pack
from tests.process import serving

DOCS = ROOT / "docs"
ALL = [block for guide in GUIDES for block in blocks_of(guide)]
PASSWORD = "a very good one"
IMAGE = "packregistry:0.1.0"

# README is shown where comments may be seen, so it has no markers; its blocks are told by how they begin.
README_MARKERS = {
    "$ make serve            # serve ./packs": "tested: .ci/fresh-clone",
    "docker build -t packregistry .": "needs: docker",
    "packregistry registry login registry.example:5000 --default": "example",
    "packregistry user add admin --file users": "example",
}


def known(block: Block) -> Block:
    """The block with its marker, also where that is in this file."""
    found = [marker for start, marker in README_MARKERS.items() if block.text.startswith(start)]
    return marked(block, f"<!-- {found[0]} -->") if found and block.guide == README else block


BLOCKS = [known(block) for block in ALL if not known(block).is_plain]


def having(*markers: str, language: str = "") -> list[Block]:
    return [block for block in BLOCKS if block.marker in markers and language in {"", block.language}]


def each(blocks: list[Block]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("block", blocks, ids=map(str, blocks))


def commands(text: str) -> list[list[str]]:
    """The commands of a script, as words; those in `$(…)` and after a pipe are not looked at."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        words = shlex.split(line.removeprefix("$ "), comments=True)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0], re.DOTALL):
            words = words[1:]
        found.append(words)
    return found


@each(BLOCKS)
def test_each_block_is_run_or_loaded_or_says_why_not(block: Block) -> None:
    """Otherwise mark it: the line before the block is an HTML comment with one of `tests.docs.MARKERS`."""
    loaded = block.language in {"yaml", "caddy"} or block.marker
    assert block.is_run or loaded, f"{block}: nothing is known of a block in {block.language!r}: mark it"


def test_each_marker_is_used_and_each_exception_is_there() -> None:
    assert set(MARKERS) == {block.marker for block in BLOCKS if block.marker}
    readme = [block.text for block in ALL if block.guide == README]
    assert all(any(text.startswith(start) for text in readme) for start in README_MARKERS)


# What is not run is looked up.


@each(
    [block for block in BLOCKS if block.language in {"sh", "console"} and block.marker not in {"needs: docker", "file"}]
)
def test_commands_and_options_of_packregistry_exist(block: Block) -> None:
    text = block.text
    if block.language == "console":
        text = "\n".join(command for command, _ in exchanges(block.text))
    lines = re.findall(r"\bpackregistry [a-z].*", text.replace("\\\n", " "))
    commands = [shlex.split(re.split(r" [|<>#]|\)|;|&&", line)[0])[1:] for line in lines]
    assert [problem for words in commands if (problem := problem_of(words))] == [], block


def problem_of(words: list[str]) -> str:
    """What the command line's own parser has against words, without doing anything; empty where it has nothing."""
    command: click.Command = main
    context = click.Context(main, info_name="packregistry")
    while isinstance(command, click.Group):
        found = command.get_command(context, words[0]) if words else None
        if found is None:
            return f"{words[:1]} is no command of {context.command_path}"
        context, command, words = click.Context(found, parent=context, info_name=words[0]), found, words[1:]
    try:
        command.make_parser(context).parse_args(list(words))
    except click.UsageError as error:
        return f"{words}: {error.format_message()}"
    return ""


@pytest.mark.parametrize("words", ["pack pusch x", "pack push --forse x", "serve --port 1"], ids=str)
def test_what_is_no_command_or_option_is_found(words: str) -> None:
    assert re.search(r"no command|[Nn]o such option", problem_of(words.split()))


@each([block for block in BLOCKS if block.language == "yaml" and block.marker in {"", "file"}])
def test_configurations_are_loaded_without_a_warning(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_text(block.text)
    assert config.load(path, {}, {}).warnings == ()


@each(having("policy"))
def test_policies_are_loaded(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "policy.yml"
    path.write_text(block.text)
    rules, warnings = policyfile.read_rules(path)
    assert rules
    assert warnings == ()


@each(having("needs: traefik", "needs: prometheus"))
def test_yaml_for_other_programs_is_yaml(block: Block) -> None:
    assert isinstance(yaml.safe_load(block.text), dict)


@each(having("needs: prometheus"))
def test_metrics_in_alerts_exist(block: Block) -> None:
    there = set(re.findall(r"^(packregistry_\w+)", Metrics().text()[0].decode(), re.MULTILINE))
    asked = set(re.findall(r"\bpackregistry_\w+", block.text))
    assert asked
    assert asked <= there


@each(having("tested"))
def test_what_another_test_is_said_to_run_is_there(block: Block) -> None:
    assert block.guide.stem in (ROOT / block.argument).read_text()


@pytest.mark.real
@pytest.mark.skipif(shutil.which("caddy") is None, reason="caddy is not installed")
@each([block for block in BLOCKS if block.language == "caddy"])
def test_caddy_understands_its_configuration(block: Block, tmp_path: Path) -> None:
    (tmp_path / "Caddyfile").write_text(block.text)
    command = ["caddy", "adapt", "--adapter", "caddyfile", "--config", str(tmp_path / "Caddyfile")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr


# Containers: what is mounted, published and set is what the image has.

_VALUED = {
    "-p",
    "-v",
    "-e",
    "--name",
    "--restart",
    "--mount",
    "--user",
    "--stop-timeout",
    "--log-opt",
    "--cap-drop",
    "--security-opt",
}
_SWITCHES = {"-d", "--rm", "--read-only"}
_PLACES = ("/data", "/packs", "/auth", "/certs", "/etc/spectro", "/srv/packregistry")


def container_problems(words: list[str]) -> list[str]:
    """What in the words of a `docker run` does not fit the image."""
    options: list[tuple[str, str]] = []
    rest = words[2:]
    while rest and rest[0].startswith("-"):
        name, equals, value = rest[0].partition("=")
        valued = name in _VALUED and not equals
        options.append((name, rest[1] if valued else value))
        rest = rest[2:] if valued else rest[1:]
    problems = [f"{name} is not known here" for name, _ in options if name not in _VALUED | _SWITCHES]
    problems += [
        f"{value} is not port 5000" for name, value in options if name == "-p" and value.split(":")[-1] != "5000"
    ]
    targets = [re.sub(r":ro$", "", value).rpartition(":")[2] for name, value in options if name == "-v"]
    targets += [re.findall(r"target=([^,]+)", value)[0] for name, value in options if name == "--mount"]
    problems += [f"{target} is no place of the image" for target in targets if target not in _PLACES]
    variables = dict(value.split("=", 1) for name, value in options if name == "-e")
    try:
        # Without a path of its own, the image serves with the file that is in it.
        file = None if rest[1:2] == ["serve"] else ROOT / "deploy" / "config.yml"
        problems += config.load(file, variables, {}).warnings
    except config.ConfigError as error:
        problems.append(str(error))
    if not rest or rest[0].split(":")[0] != "packregistry":
        problems.append(f"{rest[:1]} is not the image")
    elif rest[1:2] == ["serve"]:
        mounted = [target for target in targets if rest[2].startswith(f"{target}/")]
        problems += [] if mounted else [f"{rest[2]} is not mounted"]
    return problems


@each(having("needs: docker"))
def test_what_containers_are_started_with_fits_the_image(block: Block) -> None:
    every = commands(block.text)
    assert all(words[:1] == ["docker"] for words in every), every
    verbs = {"build", "run", "logs", "save", "load", "kill", "stop", "rm", "exec"}
    assert {words[1] for words in every} <= verbs
    for words in every:
        assert words[1] != "run" or container_problems(words) == [], block


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("docker run -p 80:500 packregistry", id="port"),
        pytest.param("docker run -v x:/dat packregistry", id="place"),
        pytest.param("docker run -e REGISTRY_HTTP_ADR=x packregistry", id="variable"),
        pytest.param("docker run --detatch packregistry", id="option"),
        pytest.param("docker run -d registry:2", id="image"),
        pytest.param("docker run packregistry serve /etc/other/config.yml", id="configuration"),
    ],
)
def test_what_does_not_fit_the_image_is_found(line: str) -> None:
    assert container_problems(shlex.split(line))


def test_the_image_has_the_port_and_the_places_that_guides_use() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert re.search(r"^EXPOSE 5000$", dockerfile, re.MULTILINE)
    for place in ("/data", "/packs", "/etc/spectro/config.yml"):
        assert place in dockerfile


@pytest.mark.parametrize("key", [*legacy.UNSUPPORTED, *legacy.IGNORED])
def test_what_does_not_work_as_with_the_old_server_is_said(key: str) -> None:
    """A whole key, or the last word of it in a row about its section, or a section that it is in."""
    guide = (DOCS / "migrating.md").read_text()
    names = {key, key.rpartition(".")[2], ".".join(key.split(".")[:2])}
    assert any(f"`{name}`" in guide for name in names)


# Links.


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.name)
def test_links_lead_to_files_and_headings_that_are_there(guide: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", guide.read_text()):
        path, _, anchor = target.partition("#")
        found = (guide.parent / path) if path else guide
        assert found.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", found.read_text(), re.MULTILINE)
            assert anchor in {anchor_of(heading) for heading in headings}, target


def anchor_of(heading: str) -> str:
    """What GitHub calls a heading in a URL."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


# The reader of the guides.


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        pytest.param("a\nb\n", "a\nb\n", True, id="equal"),
        pytest.param("a\n", "a\nb\n", False, id="more is printed"),
        pytest.param("a\nb\n", "a\n", False, id="less is printed"),
        pytest.param("a … c\n", "a b c\n", True, id="any text"),
        pytest.param("a … c\n", "a b\nc\n", False, id="any text is in one line"),
        pytest.param("a\n…\nd\n", "a\nb\nc\nd\n", True, id="any lines"),
        pytest.param("a\n…\n", "a\n", True, id="no line"),
        pytest.param("a.c\n", "abc\n", False, id="nothing else is a pattern"),
    ],
)
def test_output_is_compared(expected: str, printed: str, same: bool) -> None:
    assert matches(expected, printed) is same


def guide_of(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "guide.md"
    path.write_text(text)
    return path


def test_an_unknown_marker_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GuideError, match=r"guide\.md:2: 'needs: luck' is no marker"):
        blocks_of(guide_of(tmp_path, "<!-- needs: luck -->\n```sh\ntrue\n```\n"))


def test_a_block_without_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GuideError, match=r"guide\.md:1: the block does not end"):
        blocks_of(guide_of(tmp_path, "```sh\ntrue\n"))


def test_a_block_knows_its_heading_and_its_marker(tmp_path: Path) -> None:
    (block,) = blocks_of(guide_of(tmp_path, "# One\n\n<!-- file: x.yml -->\n```yaml\na: 1\n```\n"))
    assert (block.heading, block.marker, block.argument, block.text) == ("One", "file", "x.yml", "a: 1\n")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("```sh\nfalse\n```\n", id="a command that fails"),
        pytest.param("```sh\nfalse | true\n```\n", id="a command in a pipe that fails"),
        pytest.param("```console\n$ echo a\nb\n```\n", id="other output"),
        pytest.param("```console\n$ echo a\n```\n", id="output that is not shown"),
        pytest.param("```console\n$ false\n```\n", id="a command with output that fails"),
    ],
)
def test_a_guide_that_is_wrong_is_found(text: str, tmp_path: Path) -> None:
    with Session(tmp_path / "session") as session, pytest.raises(GuideError, match=r"guide\.md:1: "):
        session.play(blocks_of(guide_of(tmp_path, text)))


def test_blocks_share_variables_and_their_directory_and_see_the_names_of_this_machine(tmp_path: Path) -> None:
    text = (
        "```sh\nA='b c'\nmkdir here && cd here\n```\n"
        "<!-- file: /srv/packregistry/x -->\n```ini\nregistry.example:5000\n```\n"
        '```console\n$ echo "$A" && basename "$PWD"\nb c\nhere\n$ cat /srv/packregistry/x\nregistry.example:5000\n```\n'
    )
    with Session(tmp_path / "session") as session:
        session.play(blocks_of(guide_of(tmp_path, text)))
        assert (session.root / "srv/packregistry/x").read_text() == f"localhost:{session.address.partition(':')[2]}\n"


# The guides, each from its beginning to its end.


def play(guide: str, session: Session) -> None:
    session.play([known(block) for block in blocks_of(ROOT / guide)])


def prepare(session: Session) -> None:
    """What the quickstart makes: users, a certificate and a configuration, in what is then the current directory."""
    session.play([block for block in blocks_of(DOCS / "quickstart.md") if block.heading[:1] in {"2", "3", "4"}])
    trusted = session.root / "etc/spectro/certs.d" / session.here("registry.example:5000")
    trusted.mkdir(parents=True)
    shutil.copy(session.root / "srv/packregistry/ca.crt", trusted)


def log_in(session: Session) -> None:
    """As somebody who has logged in as admin."""
    code, printed = session.run(
        "PACKREGISTRY_SERVER=registry.example:5000 PACKREGISTRY_USERNAME=admin "
        'PACKREGISTRY_PASSWORD="$(cat /srv/packregistry/admin.password)"'
    )
    assert code == 0, printed


@pytest.mark.process
@pytest.mark.real
@pytest.mark.thorough
def test_quickstart(tmp_path: Path) -> None:
    with Session(tmp_path) as session:
        shutil.copytree(ROOT / "packs/status-page-1.1.0", session.home / "status-page-1.1.0")
        play("docs/quickstart.md", session)


@contextmanager
def old_registry(directory: Path) -> Iterator[str]:
    """A registry as somebody has it already, as `host:port`: two packs, with a group and a tag of their own making."""
    make_pack(directory / "packs", "hello", "1.0.0")
    make_pack(directory / "packs", "hello", "1.1.0")
    make_pack(directory / "packs", "linux", "24.4.1", group="lts", layer="os")
    (directory / "users").write_text(f"admin:{bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()}\n")
    users = {"REGISTRY_AUTH": "htpasswd", "REGISTRY_AUTH_HTPASSWD_PATH": "users", "REGISTRY_PACKS_SETTLE": "0s"}
    who = {"Authorization": Credentials("admin", PASSWORD).authorization}
    with serving(cwd=directory, **users) as server:
        stable = server.get("/api/v1/packs/hello/tags/stable", who, "PUT", b'{"version": "1.1.0"}')
        assert stable.status in {200, 201}
        yield server.url.removeprefix("http://")
        code, output, _ = server.stop()
    assert code == 0
    asked = [line for line in output.splitlines() if " access " in line and "PUT" not in line]
    assert asked
    assert not [line for line in asked if " /api/" in line], "the old server speaks /v1 alone"


@pytest.mark.process
@pytest.mark.real
@pytest.mark.thorough
@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_migrating(tmp_path: Path) -> None:
    with old_registry(tmp_path / "old") as old, Session(tmp_path / "new", old=old) as session:
        prepare(session)
        (session.work / "old.password").write_text(PASSWORD)
        (session.root / "srv/packregistry/old.password").write_text(PASSWORD)
        make_pack(session.home / "packs", "hello", "1.0.0")
        play("docs/migrating.md", session)
        code, tags = session.run('packregistry pack show hello -r registry.example:5000 | grep "^1.1.0"')
        assert code == 0
        assert "1.1.0, stable" not in tags
        assert "stable" in tags
        assert "1.1.x" in tags
        # What cannot be pulled ends the script, and is not noted as done.
        code, _ = session.run("WORK=again PULL=false bash copy-packs.sh old.example:5000 registry.example:5000")
        assert code
        assert session.run("cat again/done") == (0, "")


@pytest.mark.process
@pytest.mark.real
@pytest.mark.thorough
def test_operations(tmp_path: Path) -> None:
    with Session(tmp_path) as session:
        shutil.copytree(ROOT / "packs/status-page-1.1.0", session.home / "status-page-1.1.0")
        prepare(session)
        log_in(session)
        play("docs/operations.md", session)


@pytest.mark.process
@pytest.mark.real
@pytest.mark.thorough
def test_troubleshooting(tmp_path: Path) -> None:
    with Session(tmp_path) as session:
        shutil.copytree(ROOT / "packs/status-page-1.1.0", session.home / "status-page-1.1.0")
        prepare(session)
        session.play([block for block in blocks_of(DOCS / "quickstart.md") if block.heading[:1] == "5"])
        log_in(session)
        play("docs/troubleshooting.md", session)


@pytest.mark.process
@pytest.mark.real
@pytest.mark.thorough
def test_readme(tmp_path: Path) -> None:
    with Session(tmp_path) as session:
        shutil.copytree(ROOT / "packs", session.work / "packs")
        (session.root / "srv/packs").mkdir()
        (session.root / "etc/spectro").mkdir()
        settings = "auth: none\nstorage:\n  filesystem:\n    rootdirectory: /srv/data\n"
        (session.root / "etc/spectro/config.yml").write_text(session.here(settings))
        play("README.md", session)
