"""What one can ask a registry for."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, quote, urlsplit

from packregistry import unpack
from packregistry.archive import ARCHIVE_TYPE
from packregistry.client import answers
from packregistry.client.download import download, partial_file, partial_path
from packregistry.client.reference import Reference
from packregistry.client.transport import Progress, Transport
from packregistry.config import Limits
from packregistry.credentials import Credentials, Server
from packregistry.errors import ManifestUnknownError, RegistryError
from packregistry.failures import ClientError, DownloadError, NotARegistryError
from packregistry.manifests import MANIFEST_TYPE, TITLE
from packregistry.model import Digest, Json, PackName, Tag
from packregistry.versions import parent_labels, version_key

REF_NAME = "org.opencontainers.image.ref.name"
_CHUNK = 256 * 1024
_NEXT = re.compile(r'\s*<([^>]*)>\s*;\s*rel="?next"?', re.IGNORECASE)
_PAGES_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Pulled:
    """A pack that was pulled: what it is, where it lies, and the digests it was verified against."""

    name: PackName
    tag: Tag
    directory: Path
    manifest: Digest
    archive: Digest
    size: int


@dataclass(frozen=True, slots=True)
class _Manifest:
    """What a pull needs of a manifest."""

    digest: Digest
    tag: Tag
    archive: Digest
    size: int


class Client:
    """A registry to ask, while its context is open. The arguments are those of `Transport`."""

    def __init__(
        self,
        server: Server,
        credentials: Credentials | None = None,
        *,
        ca: Path | None = None,
        insecure: bool = False,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.server = server
        self._transport = Transport(server, credentials, ca=ca, insecure=insecure, pause=pause)

    async def __aenter__(self) -> Self:
        """Open it; nothing is sent yet."""
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close all connections."""
        await self._transport.__aexit__(kind, error, traceback)

    async def check(self) -> None:
        """Make sure that there is a registry, and that it takes the credentials."""
        await self._transport.fetch("GET", "/v1/")

    async def catalog(self) -> list[str]:
        """The names of all packs."""
        return [name async for page in self._pages("/v1/_catalog") for name in _strings(page, "repositories")]

    async def tags(self, name: PackName) -> list[Tag]:
        """All tags of a pack, parent tags included."""
        found = [tag async for page in self._pages(f"/v1/{name}/tags/list") for tag in _strings(page, "tags")]
        return [Tag.parse(tag) for tag in found]

    async def newest(self, name: PackName) -> Tag:
        """The tag of the newest version of a pack. Raises `ManifestUnknownError` where it has none."""
        return newest_tag(name, await self.tags(name))

    async def packs(self, name: str = "") -> list[Json]:
        """All packs, or the one called `name` if there is one, as the JSON API lists them."""
        query = {"limit": "1000"} | ({"name": name} if name else {})
        packs: list[Json] = []
        for _ in range(_PAGES_MAX):
            page = await self._object("GET", "/api/v1/packs", query=query)
            packs += [item for item in _list(page, "packs") if isinstance(item, dict)]
            if not page.get("next"):
                break
            query["cursor"] = str(page["next"])
        return packs

    async def show(self, name: PackName) -> Json:
        """A pack with its versions, tags and history."""
        return await self._object("GET", f"/api/v1/packs/{name}")

    async def release(self, name: PackName, tag: Tag) -> Json:
        """Everything there is to know of one version."""
        return await self._object("GET", f"/api/v1/packs/{name}/versions/{tag}")

    async def manifest(self, reference: Reference) -> tuple[Json, Digest]:
        """A manifest and its digest, which is verified where it was asked for. Without tag or digest: the newest."""
        wanted = reference.digest or reference.tag or await self.newest(reference.name)
        data, headers = await self._transport.fetch(
            "GET", f"/v1/{reference.name}/manifests/{wanted}", headers={"Accept": MANIFEST_TYPE}
        )
        digest = Digest.of(data)
        announced = reference.digest or headers.get("Docker-Content-Digest")
        if announced and announced != digest:
            raise DownloadError(f"the manifest of {reference} is not {announced} but {digest}", remedy="try again")
        return _object(answers.document(data, self.server.name), self.server), digest

    async def pull(
        self,
        reference: Reference,
        parent: Path,
        limits: Limits,
        *,
        replace: bool = False,
        progress: Progress = lambda _done, _size: None,
    ) -> Pulled:
        """Put a pack into the directory `<name>-<tag>` of `parent`, which is made if it has to be.

        A download that broke off earlier goes on; the digest is verified; the directory appears whole, or not at all.

        Raises:
            TargetError: the directory exists (and `replace` is not wanted) or cannot be written.
            PackInvalidError: the archive is unsafe, damaged or too large.
            DownloadError: what came is not what was asked for.
        """
        manifest = await self._describe(reference)
        name = reference.name
        if manifest.size > limits.archive:
            remedy = f"limits.archive allows {limits.archive}: raise it with REGISTRY_LIMITS_ARCHIVE"
            raise ClientError(f"the archive of {reference} has {manifest.size} bytes", remedy=remedy)
        target = parent / f"{name}-{manifest.tag}"
        await asyncio.to_thread(unpack.check_free, target, replace=replace)
        with partial_file(partial_path(parent, manifest.archive)) as file:
            path = f"/v1/{name}/blobs/{manifest.archive}"
            await download(self._transport, path, file, manifest.archive, manifest.size, progress)
            file.seek(0)
            try:
                await asyncio.to_thread(unpack.unpack, file, target, limits, replace=replace)
            except RegistryError:
                # It is whole and will not get better.
                file.truncate(0)
                raise
        return Pulled(name, manifest.tag, target, manifest.digest, manifest.archive, manifest.size)

    async def push(
        self,
        archive: Path,
        *,
        force: bool = False,
        message: str = "",
        skip_digest_check: bool = False,
        progress: Progress = lambda _done, _size: None,
    ) -> Json:
        """Publish an archive; return `{"action": created | replaced | unchanged, "release"}`."""
        digest, size = await asyncio.to_thread(_digest_of, archive)
        query = {
            **({"force": "true"} if force else {}),
            **({"message": message} if message else {}),
            **({"skipDigestCheck": "true"} if skip_digest_check else {}),
        }
        headers = {
            "Content-Type": "application/gzip",
            "Content-Length": str(size),
            "Content-Digest": f"sha-256=:{base64.b64encode(digest).decode()}:",
        }

        async def body() -> AsyncIterator[bytes]:
            done = 0
            with await asyncio.to_thread(open, archive, "rb") as file:
                while chunk := await asyncio.to_thread(file.read, _CHUNK):
                    yield chunk
                    done += len(chunk)
                    progress(done, size)

        return await self._object("POST", "/api/v1/packs", query=query, headers=headers, body=body)

    async def add_tag(self, name: PackName, tag: Tag, label: str, group: str = "") -> Json:
        """Give the version that `tag` stands for another tag; return `{"tag", "version"}`."""
        content = {"version": tag, **({"group": group} if group else {})}
        return await self._object("PUT", f"/api/v1/packs/{name}/tags/{quote(label, safe='')}", content=content)

    async def delete_tag(self, name: PackName, tag: Tag) -> Json:
        """Take a tag away; return `{"deleted", "release"}`."""
        return await self._object("DELETE", f"/api/v1/packs/{name}/tags/{tag}")

    async def rollback(self, name: PackName, tag: Tag, *, to: int | None = None, message: str = "") -> Json:
        """Bring earlier content of a version back; return `{"action": "restored", "release"}`."""
        content: Json = {"tag": tag} | ({} if to is None else {"to": to}) | ({"message": message} if message else {})
        return await self._object("POST", f"/api/v1/packs/{name}/rollback", content=content)

    async def tokens(self) -> list[Json]:
        """All tokens of the registry, which takes an admin; as `auth.tokens.Token.as_json` has them."""
        found = await self._object("GET", "/api/v1/tokens")
        return [item for item in _list(found, "tokens") if isinstance(item, dict)]

    async def create_token(self, name: str, role: str, packs: list[str], expires: str) -> Json:
        """Make a token; what is returned has its text under `token`, which cannot be had again."""
        content = {"name": name, "role": role, "packs": packs, "expires": expires}
        return await self._object("POST", "/api/v1/tokens", content=content)

    async def revoke_token(self, name: str) -> Json:
        """Let a token be void at once."""
        return await self._object("DELETE", f"/api/v1/tokens/{quote(name, safe='')}")

    async def _describe(self, reference: Reference) -> _Manifest:
        """The manifest of a reference, as far as a pull needs it. Raises `NotARegistryError` for anything else."""
        document, digest = await self.manifest(reference)
        try:
            layers = [layer for layer in document["layers"] if _is_archive(layer)]
            (layer,) = layers
            tag = Tag.parse(document.get("annotations", {}).get(REF_NAME) or reference.tag or "")
            return _Manifest(digest, tag, Digest.parse(layer["digest"]), int(layer["size"]))
        except (LookupError, TypeError, ValueError, AttributeError, RegistryError) as error:
            raise NotARegistryError(f"the manifest of {reference} does not describe a pack") from error

    async def _object(self, method: str, path: str, **more: Any) -> Json:
        return _object(await self._transport.json(method, path, **more), self.server)

    async def _pages(self, path: str) -> AsyncIterator[Json]:
        """The documents of a listing that is paged with `Link` headers."""
        query: Mapping[str, str] | None = None
        for _ in range(_PAGES_MAX):
            data, headers = await self._transport.fetch("GET", path, query=query)
            yield _object(answers.document(data, self.server.name), self.server)
            link = _NEXT.match(headers.get("Link", ""))
            if not link:
                return
            # Only the query is taken: the next page of a listing is of that very listing.
            query = dict(parse_qsl(urlsplit(link[1]).query))
        raise NotARegistryError(f"{self.server.name} lists without end")


