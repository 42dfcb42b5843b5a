"""Every route, asked by everybody who could ask: each answer is pinned, and a route without a row fails."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from packregistry.auth.tokens import TOKEN_USE, TOKENS, TokenFile
from packregistry.config import Config
from packregistry.manifests import MANIFEST_TYPE
from packregistry.model import Digest, PackName, Tag
from packregistry.web.routes import routes
from tests.factories import ANN, make_pack, pack_files, publish, tarball
from tests.web import Answer, Site, basic, serving

USERS = {"reader": "one", "writer": "two", "root": "three"}
POLICY = """\
version: 1
rules:
  - {subjects: [user:reader], packs: ["*"], role: reader}
  - {subjects: [user:writer], packs: ["hel*"], allow: [read, create, overwrite]}
  - {subjects: [user:root], packs: ["*"], role: admin}
"""
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")

ARCHIVE = tarball("2.0.0")
BLOB = b"a blob"
LOGO = Digest.of(pack_files()["logo.png"])
PUSHED = tarball("3.0.0")


def manifest_of(archive: bytes) -> bytes:
    config = {
        "mediaType": "application/json",
        "digest": Digest.of(pack_files("hello", "3.0.0")["pack.json"]),
        "size": 1,
    }
    layer = {"mediaType": "application/gzip", "digest": Digest.of(archive), "size": len(archive)}
    return json.dumps({"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": [layer]}).encode()


@dataclass(frozen=True)
class Row:
    """What a route answers to those who have signed in: the statuses for reader, writer, another's pack, admin."""

    target: str
    reader: int
    writer: int
    elsewhere: int
    admin: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    public: bool = False


def read(target: str) -> Row:
    return Row(target, 200, 200, 403, 200)


def listed(target: str) -> Row:
    """Everybody who is signed in gets an answer, which has what they may read."""
    return Row(target, 200, 200, 200, 200)


def write(target: str, status: int, body: bytes = b"", **headers: str) -> Row:
    return Row(target, 403, status, 403, status, body, headers)


def delete(target: str, status: int) -> Row:
    return Row(target, 403, 403, 403, status)


def admin(target: str, status: int, body: bytes = b"") -> Row:
    return Row(target, 403, 403, 403, status, body)


VERSION = "/api/v1/packs/{name}/versions/{tag}"
UPLOAD = "/v1/{name}/blobs/uploads/{upload}"
ROWS = {
    "GET /health": Row("/health", 200, 200, 200, 200, public=True),
    "GET /livez": Row("/livez", 200, 200, 200, 200, public=True),
    "GET /readyz": Row("/readyz", 200, 200, 200, 200, public=True),
    "GET /": listed("/"),
    "GET /v1/": listed("/v1/"),
    "GET /v1/_catalog": listed("/v1/_catalog"),
    "GET /v1/{name}/tags/list": read("/v1/hello/tags/list"),
    "GET /v1/{name}/manifests/{reference}": read("/v1/hello/manifests/1.0.0"),
    "GET /v1/{name}/blobs/{digest}": read(f"/v1/hello/blobs/{LOGO}"),
    "PUT /v1/{name}/manifests/{reference}": write("/v1/hello/manifests/3.0.0", 400, manifest_of(PUSHED)),
    "DELETE /v1/{name}/manifests/{reference}": delete("/v1/hello/manifests/1.0.0", 202),
    "POST /v1/{name}/blobs/uploads": write(f"/v1/hello/blobs/uploads/?digest={Digest.of(BLOB)}", 201, BLOB),
    f"GET {UPLOAD}": write("/v1/hello/blobs/uploads/@", 204),
    f"PATCH {UPLOAD}": write("/v1/hello/blobs/uploads/@", 202, BLOB),
    f"PUT {UPLOAD}": write(f"/v1/hello/blobs/uploads/@?digest={Digest.of(BLOB)}", 201, BLOB),
    f"DELETE {UPLOAD}": write("/v1/hello/blobs/uploads/@", 204),
    "GET /api/v1/packs": listed("/api/v1/packs"),
    # Who may publish some pack sends the archive, and is refused once it is known which pack it is.
    "POST /api/v1/packs": Row("/api/v1/packs", 403, 201, 403, 201, ARCHIVE),
    "GET /api/v1/packs/{name}": read("/api/v1/packs/hello"),
    "PUT /api/v1/packs/{name}/tags/{tag}": write("/api/v1/packs/hello/tags/new", 200, b'{"version": "1.0.0"}'),
    "DELETE /api/v1/packs/{name}/tags/{tag}": delete("/api/v1/packs/hello/tags/stable", 200),
    "POST /api/v1/packs/{name}/rollback": write("/api/v1/packs/hello/rollback", 200, b'{"tag": "1.0.0"}'),
    f"DELETE {VERSION}": delete("/api/v1/packs/hello/versions/1.0.0", 200),
    f"GET {VERSION}": read("/api/v1/packs/hello/versions/1.0.0"),
    f"GET {VERSION}/archive": read("/api/v1/packs/hello/versions/1.0.0/archive"),
    f"GET {VERSION}/files/{{path*}}": read("/api/v1/packs/hello/versions/1.0.0/files/README.md"),
    "GET /api/v1/problems": listed("/api/v1/problems"),
    "GET /api/v1/tokens": admin("/api/v1/tokens", 200),
    "POST /api/v1/tokens": admin("/api/v1/tokens", 201, b'{"name": "new", "role": "reader"}'),
    "DELETE /api/v1/tokens/{token}": admin("/api/v1/tokens/elsewhere", 200),
}


