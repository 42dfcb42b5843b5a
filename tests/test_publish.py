"""Pushing over HTTP: archives, tags, removal and rollback, and the uploads of the Distribution API."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import tarfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from packregistry import archive
from packregistry.config import Config, Limits, Storage, Sweep, Uploads
from packregistry.holdings import HOLDINGS, Holdings
from packregistry.manifests import MANIFEST_TYPE, TITLE
from packregistry.model import Digest, PackName
from packregistry.server import sweeper_of
from packregistry.uploads import UPLOADS
from tests.factories import make_pack, open_registry, pack_files, tarball
from tests.web import Site, serving

HELLO = PackName("hello")
ADMIN = {"admin": "a secret"}


class Pusher:
    """An HTTP client of one site."""

    def __init__(self, site: Site, session: aiohttp.ClientSession) -> None:
        self.site, self.session = site, session
        host, port = site.address
        self.base = f"http://{host}:{port}"

    async def ask(self, method: str, path: str, data: Any = None, **headers: str) -> tuple[int, Any, Any]:
        """Status, headers, and the body: as JSON where it is."""
        names = {key.replace("_", "-"): value for key, value in headers.items()}
        async with self.session.request(method, self.base + path, data=data, headers=names) as response:
            body = await response.read()
            is_json = response.content_type == "application/json" and body
            return response.status, response.headers, json.loads(body) if is_json else body

    async def push(self, data: Any, query: str = "", **headers: str) -> tuple[int, Any]:
        status, _, body = await self.ask("POST", f"/api/v1/packs{query}", data, **headers)
        return status, body

    async def tags(self) -> list[str]:
        _, _, body = await self.ask("GET", "/v1/hello/tags/list")
        tags: list[str] = body.get("tags", [])
        return tags

    async def history(self) -> list[tuple[int, str, str]]:
        _, _, body = await self.ask("GET", "/api/v1/packs/hello")
        return [(item["id"], item["action"], item["tag"]) for item in reversed(body["history"])]

    async def blob(self, data: bytes, name: str = "hello") -> str:
        digest = Digest.of(data)
        status, _, _ = await self.ask("POST", f"/v1/{name}/blobs/uploads/?digest={digest}", data)
        assert status == 201
        return digest


@asynccontextmanager
async def pushing(data: Path, *roots: Path, config: Config | None = None) -> AsyncIterator[Pusher]:
    async with (
        serving(data, *roots, users=ADMIN, config=config) as site,
        aiohttp.ClientSession(headers=site.headers) as session,
    ):
        yield Pusher(site, session)


@pytest_asyncio.fixture
async def pusher(tmp_path: Path) -> AsyncIterator[Pusher]:
    async with pushing(tmp_path / "data") as found:
        yield found


def code(body: Any) -> str:
    return str(body["errors"][0]["code"])


def leftovers(data: Path) -> list[str]:
    return [path.name for folder in ("staging", UPLOADS) for path in (data / folder).rglob("*") if path.is_file()]


async def until(condition: Callable[[], bool]) -> None:
    """Let others run until the condition holds, which takes no time that is known beforehand."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 — what is waited for happens on disk, where nothing sets an event
            await asyncio.sleep(0.001)


# Archives


async def test_a_pushed_archive_is_served_byte_for_byte(pusher: Pusher) -> None:
    data = tarball(files={"manifests/a.yaml": b"a: 1\n"})
    status, body = await pusher.push(data)
    assert (status, body["action"]) == (201, "created")
    assert body["release"]["archive"] == {"digest": Digest.of(data), "size": len(data)}
    assert (body["release"]["name"], body["release"]["origin"]) == ("hello", {"kind": "push"})
    _, _, served = await pusher.ask("GET", body["release"]["archiveUrl"])
    assert served == data
    _, _, one = await pusher.ask("GET", "/api/v1/packs/hello/versions/1.x/files/manifests/a.yaml")
    assert one == b"a: 1\n"
    assert await pusher.tags() == ["1.0.0", "1.0.x", "1.x"]
    assert await pusher.history() == [(1, "publish", "1.0.0")]


async def test_a_body_without_a_length_is_taken(pusher: Pusher) -> None:
    data = tarball()

    async def parts() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 100):
            yield data[start : start + 100]

    assert (await pusher.push(parts()))[0] == 201


