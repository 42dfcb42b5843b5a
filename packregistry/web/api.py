"""`/api/v1`: packs as JSON and as tarballs, for the command line, curl and CI."""

from __future__ import annotations

import asyncio

from aiohttp import web

from packregistry import archive
from packregistry.auth import ANONYMOUS
from packregistry.catalog import Pack
from packregistry.errors import FileUnknownError, SizeInvalidError
from packregistry.model import Digest, Json, Release, Tag, problem_json, shown
from packregistry.sightings import Sightings
from packregistry.sources import STATE
from packregistry.storage import OpenBlob
from packregistry.web import blob
from packregistry.web import representation as show
from packregistry.web.call import Call
from packregistry.web.render import json_response, next_link, page, page_size

LIMIT_DEFAULT = 100
LIMIT_MAX = 1000
FILE_MAX = 8 * 1024 * 1024


async def index(call: Call) -> web.StreamResponse:
    """Say what this is and where to go on."""
    call.query()
    places = {"packs": "/api/v1/packs", "problems": "/api/v1/problems", "registry": "/v1/", "health": "/health"}
    return json_response({"name": "packregistry", **{key: call.url(path) for key, path in places.items()}}, indent=2)


async def packs(call: Call) -> web.StreamResponse:
    """The packs that fit the filters, sorted by name; pages are cut with `limit` and `cursor`."""
    query = call.query(*show.FILTERS, "limit", "cursor")
    limit = page_size(query, "limit", default=LIMIT_DEFAULT, least=1, maximum=LIMIT_MAX)
    cursor = query.get("cursor", "")
    wanted = {key: value for key, value in query.items() if key in show.FILTERS}
    registry, view = call.site.registry, view_of(call)
    found = show.matching([registry.pack(name) for name in call.readable(registry.names())], wanted)
    shown_packs, more = page([pack for pack in found if pack.name > cursor], limit)
    following = shown_packs[-1].name if more else None
    headers = (
        next_link(call.url("/api/v1/packs"), {**wanted, "limit": limit, "cursor": following}) if following else None
    )
    document = {"packs": [show.summary(view, pack) for pack in shown_packs], "total": len(found), "next": following}
    return json_response(document, headers=headers)


async def pack(call: Call) -> web.StreamResponse:
    """A pack with its versions, tags and history."""
    call.query()
    return json_response(show.overview(view_of(call), call.site.registry.pack(call.name)))


async def version(call: Call) -> web.StreamResponse:
    """Everything there is to know of one version."""
    call.query()
    found, release = _release(call)
    blobs = call.site.blobs
    files = {file.title: await blobs.read(file) for file in release.files if file.title != show.LOGO}
    listing = await blobs.read(release.content)
    view = view_of(call)
    return await asyncio.to_thread(lambda: json_response(show.details(view, found, release, files, listing)))


async def version_archive(call: Call) -> web.StreamResponse:
    """The tarball of a version."""
    call.query()
    _, release = _release(call)
    disposition = f'attachment; filename="{release.archive.title}"'
    headers = {"Content-Disposition": disposition, "Cache-Control": "no-cache"}
    return await blob.send(call, release.archive, "application/gzip", headers)


async def version_file(call: Call) -> web.StreamResponse:
    """One file of a version, as text where it is text and for download where it is not."""
    call.query()
    _, release = _release(call)
    path = call.params["path"]
    descriptor = release.file(path)
    if descriptor is not None:
        digest, data = descriptor.digest, await call.site.blobs.read(descriptor)
    else:
        digest, data = await _member(call, release, path)
    content_type = media_type(data)
    headers = {"Cache-Control": "no-cache"}
    if content_type == "application/octet-stream":
        headers["Content-Disposition"] = "attachment"
    return blob.send_bytes(call, digest, data, content_type, headers)


async def problems(call: Call) -> web.StreamResponse:
    """What is wrong with published versions; for an admin also with directories and records that are not served."""
    call.query()
    registry, is_admin = call.site.registry, call.is_admin
    published = [
        _entry(found.name, release.tag, release.origin.directory if is_admin else "", show.problems(release), True)
        for found in map(registry.pack, call.readable(registry.names()))
        for release in found.releases
        if release.problems
    ]
    unserved = await _unserved(call) if is_admin else []
    return json_response({"problems": [*unserved, *published]})


async def _unserved(call: Call) -> list[Json]:
    """The problems of directories that are not published, and of records that cannot be read."""
    storage = call.site.registry.storage
    sightings = await asyncio.to_thread(Sightings.load, storage.local / STATE)
    waiting = [
        _entry(name, tag, str(path), [problem_json(problem) for problem in found], False)
        for path, identity, found in sightings.unpublished()
        for name, tag in [identity or (None, None)]
    ]
    damaged = [
        _entry(name, None, "", [{"severity": "error", "message": message}], False)
        for name, message in sorted(storage.damaged.items())
    ]
    return [*waiting, *damaged]


def view_of(call: Call) -> show.View:
    """How whoever asks is shown things."""
    is_known = call.principal is not ANONYMOUS or not call.site.security.authenticator.challenge
    return show.View(call.seen.base, call.is_admin, is_known)


def media_type(data: bytes) -> str:
    """What a pack's file is served as: PNG, UTF-8 text, or bytes; nothing a browser would run."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    try:
        data.decode()
    except UnicodeDecodeError:
        return "application/octet-stream"
    return "application/octet-stream" if b"\0" in data else "text/plain; charset=utf-8"


def _release(call: Call) -> tuple[Pack, Release]:
    found = call.site.registry.pack(call.name)
    return found, found.release(Tag.parse(call.params["tag"]))


async def _member(call: Call, release: Release, path: str) -> tuple[Digest, bytes]:
    """The digest and content of a file that is only in the archive; only so many archives are searched at once."""
    listing = archive.members_of(await call.site.blobs.read(release.content))
    member = next((member for member in listing if member.path == path), None)
    if member is None:
        raise FileUnknownError(f"{release.archive.title} has no file {shown(path)}", detail={"path": path})
    if member.size > FILE_MAX:
        raise SizeInvalidError(
            f"{shown(path)} has {member.size} bytes, more than the {FILE_MAX} that are served alone",
            detail={"path": path, "size": member.size},
            remedy="download the archive instead",
        )
    async with call.site.reading:
        opened = await call.site.registry.storage.open_blob(release.archive.digest)
        try:
            return member.digest, await asyncio.to_thread(_extract, opened, path)
        finally:
            opened.close()


def _extract(opened: OpenBlob, path: str) -> bytes:
    assert opened.descriptor is not None
    with open(opened.descriptor, "rb", closefd=False) as source:
        return archive.read_member(source, path, FILE_MAX)


def _entry(name: str | None, tag: str | None, directory: str, found: list[Json], published: bool) -> Json:
    """One line of the problems; what is not known is null."""
    return {"name": name, "tag": tag, "directory": directory or None, "published": published, "problems": found}
