"""What programs tell of their steps by launcher.worker, and the trainer by bert.heartbeat: one contract."""

from __future__ import annotations

import importlib
import json
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from launcher.foreign import read_record
from launcher.heartbeat import read_beat
from launcher.metrics import series
from tests.launching import ROOT, latest, launch

WORKER = str(ROOT / "launcher" / "worker.py")
PROGRAM = """
import time
from launcher.worker import phase, step, timed
phase("load")
for number in range(1, 7):
    with timed("input"):
        time.sleep(0.02)
    with timed("wait"), timed("input"):  # the outer one counts
        time.sleep(0.04)
    time.sleep(0.01)
    step(number, examples=4, tokens=40, total=6, loss=number / 8 if number % 2 == 0 else None, gamma=0.5)
    if number == 3:
        with timed("save"):
            time.sleep(0.05)
phase("evaluate")
"""


def _check(folder: Path) -> None:
    beat = read_beat(folder / "heartbeat.json")
    assert (beat.step, beat.train_step, beat.phase, beat.total_steps) == (0, 6, "evaluate", 6)
    counters = beat.counters
    assert counters and counters[1:4] == (5, 20, 200)  # the first step only begins the count
    assert counters.wait_s and 0.2 <= counters.wait_s and 0.1 <= counters.input_s
    assert 0.05 <= counters.own_s and 0.05 <= counters.save_s
    rows = series.read(folder / "metrics.jsonl").rows
    assert [row.get("loss") for row in rows] == [None, 0.25, None, 0.5, None, 0.75]
    assert {row["gamma"] for row in rows} == {0.5}
    assert [row["interval_steps"] for row in rows] == [0, 1, 1, 1, 1, 1]
    assert sum(row["wait_s"] for row in rows) == pytest.approx(counters.wait_s, abs=1e-4)
    assert rows[1]["examples_per_second_per_device"] > 0


def test_a_program_under_the_launcher_tells_by_one_import(tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(PROGRAM)
    done = launch(tmp_path, "--devices", "0-1", "--backend", "cpu", "--", "python", "job.py")
    assert done.returncode == 0, done.stdout + done.stderr
    for rank in (0, 1):
        _check(latest(tmp_path) / "ranks" / str(rank))


def _run(folder: Path, program: str, *options: str, **environ: str) -> Any:
    (folder / "program.py").write_text(program)
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("NPU_LAUNCH", "PYTHON"))
    }
    return subprocess.run(
        [sys.executable, *options, WORKER, "program.py"], cwd=str(folder), env={**kept, **environ},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
    )  # fmt: skip


def test_a_python_without_the_package_finds_the_one_that_started_it(tmp_path: Path) -> None:
    extra = "import sys; print(sorted(n for n in sys.modules if n.split('.')[0] == 'launcher'))"
    done = _run(tmp_path, PROGRAM + extra, "-S", NPU_LAUNCH_RANK_DIR=str(tmp_path))  # -S: no site-packages
    assert done.stdout == "['launcher', 'launcher.worker']\n"
    _check(tmp_path)


def test_a_module_of_the_programs_own_by_that_name_stays_its_own(tmp_path: Path) -> None:
    (tmp_path / "launcher.py").write_text("mine = 1")
    done = _run(tmp_path, "import launcher; print(launcher.mine)", "-S")
    assert done.stdout == "1\n"


