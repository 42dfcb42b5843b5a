"""The benchmarks: what they make of what was measured, and that they run."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from benchmarks import content, figures, machine, processes, report, run, servers, stage, wrk
from benchmarks.figures import Spread
from benchmarks.processes import ProgramError
from benchmarks.report import Outcome, Target
from packregistry import inspection
from packregistry.config import Limits
from packregistry.model import PackRecord
from packregistry.pack import METADATA_FILES, lint

FIGURES = (
    'figures {"requests": 3000, "bytes": 600000, "microseconds": 2000000, "p50": 1500, "p99": 4200, '
    '"longest": 9000, "status": 0, "broken": 0}'
)
PEERS = ("docker-registry", "nginx", "wrk", "openssl")


class TestFigures:
    @pytest.mark.parametrize(
        ("percent", "value"),
        [
            pytest.param(0, 1.0, id="the-least"),
            pytest.param(25, 1.75, id="between-two"),
            pytest.param(50, 2.5, id="the-middle-of-an-even-count"),
            pytest.param(100, 4.0, id="the-greatest"),
        ],
    )
    def test_a_percentile_does_not_depend_on_the_order(self, percent: float, value: float) -> None:
        assert figures.percentile([4, 1, 3, 2], percent) == value

    def test_a_spread_is_of_the_quartiles(self) -> None:
        assert Spread.of([5, 1, 4, 2, 3]) == Spread(3, 2, 4, 5)

    def test_a_spread_of_few_is_from_the_least_to_the_greatest(self) -> None:
        assert Spread.of([9, 1, 2]) == Spread(2, 1, 9, 3)

    def test_ratios_are_taken_round_by_round(self) -> None:
        """A round in which the machine was half as fast changes nothing."""
        assert figures.ratios([100, 50, 100], [10, 5, 10]) == Spread(10, 10, 10, 3)

    @pytest.mark.parametrize(
        ("ours", "theirs"),
        [
            pytest.param([], [], id="nothing"),
            pytest.param([1.0], [0.0], id="zero"),
            pytest.param([1.0, 2.0], [1.0], id="another-number-of-rounds"),
        ],
    )
    def test_what_cannot_be_compared_is_refused(self, ours: list[float], theirs: list[float]) -> None:
        with pytest.raises(ValueError, match=r"nothing was measured|measured 0|longer|shorter"):
            figures.ratios(ours, theirs)


class TestTarget:
    @pytest.mark.parametrize(
        ("target", "met", "missed", "scaled"),
        [
            pytest.param(Target(10, "x nginx"), 10, 9.9, 5, id="at-least"),
            pytest.param(Target(20, "ms", "at most"), 20, 20.1, 40, id="at-most"),
            pytest.param(Target(0.1, "x", "within"), 1.09, 1.11, 1.19, id="above"),
            pytest.param(Target(0.1, "x", "within"), 0.91, 0.89, 0.81, id="below"),
        ],
    )
    def test_a_scale_asks_for_less(self, target: Target, met: float, missed: float, scaled: float) -> None:
        assert target.met(met)
        assert not target.met(missed)
        assert target.met(scaled, 0.5)
        assert not target.met(scaled, 0.7)

    @pytest.mark.parametrize(
        ("target", "text"),
        [
            pytest.param(Target(0.95, "x nginx"), "≥ 0.95 x nginx", id="at-least"),
            pytest.param(Target(150, "MB", "at most"), "≤ 150 MB", id="at-most"),
            pytest.param(Target(0.1, "x idle", "within"), "1 ± 10% x idle", id="within"),
        ],
    )
    def test_it_reads_like_the_table(self, target: Target, text: str) -> None:
        assert str(target) == text


class TestReport:
    MET = Outcome("a", "manifest GET", Target(10, "x peer"), Spread(12, 11, 13, 5), {"us": Spread(1200, 1, 2, 5)}, "/s")

    def test_a_row_that_was_not_measured_has_not_passed(self) -> None:
        missing = Outcome("a", "manifest GET", Target(10, "x peer"), reason="peer is not installed")
        assert missing.verdict() == "not measured"
        assert "not measured: peer is not installed" in report.table([missing])

    def test_a_row_that_went_wrong_has_failed(self) -> None:
        assert Outcome("a", "a", None, reason="they differ", broken=True).verdict(0.01) == "failed"

    def test_the_table_has_target_median_spread_and_verdict(self) -> None:
        line = report.table([self.MET], markdown=True).splitlines()[2]
        cells = [cell.strip() for cell in line.strip("| ").split("|")]
        assert cells == ["manifest GET", "≥ 10 x peer", "12.0", "11.0 to 13.0", "", "met", "us 1,200 /s"]

    def test_markdown_has_a_rule_and_cells(self) -> None:
        head, rule, line = report.table([self.MET], markdown=True).splitlines()
        assert head.count("|") == rule.count("|") == line.count("|")
        assert set(rule) <= set("|- ")

    def test_the_document_has_both_verdicts(self) -> None:
        missed = Outcome("a", "manifest GET", Target(10, "x peer"), Spread(6, 6, 6, 1))
        found = report.document([missed], {"cores": 2}, 0.5)
        assert found["machine"] == {"cores": 2}
        assert [(one["verdict"], one["verdict_scaled"]) for one in found["outcomes"]] == [("missed", "met")]
        json.dumps(found)

    @pytest.mark.parametrize(("value", "text"), [(1234.5, "1,234"), (12.34, "12.3"), (0.0512, "0.0512"), (1, "1")])
    def test_numbers_have_three_figures_that_count(self, value: float, text: str) -> None:
        assert report.shown(value) == text


class TestWrk:
    def test_rates_are_a_seconds_and_latencies_milliseconds(self) -> None:
        found = wrk.parsed(f"Running 2s test\n{FIGURES}\n")
        assert found == wrk.Load(3000, 1500.0, 300_000.0, 1.5, 4.2, 9.0, 0)

    @pytest.mark.parametrize(
        ("before", "after", "why"),
        [
            pytest.param('"status": 0', '"status": 7', "7 of 3000 requests were refused", id="refused"),
            pytest.param('"broken": 0', '"broken": 1', "1 of 3000 requests broke off", id="broken"),
            pytest.param('"requests": 3000', '"requests": 0', "no request was answered", id="too-slow"),
            pytest.param("figures", "unable", "wrk found nothing: unable", id="no-figures"),
        ],
    )
    def test_error_pages_are_not_measured(self, before: str, after: str, why: str) -> None:
        with pytest.raises(ProgramError, match=why):
            wrk.parsed(FIGURES.replace(before, after))

    def test_where_nothing_is_answered_in_time_there_is_more_of_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        given = []

        @contextmanager
        def loading(url: str, ask: wrk.Ask, directory: Path, core: int) -> Iterator[Callable[[], wrk.Load]]:
            given.append(ask.seconds)
            late = FIGURES.replace('"requests": 3000', '"requests": 0') if len(given) == 1 else FIGURES
            yield lambda: wrk.parsed(late)

        monkeypatch.setattr(wrk, "loading", loading)
        assert wrk.measured("http://127.0.0.1:1", wrk.Ask(["/"], {}, 1, 2), tmp_path, 0).requests == 3000
        assert given == [2, 20]

    def test_refusals_are_what_guesses_are_answered_with(self) -> None:
        assert wrk.parsed(FIGURES.replace('"status": 0', '"status": 7'), refusals_wanted=True).refused == 7

    def test_the_script_asks_for_the_paths_with_the_headers(self) -> None:
        script = wrk.Ask(["/a", "/b"], {"Authorization": "Basic eA=="}, 4, 1).script()
        assert 'local paths = {"/a", "/b"}' in script
        assert '["Authorization"] = "Basic eA=="' in script

    def test_nothing_gets_out_of_a_lua_string(self) -> None:
        with pytest.raises(ValueError, match="cannot be asked for"):
            wrk.Ask(['/a" .. os.exit() .. "'], {}, 4, 1).script()


class TestContent:
    def test_packs_are_the_same_each_time(self) -> None:
        assert content.make("hello", "1.0.0", 20_000, 3) == content.make("hello", "1.0.0", 20_000, 3)
        assert content.make("hello", "1.0.0", 20_000, 3).digest != content.make("hello", "1.0.0", 20_000, 4).digest

    @pytest.mark.parametrize("size", [20_000, 100_000])
    def test_an_archive_has_about_the_size_that_was_asked_for(self, size: int) -> None:
        assert len(content.make("hello", "1.0.0", size).archive) == pytest.approx(size, rel=0.15)

    def test_packs_have_no_problems(self) -> None:
        files = content.pack_files("hello", "1.0.0", 20_000)
        reading = lint(content.metadata("hello", "1.0.0"), {path: len(data) for path, data in files.items()})
        assert [problem for problem in reading.problems if problem.severity == "error"] == []

    def test_a_large_archive_in_two_parts_is_one(self, tmp_path: Path) -> None:
        path = tmp_path / "archive"
        path.write_bytes(b"".join(content.large_archive("hello", 2 * 1024 * 1024)))
        with path.open("rb") as file:
            found = inspection.inspect(file, path.stat().st_size, Limits(), METADATA_FILES)
        assert found.problems == ()
        assert {member.path: member.size for member in found.members}["z/noise.bin"] == 2 * 1024 * 1024

    def test_records_are_read_back_and_their_manifests_are_there(self, tmp_path: Path) -> None:
        names = content.records(tmp_path, 2, 3)
        for name in names:
            record = PackRecord.decode((tmp_path / "packs" / f"{name}.json").read_bytes())
            assert [*record.releases] == ["1.0.0", "1.1.0", "1.2.0"]
            for release in record.releases.values():
                stored = (tmp_path / "blobs" / "sha256" / release.manifest.digest.hex).read_bytes()
                assert content.digest(stored) == release.manifest.digest

    def test_packs_that_compress_have_about_their_size(self, tmp_path: Path) -> None:
        assert content.compressible(tmp_path, 2, 100_000) == pytest.approx(200_000, rel=0.1)


class TestServers:
    def test_settings_are_merged_section_by_section(self) -> None:
        base = {"http": {"addr": "a", "debug": {"addr": "b"}}, "auth": "none"}
        more = {"http": {"debug": {"addr": "c"}}, "auth": {"htpasswd": {"path": "d"}}}
        assert servers.merged(base, more) == {
            "http": {"addr": "a", "debug": {"addr": "c"}},
            "auth": {"htpasswd": {"path": "d"}},
        }
        assert base["http"] == {"addr": "a", "debug": {"addr": "b"}}

    def test_a_program_that_is_missing_says_how_to_get_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
        with pytest.raises(servers.MissingError, match="nginx is not installed: apt-get install nginx-light"):
            servers.found("nginx", "nginx-light")

    def test_docker_registry_finds_blobs_and_tags_where_it_keeps_them(self, tmp_path: Path) -> None:
        data = servers.DistributionData(tmp_path)
        data.blob("hello", b"blob")
        data.manifest("hello", ["1.0.0"], b"manifest")
        root = tmp_path / "docker/registry/v2"
        named, blob = content.digest(b"manifest"), content.digest(b"blob").removeprefix("sha256:")
        assert (root / "blobs/sha256" / blob[:2] / blob / "data").read_bytes() == b"blob"
        assert (root / "repositories/hello/_layers/sha256" / blob / "link").read_text() == f"sha256:{blob}"
        assert (root / "repositories/hello/_manifests/tags/1.0.0/current/link").read_text() == named


class TestProcesses:
    def test_a_process_and_its_children_end_with_the_context(self, tmp_path: Path) -> None:
        script = (
            "import subprocess, sys, time\n"
            "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(100)'])\n"
            "print('child', child.pid, '.', flush=True)\n"
            "time.sleep(100)\n"
        )
        log = tmp_path / "log"
        with processes.running([sys.executable, "-c", script], log, [machine.cores()[0]]) as process:
            child = int(processes.said(log, process, r"child (\d+) "))
            assert processes.children(process.pid) == [child]
            assert processes.resident(process.pid) > 1_000_000
            assert processes.worked([process.pid]) >= 0
        assert process.returncode is not None
        deadline = time.monotonic() + 10
        while _lives(child) and time.monotonic() < deadline:
            pass
        assert not _lives(child)

    def test_the_last_words_of_a_process_that_does_not_start_are_told(self, tmp_path: Path) -> None:
        log = tmp_path / "log"
        command = [sys.executable, "-c", "raise SystemExit('no such file')"]
        with (
            processes.running(command, log, [machine.cores()[0]]) as process,
            pytest.raises(ProgramError, match="no such file"),
        ):
            processes.said(log, process, r"listening at (\S+)")

    def test_a_process_that_is_gone_has_no_memory(self) -> None:
        with pytest.raises(ProgramError, match="is gone"):
            processes.resident(2**22 + 1)


def _lives(pid: int) -> bool:
    """Whether a process is there, and not only its remains that nobody has asked for yet."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