async def test_the_same_content_again_changes_nothing(pusher: Pusher) -> None:
    data = tarball()
    await pusher.push(data)
    status, body = await pusher.push(data)
    assert (status, body["action"]) == (200, "unchanged")
    assert len(await pusher.history()) == 1


async def test_other_content_is_a_conflict_that_names_both_digests(pusher: Pusher) -> None:
    first, second = tarball(), tarball(files={"README.md": b"other"})
    await pusher.push(first)
    status, body = await pusher.push(second)
    assert (status, code(body)) == (409, "RELEASE_CONFLICT")
    detail = body["errors"][0]["detail"]
    assert (detail["existing"], detail["offered"]) == (Digest.of(first), Digest.of(second))
    assert "--force" in body["errors"][0]["message"]


async def test_force_replaces_with_a_message_and_is_refused_without_one_or_without_a_difference(
    pusher: Pusher,
) -> None:
    first, second = tarball(), tarball(files={"README.md": b"other"})
    await pusher.push(first)
    assert code((await pusher.push(second, "?force=true"))[1]) == "PARAMETER_INVALID"
    assert code((await pusher.push(second, "?force=true&message=%20"))[1]) == "PARAMETER_INVALID"
    status, body = await pusher.push(second, "?force=true&message=why")
    assert (status, body["action"]) == (201, "replaced")
    status, body = await pusher.push(second, "?force=true&message=again")
    assert (status, code(body)) == (409, "DIGEST_UNCHANGED")
    status, body = await pusher.push(second, "?force=true&message=again&skipDigestCheck=true")
    assert (status, body["action"]) == (201, "replaced")
    _, _, pack = await pusher.ask("GET", "/api/v1/packs/hello")
    newest = pack["history"][0]
    assert (newest["user"], newest["action"], newest["message"]) == ("admin", "replace", "again")
    assert pack["history"][1]["before"] == Digest.of(first)
    assert pack["history"][1]["after"] == Digest.of(second)


@pytest.mark.parametrize("header", ["Content-Digest", "Digest"])
async def test_an_announced_digest_is_verified(pusher: Pusher, header: str, tmp_path: Path) -> None:
    data = tarball()
    right, wrong = (base64.b64encode(hashlib.sha256(text).digest()).decode() for text in (data, b"other"))
    form = "sha-256=:{}:" if header == "Content-Digest" else "SHA-256={}"
    status, body = await pusher.push(data, **{header: form.format(wrong)})
    assert (status, code(body)) == (400, "DIGEST_INVALID")
    assert code((await pusher.push(data, **{header: form.format("AAAA")}))[1]) == "DIGEST_INVALID"
    assert not list((tmp_path / "data" / "blobs" / "sha256").iterdir())
    assert (await pusher.push(data, **{header: "md5=:x:, " + form.format(right)}))[0] == 201


async def test_a_refused_pack_is_told_every_problem_at_once(pusher: Pusher, tmp_path: Path) -> None:
    data = tarball(files={"logo.png": b"no image", "values.yaml": b"a: [1,\n"}, layer="addn")
    status, body = await pusher.push(data)
    assert (status, code(body)) == (422, "PACK_INVALID")
    found = {(item["file"], item.get("field", "")) for item in body["errors"][0]["detail"]}
    assert {("logo.png", ""), ("values.yaml", ""), ("pack.json", "layer")} <= found
    assert all(item["remedy"] for item in body["errors"][0]["detail"] if item["severity"] == "error")
    assert leftovers(tmp_path / "data") == []
    assert not list((tmp_path / "data" / "blobs" / "sha256").iterdir())


