"""Alerts: rules on the rows of a run and on its disk, each once; no alarm for what is normal."""

from __future__ import annotations

import json
import math
import os
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.errors import ReadError
from launcher.metrics import series
from launcher.metrics.alerts import Alert, Disk, Rules, over
from launcher.metrics.appended import Appended
from launcher.plan.model import Plan, RankSpec
from launcher.process import mounts
from launcher.run_dir import RunDir
from launcher.supervision.alerts import CHUNK, Alerts
from launcher.supervision.context import RunContext
from launcher.supervision.events import EventLog
from launcher.ui.console import Console
from tests.launching import latest, launch

GIB = 1 << 30


def alerts(rows: Iterable[dict[str, Any]], rules: Rules | None = None) -> list[tuple[str, int | None]]:
    rules = rules or Rules()
    return [alert[:2] for row in rows for alert in rules.add(row)]


def of_loss(losses: Iterable[Any], begin: int = 0) -> list[dict[str, Any]]:
    return [{"step": begin + place, "loss": loss} for place, loss in enumerate(losses)]


def around(level: float, count: int, seed: int = 1, noise: float = 0.1) -> list[float]:
    rng = random.Random(seed)
    return [level * math.exp(rng.gauss(0, noise)) for _ in range(count)]


def of_rate(
    rates: Iterable[float], begin: int = 0, every: float = 10.0, **more: float
) -> list[dict[str, Any]]:
    return [
        {"step": begin + place, "time": (begin + place) * every, "examples_per_second": rate, **more}
        for place, rate in enumerate(rates)
    ]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, None])
def test_a_loss_that_is_no_number_is_told_once_and_again_after_it_was_one(bad: Any) -> None:
    assert alerts(of_loss([1.0, bad, bad, 1.0, bad])) == [("nan", 1), ("nan", 4)]


def test_rows_without_a_loss_change_nothing() -> None:
    rows = [{"step": 1, "loss": math.nan}, {"step": 2}, {"step": 3, "loss": math.nan}]
    assert alerts(rows) == [("nan", 1)]


NAMES = "step loss time examples_per_second interval_tokens interval_examples own_s input_s wait_s".split()
WHOLE = st.integers(-(10**400), 10**400)
VALUES = st.one_of(st.floats(), WHOLE, st.none(), st.text(max_size=3), st.booleans())


@given(st.lists(st.dictionaries(st.sampled_from(NAMES), VALUES), max_size=99), st.integers(0, 40))
def test_no_row_is_too_odd_for_the_rules(rows: list[dict[str, Any]], calm: int) -> None:
    rules, begin = Rules(), [{**row, "loss": 1.0} for row in of_rate([5.0] * calm)]
    for row in [*begin, *rows]:
        record = series.record(json.dumps(row).encode())
        for alert in rules.add(record) if record is not None else ():
            assert alert.kind in ("nan", "loss spike", "throughput") and "nan%" not in alert.text


def test_a_spike_is_told_once_and_again_after_all_was_well() -> None:
    spike = around(4.0, 15)
    calm = around(1.0, 70)
    assert alerts(of_loss([*calm, *spike, *calm, *spike])) == [("loss spike", 70), ("loss spike", 155)]
    assert alerts(of_loss([*calm, *around(4.0, 300)])) == [("loss spike", 70)]
    assert alerts(of_loss([*calm, *spike]), Rules(loss=0)) == []


@pytest.mark.parametrize(
    "losses",
    [
        [*around(1.0, 70), 40.0, *around(1.0, 70)],  # one hard batch
        [*around(1.0, 70), *around(1.2, 70)],  # less than 1.5 times
        [6 * math.exp(-place / 50) + noise for place, noise in enumerate(around(1.0, 400, noise=0.3))],
        around(1e-3, 1500, noise=1.0),  # a training that knows its rows, now and then not
        [5.0, 9.0, 14.0, 30.0],  # the first steps
        [-loss for loss in around(1.0, 99)],
    ],
)
def test_what_is_normal_in_a_loss_is_no_spike(losses: list[float]) -> None:
    assert alerts(of_loss(losses)) == []


