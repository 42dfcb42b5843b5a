"""`packregistry pack`: what is sent, what is printed, and with what exit code it ends."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from packregistry.cli import output, progress
from packregistry.cli import push as push_module
from packregistry.client.download import partial_path
from packregistry.model import Digest
from tests.cli import cli, document
from tests.factories import make_pack, noise
from tests.standin import Asked, Reply, StandIn, in_thread, listening
from tests.test_scaffold import make_chart
from tests.test_unpack import packed, tree
from tests.web import Site, serving

PUSH = ("POST", "/api/v1/packs")


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with in_thread(listening()) as running:
        running.on("GET", "/v1/", Reply())
        running.on(*PUSH, publish)
        yield running


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    root = tmp_path_factory.mktemp("site")
    make_pack(
        root / "packs", "hello", "1.0.0", files={"values.yaml": b"pack:\n  content:\n    images:\n    - image: a:1\n"}
    )
    make_pack(root / "packs", "hello", "1.1.0", layer="k8s", cloudTypes=["aws", "gcp"])
    make_pack(root / "packs", "other", "2.0", group="lts")
    with in_thread(serving(root / "data", root / "packs")) as running:
        yield running


def at(site: Site) -> str:
    return f"http://{site.address[0]}:{site.address[1]}"


def packs_of(site: Site) -> Path:
    return Path(site.registry.packs()[0].latest.origin.directory).parent


def publish(asked: Asked) -> Reply:
    """Take whatever comes, as created."""
    release = {"name": "hello", "tag": "1.0.0", "archive": {"digest": Digest.of(asked.body), "size": len(asked.body)}}
    return Reply.of({"action": "created", "release": release}, 201)


def push(standin: StandIn, *args: object, **more: Any) -> Any:
    return cli("pack", "push", "-r", standin.url, *args, **more)


# Push


def test_a_directory_is_sent_as_the_archive_a_watched_one_would_be(standin: StandIn, tmp_path: Path) -> None:
    root = make_pack(tmp_path, files={"charts/x": b"1"})
    done = push(standin, root, home=tmp_path)
    (asked,) = standin.asked_for(*PUSH)
    assert asked.body == packed(tree(root)).getvalue()
    assert asked.query == {}
    assert (done.exit_code, done.stdout) == (0, f"created hello:1.0.0 {Digest.of(asked.body)}\n")
    assert done.stderr == ""


def test_an_archive_is_sent_as_it_is(standin: StandIn, tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(noise(1000))
    assert push(standin, tmp_path / "a.tar.gz", home=tmp_path).exit_code == 0
    assert standin.asked[-1].body == noise(1000)


def test_force_and_what_goes_with_it_are_passed_on(standin: StandIn, tmp_path: Path) -> None:
    """As the vendor's scripts call it: options before the directory."""
    root = make_pack(tmp_path)
    args = ["pack", "push", "-m", "why", "--registry-server", standin.url, "--force", "--skip-digest-check", root]
    assert cli(*args, home=tmp_path).exit_code == 0
    assert standin.asked[-1].query == {"force": "true", "message": "why", "skipDigestCheck": "true"}


@pytest.mark.parametrize("message", [[], ["-m", " "]], ids=["none", "blank"])
def test_force_without_a_message_is_a_usage_error(standin: StandIn, tmp_path: Path, message: list[str]) -> None:
    done = push(standin, "--force", *message, make_pack(tmp_path), home=tmp_path)
    assert done.exit_code == 2
    assert "--message" in done.stderr
    assert standin.asked == []


def test_a_pack_with_errors_is_not_sent_and_every_problem_listed(standin: StandIn, tmp_path: Path) -> None:
    root = make_pack(tmp_path, layer="top", files={"logo.png": b"no"})
    done = push(standin, root, home=tmp_path)
    assert done.exit_code == 1
    assert standin.asked_for(*PUSH) == []
    lint = cli("pack", "lint", root)
    problems = [line for line in lint.stdout.splitlines() if line.startswith("  ")]
    assert len(problems) == 2
    assert [line for line in done.stderr.splitlines() if line.startswith("  ")] == problems


def test_the_servers_problems_are_listed_the_same(standin: StandIn, tmp_path: Path) -> None:
    detail = [{"severity": "error", "file": "a", "line": 3, "field": "b.c", "message": "bad\x1b", "remedy": "mend it"}]
    standin.on(*PUSH, Reply.error(422, "PACK_INVALID", "the pack cannot be published: a: bad", detail))
    done = push(standin, make_pack(tmp_path), home=tmp_path)
    assert done.exit_code == 1
    assert "  error: a:3: b.c: bad\ufffd (mend it)\n" in done.stderr


