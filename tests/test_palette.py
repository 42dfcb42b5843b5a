"""The program that plays Palette: it finds nothing wrong with a good registry, and each lie of a bad one."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import bcrypt
import pytest
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from tests import certificates
from tests.archives import folder, member, zipped
from tests.factories import CORPUS, make_pack, pack_files, tarball
from tests.palette import DEADLINE, TITLE, WrongError, main, read_archive
from tests.process import Server, environment, run, serving
from tests.standin import in_thread
from tests.web import READER, basic
from tests.web import serving as in_process

# It tests what CI tries the server with, and not the server.
pytestmark = pytest.mark.thorough

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = ROOT / "packs"


@dataclass
class Told:
    """A response on its way through the proxy, to be falsified."""

    method: str
    path: str
    status: int
    headers: CIMultiDict[str]
    body: bytes


@dataclass(frozen=True)
class Lie:
    """What a proxy does to the requests for paths that `about` is found in, and to their answers."""

    about: str
    answer: Callable[[Told], None] = lambda told: None
    request: Callable[[CIMultiDict[str]], None] = lambda headers: None
    method: str = "GET"


HOP = ("Host", "Connection", "Transfer-Encoding", "Date", "Server")


@asynccontextmanager
async def lying(upstream: str, lie: Lie) -> AsyncIterator[str]:
    """The URL of a proxy that lies."""

    async def handle(request: web.Request) -> web.Response:
        headers = CIMultiDict(request.headers)
        told_of = request.method == lie.method and re.search(lie.about, request.raw_path)
        if told_of:
            lie.request(headers)
        for name in HOP:
            headers.popall(name, None)
        url = URL(upstream + request.raw_path, encoded=True)
        async with session.request(request.method, url, headers=headers, allow_redirects=False) as found:
            told = Told(request.method, request.raw_path, found.status, CIMultiDict(found.headers), await found.read())
        for name in HOP[2:]:
            told.headers.popall(name, None)
        if told_of:
            lie.answer(told)
        if told.method != "HEAD" and told.status != 304:
            told.headers["Content-Length"] = str(len(told.body))
        response = web.Response(status=told.status, headers=told.headers, body=told.body)
        if "Connection" in told.headers:
            response.force_close()
        return response

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=certificates.trusting())) as session:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three packs, one with two versions and one in a group, among what is no pack."""
    root = tmp_path_factory.mktemp("packs")
    make_pack(root, "a", "1.0.0")
    make_pack(root, "a", "1.1.0")
    make_pack(root, "b", "2.0.0", group="lts")
    make_pack(
        root / "deep", "c", "v3", directory="whatever", files={"charts/c.tgz": b"c", "presets.yaml": b"presets: []\n"}
    )
    make_pack(root / ".hidden", "d")
    (root / "a-1.0.0" / ".git").mkdir()
    (root / "a-1.0.0" / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    (root / "a-1.1.0" / "values.yaml").chmod(0o755)
    return root


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, packs: Path) -> Iterator[str]:
    """A registry of the packs, with a user."""
    data = tmp_path_factory.mktemp("data") / "data"
    with in_thread(in_process(data, packs, users=dict([READER]))) as site:
        yield "http://{}:{}".format(*site.address)


LOGIN = ("--user", READER[0], "--password", READER[1])


def play(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str]:
    """The exit code and the output of the program."""
    code = main([str(arg) for arg in args])
    return code, capsys.readouterr().out


def rows(output: str) -> dict[str, list[str]]:
    """The table: phase → its columns."""
    lines = [line.split() for line in output.splitlines()]
    return {line[0]: line[1:] for line in lines if line and line[0] in {"validate", "full", "unchanged", "change"}}


