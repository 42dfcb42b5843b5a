"""Several server processes that share an address: what they have in common, and how they come and go."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import select
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests import certificates
from tests.factories import make_pack, tarball
from tests.load import Load
from tests.process import DEADLINE, Server, run, serving
from tests.web import basic, users_file

pytestmark = pytest.mark.process

COUNT = 2
ROOT = Path(__file__).resolve().parents[1]


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def workers(server: Server) -> set[int]:
    return set(children(server.process.pid))


def soon(condition: Callable[[], object]) -> bool:
    """Whether the condition comes to hold."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def is_running(pid: int) -> bool:
    """Whether there is such a process that has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in {"Z", "X"}
    except (FileNotFoundError, ProcessLookupError):
        return False


def until_said(server: Server, text: str) -> str:
    """What the server logs, up to the end of the line that has `text`."""
    assert server.process.stderr is not None
    said = b""
    # A byte at a time: what is read ahead would be missing later.
    pipe = server.process.stderr.fileno()
    while text.encode() not in said or not said.endswith(b"\n"):
        assert select.select([pipe], [], [], DEADLINE)[0], f"{text!r} is not said: {said.decode()}"
        byte = os.read(pipe, 1)
        assert byte, said.decode()
        said += byte
    return said.decode()


def configured(directory: Path, more: str = "", **http: object) -> Path:
    """A configuration file; `more` is appended to it."""
    settings = {"addr": "127.0.0.1:0", "workers": COUNT, **http}
    lines = "".join(f"  {key}: {value}\n" for key, value in settings.items())
    path = directory / "config.yml"
    path.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {directory}/data}}}}\n"
        f"packs: {{directories: [{directory}/packs], settle: 0s}}\nhttp:\n{lines}{more}"
    )
    return path


@contextmanager
def with_workers(directory: Path, more: str = "", **http: object) -> Iterator[Server]:
    """A server with workers; it serves one pack, and logs to the file `log` in the directory."""
    make_pack(directory / "packs", "hello")
    config = configured(directory, more, **http)
    with serving(str(config), "--addr", "127.0.0.1:0", cwd=directory) as server:
        until_said(server, f"{COUNT} workers are ready")
        yield server


@contextmanager
def half_read(server: Server) -> Iterator[http.client.HTTPResponse]:
    """A download that is under way as long as nobody reads it; there has to be a pack `large`."""
    connection = http.client.HTTPConnection(*server.address, timeout=DEADLINE)
    try:
        connection.request("GET", "/api/v1/packs/large/versions/1.0.0/archive")
        with connection.getresponse() as response:
            yield response
    finally:
        connection.close()


def header(server: Server, name: str) -> str | None:
    return server.get("/health").headers.get(name)


def test_they_share_the_address_and_the_packs_and_one_of_them_greets(tmp_path: Path) -> None:
    with with_workers(tmp_path) as server:
        assert server.output.count("Ctrl-C stops the server") == 1
        answers = {server.get("/v1/_catalog").body for _ in range(20)}
        assert answers == {b'{"repositories":["hello"]}'}
        code, output, errors = server.stop()
    assert code == 0
    assert "Ctrl-C stops the server" not in output
    assert errors.count("server stopped") == COUNT
    assert errors.count("server stopping") == COUNT
    assert "Traceback" not in errors


@pytest.mark.thorough
def test_what_one_of_them_takes_all_serve_at_once(tmp_path: Path) -> None:
    with with_workers(tmp_path, "auth: none\n") as server:
        for version in ("1.1.0", "1.2.0", "1.3.0"):
            body = tarball(name="pushed", version=version)
            assert server.get("/api/v1/packs", method="POST", body=body).status == 201
            found = [server.get("/v1/pushed/tags/list").json()["tags"] for _ in range(10)]
            assert all(version in tags for tags in found)


@pytest.mark.thorough
def test_metrics_are_of_all_of_them_whoever_is_asked(tmp_path: Path) -> None:
    users_file(tmp_path / "users", {"admin": "a password"})
    users = f"auth: {{htpasswd: {{realm: r, path: {tmp_path}/users}}}}\n"
    debug = "{addr: '127.0.0.1:0', prometheus: {enabled: true}}"
    with with_workers(tmp_path, users, debug=debug) as server:
        url = re.search(r"curl (http://\S+/metrics)", server.output)
        assert url
        for number in range(12):
            assert server.get("/v1/", basic("admin", f"wrong {number % 3}")).status in {401, 429}

        def denied() -> float:
            with urlopen(url[1]) as answer:
                found = re.search(r'denied_total\{access="read"\} (\S+)', answer.read().decode())
            assert found
            return float(found[1])

        assert {denied() for _ in range(8)} == {12.0}


@pytest.mark.thorough
def test_one_that_is_killed_loses_its_requests_alone_and_is_replaced(tmp_path: Path) -> None:
    with with_workers(tmp_path) as server, Load(server.url).running() as load:
        before = workers(server)
        os.kill(min(before), signal.SIGKILL)
        assert soon(lambda: len(workers(server)) == COUNT and min(before) not in workers(server))
        # Each client had one request under way at most.
        assert len(load.failures) <= load.clients
        failed = len(load.failures)
        load.go_on(500)
        assert len(load.failures) == failed
        assert workers(server) & before == {max(before)}


@pytest.mark.thorough
@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "TLS"])
def test_a_new_generation_takes_over_and_no_request_fails(encrypted: bool, tmp_path: Path) -> None:
    """It has the configuration as it is then."""
    tls = ""
    if encrypted:
        pair = certificates.server("rolling")
        tls = f"  tls: {{certificate: {pair.certificate}, key: {pair.key}}}\n"
    context = certificates.trusting() if encrypted else None
    with (
        with_workers(tmp_path, tls) as server,
        Load(server.url, context=context).running() as load,
        Load(server.url, "/readyz", clients=2, context=context).running() as probes,
    ):
        for turn in range(3):
            before = workers(server)
            configured(tmp_path, f"{tls}  headers: {{X-Turn: ['{turn}']}}\n", workers=COUNT + turn % 2)
            server.process.send_signal(signal.SIGHUP)
            assert soon(lambda: not before & workers(server))  # noqa: B023 — it is asked at once
            load.go_on(200)
            assert len(workers(server)) == COUNT + turn % 2
            connection = load._connect()
            connection.request("GET", "/health")
            assert connection.getresponse().headers["X-Turn"] == str(turn)
            connection.close()
    assert load.failures == []
    assert probes.failures == []


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        pytest.param(lambda directory: configured(directory, "nonsense: 1\n"), "nonsense", id="the configuration"),
        pytest.param(lambda directory: (directory / "users").unlink(), "users", id="a file it names"),
    ],
)
def test_a_new_generation_that_cannot_start_changes_nothing(
    spoil: Callable[[Path], object], says: str, tmp_path: Path
) -> None:
    users_file(tmp_path / "users", {"admin": "a password"})
    users = f"auth: {{htpasswd: {{realm: r, path: {tmp_path}/users}}}}\n"
    with with_workers(tmp_path, users) as server:
        before = workers(server)
        spoil(tmp_path)
        server.process.send_signal(signal.SIGHUP)
        said = until_said(server, "the workers stay as they are")
        assert soon(lambda: workers(server) == before)
        assert server.get("/v1/", basic("admin", "a password")).status == 200
        code, _, _ = server.stop()
    assert code == 0
    assert says in said


@pytest.mark.thorough
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_download_under_way_comes_to_its_end(number: signal.Signals, tmp_path: Path) -> None:
    make_pack(tmp_path / "packs", "large", files={"charts/noise": os.urandom(8 << 20)})
    with with_workers(tmp_path) as server:
        connection = http.client.HTTPConnection(*server.address, timeout=DEADLINE)
        connection.request("GET", "/api/v1/packs/large/versions/1.0.0/archive")
        response = connection.getresponse()
        server.process.send_signal(number)
        assert soon(lambda: len(workers(server)) < COUNT)
        assert len(response.read()) == int(response.headers["Content-Length"])
        connection.close()
        assert server.process.wait(DEADLINE) == 0


@pytest.mark.thorough
def test_a_second_signal_ends_them_at_once_with_another_code(tmp_path: Path) -> None:
    make_pack(tmp_path / "packs", "large", files={"charts/noise": os.urandom(8 << 20)})
    with with_workers(tmp_path, draintimeout=f"{10 * DEADLINE}s") as server, half_read(server):
        server.process.send_signal(signal.SIGTERM)
        assert soon(lambda: len(workers(server)) < COUNT)
        code, _, errors = server.stop()
    assert code == 1
    assert "stopped before all requests had ended" in errors


_TOLD_AT_ONCE = """
import os, signal