async def test_a_folder_that_gives_its_group_to_new_files_is_no_reason_to_refuse(pusher: Pusher) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        folder = tarfile.TarInfo("hello-1.0.0")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o2755
        tar.addfile(folder)
        for path, content in pack_files().items():
            info = tarfile.TarInfo(f"hello-1.0.0/{path}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    assert (await pusher.push(out.getvalue()))[0] == 201


async def test_what_is_no_archive_is_refused_for_that_alone(pusher: Pusher) -> None:
    for data in (b"", b"no gzip", tarball()[:-20]):
        status, body = await pusher.push(data)
        assert (status, code(body)) == (422, "PACK_INVALID")
        assert "logo.png" not in json.dumps(body)


async def test_a_body_over_the_limit_is_refused(tmp_path: Path) -> None:
    async with pushing(tmp_path / "data", config=Config(limits=Limits(archive=1000))) as pusher:
        status, body = await pusher.push(b"x" * 1001)
        assert (status, code(body)) == (413, "SIZE_INVALID")
        assert leftovers(tmp_path / "data") == []


@pytest.mark.parametrize("query", ["?force=maybe", "?message=" + "x" * 1001, "?unknown=1"])
async def test_odd_parameters_are_refused(pusher: Pusher, query: str) -> None:
    status, body = await pusher.push(tarball(), query)
    assert (status, code(body)) == (400, "PARAMETER_INVALID")


async def test_only_one_of_many_different_pushes_wins(pusher: Pusher) -> None:
    pushes = [pusher.push(tarball(files={"README.md": f"{number}".encode()})) for number in range(8)]
    statuses = sorted(status for status, _ in await asyncio.gather(*pushes))
    assert statuses == [201, *[409] * 7]
    assert await pusher.history() == [(1, "publish", "1.0.0")]


async def test_a_client_that_goes_away_half_way_leaves_nothing(pusher: Pusher, tmp_path: Path) -> None:
    authorization = pusher.site.headers["Authorization"]
    head = f"POST /api/v1/packs HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nAuthorization: {authorization}\r\n\r\n"
    async with pusher.site.connect() as connection:
        await connection.send(head.encode() + b"x" * 100)
        await until(lambda: bool(leftovers(tmp_path / "data")))
    await until(lambda: not leftovers(tmp_path / "data"))
    assert await pusher.tags() == []


async def test_a_body_that_stalls_is_given_up(tmp_path: Path) -> None:
    async with serving(tmp_path / "data", stall=0.05) as site, site.connect() as connection:
        await connection.send(b"POST /api/v1/packs HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nx")
        answer = await connection.answer()
        assert (answer.status, answer.error) == (408, "BODY_STALLED")
    assert leftovers(tmp_path / "data") == []


# Tags, removal, rollback


async def test_tags_are_added_moved_and_removed(pusher: Pusher) -> None:
    for version in ("1.0.0", "1.1.0"):
        await pusher.push(tarball(version))
    path = "/api/v1/packs/hello/tags/stable"
    assert (await pusher.ask("PUT", path, b'{"version": "1.0.0"}'))[2] == {"tag": "stable", "version": "1.0.0"}
    assert (await pusher.ask("PUT", path, b'{"version": "1.x"}'))[2] == {"tag": "stable", "version": "1.1.0"}
    grouped = b'{"version": "1.0.0", "group": "lts", "message": "for long"}'
    assert (await pusher.ask("PUT", path, grouped))[2] == {"tag": "lts__stable", "version": "1.0.0"}
    assert await pusher.tags() == ["1.0.0", "1.0.x", "1.1.0", "1.1.x", "1.x", "lts__stable", "stable"]
    assert (await pusher.ask("DELETE", path))[2] == {"deleted": ["stable"], "release": None}
    assert "stable" not in await pusher.tags()


@pytest.mark.parametrize(
    ("method", "tag", "body", "expected"),
    [
        pytest.param("PUT", "2.x", b'{"version": "1.0.0"}', (400, "TAG_INVALID"), id="a parent tag is made by nobody"),
        pytest.param("PUT", "1.1.0", b'{"version": "1.0.0"}', (400, "TAG_INVALID"), id="a version is no label"),
        pytest.param("PUT", "a", b'{"version": "9.9.9"}', (404, "MANIFEST_UNKNOWN"), id="unknown version"),
        pytest.param("PUT", "a", b"{", (400, "BODY_INVALID"), id="no JSON"),
        pytest.param("PUT", "a", b"[]", (400, "BODY_INVALID"), id="no object"),
        pytest.param("PUT", "a", b'{"version": 1}', (400, "BODY_INVALID"), id="no text"),
        pytest.param("PUT", "a", b'{"x": 1}', (400, "BODY_INVALID"), id="unknown member"),
        pytest.param("DELETE", "1.x", None, (400, "TAG_INVALID"), id="a parent tag is removed by nobody"),
        pytest.param("DELETE", "nothing", None, (404, "MANIFEST_UNKNOWN"), id="unknown tag"),
    ],
)
async def test_tags_that_cannot_be(
    pusher: Pusher, method: str, tag: str, body: bytes | None, expected: tuple[int, str]
) -> None:
    for version in ("1.0.0", "1.1.0"):
        await pusher.push(tarball(version))
    status, _, answer = await pusher.ask(method, f"/api/v1/packs/hello/tags/{tag}", body)
    assert (status, code(answer)) == expected


async def test_a_version_lives_on_by_another_tag_and_goes_with_its_last(pusher: Pusher) -> None:
    for version in ("1.0.0", "1.1.0"):
        await pusher.push(tarball(version))
    await pusher.ask("PUT", "/api/v1/packs/hello/tags/stable", b'{"version": "1.1.0"}')
    assert (await pusher.ask("DELETE", "/api/v1/packs/hello/tags/1.1.0"))[2] == {"deleted": ["1.1.0"], "release": None}
    assert await pusher.tags() == ["1.0.0", "1.0.x", "1.x", "stable"]
    _, _, pack = await pusher.ask("GET", "/api/v1/packs/hello")
    assert [item["tag"] for item in pack["tags"] if item["target"] == "1.0.0"] == ["1.0.0", "1.0.x", "1.x"]
    for release in pack["versions"]:
        assert (await pusher.ask("GET", release["url"]))[0] == 200
    gone = {"deleted": ["stable"], "release": "1.1.0"}
    assert (await pusher.ask("DELETE", "/api/v1/packs/hello/tags/stable"))[2] == gone
    assert await pusher.tags() == ["1.0.0", "1.0.x", "1.x"]


async def test_a_version_is_removed_with_all_its_tags(pusher: Pusher) -> None:
    await pusher.push(tarball())
    await pusher.ask("PUT", "/api/v1/packs/hello/tags/stable", b'{"version": "1.0.0"}')
    _, _, body = await pusher.ask("DELETE", "/api/v1/packs/hello/versions/1.0.0?message=broken")
    assert body == {"deleted": ["1.0.0", "stable"], "release": "1.0.0"}
    assert (await pusher.ask("GET", "/v1/hello/tags/list"))[0] == 404


async def test_deletion_can_be_switched_off(tmp_path: Path) -> None:
    async with pushing(tmp_path / "data") as pusher:
        await pusher.push(tarball())
        pusher.site.registry._can_delete = False
        for path in (
            "/api/v1/packs/hello/versions/1.0.0",
            "/api/v1/packs/hello/tags/1.0.0",
            "/v1/hello/manifests/1.0.0",
        ):
            status, _, body = await pusher.ask("DELETE", path)
            assert (status, code(body)) == (405, "UNSUPPORTED")
        assert "1.0.0" in await pusher.tags()


async def test_what_comes_from_a_watched_directory_is_not_removed_but_by_force_replaced(tmp_path: Path) -> None:
    make_pack(tmp_path / "packs")
    async with pushing(tmp_path / "data", tmp_path / "packs") as pusher:
        status, _, body = await pusher.ask("DELETE", "/api/v1/packs/hello/versions/1.0.0")
        assert (status, code(body)) == (409, "RELEASE_WATCHED")
        data = tarball(files={"README.md": b"other"})
        assert (await pusher.push(data))[0] == 409
        assert (await pusher.push(data, "?force=true&message=why"))[0] == 201


async def test_replaced_and_removed_content_is_brought_back(pusher: Pusher) -> None:
    first, second = tarball(), tarball(files={"README.md": b"other"})
    await pusher.push(first)
    await pusher.push(second, "?force=true&message=why")
    path = "/api/v1/packs/hello/rollback"
    status, _, body = await pusher.ask("POST", path, b'{"tag": "1.0.0", "message": "back"}')
    assert (status, body["action"], body["release"]["archive"]["digest"]) == (200, "restored", Digest.of(first))
    _, _, body = await pusher.ask("POST", path, b'{"tag": "1.0.0", "to": 2}')
    assert body["release"]["archive"]["digest"] == Digest.of(second)
    await pusher.ask("DELETE", "/api/v1/packs/hello/versions/1.0.0")
    assert (await pusher.ask("POST", path, b'{"tag": "1.0.0", "to": 1}'))[0] == 200
    _, _, served = await pusher.ask("GET", "/api/v1/packs/hello/versions/1.0.0/archive")
    assert served == first
    actions = [action for _, action, _ in await pusher.history()]
    assert actions == ["publish", "replace", "restore", "restore", "delete", "restore"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(b'{"tag": "1.0.0"}', (400, "PARAMETER_INVALID"), id="nothing before"),
        pytest.param(b'{"tag": "1.0.0", "to": 1}', (400, "PARAMETER_INVALID"), id="it holds that now"),
        pytest.param(b'{"tag": "1.0.0", "to": 9}', (400, "PARAMETER_INVALID"), id="no such entry"),
        pytest.param(b'{"tag": "1.0.0", "to": "1"}', (400, "BODY_INVALID"), id="no number"),
        pytest.param(b'{"tag": "1.0.0", "to": true}', (400, "BODY_INVALID"), id="a truth is no number"),
        pytest.param(b"{}", (400, "TAG_INVALID"), id="no tag"),
    ],
)
async def test_what_cannot_be_rolled_back(pusher: Pusher, body: bytes, expected: tuple[int, str]) -> None:
    await pusher.push(tarball())
    status, _, answer = await pusher.ask("POST", "/api/v1/packs/hello/rollback", body)
    assert (status, code(answer)) == expected
    assert (await pusher.ask("POST", "/api/v1/packs/nothing/rollback", b'{"tag": "1"}'))[0] == 404


