"""The guides: their fenced blocks, and a session that runs the commands in them as an operator would, elsewhere.

A block is run, or loaded, or has one of `MARKERS` in an HTML comment on the line before. The blocks of a guide share a
directory and the variables that are set in it. Where a guide starts the server, one is started that goes on in the
background until the next one, or the end.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from tests.process import DEADLINE, environment, until_listening

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
GUIDES = [*sorted((ROOT / "docs").glob("*.md")), README]

# Why a block is not run. Each is followed by what is done instead, and by nobody's good intentions.
MARKERS: Final = {
    "file": "written to the place that it names, and loaded if it is a configuration",
    "log": "what the server must have written by then",
    "policy": "loaded as a policy file",
    "example": "one of several possibilities, or a part of something: its commands and options are looked up",
    "tested": "run by the test or script that it names",
    "needs: palette": "nobody has a Palette here",
    "needs: docker": "takes a container engine: commands, ports, variables and paths are compared with the image's",
    "needs: network": "fetches something from the internet",
    "needs: prometheus": "read by Prometheus: the metrics in it are looked up",
    "needs: traefik": "read by Traefik, which Debian does not have: it is parsed",
}
# What such a block must say besides.
_ARGUMENTS = {"file", "tested"}
# What is output, or prose, unless a marker says more.
_PLAIN = {"", "text"}

# Where guides have files. In a session these lie below its own root.
_PLACES = re.compile(r"(?<![\w./~-])(?=/(?:etc/spectro|etc/packregistry|srv|var/lib|var/backups)\b)")
_SERVE = re.compile(r"^\s*(?:[A-Z_]+=\S+ +)*packregistry serve\b.*$", re.MULTILINE)
# Other ways that README has to write the same.
_SAME = ((re.compile(r'\bmake serve(?: ARGS="([^"]*)")?'), r"packregistry serve \1"), (re.compile(r"\.venv/bin/"), ""))

# `packregistry` with the certificates it trusts below another root: that directory is not an option.
_LAUNCHER = """#!{python}
import sys
from pathlib import Path
if sys.argv[1:2] in (["registry"], ["pack"], ["token"]):
    from packregistry.cli import remote
    remote.CERTIFICATES = Path({root!r}) / "etc/spectro/certs.d"
