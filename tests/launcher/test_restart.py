"""When a failed run is started again."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.diagnosis.failure import ErrorRecord, RankEnd, RankStatus
from launcher.errors import UsageError
from launcher.plan.model import Plan, Policy, RankSpec
from launcher.run_dir import RunDir
from launcher.supervision.restart_policy import (
    Failure,
    back_off,
    device_holders,
    matches,
    newest_checkpoint,
    number,
    reached_step,
    refusal,
    wait_until_free,
)


def failure(seconds: float = 1.0, **facts: Any) -> Failure:
    end = RankEnd(0, 0, pid=1, **{"code": 1, "status": RankStatus.EXITED, **facts})
    return Failure((end,), end, seconds)


def raised(text: str, seconds: float = 1.0) -> Failure:
    error = ErrorRecord(1, "E", "m", text, "MainThread", True)
    return failure(seconds, status=RankStatus.RAISED, error=error)


@pytest.mark.parametrize(
    ("word", "facts", "holds"),
    [
        ("exit:29", {"code": 29}, True),
        ("exit:28", {"code": 29}, False),
        ("exit:137", {"code": -9, "status": RankStatus.SIGNALLED}, True),
        ("signal:KILL", {"code": -9, "status": RankStatus.SIGNALLED}, True),
        ("signal:sigkill", {"code": -9, "status": RankStatus.OUT_OF_MEMORY}, True),
        ("signal:9", {"code": -9, "status": RankStatus.SIGNALLED}, True),
        ("signal:SEGV", {"code": -9, "status": RankStatus.SIGNALLED}, False),
        ("signal:SEGV", {"code": 139, "status": RankStatus.SIGNALLED}, True),
        ("hang", {"status": RankStatus.HUNG}, True),
        ("hang", {"status": RankStatus.RAISED}, False),
    ],
)
def test_a_condition_holds_for_what_it_names(word: str, facts: Any, holds: bool) -> None:
    assert matches(word, failure(**facts)) is holds


@pytest.mark.parametrize(
    ("steps", "stopped"),
    [
        ([10, 20, 20, 20, 20], True),
        ([20, 20, 20, 20], True),
        ([20, 20, 20], False),
        ([10, 20, 20, 20], False),
        ([None, None, None, None], False),  # it reports no checkpoints
        ([20, 20, None, 20], False),  # unreadable: perhaps a newer one
        ([None, 20, 20, 20, 20], True),
    ],
)
def test_three_restarts_without_a_newer_checkpoint_are_the_last(
    steps: list[int | None], stopped: bool
) -> None:
    failures = [replace(failure(), checkpoint=step) for step in steps]
    text = refusal(Policy(max_restarts=9), failures)
    assert text == ("no checkpoint beyond step 20 in 3 restarts" if stopped else "")


@pytest.mark.parametrize(
    ("reached", "saved", "text"),
    [
        ([57, 57, 57, 57], [None] * 4, "4 attempts in a row ended after step 57"),
        ([57, 57, 57], [None] * 3, ""),
        ([57, 58, 57, 57], [None] * 4, ""),  # once it got further
        ([57, 57, 57, None], [None] * 4, ""),
        ([None] * 4, [None] * 4, ""),
        ([57, 57, 57, 57], [10, 20, 30, 40], ""),  # its steps count anew in each attempt
        ([57, 57, 57, 57], [50, 50, None, None], "4 attempts in a row ended after step 57"),
        ([51, 52, 53, 54], [50, 50, 50, 50], ""),  # it gets further each time
        ([51, 54, 53, 55], [50, 50, 50, 50], "no checkpoint beyond step 50 in 3 restarts"),
    ],
)
def test_attempts_that_end_after_the_same_step_are_no_progress_and_those_that_get_further_are(
    reached: list[int | None], saved: list[int | None], text: str
) -> None:
    failures = [replace(failure(), reached=at, checkpoint=step) for at, step in zip(reached, saved)]
    assert refusal(Policy(max_restarts=9), failures) == text


@pytest.mark.parametrize(
    ("steps", "env", "expected"),
    [([3, 8], {}, 8), ([0, 0], {}, None), ([], {}, None), ([3, 8], {"NPU_LAUNCH_HEARTBEAT": "torch"}, None)],
)
def test_the_step_that_an_attempt_reached_is_that_of_its_ranks(
    steps: list[int], env: dict[str, str], expected: int | None
) -> None:
    spec = RankSpec(0, "h", 0, 0, 0, (), env, "/")
    ends = [RankEnd(rank, rank, step=step) for rank, step in enumerate(steps)]
    assert reached_step(replace(plan("cpu"), ranks=(spec,)), ends) == expected


def test_the_newest_checkpoint_is_that_of_any_rank_and_unknown_where_a_report_is_damaged(
    tmp_path: Path,
) -> None:
    run = RunDir.create(tmp_path / "run", range(2))
    specs = tuple(RankSpec(rank, "h", rank, rank, rank, (), {}, str(tmp_path)) for rank in range(2))
    plan = Plan("job", "job-1", str(run.path), "h", "cpu", "{}", specs, Policy(max_restarts=9))
    assert newest_checkpoint(plan, run) is None
    for rank, step in ((0, 30), (1, 50), (0, 40)):
        with open(str(run.artifacts(rank)), "a") as stream:
            record = {"kind": "checkpoint", "step": step, "prefix": "p", "files": ["p"]}
            stream.write(json.dumps(record) + "\n")
    assert newest_checkpoint(plan, run) == 50
    with open(str(run.artifacts(0)), "a") as stream:
        stream.write('{"kind": "checkpoint", "st')  # it was killed within a line
    assert newest_checkpoint(plan, run) == 50
    run.artifacts(1).write_text("{}\n" * 2)
    assert newest_checkpoint(plan, run) is None


@pytest.mark.parametrize("word", ["exit", "exit:x", "always", "signal:", "signal:NOSUCH"])
def test_a_condition_that_means_nothing_is_refused(word: str) -> None:
    with pytest.raises(UsageError):
        matches(word, failure())


def test_real_time_signals_have_names() -> None:
    assert number("RTMIN+3") == number("SIGRTMIN") + 3


def test_there_is_no_restart_unless_asked_for_and_no_more_than_asked_for() -> None:
    assert "no restart left" in refusal(Policy(), [failure()])
    assert refusal(Policy(max_restarts=2), [failure(), failure()]) == ""
    assert "no restart left" in refusal(Policy(max_restarts=2), [failure()] * 3)


def test_a_rank_that_cannot_be_started_is_not_tried_again() -> None:
    assert refusal(Policy(max_restarts=9), [failure(status=RankStatus.NOT_STARTED)])


def test_the_same_traceback_within_seconds_is_a_loop() -> None:
    policy = Policy(max_restarts=9)
    assert "same traceback" in refusal(policy, [raised("at 0x7f01"), raised("at 0x7f02")])
    assert refusal(policy, [raised("a"), raised("b")]) == ""
    assert refusal(policy, [raised("a"), raised("a", seconds=3600.0)]) == ""


def test_restarts_wait_longer_each_time() -> None:
    assert [back_off(n) for n in (1, 2, 3)] == [0.5, 1.0, 2.0] and back_off(50) == 30.0


def plan(backend: str) -> Plan:
    return Plan("job", "id", "/run", "host", backend, "{}", ())


class Time:
    """Let time pass in sleeps alone."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> bool:
        self.slept.append(seconds)
        self.now += seconds
        return True


