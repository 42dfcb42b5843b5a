"""`/v1`, the writing half: blob uploads and manifests, after the Distribution HTTP API."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import closing

from aiohttp import web

from packregistry.archive import ARCHIVE_TYPE
from packregistry.auth.rights import Action
from packregistry.catalog import Pack
from packregistry.errors import (
    BlobUnknownError,
    BlobUploadInvalidError,
    ManifestBlobUnknownError,
    ManifestInvalidError,
    NameUnknownError,
    RegistryError,
)
from packregistry.manifests import TITLE
from packregistry.model import Descriptor, Digest, Json, PackName, Tag
from packregistry.pushes import Manifest, check_digest
from packregistry.receive import received
from packregistry.uploads import range_of
from packregistry.web.body import chunks, whole
from packregistry.web.call import Call
from packregistry.web.publish import terms_of
from packregistry.web.render import json_response

MANIFEST_MAX = 4 * 1024 * 1024
_RANGE = re.compile(r"(?:bytes[ =])?(\d{1,18})-(\d{1,18})(?:/.*)?", re.ASCII)
_ARCHIVES = {ARCHIVE_TYPE, "application/vnd.oci.image.layer.v1.tar", "application/gzip", "application/x-gzip"}


async def start(call: Call) -> web.StreamResponse:
    """Begin an upload; with `digest` take the whole blob at once, with `mount` and `from` take another pack's."""
    query = call.options("digest", "mount", "from")
    if "digest" in query:
        return await _one_shot(call, Digest.parse(query["digest"]))
    if "mount" in query and "from" in query:
        digest, source = Digest.parse(query["mount"]), PackName.parse(query["from"])
        # A digest is no capability: what may not be read is not there.
        if Action.READ in call.rights(source) and await _mounted(call, digest, source):
            return created(call, digest)
    identity = await call.site.uploads.start(call.name)
    return accepted(call, identity, 0)


async def state(call: Call) -> web.StreamResponse:
    """Say how much of an upload has arrived."""
    async with call.site.uploads.open(call.name, call.params["upload"]) as upload:
        return accepted(call, upload.id, upload.size, status=204)


async def append(call: Call) -> web.StreamResponse:
    """Add the body to an upload."""
    async with call.site.uploads.open(call.name, call.params["upload"]) as upload:
        size = await upload.append(chunks(call), start=start_of(call), limit=call.site.config.limits.archive)
        return accepted(call, upload.id, size)


async def finish(call: Call) -> web.StreamResponse:
    """Add the body, if there is one, and make a blob of the upload."""
    digest = Digest.parse(call.options("digest").get("digest", ""))
    async with call.site.uploads.open(call.name, call.params["upload"]) as upload:
        await upload.append(chunks(call), start=start_of(call), limit=call.site.config.limits.archive)
        check_digest(digest, await upload.digest())
        await call.site.registry.storage.put([(digest, upload)])
        await call.site.holdings.hold(call.name, digest)
        await upload.remove()
    call.note("blob.upload", f"{call.name}@{digest}")
    return created(call, digest)


async def cancel(call: Call) -> web.StreamResponse:
    """Forget an upload."""
    await call.site.uploads.cancel(call.name, call.params["upload"])
    call.note("blob.cancel", call.name)
    return web.Response(status=204)


async def put_manifest(call: Call) -> web.StreamResponse:
    """Publish the pack whose archive the manifest refers to, under this manifest."""
    query = call.options("force", "message", "skipDigestCheck")
    tag = Tag.parse(call.params["reference"])
    body = await whole(call, MANIFEST_MAX)
    # Up to megabytes of JSON.
    archive, others = await asyncio.to_thread(read_manifest, body)
    found = [await _blob(call, item) for item in (archive, *others)]
    manifest = Manifest(call.name, tag, body, tuple(found[1:]))
    published = await call.site.pushes.publish_stored(found[0], manifest, terms_of(call, query))
    digest = published.release.manifest.digest
    location = call.url(f"/v1/{call.name}/manifests/{digest}")
    return web.Response(status=201, headers={"Location": location, "Docker-Content-Digest": digest})


async def delete_manifest(call: Call) -> web.StreamResponse:
    """Remove a tag, or the version that a manifest digest stands for."""
    registry, by = call.site.registry, call.actor
    reference = call.params["reference"]
    if ":" in reference:
        pack, digest = registry.pack(call.name), Digest.parse(reference)
        tag = pack.handle(pack.release_of_manifest(digest))
        removed = await registry.remove(call.name, tag, by=by, manifest=digest)
    else:
        removed = await registry.untag(call.name, Tag.parse(reference), by=by)
    return json_response({"deleted": list(removed.tags)}, status=202)