def tell():
    try:
        with open("told", "x") as told:
            print(os.getpid(), file=told)
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGTERM)

os.register_at_fork(after_in_child=tell)
"""


def test_one_that_is_told_to_end_before_it_has_begun_ends(tmp_path: Path) -> None:
    make_pack(tmp_path / "packs", "hello")
    (tmp_path / "sitecustomize.py").write_text(_TOLD_AT_ONCE)
    with serving(str(configured(tmp_path)), cwd=tmp_path, PYTHONPATH=f"{tmp_path}:{ROOT}") as server:
        until_said(server, f"{COUNT} workers are ready")
        assert int((tmp_path / "told").read_text()) not in workers(server)
        assert server.stop()[0] == 0


def test_what_none_of_them_can_start_with_is_said_once(tmp_path: Path) -> None:
    make_pack(tmp_path / "packs", "hello")
    config = configured(tmp_path, f"auth: {{htpasswd: {{realm: r, path: {tmp_path}/nobody}}}}\n")
    done = run("serve", str(config), cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("no such file") + done.stderr.count("No such file") == 1, done.stderr
    assert "packregistry user add" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.thorough
def test_they_end_when_whoever_keeps_them_is_gone(tmp_path: Path) -> None:
    with with_workers(tmp_path) as server:
        before = workers(server)
        server.process.kill()
        assert soon(lambda: not any(map(is_running, before)))


@pytest.mark.thorough
def test_in_memory_they_share_a_directory_that_goes_with_them(tmp_path: Path) -> None:
    make_pack(tmp_path / "packs", "hello")
    (tmp_path / "tmp").mkdir()
    arguments = ("--workers", "2", "--packs", str(tmp_path / "packs"))
    with serving(*arguments, cwd=tmp_path, REGISTRY_STORAGE="inmemory", TMPDIR=str(tmp_path / "tmp")) as server:
        assert len(list((tmp_path / "tmp").glob("packregistry-*"))) == 1
        body = tarball(name="pushed", version="1.0.0")
        assert server.get("/api/v1/packs", method="POST", body=body).status == 201
        assert {server.get("/v1/pushed/tags/list").status for _ in range(10)} == {200}
        assert server.stop()[0] == 0
    assert not list((tmp_path / "tmp").glob("packregistry-*"))


@pytest.mark.thorough
def test_another_one_looks_after_the_directories_when_the_first_is_gone(tmp_path: Path) -> None:
    with with_workers(tmp_path) as server:
        for number in range(2):
            for pid in sorted(workers(server))[:1]:
                os.kill(pid, signal.SIGKILL)
            assert soon(lambda: len(workers(server)) == COUNT)
            make_pack(tmp_path / "packs", f"later{number}")
            assert soon(lambda: server.get(f"/v1/later{number}/tags/list").status == 200)  # noqa: B023 — as above


@pytest.mark.thorough
def test_a_first_directory_that_a_reload_brings_is_served(tmp_path: Path) -> None:
    """Nobody has looked at any before, and whoever could is one of the old workers."""
    make_pack(tmp_path / "packs", "hello")
    config = configured(tmp_path)
    complete = config.read_text()
    config.write_text(re.sub(r"packs: .*", "packs: {directories: []}", complete))
    with serving(str(config), cwd=tmp_path) as server:
        until_said(server, f"{COUNT} workers are ready")
        config.write_text(complete)
        server.process.send_signal(signal.SIGHUP)
        until_said(server, "new workers are ready")
        assert soon(lambda: server.get("/v1/hello/tags/list").status == 200)


@pytest.mark.thorough
def test_directories_of_a_reload_do_not_wait_for_the_last_request_of_before(tmp_path: Path) -> None:
    make_pack(tmp_path / "packs", "large", files={"charts/noise": os.urandom(8 << 20)})
    make_pack(tmp_path / "more", "later")
    with with_workers(tmp_path, draintimeout=f"{10 * DEADLINE}s") as server, half_read(server):
        config = tmp_path / "config.yml"
        config.write_text(config.read_text().replace(f"[{tmp_path}/packs]", f"[{tmp_path}/packs, {tmp_path}/more]"))
        server.process.send_signal(signal.SIGHUP)
        assert soon(lambda: server.get("/v1/later/tags/list").status == 200)


@pytest.mark.thorough
def test_signals_are_heard_while_a_new_generation_does_not_get_ready(tmp_path: Path) -> None:
    """It waits for a users file that is a pipe, to which nobody writes."""
    path = users_file(tmp_path / "users", {"admin": "a password"})
    with with_workers(tmp_path, f"auth: {{htpasswd: {{realm: r, path: {path}}}}}\n") as server:
        before = workers(server)
        path.unlink()
        os.mkfifo(path)
        server.process.send_signal(signal.SIGHUP)
        until_said(server, "replacing")
        assert soon(lambda: len(workers(server)) == 2 * COUNT)
        # Meanwhile the old ones are looked after.
        os.kill(min(before), signal.SIGKILL)
        assert soon(lambda: min(before) not in workers(server) and len(workers(server)) == 2 * COUNT)
        assert server.stop()[0] == 0


@pytest.mark.thorough
def test_new_workers_that_die_are_replaced_although_old_ones_are_still_ending(tmp_path: Path) -> None:
    make_pack(tmp_path / "packs", "large", files={"charts/noise": os.urandom(8 << 20)})
    with with_workers(tmp_path, draintimeout=f"{10 * DEADLINE}s") as server, contextlib.ExitStack() as stack:
        old = workers(server)
        # Enough for each of the old workers to have one.
        for _ in range(8 * COUNT):
            stack.enter_context(half_read(server))
        server.process.send_signal(signal.SIGHUP)
        until_said(server, "new workers are ready")
        for pid in workers(server) - old:
            os.kill(pid, signal.SIGKILL)
        assert soon(lambda: server.get("/v1/_catalog").status == 200)
        assert old & workers(server)


@pytest.mark.thorough
def test_a_refused_reload_leaves_the_log_as_it_is(tmp_path: Path) -> None:
    path = users_file(tmp_path / "users", {"admin": "a password"})
    users = f"auth: {{htpasswd: {{realm: r, path: {path}}}}}\n"
    with with_workers(tmp_path, users) as server:
        path.unlink()
        configured(tmp_path, f"{users}log: {{level: error, formatter: json}}\n")
        server.process.send_signal(signal.SIGHUP)
        until_said(server, "the workers stay as they are")
        _, _, errors = server.stop()
    # Neither in JSON nor of errors alone; one that has just been ended may still count.
    assert re.search(r"INFO supervisor stopping \d workers", errors)
