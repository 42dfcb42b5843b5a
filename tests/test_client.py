"""The client of a registry, against a real one where that can answer, and one that misbehaves on request."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from packregistry.archive import ARCHIVE_TYPE
from packregistry.client import Client, Reference, newest_tag
from packregistry.client import transport as transport_module
from packregistry.client.answers import clean
from packregistry.client.download import partial_path
from packregistry.client.transport import retry_after
from packregistry.config import Limits
from packregistry.credentials import Credentials, Server
from packregistry.errors import (
    BlobUnknownError,
    DeniedError,
    DigestInvalidError,
    ManifestUnknownError,
    NameInvalidError,
    NameUnknownError,
    PackInvalidError,
    RegistryError,
    ReleaseConflictError,
    TagInvalidError,
    TooManyRequestsError,
    UnauthorizedError,
)
from packregistry.failures import (
    ClientError,
    DownloadError,
    NotARegistryError,
    TargetError,
    UnreachableError,
    UntrustedCertificateError,
)
from packregistry.manifests import TITLE
from packregistry.model import Digest, PackName, Tag
from tests.factories import make_pack, noise, pack_files
from tests.standin import Asked, Reply, StandIn, certificate, listening
from tests.test_unpack import packed, tree
from tests.web import Site, serving

HELLO = PackName("hello")
PAUSES: list[float] = []


async def pause(seconds: float) -> None:
    PAUSES.append(seconds)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    PAUSES.clear()
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest_asyncio.fixture
async def standin() -> AsyncIterator[StandIn]:
    async with listening() as running:
        yield running


@asynccontextmanager
async def client_of(address: str, credentials: Credentials | None = None, **options: Any) -> AsyncIterator[Client]:
    async with Client(Server.parse(address), credentials, pause=pause, **options) as client:
        yield client


@asynccontextmanager
async def site_with(tmp_path: Path, users: dict[str, str] | None = None, **packs: str) -> AsyncIterator[Site]:
    for name, versions in packs.items():
        for version in versions.split():
            files = {"run.sh": b"#!", "data": noise(400_000, len(version))}
            make_pack(tmp_path / "packs", name, version, files=files)
    async with serving(tmp_path / "data", tmp_path / "packs", users=users) as site:
        yield site


def address(site: Site) -> str:
    return f"http://{site.address[0]}:{site.address[1]}"


def left(directory: Path) -> list[Path]:
    """What is in a directory."""
    return list(directory.iterdir())


class Offered:
    """A pack on a stand-in: its archive, and the manifest that leads there."""

    def __init__(self, standin: StandIn, archive: bytes = b"", *, tag: str = "1.0.0", **changes: Any) -> None:
        self.files = pack_files(files={"data": noise(300_000)})
        self.archive = archive or packed(self.files).getvalue()
        self.digest = Digest.of(self.archive)
        layer = {
            "mediaType": ARCHIVE_TYPE,
            "digest": self.digest,
            "size": len(self.archive),
            "annotations": {TITLE: "hello-1.0.0.tar.gz"},
            **changes.pop("layer", {}),
        }
        document = {"layers": [layer], "annotations": {"org.opencontainers.image.ref.name": tag}, **changes}
        self.manifest = json.dumps(document).encode()
        standin.on("GET", "/v1/hello/manifests/1.0.0", Reply(body=self.manifest))
        self.path = f"/v1/hello/blobs/{self.digest}"
        standin.on("GET", self.path, self.answer)

    def answer(self, asked: Asked, cut: int | None = None) -> Reply:
        """As a registry answers, ranges included."""
        etag = f'"{self.digest}"'
        given = asked.headers.get("Range")
        if given and asked.headers.get("If-Range") == etag:
            start = int(given.removeprefix("bytes=").removesuffix("-"))
            size = len(self.archive)
            headers = {"ETag": etag, "Content-Range": f"bytes {start}-{size - 1}/{size}"}
            return Reply(206, self.archive[start:], headers, cut)
        return Reply(200, self.archive, {"ETag": etag}, cut)

    def broken(self, after: int) -> Any:
        return lambda asked: self.answer(asked, after)


# References and newest versions


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hello", Reference(HELLO)),
        ("hello:1.0.0", Reference(HELLO, Tag("1.0.0"))),
        ("hello:lts__1.0.0", Reference(HELLO, Tag("lts__1.0.0"))),
        ("hello@sha256:" + "a" * 64, Reference(HELLO, digest=Digest("sha256:" + "a" * 64))),
    ],
    ids=["name", "tag", "group", "digest"],
)
def test_a_reference_is_read_and_written_the_same(text: str, expected: Reference) -> None:
    assert Reference.parse(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("../x", NameInvalidError),
        ("", NameInvalidError),
        ("hello:", TagInvalidError),
        ("hello:a/b", TagInvalidError),
        ("hello@", DigestInvalidError),
        ("hello:1@sha256:" + "a" * 64, NameInvalidError),
    ],
    ids=str,
)
def test_a_reference_that_is_none_is_refused(text: str, error: type[RegistryError]) -> None:
    with pytest.raises(error):
        Reference.parse(text)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("1.9.0 1.10.0 1.x 1.9.x 1.10.x", "1.10.0"),
        ("1.0.0 lts__1.0.0 1.x lts__1.x", "1.0.0"),
        ("1.0.0 lts__2.0.0 lts__2.x lts__2.0.x 1.x", "lts__2.0.0"),
        ("stable 1.0.0", "1.0.0"),
        ("2.0.0-rc.1 1.0.0", "2.0.0-rc.1"),
        ("stable", "stable"),
    ],
    ids=str,
)
def test_the_newest_version_is_the_highest_that_is_no_parent(tags: str, expected: str) -> None:
    assert newest_tag(HELLO, [Tag(tag) for tag in tags.split()]) == expected


def test_a_pack_without_versions_has_no_newest() -> None:
    with pytest.raises(ManifestUnknownError, match="hello has no version"):
        newest_tag(HELLO, [])


# Reading from a real registry


async def test_a_registry_is_read(tmp_path: Path) -> None:
    async with site_with(tmp_path, hello="1.0.0 1.1.0", other="2.0.0") as site, client_of(address(site)) as client:
        await client.check()
        assert await client.catalog() == ["hello", "other"]
        assert await client.tags(HELLO) == ["1.0.0", "1.0.x", "1.1.0", "1.1.x", "1.x"]
        assert await client.newest(HELLO) == "1.1.0"
        assert [pack["name"] for pack in await client.packs()] == ["hello", "other"]
        assert [pack["name"] for pack in await client.packs("other")] == ["other"]
        assert [one["tag"] for one in (await client.show(HELLO))["versions"]] == ["1.1.0", "1.0.0"]
        assert (await client.release(HELLO, Tag("1.0.0")))["pack"]["version"] == "1.0.0"
        with pytest.raises(NameUnknownError, match="no pack is called nope"):
            await client.show(PackName("nope"))


@pytest.mark.parametrize("reference", ["hello", "hello:1.1.0", "hello:1.x"])
async def test_a_pull_gives_the_files_that_were_published(tmp_path: Path, reference: str) -> None:
    async with site_with(tmp_path, hello="1.0.0 1.1.0") as site, client_of(address(site)) as client:
        seen: list[tuple[int, int]] = []
        pulled = await client.pull(
            Reference.parse(reference),
            tmp_path / "out",
            Limits(),
            progress=lambda done, size: seen.append((done, size)),
        )
    assert pulled.directory == tmp_path / "out" / "hello-1.1.0"
    assert tree(pulled.directory) == tree(tmp_path / "packs" / "hello-1.1.0")
    assert list((tmp_path / "out").iterdir()) == [pulled.directory]
    assert seen[0] == (0, pulled.size)
    assert seen[-1] == (pulled.size, pulled.size)


async def test_a_pull_by_digest_gets_that_version(tmp_path: Path) -> None:
    async with site_with(tmp_path, hello="1.0.0 1.1.0") as site, client_of(address(site)) as client:
        _, digest = await client.manifest(Reference.parse("hello:1.0.0"))
        pulled = await client.pull(Reference(HELLO, digest=digest), tmp_path / "out", Limits())
    assert (pulled.tag, pulled.manifest) == ("1.0.0", digest)


async def test_credentials_are_sent_and_their_lack_is_told(tmp_path: Path) -> None:
    async with site_with(tmp_path, {"ann": "secret"}, hello="1.0.0") as site:
        async with client_of(address(site), Credentials("ann", "secret")) as client:
            assert await client.catalog() == ["hello"]
        for credentials in (None, Credentials("ann", "wrong")):
            async with client_of(address(site), credentials) as client:
                with pytest.raises(UnauthorizedError):
                    await client.check()


# Pulling from one that misbehaves


async def test_a_broken_download_goes_on_where_it_was(standin: StandIn, tmp_path: Path) -> None:
    offered = Offered(standin)
    standin.on("GET", offered.path, offered.broken(100_000), offered.broken(50_000), offered.answer)
    async with client_of(standin.url) as client:
        pulled = await client.pull(Reference.parse("hello:1.0.0"), tmp_path, Limits())
    assert tree(pulled.directory) == offered.files
    ranges = [one.headers.get("Range") for one in standin.asked_for("GET", offered.path)]
    assert ranges == [None, "bytes=100000-", "bytes=150000-"]
    assert PAUSES == [1.0, 1.0]


async def test_a_download_that_brings_nothing_more_ends_and_is_kept(standin: StandIn, tmp_path: Path) -> None:
    offered = Offered(standin)
    standin.on("GET", offered.path, offered.broken(100_000), offered.broken(0))
    async with client_of(standin.url) as client:
        with pytest.raises(UnreachableError):
            await client.pull(Reference.parse("hello:1.0.0"), tmp_path, Limits())
        assert partial_path(tmp_path, offered.digest).read_bytes() == offered.archive[:100_000]
        assert PAUSES == [1.0, 2.0, 4.0, 8.0]
        standin.on("GET", offered.path, offered.answer)
        pulled = await client.pull(Reference.parse("hello:1.0.0"), tmp_path, Limits())
    assert standin.asked[-1].headers["Range"] == "bytes=100000-"
    assert tree(pulled.directory) == offered.files
    assert left(tmp_path) == [pulled.directory]


async def test_a_download_that_never_begins_is_not_tried_again(standin: StandIn, tmp_path: Path) -> None:
    offered = Offered(standin)
    standin.on("GET", offered.path, offered.broken(0))
    async with client_of(standin.url) as client:
        with pytest.raises(UnreachableError):
            await client.pull(Reference.parse("hello:1.0.0"), tmp_path, Limits())
    assert len(standin.asked_for("GET", offered.path)) == 1
    assert left(tmp_path) == []


async def test_a_server_that_sends_the_whole_again_is_fine(standin: StandIn, tmp_path: Path) -> None:
    offered = Offered(standin)
    partial_path(tmp_path, offered.digest).write_bytes(b"x" * 1000)
    standin.on("GET", offered.path, Reply(body=offered.archive))
    async with client_of(standin.url) as client:
        pulled = await client.pull(Reference.parse("hello:1.0.0"), tmp_path, Limits())
    assert tree(pulled.directory) == offered.files


async def test_what_is_complete_already_is_not_asked_for(standin: StandIn, tmp_path: Path) -> None:
    offered = Offered(standin)
    partial_path(tmp_path, offered.digest).write_bytes(offered.archive)
    async with client_of(standin.url) as client:
        pulled = await client.pull(Reference.parse("hello:1.0.0"), tmp_path, Limits())
    assert standin.asked_for("GET", offered.path) == []
    assert tree(pulled.directory) == offered.files


@pytest.mark.parametrize(
    "before",
    [b"damaged" * 1000, b"too long" * 100_000],
    ids=["damaged", "too long"],
)
async def test_a_damaged_beginning_is_thrown_away(standin: StandIn, tmp_path: Path, before: bytes) -> None:
    offered = Offered(standin)
    partial_path(tmp_path, offered.digest).write_bytes(before)
    async with client_of(standin.url) as client:
        if len(before) < len(offered.archive):
            with pytest.raises(DownloadError, match="thrown away"):
                await client.pull(Reference.parse("hello:1.0.0"), tmp_path, Limits())
            assert left(tmp_path) == []
        pulled = await client.pull(Reference.parse("hello:1.0.0"), tmp_path, Limits())
    assert tree(pulled.directory) == offered.files


async def test_other_bytes_than_announced_are_refused(standin: StandIn, tmp_path: Path) -> None:
    offered = Offered(standin)
    standin.on("GET", offered.path, Reply(body=noise(len(offered.archive), 2)))
    async with client_of(standin.url) as client:
        with pytest.raises(DownloadError, match=f"not {offered.digest}"):
            await client.pull(Reference.parse("hello:1.0.0"), tmp_path, Limits())
    assert left(tmp_path) == []


async def test_more_bytes_than_announced_are_not_taken(standin: StandIn, tmp_path: Path) -> None:
    offered = Offered(standin)
    standin.on("GET", offered.path, Reply(body=offered.archive + bytes(10)))
    async with client_of(standin.url) as client:
        with pytest.raises(DownloadError, match="more than"):
            await client.pull(Reference.parse("hello:1.0.0"), tmp_path, Limits())


async def test_another_part_than_asked_for_is_refused(standin: StandIn, tmp_path: Path) -> None:
    offered = Offered(standin)
    partial_path(tmp_path, offered.digest).write_bytes(offered.archive[:1000])
    standin.on("GET", offered.path, Reply(206, offered.archive[500:], {"Content-Range": "bytes 500-999/1000"}))
    async with client_of(standin.url) as client:
        with pytest.raises(DownloadError, match="another part"):
            await client.pull(Reference.parse("hello:1.0.0"), tmp_path, Limits())


async def test_a_range_that_does_not_suit_begins_the_download_anew(standin: StandIn, tmp_path: Path) -> None:
    offered = Offered(standin)
    partial_path(tmp_path, offered.digest).write_bytes(offered.archive[:1000])
    standin.on("GET", offered.path, Reply(416, b""), offered.answer)
    async with client_of(standin.url) as client:
        pulled = await client.pull(Reference.parse("hello:1.0.0"), tmp_path, Limits())
    assert tree(pulled.directory) == offered.files


async def test_a_server_that_always_finds_the_range_wrong_is_given_up(standin: StandIn, tmp_path: Path) -> None:
    offered = Offered(standin)
    standin.on("GET", offered.path, Reply(416, b""))
    async with client_of(standin.url) as client:
        with pytest.raises(DownloadError, match="does not send the whole"):
            await client.pull(Reference.parse("hello:1.0.0"), tmp_path, Limits())


async def test_a_blob_that_is_gone_is_told_and_what_there_is_kept(standin: StandIn, tmp_path: Path) -> None:
    offered = Offered(standin)
    partial_path(tmp_path, offered.digest).write_bytes(offered.archive[:1000])
    standin.on("GET", offered.path, Reply.error(404, "BLOB_UNKNOWN"))
    async with client_of(standin.url) as client:
        with pytest.raises(BlobUnknownError):
            await client.pull(Reference.parse("hello:1.0.0"), tmp_path, Limits())
    assert left(tmp_path) == [partial_path(tmp_path, offered.digest)]


async def test_a_download_of_several_megabytes_comes_in_order(standin: StandIn, tmp_path: Path) -> None:
    files = pack_files(files={"data": noise(5_000_000)})
    Offered(standin, packed(files).getvalue())
    seen: list[int] = []
    async with client_of(standin.url) as client:
        pulled = await client.pull(
            Reference.parse("hello:1.0.0"), tmp_path, Limits(), progress=lambda done, _: seen.append(done)
        )
    assert tree(pulled.directory) == files
    assert seen == sorted(seen)
    assert len(seen) > 3


async def test_two_pulls_of_the_same_do_not_write_into_one_file(standin: StandIn, tmp_path: Path) -> None:
    Offered(standin)
    async with client_of(standin.url) as client:
        results = await asyncio.gather(
            *(client.pull(Reference.parse("hello:1.0.0"), tmp_path, Limits()) for _ in range(2)), return_exceptions=True
        )
    errors = [result for result in results if isinstance(result, BaseException)]
    assert len(errors) == 1
    assert isinstance(errors[0], TargetError)
    assert "another process" in str(errors[0])


async def test_a_target_that_is_taken_costs_no_download(standin: StandIn, tmp_path: Path) -> None:
    offered = Offered(standin)
    (tmp_path / "hello-1.0.0").mkdir()
    (tmp_path / "hello-1.0.0" / "mine").write_text("1")
    async with client_of(standin.url) as client:
        with pytest.raises(TargetError, match="not empty"):
            await client.pull(Reference.parse("hello:1.0.0"), tmp_path, Limits())
        assert standin.asked_for("GET", offered.path) == []
        await client.pull(Reference.parse("hello:1.0.0"), tmp_path, Limits(), replace=True)
    assert tree(tmp_path / "hello-1.0.0") == offered.files


async def test_a_target_that_cannot_be_written_is_named(standin: StandIn, tmp_path: Path) -> None:
    Offered(standin)
    (tmp_path / "file").write_text("")
    async with client_of(standin.url) as client:
        with pytest.raises(TargetError, match="cannot be written"):
            await client.pull(Reference.parse("hello:1.0.0"), tmp_path / "file", Limits())


async def test_an_archive_that_is_unsafe_leaves_nothing(standin: StandIn, tmp_path: Path) -> None:
    Offered(standin, noise(1000))
    async with client_of(standin.url) as client:
        with pytest.raises(PackInvalidError):
            await client.pull(Reference.parse("hello:1.0.0"), tmp_path, Limits())
    assert left(tmp_path) == []


async def test_an_archive_beyond_the_limit_is_not_begun(standin: StandIn, tmp_path: Path) -> None:
    Offered(standin)
    async with client_of(standin.url) as client:
        with pytest.raises(ClientError, match="REGISTRY_LIMITS_ARCHIVE"):
            await client.pull(Reference.parse("hello:1.0.0"), tmp_path, Limits(archive=1000))
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"tag": "../../evil"},
        {"tag": "a/b"},
        {"layers": []},
        {"layers": "x"},
        {"layers": [1]},
        {"layer": {"digest": "sha256:../../x"}},
        {"layer": {"size": "many"}},
        {"annotations": 5},
        {"layer": {"mediaType": "x", "annotations": {TITLE: 5}}},
    ],
    ids=str,
)
async def test_a_manifest_that_describes_no_pack_is_refused(
    standin: StandIn, tmp_path: Path, changes: dict[str, Any]
) -> None:
    Offered(standin, **changes)
    async with client_of(standin.url) as client:
        with pytest.raises(NotARegistryError, match="does not describe a pack"):
            await client.pull(Reference.parse("hello:1.0.0"), tmp_path / "out", Limits())
    assert left(tmp_path) == []


@pytest.mark.parametrize("announced", [True, False], ids=["header", "asked"])
async def test_a_manifest_of_another_digest_is_refused(standin: StandIn, announced: bool) -> None:
    wrong = "sha256:" + "a" * 64
    headers = {"Docker-Content-Digest": wrong} if announced else {}
    reference = Reference.parse("hello:1.0.0" if announced else f"hello@{wrong}")
    standin.on("GET", f"/v1/hello/manifests/{'1.0.0' if announced else wrong}", Reply(headers=headers))
    async with client_of(standin.url) as client:
        with pytest.raises(DownloadError, match=wrong):
            await client.manifest(reference)


# Redirects


async def test_a_download_follows_to_another_host_without_credentials(tmp_path: Path, standin: StandIn) -> None:
    offered = Offered(standin)
    async with listening() as elsewhere:
        elsewhere.on("GET", "/bucket", Reply(body=offered.archive))
        standin.on("GET", offered.path, Reply(307, b"", {"Location": f"{elsewhere.url}/bucket?sig=1"}))
        async with client_of(standin.url, Credentials("ann", "secret")) as client:
            pulled = await client.pull(Reference.parse("hello:1.0.0"), tmp_path, Limits())
    assert tree(pulled.directory) == offered.files
    assert all("Authorization" in one.headers for one in standin.asked)
    assert [one.headers.get("Authorization") for one in elsewhere.asked] == [None]
    assert elsewhere.asked[0].query == {"sig": "1"}


async def test_on_the_same_host_a_redirect_keeps_the_credentials(standin: StandIn) -> None:
    standin.on("GET", "/v1/", Reply(301, b"", {"Location": "/v1/base"}))
    standin.on("GET", "/v1/base")
    standin.on("GET", "/v1/base", Reply())
    async with client_of(standin.url, Credentials("ann", "secret")) as client:
        await client.check()
    assert "Authorization" in standin.asked[-1].headers


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("http://elsewhere.invalid/x", "use http://elsewhere.invalid as its address"),
        ("http://[", "which is no address"),
        ("mailto:a@b", "redirects to mailto:a@b"),
    ],
)
async def test_a_question_is_not_carried_to_another_host(standin: StandIn, location: str, reason: str) -> None:
    standin.on("GET", "/v1/", Reply(302, b"", {"Location": location}))
    async with client_of(standin.url, Credentials("ann", "secret")) as client:
        with pytest.raises(NotARegistryError, match=reason.replace("[", r"\[")):
            await client.check()


async def test_a_change_is_never_redirected(standin: StandIn) -> None:
    standin.on("DELETE", "/api/v1/packs/hello/tags/1.0.0", Reply(307, b"", {"Location": "/elsewhere"}))
    async with client_of(standin.url) as client:
        with pytest.raises(NotARegistryError, match="redirects to /elsewhere"):
            await client.delete_tag(HELLO, Tag("1.0.0"))
    assert len(standin.asked) == 1


async def test_redirects_without_end_end(standin: StandIn) -> None:
    standin.on("GET", "/v1/", Reply(302, b"", {"Location": "/v1/"}))
    async with client_of(standin.url) as client:
        with pytest.raises(NotARegistryError, match="without end"):
            await client.check()


# Trust


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    return certificate(tmp_path_factory.mktemp("tls"))


async def test_a_certificate_of_an_unknown_authority_says_where_to_put_it(
    tls: tuple[Path, Any], tmp_path: Path
) -> None:
    place = tmp_path / "ca.crt"
    async with listening(tls[1]) as standin, client_of(standin.name, ca=place) as client:
        with pytest.raises(UntrustedCertificateError) as caught:
            await client.check()
    assert str(place) in str(caught.value)
    assert "--insecure" in str(caught.value)
    assert standin.asked == []


async def test_an_authority_that_was_put_there_is_trusted(tls: tuple[Path, Any]) -> None:
    async with listening(tls[1]) as standin, client_of(standin.name, ca=tls[0]) as client:
        standin.on("GET", "/v1/", Reply())
        await client.check()


async def test_insecure_takes_any_certificate(tls: tuple[Path, Any]) -> None:
    async with listening(tls[1]) as standin, client_of(standin.name, insecure=True) as client:
        standin.on("GET", "/v1/", Reply())
        await client.check()


@pytest.mark.parametrize("kind", ["text", "directory"])
async def test_a_file_that_is_no_certificate_is_named(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "ca.crt"
    place.mkdir() if kind == "directory" else place.write_text("hello")
    with pytest.raises(ClientError, match=r"ca\.crt cannot be used"):
        async with client_of("https://registry.example", ca=place):
            pass


async def test_a_redirect_out_of_tls_is_not_followed(tls: tuple[Path, Any], tmp_path: Path, standin: StandIn) -> None:
    async with listening(tls[1]) as secure, client_of(secure.url, ca=tls[0]) as client:
        offered = Offered(secure)
        secure.on("GET", offered.path, Reply(307, b"", {"Location": f"{standin.url}/x"}))
        with pytest.raises(NotARegistryError, match="from TLS"):
            await client.pull(Reference.parse("hello:1.0.0"), tmp_path, Limits())
    assert standin.asked == []


async def test_this_machine_may_answer_in_plain_http(standin: StandIn) -> None:
    standin.on("GET", "/v1/", Reply())
    async with client_of(standin.name) as client:
        await asyncio.gather(client.check(), client.check())
    assert [one.path for one in standin.asked] == ["/v1/", "/v1/"]


async def test_https_that_was_asked_for_stays_https(standin: StandIn) -> None:
    async with client_of(f"https://{standin.name}") as client:
        with pytest.raises(UnreachableError, match=f"write http://{standin.name}"):
            await client.check()
    assert standin.asked == []


async def test_another_machine_answers_in_plain_http_only_where_insecure_is_wanted(
    standin: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Server, "is_loopback", False)
    standin.on("GET", "/v1/", Reply())
    async with client_of(standin.name, Credentials("ann", "x")) as client:
        with pytest.raises(UnreachableError, match="does not speak TLS"):
            await client.check()
    assert standin.asked == []
    async with client_of(standin.name, insecure=True) as client:
        await client.check()


async def test_a_handshake_that_fails_is_no_reason_to_do_without_tls() -> None:
    heard: list[bytes] = []

    async def alert(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(3))
        writer.write(b"\x15\x03\x03\x00\x02\x02\x28")
        writer.close()

    server = await asyncio.start_server(alert, "127.0.0.1", 0)
    name = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, client_of(name, Credentials("ann", "secret"), insecure=True) as client:
        with pytest.raises(UnreachableError, match="breaks off the TLS handshake"):
            await client.check()
    assert {data[:1] for data in heard} == {b"\x16"}


# Waiting, and not waiting


async def test_nobody_there_is_told_with_the_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        name = f"127.0.0.1:{taken.getsockname()[1]}"
    for spelling in (name, f"http://{name}"):
        async with client_of(spelling) as client:
            with pytest.raises(UnreachableError, match=f"{name} cannot be reached: Connection refused"):
                await client.check()


async def test_a_name_that_is_none_is_told() -> None:
    async with client_of("http://nowhere.invalid") as client:
        with pytest.raises(UnreachableError, match=r"nowhere\.invalid cannot be reached"):
            await client.check()


async def test_a_registry_that_is_busy_is_asked_again_after_the_time_it_names(standin: StandIn) -> None:
    busy = Reply.error(429, "TOOMANYREQUESTS", Retry_After="7")
    standin.on("GET", "/v1/", busy, Reply.error(429, "TOOMANYREQUESTS", Retry_After="soon"), Reply())
    async with client_of(standin.url) as client:
        await client.check()
    assert PAUSES == [7.0, 1.0]


async def test_a_registry_that_stays_busy_is_given_up(standin: StandIn) -> None:
    standin.on("GET", "/v1/", Reply.error(429, "TOOMANYREQUESTS", Retry_After="1"))
    async with client_of(standin.url) as client:
        with pytest.raises(TooManyRequestsError):
            await client.check()
    assert len(standin.asked) == 5


def test_nobody_is_waited_for_longer_than_a_minute() -> None:
    assert [retry_after(text) for text in ("3", "999999", "9" * 30, "-1", "")] == [3.0, 60.0, 1.0, 1.0, 1.0]


async def test_a_registry_that_does_not_answer_is_given_up(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport_module, "STALL_SECONDS", 0.05)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server, client_of(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as client:
        with pytest.raises(UnreachableError, match="does not answer"):
            await client.check()


# Answers that are none


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(body=b"<html>"), NotARegistryError),
        (Reply(body=b"[]"), NotARegistryError),
        (Reply(404, b"<html>"), NotARegistryError),
        (Reply(502, b"<html>"), UnreachableError),
        (Reply(401, b"<html>"), UnauthorizedError),
        (Reply(403, b""), DeniedError),
        (Reply.error(500, "UNKNOWN"), RegistryError),
        (Reply.error(403, "NEW_CODE"), DeniedError),
        (Reply(500, b'{"errors": [1]}'), NotARegistryError),
        (Reply(500, b'{"errors": []}'), NotARegistryError),
        (Reply(400, b"[" * 100_000), NotARegistryError),
    ],
    ids=["html", "list", "404", "502", "401", "403", "500", "new code", "number", "empty", "deep"],
)
async def test_an_answer_becomes_the_error_it_stands_for(
    standin: StandIn, reply: Reply, error: type[Exception]
) -> None:
    standin.on("GET", "/api/v1/packs/hello", reply)
    async with client_of(standin.url) as client:
        with pytest.raises(error) as caught:
            await client.show(HELLO)
    assert type(caught.value) is error


async def test_what_a_server_says_cannot_reach_the_terminal(standin: StandIn) -> None:
    standin.on("GET", "/v1/", Reply.error(400, "NAME_INVALID", "a\x1b[2J\nb\u202e"))
    async with client_of(standin.url) as client:
        with pytest.raises(NameInvalidError) as caught:
            await client.check()
    assert str(caught.value) == "a\ufffd[2J b\ufffd"
    assert len(clean("x" * 10_000)) == 4000


async def test_what_is_no_http_is_told() -> None:
    async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"220 smtp.example ESMTP\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(rude, "127.0.0.1", 0)
    async with server, client_of(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as client:
        with pytest.raises(NotARegistryError, match="does not answer in HTTP"):
            await client.check()


async def test_an_answer_without_end_ends(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport_module, "ANSWER_MAX", 1000)
    standin.on("GET", "/v1/", Reply(body=bytes(5000)))
    async with client_of(standin.url) as client:
        with pytest.raises(NotARegistryError, match="without end"):
            await client.check()


async def test_listings_are_read_page_by_page_and_only_from_their_own_path(standin: StandIn) -> None:
    more = Reply.of({"repositories": ["a", 5]}, Link='<http://elsewhere/x?last=a&n=1>; rel="next"')
    standin.on("GET", "/v1/_catalog", more, Reply.of({"repositories": ["b"]}))
    standin.on(
        "GET", "/api/v1/packs", Reply.of({"packs": [{"name": "a"}], "next": "a"}), Reply.of({"packs": [], "next": None})
    )
    async with client_of(standin.url) as client:
        assert await client.catalog() == ["a", "b"]
        assert standin.asked[-1].query == {"last": "a", "n": "1"}
        assert await client.packs() == [{"name": "a"}]
        assert standin.asked[-1].query == {"limit": "1000", "cursor": "a"}


async def test_a_listing_without_end_ends(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("packregistry.client.client._PAGES_MAX", 3)
    standin.on("GET", "/v1/_catalog", Reply.of({"repositories": ["a"]}, Link='</v1/_catalog?last=a>; rel="next"'))
    async with client_of(standin.url) as client:
        with pytest.raises(NotARegistryError, match="without end"):
            await client.catalog()


async def test_a_tag_that_is_none_is_not_passed_on(standin: StandIn) -> None:
    standin.on("GET", "/v1/hello/tags/list", Reply.of({"tags": ["../x"]}))
    async with client_of(standin.url) as client:
        with pytest.raises(TagInvalidError):
            await client.tags(HELLO)


# Changes


RELEASE = {"name": "hello", "tag": "1.0.0", "archive": {"digest": "sha256:" + "a" * 64, "size": 5}}


async def test_a_push_sends_the_archive_with_its_digest(standin: StandIn, tmp_path: Path) -> None:
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(noise(600_000))
    standin.on("POST", "/api/v1/packs", Reply.of({"action": "created", "release": RELEASE}, 201))
    seen: list[int] = []
    async with client_of(standin.url, Credentials(token="t0k")) as client:
        done = await client.push(
            archive, force=True, message="a b&c", skip_digest_check=True, progress=lambda done, _: seen.append(done)
        )
    (asked,) = standin.asked
    assert done == {"action": "created", "release": RELEASE}
    assert asked.body == archive.read_bytes()
    assert asked.query == {"force": "true", "message": "a b&c", "skipDigestCheck": "true"}
    assert asked.headers["Authorization"] == "Bearer t0k"
    assert asked.headers["Content-Length"] == "600000"
    digest = base64.b64encode(hashlib.sha256(asked.body).digest()).decode()
    assert asked.headers["Content-Digest"] == f"sha-256=:{digest}:"
    assert "Content-Encoding" not in asked.headers
    assert seen[-1] == 600_000


async def test_a_plain_push_has_no_parameters(standin: StandIn, tmp_path: Path) -> None:
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(b"")
    standin.on("POST", "/api/v1/packs", Reply.of({"action": "unchanged", "release": RELEASE}))
    async with client_of(standin.url) as client:
        await client.push(archive)
    assert standin.asked[0].query == {}


async def test_a_push_that_is_refused_before_its_body_sends_none(standin: StandIn, tmp_path: Path) -> None:
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(noise(3_000_000))
    reply = Reply.error(401, "UNAUTHORIZED")
    standin.on("POST", "/api/v1/packs", Reply(reply.status, reply.body, reads=False))
    seen: list[int] = []
    async with client_of(standin.url) as client:
        with pytest.raises(UnauthorizedError):
            await client.push(archive, progress=lambda done, _: seen.append(done))
    assert seen == []


async def test_a_busy_registry_gets_the_whole_archive_again(standin: StandIn, tmp_path: Path) -> None:
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(noise(300_000))
    busy = Reply.error(429, "TOOMANYREQUESTS", Retry_After="2")
    standin.on("POST", "/api/v1/packs", busy, Reply.of({"action": "created", "release": RELEASE}, 201))
    async with client_of(standin.url) as client:
        await client.push(archive)
    assert [len(one.body) for one in standin.asked] == [300_000, 300_000]
    assert PAUSES == [2.0]


async def test_a_conflict_keeps_both_digests(standin: StandIn, tmp_path: Path) -> None:
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(b"x")
    detail = {"name": "hello", "tag": "1.0.0", "existing": "sha256:1", "offered": "sha256:2"}
    standin.on("POST", "/api/v1/packs", Reply.error(409, "RELEASE_CONFLICT", "exists", detail))
    async with client_of(standin.url) as client:
        with pytest.raises(ReleaseConflictError) as caught:
            await client.push(archive)
    assert caught.value.detail == detail


async def test_an_archive_that_is_not_there_is_named(tmp_path: Path) -> None:
    async with client_of("http://127.0.0.1:1") as client:
        with pytest.raises(ClientError, match="nope cannot be read: No such file"):
            await client.push(tmp_path / "nope")


async def test_tags_and_rollbacks_are_asked_for_as_the_api_wants_them(standin: StandIn) -> None:
    standin.on("PUT", "/api/v1/packs/hello/tags/stable", Reply.of({"tag": "lts__stable", "version": "1.0.0"}, 201))
    standin.on("DELETE", "/api/v1/packs/hello/tags/stable", Reply.of({"deleted": ["stable"], "release": None}))
    standin.on("POST", "/api/v1/packs/hello/rollback", Reply.of({"action": "restored", "release": RELEASE}))
    async with client_of(standin.url) as client:
        assert (await client.add_tag(HELLO, Tag("1.0.0"), "stable", "lts"))["tag"] == "lts__stable"
        assert standin.asked[-1].json() == {"version": "1.0.0", "group": "lts"}
        await client.add_tag(HELLO, Tag("1.0.0"), "stable")
        assert standin.asked[-1].json() == {"version": "1.0.0"}
        assert (await client.delete_tag(HELLO, Tag("stable")))["deleted"] == ["stable"]
        assert (await client.rollback(HELLO, Tag("1.0.0")))["action"] == "restored"
        assert standin.asked[-1].json() == {"tag": "1.0.0"}
        await client.rollback(HELLO, Tag("1.0.0"), to=0, message="why")
        assert standin.asked[-1].json() == {"tag": "1.0.0", "to": 0, "message": "why"}


# Proxies


async def test_a_proxy_of_the_environment_is_used(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", standin.url.replace("//", "//user:word@"))
    standin.on("GET", "http://registry.example/v1/", Reply())
    async with client_of("http://registry.example", Credentials("ann", "x")) as client:
        await client.check()
    assert standin.asked[0].headers["Proxy-Authorization"] == "Basic " + base64.b64encode(b"user:word").decode()


async def test_a_proxy_for_tls_is_told_its_own_login_only(monkeypatch: pytest.MonkeyPatch) -> None:
    heads: list[str] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    monkeypatch.setenv("https_proxy", f"http://user:word@127.0.0.1:{server.sockets[0].getsockname()[1]}")
    async with server, client_of("registry.example", Credentials("ann", "secret")) as client:
        with pytest.raises(UnreachableError, match=r"proxy does not lead to registry\.example: 403"):
            await client.check()
    assert heads[0].startswith("CONNECT registry.example:443 HTTP/1.1\r\n")
    assert "Proxy-Authorization: Basic " + base64.b64encode(b"user:word").decode() in heads[0]
    assert base64.b64encode(b"ann:secret").decode() not in heads[0]


async def test_a_proxy_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with client_of("http://registry.example") as client:
        with pytest.raises(UnreachableError, match=r"proxy does not lead to registry\.example: Connection refused"):
            await client.check()


@pytest.mark.parametrize("exempt", [True, False], ids=["exempt", "this machine"])
async def test_a_proxy_is_not_used_where_it_should_not_be(
    standin: StandIn, monkeypatch: pytest.MonkeyPatch, exempt: bool
) -> None:
    monkeypatch.setenv("http_proxy", "127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "registry.invalid" if exempt else "")
    standin.on("GET", "/v1/", Reply())
    async with client_of("http://registry.invalid" if exempt else standin.url) as client:
        if exempt:
            with pytest.raises(UnreachableError, match=r"registry\.invalid cannot be reached"):
                await client.check()
        else:
            await client.check()
