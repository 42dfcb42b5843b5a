"""`/v1`, as Palette and the vendor's CLI ask it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio

from tests.factories import make_pack, pack_json, png
from tests.web import Answer, Site, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

NAMES = ["Zeta", "alpha", "hello", "hello-2", "hello.3"]
TAGS = ["1.2.0", "1.2.x", "1.10.0", "1.10.x", "1.x", "lts__1.2.0", "lts__1.2.x", "lts__1.x"]
SCRIPT = b"<script>alert(1)</script>"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    root = tmp_path_factory.mktemp("site")
    for name in NAMES:
        if name != "hello":
            make_pack(root / "packs", name)
    make_pack(root / "packs", "hello", "1.2.0", files={"README.md": SCRIPT})
    make_pack(root / "packs", "hello", "1.10.0", files={"values.yaml": b""})
    make_pack(root / "packs", "hello", "1.2.0", directory="lts", annotations={"a": "b"}, group="lts")
    async with serving(root / "data", root / "packs") as running:
        yield running


async def test_the_base_says_that_this_is_a_registry(site: Site) -> None:
    answer = await site.base()
    assert (answer.status, answer.body) == (200, b"{}")
    assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"


async def test_the_catalog_has_all_names_sorted(site: Site) -> None:
    answer = await site.catalog()
    assert (answer.status, answer.json()) == (200, {"repositories": NAMES})
    assert answer.headers["Content-Type"] == "application/json"
    assert "Link" not in answer.headers


async def test_the_tags_of_a_pack_have_its_parent_tags_in_lexical_order(site: Site) -> None:
    answer = await site.tags("hello")
    assert answer.json() == {"name": "hello", "tags": sorted(TAGS)}
    assert "Link" not in answer.headers


LISTS = pytest.mark.parametrize(
    ("path", "key", "entries"),
    [("/v1/_catalog", "repositories", NAMES), ("/v1/hello/tags/list", "tags", sorted(TAGS))],
    ids=["catalog", "tags"],
)


async def page(site: Site, target: str, key: str) -> tuple[list[str], str | None]:
    answer = await site.ask(target)
    assert answer.status == 200
    link = answer.headers.get("Link")
    if link is None:
        return answer.json()[key], None
    found = re.fullmatch(r'<(/v1/[^>]+)>; rel="next"', link)
    assert found
    return answer.json()[key], found[1]


@LISTS
@pytest.mark.parametrize("size", range(1, 10))
async def test_following_links_gives_everything_exactly_once(
    site: Site, path: str, key: str, entries: list[str], size: int
) -> None:
    found: list[str] = []
    target: str | None = f"//{path}/?n={size}"
    while target:
        some, target = await page(site, target, key)
        assert len(some) == size or (some and target is None)
        found += some
    assert found == entries


@LISTS
async def test_from_any_entry_or_none_the_rest_is_listed(site: Site, path: str, key: str, entries: list[str]) -> None:
    for last in ["", *entries, "0", "hello-", "~", "ü", "x" * 300, ".."]:
        assert await page(site, f"{path}?last={quote(last)}", key) == (
            [entry for entry in entries if entry > last],
            None,
        )


@LISTS
async def test_a_page_of_none_is_empty_and_has_no_next(site: Site, path: str, key: str, entries: list[str]) -> None:
    assert await page(site, f"{path}?n=0", key) == ([], None)
    assert await page(site, f"{path}?n=0&last=a", key) == ([], None)
    assert await page(site, f"{path}?n=999999999999999999", key) == (entries, None)


@LISTS
@pytest.mark.parametrize("n", ["-1", "abc", "", "1.5", "+1", "%201", "1e3", "0x1", "%D9%A1", str(10**30), "9" * 5000])
async def test_what_is_no_number_of_entries_is_refused(
    site: Site, path: str, key: str, entries: list[str], n: str
) -> None:
    answer = await site.ask(f"{path}?n={n}")
    assert (answer.status, answer.error) == (400, "PAGINATION_NUMBER_INVALID")
    assert list(answer.json()["errors"][0]["detail"]) == ["n"]
    assert "from 0 to 999999999999999999" in answer.message


async def test_a_manifest_is_the_same_by_tag_by_parent_tag_and_by_digest(site: Site) -> None:
    first = await site.manifest("hello", "1.10.0")
    digest = "sha256:" + hashlib.sha256(first.body).hexdigest()
    assert first.headers["Docker-Content-Digest"] == digest
    assert first.headers["ETag"] == f'"{digest}"'
    assert first.headers["Content-Type"] == "application/vnd.oci.image.manifest.v1+json"
    for reference in ("1.10.x", "1.x", digest):
        assert (await site.manifest("hello", reference)).body == first.body
    assert (await site.manifest("hello", "lts__1.x")).body != first.body


async def test_a_manifest_leads_to_every_file_by_digest_and_size(site: Site) -> None:
    document = (await site.manifest("hello", "1.2.0")).json()
    titles = {}
    for descriptor in [document["config"], *document["layers"]]:
        answer = await site.blob("hello", descriptor["digest"])
        assert len(answer.body) == descriptor["size"]
        assert "sha256:" + hashlib.sha256(answer.body).hexdigest() == descriptor["digest"]
        assert answer.headers["Content-Type"] == "application/octet-stream"
        assert "immutable" in answer.headers["Cache-Control"]
        titles[descriptor["annotations"]["org.opencontainers.image.title"]] = answer.body
    assert titles["pack.json"] == pack_json("hello", "1.2.0")
    assert titles["logo.png"] == png()
    assert set(titles) == {"pack.json", "hello-1.2.0.tar.gz", "README.md", "logo.png", "values.yaml"}


async def test_a_tag_may_move_so_its_manifest_is_asked_for_again(site: Site) -> None:
    answer = await site.manifest("hello", "1.x")
    assert answer.headers["Cache-Control"] == "no-cache"
    again = await site.manifest("hello", "1.x", If_None_Match=answer.headers["ETag"])
    assert (again.status, again.body) == (304, b"")
    assert again.headers["Docker-Content-Digest"] == answer.headers["Docker-Content-Digest"]
    # As with Distribution, the digest needs no quotes.
    bare = await site.manifest("hello", "1.x", If_None_Match=answer.headers["Docker-Content-Digest"])
    assert (bare.status, bare.body) == (304, b"")


def descriptors(manifest: Answer) -> dict[str, Any]:
    document = manifest.json()
    return {
        item["annotations"]["org.opencontainers.image.title"]: item
        for item in [document["config"], *document["layers"]]
    }


async def test_an_empty_file_is_a_blob_of_no_bytes(site: Site) -> None:
    digest = descriptors(await site.manifest("hello", "1.10.0"))["values.yaml"]["digest"]
    for headers in ({}, {"Range": "bytes=0-"}, {"Range": "bytes=-1"}):
        answer = await site.blob("hello", digest, **headers)
        assert (answer.status, answer.body, answer.headers["Content-Length"]) == (200, b"", "0")


@pytest.mark.parametrize(
    ("wanted", "sent"),
    [
        ("image/png", "image/png"),
        ("image%2Fpng", "image/png"),
        ("image/jpeg", "image/jpeg"),
        ("image/jpg", "image/jpeg"),
        ("IMAGE/PNG", "image/png"),
        ("image/png;charset=x", "image/png"),
        ("image/png%20;%20a=b", "image/png"),
        ("image.webp", "image/webp"),
        ("image/webp", "image/webp"),
        ("text/plain", "text/plain; charset=utf-8"),
        ("text/plain;charset=utf-7", "text/plain; charset=utf-8"),
        ("application/json", "application/json"),
        ("application/yaml", "application/yaml"),
        ("application/gzip", "application/gzip"),
        ("application/x-tar", "application/x-tar"),
        ("application/octet-stream", "application/octet-stream"),
        ("text/html", "application/octet-stream"),
        ("Text/HTML", "application/octet-stream"),
        ("image/svg%2Bxml", "application/octet-stream"),
        ("image/svg+xml", "application/octet-stream"),
        ("application/javascript", "application/octet-stream"),
        ("application/xhtml%2Bxml", "application/octet-stream"),
        ("multipart/x-mixed-replace", "application/octet-stream"),
        (",text/html", "application/octet-stream"),
        ("text/plain,text/html", "application/octet-stream"),
        ("", "application/octet-stream"),
        ("x" * 3000, "application/octet-stream"),
    ],
)
async def test_a_blob_is_served_as_what_is_asked_for_if_a_browser_would_not_run_it(
    site: Site, wanted: str, sent: str
) -> None:
    digest = descriptors(await site.manifest("hello", "1.2.0"))["README.md"]["digest"]
    answer = await site.blob("hello", digest, f"?type={wanted}")
    assert (answer.status, answer.body, answer.headers.getall("Content-Type")) == (200, SCRIPT, [sent])
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_a_digest_opens_nothing_through_another_pack(site: Site) -> None:
    digest = descriptors(await site.manifest("hello", "1.2.0"))["README.md"]["digest"]
    answer = await site.blob("alpha", digest)
    assert (answer.status, answer.error) == (404, "BLOB_UNKNOWN")
    answer = await site.manifest("alpha", (await site.manifest("hello", "1.2.0")).headers["Docker-Content-Digest"])
    assert (answer.status, answer.error) == (404, "MANIFEST_UNKNOWN")


@pytest.mark.parametrize(
    ("target", "status", "code"),
    [
        ("/v1/nobody/tags/list", 404, "NAME_UNKNOWN"),
        ("/v1/nobody/manifests/1.0.0", 404, "NAME_UNKNOWN"),
        (f"/v1/nobody/blobs/sha256:{'0' * 64}", 404, "NAME_UNKNOWN"),
        ("/v1/hello/manifests/9.9.9", 404, "MANIFEST_UNKNOWN"),
        (f"/v1/hello/manifests/sha256:{'0' * 64}", 404, "MANIFEST_UNKNOWN"),
        (f"/v1/hello/blobs/sha256:{'0' * 64}", 404, "BLOB_UNKNOWN"),
        ("/v1/hello/manifests/sha256:0", 400, "DIGEST_INVALID"),
        (f"/v1/hello/blobs/sha256:{'A' * 64}", 400, "DIGEST_INVALID"),
        ("/v1/hello/blobs/1.0.0", 400, "DIGEST_INVALID"),
        ("/v1/hello/manifests/-1", 400, "TAG_INVALID"),
        ("/v1/-hello/manifests/1.0.0", 400, "NAME_INVALID"),
        ("/v1/hello", 404, "NOT_FOUND"),
        ("/v1/hello/manifests", 404, "NOT_FOUND"),
        ("/v2/", 404, "NOT_FOUND"),
    ],
)
async def test_what_is_not_there_or_malformed_has_its_code(site: Site, target: str, status: int, code: str) -> None:
    answer = await site.ask(target)
    assert (answer.status, answer.error) == (status, code)
    assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"
    assert (await site.ask(target, "HEAD")).status == status


async def test_the_names_of_detail_help_a_program(site: Site) -> None:
    answer = await site.manifest("hello", "9.9.9")
    assert answer.json() == {
        "errors": [
            {
                "code": "MANIFEST_UNKNOWN",
                "message": 'hello has no tag "9.9.9": its newest version is 1.10.0',
                "detail": {"name": "hello", "tag": "9.9.9"},
            }
        ]
    }
    assert json.dumps(answer.json(), separators=(",", ":")).encode() == answer.body