def test_a_good_registry_is_found_good(capsys: pytest.CaptureFixture[str], url: str, packs: Path) -> None:
    code, output = play(capsys, "--url", url, *LOGIN, "--packs", packs)
    assert (code, output.splitlines()[-1]) == (0, "palette: ok"), output
    assert "3 packs, 10 tags, 4 archives compared with directories" in output
    full, again = rows(output)["full"], rows(output)["unchanged"]
    assert full[1] == "0"
    assert int(full[2]) > 4000
    assert again[2] == "0"
    # Manifests by 10 tags and 4 digests; blobs: 8 of a, whose versions share three, 6 of b and 7 of c, each with the
    # logo twice. All of these by a 304 and by a HEAD, and the four lists by a HEAD.
    assert again[:2] == [str(2 * 35 + 4), "35"]


@pytest.mark.parametrize("slash", ["", "/"], ids=["no slash", "a slash"])
def test_the_endpoint_may_end_with_a_slash(capsys: pytest.CaptureFixture[str], url: str, slash: str) -> None:
    code, output = play(capsys, "--url", url + slash, *LOGIN)
    assert code == 0, output
    assert "0 archives compared" in output


def header(name: str, value: str | None) -> Callable[[Told], None]:
    """Set a header, or leave it out."""

    def change(told: Told) -> None:
        told.headers.popall(name, None)
        if value is not None:
            told.headers[name] = value

    return change


def status(number: int) -> Callable[[Told], None]:
    def change(told: Told) -> None:
        told.status = number

    return change


def body(change: Callable[[bytes], bytes]) -> Callable[[Told], None]:
    def changed(told: Told) -> None:
        told.body = change(told.body)

    return changed


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1]) if data else data


def unless_304(change: Callable[[Told], None], wanted: bool = False) -> Callable[[Told], None]:
    return lambda told: change(told) if (told.status == 304) is wanted else None


def signed_in(headers: CIMultiDict[str]) -> None:
    headers.update(basic(*READER))


def unconditional(headers: CIMultiDict[str]) -> None:
    headers.popall("If-None-Match", None)


def elsewhere(told: Told) -> None:
    if "Link" in told.headers:
        told.headers["Link"] = '<http://localhost:1/v1/_catalog>; rel="next"'


def backwards(told: Told) -> None:
    document = json.loads(told.body)
    told.body = json.dumps({"repositories": document["repositories"][::-1]}).encode()


def without_b(told: Told) -> None:
    document = json.loads(told.body)
    told.body = json.dumps({"repositories": [name for name in document["repositories"] if name != "b"]}).encode()


def larger(layers: list[dict[str, Any]]) -> None:
    """Say of the last one that it has a byte more."""
    layers[-1]["size"] += 1


def exchanged(layers: list[dict[str, Any]]) -> None:
    """Call two small files by each other's names."""
    titles = {"README.md": "values.yaml", "values.yaml": "README.md"}
    for layer in layers:
        title = layer["annotations"][TITLE]
        layer["annotations"][TITLE] = titles.get(title, title)


class Rewritten:
    """Changes the layers of each manifest, and keeps to it."""

    def __init__(self, change: Callable[[list[dict[str, Any]]], None]) -> None:
        self.change = change
        self.said: dict[str, Told] = {}

    def __call__(self, told: Told) -> None:
        if told.status == 200:
            document = json.loads(told.body)
            self.change(document["layers"])
            told.body = json.dumps(document).encode()
            told.headers["Docker-Content-Digest"] = digest(told.body)
            told.headers["ETag"] = f'"{digest(told.body)}"'
            self.said[digest(told.body)] = told
        elif said := self.said.get(told.path.rpartition("/")[2]):
            told.status, told.headers, told.body = 200, said.headers.copy(), said.body


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


