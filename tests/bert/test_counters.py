"""What a training tells of where its time goes."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Iterator

import numpy as np
import pytest

from bert import heartbeat
from bert.feed import Feed, waited
from tests.bert import runs
from tests.bert.runs import COLUMNS, ROWS, Job, records, settings, step_batches, train


@pytest.mark.parametrize(
    ("ready", "end", "seconds"),
    [
        ([0.0], 2.0, 0.0),  # made ahead
        ([11.5], 12.0, 1.5),
        ([12.5], 12.0, 2.0),  # clocks of two threads: never more than the call
        ([9.0, 9.0, 9.0, 9.0], 14.0, 0.0),  # a device's loop over four batches made ahead
        ([12.0, 9.0, 9.0, 9.0], 16.0, 2.0),  # it waited for the first
        ([9.0, 9.0, 9.0, 15.0], 16.0, 2.0),  # and for the last: steps of 1 s
        ([11.0, 12.0, 13.0, 14.0], 14.25, 3.25),  # for each
        ([10.5, 11.0, 11.5, 12.0], 14.5, 0.5),  # only for the first: steps of 1 s, batches of 0.5 s
        ([], 12.0, 0.0),
    ],
)
def test_waiting_is_what_the_equal_steps_of_a_call_do_not_explain(
    ready: list[float], end: float, seconds: float
) -> None:
    begin = 0.0 if ready == [0.0] else 10.0
    assert waited(ready, begin, end) == pytest.approx(seconds)


def test_a_feed_counts_rows_that_are_real_and_tokens_that_are_computed() -> None:
    feed = Feed()
    batch = {"input_ids": np.zeros((4, 9)), "example_weights": np.array([[1.0], [1.0], [1.0], [0.0]])}
    feed.made(batch)
    feed.made({"input_ids": np.zeros((4, 9))})
    now = time.monotonic()
    taken = feed.taken(1, now, now + 1).plus(feed.taken(1, now, now + 1))
    assert taken == (7.0, 72, 0.0)
    assert feed.taken(3, now, now + 1) == (0, 0, 0.0)


def _slow_batches(batches: Iterator[Any], seconds: float) -> Iterator[Any]:
    for batch in batches:
        time.sleep(seconds)
        yield batch


@pytest.mark.parametrize(("accumulate", "at_once"), [(1, 1), (2, 1), (1, 3)])
def test_a_step_that_waits_for_input_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accumulate: int, at_once: int
) -> None:
    monkeypatch.setenv("NPU_LAUNCH_RANK_DIR", str(tmp_path))
    config = settings(num_train_steps=15, num_accumulation_steps=accumulate)

    def batches(start: int) -> Iterator[Any]:
        return _slow_batches(step_batches(start, accumulate=accumulate), 0.08 / accumulate)

    train(tmp_path, config, batches=batches, steps_per_call=at_once)
    told = json.loads((tmp_path / "heartbeat.json").read_text())
    counted = 15 - at_once  # the first call counts in nothing
    assert (told["total_steps"], told["train_step"], told["steps"]) == (15, 15, counted)
    assert (told["examples"], told["tokens"]) == (counted * ROWS, counted * ROWS * COLUMNS)
    assert told["wait_s"] == 0.0 and told["save_s"] > 0 and told["own_s"] > 0
    assert told["input_s"] > 0.5 * 0.08 * (counted - 5)  # some batches are made during the first call
    rows = records(tmp_path).values()
    for name, total in (
        ("interval_steps", "steps"),
        ("interval_examples", "examples"),
        ("input_s", "input_s"),
    ):
        assert sum(row[name] for row in rows) == pytest.approx(told[total], abs=1e-5)


def _slow_input_of_rank_1(rank: int) -> None:
    if rank == 1:
        runs.step_batches = lambda *given: _slow_batches(step_batches(*given), 0.1)


def test_a_rank_that_is_waited_for_waits_least(tmp_path: Path) -> None:
    job = Job(tmp_path, settings(num_train_steps=8), ranks=2, sabotage=_slow_input_of_rank_1)
    assert job.wait() == [0, 0], job.output()
    waits = [sum(row["wait_s"] for row in records(tmp_path, rank).values()) for rank in (0, 1)]
    inputs = [sum(row["input_s"] for row in records(tmp_path, rank).values()) for rank in (0, 1)]
    assert waits[0] > waits[1] and inputs[1] > inputs[0]


def test_each_moment_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: now[0])
    counters = heartbeat.Counters(total_steps=3, knows_wait=True)
    now[0] += 30.0
    counters.call(1, 8, 96, 5.0, 20.0)  # the first one
    for _ in range(2):
        now[0] += 2.0
        counters.call(1, 8, 96, 0.5, 0.25)
        now[0] += 0.125
        with counters.saving():
            now[0] += 4.0
    assert counters.record() == {
        "steps": 2, "examples": 16, "tokens": 192, "input_s": 1.0, "own_s": 2.75, "wait_s": 0.5,
        "save_s": 8.0,
    }  # fmt: skip


def test_a_device_that_loops_alone_does_not_know_its_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bert.backend.cpu import CpuBackend

    monkeypatch.setattr(CpuBackend, "waited", None)
    train(tmp_path, settings(num_train_steps=3))
    assert [row["wait_s"] for row in records(tmp_path).values()] == [None] * 3