def test_a_conflict_names_both_digests_and_how_to_replace(standin: StandIn, tmp_path: Path) -> None:
    detail = {"name": "hello", "tag": "1.0.0", "existing": "sha256:aa", "offered": "sha256:bb"}
    standin.on(*PUSH, Reply.error(409, "RELEASE_CONFLICT", "hello:1.0.0 exists with other content", detail))
    done = push(standin, make_pack(tmp_path), home=tmp_path)
    assert done.exit_code == 1
    assert all(part in done.stderr for part in ("sha256:aa", "sha256:bb", "--force -m"))


@pytest.mark.parametrize(
    ("reply", "code", "advice"),
    [
        (Reply.error(409, "DIGEST_UNCHANGED"), 1, "--skip-digest-check"),
        (Reply.error(403, "DENIED"), 4, "may write"),
        (Reply.error(401, "UNAUTHORIZED"), 4, "registry login"),
        (Reply.error(507, "STORAGE_FULL", "no space is left"), 1, "no space is left"),
        (Reply(502, b"<html>"), 3, "502"),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else "",
)
def test_a_refusal_says_what_to_do_and_sets_the_exit_code(
    standin: StandIn, tmp_path: Path, reply: Reply, code: int, advice: str
) -> None:
    standin.on(*PUSH, reply)
    done = push(standin, make_pack(tmp_path), home=tmp_path)
    assert done.exit_code == code
    assert advice in done.stderr


def test_nobody_there_is_told_before_anything_is_packed(tmp_path: Path) -> None:
    done = cli("pack", "push", "-r", "127.0.0.1:1", make_pack(tmp_path, layer="top"), home=tmp_path)
    assert done.exit_code == 3
    assert "127.0.0.1:1 cannot be reached" in done.stderr


def test_several_packs_end_with_a_table_and_the_worst_exit_code(standin: StandIn, tmp_path: Path) -> None:
    good, bad = make_pack(tmp_path), make_pack(tmp_path, "bad", layer="top")
    done = push(standin, good, bad, good, home=tmp_path)
    assert done.exit_code == 1
    lines = [re.split(r"  +", line) for line in done.stdout.splitlines()]
    assert lines[0] == ["PACK", "RESULT", "SIZE", "DIGEST"]
    assert [line[:2] for line in lines[1:4]] == [
        ["hello:1.0.0", "created"],
        ["bad:1.0.0", "failed"],
        ["hello:1.0.0", "created"],
    ]
    assert lines[4] == ["2 packs pushed, 1 failed"]
    assert "bad:1.0.0: " in done.stderr


def test_results_as_json_are_one_document_in_the_order_given(standin: StandIn, tmp_path: Path) -> None:
    good, bad = make_pack(tmp_path), make_pack(tmp_path, "bad", layer="top")
    done = push(standin, bad, good, "-o", "json", home=tmp_path)
    first, second = document(done)["results"]
    assert (first["path"], first["action"], first["error"]["code"]) == (str(bad), "failed", "PACK_INVALID")
    assert first["error"]["detail"]
    assert (second["pack"], second["action"]) == ("hello:1.0.0", "created")
    assert second["release"]["name"] == "hello"
    assert (done.exit_code, done.stderr) == (1, "")


@pytest.mark.parametrize(("jobs", "expected"), [(1, 1), (3, 3)])
def test_no_more_packs_are_pushed_at_a_time_than_wanted(
    standin: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: int, expected: int
) -> None:
    running = most = 0
    before = push_module._send

    async def counted(*args: Any) -> Any:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            return await before(*args)
        finally:
            running -= 1

    monkeypatch.setattr(push_module, "_send", counted)
    paths = []
    for number in range(6):
        paths.append(tmp_path / f"{number}.tar.gz")
        paths[-1].write_bytes(noise(100_000, number))
    assert push(standin, "--jobs", jobs, *paths, home=tmp_path).exit_code == 0
    assert len(standin.asked_for(*PUSH)) == 6
    assert most == expected


def test_nothing_is_left_of_what_was_packed(standin: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    push(standin, make_pack(tmp_path), home=tmp_path)
    standin.on(*PUSH, Reply.error(500, "UNKNOWN"))
    push(standin, make_pack(tmp_path), home=tmp_path)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_full_disk_is_told(standin: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    done = push(standin, make_pack(tmp_path), home=tmp_path)
    assert done.exit_code == 1
    assert "cannot be packed" in done.stderr


def test_limits_are_those_of_the_environment(standin: StandIn, tmp_path: Path) -> None:
    root = make_pack(tmp_path)
    done = push(standin, root, home=tmp_path, REGISTRY_LIMITS_ARCHIVE="100", REGISTRY_HTTP_ADDR="nonsense")
    assert done.exit_code == 1
    assert "limits.archive allows 100" in done.stderr
    assert push(standin, root, home=tmp_path, REGISTRY_LIMITS_ARCHIVE="many").exit_code == 2


# Pull


@pytest.mark.parametrize(
    ("pack", "folder"),
    [
        ("hello", "hello-1.1.0"),
        ("hello:1.0.0", "hello-1.0.0"),
        ("hello:1.x", "hello-1.1.0"),
        ("other", "other-lts__2.0"),
    ],
)
def test_a_pack_is_pulled_into_a_directory_of_its_own(site: Site, tmp_path: Path, pack: str, folder: str) -> None:
    done = cli("pack", "pull", pack, tmp_path / "out", "-r", at(site), home=tmp_path)
    assert done.exit_code == 0
    assert re.fullmatch(rf"pulled {pack[:5]}:\S+ to \S+/{folder} sha256:[0-9a-f]{{64}}\n", done.stdout)
    assert tree(tmp_path / "out" / folder) == tree(packs_of(site) / folder.replace("lts__", ""))
    assert done.stderr == ""


def test_a_pull_by_the_digest_that_is_listed(site: Site, tmp_path: Path) -> None:
    listed = cli("pack", "ls", "-n", "hello", "-r", at(site), home=tmp_path).stdout.splitlines()
    digest = listed[2].split()[-1]
    done = cli("pack", "pull", f"hello@{digest}", tmp_path, "-r", at(site), "-o", "json", home=tmp_path)
    found = document(done)
    assert (found["name"], found["tag"], found["manifest"]) == ("hello", "1.0.0", {"digest": digest})
    assert found["directory"] == str(tmp_path / "hello-1.0.0")


def test_a_second_pull_needs_force(site: Site, tmp_path: Path) -> None:
    args = ["pack", "pull", "hello:1.0.0", tmp_path, "-r", at(site)]
    assert cli(*args, home=tmp_path).exit_code == 0
    again = cli(*args, home=tmp_path)
    assert again.exit_code == 1
    assert "exists and is not empty" in again.stderr
    assert cli(*args, "--force", home=tmp_path).exit_code == 0


@pytest.mark.parametrize(
    ("pack", "code", "reason"),
    [
        ("nope", 1, "pack ls"),
        ("hello:9", 1, "has no tag"),
        ("a/b", 1, "is not a pack name"),
        ("hello@sha256:x", 1, "is not a digest"),
    ],
)
def test_what_is_not_there_is_told(site: Site, tmp_path: Path, pack: str, code: int, reason: str) -> None:
    done = cli("pack", "pull", pack, tmp_path / "out", "-r", at(site), home=tmp_path)
    assert done.exit_code == code
    assert reason in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_pull_goes_on_in_another_process(site: Site, tmp_path: Path) -> None:
    archive = site.registry.packs()[0].latest.archive
    whole = packed(tree(packs_of(site) / "hello-1.1.0"), "hello-1.1.0").getvalue()
    assert Digest.of(whole) == archive.digest
    partial_path(tmp_path, archive.digest).write_bytes(whole[:200])
    assert cli("pack", "pull", "hello:1.1.0", tmp_path, "-r", at(site), home=tmp_path / "home").exit_code == 0
    assert list(tmp_path.iterdir()) == [tmp_path / "hello-1.1.0"]
    assert "206" in site.lines()[-1]


# Ls and show


def test_packs_are_listed_with_their_newest_version(site: Site, tmp_path: Path) -> None:
    done = cli("pack", "ls", at(site), home=tmp_path)
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["NAME", "NEWEST", "VERSIONS", "LAYER", "TYPE"],
        ["hello", "1.1.0", "2", "k8s", "app", "services"],
        ["other", "lts__2.0", "1", "addon", "app", "services"],
    ]
    names = [pack["name"] for pack in document(cli("pack", "ls", at(site), "-o", "json", home=tmp_path))["packs"]]
    assert names == ["hello", "other"]


def test_versions_of_a_pack_are_listed_newest_first(site: Site, tmp_path: Path) -> None:
    done = cli("pack", "ls", "--name", "hello", "-r", at(site), home=tmp_path)
    rows = [re.split(r"  +", line) for line in done.stdout.splitlines()]
    assert rows[0] == ["NAME", "TAG", "OTHER TAGS", "SIZE", "DIGEST"]
    assert [row[:3] for row in rows[1:]] == [["hello", "1.1.0", "1.1.x, 1.x"], ["hello", "1.0.0", "1.0.x"]]
    assert cli("pack", "ls", "-n", "nope", "-r", at(site), home=tmp_path).exit_code == 1


@pytest.mark.parametrize("page", [True, False], ids=["a page that says so", "an error as registries have it"])
def test_a_registry_without_our_api_is_listed_by_what_it_has(standin: StandIn, tmp_path: Path, page: bool) -> None:
    """The vendor's server is one."""
    nothing = Reply(404, b"404 page not found\n") if page else Reply.error(404, "NOT_FOUND")
    for path in ("/api/v1/packs", "/api/v1/packs/hello"):
        standin.on("GET", path, nothing)
    standin.on("GET", "/v1/_catalog", Reply.of({"repositories": ["hello", "other"]}))
    standin.on("GET", "/v1/hello/tags/list", Reply.of({"name": "hello", "tags": ["1.0.0", "1.10.0", "1.x"]}))
    standin.on("GET", "/v1/other/tags/list", Reply.of({"name": "other", "tags": ["lts__2.0"]}))
    done = cli("pack", "ls", standin.url, home=tmp_path)
    rows = [line.split()[:2] for line in done.stdout.splitlines()[1:]]
    assert rows == [["hello", "1.10.0"], ["other", "lts__2.0"]]
    done = cli("pack", "ls", "-n", "hello", standin.url, home=tmp_path)
    assert [line.split()[1] for line in done.stdout.splitlines()[1:]] == ["1.0.0", "1.10.0", "1.x"]
    found = document(cli("pack", "ls", standin.url, "-o", "json", home=tmp_path))
    assert found == {
        "packs": [{"name": "hello", "latest": {"tag": "1.10.0"}}, {"name": "other", "latest": {"tag": "lts__2.0"}}]
    }


def test_a_pack_is_shown_with_its_versions_and_history(site: Site, tmp_path: Path) -> None:
    done = cli("pack", "show", "hello", "-r", at(site), home=tmp_path)
    assert "cloudTypes:   aws, gcp\n" in done.stdout
    assert re.search(r"^1\.0\.0 +1\.0\.x ", done.stdout, re.MULTILINE)
    assert re.search(r"^ENTRY +TIME +USER +ACTION +TAG +MESSAGE$", done.stdout, re.MULTILINE)
    assert document(cli("pack", "show", "hello", "-r", at(site), "-o", "json", home=tmp_path))["name"] == "hello"


def test_a_version_is_shown_with_its_images_files_and_problems(site: Site, tmp_path: Path) -> None:
    done = cli("pack", "show", "hello:1.0.0", "-r", at(site), home=tmp_path)
    assert "images:\n  a:1\n" in done.stdout
    assert "  README.md (8 B)\n" in done.stdout
    assert "problems:" not in done.stdout
    assert (
        "problems:\n  warning: pack.json:"
        in cli("pack", "show", "other:lts__2.0", "-r", at(site), home=tmp_path).stdout
    )


@pytest.mark.parametrize("command", ["show", "rollback"])
def test_a_digest_does_not_name_a_version(tmp_path: Path, command: str) -> None:
    done = cli("pack", command, "hello@sha256:" + "a" * 64, "-r", "x", home=tmp_path)
    assert done.exit_code == 2
    assert "NAME:TAG" in done.stderr


def test_what_a_server_makes_up_is_no_crash(standin: StandIn, tmp_path: Path) -> None:
    standin.on("GET", "/api/v1/packs/hello", Reply.of({"versions": [5], "history": 5}))
    assert cli("pack", "show", "hello", "-r", standin.url, home=tmp_path).exit_code == 1
    standin.on(
        "GET", "/api/v1/packs/hello", Reply.of({"versions": [{"archive": 5, "tags": None}], "displayName": "\x1b[2J"})
    )
    for command in ("show", "ls -n"):
        done = cli("pack", *command.split(), "hello", "-r", standin.url, home=tmp_path)
        assert done.exit_code == 0
        assert "\x1b" not in done.stdout


# Tags and rollbacks


def test_a_tag_is_added(standin: StandIn, tmp_path: Path) -> None:
    standin.on("PUT", "/api/v1/packs/ubuntu/tags/stable", Reply.of({"tag": "lts__stable", "version": "lts__14.4.3"}))
    args = ["pack", "tag", "add", "ubuntu:lts__14.4.3", "stable", "-g", "lts", "-r", standin.url]
    assert cli(*args, home=tmp_path).stdout == "ubuntu:lts__stable is ubuntu:lts__14.4.3\n"
    assert standin.asked[-1].json() == {"version": "lts__14.4.3", "group": "lts"}
    assert document(cli(*args, "-o", "json", home=tmp_path))["tag"] == "lts__stable"


def test_a_tag_is_deleted_and_what_goes_with_it_is_told(standin: StandIn, tmp_path: Path) -> None:
    answer = {"deleted": ["14.4.3", "14.x"], "release": "14.4.3"}
    standin.on("DELETE", "/api/v1/packs/ubuntu/tags/14.4.3", Reply.of(answer))
    args = ["pack", "tag", "delete", "ubuntu:14.4.3", "-r", standin.url]
    said = cli(*args, home=tmp_path).stdout
    assert said.startswith("deleted ubuntu:14.4.3, ubuntu:14.x\n")
    assert "is deleted too" in said
    assert document(cli(*args, "-o", "json", home=tmp_path)) == answer


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["add", "ubuntu", "x"], 2),
        (["delete", "ubuntu"], 2),
        (["add", "ubuntu:1", "a/b"], 1),
        (["add", "ubuntu:1", "a", "-g", "/"], 1),
    ],
    ids=str,
)
def test_a_tag_that_is_none_is_refused_at_once(standin: StandIn, tmp_path: Path, args: list[str], code: int) -> None:
    done = cli("pack", "tag", *args, "-r", standin.url, home=tmp_path)
    assert done.exit_code == code
    assert standin.asked == []