BLOB = "/blobs/sha256:[0-9a-f]*$"
LOGO = r"/blobs/sha256:.*\?type=image/png$"
TAGGED = "/manifests/[^:]*$"
MANIFEST = "/manifests/sha256:"
ZERO = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("lie", "found"),
    [
        pytest.param(
            Lie(BLOB, header("Docker-Content-Digest", ZERO)),
            f"{BLOB[:-1]}: Docker-Content-Digest is {ZERO}, not sha256:",
            id="another digest of a blob",
        ),
        pytest.param(
            Lie(BLOB, header("Docker-Content-Digest", None)),
            f"{BLOB[:-1]}: Docker-Content-Digest is missing",
            id="no digest of a blob",
        ),
        pytest.param(
            Lie(TAGGED, header("Docker-Content-Digest", ZERO)),
            f"1.0.0: Docker-Content-Digest is {ZERO}",
            id="another digest of a manifest",
        ),
        pytest.param(
            Lie(MANIFEST, header("Docker-Content-Digest", ZERO)),
            f"manifests/sha256:.*: Docker-Content-Digest is {ZERO}",
            id="another digest of a manifest by digest",
        ),
        pytest.param(
            Lie("/manifests/", Rewritten(larger)),
            r"the body has \d+ bytes and .*, not \d+ bytes and",
            id="another size of a blob",
        ),
        pytest.param(
            Lie("/manifests/", Rewritten(exchanged)),
            "manifests/1.0.0: [a-zA-Z.]* is not the one in the archive",
            id="another file than the archive has",
        ),
        pytest.param(Lie(BLOB, body(flipped)), "blobs/sha256:.*: the body has .*, not .*sha256:", id="another blob"),
        pytest.param(
            Lie(BLOB, body(lambda data: data[:-1])),
            "blobs/sha256:.*: the body has .*, not .*sha256:",
            id="a blob cut short",
        ),
        pytest.param(
            Lie(MANIFEST, body(lambda data: data + b"\n")),
            "manifests/sha256:.*: the body has .*, not .*sha256:",
            id="another manifest by digest",
        ),
        pytest.param(
            Lie(TAGGED, unless_304(body(lambda data: data + b"\n"))),
            "manifests/1.0.0: ETag is .*, not",
            id="another manifest by tag",
        ),
        pytest.param(Lie(LOGO, body(flipped)), "type=image/png: the body has .*, not .*sha256:", id="another logo"),
        pytest.param(
            Lie(BLOB, header("ETag", None)), "blobs/sha256:[0-9a-f]*: ETag is missing", id="no ETag of a blob"
        ),
        pytest.param(Lie(TAGGED, header("ETag", None)), "manifests/1.0.0: ETag is missing", id="no ETag of a manifest"),
        pytest.param(Lie(LOGO, header("ETag", None)), "image/png: ETag is missing", id="no ETag of a logo"),
        pytest.param(Lie(BLOB, header("ETag", f'"{ZERO}"')), f'ETag is "{ZERO}", not "sha256:', id="another ETag"),
        pytest.param(
            Lie(BLOB, unless_304(header("ETag", None), True)),
            "unchanged: .*ETag is missing",
            id="a 304 without an ETag",
        ),
        pytest.param(
            Lie(BLOB, unless_304(header("Docker-Content-Digest", ZERO), True)),
            "unchanged: .*Docker-Content-Digest",
            id="a 304 of another digest",
        ),
        pytest.param(
            Lie(BLOB, request=unconditional),
            "unchanged: .*blobs/.*: sent again.* 200, not 304",
            id="a 200 instead of a 304 of a blob",
        ),
        pytest.param(
            Lie(TAGGED, request=unconditional),
            "unchanged: .*manifests/1.0.0: sent again",
            id="a 200 instead of a 304 of a manifest",
        ),
        pytest.param(
            Lie(LOGO, request=unconditional),
            "unchanged: .*image/png: sent again",
            id="a 200 instead of a 304 of a logo",
        ),
        pytest.param(
            Lie(LOGO, request=unconditional),
            r"unchanged: nothing had changed, .* and \d+ bytes",
            id="bytes where nothing had changed",
        ),
        pytest.param(Lie(BLOB, status(304)), "full: .*: the status is 304, not 200", id="a 304 to who has nothing"),
        pytest.param(
            Lie(LOGO, header("Content-Type", "application/octet-stream")),
            "Content-Type is application/octet-stream, not image/png",
            id="another type of a logo",
        ),
        pytest.param(
            Lie(BLOB, header("Content-Type", "text/html")),
            "Content-Type is text/html, not application/octet-stream",
            id="another type of a blob",
        ),
        pytest.param(
            Lie(TAGGED, header("Content-Type", "application/json")),
            "Content-Type is application/json, not application/vnd.oci",
            id="another type of a manifest",
        ),
        pytest.param(
            Lie("_catalog$", header("Content-Type", "text/plain")),
            "catalog: Content-Type is text/plain",
            id="another type of the catalog",
        ),
        pytest.param(
            Lie("_catalog.*n=", header("Link", None)),
            "in pages of 1 it has 1 repositories, and whole 3",
            id="no next page of the catalog",
        ),
        pytest.param(
            Lie("tags/list.*n=", header("Link", None)),
            "a/tags/list: in pages of 2 it has 2 tags, and whole 5",
            id="no next page of tags",
        ),
        pytest.param(
            Lie("_catalog.*n=", header("Link", '</v1/_catalog?n=1>; rel="next"')),
            "in pages of 1 it has 4 repositories, and whole 3",
            id="the first page again and again",
        ),
        pytest.param(
            Lie("_catalog.*n=", header("Link", "/v1/_catalog?n=1")),
            "a page of 1 repositories, and Link is /v1",
            id="a link that is none",
        ),
        pytest.param(
            Lie("_catalog.*n=", body(lambda data: b'{"repositories":["a","b","c"]}')),
            "a page of 3 repositories",
            id="pages of another size",
        ),
        pytest.param(Lie("_catalog.*n=", elsewhere), "leads away from", id="a link to elsewhere"),
        pytest.param(
            Lie("_catalog$", backwards), "the repositories are not all of them, sorted, once", id="an unsorted catalog"
        ),
        pytest.param(
            Lie("_catalog", without_b),
            "lts__2.0.0: b 2.0.0 is not served|b-2.0.0: b 2.0.0 is not served",
            id="a pack that is not in the catalog",
        ),
        pytest.param(Lie("_catalog$", body(lambda data: b"{}")), "the body has no list of repositories", id="no list"),
        pytest.param(Lie("_catalog$", body(lambda data: b"<html>")), "the body is not JSON", id="no JSON"),
        pytest.param(
            Lie(BLOB, header("Content-Length", "1"), method="HEAD"),
            "unchanged: HEAD .*Content-Length is 1, not",
            id="another length by HEAD",
        ),
        pytest.param(
            Lie("tags/list", header("Content-Length", "1"), method="HEAD"),
            "HEAD .*tags/list: Content-Length is 1",
            id="another length of a list by HEAD",
        ),
        pytest.param(Lie(TAGGED, status(405), method="HEAD"), "HEAD .*: the status is 405, not 200", id="no HEAD"),
        pytest.param(
            Lie(TAGGED, header("ETag", None), method="HEAD"), "HEAD .*: ETag is missing", id="no ETag by HEAD"
        ),
        pytest.param(
            Lie("^//", status(308)),
            "validate: validate with a slash at the end: .*308",
            id="a redirect where the slash is doubled",
        ),
        pytest.param(
            Lie("/v1/$", header("WWW-Authenticate", None)), "a browser would not", id="no question for the password"
        ),
        pytest.param(
            Lie("/health", body(lambda data: b'{"status":"DOWN"}')), "health: the body is not", id="another health"
        ),
        pytest.param(Lie("/health", status(401)), "health: the status is 401", id="no health without a password"),
        pytest.param(Lie("", request=signed_in), "a wrong password: is let in", id="any password is good"),
        pytest.param(Lie("", request=signed_in), "noAuth: is let in", id="no password is good"),
        pytest.param(
            Lie("/v1/$", status(200)),
            "noAuth: .*401|noAuth: is let in|status is 200, not 401",
            id="the entrance is open",
        ),
        pytest.param(
            Lie("", header("Connection", "close")),
            "connections were made: they are not kept",
            id="connections that are closed",
        ),
    ],
)
def test_a_lie_is_found(capsys: pytest.CaptureFixture[str], url: str, packs: Path, lie: Lie, found: str) -> None:
    with in_thread(lying(url, lie)) as proxy:
        code, output = play(capsys, "--url", proxy, *LOGIN, "--packs", packs)
    assert (code, output.splitlines()[-1].startswith("palette: ")) == (1, True)
    assert "palette: ok" not in output
    assert re.search(f"^wrong: .*(?:{found})", output, re.MULTILINE), output


