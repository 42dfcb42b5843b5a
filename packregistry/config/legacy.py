"""What the legacy server and its ancestor, Distribution 2.8 and 3, take in a configuration file, and this one does not.

A key that changes nothing anybody relies on is ignored with a warning. One that would change who gets in, what is
stored where, or what is served, is an error: to ignore it would do something else than the file says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from packregistry.config.values import BOOLEAN, Kind, one_of, only

# What existing files have in them and what needs nothing done, by key: the reason is for the warning.
IGNORED: Final[Mapping[str, str]] = {
    "log.hooks": "no mail is sent; a collector of logs can send it",
    "log.reportcaller": "every log line names the module it is from",
    "storage.cache": "pack records are always kept in memory",
    "storage.filesystem.maxthreads": "blobs are sent without a thread each",
    "storage.maintenance.uploadpurging": "stale uploads are always removed, after storage.uploads.expire",
    "storage.maintenance.readonly.enabled": "packs can be changed by whoever may",
    "storage.redirect": "blobs are always served by the registry itself",
    "storage.tag": "a pack's tags are kept in memory",
    "http.secret": "uploads are not signed",
    "http.relativeurls": "every URL in an answer is a path, unless http.host says more",
    "http.net": "the form of http.addr says what to listen on",
    "http.http2": "the server speaks HTTP/1.1",
    "http.h2c": "the server speaks HTTP/1.1",
    "health": "whether the registry is well is asked at /livez and /readyz",
    "catalog": "how many entries a page has is up to the client",
    "compatibility": "there are no manifests of schema 1",
    "middleware": "blobs are always served by the registry itself",
    "notifications": "no events are sent; log.audit records every change",
    "policy": "a repository holds packs and nothing else",
    "redis": "nothing is cached outside of the server",
    "reporting": "errors are in the log alone",
    "validation": "every pushed pack is validated, and its manifest refers to nothing outside of the registry",
}

# Ignored keys that are harmless with some values only: what they take.
HARMLESS: Final[Mapping[str, Kind]] = {
    "storage.maintenance.readonly.enabled": only(
        BOOLEAN, False, "the registry cannot be made read-only here", "deny changes with auth.policy"
    ),
    "http.net": one_of("tcp", refused={"unix": "listen on TCP, and have a proxy in front"}),
}

# Keys that have another name now.
RENAMED: Final[Mapping[str, str]] = {"loglevel": "log.level"}

_NO_CLOUD = "storage is not supported: use filesystem"

# What existing files may ask for and what cannot be done, by key.
UNSUPPORTED: Final[Mapping[str, str]] = {
    "storage.s3": "S3 storage is not supported yet: use filesystem",
    "storage.azure": f"Azure {_NO_CLOUD}",
    "storage.gcs": f"Google Cloud {_NO_CLOUD}",
    "storage.oss": f"Aliyun OSS {_NO_CLOUD}",
    "storage.swift": f"Swift {_NO_CLOUD}",
    "storage.cos": f"Tencent COS {_NO_CLOUD}",
    "storage.rados": f"RADOS {_NO_CLOUD}",
    "auth.silly": "silly authentication is not supported: use htpasswd or none",
    "auth.token": "token authentication is not supported: use htpasswd or none",
    "http.tls.ciphersuites": "cipher suites cannot be chosen: leave it out, and set minimumtls",
    "http.tls.letsencrypt.directoryurl": "Let's Encrypt is not supported yet: use certificate and key",
    "proxy": "the registry does not fetch from another one: leave it out, and push the packs",
}
