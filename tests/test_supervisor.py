"""What the supervisor does when the system, or the configuration, does not play along."""

from __future__ import annotations

import dataclasses
import errno
import os
from collections.abc import Iterator
from typing import NoReturn

import pytest

from packregistry.config import Address, Config
from packregistry.start import bind
from packregistry.supervisor import Supervisor
from packregistry.tally import Board
from packregistry.worker import Application, Shared


def with_workers(count: int) -> Config:
    return dataclasses.replace(Config(), http=dataclasses.replace(Config().http, workers=count))


class Site:
    """A supervisor that runs nothing, and what a reload gives it."""

    def __init__(self, shared: Shared) -> None:
        self.next = with_workers(2)
        self.app = Application(with_workers(2), lambda: self.next, lambda _: None, shared)
        self.supervisor = Supervisor(self.app)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("SERVER_SOFTWARE", "")
    with bind(Address("127.0.0.1", 0)) as bound:
        yield Site(Shared(bound, None, Board(8), None))


def no_room() -> NoReturn:
    raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_where_no_process_can_be_made_the_supervisor_goes_on(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(os, "fork", no_room)
    monkeypatch.setattr(site.supervisor, "pid", os.getpid(), raising=False)
    site.supervisor.manage_workers()
    site.supervisor.reload()
    assert site.supervisor.WORKERS == {}
    said = "no worker can be started: [Errno 11] Resource temporarily unavailable"
    assert [message for message in caplog.messages if message == said] == [said] * 2
    assert "the workers stay as they are, as new ones do not get ready" in caplog.messages


def test_more_workers_than_were_made_room_for_take_a_restart(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    assert site.app.count_of(with_workers(5)) == 4
    assert caplog.messages == ["http.workers: 5 workers take a restart, and there are 4 until then"]


def test_what_was_made_for_all_generations_is_not_changed_by_a_reload(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    config = with_workers(3)
    site.next = dataclasses.replace(
        config,
        http=dataclasses.replace(config.http, addr=Address("", 1), headertimeout=7.0),
        storage=dataclasses.replace(config.storage, driver="inmemory"),
    )
    renewed = site.app.renewed()
    assert (renewed.http.addr, renewed.storage.driver) == (Config().http.addr, "filesystem")
    assert (renewed.http.workers, renewed.http.headertimeout) == (3, 7.0)
    assert caplog.messages == [f"{key} has changed, which takes a restart" for key in ("http.addr", "storage")]