def test_the_newest_version_is_rolled_back_where_none_is_named(standin: StandIn, tmp_path: Path) -> None:
    standin.on(
        "GET", "/v1/hello/tags/list", Reply.of({"name": "hello", "tags": ["1.0.0", "1.2.0", "1.x", "1.0.x", "1.2.x"]})
    )
    release = {"name": "hello", "tag": "1.2.0", "archive": {"digest": "sha256:aa"}}
    standin.on("POST", "/api/v1/packs/hello/rollback", Reply.of({"action": "restored", "release": release}))
    done = cli("pack", "rollback", "hello", "-m", "why", "-r", standin.url, home=tmp_path)
    assert done.stdout == "restored hello:1.2.0 sha256:aa\n"
    assert standin.asked[-1].json() == {"tag": "1.2.0", "message": "why"}
    done = cli("pack", "rollback", "hello:1.0.0", "--to", "3", "-o", "json", "-r", standin.url, home=tmp_path)
    assert document(done)["action"] == "restored"
    assert standin.asked[-1].json() == {"tag": "1.0.0", "to": 3}


# Lint


def test_lint_says_what_the_registry_would(tmp_path: Path) -> None:
    good = make_pack(tmp_path)
    odd = make_pack(tmp_path, "odd", files={"README.md": b"\xff"})
    bad = make_pack(tmp_path, "bad", layer="top")
    done = cli("pack", "lint", good, odd, bad)
    assert done.exit_code == 1
    assert f"{good}: no problems\n" in done.stdout
    assert f"{odd}: 1 warning\n  warning: README.md:1: is not UTF-8 text (save it as UTF-8)\n" in done.stdout
    assert f"{bad}: 1 error\n  error: pack.json:5: layer: " in done.stdout
    assert done.stdout.endswith("3 packs: 1 error, 1 warning\n")


