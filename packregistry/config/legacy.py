"""What the legacy server and its ancestor take in a configuration file, and this one does not."""

from collections.abc import Mapping
from typing import Final

# What existing files have in them and what needs nothing done, by key: the reason is for the warning.
IGNORED: Final[Mapping[str, str]] = {
    "storage.cache": "pack records are always kept in memory",
    "storage.maintenance": "unused blobs and stale uploads are removed while the server runs",
    "storage.redirect": "blobs are always served by the registry itself",
    "http.secret": "uploads are not signed",
    "http.relativeurls": "every URL in an answer is a path, unless http.host says more",
    "http.net": "the form of http.addr says what to listen on",
    "http.http2": "the server speaks HTTP/1.1",
    "health": "whether the registry is well is asked at /livez and /readyz",
}

# What existing files may ask for and what cannot be done, by key.
UNSUPPORTED: Final[Mapping[str, str]] = {
    "storage.s3": "S3 storage is not supported yet: use filesystem",
    "auth.silly": "silly authentication is not supported: use htpasswd or none",
    "auth.token": "token authentication is not supported: use htpasswd or none",
}
