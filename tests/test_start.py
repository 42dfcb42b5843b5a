"""What has to hold before a server can start."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from packregistry.config import Address, Config
from packregistry.start import StartError, bind, url_of, workers_of


def with_workers(count: int) -> Config:
    config = Config()
    return dataclasses.replace(config, http=dataclasses.replace(config.http, workers=count))


@pytest.mark.parametrize(
    ("limit", "cpus"),
    [
        pytest.param("max 100000\n", 4, id="no limit"),
        pytest.param("200000 100000\n", 2, id="two CPUs"),
        pytest.param("150000 100000\n", 2, id="one and a half"),
        pytest.param("50000 100000\n", 1, id="half a CPU"),
        pytest.param("900000 100000\n", 4, id="more than there are"),
        pytest.param("", 4, id="an empty file"),
        pytest.param(None, 4, id="no file"),
    ],
)
def test_auto_is_one_worker_for_each_cpu_that_may_be_used(
    limit: str | None, cpus: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    if limit is not None:
        (tmp_path / "cpu.max").write_text(limit)
    assert workers_of(with_workers(0), tmp_path / "cpu.max") == cpus


def test_a_count_is_taken_at_its_word(tmp_path: Path) -> None:
    assert workers_of(with_workers(7), tmp_path / "cpu.max") == 7


def test_an_address_in_use_is_refused_with_what_to_do_about_it() -> None:
    with bind(Address("127.0.0.1", 0)) as bound:
        bound.listen()
        port = bound.getsockname()[1]
        with pytest.raises(StartError, match=rf"^cannot listen on 127.0.0.1:{port}: .*in use\nChoose .*--addr"):
            bind(Address("127.0.0.1", port))
        with pytest.raises(StartError, match=rf"^http.debug.addr: cannot listen on 127.0.0.1:{port}: [^\n]*in use$"):
            bind(Address("127.0.0.1", port), "http.debug.addr")


@pytest.mark.parametrize(
    ("address", "url"),
    [
        (Address("127.0.0.1", 0), "https://127.0.0.1:{}"),
        (Address("::1", 0), "https://[::1]:{}"),
        (Address("", 0), "https://localhost:{}"),
        (Address("0.0.0.0", 0), "https://localhost:{}"),
    ],
    ids=str,
)
def test_a_url_is_one_for_clients_on_this_machine(address: Address, url: str) -> None:
    with bind(address) as bound:
        assert url_of(bound, secure=True) == url.format(bound.getsockname()[1])