from packregistry.cli import main
main()
"""


@dataclass(frozen=True)
class Block:
    """A fenced block: where it begins, under which heading, in which language, and what is marked."""

    guide: Path
    line: int
    heading: str
    language: str
    text: str
    marker: str = ""
    argument: str = ""

    def __str__(self) -> str:
        return f"{self.guide.name}:{self.line}"

    @property
    def is_plain(self) -> bool:
        """Whether it is output or prose, of which nothing is known."""
        return self.language in _PLAIN and not self.marker

    @property
    def is_run(self) -> bool:
        """Whether a session has something to do with it."""
        return self.marker in {"file", "log"} or (not self.marker and self.language in {"sh", "bash", "console"})


class GuideError(AssertionError):
    """Something in a guide is not as it says; the text begins with file and line."""


def blocks_of(guide: Path) -> list[Block]:
    """The blocks of a Markdown file. Raises `GuideError` for a marker that is not one, and for a fence without end."""
    found, heading, comment = [], "", ""
    lines = iter(enumerate(guide.read_text(encoding="utf-8").splitlines(), 1))
    for number, line in lines:
        if fence := re.fullmatch(r"( *)```([\w-]*)", line):
            text = "".join(_body(lines, fence[1], f"{guide.name}:{number}"))
            block = Block(guide, number, heading, fence[2], text)
            found.append(marked(block, comment))
        elif line.startswith("#"):
            heading = line.lstrip("# ")
        comment = line.strip()
    return found


def marked(block: Block, comment: str) -> Block:
    """The block with the marker of a line of Markdown, if that is an HTML comment. Raises `GuideError`."""
    if not (found := re.fullmatch(r"<!-- (.+?) -->", comment)):
        return block
    text = found[1]
    if text in MARKERS and text not in _ARGUMENTS:
        return replace(block, marker=text)
    marker, _, argument = text.partition(": ")
    if marker in _ARGUMENTS and argument:
        return replace(block, marker=marker, argument=argument)
    raise GuideError(f"{block}: {text!r} is no marker: write one of {', '.join(MARKERS)}")


def _body(lines: Iterator[tuple[int, str]], indent: str, where: str) -> Iterator[str]:
    for _, line in lines:
        if line == f"{indent}```":
            return
        yield line.removeprefix(indent) + "\n"
    raise GuideError(f"{where}: the block does not end: close it with ```")


def exchanges(text: str) -> list[tuple[str, str]]:
    """What is typed at each `$ `, and what is printed then."""
    found: list[tuple[str, str]] = []
    for line in text.splitlines(keepends=True):
        if line.startswith("$ "):
            found.append((line.removeprefix("$ "), ""))
        elif line.startswith("> "):
            command, printed = found.pop()
            found.append((command + line.removeprefix("> "), printed))
        else:
            command, printed = found.pop()
            found.append((command, printed + line))
    return found


def matches(expected: str, printed: str) -> bool:
    """Whether something was printed as expected: `…` is any text within a line, and by itself any number of lines."""
    pattern = "".join(
        r"(?:[^\n]*\n)*?" if line.strip() == "…" else re.escape(line.rstrip()).replace("…", "[^\n]*") + "\n"
        for line in expected.splitlines()
    )
    return re.fullmatch(pattern, "".join(f"{line.rstrip()}\n" for line in printed.splitlines())) is not None


class Session:
    """One operator at one machine, as long as its context is open.

    Args:
        directory: where everything lies: `root` stands for `/`, `home` for `~`, `work` is where commands are run.
        old: `host:port` of the registry that guides call old.example:5000.
    """

    def __init__(self, directory: Path, *, old: str = "") -> None:
        self.root, self.home, self.work = directory / "root", directory / "home", directory / "work"
        self.log = directory / "log"
        self._state = directory / "state"
        self._bin = directory / "bin"
        self._servers: list[subprocess.Popen[bytes]] = []
        self._readers: list[threading.Thread] = []
        self._writing = threading.Lock()
        self._old = old

    def __enter__(self) -> Self:
        for place in (self._bin, self.home, self.work, *(self.root / path for path in ("etc", "srv", "var/lib"))):
            place.mkdir(parents=True)
        (self.root / "var/backups").mkdir()
        (self.root / "srv/packregistry").mkdir()
        (self.home / ".curlrc").write_text("silent\nshow-error\nmax-time = 20\n")
        launcher = self._bin / "packregistry"
        launcher.write_text(_LAUNCHER.format(python=sys.executable, root=str(self.root)))
        launcher.chmod(0o755)
        self.log.touch()
        # Bound and not listening, they are nobody else's, and the server may still listen there.
        self._reserved = [_reserved(), _reserved()]
        port, debug = (held.getsockname()[1] for held in self._reserved)
        self.address = f"127.0.0.1:{port}"
        self._places = {
            "registry.example:5000": f"localhost:{port}",
            "old.example:5000": self._old,
            "registry.example": "localhost",
            "127.0.0.1:5000": self.address,
            "localhost:5000": f"localhost:{port}",
            "127.0.0.1:5001": f"127.0.0.1:{debug}",
            "192.0.2.10": "127.0.0.1",
        }
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.stop(well=error is None)
        finally:
            for held in self._reserved:
                held.close()

    def here(self, text: str) -> str:
        """A guide's text with the names, addresses and places that stand for them here."""
        for pattern, same in _SAME:
            text = pattern.sub(same, text)
        for name, place in self._places.items():
            text = text.replace(name, place)
        return _PLACES.sub(str(self.root), text)

    def play(self, blocks: Sequence[Block]) -> None:
        """Do what each block says, in order. Raises `GuideError`."""
        for block in blocks:
            if not block.is_run:
                continue
            if block.marker == "file":
                self._write(block)
            elif block.marker == "log":
                self._read_log(block)
            elif block.language == "console":
                for command, expected in exchanges(block.text):
                    self._expect(block, command, expected)
            else:
                self._do(block, block.text)

    def run(self, text: str) -> tuple[int, str]:
        """The exit code of a script, and what it printed. Variables it sets are there for the next one."""
        script = f"set -eua -o pipefail\n. {self._state} 2>/dev/null || true\ntrap 'declare -px > {self._state}' EXIT\n"
        done = subprocess.run(
            ["bash", "-c", f'{script}cd "${{HERE:-.}}"\n{self.here(text)}\nHERE=$PWD\n'],
            cwd=self.work,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=4 * DEADLINE,
            check=False,
        )
        return done.returncode, done.stdout

    def stop(self, *, well: bool = True) -> None:
        """End the server, as Ctrl-C does; `well`: see that it does so."""
        for process in self._servers:
            process.send_signal(signal.SIGINT)
        self._wait(well=well)

    def _wait(self, *, well: bool = True) -> None:
        """Wait until the server has ended, that was told to."""
        while self._servers:
            server = self._servers.pop()
            try:
                code = server.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
                raise
            while self._readers:
                self._readers.pop().join(DEADLINE)
            assert code == 0 or not well, f"the server ended with {code}: {self.log.read_text()}"

    def _do(self, block: Block, text: str) -> str:
        """Run a script of a guide, in which everything has to succeed, and return what it printed."""
        printed = ""
        place = 0
        for serve in _SERVE.finditer(self.here(text)):
            printed += self._done(block, self.here(text)[place : serve.start()])
            printed += self._serve(serve[0].strip())
            place = serve.end()
        return printed + self._done(block, self.here(text)[place:])

    def _done(self, block: Block, text: str) -> str:
        if not text.strip():
            return ""
        code, printed = self.run(text)
        if code:
            raise GuideError(f"{block}: exit code {code} of\n{text}\n{printed}")
        if 'kill "$PID"' in text:
            # One more signal would end it at once.
            self._wait()
        return printed

    def _expect(self, block: Block, command: str, expected: str) -> None:
        if _SERVE.match(self.here(command)):
            printed = self._do(block, command)
        else:
            code, printed = self.run(command)
            # An error that is shown is meant.
            if code and not expected.strip():
                raise GuideError(f"{block}: exit code {code} of\n{command}\n{printed}")
        if not matches(self.here(expected), printed):
            raise GuideError(f"{block}: {command}is to print\n{self.here(expected)}\nand prints\n{printed}")

    def _serve(self, line: str) -> str:
        self.stop()
        command = line.partition("#")[0]
        if "--addr" not in command:
            command += f" --addr {self.address}"
        process = subprocess.Popen(
            ["bash", "-c", f'. {self._state} 2>/dev/null; cd "${{HERE:-.}}"; exec env {command}'],
            cwd=self.work,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._servers.append(process)
        greeting = until_listening(process)
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            reader = threading.Thread(target=self._keep, args=(stream,), daemon=True)
            reader.start()
            self._readers.append(reader)
        self.run(f"PID={process.pid}")
        return greeting

    def _keep(self, stream: IO[bytes]) -> None:
        """Collect what a server writes, so that it never waits for a reader."""
        with stream:
            for line in stream:
                with self._writing, self.log.open("ab") as log:
                    log.write(line)

    def _write(self, block: Block) -> None:
        _, directory = self.run("pwd")
        path = Path(directory.strip()) / self.here(block.argument)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.here(block.text))

    def _read_log(self, block: Block) -> None:
        """Wait until the server has written each of the lines: records are written behind an answer's back."""
        end = time.monotonic() + DEADLINE
        missing = self.here(block.text).splitlines()
        while missing:
            assert time.monotonic() < end, f"{block}: not in the log: {missing}\n{self.log.read_text()}"
            printed = self.log.read_text().splitlines()
            missing = [line for line in missing if not any(matches(line, found) for found in printed)]
            threading.Event().wait(0.01)

    def _environment(self) -> dict[str, str]:
        path = f"{self._bin}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        # The files that commands work on were made a moment ago, and who reads a guide did so a while before.
        return environment(
            PATH=path, HOME=str(self.home), PYTHONPATH=str(ROOT), LC_ALL="C.UTF-8", REGISTRY_PACKS_SETTLE="0s"
        )


def _reserved() -> socket.socket:
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    return held
