"""A client of a registry, ours or another that speaks `/v1`.

`client` is what one can ask for; the modules below it import only those above them:

    reference    NAME, NAME:TAG or NAME@DIGEST
    answers      what a response says: a document, or why not
    transport    one connection: TLS, credentials, redirects, waiting
    download     one blob into a file, going on where it was broken off
    client       login check, push, list, pull, tags, rollback

Refusals by the registry are the `RegistryError`s of `errors`, as the server raised them; everything else that can go
wrong is a `ClientError` of `failures`.
"""

from packregistry.client.client import Client, Pulled, newest_tag
from packregistry.client.reference import Reference
from packregistry.client.transport import Progress

__all__ = ["Client", "Progress", "Pulled", "Reference", "newest_tag"]
