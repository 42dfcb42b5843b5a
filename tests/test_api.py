"""`/api/v1`, for the command line, curl and CI."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import tarfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from packregistry.catalog import Pack
from packregistry.model import Tag
from packregistry.web import api
from packregistry.web import representation as show
from tests.factories import make_pack, noise, png
from tests.web import Site, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

VALUES = b"""pack:
  content:
    images:
      - image: docker.io/library/nginx:1.27
      - image: "{{ .spectro.system.registry }}/x:1"
"""
FILES = {
    "values.yaml": VALUES,
    "schema.yaml": b'a.b:\n  schema: \'{{ required | format "${number:[1-9]}" | hints "how many" }}\'\n',
    "presets.yaml": b"presets:\n- name: small\n  displayName: Small\n  group: Size\n  remove: [a.b]\n"
    b"  add: |\n    a: 1\n",
    "manifests/page.html": b"<html><script>alert(1)</script>",
    "manifests/image.svg": b'<svg onload="alert(1)"/>',
    "manifests/other.png": png(2),
    "manifests/raw.bin": b"\xff\xfe\x00",
    "manifests/nul.txt": b"a\0b",
    "manifests/empty": b"",
    "manifests/a b/ü+%.txt": "grüße".encode(),
    "manifests/large": noise(300_000),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    root = tmp_path_factory.mktemp("site")
    packs = root / "packs"
    make_pack(packs, "nginx", "1.0.0", files=FILES, displayName="NGINX Web Server", cloudTypes=["aws", "azure"])
    make_pack(packs, "nginx", "1.10.0", cloudTypes=["aws", "azure"], displayName="NGINX Web Server")
    make_pack(packs, "nginx", "1.2.0", group="lts", annotations={"source": "here"}, addonType="Ingress")
    make_pack(packs, "calico", "3.0.0", layer="cni", addonType=None, cloudTypes=["all"])
    make_pack(
        packs, "ubuntu", "22.04", layer="os", addonType=None, cloudTypes=["vsphere"], files={"README.md": b"\xff"}
    )
    make_pack(packs, "odd", charts=["charts/missing.tgz"])
    make_pack(packs, "broken", files={"logo.png": b"no image"})
    make_pack(packs, "calico", "3.0.0", directory="second-calico", layer="cni", addonType=None)
    async with serving(root / "data", packs) as running:
        yield running


def names(answer: Any) -> list[str]:
    return [pack["name"] for pack in answer.json()["packs"]]


async def test_the_entrance_says_where_to_go_on(site: Site) -> None:
    document = (await site.ask("/")).json()
    for place in ("packs", "problems", "registry", "health"):
        assert (await site.ask(document[place])).status == 200


async def test_packs_are_listed_by_name_with_what_their_newest_version_says(site: Site) -> None:
    document = (await site.packs()).json()
    assert (document["total"], document["next"]) == (4, None)
    assert [pack["name"] for pack in document["packs"]] == ["calico", "nginx", "odd", "ubuntu"]
    nginx = document["packs"][1]
    logo = nginx.pop("logoUrl")
    assert re.fullmatch(r"/v1/nginx/blobs/sha256:[0-9a-f]{64}\?type=image/png", logo)
    answer = await site.ask(logo)
    assert (answer.body, answer.headers["Content-Type"]) == (png(), "image/png")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", nginx.pop("updated"))
    assert nginx == {
        "name": "nginx",
        "displayName": "NGINX Web Server",
        "layer": "addon",
        "addonType": "app services",
        "addonSubType": "",
        "cloudTypes": ["aws", "azure"],
        "latest": {"version": "1.10.0", "tag": "1.10.0"},
        "versionCount": 3,
        "url": "/api/v1/packs/nginx",
    }


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, ["calico", "nginx", "odd", "ubuntu"]),
        ({"name": "nginx"}, ["nginx"]),
        ({"name": "NGINX"}, ["nginx"]),
        ({"name": "ngin"}, []),
        ({"layer": "CNI"}, ["calico"]),
        ({"layer": "addon"}, ["nginx", "odd"]),
        ({"addonType": "App Services"}, ["nginx", "odd"]),
        ({"addonType": "Ingress"}, []),
        ({"addonType": ""}, ["calico", "ubuntu"]),
        ({"cloudType": "aws"}, ["calico", "nginx", "odd"]),
        ({"cloudType": "AZURE"}, ["calico", "nginx", "odd"]),
        ({"cloudType": "vsphere"}, ["calico", "odd", "ubuntu"]),
        ({"cloudType": "all"}, ["calico", "odd"]),
        ({"cloudType": "moon"}, ["calico", "odd"]),
        ({"q": "WEB"}, ["nginx"]),
        ({"q": "ngin"}, ["nginx"]),
        ({"q": "services"}, ["nginx", "odd"]),
        ({"q": ""}, ["calico", "nginx", "odd", "ubuntu"]),
        ({"q": "ü"}, []),
        ({"layer": "addon", "cloudType": "aws", "q": "web"}, ["nginx"]),
        ({"layer": "addon", "name": "calico"}, []),
    ],
    ids=str,
)
async def test_filters_ignore_case_and_all_have_to_fit(site: Site, query: dict[str, str], found: list[str]) -> None:
    answer = await site.packs(**query)
    assert (names(answer), answer.json()["total"]) == (found, len(found))


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 1000])
@pytest.mark.parametrize("query", [{}, {"cloudType": "aws"}, {"q": "services"}], ids=str)
async def test_following_next_or_the_link_gives_everything_once(site: Site, limit: int, query: dict[str, str]) -> None:
    every = names(await site.packs(**query))
    found: list[str] = []
    answer = await site.packs(**query, limit=limit)
    while True:
        document = answer.json()
        assert document["total"] == len(every)
        found += names(answer)
        link = answer.headers.get("Link")
        assert (link is None) == (document["next"] is None)
        if link is None:
            break
        by_cursor = await site.packs(**query, limit=limit, cursor=document["next"])
        answer = await site.ask(link[1 : link.index(">")])
        assert by_cursor.body == answer.body
    assert found == every


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "many", "", "1" * 30])
async def test_a_limit_is_from_1_to_1000(site: Site, limit: str) -> None:
    answer = await site.packs(limit=limit)
    assert (answer.status, answer.error) == (400, "PAGINATION_NUMBER_INVALID")
    assert answer.json()["errors"][0]["detail"] == {"limit": limit}
    assert "from 1 to 1000" in answer.message


async def test_without_a_limit_a_page_has_100(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    assert api.LIMIT_DEFAULT == 100
    monkeypatch.setattr(api, "LIMIT_DEFAULT", 2)
    assert (await site.packs()).json()["next"] == "nginx"
    assert names(await site.packs(cursor="zzz")) == []


async def test_a_pack_has_its_versions_newest_first_its_tags_and_its_history(site: Site) -> None:
    document = (await site.pack("nginx")).json()
    assert [version["tag"] for version in document["versions"]] == ["1.10.0", "lts__1.2.0", "1.0.0"]
    assert document["versionCount"] == 3
    assert document["tags"] == [
        {"tag": "1.0.0", "target": "1.0.0", "parent": False},
        {"tag": "1.0.x", "target": "1.0.0", "parent": True},
        {"tag": "1.10.0", "target": "1.10.0", "parent": False},
        {"tag": "1.10.x", "target": "1.10.0", "parent": True},
        {"tag": "1.x", "target": "1.10.0", "parent": True},
        {"tag": "lts__1.2.0", "target": "lts__1.2.0", "parent": False},
        {"tag": "lts__1.2.x", "target": "lts__1.2.0", "parent": True},
        {"tag": "lts__1.x", "target": "lts__1.2.0", "parent": True},
    ]
    assert {(entry["user"], entry["action"]) for entry in document["history"]} == {("directory", "publish")}
    stored = site.registry.packs()[1].record.history
    assert [entry["tag"] for entry in document["history"]] == [entry.tag for entry in reversed(stored)]
    for version in document["versions"]:
        assert (await site.ask(version["url"])).json()["tag"] == version["tag"]
        whole = await site.ask(version["archiveUrl"])
        assert len(whole.body) == version["archive"]["size"]
        manifest = await site.manifest("nginx", version["tag"])
        assert manifest.headers["Docker-Content-Digest"] == version["manifest"]["digest"]


async def test_a_version_in_a_list_and_alone_says_the_same_of_itself(site: Site) -> None:
    (listed,) = [item for item in (await site.pack("nginx")).json()["versions"] if item["version"] == "1.2.0"]
    document = (await site.version("nginx", "lts__1.x")).json()
    assert {key: document[key] for key in listed} == listed
    assert (listed["tags"], listed["parentTags"]) == (["lts__1.2.0"], ["lts__1.2.x", "lts__1.x"])
    assert (listed["group"], listed["addonType"], listed["problemCount"]) == ("lts", "Ingress", 0)
    assert listed["origin"]["kind"] == "directory"
    assert document["annotations"] == {"source": "here"}
    assert document["constraints"] == {}


async def test_a_version_has_everything_that_palette_shows(site: Site) -> None:
    document = (await site.version("nginx", "1.0.0")).json()
    assert document["name"] == "nginx"
    assert document["pack"]["displayName"] == "NGINX Web Server"
    assert document["values"] == VALUES.decode()
    assert document["readme"] == "# nginx\n"
    assert document["images"] == ["docker.io/library/nginx:1.27"]
    assert document["schema"] == [
        {
            "path": "a.b",
            "required": True,
            "readonly": False,
            "format": "${number:[1-9]}",
            "type": "number",
            "regex": "",
            "range": "1-9",
            "options": [],
            "hints": ["how many"],
        }
    ]
    assert document["presets"] == [
        {"name": "small", "displayName": "Small", "group": "Size", "remove": ["a.b"], "add": "a: 1\n"}
    ]
    assert document["problems"] == []


async def test_every_file_of_a_version_is_listed_and_can_be_asked_for(site: Site) -> None:
    document = (await site.version("nginx", "1.0.0")).json()
    assert {file["path"] for file in document["files"]} == {*FILES, "pack.json", "README.md", "logo.png"}
    for file in document["files"]:
        answer = await site.ask(file["url"])
        assert len(answer.body) == file["size"]
        assert "sha256:" + hashlib.sha256(answer.body).hexdigest() == file["digest"]
        assert answer.headers["ETag"] == f'"{file["digest"]}"'
        assert file["executable"] is False


async def test_a_file_that_is_not_there_is_null_and_one_that_is_no_text_is_shown_as_far_as_it_can_be(
    site: Site, tmp_path: Path
) -> None:
    assert (await site.version("ubuntu", "22.04")).json()["readme"] == "\ufffd"
    root = make_pack(tmp_path / "packs")
    (root / "README.md").unlink()
    async with serving(tmp_path / "data", tmp_path / "packs") as bare:
        document = (await bare.version("hello", "1.0.0")).json()
    assert document["readme"] is None
    assert (document["schema"], document["presets"], document["images"]) == ([], [], [])
    assert [problem["file"] for problem in document["problems"]] == ["README.md"]
    assert document["problemCount"] == 1


async def test_an_archive_is_a_download_that_unpacks_to_the_pack(site: Site) -> None:
    answer = await site.archive("nginx", "1.0.x")
    assert answer.headers["Content-Type"] == "application/gzip"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="nginx-1.0.0.tar.gz"'
    assert answer.headers["ETag"] == f'"sha256:{hashlib.sha256(answer.body).hexdigest()}"'
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(answer.body))) as tar:
        member = tar.extractfile("nginx-1.0.0/manifests/page.html")
        assert member is not None
        assert member.read() == FILES["manifests/page.html"]
    head = await site.archive("nginx", "1.0.x", "HEAD")
    assert head.headers["Content-Length"] == str(len(answer.body))


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("pack.json", "text/plain; charset=utf-8"),
        ("README.md", "text/plain; charset=utf-8"),
        ("logo.png", "image/png"),
        ("manifests/other.png", "image/png"),
        ("manifests/page.html", "text/plain; charset=utf-8"),
        ("manifests/image.svg", "text/plain; charset=utf-8"),
        ("manifests/a b/ü+%.txt", "text/plain; charset=utf-8"),
        ("manifests/empty", "text/plain; charset=utf-8"),
        ("manifests/raw.bin", "application/octet-stream"),
        ("manifests/nul.txt", "application/octet-stream"),
        ("manifests/large", "application/octet-stream"),
    ],
)
async def test_a_file_is_text_or_an_image_or_a_download_and_never_runs(
    site: Site, path: str, content_type: str
) -> None:
    answer = await site.file("nginx", "1.0.0", path)
    assert (answer.status, answer.headers.getall("Content-Type")) == (200, [content_type])
    assert ("Content-Disposition" in answer.headers) == (content_type == "application/octet-stream")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    if path in FILES:
        assert answer.body == FILES[path]
    head = await site.file("nginx", "1.0.0", path, "HEAD")
    # A second may begin between the two.
    del head.headers["Date"], answer.headers["Date"]
    assert head.headers == answer.headers
    part = await site.file("nginx", "1.0.0", path, Range="bytes=0-0")
    assert part.body == answer.body[:1]
    assert (await site.file("nginx", "1.0.0", path, If_None_Match=answer.headers["ETag"])).status == 304


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("nothing", 404, "FILE_UNKNOWN"),
        ("manifests", 404, "FILE_UNKNOWN"),
        ("nginx-1.0.0/pack.json", 404, "FILE_UNKNOWN"),
        ("../pack.json", 404, "FILE_UNKNOWN"),
        ("manifests/../pack.json", 404, "FILE_UNKNOWN"),
        ("pack.json\0", 404, "FILE_UNKNOWN"),
        ("PACK.JSON", 404, "FILE_UNKNOWN"),
        ("", 404, "NOT_FOUND"),
    ],
)
async def test_a_file_the_pack_does_not_have(site: Site, path: str, status: int, code: str) -> None:
    answer = await site.file("nginx", "1.0.0", path)
    assert (answer.status, answer.error) == (status, code)


async def test_a_file_too_large_to_be_served_alone_is_refused_with_what_to_do(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "FILE_MAX", 299_999)
    answer = await site.file("nginx", "1.0.0", "manifests/large")
    assert (answer.status, answer.error) == (413, "SIZE_INVALID")
    assert answer.json()["errors"][0]["detail"] == {"path": "manifests/large", "size": 300_000}
    assert "archive" in answer.message
    monkeypatch.setattr(api, "FILE_MAX", 300_000)
    assert (await site.file("nginx", "1.0.0", "manifests/large")).status == 200


@pytest.mark.parametrize(
    ("target", "status", "code"),
    [
        ("/api/v1/packs/nobody", 404, "NAME_UNKNOWN"),
        ("/api/v1/packs/broken", 404, "NAME_UNKNOWN"),
        ("/api/v1/packs/_catalog", 400, "NAME_INVALID"),
        ("/api/v1/packs/nginx/versions/9", 404, "MANIFEST_UNKNOWN"),
        ("/api/v1/packs/nginx/versions/.9", 400, "TAG_INVALID"),
        ("/api/v1/packs/nginx/versions", 404, "NOT_FOUND"),
        ("/api/v1/packs/nginx/versions/9/archive", 404, "MANIFEST_UNKNOWN"),
        ("/api/v1/packs/nginx/versions/9/files/pack.json", 404, "MANIFEST_UNKNOWN"),
        ("/api/v2/packs", 404, "NOT_FOUND"),
    ],
)
async def test_what_is_not_there_or_malformed_has_its_code(site: Site, target: str, status: int, code: str) -> None:
    answer = await site.ask(target)
    assert (answer.status, answer.error) == (status, code)
    assert "Docker-Distribution-Api-Version" not in answer.headers


async def test_problems_are_of_published_versions_and_of_directories_that_are_not(site: Site) -> None:
    found = (await site.problems()).json()["problems"]
    keys = {"name", "tag", "directory", "published", "problems"}
    assert all(set(entry) == keys for entry in found)
    told = [(Path(entry["directory"]).name, entry["name"], entry["tag"], entry["published"]) for entry in found]
    assert told == [
        ("broken-1.0.0", "broken", "1.0.0", False),
        ("second-calico", "calico", "3.0.0", False),
        ("odd-1.0.0", "odd", "1.0.0", True),
        ("ubuntu-22.04", "ubuntu", "22.04", True),
    ]
    assert [entry["problems"][0]["file"] for entry in found] == ["logo.png", "pack.json", "pack.json", "README.md"]
    assert all({"severity", "message"} <= set(problem) for entry in found for problem in entry["problems"])


async def test_problems_tell_of_records_that_cannot_be_read(tmp_path: Path) -> None:
    make_pack(tmp_path / "packs")
    async with serving(tmp_path / "data", tmp_path / "packs"):
        pass
    (tmp_path / "data" / "packs" / "damaged.json").write_text("{")
    (tmp_path / "data" / "packs" / "also.json").write_text("[]")
    async with serving(tmp_path / "data") as site:
        found = (await site.problems()).json()["problems"]
        assert [(entry["name"], entry["tag"], entry["directory"], entry["published"]) for entry in found] == [
            ("also", None, None, False),
            ("damaged", None, None, False),
        ]
        assert found[1]["problems"][0]["severity"] == "error"
        answer = await site.pack("damaged")
        assert (answer.status, answer.error) == (503, "STORAGE_UNAVAILABLE")
        assert (await site.catalog()).json() == {"repositories": ["hello"]}


async def test_a_tag_somebody_added_is_not_shown_as_made_by_the_server(site: Site) -> None:
    record = site.registry.packs()[1].record
    pack = Pack(replace(record, tags={Tag("stable"): Tag("1.0.0"), Tag("1.x"): Tag("1.0.0")}))
    tags = {item["tag"]: (item["target"], item["parent"]) for item in show.overview(show.View("", True), pack)["tags"]}
    assert (tags["stable"], tags["1.x"], tags["1.0.x"]) == (("1.0.0", False), ("1.0.0", False), ("1.0.0", True))
    shown = show.release_summary(show.View("", True), pack, pack.release(Tag("1.0.0")))
    assert (shown["tags"], shown["parentTags"]) == (["1.0.0", "1.x", "stable"], ["1.0.x"])


@pytest.mark.parametrize(
    "query", ["x=1", "limit=1&limit=2", "name=a&name=a", "Name=a", "q=%00", "q=%0d%0a", "q=%ff", "q=%c2%85", "n=1"]
)
async def test_a_parameter_that_is_unknown_doubled_or_no_text_is_refused(site: Site, query: str) -> None:
    answer = await site.ask(f"/api/v1/packs?{query}")
    assert (answer.status, answer.error) == (400, "PARAMETER_INVALID")


async def test_json_is_compact_utf8(site: Site) -> None:
    answer = await site.version("nginx", "1.0.0")
    assert answer.body == json.dumps(answer.json(), ensure_ascii=False, separators=(",", ":")).encode()
    assert "ü" in answer.body.decode()
