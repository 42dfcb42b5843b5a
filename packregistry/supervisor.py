"""Several server processes that share an address.

gunicorn's arbiter starts them, replaces one that ends, and ends one whose event loop has not turned for long. What it
does differently here, and why:

- A new generation (SIGHUP) has to be ready before the old one is told to stop, and one that cannot start changes
  nothing: gunicorn ends the old workers at once, and all of them where a new one fails.
- A worker that cannot start ends the server only when none ever has: a file that is no good keeps what it said before
  in the others, which go on, and another start is tried.
- Ctrl-C finishes the requests under way, as it does with one process; a second signal ends them.

What a worker does is in `worker`, and everything about requests in `server`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn, cast

from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer

from packregistry import server
from packregistry.config import Config
from packregistry.start import StartError, bind, workers_of
from packregistry.tally import Board
from packregistry.worker import Application, Process, Shared

_log = logging.getLogger(__name__)

READY_SECONDS: Final = 60.0
"""How long the workers of a new generation may take to be ready, until the old one is kept instead."""

_WORKERS_MAX = 32
_LOOK_SECONDS = 0.05
_MESSAGE_MAX = 3000


def serve_with_workers(
    config: Config,
    reload: Callable[[], Config],
    announce: Callable[[server.Running], None],
) -> None:
    """Serve with as many workers as configured until SIGTERM or SIGINT.

    `announce` is called once, in the first worker that is ready. On SIGHUP, `reload` gives the configuration of a new
    generation, or raises an error whose text says why there is none.

    Raises `StartError` when no worker can start, or when a second signal ended them before their requests were.
    """
    count = workers_of(config)
    listening = bind(config.http.addr)
    debug_addr = config.http.debug.addr if config.http.debug.prometheus.enabled else None
    debug = bind(debug_addr, "http.debug.addr") if debug_addr else None
    memory = Path(tempfile.mkdtemp(prefix="packregistry-")) if config.storage.driver == "inmemory" else None
    shared = Shared(listening, debug, Board(2 * max(count, _WORKERS_MAX)), memory)
    supervisor = Supervisor(Application(config, reload, announce, shared))
    parent = os.getpid()
    try:
        supervisor.run()
    except SystemExit:
        if os.getpid() != parent:
            raise
    finally:
        # A worker ends with the same exception, and all of this is not its own.
        if os.getpid() == parent and memory is not None:
            shutil.rmtree(memory, ignore_errors=True)
    supervisor.conclude()


class Supervisor(Arbiter):
    """Keeps the workers."""

    app: Application

    def __init__(self, app: Application) -> None:
        super().__init__(app)
        self.LISTENERS = [app.shared.listening]  # type: ignore[misc, list-item]  # as gunicorn itself does
        self._reports = _Reports()
        app.say = self._reports.say
        self._ready: set[int] = set()
        self._failure: tuple[str, int] | None = None
        self._stopping = False
        self._hurried = False

    def conclude(self) -> None:
        """Raise `StartError` where this did not end as it should."""
        if self._failure is not None and not self.app.has_started:
            message, status = self._failure
            raise StartError(message, status=status)
        if self._hurried:
            raise StartError("stopped before all requests had ended")

    @property
    def _workers(self) -> dict[int, Process]:
        return cast("dict[int, Process]", self.WORKERS)

    def spawn_worker(self) -> Any:
        """Start a worker; the first one, or the one in its place, is to announce the server."""
        self._hear()
        app, rows = self.app, {worker.row for worker in self._workers.values()}
        app.row = next((row for row in range(app.shared.board.rows) if row not in rows), 0)
        announcing = any(worker.announces for worker in self._workers.values())
        app.announces = not app.has_started and not announcing
        return super().spawn_worker()

    def manage_workers(self) -> None:
        """Have as many workers as there should be."""
        self._hear()
        super().manage_workers()

    def reap_workers(self) -> None:
        """Take note of workers that have ended."""
        before = dict(self._workers)
        # What they said last is not to be missed: it is why.
        self._hear()
        try:
            super().reap_workers()
        except HaltServer:
            # Another one that could not start; that the server ends is known.
            if not self._stopping:
                raise
        finally:
            for pid in set(before) - set(self.WORKERS):
                self._ready.discard(pid)
                self.app.shared.board.leave(before[pid].row)

    def kill_workers(self, sig: int) -> None:
        """Signal all workers."""
        if sig != signal.SIGTERM and self.WORKERS:
            self._hurried = True
        super().kill_workers(sig)

    def _hear(self) -> None:
        for report in self._reports.heard():
            if report["message"]:
                self._failure = (report["message"], report["status"])
                if self.app.has_started:
                    _log.error("a worker cannot start, which is tried again: %s", report["message"])
            else:
                self._ready.add(report["pid"])
                self.app.has_started = True
                if len(self._ready & set(self.WORKERS)) == self.num_workers:
                    _log.info("%d workers are ready", self.num_workers)

    def signal(self, sig: int, frame: FrameType | None) -> None:
        """Note a signal. The second one that means to stop means to stop at once."""
        super().signal(signal.SIGINT if self._stopping and sig == signal.SIGTERM else sig, frame)

    def stop(self, graceful: bool = True) -> None:
        """End the workers."""
        self._stopping = True
        _log.info("stopping %d workers: requests under way have %g s to end", len(self.WORKERS), self.app.draintimeout)
        super().stop(graceful)

    def handle_int(self) -> NoReturn:
        """Ctrl-C."""
        raise StopIteration

    def handle_usr2(self) -> None:
        """Not here: another program is started by whoever started this one."""

    handle_ttin = handle_ttou = handle_winch = handle_usr1 = handle_usr2

    def reload(self) -> None:
        """Start a new generation with the configuration as it is now; when all of it is ready, stop the old one."""
        former = self.app.config
        try:
            self.app.renew()
        except Exception as error:  # noqa: BLE001 — whatever it is, the server goes on as it is
            _log.error("the workers stay as they are, as the configuration cannot be used: %s", error)
            return
        _log.info("replacing %d workers by %d", self.num_workers, self.app.count)
        old, before = set(self.WORKERS), self.num_workers
        self.cfg.set("graceful_timeout", self.app.graceful)
        self.num_workers = self.app.count
        new = {self.spawn_worker() for _ in range(self.app.count)}
        if self._became_ready(new):
            for pid in old & set(self.WORKERS):
                self.kill_worker(pid, signal.SIGTERM)
            return
        _log.error("the workers stay as they are, as new ones do not get ready")
        self.app.config = former
        self.num_workers = before
        self._end(new)

    def _became_ready(self, pids: set[int]) -> bool:
        """Whether all of these workers are ready before one ends, or time is up."""
        deadline = time.monotonic() + READY_SECONDS
        while not pids <= self._ready and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
            self.reap_workers()
            self._hear()
            if not pids <= set(self.WORKERS):
                return False
        return pids <= self._ready

    def _end(self, pids: set[int]) -> None:
        """End these workers, whatever they do; until they have, old ones must not be taken for too many."""
        deadline = time.monotonic() + self.app.graceful
        sig = signal.SIGTERM
        while left := pids & set(self.WORKERS):
            for pid in left:
                self.kill_worker(pid, sig)
            time.sleep(_LOOK_SECONDS)
            self.reap_workers()
            if time.monotonic() > deadline:
                sig = signal.SIGKILL


class _Reports:
    """What workers say to the supervisor: a line each, that they are ready, or why they cannot start."""

    def __init__(self) -> None:
        self._hearing, self._saying = os.pipe()
        os.set_blocking(self._hearing, False)
        self._begun = b""

    def say(self, message: str = "", status: int = 0) -> None:
        """Say that this process is ready, or why it cannot start and with which code it would end."""
        report = {"pid": os.getpid(), "message": message[:_MESSAGE_MAX], "status": status}
        os.write(self._saying, json.dumps(report, ensure_ascii=False).encode("utf-8", "replace") + b"\n")

    def heard(self) -> list[dict[str, Any]]:
        """What was said since."""
        with contextlib.suppress(BlockingIOError):
            self._begun += os.read(self._hearing, 1 << 20)
        *lines, self._begun = self._begun.split(b"\n")
        return [json.loads(line) for line in lines]
