"""From a request's arrival to its response: admission, refusals, and what all responses have in common."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import re
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web
from blockbuster import BlockBuster

from packregistry.config import Config, Http
from packregistry.config.settings import DEFAULT_HEADERS
from packregistry.web import app, routes
from packregistry.web.call import Call
from packregistry.web.guard import Access
from packregistry.web.router import Route
from tests import certificates
from tests.factories import make_pack, noise, open_registry
from tests.web import READER, Answer, Site, basic, request, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """A registry that asks for credentials."""
    root = tmp_path_factory.mktemp("site")
    make_pack(root / "packs", files={"manifests/large": noise(90_000), "manifests/small": b"small"})
    async with serving(root / "data", root / "packs", users=dict([READER])) as running:
        yield running


async def targets(site: Site) -> dict[str, str]:
    """A URL that is there for each line of the table that is read from, by its path."""
    digest = (await site.pack("hello")).json()["versions"][0]["archive"]["digest"]
    values = {
        "{name}": "hello",
        "{tag}": "1.0.0",
        "{reference}": "1.x",
        "{digest}": digest,
        "{path*}": "manifests/small",
    }
    found = {}
    for route in routes.routes():
        if route.access not in {Access.PUBLIC, Access.READ}:
            continue
        path = route.path
        for parameter, value in values.items():
            path = path.replace(parameter, value)
        found[route.path] = path
    assert not any("{" in path for path in found.values())
    return found


SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-XSS-Protection": "1; mode=block",
    "Referrer-Policy": "same-origin",
    "Content-Security-Policy": "img-src 'self'; script-src 'self'; style-src 'self'",
    "Server": "packregistry",
}


def check_headers(answer: Answer) -> None:
    assert {name: answer.headers.getall(name, []) for name in SECURITY} == {k: [v] for k, v in SECURITY.items()}
    assert "Strict-Transport-Security" not in answer.headers


async def test_every_line_of_the_table_answers_get_and_head_alike(site: Site) -> None:
    for target in (await targets(site)).values():
        whole, head = await site.ask(target), await site.ask(target, "HEAD")
        assert (whole.status, head.status, head.body) == (200, 200, b""), target
        whole.headers.pop("Date")
        head.headers.pop("Date")
        assert head.headers == whole.headers
        assert whole.headers["Content-Length"] == str(len(whole.body))
        check_headers(whole)


async def test_every_line_that_is_not_public_needs_credentials(site: Site) -> None:
    public = []
    for route in routes.routes():
        path = re.sub(r"\{.*?\}", "x", route.path)
        for method in ("GET", "HEAD") if route.method == "GET" else (route.method,):
            answer = await site.ask(path, method, Authorization="", Content_Length="0")
            check_headers(answer)
            if route.access is Access.PUBLIC:
                public.append((method, route.path))
                assert answer.status == 200
            else:
                assert answer.status == 401
                assert answer.headers["WWW-Authenticate"] == 'Basic realm="the realm"'
                assert method == "HEAD" or answer.error == "UNAUTHORIZED"
    assert public == [(method, path) for path in ("/health", "/livez", "/readyz") for method in ("GET", "HEAD")]


@pytest.mark.parametrize(
    "authorization", ["Basic", "Basic ?", "Basic cmVhZGVyOndyb25n", "Bearer abc", "basic cmVhZGVyOg==", "x" * 8000]
)
async def test_credentials_that_are_not_good_are_refused(site: Site, authorization: str) -> None:
    answer = await site.ask("/v1/", Authorization=authorization)
    assert (answer.status, answer.error) == (401, "UNAUTHORIZED")
    assert (await site.ask("/health", Authorization=authorization)).body == b'{"status":"UP"}'


@pytest.mark.parametrize("target", ["/health", "//health/", "/health?x=1&x=%ff", "http://elsewhere/health"])
async def test_health_is_byte_for_byte_what_palette_expects(site: Site, target: str) -> None:
    answer = await site.ask(target, Authorization="")
    assert (answer.status, answer.body) == (200, b'{"status":"UP"}')
    assert answer.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    "target", ["//v1/_catalog", "/v1//_catalog/", "///v1/_catalog//", "http://registry/v1/_catalog"]
)
async def test_doubled_and_trailing_slashes_are_no_redirect_and_keep_what_is_asked_of_credentials(
    site: Site, target: str
) -> None:
    assert (await site.ask(target)).json() == {"repositories": ["hello"]}
    assert (await site.ask(target, Authorization="")).status == 401


async def test_every_line_that_changes_something_is_denied_to_those_who_may_only_read(site: Site) -> None:
    for route in routes.routes():
        if route.access not in {Access.PUBLIC, Access.READ}:
            answer = await site.ask(re.sub(r"\{.*?\}", "x", route.path), route.method, Content_Length="0")
            assert (answer.status, answer.error) == (403, "DENIED"), route
            check_headers(answer)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])
async def test_a_method_that_a_path_does_not_have_is_told_which_it_has(site: Site, method: str) -> None:
    methods: dict[str, set[str]] = {}
    for route in routes.routes():
        methods.setdefault(route.path, set()).update({"GET", "HEAD"} if route.method == "GET" else {route.method})
    for path, allowed in methods.items():
        if method not in allowed:
            answer = await site.ask(re.sub(r"\{.*?\}", "x", path), method, Content_Length="0")
            assert (answer.status, answer.error) == (405, "UNSUPPORTED")
            assert answer.headers["Allow"] == ", ".join(sorted(allowed))
            check_headers(answer)


@pytest.mark.parametrize(
    "line", ["GET /nowhere", "OPTIONS *", "CONNECT registry:80", "GET http://registry", "GET /v1/%0d%0aX:1", "GET /v10"]
)
async def test_what_is_nowhere_is_refused_as_everything_is(site: Site, line: str) -> None:
    method, target = line.split(" ")
    answer = await site.ask(target, method)
    assert (answer.status, answer.error) == (404, "NOT_FOUND")
    assert answer.message.isprintable()
    check_headers(answer)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/v1/", True),
        ("//v1", True),
        ("/v1/x", True),
        ("/v2/", True),
        ("/", False),
        ("/v1x", False),
        ("/health", False),
    ],
)
async def test_the_registry_says_which_api_it_speaks(site: Site, target: str, expected: bool) -> None:
    answer = await site.ask(target)
    assert answer.headers.getall("Docker-Distribution-Api-Version", []) == ["registry/2.0"] * expected


async def test_no_header_is_missing_on_304_206_416_and_415(site: Site) -> None:
    target = (await targets(site))["/v1/{name}/blobs/{digest}"]
    etag = (await site.ask(target)).headers["ETag"]
    answers = [
        await site.ask(target, If_None_Match=etag),
        await site.ask(target, Range="bytes=0-1"),
        await site.ask(target, Range="bytes=99999999-"),
        await site.ask(target, Content_Encoding="gzip"),
    ]
    assert [answer.status for answer in answers] == [304, 206, 416, 415]
    for answer in answers:
        check_headers(answer)
        assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"
    assert answers[-1].error == "UNSUPPORTED_ENCODING"
    assert answers[-1].headers["Accept-Encoding"] == "identity"


async def test_strict_transport_security_is_for_tls(tmp_path: Path) -> None:
    name, value = "Strict-Transport-Security", DEFAULT_HEADERS["Strict-Transport-Security"][0]
    pair = certificates.server()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.certificate, pair.key)
    async with serving(tmp_path / "data", tls=(context, certificates.trusting())) as site:
        assert (await site.health()).headers.getall(name) == [value]
        assert (await site.ask("/nowhere")).headers.getall(name) == [value]


async def test_a_trusted_proxy_says_whether_its_client_speaks_tls(tmp_path: Path) -> None:
    name, proxy = "Strict-Transport-Security", ipaddress.ip_network("127.0.0.0/8")
    for trusted, said, expected in (((proxy,), "https", True), ((proxy,), "http", False), ((), "https", False)):
        config = Config(http=Http(trustedproxies=trusted))
        async with serving(tmp_path / f"data {trusted} {said}".replace("/", ""), config=config) as site:
            assert (name in (await site.ask("/health", X_Forwarded_Proto=said)).headers) == expected


async def test_configured_headers_are_on_every_answer(tmp_path: Path) -> None:
    config = Config(http=Http(headers={"X-One": ("a", "b"), "X-Two": ()}))
    async with serving(tmp_path / "data", config=config) as site:
        for answer in (await site.health(), await site.ask("/nowhere")):
            assert answer.headers.getall("X-One") == ["a", "b"]
            assert "X-Two" not in answer.headers
            assert "X-Frame-Options" not in answer.headers


HOSTILE = {
    "dots": "..",
    "dot": ".",
    "encoded dots": "%2e%2e",
    "traversal": "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "encoded twice": "%252e%252e%252f",
    "backslashes": "..%5c..%5c",
    "NUL": "hello%00",
    "line end": "hello%0d%0aSet-Cookie:%20a=b",
    "escape": "%1b[2J",
    "too long": "a" * 300,
    "catalog": "_catalog",
    "look-alike": "hell%D0%BE",
    "full width": "%EF%BC%8E%EF%BC%8E",
    "combining": "o%CC%88",
    "right to left": "%E2%80%AEolleh",
    "not UTF-8": "hello%ff",
    "overlong": "%c0%ae%c0%ae",
    "surrogate": "%ed%a0%80",
    "stray percent": "100%",
    "bad escape": "%zz",
    "space": "hello%20",
    "slash": "hello%2Fworld",
    "quote": "%22hello%22",
    "markup": "%3Cscript%3E",
    "template": "%7B%7B7*7%7D%7D",
    "semicolon": "hello;a=b",
}
DIGEST = "sha256:" + "0" * 64
PLACES = {
    "name": ("/v1/{}/tags/list", {"NAME_INVALID", "NOT_FOUND"}),
    "name of a manifest": ("/v1/{}/manifests/1.0.0", {"NAME_INVALID", "NOT_FOUND"}),
    "name of a blob": (f"/v1/{{}}/blobs/{DIGEST}", {"NAME_INVALID", "NOT_FOUND"}),
    "reference": ("/v1/hello/manifests/{}", {"TAG_INVALID", "DIGEST_INVALID", "MANIFEST_UNKNOWN"}),
    "manifest digest": ("/v1/hello/manifests/sha256:{}", {"DIGEST_INVALID"}),
    "digest": ("/v1/hello/blobs/{}", {"DIGEST_INVALID"}),
    "pack": ("/api/v1/packs/{}", {"NAME_INVALID"}),
    "tag": ("/api/v1/packs/hello/versions/{}", {"TAG_INVALID", "MANIFEST_UNKNOWN"}),
    "archive": ("/api/v1/packs/hello/versions/{}/archive", {"TAG_INVALID", "MANIFEST_UNKNOWN"}),
    "file": ("/api/v1/packs/hello/versions/1.0.0/files/{}", {"FILE_UNKNOWN"}),
    "file in a directory": ("/api/v1/packs/hello/versions/1.0.0/files/manifests/{}", {"FILE_UNKNOWN"}),
    "first segment": ("/{}", {"NOT_FOUND"}),
    "after the version": ("/v1/{}", {"NOT_FOUND"}),
    "entries": ("/v1/_catalog?n={}", {"PAGINATION_NUMBER_INVALID", "PARAMETER_INVALID"}),
    "limit": ("/api/v1/packs?limit={}", {"PAGINATION_NUMBER_INVALID", "PARAMETER_INVALID"}),
    "parameter": ("/api/v1/packs?{}=1", {"PARAMETER_INVALID"}),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
async def test_a_hostile_name_is_refused_wherever_it_stands(site: Site, text: str) -> None:
    before = len(site.lines())
    async with site.connect() as connection:
        for place, (pattern, codes) in PLACES.items():
            await connection.send(request(pattern.format(text), headers=site.headers))
            answer = await connection.answer()
            if pattern.format(text) == "/v1/_catalog":
                continue  # that is a URL
            assert 400 <= answer.status < 500, place
            assert answer.error in codes | {"PARAMETER_INVALID"}, place
            assert answer.body.decode("ascii").isprintable(), place
            assert answer.raw.replace(b"\r\n", b"").decode("ascii").isprintable(), place
            assert "Set-Cookie" not in answer.headers, place
    lines = site.lines()[before:]
    assert len(lines) == len(PLACES)
    assert all(line.isascii() and line.isprintable() for line in lines)


@pytest.mark.parametrize("text", ["%00", "a%0d%0ab", "%ff", "%7f", "%c2%9b", "%ed%a0%80"])
async def test_a_query_value_that_is_no_text_is_refused(site: Site, text: str) -> None:
    for target in (
        f"/v1/_catalog?last={text}",
        f"/v1/hello/tags/list?last={text}",
        f"/v1/hello/blobs/{DIGEST}?type={text}",
        f"/api/v1/packs?cursor={text}",
        f"/api/v1/packs?cloudType={text}&limit=1",
    ):
        answer = await site.ask(target)
        assert (answer.status, answer.error) == (400, "PARAMETER_INVALID"), target


@pytest.mark.parametrize(
    "target",
    [
        b"/v1/../../etc/passwd",
        b"/v1/./tags/list",
        b"/v1/hello/../_catalog",
        b"/v1/\x00/tags/list",
        b"/v1/\x01/tags/list",
        b"/v1/a\x0b/tags/list",
        b"/v1/a\x7f/tags/list",
        b"/v1/\xc3\xa9/tags/list",
        b"/v1/\xff/tags/list",
        b"/v1/hello\rSet-Cookie:a=b/tags/list",
        b"/v1/a b/tags/list",
        b"/v1/_catalog?last=\x00",
        b"/v1/_catalog?last=\xff",
        b"\\v1\\_catalog",
        b"v1/_catalog",
        b"/" + b"../" * 2000,
        b"/" + b"a" * 9000,
        b"/" + b"/" * 8000 + b"x",
    ],
    ids=lambda target: ascii(target[:24]),
)
async def test_raw_bytes_in_a_target_are_refused_and_not_reflected(site: Site, target: bytes) -> None:
    headers = {**site.headers, "Connection": "close"}
    received = await site.raw(request(target, headers=headers))
    head, _, body = received.partition(b"\r\n\r\n")
    assert re.match(rb"HTTP/1\.[01] 4\d\d ", head)
    assert b"Set-Cookie:" not in head
    for text in (head.replace(b"\r\n", b""), body.replace(b"\n", b"")):
        assert text.decode("ascii").isprintable()
    assert all(line.isprintable() for line in site.lines())


def held_back(authorization: dict[str, str], version: bytes = b"HTTP/1.1", **more: str) -> bytes:
    """The head of a request whose body waits to be asked for."""
    headers = {**authorization, "Expect": "100-continue", "Content-Length": "10", "Connection": "close"}
    headers |= {name.replace("_", "-"): value for name, value in more.items()}
    return request("/v1/", headers=headers).replace(b"HTTP/1.1", version)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (held_back({}), 401),
        (held_back(basic("reader", "wrong")), 401),
        (held_back(basic(*READER), Content_Encoding="gzip"), 415),
        (held_back(basic(*READER)).replace(b"/v1/", b"/nowhere"), 404),
        (held_back(basic(*READER)).replace(b"GET", b"PUT"), 405),
    ],
    ids=["none", "wrong", "encoded", "nowhere", "method"],
)
async def test_a_body_is_not_asked_for_when_the_request_is_refused_anyway(site: Site, data: bytes, status: int) -> None:
    async with site.connect() as connection:
        await connection.send(data)
        answer = await connection.answer()
        connection.writer.write_eof()
        assert answer.status == status
        assert answer.error
        assert await connection.ended() == b""


async def test_a_body_is_asked_for_once_the_request_is_admitted(site: Site) -> None:
    async with site.connect() as connection:
        await connection.send(held_back(basic(*READER), Expect="100-Continue"))
        assert (await connection.head())[2] == b"HTTP/1.1 100 Continue\r\n\r\n"
        await connection.send(b"0123456789")
        assert (await connection.answer()).status == 200
        assert await connection.ended() == b""


@pytest.mark.parametrize(
    "data",
    [held_back(basic(*READER), b"HTTP/1.0"), held_back(basic(*READER), Expect="something-else")],
    ids=["HTTP/1.0", "another expectation"],
)
async def test_nobody_else_is_sent_a_100(site: Site, data: bytes) -> None:
    async with site.connect() as connection:
        await connection.send(data + b"0123456789")
        assert (await connection.answer()).status == 200


# What handlers do wrong.


@pytest_asyncio.fixture(loop_scope="module")
async def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    """A registry whose only line is `GET /v1/` with the handler that the test is parametrized with."""
    handler, access = request.param if isinstance(request.param, tuple) else (request.param, Access.READ)
    monkeypatch.setattr(app, "routes", lambda: (Route("GET", "/v1/", access, handler),))
    async with serving(tmp_path / "data") as running:
        yield running


async def wrong(call: Call) -> web.StreamResponse:
    raise LookupError("a secret")


async def disconnected(call: Call) -> web.StreamResponse:
    raise ConnectionResetError("a secret")


async def late(call: Call) -> web.StreamResponse:
    raise TimeoutError("a secret")


@pytest.mark.parametrize("own", [wrong, disconnected, late], indirect=True)
async def test_a_mistake_is_logged_with_its_traceback_and_answered_without(
    own: Site, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await own.base()
    assert (answer.status, answer.error) == (500, "UNKNOWN")
    assert answer.message == "the registry made a mistake: its log says more"
    assert b"secret" not in answer.body + answer.raw
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.getMessage() == "GET /v1/ failed"
    assert record.exc_info is not None
    assert "a secret" in caplog.text
    assert own.lines()[-1].split(" ")[6:8] == ['/v1/"', "500"]


async def unheard(call: Call) -> web.StreamResponse:
    assert call.request.transport is not None
    call.request.transport.abort()
    await call.request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    raise AssertionError


@pytest.mark.parametrize("own", [unheard], indirect=True)
async def test_a_client_that_is_gone_is_no_mistake(own: Site, caplog: pytest.LogCaptureFixture) -> None:
    async with own.connect() as connection:
        await connection.send(request("/v1/"))
        with contextlib.suppress(ConnectionResetError):
            assert await connection.ended() == b""
    assert not caplog.records
    assert '"GET /v1/" 499 ' in own.lines()[-1]


async def half(call: Call) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "10"})
    await response.prepare(call.request)
    await response.write(b"12345")
    raise LookupError("a secret")


@pytest.mark.parametrize("own", [half], indirect=True)
async def test_a_mistake_half_way_ends_the_connection_and_adds_nothing_to_the_body(own: Site) -> None:
    async with own.connect() as connection:
        await connection.send(request("/v1/") * 2)
        assert (await connection.head())[0] == 200
        received = b""
        with contextlib.suppress(ConnectionResetError):  # or the end of the stream, as the kernel has it
            while chunk := await connection.reader.read(100):
                received += chunk
        assert received in {b"", b"12345"}
    # Some Pythons still look at what was sent behind it, and find that nobody is there (499).
    assert ' "GET /v1/" 200 ' in own.lines()[0]


async def test_a_disk_that_is_gone_is_a_503(tmp_path: Path) -> None:
    async with serving(tmp_path / "data") as site:
        (tmp_path / "data").rename(tmp_path / "gone")
        answer = await site.catalog()
        assert (answer.status, answer.error) == (503, "STORAGE_UNAVAILABLE")
        assert (await site.health()).status == 200
        (tmp_path / "gone").rename(tmp_path / "data")
        assert (await site.catalog()).status == 200


async def test_what_another_process_publishes_is_in_the_very_next_answer(tmp_path: Path) -> None:
    async with serving(tmp_path / "data") as site:
        for version in ("1.0.0", "1.1.0"):
            make_pack(tmp_path / "packs", "hello", version)
            async with open_registry(tmp_path / "data", tmp_path / "packs"):
                assert (await site.tags("hello")).json()["tags"][-1] == "1.x"
                first, second = await asyncio.gather(site.manifest("hello", "1.x"), site.manifest("hello", version))
                assert first.status == 200
                assert first.body == second.body


async def test_the_event_loop_never_waits_for_a_disk(tmp_path: Path) -> None:
    make_pack(tmp_path / "packs", files={"manifests/large": noise(90_000), "manifests/small": b"small"})
    detector = BlockBuster("packregistry")
    # One look each, which costs microseconds and spares every request a thread: did anybody publish, did users change?
    detector.functions["os.stat"].can_block_in("storage/filesystem.py", "stale")
    detector.functions["os.stat"].can_block_in("auth/htpasswd.py", "changed")
    # The socket does not block, and the kernel reads ahead; uvloop has nothing that would do it elsewhere.
    detector.functions["os.sendfile"].can_block_in("web/blob.py", "_sendfile")
    async with serving(tmp_path / "data", tmp_path / "packs", users=dict([READER])) as site:
        found = await targets(site)
        site.registry.storage.stale()
        detector.activate()
        try:
            for target in found.values():
                assert (await site.ask(target)).status == 200
            assert (await site.ask("/v1/", Authorization="Basic cmVhZGVyOndyb25n")).status == 401
        finally:
            detector.deactivate()