class TestMachine:
    def test_the_processor_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n")
        assert machine.cpu_model(tmp_path / "cpuinfo") == "Some CPU @ 2 GHz"

    def test_a_file_system_is_that_of_the_nearest_mount(self, tmp_path: Path) -> None:
        mounts = tmp_path / "mounts"
        mounts.write_text(f"disk / ext4 rw 0 0\nnone {tmp_path} tmpfs rw 0 0\nnone {tmp_path}-not xfs rw 0 0\n")
        assert machine.filesystem(tmp_path / "below", mounts) == "tmpfs"
        assert machine.filesystem(Path("/"), mounts) == "ext4"

    def test_a_program_that_is_missing_has_no_version(self) -> None:
        assert machine.program_version(["no-such-program-at-all"]) == "not installed"


class TestRun:
    @pytest.mark.parametrize(
        "arguments",
        [
            pytest.param(["--only", "nothing"], id="no-such-row"),
            pytest.param(["--rounds", "0"], id="no-rounds"),
            pytest.param(["--bound-scale", "1.5"], id="more-than-the-targets"),
        ],
    )
    def test_nonsense_is_refused(self, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as caught:
            run.parsed(arguments)
        assert caught.value.code == 2
        assert arguments[0] in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("raised", "verdict"),
        [
            pytest.param(servers.MissingError("wrk is not installed"), "not measured", id="missing"),
            pytest.param(stage.DifferentError("they differ"), "failed", id="different"),
            pytest.param(ExceptionGroup("many", [ProgramError("they differ")]), "failed", id="in-a-task"),
            pytest.param(TimeoutError("they differ"), "failed", id="too-long"),
        ],
    )
    def test_a_row_that_comes_to_nothing_is_in_the_table(
        self, raised: Exception, verdict: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        def fails(_stage: stage.Stage) -> list[Outcome]:
            raise raised

        monkeypatch.setattr(run, "ROWS", {"manifest": fails})
        [outcome] = run.one_row("manifest", _stage(tmp_path))
        assert outcome.verdict() == verdict
        assert outcome.reason in {"wrk is not installed", "they differ"}

    def test_rounds_go_back_and_forth(self, tmp_path: Path) -> None:
        """What slows down over time slows none more than the others."""
        order: list[str] = []

        def work(name: str) -> float:
            order.append(name)
            return float(len(order))

        found = _stage(tmp_path).rounds({"a": lambda: work("a"), "b": lambda: work("b")}, 2)
        assert order == ["a", "b", "b", "a"]
        assert found == {"a": [1, 4], "b": [2, 3]}

    async def test_competitors_that_answer_differently_are_not_compared(self, tmp_path: Path) -> None:
        async def answering(body: bytes) -> tuple[asyncio.Server, stage.Competitor]:
            async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(
                    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
                )
                await writer.drain()
                writer.close()

            server = await asyncio.start_server(answer, "127.0.0.1", 0)
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            return server, stage.Competitor(body.decode(), servers.Server("", url, 0, tmp_path), ["/"])

        first, one = await answering(b"one")
        second, same = await answering(b"one")
        third, other = await answering(b"two")
        async with first, second, third:
            place = _stage(tmp_path)
            await asyncio.to_thread(place.check, [one, same])
            with pytest.raises(stage.DifferentError, match="two and one answer differently"):
                await asyncio.to_thread(place.check, [one, other])


def _stage(directory: Path) -> stage.Stage:
    return stage.Stage(stage.Options(quick=True, rounds=1, seconds=1), directory, ExitStack(), 0, 0)


@pytest.mark.real
@pytest.mark.thorough
def test_the_quick_benchmark_runs_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """Of its figures only gross ones are looked at, as other tests run beside it."""
    if missing := [program for program in PEERS if shutil.which(program, path="/usr/bin:/usr/sbin") is None]:
        pytest.skip(f"{', '.join(missing)}: not installed")
    script = run.__file__
    rows = ("manifest", "archive-12m", "push-100k", "restart")
    command = [sys.executable, script, "--quick", "--bound-scale", "0.05", "--json", str(tmp_path / "found")]
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    done = subprocess.run(
        [*command, "--only", *rows],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env={**processes.clean_environment(), "TMPDIR": str(scratch)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "found").read_text())
    assert {outcome["row"] for outcome in found["outcomes"]} == set(rows)
    assert {outcome["verdict_scaled"] for outcome in found["outcomes"]} == {"met"}
    assert found["machine"]["versions"]["nginx"][0].isdigit()
    assert list(scratch.iterdir()) == []


@pytest.mark.real
@pytest.mark.thorough
def test_stopping_it_twice_leaves_nothing_behind(tmp_path: Path) -> None:
    """The second signal comes while servers are ended and directories removed."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    env = {**processes.clean_environment(), "TMPDIR": str(scratch)}
    command = [sys.executable, run.__file__, "--only", "restart", "--rounds", "50"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        # Its first line after the row's name: a server has been started and measured.
        assert process.stderr.readline() == "restart\n"
        assert " s, " in process.stderr.readline()
        process.terminate()
        process.terminate()
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "stopped before its end" in output
    assert list(scratch.iterdir()) == []
