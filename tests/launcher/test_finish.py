"""The end of a run: the report comes first; no fault of a file or of the gathering changes the exit code."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any, Callable

import pytest

from launcher.diagnosis.failure import Outcome
from launcher.engines import finish as finishing
from launcher.engines.finish import Interruption, finish
from launcher.page import run_page
from launcher.plan.model import Plan
from launcher.run_dir import RunDir
from launcher.runs.gather import Gathered
from launcher.ui.console import Console
from tests.launching import latest, launch

REPORT = "rank 1 failed first: exit code 4\n  its last lines:"


class End:
    """A run that has ended; `gather` stands for the gathering."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.run = RunDir.create(folder / "runs" / "a", [0])
        self.plan = Plan("job", "a", str(self.run.path), "host", "cpu", "{}", ())
        self._out, self._monkeypatch = io.StringIO(), monkeypatch
        self.gather: Callable[..., Gathered] = lambda *given: Gathered()

    def code(self, code: int = 4) -> int:
        outcome = Outcome(code, (), 1 if code else None, REPORT if code else "", 1, 0.5)
        self._monkeypatch.setattr(finishing, "gather", lambda *given, **named: self.gather(*given))
        with Interruption() as interruption:
            return finish(self.plan, self.run, Console(self._out), outcome, 1.0, interruption)

    @property
    def output(self) -> str:
        return self._out.getvalue()

    @property
    def result(self) -> Any:
        return json.loads(self.run.result.read_text())


@pytest.fixture
def end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> End:
    return End(tmp_path, monkeypatch)


def test_the_report_is_told_before_the_gathering_begins(end: End) -> None:
    said: list[str] = []

    def gather(*given: object) -> Gathered:
        said.append(end.output)
        return Gathered()

    end.gather = gather
    assert end.code() == 4
    assert said == [REPORT + "\n"]
    assert end.run.report.read_text() == end.output and end.output.startswith(REPORT + "\nrun folder ")
    assert end.result["exit_code"] == 4 and end.result["culprit"] == 1


@pytest.mark.parametrize(("code", "expected"), [(4, 4), (0, 1)])
def test_a_bug_in_the_gathering_costs_the_gathering_alone(end: End, code: int, expected: int) -> None:
    end.gather = lambda *given: Gathered(metrics={}["f1"])
    assert end.code(code) == expected
    assert "could not gather: KeyError: 'f1' (test_finish.py:" in end.output
    assert "bug in npu-launch" in end.output and end.result["exit_code"] == expected
    assert "Traceback" in end.run.launcher_log.read_text()


def test_a_disk_error_in_the_gathering_is_no_bug(end: End) -> None:
    def gather(*given: object) -> Gathered:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/x/checkpoints")

    end.gather = gather
    assert end.code(0) == 1
    assert "could not gather: /x/checkpoints: No space left on device\n" in end.output


@pytest.mark.parametrize(("code", "expected"), [(4, 4), (0, 128 + signal.SIGTERM)])
def test_a_signal_ends_the_gathering_not_the_launcher(end: End, code: int, expected: int) -> None:
    def gather(*given: object) -> Gathered:
        os.kill(os.getpid(), signal.SIGTERM)
        return Gathered(checkpoint="unreached")

    end.gather = gather
    before = signal.getsignal(signal.SIGTERM)
    assert end.code(code) == expected
    assert "could not gather: ended by SIGTERM\n" in end.output and "unreached" not in end.output
    assert end.result["exit_code"] == expected and signal.getsignal(signal.SIGTERM) is before


def test_metrics_of_any_kind_are_shown_and_written_as_json(end: End) -> None:
    end.gather = lambda *given: Gathered(metrics={"exact": float("nan"), "f1": "abc", "note": "x" * 999})
    assert end.code(0) == 0
    assert end.result["metrics"]["exact"] is None and end.result["metrics"]["f1"] == "abc"


def moved(run: RunDir) -> None:
    run.path.rename(run.path.with_name("b"))


def replaced(run: RunDir) -> None:
    moved(run)
    run.path.mkdir()


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda run: (run.report / "x").mkdir(parents=True), "report.txt: cannot be written: Is a directory"),
        (
            lambda run: (run.result / "x").mkdir(parents=True),
            "result.json: cannot be written: Is a directory",
        ),
        (lambda run: shutil.rmtree(str(run.path)), "runs/a: moved or removed while the run went on"),
        (moved, "report.txt and result.json: cannot be written: No such file or directory"),
        (replaced, "runs/a: moved or removed while the run went on"),
    ],
)
def test_a_file_that_cannot_be_written_is_one_line(end: End, harm: Callable[..., Any], said: str) -> None:
    harm(end.run)
    assert end.code() == 4
    assert f"{said}\n" in end.output and end.output.startswith(REPORT)