async def _one_shot(call: Call, digest: Digest) -> web.StreamResponse:
    storage = call.site.registry.storage
    with storage.stage() as staged:
        found, _ = await received(chunks(call), staged.file, call.site.config.limits.archive)
        check_digest(digest, found)
        await storage.put([(digest, staged)])
    await call.site.holdings.hold(call.name, digest)
    call.note("blob.upload", f"{call.name}@{digest}")
    return created(call, digest)


async def _mounted(call: Call, digest: Digest, source: PackName) -> bool:
    """Let the pack hold a blob that a release of `source` has. What cannot be mounted is uploaded instead."""
    try:
        call.site.registry.pack(source).blob(digest)
        await call.site.registry.storage.keep([digest])
    except (NameUnknownError, BlobUnknownError):
        return False
    await call.site.holdings.hold(call.name, digest)
    call.note("blob.mount", f"{call.name}@{digest}")
    return True


async def _blob(call: Call, wanted: Descriptor) -> Descriptor:
    """A blob that a manifest refers to, which the pack has or holds. Raises `ManifestBlobUnknownError`."""
    pack: Pack | None = None
    try:
        pack = call.site.registry.pack(call.name)
        known = pack.blob(wanted.digest)
    except (NameUnknownError, BlobUnknownError):
        try:
            await call.site.holdings.check(call.name, wanted.digest)
            await call.site.registry.storage.keep([wanted.digest])
        except BlobUnknownError as error:
            raise ManifestBlobUnknownError(
                f"{call.name} has no blob {wanted.digest}",
                detail={"digest": wanted.digest},
                remedy="upload it first: POST /v1/<pack>/blobs/uploads/",
            ) from error
        with closing(await call.site.registry.storage.open_blob(wanted.digest)) as opened:
            size = opened.size
    else:
        size = known.size
    if size != wanted.size:
        raise ManifestInvalidError(f"the manifest says that {wanted.digest} has {wanted.size} bytes, and it has {size}")
    return wanted


def read_manifest(body: bytes) -> tuple[Descriptor, tuple[Descriptor, ...]]:
    """The archive that a manifest refers to, and the other blobs, its config among them.

    The archive is the only layer that is a gzip tar by its media type, or by its title. Raises `ManifestInvalidError`.
    """
    try:
        document = json.loads(body)
        config, layers = document["config"], document["layers"]
        blobs = [_descriptor(item) for item in (config, *layers)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, RegistryError) as error:
        raise ManifestInvalidError(
            f"the manifest cannot be read: {type(error).__name__}: {error}",
            remedy="send an OCI image manifest, with a config and one layer that is the pack's .tar.gz",
        ) from error
    archives = [item for item in blobs[1:] if item.media_type in _ARCHIVES or item.title.endswith((".tar.gz", ".tgz"))]
    if len(archives) != 1:
        raise ManifestInvalidError(
            f"the manifest has {len(archives)} layers that are archives, and a pack is one",
            remedy=f"give the pack's .tar.gz the media type {ARCHIVE_TYPE}",
        )
    return archives[0], tuple(item for item in blobs if item is not archives[0])


def _descriptor(item: Json) -> Descriptor:
    title = (item.get("annotations") or {}).get(TITLE, "")
    size, media_type = item["size"], item["mediaType"]
    if type(size) is not int or size < 0 or not isinstance(media_type, str) or not isinstance(title, str):
        raise TypeError("a descriptor has a digest, a size and a media type")
    return Descriptor(Digest.parse(item["digest"]), size, media_type, title)


def start_of(call: Call) -> int | None:
    """The offset a `Content-Range` header gives. Raises `BlobUploadInvalidError`."""
    header = call.request.headers.get("Content-Range")
    if header is None:
        return None
    found = _RANGE.fullmatch(header.strip())
    if found is None or int(found[2]) < int(found[1]):
        raise BlobUploadInvalidError("the Content-Range header is not FIRST-LAST", remedy="such as 0-1048575")
    length = call.request.content_length
    if length is not None and length != int(found[2]) - int(found[1]) + 1:
        raise BlobUploadInvalidError("Content-Range and Content-Length do not fit together")
    return int(found[1])


def accepted(call: Call, identity: str, size: int, *, status: int = 202) -> web.Response:
    """An upload that goes on: where, and how much of it there is."""
    location = call.url(f"/v1/{call.name}/blobs/uploads/{identity}")
    return web.Response(
        status=status, headers={"Location": location, "Range": range_of(size), "Docker-Upload-UUID": identity}
    )


def created(call: Call, digest: Digest) -> web.Response:
    """A blob that is there now."""
    location = call.url(f"/v1/{call.name}/blobs/{digest}")
    return web.Response(status=201, headers={"Location": location, "Docker-Content-Digest": digest})
