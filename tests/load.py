"""Clients that ask a server all the time, each in a thread: on connections that they keep, and the last on new ones."""

from __future__ import annotations

import contextlib
import http.client
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.process import DEADLINE


@dataclass
class Load:
    """What became of the requests: `failures` are those that got no answer, or another than 200."""

    url: str
    path: str = "/v1/_catalog"
    clients: int = 8
    context: ssl.SSLContext | None = None
    failures: list[str] = field(default_factory=list)
    answered: int = 0
    _ended: threading.Event = field(default_factory=threading.Event)
    _moved: threading.Condition = field(default_factory=threading.Condition)

    @contextlib.contextmanager
    def running(self) -> Iterator[Load]:
        """Ask until the context ends."""
        keeping = [number < self.clients - 1 for number in range(self.clients)]
        threads = [threading.Thread(target=self._ask, args=(keeps,)) for keeps in keeping]
        for thread in threads:
            thread.start()
        try:
            self.go_on()
            yield self
        finally:
            self._ended.set()
            for thread in threads:
                thread.join()

    def go_on(self, answers: int = 100) -> None:
        """Return when so many more requests were answered; fails when that does not happen."""
        with self._moved:
            goal = self.answered + answers
            assert self._moved.wait_for(lambda: self.answered >= goal, DEADLINE), self.failures[:3]

    def _connect(self) -> http.client.HTTPConnection:
        place = urlsplit(self.url).netloc
        if self.context is not None:
            return http.client.HTTPSConnection(place, timeout=DEADLINE, context=self.context)
        return http.client.HTTPConnection(place, timeout=DEADLINE)

    def _ask(self, keeps: bool) -> None:
        connection = self._connect()
        while not self._ended.is_set():
            try:
                connection.request("GET", self.path)
                response = connection.getresponse()
                response.read()
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
                continue
            if response.status != 200:
                self.failures.append(str(response.status))
            with self._moved:
                self.answered += 1
                self._moved.notify_all()
            if not keeps:
                connection.close()
        connection.close()