# Uploads


def manifest(data: bytes, config: bytes, **archive_more: Any) -> bytes:
    layer = {"mediaType": archive.ARCHIVE_TYPE, "digest": Digest.of(data), "size": len(data), **archive_more}
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": "application/json", "digest": Digest.of(config), "size": len(config)},
            "layers": [layer],
        }
    ).encode()


async def test_a_pack_is_published_by_its_blobs_and_a_manifest_that_is_kept(pusher: Pusher) -> None:
    data, config = tarball(), b'{"made": "by a client"}'
    await pusher.blob(data)
    await pusher.blob(config)
    body = manifest(data, config)
    status, headers, _ = await pusher.ask("PUT", "/v1/hello/manifests/1.0.0", body)
    assert (status, headers["Docker-Content-Digest"]) == (201, Digest.of(body))
    _, _, served = await pusher.ask("GET", headers["Location"])
    assert served == body
    assert (await pusher.ask("GET", f"/v1/hello/blobs/{Digest.of(config)}"))[2] == config
    assert (await pusher.ask("PUT", "/v1/hello/manifests/1.0.0", body))[0] == 201
    assert len(await pusher.history()) == 1


async def test_an_upload_goes_on_where_it_stopped(pusher: Pusher) -> None:
    data = tarball()
    status, headers, _ = await pusher.ask("POST", "/v1/hello/blobs/uploads/")
    assert (status, headers["Range"]) == (202, "0-0")
    location = headers["Location"]
    assert headers["Docker-Upload-UUID"] == location.rpartition("/")[2]
    half = len(data) // 2
    status, headers, _ = await pusher.ask("PATCH", location, data[:half], Content_Range=f"0-{half - 1}")
    assert (status, headers["Range"]) == (202, f"0-{half - 1}")
    status, headers, body = await pusher.ask("PATCH", location, b"x", Content_Range="0-0")
    assert (status, code(body), headers["Range"]) == (416, "RANGE_INVALID", f"0-{half - 1}")
    status, headers, _ = await pusher.ask("GET", location)
    assert (status, headers["Range"]) == (204, f"0-{half - 1}")
    status, headers, _ = await pusher.ask("PUT", f"{location}?digest={Digest.of(data)}", data[half:])
    assert (status, headers["Docker-Content-Digest"]) == (201, Digest.of(data))
    assert (await pusher.ask("GET", location))[0] == 404


