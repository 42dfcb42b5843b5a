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
import math
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
from packregistry.worker import DEFERRED, RETIRE, Application, Process, Shared

_log = logging.getLogger(__name__)

READY_SECONDS: Final = 60.0
"""How long the workers of a new generation may take to be ready, until the old one is kept instead."""

_WORKERS_MAX = 32
_LOOK_SECONDS = 0.05
_PATIENCE_SECONDS = 2.0
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
    """Keeps the workers: those in force, those of a new generation that is not ready yet, and those that are ending."""

    app: Application

    def __init__(self, app: Application) -> None:
        super().__init__(app)
        self.LISTENERS = [app.shared.listening]  # type: ignore[misc, list-item]  # as gunicorn itself does
        self._reports = _Reports()
        app.say = self._reports.say
        self._ready: set[int] = set()
        self._coming: set[int] = set()
        self._coming_config = app.config
        self._coming_until = 0.0
        self._is_due = False
        # Workers that were told to stop, with when they are ended.
        self._ending: dict[int, float] = {}
        self._failure: tuple[str, int] | None = None
        self._stops = 0
        self._patient_until = math.inf
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

    @property
    def _in_force(self) -> set[int]:
        return set(self.WORKERS) - self._coming - set(self._ending)

    # Workers, one by one

    def spawn_worker(self) -> Any:
        """Start a worker; the first one, or the one in its place, is to announce the server."""
        self._hear()
        app = self.app
        app.row = self._free_rows()[0]
        app.announces = not app.has_started and not any(worker.announces for worker in self._workers.values())
        # A worker begins with the handlers of this process. What it is told until it has its own waits for it.
        signal.pthread_sigmask(signal.SIG_BLOCK, DEFERRED)
        try:
            return super().spawn_worker()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, DEFERRED)

    def _free_rows(self) -> list[int]:
        taken = {worker.row for worker in self._workers.values()}
        return [row for row in range(self.app.shared.board.rows) if row not in taken]

    def _spawned(self, count: int) -> set[int]:
        """So many workers, or fewer where the system has no room for them."""
        pids: set[int] = set()
        try:
            for _ in range(count):
                pids.add(self.spawn_worker())
        except OSError as error:
            _log.error("no worker can be started: %s", error)
        return pids

    def reap_workers(self) -> None:
        """Take note of workers that have ended."""
        before = dict(self._workers)
        # What they said last is not to be missed: it is why.
        self._hear()
        try:
            super().reap_workers()
        except HaltServer:
            # Another one that could not start; that the server ends is known.
            if not self._stops:
                raise
        finally:
            for pid in set(before) - set(self.WORKERS):
                self._ready.discard(pid)
                self._ending.pop(pid, None)
                self.app.shared.board.leave(before[pid].row)
        if time.monotonic() > self._patient_until:
            for pid in set(self.WORKERS) - self._ready:
                self.kill_worker(pid, signal.SIGKILL)

    def _hear(self) -> None:
        for report in self._reports.heard():
            pid = report["pid"]
            if report["message"]:
                self._failure = (report["message"], report["status"])
                if pid in self._coming:
                    _log.error("a new worker cannot start: %s", report["message"])
                elif self.app.has_started:
                    _log.error("a worker cannot start, which is tried again: %s", report["message"])
            else:
                self._ready.add(pid)
                self.app.has_started = True
                if pid in self._in_force and self._in_force <= self._ready:
                    _log.info("%d workers are ready", len(self._in_force))

    def _retire(self, pids: set[int]) -> None:
        """Have workers finish their requests and end, without a word that the server stops: others serve meanwhile."""
        for pid in pids:
            self._ending[pid] = time.monotonic() + self.app.graceful
            self.kill_worker(pid, RETIRE)

    # All of them, once a second and after each signal

    def wait_for_signals(self, timeout: float | None = 1.0) -> list[int]:
        """Wait for signals, not long where a worker is about to say something."""
        waiting = self._coming or not self._in_force <= self._ready
        return super().wait_for_signals(_LOOK_SECONDS if waiting else timeout)

    def manage_workers(self) -> None:
        """Have as many workers as there should be, and the next generation in force when it is ready."""
        self._hear()
        if self._coming:
            self._look_at_coming()
        elif self._is_due:
            self.reload()
        for pid, until in self._ending.items():
            if time.monotonic() > until:
                _log.error("worker %d does not end, and is ended", pid)
                self.kill_worker(pid, signal.SIGKILL)
        self._spawned(self.num_workers - len(self._in_force))

    def reload(self) -> None:
        """Start a new generation with the configuration as it is now."""
        self._is_due = bool(self._coming)
        if self._coming:
            # It may have read something else; the next one comes after it.
            return
        former = self.app.config
        try:
            config = self.app.renewed()
            count = self.app.count_of(config)
            if count > len(self._free_rows()):
                raise StartError("too many workers are still ending: try again later")
        except Exception as error:  # noqa: BLE001 — whatever it is, the server goes on as it is
            _log.error("the workers stay as they are, as the configuration cannot be used: %s", error)
            return
        _log.info("replacing %d workers by %d", self.num_workers, count)
        self._coming_config, self._coming_until = config, time.monotonic() + READY_SECONDS
        # What a worker is to serve with it has from here, when it begins.
        self.app.config = config
        try:
            self._coming = self._spawned(count)
        finally:
            self.app.config = former
        if len(self._coming) < count:
            self._give_up()

    def _look_at_coming(self) -> None:
        if not self._coming <= set(self.WORKERS) or time.monotonic() > self._coming_until:
            self._give_up()
        elif self._coming <= self._ready:
            old = self._in_force
            self.app.adopt(self._coming_config)
            self.cfg.set("graceful_timeout", self.app.graceful)
            self.num_workers = len(self._coming)
            self._coming = set()
            self._retire(old)
            _log.info("%d new workers are ready, and %d old ones end", self.num_workers, len(old))

    def _give_up(self) -> None:
        """End the new generation; those of it that are ready may have requests."""
        _log.error("the workers stay as they are, as new ones do not get ready")
        left, self._coming = self._coming & set(self.WORKERS), set()
        self._retire(left & self._ready)
        for pid in left - self._ready:
            self._ending[pid] = time.monotonic() + self.app.graceful
            self.kill_worker(pid, signal.SIGKILL)

    # Signals

    def signal(self, sig: int, frame: FrameType | None) -> None:
        """Note a signal. The second one that means to stop means to stop at once."""
        is_stop = sig in {signal.SIGTERM, signal.SIGINT}
        super().signal(signal.SIGINT if is_stop and self._stops else sig, frame)
        self._stops += is_stop

    def stop(self, graceful: bool = True) -> None:
        """End the workers."""
        # One of these counts as one in any case, as nobody may have sent a signal.
        graceful, self._stops = graceful and self._stops < 2, max(1, self._stops)
        _log.info("stopping %d workers: requests under way have %g s to end", len(self.WORKERS), self.app.draintimeout)
        # Nobody waits for those that are not ready, and what they wait for may never come.
        self._patient_until = time.monotonic() + _PATIENCE_SECONDS
        super().stop(graceful)

    def kill_workers(self, sig: int) -> None:
        """Signal all workers."""
        if sig != signal.SIGTERM and self.WORKERS:
            self._hurried = True
        super().kill_workers(sig)

    def handle_int(self) -> NoReturn:
        """Ctrl-C."""
        raise StopIteration

    def handle_usr2(self) -> None:
        """Not here: another program is started by whoever started this one."""

    handle_ttin = handle_ttou = handle_winch = handle_usr1 = handle_usr2


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