def test_a_device_rests_ten_seconds_after_a_kill_and_until_nobody_holds_it() -> None:
    time, holders = Time(), ["python (pid 7)", "python (pid 7)", ""]
    assert wait_until_free(plan("npu"), lambda plan: holders.pop(0), time.sleep, lambda: time.now) == ""
    assert time.slept == [10.0, 1.0, 1.0]
    time = Time()
    assert wait_until_free(plan("cpu"), lambda plan: "", time.sleep, lambda: time.now) == ""
    assert time.slept == []


def test_a_device_that_stays_busy_is_named_at_last() -> None:
    time = Time()
    assert wait_until_free(plan("npu"), lambda plan: "pid 7", time.sleep, lambda: time.now) == "pid 7"
    assert time.now >= 120


NPU_SMI = """#!/bin/sh
cat <<'END'
| NPU   Name                | Health        | Power(W)     Temp(C)           Hugepages-Usage(page)|
| Chip                      | Bus-Id        | AICore(%)    Memory-Usage(MB)                       |
| 0     910A                | OK            | 70.1         43                0    / 0             |
| 0                         | 0000:C1:00.0  | 0            0    / 0          3318 / 65536         |
| 1     910A                | OK            | 70.1         43                0    / 0             |
| 0                         | 0000:C2:00.0  | 0            0    / 0          3318 / 65536         |
| NPU     Chip              | Process id    | Process name             | Process memory(MB)       |
| 0       0                 | 6277          | python                   | 56485                    |
| 1       0                 | 6278          | another job              | 56485                    |
END
"""


def test_the_holders_of_a_plans_devices_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "npu-smi").write_text(NPU_SMI)
    (tmp_path / "npu-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    spec = RankSpec(0, "host", 0, 0, 0, ("true",), {}, "/")
    assert device_holders(plan("npu")) == ""
    assert device_holders(replace(plan("npu"), ranks=(spec,))) == "device 0: python (pid 6277, 56,485 MB)"
    assert device_holders(replace(plan("cpu"), ranks=(spec,))) == ""


def test_a_signal_ends_the_wait() -> None:
    stop = lambda seconds: False  # noqa: E731
    assert wait_until_free(plan("cpu"), lambda plan: "pid 7", stop, lambda: 0.0) == "interrupted"
