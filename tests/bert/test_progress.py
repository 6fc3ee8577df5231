"""What a person and other programs see of a training run."""

from __future__ import annotations

import json
import os
import pty
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from bert import progress
from bert.bar import Bar
from tests.bert.runs import Job, records, settings, train


class _Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1.7e9 + self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    made = _Clock()
    monkeypatch.setattr(progress, "time", made)
    return made


def _measure(clock: _Clock, steps_per_call: int) -> progress.Meter:
    """Make 120 steps of 8 examples and 0.1 s each, 20 s for the first call and 5 s for a checkpoint."""
    meter = progress.Meter()
    for call in range(120 // steps_per_call):
        seconds = 0.1 * steps_per_call + (20.0 if call == 0 else 0.0)
        clock.now += seconds
        meter.call(seconds, 8 * steps_per_call, steps_per_call)
    clock.now += 5.0
    return meter


@pytest.mark.parametrize("steps_per_call", [1, 4, 10, 40])
def test_throughput_does_not_depend_on_the_steps_of_a_call(clock: _Clock, steps_per_call: int) -> None:
    meter = _measure(clock, steps_per_call)
    assert meter.without_overhead() == pytest.approx(80.0)
    assert meter.with_overhead() == pytest.approx(960 / 37.0)
    assert meter.seconds_a_step() == pytest.approx(0.1)
    assert meter.summary(120, 2) == (
        "trained to step 120: 960 examples in 37.0 s; 25.95 examples/s with overhead, 12.97 per device;"
        " 80.00 examples/s without (first call, checkpoints), 40.00 per device"
    )


def test_a_single_call_has_no_rate_without_overhead(clock: _Clock) -> None:
    meter = _measure(clock, 120)
    assert meter.without_overhead() == meter.interval() == 0.0
    assert "without" not in meter.summary(120, 1)


def test_an_interval_counts_what_came_since_the_last(clock: _Clock) -> None:
    meter = _measure(clock, 10)
    meter.interval()
    clock.now += 2.0
    meter.call(2.0, 100, 10)
    assert meter.interval() == pytest.approx(50.0)


@pytest.mark.parametrize(
    "seconds, text", [(4.21, "4.2 s"), (185.0, "3 min 05 s"), (7619.0, "2 h 06 min"), (0, "0.0 s")]
)
def test_durations_are_said_as_people_do(seconds: float, text: str) -> None:
    assert progress.duration(seconds) == text


def test_a_line_shows_where_training_is(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    train(tmp_path, settings(num_train_steps=5, display_loss_steps=2, npu_bert_loss_scale=0))
    lines = [line for line in capfd.readouterr().out.splitlines() if line.startswith("step ")]
    assert [line.split()[1] for line in lines] == ["2/5", "4/5", "5/5"]
    pattern = (
        r"step 4/5  epoch 0\.40  loss \d+\.\d{4}  lr 0\.00\d+  scale 4\.29497e\+09  "
        r"[\d.]+ examples/s \([\d.]+ per device\)  [\d.]+ s left"
    )
    assert re.match(pattern + "$", lines[1]), lines[1]


def test_padding_rows_are_not_counted(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    from tests.bert.runs import step_batches

    def batches(start: int) -> Any:
        for batch in step_batches(start):
            batch["example_weights"][5:] = 0
            batch["global_weight"] = np.float32(5)
            yield batch

    train(tmp_path, settings(num_train_steps=4), batches=batches)
    assert "trained to step 4: 20 examples in" in capfd.readouterr().out


def test_every_rank_writes_its_metrics_and_only_the_first_speaks(tmp_path: Path) -> None:
    job = Job(tmp_path, settings(num_train_steps=3), ranks=2)
    assert job.wait() == [0, 0], job.output()
    keys = {
        "step", "epoch", "loss", "learning_rate", "gradient_norm", "loss_scale", "skipped_steps",
        "examples_per_second", "examples_per_second_per_device", "time", "own_loss",
        "interval_steps", "interval_examples", "interval_tokens", "input_s", "own_s", "wait_s", "save_s",
    }  # fmt: skip
    for rank in (0, 1):
        held = records(tmp_path, rank)
        assert sorted(held) == [1, 2, 3] and set(held[3]) == keys
        assert held[3]["examples_per_second"] == pytest.approx(2 * held[3]["examples_per_second_per_device"])
    for step in (1, 2, 3):
        shares = [records(tmp_path, rank)[step]["own_loss"] for rank in (0, 1)]
        assert sum(shares) / 2 == pytest.approx(records(tmp_path)[step]["loss"], rel=1e-6)
    assert "step 3/3" in job.output(0) and "trained to step 3: 24 examples" in job.output(0)
    assert "step" not in re.sub(r".*(WARNING|I0000|\.py:).*", "", job.output(1))


def _events(folder: Path) -> list[Any]:
    paths = sorted(folder.glob("events.*"), key=lambda path: path.stat().st_mtime)
    return [event for path in paths for event in tf.train.summary_iterator(str(path))]


def test_tensorboard_reads_the_scalars_and_forgets_steps_that_were_made_again(tmp_path: Path) -> None:
    train(tmp_path, settings(num_train_steps=2))
    train(tmp_path, settings(num_train_steps=3))
    events = _events(tmp_path / "out" / "tb")
    loss: dict[int, float] = {
        event.step: value.simple_value
        for event in events
        for value in event.summary.value
        if value.tag == "loss"
    }
    assert loss == pytest.approx({step: record["loss"] for step, record in records(tmp_path).items()})
    restarts = [event.step for event in events if event.session_log.status == tf.SessionLog.START]
    assert restarts == [3]


def test_a_terminal_gets_a_bar_and_a_file_none(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    with open(slave, "w") as terminal, open(str(tmp_path / "log"), "w") as log:
        for stream in (terminal, log):
            bar = Bar("train", 10, 0, stream)
            bar.show(7)
            bar.close()
        shown = os.read(master, 65536).decode()
    os.close(master)
    assert "train" in shown and "/10" in shown
    assert (tmp_path / "log").read_text() == ""


def test_the_launcher_learns_of_checkpoints_and_throughput(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NPU_LAUNCH_RANK_DIR", str(tmp_path))
    prefix = train(tmp_path, settings(num_train_steps=3)).checkpoint
    lines = [json.loads(line) for line in (tmp_path / "artifacts.jsonl").read_text().splitlines()]
    saved, metrics = lines
    assert (saved["kind"], saved["step"], saved["prefix"]) == ("checkpoint", 3, prefix)
    assert all(map(os.path.exists, saved["files"])) and len(saved["files"]) == 3
    assert set(saved["sha256"]) <= {os.path.basename(path) for path in saved["files"]}
    assert metrics["values"]["train_examples_per_second"] > 0
    assert json.loads((tmp_path / "heartbeat.json").read_text())["phase"] == "save"