async def test_an_upload_that_is_not_what_its_digest_says_goes_on_living(pusher: Pusher) -> None:
    _, headers, _ = await pusher.ask("POST", "/v1/hello/blobs/uploads/")
    location = headers["Location"]
    status, _, body = await pusher.ask("PUT", f"{location}?digest={Digest.of(b'other')}", b"this")
    assert (status, code(body)) == (400, "DIGEST_INVALID")
    assert (await pusher.ask("GET", location))[1]["Range"] == "0-3"
    assert (await pusher.ask("DELETE", location))[0] == 204
    assert (await pusher.ask("PATCH", location, b"x"))[0] == 404


@pytest.mark.parametrize("header", ["x", "5-1", "0-9"])
async def test_a_content_range_that_makes_no_sense_is_refused(pusher: Pusher, header: str) -> None:
    _, headers, _ = await pusher.ask("POST", "/v1/hello/blobs/uploads/")
    status, _, body = await pusher.ask("PATCH", headers["Location"], b"x", Content_Range=header)
    assert (status, code(body)) == (400, "BLOB_UPLOAD_INVALID")


async def test_an_upload_belongs_to_its_pack(pusher: Pusher) -> None:
    _, headers, _ = await pusher.ask("POST", "/v1/hello/blobs/uploads/")
    other = headers["Location"].replace("/hello/", "/other/")
    for path in (other, "/v1/hello/blobs/uploads/..", "/v1/hello/blobs/uploads/%2e%2e%2f" + "0" * 32):
        status, _, body = await pusher.ask("PATCH", path, b"x")
        assert (status, code(body)) in {(404, "BLOB_UPLOAD_UNKNOWN"), (404, "NOT_FOUND"), (405, "UNSUPPORTED")}


