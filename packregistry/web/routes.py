"""The table of everything that can be requested. Access is written for each line, also where it is public."""

from __future__ import annotations

from packregistry.web import api, distribution, health, publish, tokens, uploads
from packregistry.web.guard import Access
from packregistry.web.router import Route

PUBLIC, READ, WRITE, DELETE, ADMIN = Access.PUBLIC, Access.READ, Access.WRITE, Access.DELETE, Access.ADMIN


def routes() -> tuple[Route, ...]:
    """Return the table."""
    version = "/api/v1/packs/{name}/versions/{tag}"
    return (
        Route("GET", "/health", PUBLIC, health.up),
        Route("GET", "/livez", PUBLIC, health.up),
        Route("GET", "/readyz", PUBLIC, health.ready),
        Route("GET", "/", READ, api.index),
        Route("GET", "/v1/", READ, distribution.base),
        Route("GET", "/v1/_catalog", READ, distribution.catalog),
        Route("GET", "/v1/{name}/tags/list", READ, distribution.tags),
        Route("GET", "/v1/{name}/manifests/{reference}", READ, distribution.manifest),
        Route("GET", "/v1/{name}/blobs/{digest}", READ, distribution.pack_blob),
        Route("PUT", "/v1/{name}/manifests/{reference}", WRITE, uploads.put_manifest),
        Route("DELETE", "/v1/{name}/manifests/{reference}", DELETE, uploads.delete_manifest),
        Route("POST", "/v1/{name}/blobs/uploads", WRITE, uploads.start),
        Route("GET", "/v1/{name}/blobs/uploads/{upload}", WRITE, uploads.state),
        Route("PATCH", "/v1/{name}/blobs/uploads/{upload}", WRITE, uploads.append),
        Route("PUT", "/v1/{name}/blobs/uploads/{upload}", WRITE, uploads.finish),
        Route("DELETE", "/v1/{name}/blobs/uploads/{upload}", WRITE, uploads.cancel),
        Route("GET", "/api/v1/packs", READ, api.packs),
        Route("POST", "/api/v1/packs", WRITE, publish.push),
        Route("GET", "/api/v1/packs/{name}", READ, api.pack),
        Route("PUT", "/api/v1/packs/{name}/tags/{tag}", WRITE, publish.put_tag),
        Route("DELETE", "/api/v1/packs/{name}/tags/{tag}", DELETE, publish.delete_tag),
        Route("POST", "/api/v1/packs/{name}/rollback", WRITE, publish.rollback),
        Route("DELETE", version, DELETE, publish.delete_version),
        Route("GET", version, READ, api.version),
        Route("GET", version + "/archive", READ, api.version_archive),
        Route("GET", version + "/files/{path*}", READ, api.version_file),
        Route("GET", "/api/v1/problems", READ, api.problems),
        Route("GET", "/api/v1/tokens", ADMIN, tokens.listing),
        Route("POST", "/api/v1/tokens", ADMIN, tokens.create),
        Route("DELETE", "/api/v1/tokens/{token}", ADMIN, tokens.revoke),
    )
