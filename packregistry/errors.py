"""Every refusal the registry can answer with, as one table of exceptions.

A `RegistryError` subclass fixes the wire code and the HTTP status; an instance adds the message, what
was found (`detail`, any JSON value) and what to do (`remedy`). The codes of the Distribution HTTP API are
used where it has one; the others are ours. The domain raises these and knows no HTTP beyond the number;
`web` renders them, as `{"errors": [{"code", "message", "detail"}]}`.
"""

from __future__ import annotations

from typing import Any, ClassVar


class RegistryError(Exception):
    """A request that is refused, with a reason a person can act on.

    Args:
        message: what is wrong, naming the offending value.
        detail: any JSON value that helps a program understand it.
        remedy: what to do about it, as a sentence; part of what `str()` gives.
        headers: HTTP headers that belong to the refusal, such as `Retry-After`.
    """

    code: ClassVar[str] = "UNKNOWN"
    status: ClassVar[int] = 500

    def __init__(
        self, message: str, *, detail: Any = None, remedy: str = "", headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.remedy = remedy
        self.headers = headers or {}

    def __str__(self) -> str:
        return f"{self.message}: {self.remedy}" if self.remedy else self.message


class UnauthorizedError(RegistryError):
    """No credentials, or wrong ones."""

    code, status = "UNAUTHORIZED", 401


class DeniedError(RegistryError):
    """Known who asks, and they may not."""

    code, status = "DENIED", 403


class TooManyRequestsError(RegistryError):
    """Slow down; `Retry-After` says how long."""

    code, status = "TOOMANYREQUESTS", 429


class NameInvalidError(RegistryError):
    """A pack name outside the grammar."""

    code, status = "NAME_INVALID", 400


class NameUnknownError(RegistryError):
    """No such pack."""

    code, status = "NAME_UNKNOWN", 404


class TagInvalidError(RegistryError):
    """A tag, version or group outside the grammar, or one that may not be used so."""

    code, status = "TAG_INVALID", 400


class ManifestUnknownError(RegistryError):
    """The pack exists, the tag or manifest digest does not."""

    code, status = "MANIFEST_UNKNOWN", 404


class ManifestInvalidError(RegistryError):
    """A manifest that was sent cannot be accepted."""

    code, status = "MANIFEST_INVALID", 400


class BlobUnknownError(RegistryError):
    """The pack has no blob of this digest."""

    code, status = "BLOB_UNKNOWN", 404


class ManifestBlobUnknownError(RegistryError):
    """A manifest that was sent refers to a blob the pack does not have."""

    code, status = "MANIFEST_BLOB_UNKNOWN", 400


class BlobUploadUnknownError(RegistryError):
    """No such upload, or it has expired."""

    code, status = "BLOB_UPLOAD_UNKNOWN", 404


class BlobUploadInvalidError(RegistryError):
    """The upload cannot go on as asked."""

    code, status = "BLOB_UPLOAD_INVALID", 400


class DigestInvalidError(RegistryError):
    """Not a digest, or not the digest of what was sent."""

    code, status = "DIGEST_INVALID", 400


class SizeInvalidError(RegistryError):
    """The body is not as long as it was said to be, or longer than allowed."""

    code, status = "SIZE_INVALID", 413


class BodyStalledError(RegistryError):
    """The rest of the body did not come."""

    code, status = "BODY_STALLED", 408


class BodyInvalidError(RegistryError):
    """The body is not what its headers or its content type say."""

    code, status = "BODY_INVALID", 400


class RangeInvalidError(RegistryError):
    """The byte range lies outside the content."""

    code, status = "RANGE_INVALID", 416


class PaginationNumberInvalidError(RegistryError):
    """`n` or `limit` is not a number in the allowed range."""

    code, status = "PAGINATION_NUMBER_INVALID", 400


class ParameterInvalidError(RegistryError):
    """A query parameter or header is unknown or malformed."""

    code, status = "PARAMETER_INVALID", 400


class FileUnknownError(RegistryError):
    """The release has no file of this path."""

    code, status = "FILE_UNKNOWN", 404


class PackInvalidError(RegistryError):
    """The pack cannot be published; `detail` lists every problem."""

    code, status = "PACK_INVALID", 422


class ReleaseConflictError(RegistryError):
    """The version exists with other content; `detail` names both digests."""

    code, status = "RELEASE_CONFLICT", 409


class DigestUnchangedError(RegistryError):
    """A forced push of what is there already."""

    code, status = "DIGEST_UNCHANGED", 409


class WatchedReleaseError(RegistryError):
    """The release comes from a watched directory, whose files are the truth."""

    code, status = "RELEASE_WATCHED", 409


class RecordChangedError(RegistryError):
    """Another writer changed the pack's record first; read again and retry."""

    code, status = "RECORD_CHANGED", 409


class StorageFullError(RegistryError):
    """No space, or no quota, is left where blobs are kept."""

    code, status = "STORAGE_FULL", 507


class StorageUnavailableError(RegistryError):
    """The storage cannot be read or written now."""

    code, status = "STORAGE_UNAVAILABLE", 503


class RequestStalledError(RegistryError):
    """The rest of a request's headers did not come."""

    code, status = "REQUEST_STALLED", 408


class StartingError(RegistryError):
    """The server has not read its records yet."""

    code, status = "UNAVAILABLE", 503


class PathUnknownError(RegistryError):
    """No such URL."""

    code, status = "NOT_FOUND", 404


class UnsupportedError(RegistryError):
    """The URL exists, the method does not."""

    code, status = "UNSUPPORTED", 405


class ContentEncodingUnsupportedError(RegistryError):
    """The request body is encoded in a way the registry does not take."""

    code, status = "UNSUPPORTED_ENCODING", 415


class TokenUnknownError(RegistryError):
    """No such token."""

    code, status = "TOKEN_UNKNOWN", 404


class TokenConflictError(RegistryError):
    """A token of this name is in force."""

    code, status = "TOKEN_CONFLICT", 409


class RequestInvalidError(RegistryError):
    """Not HTTP, or more of it than is taken."""

    code, status = "REQUEST_INVALID", 400