def test_strict_makes_errors_of_warnings(tmp_path: Path) -> None:
    odd = make_pack(tmp_path, "odd", files={"README.md": b"\xff"})
    assert cli("pack", "lint", odd).exit_code == 0
    done = cli("pack", "lint", "--strict", odd)
    assert done.exit_code == 1
    assert ": 1 error\n" in done.stdout


def test_lint_as_json(tmp_path: Path) -> None:
    bad = make_pack(tmp_path, "bad", layer="top")
    (found,) = document(cli("pack", "lint", bad, "-o", "json"))["packs"]
    assert (found["directory"], found["name"], found["tag"]) == (str(bad), "bad", "1.0.0")
    assert [(one["file"], one["line"], one["severity"]) for one in found["problems"]] == [("pack.json", 5, "error")]


def test_lint_as_sarif(tmp_path: Path) -> None:
    bad = make_pack(tmp_path, directory="a b", layer="top", files={"x\\y": b""})
    (bad / "README.md").unlink()
    log = document(cli("pack", "lint", bad, "-o", "sarif"))
    (run,) = log["runs"]
    assert log["version"] == "2.1.0"
    assert {rule["id"] for rule in run["tool"]["driver"]["rules"]} == {result["ruleId"] for result in run["results"]}
    results = {result["ruleId"]: result for result in run["results"]}
    assert results["pack.json"]["level"] == "error"
    assert results["README.md"]["level"] == "warning"
    (place,) = results["pack.json"]["locations"]
    assert place["physicalLocation"]["artifactLocation"]["uri"].endswith("/a%20b/pack.json")
    assert place["physicalLocation"]["region"] == {"startLine": 5}
    assert "region" not in results["README.md"]["locations"][0]["physicalLocation"]
    assert "pack" in results