async def test_what_arrived_before_a_connection_broke_is_kept(pusher: Pusher, tmp_path: Path) -> None:
    data = tarball(files={"manifests/noise": b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(100_000))})
    part = 2 * 1024 * 1024 + 1000
    _, headers, _ = await pusher.ask("POST", "/v1/hello/blobs/uploads/")
    location = headers["Location"]
    (path,) = (tmp_path / "data" / UPLOADS / "hello").iterdir()
    authorization = pusher.site.headers["Authorization"]
    async with pusher.site.connect() as connection:
        text = f"PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n"
        await connection.send(f"{text}Authorization: {authorization}\r\n\r\n".encode() + data[:part])
        await until(lambda: path.stat().st_size >= 1024 * 1024)
        status, _, body = await pusher.ask("PATCH", location, b"x")
        assert (status, code(body)) == (400, "BLOB_UPLOAD_INVALID"), "two requests cannot write at once"
    status = 0
    while status != 204:
        status, headers, _ = await pusher.ask("GET", location)
    kept = int(headers["Range"].removeprefix("0-")) + 1
    assert 1024 * 1024 <= kept <= part
    assert (await pusher.ask("PATCH", location, io.BytesIO(data[kept:]), Content_Range=f"{kept}-{len(data) - 1}"))[
        0
    ] == 202
    assert (await pusher.ask("PUT", f"{location}?digest={Digest.of(data)}"))[0] == 201


async def test_a_blob_of_another_pack_is_mounted_only_from_where_it_is(pusher: Pusher) -> None:
    data = tarball(name="other")
    await pusher.push(data)
    digest = Digest.of(data)
    status, headers, _ = await pusher.ask("POST", f"/v1/hello/blobs/uploads/?mount={digest}&from=other")
    assert (status, headers["Docker-Content-Digest"]) == (201, digest)
    for source in ("third", "hello"):
        status, headers, _ = await pusher.ask("POST", f"/v1/fourth/blobs/uploads/?mount={digest}&from={source}")
        assert (status, headers["Range"]) == (202, "0-0")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(
            {"annotations": {TITLE: "x"}, "mediaType": "text/plain"}, (400, "MANIFEST_INVALID"), id="no archive"
        ),
        pytest.param({"size": -1}, (400, "MANIFEST_INVALID"), id="size"),
        pytest.param({"digest": "sha256:x"}, (400, "MANIFEST_INVALID"), id="digest"),
        pytest.param({"digest": Digest.of(b"unknown")}, (400, "MANIFEST_BLOB_UNKNOWN"), id="a blob it has not"),
    ],
)
async def test_manifests_that_cannot_be(pusher: Pusher, change: dict[str, Any], expected: tuple[int, str]) -> None:
    data, config = tarball(), b"{}"
    await pusher.blob(data)
    await pusher.blob(config)
    status, _, body = await pusher.ask("PUT", "/v1/hello/manifests/1.0.0", manifest(data, config, **change))
    assert (status, code(body)) == expected