def test_a_proxy_that_does_not_lie_is_not_accused(capsys: pytest.CaptureFixture[str], url: str, packs: Path) -> None:
    """So that it is the lie that is found in each of the cases, and not the proxy."""
    with in_thread(lying(url, Lie("$^"))) as proxy:
        code, output = play(capsys, "--url", proxy, *LOGIN, "--packs", packs)
    assert code == 0, output


def usage(capsys: pytest.CaptureFixture[str], *args: object) -> str:
    """What is said of wrong usage."""
    with pytest.raises(SystemExit) as ended:
        main([str(arg) for arg in args])
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_what_is_wrong_with_the_arguments_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "--url" in usage(capsys)
    assert f"{tmp_path}/ca.pem is not a file" in usage(capsys, "--url", "https://x", "--ca", tmp_path / "ca.pem")
    assert f"there is no pack below {tmp_path}" in usage(capsys, "--url", "https://x", "--packs", tmp_path)


def test_without_an_answer_to_the_first_request_nothing_else_is_tried(capsys: pytest.CaptureFixture[str]) -> None:
    code, output = play(capsys, "--url", "http://127.0.0.1:1/", *LOGIN)
    assert code == 1
    assert output.count("wrong: ") == 1
    assert "validate with as given: http://127.0.0.1:1/: GET /v1/: Cannot connect" in output
    assert output.endswith("palette: 1 wrong\n")