def test_a_directory_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    assert cli("pack", "lint", tmp_path / "nope").exit_code == 2


# Build


def test_a_pack_is_built_and_pushed(standin: StandIn, tmp_path: Path) -> None:
    source = make_chart(tmp_path)
    done = cli("pack", "build", "web", tmp_path / "web", "--chart", source, "--push", "-r", standin.url, home=tmp_path)
    assert done.exit_code == 0
    assert "  chart web-1.2.3.tgz\n  image library/nginx:1.20\n" in done.stdout
    assert "pushed hello:1.0.0\n" in done.stdout
    assert standin.asked[-1].body == packed(tree(tmp_path / "web"), "web-1.2.3").getvalue()


def test_a_pack_is_built_without_any_registry(tmp_path: Path) -> None:
    done = cli("pack", "build", "web", tmp_path / "web", "-o", "json", home=tmp_path)
    assert document(done) == {
        "directory": str(tmp_path / "web"),
        "name": "web",
        "version": "0.1.0",
        "charts": [],
        "images": [],
    }
    assert cli("pack", "lint", "--strict", tmp_path / "web").exit_code == 0


def test_what_cannot_be_built_or_pushed_is_told(standin: StandIn, tmp_path: Path) -> None:
    standin.on(*PUSH, Reply.error(403, "DENIED"))
    args = ["pack", "build", "web", tmp_path / "web", "-p", "-r", standin.url]
    assert cli(*args, home=tmp_path).exit_code == 4
    assert cli(*args, home=tmp_path).exit_code == 1
    assert cli("pack", "build", "a/b", tmp_path / "x", home=tmp_path).exit_code == 1


