"""Stands in for Palette: registers a registry as a tenant admin does, validates it, and synchronises every pack.

What Palette sends is known from its API: an endpoint with or without a slash at its end, authentication of the type
`noAuth`, `basic` or `token`, and TLS with a CA, with a client certificate, or without looking at the certificate.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import ssl
import urllib.parse
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

DEADLINE = 30.0


class ValidationError(Exception):
    """What Palette shows below the form."""


@dataclass(frozen=True)
class Registration:
    """The fields of the form. `certificate` and `key` are the client's."""

    endpoint: str
    auth: Literal["noAuth", "basic", "token"] = "noAuth"
    username: str = ""
    password: str = ""
    token: str = ""
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    skip_verify: bool = False

    @property
    def headers(self) -> Mapping[str, str]:
        if self.auth == "basic":
            pair = f"{self.username}:{self.password}".encode()
            return {"Authorization": "Basic " + base64.b64encode(pair).decode()}
        return {"Authorization": f"Bearer {self.token}"} if self.auth == "token" else {}

    @property
    def tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.ca)
        # As in Go, which looks only at what matters: Python 3.13 asks more of a CA than plain openssl puts into it.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if self.skip_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.certificate:
            context.load_cert_chain(self.certificate, self.key)
        return context

    def get(self, path: str) -> tuple[int, Mapping[str, str], bytes]:
        """What the registry answers. Raises `ValidationError` where it cannot be reached, or is not trusted."""
        url = urllib.parse.urlsplit(self.endpoint)
        try:
            if url.scheme == "https":
                connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                    url.netloc, timeout=DEADLINE, context=self.tls
                )
            else:
                connection = http.client.HTTPConnection(url.netloc, timeout=DEADLINE)
            with closing(connection):
                connection.request("GET", url.path + path, headers=dict(self.headers))
                response = connection.getresponse()
                return response.status, dict(response.getheaders()), response.read()
        except (OSError, http.client.HTTPException) as error:
            raise ValidationError(f"{self.endpoint}: {error}") from error

    def validate(self) -> None:
        """Try the registry out, as the button *Validate* does. Raises `ValidationError`."""
        for path in ("/v1/", "/v1/_catalog"):
            status, _, body = self.get(path)
            if status != 200:
                raise ValidationError(f"{path}: {status} {json.loads(body)['errors'][0]['code']}")

    def synchronise(self) -> dict[str, list[str]]:
        """Fetch every manifest and every blob of every pack, and check them; return the tags of each pack."""
        found: dict[str, list[str]] = {}
        for name in self._json("/v1/_catalog")["repositories"]:
            found[name] = self._json(f"/v1/{name}/tags/list")["tags"]
            for tag in found[name]:
                manifest = self._json(f"/v1/{name}/manifests/{tag}")
                for item in (manifest["config"], *manifest["layers"]):
                    status, _, body = self.get(f"/v1/{name}/blobs/{item['digest']}")
                    assert status == 200
                    assert (item["digest"], item["size"]) == (f"sha256:{hashlib.sha256(body).hexdigest()}", len(body))
        return found

    def _json(self, path: str) -> Any:
        status, _, body = self.get(path)
        assert status == 200, body
        return json.loads(body)
