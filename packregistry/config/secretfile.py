"""Values in files that variables name: `REGISTRY_HTTP_TLS_KEY_FILE=/run/secrets/key` for `REGISTRY_HTTP_TLS_KEY`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from packregistry.config.problems import BadValueError

SUFFIX: Final = "_FILE"
SIZE_MAX: Final = 64 * 1024

_BINARY = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")


def read_secret(path: str) -> str:
    """The text in a file, without the line break at its end. Raises `BadValueError`, which shows nothing of it."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(SIZE_MAX + 1)
    except FileNotFoundError:
        raise BadValueError("there is no such file", "mount it, or unset the variable") from None
    except IsADirectoryError:
        raise BadValueError("this is a directory", "name the file in it") from None
    except PermissionError:
        raise BadValueError("cannot be read: Permission denied", f"let uid {os.geteuid()} read it") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise BadValueError(f"cannot be read: {why}", "name another file, or unset the variable") from None
    if len(data) > SIZE_MAX:
        raise BadValueError(f"is larger than {SIZE_MAX} bytes", "is it the right file?")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if _BINARY.search(text):
        raise BadValueError("is not UTF-8 text", "is it the right file?")
    return text.removesuffix("\n").removesuffix("\r")
