"""The table of everything that can be requested. Access is written for each line, also where it is public."""

from __future__ import annotations

from packregistry.auth import Access
from packregistry.web import api, distribution
from packregistry.web.router import Route

PUBLIC, READ = Access.PUBLIC, Access.READ


def routes() -> tuple[Route, ...]:
    """Return the table."""
    version = "/api/v1/packs/{name}/versions/{tag}"
    return (
        Route("GET", "/health", PUBLIC, api.health),
        Route("GET", "/", READ, api.index),
        Route("GET", "/v1/", READ, distribution.base),
        Route("GET", "/v1/_catalog", READ, distribution.catalog),
        Route("GET", "/v1/{name}/tags/list", READ, distribution.tags),
        Route("GET", "/v1/{name}/manifests/{reference}", READ, distribution.manifest),
        Route("GET", "/v1/{name}/blobs/{digest}", READ, distribution.pack_blob),
        Route("GET", "/api/v1/packs", READ, api.packs),
        Route("GET", "/api/v1/packs/{name}", READ, api.pack),
        Route("GET", version, READ, api.version),
        Route("GET", version + "/archive", READ, api.version_archive),
        Route("GET", version + "/files/{path*}", READ, api.version_file),
        Route("GET", "/api/v1/problems", READ, api.problems),
    )
