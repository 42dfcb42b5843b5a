"""What the image starts: `packregistry`, and what only a container needs.

`/registry` and `registry` in front of `serve` mean this program, so that what was written for the legacy server's image
goes on working: `docker run IMAGE registry serve PATH`, `docker run --entrypoint /registry IMAGE serve PATH`.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import NoReturn

from packregistry.cli import main as packregistry

LEGACY = "registry"
# Docker gives a container /dev/shm also where its root is read-only; /data is a volume in any case.
SCRATCH = (Path("/tmp"), Path("/dev/shm"), Path("/data"))  # noqa: S108 - looked for, never written to under a known name


def main() -> NoReturn:
    """Run the command in the process's arguments."""
    # The kernel keeps from a container's first process what it has no handler for, and the server's own comes late:
    # without this, `docker stop` of a server that is starting waits ten seconds and kills it.
    signal.signal(signal.SIGTERM, _end)
    scratch(os.environ)
    packregistry.main(arguments(sys.argv[1:]), prog_name="packregistry")
    raise AssertionError


def arguments(given: Sequence[str]) -> list[str]:
    """The arguments of `packregistry` that are meant. `registry login` and so on stay what they are."""
    first, second = (*given, "", "")[:2]
    is_legacy = first == f"/{LEGACY}" or (first == LEGACY and second == "serve")
    return list(given[1:] if is_legacy else given)


def scratch(environ: MutableMapping[str, str], places: Sequence[Path] = SCRATCH) -> None:
    """Set TMPDIR, unless somebody has, to the first place that can be written: it is where `storage: inmemory` is."""
    usable = [str(place) for place in places if os.access(place, os.W_OK | os.X_OK)]
    if usable and not environ.get("TMPDIR"):
        environ["TMPDIR"] = usable[0]


def _end(number: int, _frame: object) -> NoReturn:
    os._exit(128 + number)
