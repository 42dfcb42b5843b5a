"""What signals mean to a server process."""

from __future__ import annotations

import asyncio
import signal

from packregistry.reload import Reloader


class Signals:
    """What signals mean to a server, from when it begins to start.

    Not `alone`, one SIGTERM after another changes nothing, SIGINT is not for it, and SIGQUIT ends it at once. SIGUSR1
    ends it as SIGTERM does, while others that share its address go on.
    """

    def __init__(self, *, alone: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self._alone = alone
        self._stop = asyncio.Event()
        self._has_started = False
        self.is_retired = False
        self._reloader: Reloader | None = None
        self._reloads: set[asyncio.Task[None]] = set()
        server = asyncio.current_task()
        assert server is not None
        self._server = server
        self._loop.add_signal_handler(signal.SIGTERM, self._end)
        self._loop.add_signal_handler(signal.SIGHUP, self._reload)
        if alone:
            self._loop.add_signal_handler(signal.SIGINT, self._end)
        else:
            self._loop.add_signal_handler(signal.SIGQUIT, self._abandon)
            self._loop.add_signal_handler(signal.SIGUSR1, self._retire)

    @property
    def stopped_start(self) -> bool:
        """Whether the server was told to stop before it had started."""
        return self._stop.is_set() and not self._has_started

    def started(self, reloader: Reloader) -> None:
        """From now on there are requests, and files that can be read again."""
        self._has_started = True
        self._reloader = reloader

    async def stopped(self) -> None:
        """Wait until the server is told to stop."""
        await self._stop.wait()

    def _end(self) -> None:
        if not self._has_started or (self._alone and self._stop.is_set()):
            self._abandon()
        self._stop.set()

    def _retire(self) -> None:
        self.is_retired = True
        self._end()

    def _abandon(self) -> None:
        self._server.cancel("told to stop at once")

    def _reload(self) -> None:
        if self._reloader is not None:
            task = self._loop.create_task(self._reloader.look(everything=True))
            self._reloads.add(task)
            task.add_done_callback(self._reloads.discard)
