"""What is recorded of what goes on, and what is in no log whatever a client sends."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from packregistry.audit import Audit
from packregistry.config import Audit as Settings
from packregistry.model import Digest
from tests.factories import make_pack, tarball
from tests.process import run, serving
from tests.web import Answer, Site, basic, users_file
from tests.web import serving as serving_here

USERS = {"admin": "the right one", "reader": "another one"}
FIRST, SECOND = tarball(), tarball(files={"values.yaml": b"changed: true\n"})


class Trail:
    """A site, and the records that it has kept since one last looked."""

    def __init__(self, site: Site, stream: io.StringIO) -> None:
        self.site = site
        self._stream = stream

    async def ask(self, user: str, method: str, target: str, body: bytes = b"") -> Answer:
        self.site.headers = {}
        head = {**basic(user, USERS.get(user, "wrong")), "Content-Length": str(len(body)), "Host": "registry"}
        async with self.site.connect() as connection:
            lines = [f"{method} {target} HTTP/1.1", *(f"{key}: {value}" for key, value in head.items()), "", ""]
            await connection.send("\r\n".join(lines).encode() + body)
            return await connection.answer(method)

    def records(self) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self._stream.getvalue().splitlines()]
        self._stream.seek(0)
        self._stream.truncate()
        return found


@pytest_asyncio.fixture
async def trail(tmp_path: Path) -> AsyncIterator[Trail]:
    stream = io.StringIO()
    audit = Audit(Settings(), {"service": "registry"}, stream=stream)
    async with serving_here(tmp_path / "data", users=USERS, audit=audit) as site:
        yield Trail(site, stream)


CHANGES = [
    ("POST", "/api/v1/packs", FIRST, "publish", "hello:1.0.0", None, Digest.of(FIRST)),
    (
        "POST",
        "/api/v1/packs?force=true&message=why",
        SECOND,
        "replace",
        "hello:1.0.0",
        Digest.of(FIRST),
        Digest.of(SECOND),
    ),
    (
        "POST",
        "/api/v1/packs/hello/rollback",
        b'{"tag": "1.0.0"}',
        "restore",
        "hello:1.0.0",
        Digest.of(SECOND),
        Digest.of(FIRST),
    ),
    ("PUT", "/api/v1/packs/hello/tags/stable", b'{"version": "1.0.0"}', "tag", "hello:stable", None, Digest.of(FIRST)),
    ("DELETE", "/api/v1/packs/hello/tags/stable", b"", "untag", "hello:stable", Digest.of(FIRST), None),
    ("DELETE", "/api/v1/packs/hello/versions/1.0.0", b"", "delete", "hello:1.0.0", Digest.of(FIRST), None),
    ("POST", "/api/v1/tokens", b'{"name": "ci", "role": "reader"}', "token.create", "token:ci", None, None),
    ("DELETE", "/api/v1/tokens/ci", b"", "token.revoke", "token:ci", None, None),
]


async def test_each_change_is_a_record_of_who_what_where_and_which_content(trail: Trail) -> None:
    for method, target, body, action, what, before, after in CHANGES:
        assert (await trail.ask("admin", method, target, body)).status in {200, 201}
        (record,) = trail.records()
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d\d\dZ", record.pop("time"))
        assert record.pop("reason", "why") == "why"
        expected = {"service": "registry", "audit": True, "subject": "admin", "method": "basic", "address": "127.0.0.1"}
        digests = {key: digest for key, digest in (("before", before), ("after", after)) if digest}
        assert record == {**expected, "action": action, "object": what, "result": "done", **digests}


async def test_reading_and_a_push_that_changes_nothing_leave_no_record(trail: Trail) -> None:
    await trail.ask("admin", "POST", "/api/v1/packs", FIRST)
    trail.records()
    assert (await trail.ask("admin", "POST", "/api/v1/packs", FIRST)).status == 200
    assert (await trail.ask("reader", "GET", "/v1/hello/tags/list")).status == 200
    assert (await trail.ask("reader", "GET", "/v1/nothing/tags/list")).status == 404
    assert trail.records() == []


@pytest.mark.parametrize(
    ("asked", "subject", "proven", "result", "status"),
    [
        (("reader", "POST", "/api/v1/packs", FIRST), "reader", "basic", "DENIED", 403),
        (("reader", "GET", "/api/v1/tokens", b""), "reader", "basic", "DENIED", 403),
        (("nobody", "GET", "/v1/_catalog", b""), "nobody", "none", "UNAUTHORIZED", 401),
        (("pkr_" + "a" * 49, "GET", "/v1/", b""), "pkr_***", "none", "UNAUTHORIZED", 401),
        (("admin", "DELETE", "/v1/hello/manifests/1.0.0", b""), "admin", "basic", "NAME_UNKNOWN", 404),
        (("admin", "POST", "/api/v1/packs", b"no archive"), "admin", "basic", "PACK_INVALID", 422),
        (("admin", "DELETE", "/api/v1/tokens/none", b""), "admin", "basic", "TOKEN_UNKNOWN", 404),
    ],
)
async def test_each_refusal_is_a_record(
    trail: Trail, asked: tuple[str, str, str, bytes], subject: str, proven: str, result: str, status: int
) -> None:
    _, method, target, _ = asked
    assert (await trail.ask(*asked)).status == status
    (record,) = trail.records()
    assert record["reason"]
    found = {key: record[key] for key in ("subject", "method", "address", "action", "object", "result", "status")}
    assert found == {
        "subject": subject,
        "method": proven,
        "address": "127.0.0.1",
        "action": "request",
        "object": f"{method} {target}",
        "result": result,
        "status": status,
    }


async def test_a_wait_after_too_many_guesses_is_a_record_too(trail: Trail) -> None:
    for number in range(12):
        await trail.site.ask("/v1/", **basic("reader", f"guess {number}"))
    results = [record["result"] for record in trail.records()]
    assert results[:10] == ["UNAUTHORIZED"] * 10
    assert results[-1] == "TOOMANYREQUESTS"


# Secrets


SECRETS = {
    "password": "correct horse battery",
    "guess": "a guess of hers",
    "token": "pkr_" + "Zz9" * 16 + "q",
    "basic": base64.b64encode(b"reader:correct horse battery").decode(),
}


@pytest.mark.thorough
@pytest.mark.process
@pytest.mark.parametrize("formatter", ["text", "json"])
def test_no_secret_is_in_any_log_wherever_a_client_puts_it(formatter: str, tmp_path: Path) -> None:
    make_pack(tmp_path / "packs", "hello")
    users_file(tmp_path / "users", {"reader": SECRETS["password"]})
    env = {
        "REGISTRY_AUTH": "htpasswd",
        "REGISTRY_AUTH_HTPASSWD_PATH": "users",
        "REGISTRY_PACKS_SETTLE": "0s",
        "REGISTRY_LOG_FORMATTER": formatter,
        "REGISTRY_LOG_LEVEL": "debug",
        "REGISTRY_LOG_AUDIT_PATH": "audit.log",
    }
    made = run("token", "create", "mine", cwd=tmp_path, **env).stdout.strip()
    token, password = SECRETS["token"], SECRETS["password"]
    quoted = password.replace(" ", "%20")
    with serving(cwd=tmp_path, **env) as server:
        asked = [
            ("/v1/", basic("reader", password)),
            ("/v1/", basic("reader", SECRETS["guess"])),
            ("/v1/", basic(token, "")),
            ("/v1/", basic(made, "")),
            ("/v1/", basic("any", token)),
            ("/v1/", {"Authorization": f"Bearer {token}"}),
            ("/v1/", {"Authorization": f"Bearer {made}"}),
            ("/v1/", {"Authorization": f"bearer  {made}"}),
            (f"/v1/_catalog?token={token}", {}),
            (f"/v1/_catalog?access_token={made}&Authorization=Basic%20{SECRETS['basic']}", {}),
            (f"/api/v1/tokens/{made}", basic("reader", password)),
            (f"/v1/{token}/tags/list", basic("reader", password)),
            (f"http://reader:{quoted}@registry.example/v1/", {}),
            (f"http://{token}@registry.example/v1/nowhere", {}),
            ("/v1/", {"Authorization": f"Basic {SECRETS['basic']}!"}),
            ("/v1/", {"User-Agent": made, "Referer": f"https://reader:{quoted}@registry.example/"}),
        ]
        statuses = {server.get(path, {"Host": "registry", **headers}).status for path, headers in asked}
        assert statuses <= {200, 400, 401, 403, 404, 405}
        assert {200, 401} <= statuses
        code, output, errors = server.stop()
    assert code == 0
    logs = {"output": output, "errors": errors, "audit": (tmp_path / "audit.log").read_text()}
    assert all(logs.values())
    assert "pkr_***" in output
    for where, text in logs.items():
        for secret in (*SECRETS.values(), made, quoted):
            assert secret not in text, where


async def test_an_audit_file_that_cannot_be_written_keeps_nobody_from_an_answer(tmp_path: Path) -> None:
    lost: list[int] = []
    path = tmp_path / "gone" / "audit.log"
    audit = Audit(Settings(path=path), {}, lost=lost.append)
    async with serving_here(tmp_path / "data", users=USERS, audit=audit) as site:
        assert (await site.ask("/v1/", **basic("reader", "wrong"))).status == 401
        await asyncio.to_thread(audit.close)
    assert sum(lost) == 1