def test_a_full_disk_is_named_once_for_both_files(end: End, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert end.code() == 4
    assert (
        "npu-launch: report.txt and result.json: cannot be written: No space left on device\n" in end.output
    )
    assert not list(end.run.path.glob(".*"))


LEAVES_FIFOS = "mkdir plog; mkfifo error.json thread_error.json heartbeat.json plog/a.log"
REMOVES_CWD = "cd /; rm -rf $NPU_LAUNCH_RUN_DIR/../../*; rmdir $NPU_LAUNCH_CWD"
MOVES_ITSELF = "cd ..; mv 0 ../gone; ln -s ../gone 0; echo {} > 0/heartbeat.json"


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (LEAVES_FIFOS, ["ranks/0/error.json: a FIFO (expected a regular file); it is ignored", "not read: "]),
        (MOVES_ITSELF, ["ranks/0: a link (expected a folder); it is ignored"]),
        (REMOVES_CWD, ["moved or removed while the run went on"]),
        (
            "rm -r $NPU_LAUNCH_RUN_DIR/logs",
            ["rank_0.log: moved or removed", "launcher.log: moved or removed"],
        ),
    ],
)
def test_whatever_a_rank_does_to_its_folder_its_code_and_report_remain(
    tmp_path: Path, harm: str, said: list[str]
) -> None:
    (tmp_path / "cwd").mkdir()
    command = ["sh", "-c", f"cd $NPU_LAUNCH_RANK_DIR; echo boom; {harm}; exit 4"]
    done = launch(tmp_path / "cwd", "--devices", 0, "--backend", "cpu", "--", *command, timeout=30)
    assert done.returncode == 4, done.stdout + done.stderr
    assert "failed first: exit code 4" in done.stdout and "    boom" in done.stdout and done.stderr == ""
    assert [text for text in said if text not in done.stdout] == []


def test_a_second_attempt_gets_its_folder_back_and_not_the_first_ones_error(tmp_path: Path) -> None:
    first = 'echo "{\\"step\\": 7}" > heartbeat.json; mkdir -p error.json/x error.json.0/x; exit 3'
    second = "ls; exit 4"
    command = [
        "sh",
        "-c",
        f"cd $NPU_LAUNCH_RANK_DIR; if [ $NPU_LAUNCH_ATTEMPT = 0 ]; then {first}; else {second}; fi",
    ]
    words = ["--devices", 0, "--backend", "cpu", "--max-restarts", 1, "--", *command]
    done = launch(tmp_path, *words, timeout=30)
    assert done.returncode == 4 and done.stdout.count("error.json: a folder") == 1, done.stdout
    result = json.loads((latest(tmp_path) / "result.json").read_text())
    assert result["attempts"] == 2 and result["ends"][0]["step"] == 0


def test_a_restart_that_cannot_start_keeps_the_code_and_report_of_the_failure(tmp_path: Path) -> None:
    (tmp_path / "cwd").mkdir()
    command = ["sh", "-c", "rmdir $NPU_LAUNCH_CWD; echo boom; exit 4"]
    words = [
        "--devices",
        0,
        "--backend",
        "cpu",
        "--max-restarts",
        1,
        f"runs_dir={tmp_path}/runs",
        "--",
        *command,
    ]
    done = launch(tmp_path / "cwd", *words, timeout=30)
    assert done.returncode == 4 and "failed first: exit code 4" in done.stdout, done.stdout
    assert f"not started again: rank 0: {tmp_path}/cwd: No such file or directory" in done.stdout


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (OSError(errno.ENOSPC, "disk full"), "report.html: not written: disk full"),
        (KeyError("x"), "report.html: not written: KeyError: 'x'"),
    ],
)
@pytest.mark.parametrize("code", [0, 4])
def test_a_fault_of_the_page_is_one_line(
    end: End, monkeypatch: pytest.MonkeyPatch, fault: Exception, said: str, code: int
) -> None:
    def write(*given: object, **named: object) -> None:
        raise fault

    monkeypatch.setattr(run_page, "write", write)
    assert end.code(code) == code
    assert [line for line in end.output.splitlines() if said in line and line.startswith("npu-launch: ")]
    assert end.result["exit_code"] == code