def test_the_wrong_password_is_told_from_the_first_request(capsys: pytest.CaptureFixture[str], url: str) -> None:
    code, output = play(capsys, "--url", url, "--user", "reader", "--password", "no")
    assert code == 1
    assert re.search("wrong: .*/v1/: (401 UNAUTHORIZED|429 TOOMANYREQUESTS)", output), output


def test_time_is_bounded(capsys: pytest.CaptureFixture[str], url: str) -> None:
    code, output = play(capsys, "--url", url, *LOGIN, "--timeout", "0")
    assert (code, output.splitlines()[-2:]) == (1, ["wrong: it is not done after 0 s", "palette: 1 wrong"])


@pytest.mark.parametrize(
    ("change", "found"),
    [
        pytest.param(lambda pack: (pack / "values.yaml").write_text("pack: {}\n"), "is not what is in", id="content"),
        pytest.param(lambda pack: (pack / "README.md").unlink(), "is not what is in", id="one less"),
        pytest.param(lambda pack: (pack / "more.txt").touch(), "is not what is in", id="one more"),
        pytest.param(lambda pack: (pack / "README.md").chmod(0o755), "is not what is in", id="an executable"),
        pytest.param(lambda pack: make_pack(pack.parent, "e"), "/e-1.0.0: e 1.0.0 is not served", id="another pack"),
        pytest.param(
            lambda pack: make_pack(pack.parent, "b", "2.0.0"), "/b-2.0.0: b 2.0.0 is not served", id="another group"
        ),
    ],
)
def test_directories_that_are_not_as_served_are_named(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    url: str,
    packs: Path,
    change: Callable[[Path], object],
    found: str,
) -> None:
    copy = tmp_path / "packs"
    shutil.copytree(packs, copy)
    (copy / "b-2.0.0").rename(copy / "b")
    change(copy / "a-1.0.0")
    code, output = play(capsys, "--url", url, *LOGIN, "--packs", copy)
    assert code == 1
    assert re.findall(r"^wrong: .*", output, re.MULTILINE) == [line for line in output.splitlines() if found in line]