@pytest.mark.parametrize("said", [1, 3])
async def test_a_manifest_that_says_another_size_of_an_uploaded_blob_is_refused(pusher: Pusher, said: int) -> None:
    data, config = tarball(), b"{}"
    await pusher.blob(data)
    await pusher.blob(config)
    document = json.loads(manifest(data, config))
    document["config"]["size"] = said
    status, _, body = await pusher.ask("PUT", "/v1/hello/manifests/1.0.0", json.dumps(document).encode())
    assert (status, code(body)) == (400, "MANIFEST_INVALID")
    assert f"has {said} bytes, and it has 2" in body["errors"][0]["message"]


@pytest.mark.parametrize(
    ("title", "content", "status"),
    [
        pytest.param("values.yaml", b"other: values\n", 400, id="other values"),
        pytest.param("presets.yaml", b"presets: []\n", 400, id="a file that is not there"),
        pytest.param("README.md", b"as in the archive", 201, id="the same file"),
        pytest.param("notes.txt", b"of a client's own", 201, id="no file of a pack"),
    ],
)
async def test_a_layer_that_is_called_as_a_file_of_the_pack_is_that_file(
    pusher: Pusher, title: str, content: bytes, status: int
) -> None:
    """Whoever looks at the small files sees what the archive has, even where everything is forced."""
    data, config = tarball(files={"README.md": b"as in the archive"}), b"{}"
    for blob in (data, config, content):
        await pusher.blob(blob)
    document = json.loads(manifest(data, config))
    document["layers"].append(
        {"mediaType": "text/plain", "digest": Digest.of(content), "size": len(content), "annotations": {TITLE: title}}
    )
    path = "/v1/hello/manifests/1.0.0?force=true&skipDigestCheck=true&message=why"
    found, _, body = await pusher.ask("PUT", path, json.dumps(document).encode())
    assert found == status
    assert status == 201 or title in body["errors"][0]["message"]


async def test_a_manifest_publishes_only_under_the_name_and_version_of_the_pack(pusher: Pusher) -> None:
    data, config = tarball(), b"{}"
    for name in ("hello", "other"):
        await pusher.blob(data, name)
        await pusher.blob(config, name)
    for path in ("/v1/other/manifests/1.0.0", "/v1/hello/manifests/1.0.1"):
        status, _, body = await pusher.ask("PUT", path, manifest(data, config))
        assert (status, code(body)) == (422, "PACK_INVALID")
        assert "hello:1.0.0" in body["errors"][0]["message"]
    for odd in (b"", b"[]", b"{}", b"[" * 100_000):
        assert code((await pusher.ask("PUT", "/v1/hello/manifests/1.0.0", odd))[2]) == "MANIFEST_INVALID"


async def test_a_manifest_is_deleted_by_tag_and_by_digest(pusher: Pusher) -> None:
    for version in ("1.0.0", "1.1.0"):
        await pusher.push(tarball(version))
    _, headers, _ = await pusher.ask("GET", "/v1/hello/manifests/1.0.0")
    assert (await pusher.ask("DELETE", f"/v1/hello/manifests/{headers['Docker-Content-Digest']}"))[0] == 202
    assert (await pusher.ask("DELETE", "/v1/hello/manifests/1.1.0"))[0] == 202
    assert (await pusher.ask("GET", "/v1/hello/tags/list"))[0] == 404


# Sweeping


def impatient(grace: float = 0.0) -> Config:
    return Config(storage=Storage(sweep=Sweep(grace=grace)))


