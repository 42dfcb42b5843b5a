"""The unit for systemd is valid, locked down, and lets the server do what it does."""

from __future__ import annotations

import http.client
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from packregistry import config
from packregistry.config import Config
from tests.factories import make_pack
from tests.process import DEADLINE, environment, until_listening

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
UNIT = (DEPLOY / "systemd" / "packregistry.service").read_text()
VARIABLES = (DEPLOY / "systemd" / "packregistry.env").read_text()
SYSUSERS = (DEPLOY / "systemd" / "packregistry.sysusers").read_text()
PROGRAM = "/opt/packregistry/bin/packregistry"
STATE = "/var/lib/packregistry"
# Tenths, of what `systemd-analyze security` calls exposure: 12 is what there is, 20 what it calls OK.
EXPOSURE = 12

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


def values(key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", UNIT, re.MULTILINE)


def settings(*, all_examples: bool) -> Config:
    """What a server of this unit is told; with `all_examples` also by the lines that are left out as they are."""
    text = VARIABLES.replace("#REGISTRY_", "REGISTRY_") if all_examples else VARIABLES
    of_unit = dict(item.split("=", 1) for item in values("Environment")[0].replace("%S", "/var/lib").split())
    of_file = dict(line.split("=", 1) for line in text.splitlines() if not line.startswith("#"))
    found = config.load(DEPLOY / "config.yml", {**of_unit, **of_file}, {})
    assert found.warnings == ()
    return found.config


@pytest.mark.parametrize("all_examples", [False, True], ids=["as it is", "with what is left out"])
def test_every_variable_is_an_option(all_examples: bool) -> None:
    found = settings(all_examples=all_examples)
    assert found.storage.filesystem.rootdirectory == Path(STATE)
    assert found.auth.mode == "htpasswd"
    assert found.auth.htpasswd.path == Path("/etc/spectro/auth/htpasswd-basic")
    assert (found.http.tls.certificate is not None) is all_examples


def test_the_server_writes_to_its_state_alone() -> None:
    assert values("StateDirectory") == [Path(STATE).name]
    assert values("ProtectSystem") == ["strict"]
    assert "ReadWritePaths" not in UNIT


def test_the_user_is_the_one_that_sysusers_makes() -> None:
    [line] = [line for line in SYSUSERS.splitlines() if not line.startswith("#")]
    assert re.fullmatch(rf'u packregistry - "[^"]+" {STATE}', line)
    assert values("User") == values("Group") == ["packregistry"]


def test_the_program_is_started_stopped_and_reloaded_as_it_is_made_to() -> None:
    assert values("ExecStart") == [f"{PROGRAM} serve /etc/spectro/config.yml"]
    assert values("ExecReload") == ["/bin/kill -HUP $MAINPID"]
    assert values("Type") == ["exec"]
    assert (values("Restart"), values("RestartPreventExitStatus")) == (["on-failure"], ["2"])
    assert values("EnvironmentFile") == ["/etc/spectro/packregistry.env"]


def test_requests_have_their_time_to_end_before_the_server_is_killed() -> None:
    assert values("KillMode") == ["mixed"]
    [limit] = values("TimeoutStopSec")
    assert int(limit.removesuffix("s")) >= settings(all_examples=False).http.draintimeout + 10


def test_there_is_a_file_for_every_connection() -> None:
    assert int(values("LimitNOFILE")[0]) > 2 * settings(all_examples=False).http.maxconnections


@needs_systemd
@pytest.mark.real
def test_systemd_finds_nothing_wrong_with_it(tmp_path: Path) -> None:
    unit = tmp_path / "packregistry.service"
    unit.write_text(UNIT.replace(PROGRAM, sys.executable))
    done = analyze("verify", "--man=no", unit)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs_systemd
@pytest.mark.real
def test_systemd_calls_it_well_protected(tmp_path: Path) -> None:
    unit = tmp_path / "packregistry.service"
    unit.write_text(UNIT)
    done = analyze("security", "--offline=true", "--no-pager", f"--threshold={EXPOSURE}", unit)
    assert done.returncode == 0, done.stdout


@needs_systemd
@needs_strace
@pytest.mark.real
@pytest.mark.process
@pytest.mark.thorough
@pytest.mark.parametrize("workers", [1, 2])
def test_the_server_does_nothing_that_the_unit_forbids(tmp_path: Path, workers: int) -> None:
    """Start, publish, answer, reload and stop, with every system call written down."""
    calls = traced(tmp_path, workers)
    names = {name for name, _ in calls}
    assert {"accept4", "renameat", "rename", "fsync"} & names
    assert names <= allowed()
    families = {arguments.split(",")[0] for name, arguments in calls if name == "socket"}
    assert "AF_INET" in families
    assert families <= set(values("RestrictAddressFamilies")[0].split())
    code = [call for call in calls if "PROT_EXEC" in call[1] and ("PROT_WRITE" in call[1] or call[0] == "mprotect")]
    assert code == [], "MemoryDenyWriteExecute forbids it"
    writing = re.compile(r'"([^"]*)", [A-Z_|]*O_(?:WRONLY|RDWR|CREAT|TMPFILE)')
    opened = {found[1] for name, arguments in calls if name == "openat" and (found := writing.search(arguments))}
    assert any(path.startswith(f"{tmp_path}/data/") for path in opened)
    # Pipes that it writes its logs to are opened by their descriptors.
    outside = {path for path in opened if not path.startswith((f"{tmp_path}/data/", "/dev/", "/proc/self/fd/"))}
    assert outside == set(), "ProtectSystem, and the read-only root of a container, forbid it"


def analyze(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)


def allowed() -> set[str]:
    """The system calls that SystemCallFilter lets through, its sets written out."""
    groups: dict[str, set[str]] = {}
    members: set[str] = set()
    for line in analyze("syscall-filter").stdout.splitlines():
        if line.startswith("@"):
            members = groups.setdefault(line.strip(), set())
        elif (item := line.strip()) and not item.startswith("#"):
            members.add(item)

    def expanded(item: str) -> set[str]:
        return set().union(*map(expanded, groups[item])) if item.startswith("@") else {item}

    first, second = values("SystemCallFilter")
    assert second.startswith("~")
    denied = set().union(*map(expanded, second[1:].split()))
    return set().union(*map(expanded, first.split())) - denied


def traced(directory: Path, workers: int) -> list[tuple[str, str]]:
    """Name and arguments of all system calls of a server, from its start to its end."""
    make_pack(directory / "packs", "hello")
    trace = directory / "trace"
    command = [*("strace", "-D", "-f", "-qq", "-o", str(trace)), sys.executable, "-m", "packregistry", "serve"]
    # Measuring coverage writes files of its own.
    env = {key: value for key, value in environment().items() if not key.startswith("COVERAGE")}
    process = subprocess.Popen(
        [*command, "--addr", "127.0.0.1:0", "--data", "data", "--packs", "packs"],
        cwd=directory,
        env={**env, "PYTHONDONTWRITEBYTECODE": "1", "REGISTRY_HTTP_WORKERS": str(workers)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        url = re.search(r" at http://(\S+)", until_listening(process))
        assert url
        for path in ("/v1/_catalog", "/health"):
            connection = http.client.HTTPConnection(urlsplit(f"//{url[1]}").netloc, timeout=DEADLINE)
            connection.request("GET", path)
            assert connection.getresponse().status == 200
            connection.close()
        if workers == 1:  # several are replaced by others, whose start is in the trace already
            process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        # The tracer has the same output, so this waits for its last line, too.
        process.communicate(timeout=DEADLINE)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    assert process.returncode == 0
    return re.findall(r"^\d+ +(\w+)\((.*)", trace.read_text(), re.MULTILINE)
