"""The manifests a release is described by on the wire."""

from __future__ import annotations

import json
from collections.abc import Sequence

from packregistry.model import Descriptor, Json, PackName, Tag

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
TITLE = "org.opencontainers.image.title"

MEDIA_TYPES = {
    "pack.json": "application/json",
    "values.yaml": "application/yaml",
    "schema.yaml": "application/yaml",
    "presets.yaml": "application/yaml",
    "README.md": "text/markdown",
    "logo.png": "image/png",
}
"""Media type of each small file a release keeps beside its archive."""


def pack_manifest(name: PackName, tag: Tag, archive: Descriptor, files: Sequence[Descriptor]) -> bytes:
    """The pack manifest: config is `pack.json`, layers are the archive and then the other small files by title.

    The same inputs give the same bytes, so the digest is as reproducible as the archive's.
    """
    config = next(file for file in files if file.title == "pack.json")
    layers = [archive, *sorted((file for file in files if file is not config), key=lambda file: file.title)]
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": _json(config),
        "layers": [_json(layer) for layer in layers],
        "annotations": {"org.opencontainers.image.ref.name": tag, TITLE: name},
    }
    return json.dumps(document, indent=2, ensure_ascii=False).encode()


def _json(descriptor: Descriptor) -> Json:
    return {
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest,
        "size": descriptor.size,
        "annotations": {TITLE: descriptor.title},
    }
