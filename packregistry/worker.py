"""One of several server processes that share an address, as gunicorn's arbiter starts it.

What the processes share is made before them: the sockets, the memory that metrics are counted in, and the directory of
in-memory storage.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NoReturn

import uvloop
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger
from gunicorn.workers.base import Worker

from packregistry import logs, server
from packregistry.config import Config
from packregistry.errors import RegistryError
from packregistry.start import StartError, workers_of
from packregistry.tally import Board

_log = logging.getLogger(__name__)

HUNG_SECONDS: Final = 30
"""How long a worker's event loop may stand still until the worker is ended and replaced."""

RETIRE: Final = signal.SIGUSR1
"""Has a worker end as SIGTERM does, while others go on."""

DEFERRED: Final = frozenset(
    {signal.SIGTERM, signal.SIGQUIT, signal.SIGABRT, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, RETIRE}
)
"""Signals that are blocked when a worker is forked. It takes them when none is the supervisor's any more."""

_MARGIN_SECONDS = 5
_AGAIN_SECONDS = 1.0


@dataclasses.dataclass(slots=True)
class Shared:
    """What the workers have in common. `board` has a row for each of two generations."""

    listening: socket.socket
    debug: socket.socket | None
    board: Board
    memory: Path | None


class Application(BaseApplication):
    """What gunicorn asks about the workers, and what those ask for when they begin."""

    def __init__(
        self,
        config: Config,
        reload: Callable[[], Config],
        announce: Callable[[server.Running], None],
        shared: Shared,
    ) -> None:
        self.config = config
        self._reload = reload
        self.announce = announce
        self.shared = shared
        self.say: Callable[..., None]
        # Whether any worker has ever been ready.
        self.has_started = False
        # Of the next worker.
        self.row = 0
        self.announces = False
        super().__init__()

    def count_of(self, config: Config) -> int:
        """How many workers there should be; two generations have to fit on the board."""
        wanted, most = workers_of(config), self.shared.board.rows // 2
        if wanted > most:
            _log.warning("http.workers: %d workers take a restart, and there are %d until then", wanted, most)
        return min(wanted, most)

    @property
    def draintimeout(self) -> float:
        """How many seconds a worker takes at most to end when it is asked to."""
        return self.config.http.draintimeout

    @property
    def graceful(self) -> int:
        """After how many seconds a worker that should have ended is ended."""
        return int(self.draintimeout) + _MARGIN_SECONDS

    def load_config(self) -> None:
        """Tell gunicorn what it needs to know."""
        for name, value in {
            "worker_class": Process,
            "workers": self.count_of(self.config),
            "timeout": HUNG_SECONDS,
            "graceful_timeout": self.graceful,
            "logger_class": _Log,
            "worker_tmp_dir": _room(),
            "control_socket_disable": True,
        }.items():
            self.cfg.set(name, value)

    def load(self) -> NoReturn:
        """There is no WSGI application."""
        raise AssertionError

    def renewed(self) -> Config:
        """The configuration, read again. What was made for all generations stays as it is, and is warned about."""
        new, now = self._reload(), self.config
        is_moved = (new.storage.driver == "inmemory") != (now.storage.driver == "inmemory")
        for key, has_changed in {
            "http.addr": new.http.addr != now.http.addr,
            "http.debug": new.http.debug != now.http.debug,
            "storage": is_moved,
        }.items():
            if has_changed:
                _log.warning("%s has changed, which takes a restart", key)
        http = dataclasses.replace(new.http, addr=now.http.addr, debug=now.http.debug)
        return dataclasses.replace(new, http=http, storage=now.storage if is_moved else new.storage)

    def adopt(self, config: Config) -> None:
        """Have a configuration in force for all workers that begin from now on."""
        self.config = config
        logs.set_up(config.log)


class Process(Worker):
    """A worker. It is made in the supervisor; `init_signals` and `run` are the first of ours in its own process."""

    app: Application

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.row, self.announces = self.app.row, self.app.announces

    def init_signals(self) -> None:
        """Forget the supervisor's handlers; the server has its own."""
        for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGABRT, signal.SIGCHLD, RETIRE):
            signal.signal(number, signal.SIG_DFL)
        # Ctrl-C, and the end of a terminal, reach all its processes, and are the supervisor's to deal with.
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.set_wakeup_fd(-1)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, DEFERRED)

    def load_wsgi(self) -> None:
        """There is no WSGI application."""

    def run(self) -> None:
        """Serve. The exit code says how that ended."""
        app, shared = self.app, self.app.shared
        logs.set_up(app.config.log)
        tally = shared.board.row(self.row)
        place = server.Place(shared.listening, shared.debug, tally, shared.memory, self._beat, first=self.announces)
        has_started = app.has_started
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(server.serve(app.config, self._started, place))
        except (StartError, RegistryError) as error:
            app.say(str(error), error.status if isinstance(error, StartError) else 1)
            if has_started:
                time.sleep(_AGAIN_SECONDS)
            sys.exit(1 if has_started else Arbiter.WORKER_BOOT_ERROR)
        except asyncio.CancelledError:
            sys.exit(1)

    def _started(self, running: server.Running) -> None:
        if self.announces:
            self.app.announce(running)
        self.app.say()

    def _beat(self) -> None:
        """Say that the event loop turns; without a supervisor that hears it, end."""
        self.notify()
        if os.getppid() != self.ppid:
            _log.error("the supervisor is gone")
            # Whatever this process waits for then, the system ends it.
            signal.alarm(self.app.graceful)
            os.kill(os.getpid(), signal.SIGTERM)


class _Log(Logger):
    """Makes what gunicorn says lines of our log: from warnings on, as with any library."""

    def setup(self, cfg: Any) -> None:
        """Leave everything to the root logger."""
        self.cfg = cfg
        self.error_log.propagate = True
        self.error_log.handlers.clear()

    def reopen_files(self) -> None:
        """There are none."""

    def close_on_exec(self) -> None:
        """There are no files of its own."""


def _room() -> str | None:
    """Where gunicorn may make its files for heartbeats: with a read-only root there may be no other place."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 — mkstemp makes them