GOOD = member("hello/pack.json", b"{}")


@pytest.mark.parametrize(
    ("data", "found"),
    [
        pytest.param(b"PK", "no tar.gz", id="a zip"),
        pytest.param(gzip.compress(b"x" * 2000), "no tar.gz", id="no tar"),
        pytest.param(zipped(GOOD, END := bytes(1024))[:-9], "no tar.gz", id="cut short"),
        pytest.param(zipped(GOOD, member("other/a"), END), "has 2 folders", id="two folders"),
        pytest.param(zipped(END), "has 0 folders", id="nothing"),
        pytest.param(zipped(member("pack.json"), END), "pack.json is no file in a folder", id="no folder"),
        pytest.param(zipped(GOOD, GOOD, END), "is there twice", id="twice"),
        pytest.param(zipped(member("hello/../a"), END), "hello/../a is no file", id="a path that leads out"),
        pytest.param(zipped(member("hello/a", kind=b"2"), END), "hello/a is no file", id="a link"),
    ],
)
def test_an_archive_that_is_none_of_a_pack_is_refused(data: bytes, found: str) -> None:
    with pytest.raises(WrongError, match=f"^where: .*{re.escape(found)}"):
        read_archive(data, "where")


def test_the_files_of_an_archive_are_read_with_their_mode() -> None:
    data = zipped(folder("hello/"), folder("hello/empty/"), GOOD, member("hello/a/b", b"x", mode=0o755), bytes(1024))
    assert read_archive(data, "where") == {"pack.json": (b"{}", False), "a/b": (b"x", True)}


@pytest.fixture
def open_url(tmp_path: Path, packs: Path) -> Iterator[str]:
    """A registry of the packs where everybody may do everything."""
    with in_thread(in_process(tmp_path / "data", packs)) as site:
        yield "http://{}:{}".format(*site.address)


def test_where_nobody_is_asked_nobody_needs_a_password(capsys: pytest.CaptureFixture[str], open_url: str) -> None:
    code, output = play(capsys, "--url", open_url)
    assert code == 0, output
    code, output = play(capsys, "--url", open_url, *LOGIN)
    assert code == 1
    assert "validate with a wrong password: is let in" in output
    assert "validate with noAuth: is let in" in output


def send(url: str, data: bytes, method: str = "POST") -> None:
    request = urllib.request.Request(url, data, method=method)
    with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
        assert answer.status == 201


def push(url: str, values: bytes) -> None:
    """Publish hello with a client's own manifest, which names the archive and these values alone."""
    described = []
    for title, data in (("", b"{}"), ("hello-1.0.0.tar.gz", tarball()), ("values.yaml", values)):
        send(f"{url}/v1/hello/blobs/uploads/?digest={digest(data)}", data)
        item = {"mediaType": "application/octet-stream", "digest": digest(data), "size": len(data)}
        described.append({**item, "annotations": {TITLE: title}})
    document = {"schemaVersion": 2, "config": described[0], "layers": described[1:]}
    send(f"{url}/v1/hello/manifests/1.0.0", json.dumps(document).encode(), "PUT")


def test_a_manifest_may_leave_files_of_its_archive_out(capsys: pytest.CaptureFixture[str], open_url: str) -> None:
    push(open_url, pack_files()["values.yaml"])
    found, output = play(capsys, "--url", open_url)
    assert found == 0, output


@pytest.mark.parametrize("title", ["pack.json", "README.md", "logo.png"])
def test_a_file_that_no_manifest_names_has_to_be_served(
    capsys: pytest.CaptureFixture[str], open_url: str, title: str
) -> None:
    push(open_url, pack_files()["values.yaml"])
    path = f"/v1/hello/blobs/{digest(pack_files()[title])}"
    with in_thread(lying(open_url, Lie(f"{path}$", status(404)))) as proxy:
        code, output = play(capsys, "--url", proxy)
    assert code == 1
    assert f"wrong: full: GET {path}: the status is 404, not 200\n" in output