def newest_tag(name: PackName, tags: Iterable[Tag]) -> Tag:
    """Which of `tags` stands for the newest version; of equal ones the one without a group.

    Parent tags are left out: they are recognised by the versions they are computed from. Raises
    `ManifestUnknownError` where there is no other.
    """
    known = list(tags)
    parents = {(tag.group, label) for tag in known for label in parent_labels(tag.label)}
    own = [tag for tag in known if (tag.group, tag.label) not in parents]
    if not own:
        raise ManifestUnknownError(f"{name} has no version")
    return max(own, key=lambda tag: (version_key(tag.label), not tag.group, tag))


def _is_archive(layer: Json) -> bool:
    title = (layer.get("annotations") or {}).get(TITLE, "")
    return bool(layer.get("mediaType") == ARCHIVE_TYPE or title.endswith((".tar.gz", ".tgz")))


def _digest_of(path: Path) -> tuple[bytes, int]:
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
            return digest, file.tell()
    except OSError as error:
        raise ClientError(f"{path} cannot be read: {error.strerror}") from error


def _object(document: Any, server: Server) -> Json:
    if not isinstance(document, dict):
        raise NotARegistryError(f"{server.name} answers with something else than an object")
    return document


def _list(page: Json, key: str) -> list[Any]:
    value = page.get(key)
    return value if isinstance(value, list) else []


def _strings(page: Json, key: str) -> list[str]:
    return [item for item in _list(page, key) if isinstance(item, str)]
