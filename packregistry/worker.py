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

from packregistry import server
from packregistry.config import Config
from packregistry.errors import RegistryError
from packregistry.start import StartError, workers_of
from packregistry.tally import Board

_log = logging.getLogger(__name__)

HUNG_SECONDS: Final = 30
"""How long a worker's event loop may stand still until the worker is ended and replaced."""

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

    @property
    def count(self) -> int:
        """How many workers there should be; two generations have to fit on the board."""
        return min(workers_of(self.config), self.shared.board.rows // 2)

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
            "workers": self.count,
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

    def renew(self) -> None:
        """Read the configuration again. What was made for all generations stays, and is warned about."""
        new, now = self._reload(), self.config
        for key, changed in {
            "http.addr": new.http.addr != now.http.addr,
            "http.debug": new.http.debug != now.http.debug,
            "storage": (new.storage.driver == "inmemory") != (now.storage.driver == "inmemory"),
        }.items():
            if changed:
                _log.warning("%s has changed, which takes a restart", key)
        http = dataclasses.replace(new.http, addr=now.http.addr, debug=now.http.debug)
        if (new.storage.driver == "inmemory") != (now.storage.driver == "inmemory"):
            new = dataclasses.replace(new, storage=now.storage)
        self.config = dataclasses.replace(new, http=http)


class Process(Worker):
    """A worker. It is made in the supervisor; `init_signals` and `run` are the first of ours in its own process."""

    app: Application

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.row, self.announces = self.app.row, self.app.announces

    def init_signals(self) -> None:
        """Forget the supervisor's handlers; the server has its own."""
        for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGABRT, signal.SIGCHLD, signal.SIGUSR1):
            signal.signal(number, signal.SIG_DFL)
        # Ctrl-C reaches all processes of a terminal, and is the supervisor's to deal with.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.set_wakeup_fd(-1)

    def load_wsgi(self) -> None:
        """There is no WSGI application."""

    def run(self) -> None:
        """Serve. The exit code says how that ended."""
        app, shared = self.app, self.app.shared
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