def test_without_a_launcher_nothing_is_written(tmp_path: Path) -> None:
    done = _run(tmp_path, PROGRAM, "-S")
    assert (done.returncode, done.stdout, os.listdir(str(tmp_path))) == (0, "", ["program.py"])


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give launcher.worker, as fresh as in a new process, and a clock that the test moves."""
    monkeypatch.setenv("NPU_LAUNCH_RANK_DIR", str(tmp_path))
    worker = importlib.import_module("launcher.worker")
    monkeypatch.setattr(worker, "RANK_DIR", str(tmp_path))
    monkeypatch.setattr(worker, "_told", worker._Told())
    monkeypatch.setattr(worker, "time", _Clock())
    return worker


class _Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1.5e9 + self.now


def _by_worker(worker: Any, wait: bool) -> None:
    for number in range(1, 4):
        with worker.timed("input"):
            worker.time.now += 0.5
        if wait:
            with worker.timed("wait"):
                worker.time.now += 0.25
        worker.time.now += 2.0
        worker.step(number, examples=8, tokens=96, total=5)
        with worker.timed("save"):
            worker.time.now += 4.0
    worker.phase("predict", 7)


def _by_trainer(worker: Any, wait: bool) -> None:
    from bert import heartbeat

    counters = heartbeat.Counters(5, wait)
    for number in range(1, 4):
        worker.time.now += 2.75 if wait else 2.5
        counters.call(1, 8, 96, 0.5, 0.25 if wait else 0.0)
        heartbeat.beat("train", number, counters)
        with counters.saving():
            worker.time.now += 4.0
    heartbeat.beat("predict", 7)


@pytest.mark.parametrize("wait", [True, False])
@pytest.mark.parametrize("tell", [_by_worker, _by_trainer])
def test_both_keep_one_contract(
    told: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tell: Any, wait: bool
) -> None:
    from bert import heartbeat

    monkeypatch.setattr(heartbeat, "time", told.time)
    monkeypatch.setattr(heartbeat, "_trained", {})
    monkeypatch.setattr(heartbeat, "_counters", [])
    tell(told, wait)
    record = {name: value.value for name, value in read_record(tmp_path / "heartbeat.json").members().items()}
    assert record == {
        "step": 7, "phase": "predict", "train_step": 3, "total_steps": 5, "time": 1.5e9 + told.time.now,
        "steps": 2, "examples": 16, "tokens": 192, "input_s": 1.0, "own_s": 4.0,
        "wait_s": 0.5 if wait else None, "save_s": 12.0,
    }  # fmt: skip


def test_a_phase_between_two_steps_is_not_a_step_s_time(told: Any, tmp_path: Path) -> None:
    for number in (1, 2):
        told.time.now += 1.0
        told.step(number)
    told.phase("evaluate")
    told.time.now += 100.0
    for number in (3, 4):
        told.step(number)
        told.time.now += 1.0
    told.step(14, loss=float("nan"))  # a program that tells each tenth step
    counters = read_beat(tmp_path / "heartbeat.json").counters
    assert counters and (counters.steps, counters.own_s) == (12, 3.0)
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["loss"] is None


def _phase(folder: Path) -> tuple[str, int]:
    beat = read_beat(folder / "heartbeat.json")
    return beat.phase, beat.step


def test_saving_is_told_while_it_lasts_and_only_between_steps(told: Any, tmp_path: Path) -> None:
    told.step(1)
    with told.timed("save"):
        assert _phase(tmp_path) == ("save", 1)
    assert _phase(tmp_path) == ("train", 1)
    with told.timed("save"):  # as a program does whose block saves now and then
        assert _phase(tmp_path) == ("train", 1)
    told.time.now += 1.0
    told.phase("evaluate")
    with told.timed("save"):
        assert _phase(tmp_path) == ("evaluate", 0)
    told.step(3)
    told.time.now += 1.0
    with told.timed("save"):
        told.phase("evaluate")
    assert _phase(tmp_path) == ("evaluate", 0)


def test_short_steps_write_seldom_and_the_last_one_at_the_end(told: Any, tmp_path: Path) -> None:
    for number in range(1, 6):
        told.step(number)
    assert read_beat(tmp_path / "heartbeat.json").train_step == 1
    told._write_last()
    assert read_beat(tmp_path / "heartbeat.json").train_step == 5


def test_the_last_step_of_a_training_is_told_at_once(told: Any, tmp_path: Path) -> None:
    """A launcher that sees the one before would think that the training stands still."""
    for number in range(1, 51):
        told.step(number, total=50)
    assert json.loads((tmp_path / "heartbeat.json").read_text())["train_step"] == 50


def test_a_disk_that_takes_nothing_and_a_wrong_word(told: Any, tmp_path: Path) -> None:
    os.mkfifo(str(tmp_path / "metrics.jsonl"))
    (tmp_path / "heartbeat.json").mkdir()
    before = time.time() - 60
    os.utime(str(tmp_path / "heartbeat.json"), (before, before))
    told.step(1, loss=1.0)
    assert (tmp_path / "heartbeat.json").stat().st_mtime > before + 30  # it shows that the rank is alive
    with pytest.raises(ValueError, match="one of input, wait, save"), told.timed("reading"):
        pass


def test_a_row_after_a_full_disk_is_a_line_of_its_own(told: Any, tmp_path: Path) -> None:
    told.step(1, loss=1.0)
    path = tmp_path / "metrics.jsonl"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 9, limits[1]))
    try:
        told.step(2, loss=2.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    told.step(3, loss=3.0)
    first, half, last = path.read_text().splitlines()
    assert (json.loads(first)["step"], half, json.loads(last)["step"]) == (1, '{"step": ', 3)


def test_blocks_of_two_threads_are_not_both_counted(told: Any, tmp_path: Path) -> None:
    told.step(1)
    with told.timed("input"):
        other = threading.Thread(target=_waits, args=(told,))
        other.start()
        other.join()
    with told.timed("wait"):  # the other thread's end has not ended this one's
        told.time.now += 0.25
    told.step(2, loss=1.0)
    (row,) = series.read(tmp_path / "metrics.jsonl").rows
    assert (row["input_s"], row["wait_s"]) == (0.5, 0.25)


def _waits(told: Any) -> None:
    with told.timed("wait"):
        told.time.now += 0.5


def test_a_forked_child_tells_nothing(told: Any, tmp_path: Path) -> None:
    pid = os.fork()
    if not pid:
        told.step(1, loss=1.0)
        told.phase("child")
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.listdir(str(tmp_path)) == []


def test_numbers_of_numpy_are_numbers(told: Any, tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    for number in numpy.arange(1, 4):
        told.step(number, examples=number, total=numpy.int64(9), loss=numpy.float32(0.5))
    told.phase("evaluate", numpy.int64(2))
    beat = read_beat(tmp_path / "heartbeat.json")
    assert (beat.step, beat.train_step, beat.total_steps) == (2, 3, 9)
    assert beat.counters and beat.counters.examples == 5
    rows = series.read(tmp_path / "metrics.jsonl").rows
    assert [row["interval_examples"] for row in rows] == [0, 2, 3]


@pytest.mark.parametrize("folder", [True, False], ids=["in a rank", "without a launcher"])
@pytest.mark.parametrize(
    "wrong",
    [
        {"step": None}, {"step": -1}, {"step": float("nan")}, {"step": 10**400}, {"examples": -3},
        {"tokens": "a"}, {"examples": 10**400}, {"loss": "low"}, {"loss": [1, 2]}, {"norm": object()},
    ],
    ids=lambda wrong: str(wrong)[:20],
)  # fmt: skip
def test_a_wrong_argument_is_an_error_wherever_and_counts_nothing(
    told: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any], folder: bool
) -> None:
    told.step(1)
    if not folder:
        monkeypatch.setattr(told, "RANK_DIR", "")
    with pytest.raises((TypeError, ValueError), match=f"{next(iter(wrong))}: .*(number|count)"):
        told.step(**{"step": 2, "examples": 5, **wrong})
    assert not any(told._told.counts.values()) and told._told.training["train_step"] == 1


def test_a_loss_that_is_no_number_is_null(told: Any, tmp_path: Path) -> None:
    told.step(1, loss=float("nan"))
    told.step(2, loss=float("inf"), norm=2)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(row["loss"], row.get("norm")) for row in rows] == [(None, None), (None, 2.0)]