async def test_a_sweep_takes_what_nothing_needs_and_nothing_else(pusher: Pusher, tmp_path: Path) -> None:
    registry = pusher.site.registry
    await pusher.push(tarball("1.0.0"))
    await pusher.push(tarball("2.0.0"))
    await pusher.ask("DELETE", "/api/v1/packs/hello/versions/2.0.0")
    held = await pusher.blob(b"uploaded, and waiting for its manifest")
    patient = await sweeper_of(impatient(3600), registry).sweep()
    assert patient.blobs == ()
    found = await sweeper_of(impatient(), registry).sweep(dry_run=True)
    assert Digest.of(tarball("2.0.0")) in dict(found.blobs)
    before = {path.name for path in (tmp_path / "data" / "blobs" / "sha256").iterdir()}
    swept = await sweeper_of(impatient(), registry).sweep()
    assert swept == found
    after = {path.name for path in (tmp_path / "data" / "blobs" / "sha256").iterdir()}
    assert before - after == {digest.hex for digest, _ in swept.blobs}
    assert Digest(held).hex in after
    assert (await pusher.ask("GET", "/api/v1/packs/hello/versions/1.0.0/archive"))[2] == tarball("1.0.0")
    status, _, body = await pusher.ask("POST", "/api/v1/packs/hello/rollback", b'{"tag": "2.0.0"}')
    assert (status, code(body)) == (404, "MANIFEST_UNKNOWN")


async def test_nothing_is_swept_while_a_record_is_damaged(pusher: Pusher, tmp_path: Path) -> None:
    await pusher.push(tarball())
    (tmp_path / "data" / "packs" / "hello.json").write_text("{")
    with pytest.raises(Exception, match="nothing is swept while records are damaged: hello"):
        await sweeper_of(impatient(), pusher.site.registry).sweep()


async def test_expired_uploads_and_holdings_go(pusher: Pusher, tmp_path: Path) -> None:
    await pusher.ask("POST", "/v1/hello/blobs/uploads/")
    digest = await pusher.blob(b"held")
    local = tmp_path / "data"
    config = Config(storage=Storage(sweep=Sweep(grace=0), uploads=Uploads(expire=0)))
    swept = await sweeper_of(config, pusher.site.registry).sweep()
    assert [item.partition("/")[0] for item in swept.uploads] == ["hello"]
    assert dict(swept.blobs) == {digest: 4}
    assert leftovers(local) == []
    assert await Holdings(local / HOLDINGS, expire=1000).digests() == set()


@pytest.mark.thorough
async def test_no_sweep_takes_what_pushes_uploads_and_rollbacks_beside_it_need(pusher: Pusher, tmp_path: Path) -> None:
    """Contents come, are replaced, come back and are shared between versions, while another worker sweeps all the time.

    The sweeper has a registry and a storage of its own on the same directory, as another process has: all that the two
    share are the files and their locks.
    """
    registry = pusher.site.registry
    contents = [tarball(files={"README.md": f"{number}".encode()}) for number in range(3)]
    done = asyncio.Event()

    swept: list[Digest] = []

    async def sweep() -> None:
        while not done.is_set():
            # The grace period only has to be longer than a publish takes.
            swept.extend(digest for digest, _ in (await sweeper_of(impatient(0.3), other).sweep()).blobs)
            await asyncio.sleep(0)

    held = await pusher.blob(b"uploaded, and waiting for its manifest")
    _, headers, _ = await pusher.ask("POST", "/v1/hello/blobs/uploads/")
    upload = headers["Location"]
    await pusher.ask("PATCH", upload, b"under way")
    async with open_registry(tmp_path / "data") as other:
        sweeping = asyncio.create_task(sweep())
        turn = 0
        async with asyncio.timeout(20):
            while turn < 24 or not swept:
                data = contents[turn % 3]
                status, body = await pusher.push(data, "?force=true&message=x&skipDigestCheck=true")
                assert status == 201, body
                if turn % 4 == 3:
                    await pusher.ask("POST", "/api/v1/packs/hello/rollback", b'{"tag": "1.0.0"}')
                release = registry.pack(HELLO).latest
                for blob in release.blobs():
                    assert Digest.of(await registry.storage.read_blob(blob.digest)) == blob.digest
                # A few versions come and go, so that there is something to sweep.
                await pusher.push(tarball(f"2.{turn}.0"))
                await pusher.ask("DELETE", f"/api/v1/packs/hello/versions/2.{turn}.0")
                turn += 1
        done.set()
        await sweeping
    assert (await pusher.ask("GET", upload))[1]["Range"] == "0-8"
    assert await registry.storage.read_blob(Digest(held)) == b"uploaded, and waiting for its manifest"