# Against a process, over TLS


PASSWORD = "spec tro"


@dataclass
class Site:
    """A server process over TLS, the packs it watches, and how the program is told of it."""

    server: Server
    packs: Path
    options: list[str]

    def play(self, *args: object, program: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """Run the program as a process, from a directory where nothing is."""
        command = [*(program or (sys.executable, "-P", "-m", "tests.palette")), "--url", self.server.url + "/"]
        return subprocess.run(
            [*command, *self.options, *map(str, args)],
            capture_output=True,
            text=True,
            timeout=10 * DEADLINE,
            cwd=self.packs.parent,
            env=environment(PYTHONPATH=str(ROOT)),
            check=False,
        )


@contextmanager
def site_of(directory: Path, packs: Path, **env: str) -> Iterator[Site]:
    """A registry of what is in `packs`, with the user palette, whose password has the cost that it has by default."""
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(10))
    (directory / "users").write_bytes(b"palette:" + hashed + b"\n")
    certificates.server().copy(directory / "tls")
    every = {
        "REGISTRY_AUTH": "htpasswd",
        "REGISTRY_AUTH_HTPASSWD_PATH": "users",
        "REGISTRY_HTTP_TLS_CERTIFICATE": "tls/tls.crt",
        "REGISTRY_HTTP_TLS_KEY": "tls/tls.key",
        "REGISTRY_PACKS_SETTLE": "0s",
        "REGISTRY_PACKS_RESCAN": "1s",
        "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": "data",
        **env,
    }
    made = run("token", "create", "palette", cwd=directory, **every)
    assert made.returncode == 0, made.stderr
    ca = certificates.authority("servers").certificate
    login = ["--ca", str(ca), "--user", "palette", "--password", PASSWORD, "--token", made.stdout.strip()]
    with serving("--packs", str(packs), cwd=directory, **every) as server:
        yield Site(server, packs, [*login, "--packs", str(packs)])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A registry of the sample packs, for all tests that leave them as they are."""
    with site_of(tmp_path_factory.mktemp("site"), SAMPLES) as found:
        yield found


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Site]:
    """A registry of the sample packs, to be changed."""
    shutil.copytree(SAMPLES, tmp_path / "packs")
    with site_of(tmp_path, tmp_path / "packs") as found:
        yield found


@pytest.mark.thorough
@pytest.mark.process
def test_everything_is_good_over_tls_and_only_a_change_is_transferred(own: Site, tmp_path: Path) -> None:
    pack = make_pack(tmp_path / "new", "hello")
    done = own.play("--change", f"mv {pack} {own.packs}")
    assert (done.returncode, done.stderr, done.stdout.splitlines()[-1]) == (0, "", "palette: ok"), done.stdout
    assert "4 packs, 14 tags, 5 archives compared with directories" in done.stdout
    full, change = (rows(done.stdout)[phase] for phase in ("full", "change"))
    assert rows(done.stdout)["unchanged"][2] == "0"
    assert rows(done.stdout)["unchanged"][1] == change[1]
    # Three tags, a digest, and the archive, four files and the logo as an image: 10 of hello; and five lists.
    assert int(change[0]) - int(change[1]) == 10 + 5
    assert 0 < int(change[2]) < int(full[2])


@pytest.mark.process
@pytest.mark.thorough
def test_what_is_withdrawn_is_gone(own: Site) -> None:
    done = own.play("--change", f"rm -r {own.packs / 'status-page-1.1.0'}")
    assert done.returncode == 0, done.stdout
    change = rows(done.stdout)["change"]
    # The manifest of 1.x is of another version now; 1.1.0 and 1.1.x are asked for and not there; and four lists.
    assert int(change[0]) - int(change[1]) == 1 + 2 + 4


@pytest.mark.process
@pytest.mark.thorough
def test_what_is_withdrawn_and_still_answered_is_found(capsys: pytest.CaptureFixture[str], own: Site) -> None:
    with in_thread(lying(own.server.url, Lie(TAGGED, status(200), method="HEAD"))) as proxy:
        change = f"rm -r {own.packs / 'status-page-1.1.0'}"
        code, output = play(capsys, "--url", proxy, *own.options, "--change", change)
    assert code == 1
    assert re.findall(r"^wrong: .*", output, re.MULTILINE) == [
        f"wrong: change: HEAD /v1/status-page/manifests/{tag}: the status is 200, not 404" for tag in ("1.1.0", "1.1.x")
    ]


@pytest.mark.thorough
@pytest.mark.process
@pytest.mark.parametrize(
    ("command", "found"),
    [
        pytest.param("true", "--change: nothing had changed 0 s after the command", id="no change"),
        pytest.param("exit 3", "--change: the command ended with exit code 3", id="a command that fails"),
    ],
)
def test_a_change_that_is_none_is_wrong(site: Site, command: str, found: str) -> None:
    done = site.play("--change", command, "--wait", 0)
    assert done.returncode == 1
    assert f"wrong: change: {found}\npalette: 1 wrong\n" in done.stdout


@pytest.mark.process
def test_it_is_run_as_a_program_from_anywhere(site: Site) -> None:
    if not (ROOT / ".venv" / "bin" / "python").exists():
        pytest.skip("the virtual environment is not .venv")
    done = site.play(program=(str(ROOT / ".ci" / "palette"),))
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "palette: ok"), done.stdout + done.stderr


@pytest.mark.process
def test_a_ca_that_has_not_signed_the_server_is_no_use(site: Site) -> None:
    done = site.play("--ca", certificates.authority("strangers").certificate)
    assert done.returncode == 1
    assert "CERTIFICATE_VERIFY_FAILED" in done.stdout


@pytest.mark.process
@pytest.mark.thorough
@pytest.mark.parametrize("needed", [True, False], ids=["required", "if given"])
def test_palette_shows_its_own_certificate(tmp_path: Path, needed: bool) -> None:
    own = certificates.client("palette-cluster", "people")
    options = {
        "REGISTRY_HTTP_TLS_CLIENTCAS": f"[{certificates.authority('people').certificate}]",
        "REGISTRY_HTTP_TLS_CLIENTAUTH": "require-and-verify-client-cert" if needed else "verify-client-cert-if-given",
    }
    with site_of(tmp_path, SAMPLES, **options) as site:
        done = site.play("--client-cert", own.certificate, "--client-key", own.key)
        assert done.returncode == 0, done.stdout
        assert (site.play().returncode == 0) is not needed


@pytest.mark.process
@pytest.mark.thorough
def test_a_certificate_that_everybody_may_leave_out_is_noticed(tmp_path: Path) -> None:
    own = certificates.client("palette-cluster", "people")
    with site_of(tmp_path, SAMPLES, REGISTRY_AUTH_ANONYMOUS="read") as site:
        done = site.play("--client-cert", own.certificate, "--client-key", own.key)
    assert done.returncode == 1
    assert "validate with no client certificate: is let in" in done.stdout


@pytest.mark.process
@pytest.mark.corpus
@pytest.mark.thorough
@pytest.mark.skipif(not CORPUS.is_dir(), reason=f"the corpus of real packs is not at {CORPUS}")
def test_real_packs_are_all_synchronised(tmp_path: Path) -> None:
    packs = tmp_path / "packs"
    shutil.copytree(CORPUS, packs)
    pack = make_pack(tmp_path / "new", "hello")
    with site_of(tmp_path, packs) as site:
        done = site.play("--change", f"mv {pack} {packs}")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "palette: ok"), done.stdout
    assert "37 packs, 182 tags, 71 archives compared with directories" in done.stdout
    assert int(rows(done.stdout)["full"][2]) > 10_000_000
    assert rows(done.stdout)["unchanged"][2] == "0"
    assert int(rows(done.stdout)["change"][2]) < 100_000