@dataclass
class Asker:
    """A site with packs and tokens, and the credentials of everybody there is."""

    site: Site
    credentials: Mapping[str, Mapping[str, str]]
    upload: str

    async def ask(self, who: str, method: str, target: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        lines = {**headers, **self.credentials[who], "Content-Length": str(len(body)), "Host": "registry"}
        head = [f"{method} {target.replace('@', self.upload)} HTTP/1.1", *(f"{key}: {lines[key]}" for key in lines)]
        async with self.site.connect() as connection:
            await connection.send("\r\n".join([*head, "", ""]).encode() + body)
            return await connection.answer(method)


@asynccontextmanager
async def asking(directory: Path, *roots: Path) -> AsyncIterator[Asker]:
    directory.mkdir()  # noqa: ASYNC240 — nobody waits
    policy = directory / "policy.yml"
    policy.write_text(POLICY)
    config = replace(Config(), auth=replace(Config().auth, policy=policy))
    secrets = await asyncio.to_thread(make_tokens, directory / "data")
    async with serving(directory / "data", *roots, config=config, users=USERS) as site:
        await publish(site.registry, files={"values.yaml": b"before: true\n"})
        await publish(site.registry, force=True, message="changed")
        await site.registry.tag(PackName("hello"), Tag("stable"), Tag("1.0.0"), by=ANN)
        upload = await site.ask("/v1/hello/blobs/uploads/", "POST", **basic("root", "three"))
        credentials = {
            "anonymous": {},
            "wrong password": basic("root", "wrong"),
            "unknown user": basic("nobody", "three"),
            **{name: bearer(secret) for name, secret in secrets.items()},
            **{name: basic(name, password) for name, password in USERS.items()},
        }
        yield Asker(site, credentials, upload.headers["Docker-Upload-UUID"])


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def make_tokens(data: Path) -> dict[str, str]:
    """Tokens: of other packs, and two that would allow everything and are not in force any more."""
    data.mkdir()
    tokens = TokenFile(data / TOKENS, data / TOKEN_USE)
    tokens.load()
    made = {
        "elsewhere": tokens.create("elsewhere", "root", "maintainer", ["other-*"], None)[1],
        "revoked": tokens.create("revoked", "root", "admin", ["*"], None)[1],
        "expired": tokens.create("expired", "root", "admin", ["*"], dt.datetime.now(dt.UTC) + dt.timedelta(days=1))[1],
    }
    tokens.revoke("revoked")
    document = json.loads(tokens.path.read_bytes())
    for entry in document["tokens"]:
        if entry["name"] == "expired":
            entry["expires"] = "2026-01-01T00:00:00Z"
    tokens.path.write_text(json.dumps(document))
    return made


def test_every_route_has_a_row() -> None:
    assert set(ROWS) == {f"{route.method} {route.path}" for route in routes()}


@pytest.mark.parametrize(("key", "row"), ROWS.items(), ids=ROWS)
async def test_a_route_answers_each_as_its_row_says(key: str, row: Row, tmp_path: Path) -> None:
    method = key.partition(" ")[0]
    async with asking(tmp_path / "1") as asker:
        for who in ("anonymous", "wrong password", "unknown user", "expired", "revoked"):
            answer = await asker.ask(who, method, row.target, row.body, row.headers)
            assert answer.status == (200 if row.public else 401), who
            if not row.public:
                assert answer.error == "UNAUTHORIZED"
                assert answer.headers["WWW-Authenticate"] == 'Basic realm="the realm"'
        for who in ("reader", "elsewhere"):
            answer = await asker.ask(who, method, row.target, row.body, row.headers)
            assert answer.status == getattr(row, who), who
            assert answer.status < 400 or answer.error == "DENIED"
        # What a change does is not there to be done again: each gets a registry of their own.
        answer = await asker.ask("writer", method, row.target, row.body, row.headers)
        assert answer.status == row.writer
        if method == "GET" and row.writer == 200:
            assert (await asker.ask("writer", "HEAD", row.target, b"", row.headers)).status == 200
    async with asking(tmp_path / "2") as asker:
        assert (await asker.ask("root", method, row.target, row.body, row.headers)).status == row.admin


async def test_other_methods_than_those_of_the_table_are_refused_to_everybody(tmp_path: Path) -> None:
    known: dict[str, tuple[str, set[str]]] = {}
    for key, row in ROWS.items():
        method, _, path = key.partition(" ")
        known.setdefault(path, (row.target, set()))[1].update({"GET", "HEAD"} if method == "GET" else {method})
    async with asking(tmp_path / "1") as asker:
        for target, allowed in known.values():
            for method in METHODS:
                for who in ("anonymous", "root") if method not in allowed else ():
                    answer = await asker.ask(who, method, target, b"", {})
                    assert answer.status == 405, (who, method, target)
                    assert set(answer.headers["Allow"].split(", ")) == allowed


async def test_what_is_listed_is_what_may_be_read(tmp_path: Path) -> None:
    async with asking(tmp_path / "1") as asker:
        await publish(asker.site.registry, "other-one")
        await publish(asker.site.registry, "third", cloudTypes=["nowhere"])
        for who, names in {
            "root": ["hello", "other-one", "third"],
            "reader": ["hello", "other-one", "third"],
            "writer": ["hello"],
            "elsewhere": ["other-one"],
        }.items():
            catalog = await asker.ask(who, "GET", "/v1/_catalog", b"", {})
            assert catalog.json()["repositories"] == names
            first = await asker.ask(who, "GET", "/v1/_catalog?n=1", b"", {})
            assert first.json()["repositories"] == names[:1]
            assert ("Link" in first.headers) == (len(names) > 1)
            packs = await asker.ask(who, "GET", "/api/v1/packs?limit=1", b"", {})
            assert (packs.json()["packs"][0]["name"], packs.json()["total"]) == (names[0], len(names))
            problems = await asker.ask(who, "GET", "/api/v1/problems", b"", {})
            assert {item["name"] for item in problems.json()["problems"]} == {"third"} & set(names)


async def test_packs_that_may_not_be_read_look_like_packs_that_are_not_there(tmp_path: Path) -> None:
    async with asking(tmp_path / "1") as asker:
        for path in ("/v1/{}/tags/list", "/v1/{}/manifests/1.0.0", "/api/v1/packs/{}", "/v1/{}/blobs/" + LOGO):
            there, nowhere = [
                await asker.ask("elsewhere", "GET", path.format(name), b"", {}) for name in ("hello", "nothing")
            ]
            assert (there.status, nowhere.status) == (403, 403)
            assert there.body.replace(b"hello", b"nothing") == nowhere.body


async def test_a_blob_is_not_mounted_from_a_pack_that_may_not_be_read(tmp_path: Path) -> None:
    async with asking(tmp_path / "1") as asker:
        target = f"/v1/other-one/blobs/uploads/?mount={LOGO}&from=hello"
        assert (await asker.ask("elsewhere", "POST", target, b"", {})).status == 202
        assert (await asker.ask("root", "POST", target, b"", {})).status == 201


async def test_an_archive_is_judged_by_the_pack_in_it(tmp_path: Path) -> None:
    """Whoever may publish some pack has the body read, and publishes nothing else by it."""
    async with asking(tmp_path / "1") as asker:
        mine, foreign = tarball(name="other-mine"), tarball("4.0.0", name="foreign")
        assert (await asker.ask("elsewhere", "POST", "/api/v1/packs", mine, {})).status == 201
        refused = await asker.ask("elsewhere", "POST", "/api/v1/packs", foreign, {})
        assert (refused.status, refused.error) == (403, "DENIED")
        # That a version is there with other content is not told to those who may not know of it.
        conflict = await asker.ask("elsewhere", "POST", "/api/v1/packs", tarball(), {})
        assert (conflict.status, conflict.error) == (403, "DENIED")
        assert asker.site.registry.names() == ["hello", "other-mine"]


async def test_only_admins_see_the_directories_of_the_server(tmp_path: Path) -> None:
    make_pack(tmp_path / "packs", "hello-from-here")
    make_pack(tmp_path / "packs", "hello-broken", files={"values.yaml": b"a: [\n", "pack.json": b"{}"})
    async with asking(tmp_path / "1", tmp_path / "packs") as asker:
        for who, sees in (("root", True), ("reader", False), ("writer", False)):
            for path in (
                "/api/v1/packs/hello-from-here",
                "/api/v1/packs/hello-from-here/versions/1.0.0",
                "/api/v1/problems",
            ):
                answer = await asker.ask(who, "GET", path, b"", {})
                assert answer.status == 200
                assert (str(tmp_path).encode() in answer.body) == sees, (who, path)


async def slow_push(asker: Asker, who: str, meanwhile: Callable[[], Awaitable[object]]) -> Answer:
    """Push a pack, and have something happen before the last of it is sent."""
    head = {**asker.credentials[who], "Content-Length": str(len(PUSHED)), "Host": "registry", "Expect": "100-continue"}
    lines = ["POST /api/v1/packs HTTP/1.1", *(f"{key}: {value}" for key, value in head.items()), "", ""]
    async with asker.site.connect() as connection:
        await connection.send("\r\n".join(lines).encode())
        # The body is asked for: the request has been admitted.
        assert (await connection.head())[0] == 100
        await connection.send(PUSHED[:50])
        await meanwhile()
        await connection.send(PUSHED[50:])
        return await connection.answer()


async def test_a_push_under_way_ends_in_nothing_when_its_user_is_gone_or_its_token_revoked(tmp_path: Path) -> None:
    async with asking(tmp_path / "1") as asker:
        security = asker.site.security
        tokens = security.tokens
        assert tokens is not None
        _, secret = await asyncio.to_thread(tokens.create, "mine", "root", "maintainer", ["*"], None)
        asker.credentials = {**asker.credentials, "mine": bearer(secret)}

        async def revoke() -> None:
            await asyncio.to_thread(tokens.revoke, "mine")

        async def remove() -> None:
            (users,) = (source for source in security.sources if source.what == "users")
            path = tmp_path / "1" / "data-users"
            kept = [line for line in path.read_bytes().splitlines(keepends=True) if not line.startswith(b"root:")]
            path.write_bytes(b"".join(kept))
            await asyncio.to_thread(users.load)

        for who, meanwhile in (("mine", revoke), ("root", remove)):
            refused = await slow_push(asker, who, meanwhile)
            assert (refused.status, refused.error) == (403, "DENIED"), who
        assert "3.0.0" not in (await asker.ask("reader", "GET", "/v1/hello/tags/list", b"", {})).json()["tags"]


async def test_a_push_under_way_of_somebody_who_may_still_push_is_published(tmp_path: Path) -> None:
    async with asking(tmp_path / "1") as asker:

        async def nothing() -> None:
            await asyncio.to_thread(lambda: None)

        assert (await slow_push(asker, "root", nothing)).status == 201


async def test_who_did_what_is_told_to_those_who_have_said_who_they_are(tmp_path: Path) -> None:
    config = replace(Config(), auth=replace(Config().auth, anonymous="read"))
    async with serving(tmp_path / "data", config=config, users=USERS) as site:
        await publish(site.registry, message="why")
        for headers, tells in (({}, False), (basic("reader", "one"), True)):
            site.headers = headers
            (entry,) = (await site.pack("hello")).json()["history"]
            assert ("user" in entry, "message" in entry) == (tells, tells)
            assert entry["action"] == "publish"
