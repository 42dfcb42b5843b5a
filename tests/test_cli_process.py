"""The installed command against a server process with users: the whole corpus in, listed, out, and compared."""

from __future__ import annotations

import base64
import json
import sysconfig
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import CompletedProcess, run
from typing import Any

import bcrypt
import pytest

from packregistry.config import Limits
from packregistry.directory import look
from tests.factories import CORPUS, make_pack
from tests.process import DEADLINE, Server, environment, serving

pytestmark = [pytest.mark.process, pytest.mark.thorough]

COMMAND = Path(sysconfig.get_path("scripts")) / "packregistry"
PASSWORD = "pass:word"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    users = tmp_path / "users"
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    users.write_text(f"admin:{hashed}\nreader:{hashed}\n")
    settings = {"REGISTRY_AUTH": "htpasswd", "REGISTRY_AUTH_HTPASSWD_PATH": str(users)}
    with serving("--data", str(tmp_path / "data"), cwd=tmp_path, **settings) as running:
        yield running


def command(home: Path, *args: object, stdin: str = "") -> CompletedProcess[str]:
    words = [str(COMMAND), "-s", str(home), *map(str, args)]
    return run(
        words, input=stdin, capture_output=True, text=True, timeout=DEADLINE, env=environment(), check=False
    )  # fmt: skip


def log_in(home: Path, server: Server, user: str = "admin") -> str:
    """Log in with the name alone, as the vendor's documentation does; return that name."""
    name = server.url.removeprefix("http://")
    done = command(
        home, "registry", "login", name, "--default", "--username", user, "--password-stdin", stdin=PASSWORD
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "Login Succeeded\n"), done.stderr
    return name


def files(root: Path) -> dict[str, tuple[bytes, bool]]:
    """The files of a pack directory as they would be packed, and whether they are executable."""
    tree = look(root, Limits())
    assert tree.problems == ()
    return {file.path: (b"".join(file.chunks()), file.executable) for file in tree.files}


def each(home: Path, calls: list[list[object]]) -> list[CompletedProcess[str]]:
    """Run the installed command once for each list of arguments, a few at a time."""
    with ThreadPoolExecutor(3) as threads:
        return list(threads.map(lambda args: command(home, *args), calls))


@pytest.mark.corpus
@pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus is not there")
def test_the_corpus_goes_in_with_one_command_and_comes_out_as_it_was(server: Server, tmp_path: Path) -> None:
    home, sources = tmp_path / "home", sorted(CORPUS.iterdir())
    log_in(home, server)
    done = command(home, "pack", "push", "-o", "json", *sources)
    results = json.loads(done.stdout)["results"]
    assert (done.returncode, done.stderr) == (0, "")
    assert {one["action"] for one in results} == {"created"}
    again = command(home, "pack", "push", *sources)
    assert again.returncode == 0
    assert again.stdout.count(" unchanged ") == len(sources)
    listed = json.loads(command(home, "pack", "ls", "-o", "json").stdout)["packs"]
    assert sorted(pack["name"] for pack in listed) == sorted({one["release"]["name"] for one in results})
    packs = [(one["release"]["name"], one["release"]["tag"]) for one in results]
    log_in(tmp_path / "reader", server, "reader")
    pulls = each(tmp_path / "reader", [["pack", "pull", f"{name}:{tag}", tmp_path / "out"] for name, tag in packs])
    assert [done.stderr for done in pulls if done.returncode] == []
    for source, (name, tag) in zip(sources, packs, strict=True):
        assert files(tmp_path / "out" / f"{name}-{tag}") == files(source)


@pytest.mark.corpus
@pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus is not there")
def test_the_vendors_loop_publishes_every_pack_and_then_refuses_what_has_not_changed(
    server: Server, tmp_path: Path
) -> None:
    home, sources = tmp_path / "home", sorted(CORPUS.iterdir())
    name = log_in(home, server)
    loop = ["pack", "push", "-m", "update", "--registry-server", name, "--force"]
    first = each(home, [[*loop, source] for source in sources])
    assert [done.stderr for done in first if done.returncode] == []
    second = each(home, [[*loop, source] for source in sources])
    assert {done.returncode for done in second} == {1}
    assert all("--skip-digest-check" in done.stderr for done in second)
    assert all(len(pack["versions"]) > 0 for pack in overviews(server))
    assert {entry["action"] for pack in overviews(server) for entry in pack["history"]} == {"publish"}


def overviews(server: Server) -> list[dict[str, Any]]:
    """Every pack of the server, as its JSON API shows it."""
    reader = {"Authorization": "Basic " + base64.b64encode(f"reader:{PASSWORD}".encode()).decode()}
    names = server.get("/v1/_catalog", reader).json()["repositories"]
    return [server.get(f"/api/v1/packs/{name}", reader).json() for name in names]


def test_the_vendors_loop_behaves_as_documented(server: Server, tmp_path: Path) -> None:
    """`--force` publishes what is new, and refuses what has not changed unless the check is skipped."""
    home, root = tmp_path / "home", make_pack(tmp_path / "packs")
    name = log_in(home, server)
    loop = ["pack", "push", "-m", "update", "--registry-server", name, "--force"]
    assert command(home, *loop, root).stdout.startswith("created hello:1.0.0 sha256:")
    unchanged = command(home, *loop, root)
    assert unchanged.returncode == 1
    assert "--skip-digest-check" in unchanged.stderr
    assert command(home, *loop, "--skip-digest-check", root).returncode == 0
    (root / "README.md").write_text("# Changed\n")
    conflict = command(home, "pack", "push", root)
    assert conflict.returncode == 1
    assert conflict.stderr.count("sha256:") >= 2
    assert command(home, *loop, root).stdout.startswith("replaced hello:1.0.0 sha256:")
    restored = command(home, "pack", "rollback", "hello", "-m", "as it was")
    assert restored.stdout.startswith("restored hello:1.0.0 sha256:")
    shown = command(home, "pack", "show", "hello").stdout
    assert shown.count(" replace ") >= 1
    assert "as it was" in shown


def test_tags_are_added_and_deleted_and_readers_may_not(server: Server, tmp_path: Path) -> None:
    home = tmp_path / "home"
    log_in(home, server)
    command(home, "pack", "push", make_pack(tmp_path / "packs"))
    assert command(home, "pack", "tag", "add", "hello:1.0.0", "stable", "-g", "lts").returncode == 0
    assert "lts__stable" in command(home, "pack", "ls", "-n", "hello").stdout
    assert command(home, "pack", "tag", "delete", "hello:1.x").returncode == 1
    log_in(tmp_path / "reader", server, "reader")
    refused = command(tmp_path / "reader", "pack", "tag", "delete", "hello:1.0.0")
    assert refused.returncode == 4
    assert command(home, "pack", "tag", "delete", "hello:lts__stable").returncode == 0
    assert "is deleted too" in command(home, "pack", "tag", "delete", "hello:1.0.0").stdout
    assert json.loads(command(home, "pack", "ls", "-o", "json").stdout)["packs"] == []