def test_a_restart_takes_back_the_rows_from_there_on() -> None:
    rules = Rules()
    assert alerts(of_loss([*around(1.0, 70), *around(4.0, 1)]), rules) == []
    assert alerts(of_loss(around(1.0, 100), 60), rules) == []


def test_a_throughput_below_half_of_the_best_is_told_once_and_again_after_recovery() -> None:
    rates = [100.0] * 20 + [30.0] * 20 + [90.0] * 20 + [30.0] * 20
    assert alerts(of_rate(rates)) == [("throughput", 23), ("throughput", 63)]
    assert alerts(of_rate(rates), Rules(throughput=0.2)) == alerts(of_rate(rates), Rules(throughput=0)) == []


@pytest.mark.parametrize(
    "rows",
    [
        of_rate([100.0] * 20 + [5.0] * 3 + [100.0] * 20),  # as long as an evaluation or a busy neighbour
        of_rate([900.0] + [100.0] * 20),  # the first interval
        of_rate([100.0] * 20 + [60.0] * 20),
        of_rate([100.0] * 6 + [0.0] * 20),  # not known
        of_rate([100.0] * 20, interval_tokens=100.0, interval_examples=1.0)
        + of_rate([25.0] * 20, 20, interval_tokens=400.0, interval_examples=1.0),  # longer rows
        of_rate([100.0] * 5, every=1.0) + of_rate([10.0] * 5, 5, every=1.0),  # a few seconds
    ],
)
def test_what_is_normal_in_a_throughput_is_no_alert(rows: list[dict[str, Any]]) -> None:
    assert alerts(rows) == []


def test_the_best_of_a_run_counts_after_a_restart_and_over_a_clock_that_is_set_back() -> None:
    rules = Rules()
    assert alerts(of_rate([100.0] * 20), rules) == []
    slow = [{**row, "time": row["time"] - 3600} for row in of_rate([20.0] * 20, 10)]
    assert alerts(slow, rules) == [("throughput", 17)]


def test_a_throughput_follows_from_the_seconds_of_an_interval() -> None:
    rows = [
        {"step": place, "time": place * 10.0, "interval_examples": 10.0, "own_s": 1.0 if place < 20 else 4.0}
        for place in range(40)
    ]
    assert alerts(rows) == [("throughput", 23)]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (lambda rate: {"examples_per_second": rate}, "30 examples/s at"),
        (lambda rate: {"examples_per_second_per_device": rate}, "30 examples/s per device at"),
        (lambda rate: {"interval_examples": rate, "own_s": 1.0}, "30 examples/s per device at"),
    ],
)
def test_a_rate_is_said_to_be_what_it_is(row: Any, said: str) -> None:
    rates, rules = [100.0] * 20 + [30.0] * 20, Rules()
    rows = [{"step": place, "time": place * 10.0, **row(rate)} for place, rate in enumerate(rates)]
    (alert,) = [alert for item in rows for alert in rules.add(item)]
    assert said in alert.text


def looks(free: Iterable[float], left: float | None, checkpoint: int = 0) -> list[Alert]:
    disk = Disk("/runs/a")
    found = (disk.add(place * 60.0, int(bytes_), left, checkpoint) for place, bytes_ in enumerate(free))
    return [alert for alert in found if alert is not None]


def test_a_disk_that_fills_before_the_end_is_told_once() -> None:
    found = looks((100 * GIB - place * GIB for place in range(60)), 5 * 3600)
    assert [alert.kind for alert in found] == ["disk"]
    assert found[0].text == (
        "the disk of /runs/a: 70.0 GiB free, full in 70 min as it grows now, the run ends in 5.0 h"
    )


