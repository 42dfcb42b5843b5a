"""What goes wrong on a client's side, before or besides a refusal by the registry (those are in `errors`).

The exit code is what the command line ends with: 1 refused or failed, 3 the registry is not reached, 4 unauthorised.
"""

from __future__ import annotations

from typing import ClassVar

REFUSED = 1
UNREACHABLE = 3
UNAUTHORISED = 4


class ClientError(Exception):
    """Something a client cannot do.

    Args:
        message: what is wrong, naming the offending value.
        remedy: what to do about it; part of what `str()` gives.
    """

    exit_code: ClassVar[int] = REFUSED

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}: {self.remedy}" if self.remedy else self.message


class ServerNameError(ClientError):
    """What should be the address of a registry is none."""


class LoginFileError(ClientError):
    """The file that logins are kept in cannot be read or written."""


class UnreachableError(ClientError):
    """Nobody answers at the registry's address."""

    exit_code = UNREACHABLE


class UntrustedCertificateError(UnreachableError):
    """Somebody answers, whose certificate is not trusted."""


class NotARegistryError(ClientError):
    """An answer that no registry gives."""


class DownloadError(ClientError):
    """What was downloaded is not what was asked for, or not all of it."""


class TargetError(ClientError):
    """The place where files are to be written is taken, or cannot be written to."""
