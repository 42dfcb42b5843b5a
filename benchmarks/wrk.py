"""Load from wrk: many connections, each asking again as soon as it is answered."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.processes import ProgramError, end, pinned

# As large as the slowest peer needs for 64 connections that each wait for a bcrypt hash of cost 12.
_TIMEOUT = "60s"
_MORE = 10
_DONE = """
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write("figures ", string.format(
    '{"requests": %d, "bytes": %d, "microseconds": %d, "p50": %d, "p99": %d, "longest": %d, ' ..
    '"status": %d, "broken": %d}\\n',
    summary.requests, summary.bytes, summary.duration,
    latency:percentile(50), latency:percentile(99), latency.max,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
"""
_CYCLE = """
local place = 0
request = function()
  place = place % #paths + 1
  return wrk.format("GET", paths[place], headers)
end
"""
_GUESS = """
local guess = 0
local salt = tostring({}):gsub("[^%w]", "")
local letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
local function base64(text)
  local out = {}
  for at = 1, #text - #text % 3, 3 do
    local a, b, c = text:byte(at, at + 2)
    local number = a * 65536 + b * 256 + c
    for shift = 3, 0, -1 do
      local digit = math.floor(number / 64 ^ shift) % 64
      out[#out + 1] = letters:sub(digit + 1, digit + 1)
    end
  end
  return table.concat(out)
end
request = function()
  guess = guess + 1
  local pair = string.format("guest%07d:wrong%010d", guess, guess)
  if guess % 2 == 0 then pair = string.format("reader:wrong%s%012d", salt, guess) end
  pair = pair .. string.rep("x", -#pair % 3)
  return wrk.format("GET", paths[1], {Authorization = "Basic " .. base64(pair)})
end
"""


class TooSlowError(ProgramError):
    """No request was answered in the time there was."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a run of wrk found. Rates are a second's, latencies milliseconds."""

    requests: int
    rate: float
    bytes_rate: float
    p50: float
    p99: float
    longest: float
    refused: int


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked for: the paths in turn, with these headers, on so many connections for so many seconds.

    With `guess` each request comes with another wrong password instead, every other one of the user `reader`.
    """

    paths: Sequence[str]
    headers: Mapping[str, str]
    connections: int
    seconds: int
    guess: bool = False

    def script(self) -> str:
        """The program that wrk runs."""
        paths = ", ".join(map(_quoted, self.paths))
        headers = ", ".join(f"[{_quoted(key)}] = {_quoted(value)}" for key, value in self.headers.items())
        tail = _GUESS if self.guess else _CYCLE
        return f"local paths = {{{paths}}}\nlocal headers = {{{headers}}}\n{tail}{_DONE}"


def measured(url: str, ask: Ask, directory: Path, core: int) -> Load:
    """Load the server at `url` from `core`. Raises `ProgramError` where it refuses anything, unless that was wanted.

    Where nothing is answered in time, as on a machine that is busy with other things, it is given more of it once.
    """
    try:
        with loading(url, ask, directory, core) as run:
            return run()
    except TooSlowError:
        with loading(url, replace(ask, seconds=_MORE * ask.seconds), directory, core) as run:
            return run()


@contextmanager
def loading(url: str, ask: Ask, directory: Path, core: int) -> Iterator[_Run]:
    """The same beside something else: the load begins now, and calling what is given waits for what it found."""
    script = directory / f"wrk-{'guess' if ask.guess else 'ask'}.lua"
    script.write_text(ask.script())
    command = [
        *pinned([core]),
        *("wrk", "-t1", f"-c{ask.connections}", f"-d{ask.seconds}s", "--timeout", _TIMEOUT, "--latency"),
        *("-s", str(script), url),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        yield _Run(process, ask)
    finally:
        end(process)
        assert process.stdout is not None
        process.stdout.close()


class _Run:
    """A run of wrk that is under way."""

    def __init__(self, process: subprocess.Popen[bytes], ask: Ask) -> None:
        self._process = process
        self._ask = ask

    def __call__(self) -> Load:
        """Wait for its end. Raises `ProgramError`."""
        try:
            output = self._process.communicate(timeout=self._ask.seconds + 90)[0].decode(errors="replace")
        except subprocess.TimeoutExpired as error:
            raise ProgramError("wrk does not end") from error
        return parsed(output, refusals_wanted=self._ask.guess)


def parsed(output: str, *, refusals_wanted: bool = False) -> Load:
    """Read what the script wrote. Raises `ProgramError` where there is nothing, or a request was refused or broken."""
    line = next((line for line in output.splitlines() if line.startswith("figures ")), None)
    if line is None:
        raise ProgramError(f"wrk found nothing: {output.strip()[-500:]}")
    found = json.loads(line.removeprefix("figures "))
    if found["broken"]:
        raise ProgramError(f"{found['broken']} of {found['requests']} requests broke off")
    if found["status"] and not refusals_wanted:
        raise ProgramError(f"{found['status']} of {found['requests']} requests were refused")
    if not found["requests"]:
        raise TooSlowError("no request was answered in time: give it more --seconds")
    seconds = found["microseconds"] / 1e6
    return Load(
        requests=found["requests"],
        rate=found["requests"] / seconds,
        bytes_rate=found["bytes"] / seconds,
        p50=found["p50"] / 1000,
        p99=found["p99"] / 1000,
        longest=found["longest"] / 1000,
        refused=found["status"],
    )


def _quoted(text: str) -> str:
    """Text as Lua reads it."""
    escaped = "".join(char if char.isascii() and char.isprintable() and char not in '"\\' else "" for char in text)
    if escaped != text:
        raise ValueError(f"{text!r} cannot be asked for: it has characters beyond printable ASCII, or quotes")
    return f'"{text}"'