def test_a_build_with_a_push_is_one_document(standin: StandIn, tmp_path: Path) -> None:
    done = cli("pack", "build", "web", tmp_path / "web", "-p", "-r", standin.url, "-o", "json", home=tmp_path)
    assert document(done)["push"]["action"] == "created"


# Output


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (12_345, "12 kB"), (5_000_000_000_000, "5000.0 GB"), (None, "-")],
)
def test_sizes_are_for_people(count: object, text: str) -> None:
    assert output.size(count) == text


def test_the_worst_exit_code_of_several_counts() -> None:
    assert [output.worst(codes) for codes in ([], [0, 1], [1, 3], [4, 3, 1])] == [0, 1, 3, 4]


class Terminal:
    """Standard error as a terminal."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        """Nothing is kept back."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("quiet", [True, False])
def test_bars_are_for_terminals_only(monkeypatch: pytest.MonkeyPatch, quiet: bool) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with progress.transfers(quiet=quiet) as bars:
        update = bars("[red]hello:1.0.0")
        update(0, 2_000_000)
        update(1_000_000, 2_000_000)
    if quiet:
        assert terminal.text == ""
    else:
        assert "[red]hello:1.0.0" in terminal.text
        assert "1.0/2.0 MB" in terminal.text


def test_without_a_terminal_there_are_no_bars(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.transfers(quiet=False) as bars:
        bars("hello")(1, 2)
    assert capsys.readouterr() == ("", "")