@pytest.mark.parametrize(
    ("free", "left"),
    [
        ([100 * GIB - place * GIB for place in range(60)], 600.0),  # it ends before
        ([200 * GIB - place * GIB for place in range(60)], None),  # full in more than an hour
        ([100 * GIB - (place > 30) * 90 * GIB for place in range(60)], 9e9),  # another's one large file
        ([100 * GIB] * 60, 9e9),
    ],
)
def test_a_disk_that_lasts_is_no_alert(free: list[float], left: float | None) -> None:
    assert looks(free, left) == []


def test_checkpoints_that_are_kept_at_first_are_no_growth() -> None:
    disk, kept = Disk("/runs/a"), [min(place // 10, 5) * 15 * GIB for place in range(200)]
    assert not any(disk.add(place * 60.0, 100 * GIB - size, 9e9, 0, size) for place, size in enumerate(kept))


def test_a_next_checkpoint_that_does_not_fit_is_told_at_once_and_again_after_room_was_made() -> None:
    found = looks([5 * GIB, GIB, GIB, 5 * GIB, GIB], None, 2 * GIB)
    text = "the disk of /runs/a: 1.0 GiB free, and the next checkpoint needs 2.0 GiB"
    assert [alert.text for alert in found] == [text, text]


def test_a_finished_run_is_gone_through_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps(row) for row in of_loss([*around(1.0, 70), *around(4.0, 15), math.nan])]
    path.write_text("\n".join(["no row", *lines, '{"step": 9']))
    assert [alert.kind for alert in over(path)] == ["loss spike", "nan"]
    assert [alert.kind for alert in over(path, loss=9)] == ["nan"]


def test_a_file_is_read_as_it_grows_and_anew_when_it_is_shorter(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    file = Appended(path, CHUNK)
    assert file.lines() == []
    with open(path, "ab", buffering=0) as stream:
        stream.write(b"one\ntw")
        assert file.lines() == [b"one"]
        stream.write(b"o\n")
        assert file.lines() == [b"two"] and file.lines() == []
    path.write_bytes(b"new\n")
    assert file.lines() == [b"new"]


def test_a_file_that_is_none_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(str(tmp_path / "metrics.jsonl"))
    file = Appended(tmp_path / "metrics.jsonl", CHUNK)
    with open(os.open(str(tmp_path / "metrics.jsonl"), os.O_RDWR), "wb"):
        assert file.lines() == []  # a FIFO has no size
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(ReadError, match="a link"):
        Appended(tmp_path / "link" / "metrics.jsonl", CHUNK).lines()


# The search in a run.


class Watched:
    """A run looked at without a launcher, each 5 s of a clock of its own."""

    def __init__(self, folder: Path, ranks: int = 1, unseen: Iterable[int] = ()) -> None:
        self.run, self.now = RunDir.create(folder / "run", range(ranks)), 0.0
        specs = tuple(RankSpec(rank, "h", rank, rank, rank, (), {}, str(folder)) for rank in range(ranks))
        plan = Plan("job", "job-1", str(self.run.path), "h", "cpu", "{}", specs)
        console = Console(None)
        self.events = EventLog(self.run, console)
        self.alerts = Alerts(RunContext(plan, self.run, console, self.events), frozenset(unseen))

    def look(self, last: bool = False) -> None:
        self.now += 5.0
        self.alerts.look(self.now, last)

    def write(self, rank: int, *rows: dict[str, Any]) -> None:
        with self.run.metrics(rank).open("ab") as stream:
            stream.write("".join(json.dumps(row) + "\n" for row in rows).encode())

    def beat(self, step: int, phase: str = "train", rank: int = 0, total: int = 0) -> None:
        beat = {"step": step, "train_step": step, "phase": phase, "time": 1.0, "total_steps": total}
        self.run.heartbeat(rank).write_text(json.dumps(beat))

    def texts(self) -> list[str]:
        return [str(alert["text"]) for alert in self.events.alerts]

    def log(self) -> str:
        return self.run.launcher_log.read_text()


def test_a_checkpoint_larger_than_the_rest_of_its_disk_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = [1.5]
    told = SimpleNamespace(f_frsize=1 << 20)
    monkeypatch.setattr(os, "statvfs", lambda path: vars(told).update(f_bavail=free[0]) or told)
    watched = Watched(tmp_path)
    path = tmp_path / "model.ckpt-1"
    path.write_bytes(b"x" * (2 << 20))
    record = {"kind": "checkpoint", "step": 1, "prefix": str(path), "files": [str(path), "removed"]}
    watched.look()
    watched.run.artifacts(0).write_text(json.dumps(record) + "\n")
    watched.look()
    watched.look()
    assert [text.partition(": ")[2] for text in watched.texts()] == [
        "1.5 MiB free, and the next checkpoint needs 2.0 MiB"
    ]


def test_a_disk_over_the_network_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        mounts, "mount_of", lambda path: ("/nfs", "nfs4") if path.startswith("/nfs") else ("/", "ext4")
    )
    asked: list[str] = []
    real = os.lstat
    monkeypatch.setattr(os, "lstat", lambda path: asked.append(str(path)) or real(path))
    watched = Watched(tmp_path)
    record = {"kind": "checkpoint", "step": 1, "prefix": "/nfs/a", "files": ["/nfs/a.index"]}
    watched.run.artifacts(0).write_text(json.dumps(record) + "\n")
    watched.look()
    assert "/nfs/a.index" not in asked and [*watched.alerts._disks] == ["/"]
    assert watched.log().count("the free space for checkpoints in /nfs is not watched") == 1


def test_metrics_on_another_hosts_disk_are_said_not_to_be_watched(tmp_path: Path) -> None:
    watched = Watched(tmp_path, unseen=[0])
    watched.write(0, {"step": 1, "loss": None})
    watched.look()
    assert watched.texts() == [] and "no alerts on loss and throughput" in watched.log()


def test_of_ranks_on_several_disks_those_that_are_seen_are_watched(tmp_path: Path) -> None:
    watched = Watched(tmp_path, ranks=3, unseen=[0, 1])
    for rank in (0, 2):
        watched.write(rank, {"step": rank + 1, "loss": None})
    watched.look()
    assert watched.texts() == ["the loss is no finite number at step 3"]
    assert "no alerts on what rank [0-1] writes" in watched.log()


def test_the_loss_is_watched_where_it_is_written_be_it_by_the_last_rank(tmp_path: Path) -> None:
    watched = Watched(tmp_path, ranks=3)
    for rank in (0, 1):
        watched.write(rank, *({"step": step, "time": step, "own_s": 1.0} for step in range(9)))
    watched.look()
    calm, spike = of_loss(around(1.0, 70)), of_loss(around(4.0, 15), 70)
    watched.write(2, *calm, *spike, {"step": 90, "loss": None})
    watched.look()
    watched.look()
    assert [alert["kind"] for alert in watched.events.alerts] == ["loss spike", "nan"]


def train(watched: Watched, looks: int, first: int = 0, phases: bool = True) -> None:
    """Let a rank write a row each 10 s, and a heartbeat; phases: it tells what else it does."""
    if phases:
        watched.beat(0, "load")
        watched.look()
    for place in range(first, first + looks):
        if place % 2 == 0:
            watched.write(0, {"step": place, "loss": 1.0})
        watched.beat(place)
        watched.look()


def test_a_training_that_stands_still_is_told_once_and_again_after_it_went_on(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    train(watched, 10)
    for _ in range(40):
        watched.look()
    text = "no step and no row for 65 s at step {}; a row usually comes each 10 s"
    assert watched.texts() == [text.format(9)]
    assert {alert["kind"] for alert in watched.events.alerts} == {"throughput"}
    train(watched, 10, first=10)
    for _ in range(40):
        watched.look()
    assert watched.texts() == [text.format(9), text.format(19)]


@pytest.mark.parametrize(
    ("phase", "total", "policy"), [("save", 0, {}), ("evaluate", 0, {}), ("train", 9, {}), ("train", 0, None)]
)
def test_no_row_while_it_saves_or_evaluates_or_after_the_last_step_is_no_stall(
    tmp_path: Path, phase: str, total: int, policy: dict[str, float] | None
) -> None:
    watched = Watched(tmp_path)
    train(watched, 10)
    watched.beat(9, phase, total=total)
    if policy is None:  # its steps go on, though it writes no row
        for place in range(40):
            watched.beat(10 + place)
            watched.look()
    for _ in range(40 if policy is not None else 5):
        watched.look()
    assert watched.texts() == []


def test_a_restart_is_no_stall_and_neither_are_the_first_rows(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    train(watched, 10)
    watched.look(last=True)
    for _ in range(40):
        watched.look(last=True)
    watched.run.heartbeat(0).unlink()
    train(watched, 2)
    watched.now += 1000
    watched.look()
    train(watched, 2, first=2)
    assert watched.texts() == []


def make_steps(watched: Watched, looks: int, first: int = 1) -> None:
    """Let a rank tell steps alone, each 5 s."""
    for place in range(first, first + looks):
        watched.beat(place)
        watched.look()


def stand(watched: Watched, seconds: float) -> None:
    watched.now += seconds - 10.0
    watched.look()
    watched.look()


def test_steps_alone_get_ten_minutes_and_six_times_the_longest_pause(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    make_steps(watched, 10)
    stand(watched, 600)
    assert watched.texts() == []
    watched.look()
    told = "no step for 10 min at step 10; the longest time between two was 5 s"
    assert watched.texts() == [told]
    stand(watched, 395)
    make_steps(watched, 2, first=11)  # too few to know what is usual, the first after 1,005 s
    stand(watched, 90000)
    assert watched.texts() == [told]
    make_steps(watched, 10, first=13)  # the first after 90,005 s
    stand(watched, 6 * 90005)
    assert watched.texts() == [told]
    watched.look()
    assert watched.texts() == [
        told, "no step for 150.0 h at step 22; the longest time between two was 25.0 h"
    ]  # fmt: skip


def test_a_program_without_phases_may_evaluate_prepare_and_save_between_its_rows(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.beat(0, "start")
    watched.look()
    stand(watched, 1800)  # the first step is prepared
    train(watched, 10, phases=False)
    stand(watched, 1800)  # and another form of it
    train(watched, 4, first=10, phases=False)
    stand(watched, 10000)  # a first evaluation, less than 6 times as long as what has been
    watched.beat(20)
    watched.look()
    watched.beat(20, "save")
    stand(watched, 500000)
    watched.beat(20)
    watched.look()
    assert watched.texts() == []


def test_the_first_steps_of_another_attempt_are_no_stall(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    make_steps(watched, 10)
    watched.look(last=True)
    watched.beat(0, "start")
    watched.look()
    make_steps(watched, 2)
    stand(watched, 5000)
    assert watched.texts() == []


def test_metrics_that_cannot_be_read_are_named_once(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    (watched.run.rank_dir(0) / "metrics.jsonl").symlink_to(__file__)
    watched.look()
    watched.look(last=True)
    assert watched.log().count("warning: ") == 1 and "a link (expected a regular file)" in watched.log()


LAST_STAGE = """
import os
from launcher.worker import step
for number in (1, 2):
    step(number, examples=4, **({"loss": float("nan")} if os.environ["RANK_ID"] == "1" else {}))
"""


def test_a_run_whose_last_stage_alone_has_the_loss_gets_its_alert(tmp_path: Path) -> None:
    (tmp_path / "stage.py").write_text(LAST_STAGE)
    words = ["--devices", "0-1", "--backend", "cpu", "fail_on_alert=[nan]", "--", "python3", "stage.py"]
    done = launch(tmp_path, *words)
    said = "alert: the loss is no finite number at step 1"
    assert done.returncode == 1 and said in done.stdout + done.stderr
    (alert,) = json.loads((latest(tmp_path) / "result.json").read_text())["alerts"]
    assert (alert["kind"], alert["step"]) == ("nan", 1)
