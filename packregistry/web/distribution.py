"""`/v1`: the registry as Palette and the vendor's CLI see it, after the Distribution HTTP API."""

from __future__ import annotations

import bisect
from itertools import islice

from aiohttp import web

from packregistry.model import Digest, Tag
from packregistry.web import blob
from packregistry.web.call import Call
from packregistry.web.render import json_response, next_link, page, page_size

OCTETS = "application/octet-stream"

SERVED_TYPES = {
    **{f"image/{kind}": f"image/{kind}" for kind in ("png", "jpeg", "gif", "webp", "bmp", "x-icon", "avif", "tiff")},
    "image/jpg": "image/jpeg",
    "image.webp": "image/webp",
    "text/plain": "text/plain; charset=utf-8",
    "application/json": "application/json",
    "application/yaml": "application/yaml",
    "application/gzip": "application/gzip",
    "application/x-tar": "application/x-tar",
    OCTETS: OCTETS,
}
"""What `?type=` may ask for → what is sent. Anything else is sent as bytes: never HTML, never SVG."""


async def base(call: Call) -> web.StreamResponse:
    """Say that this is a registry, and that the credentials are good."""
    call.options()
    return json_response({})


async def catalog(call: Call) -> web.StreamResponse:
    """The names of all packs, sorted; pages are cut with `n` and `last`."""
    query = call.options("n", "last")
    limit = page_size(query, "n", default=None, least=0)
    following = call.readable(call.site.registry.names(query.get("last", "")))
    names, more = page(list(islice(following, None if limit is None else limit + 1)), limit)
    headers = next_link(call.url("/v1/_catalog"), {"last": names[-1], "n": limit}) if more and names else None
    return json_response({"repositories": names}, headers=headers)


async def tags(call: Call) -> web.StreamResponse:
    """The tags of a pack in lexical order, parent tags included; pages are cut with `n` and `last`."""
    query = call.options("n", "last")
    limit = page_size(query, "n", default=None, least=0)
    pack = call.site.registry.pack(call.name)
    found = list(pack.tags)
    start = bisect.bisect_right(found, query["last"]) if "last" in query else 0
    shown, more = page(found[start:], limit)
    path = call.url(f"/v1/{pack.name}/tags/list")
    headers = next_link(path, {"last": shown[-1], "n": limit}) if more and shown else None
    return json_response({"name": pack.name, "tags": shown}, headers=headers)


async def manifest(call: Call) -> web.StreamResponse:
    """The pack manifest, by tag or by digest."""
    call.options()
    pack = call.site.registry.pack(call.name)
    reference = call.params["reference"]
    if ":" in reference:
        release = pack.release_of_manifest(Digest.parse(reference))
    else:
        release = pack.release(Tag.parse(reference))
    return await blob.send(call, release.manifest, release.manifest.media_type, {"Cache-Control": "no-cache"})


async def pack_blob(call: Call) -> web.StreamResponse:
    """A blob of the pack; `?type=` names the content type it is wanted as."""
    wanted = call.options("type").get("type", OCTETS)
    pack = call.site.registry.pack(call.name)
    descriptor = pack.blob(Digest.parse(call.params["digest"]))
    content_type = SERVED_TYPES.get(wanted.partition(";")[0].strip().lower(), OCTETS)
    headers = {"Cache-Control": "private, max-age=31536000, immutable"}
    return await blob.send(call, descriptor, content_type, headers)
