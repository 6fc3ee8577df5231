"""What a run says of slow ranks: a line for people, an event for programs, for one host as for several."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from launcher.heartbeat import Counters
from launcher.metrics.stragglers import NOT_SPLIT
from launcher.run_dir import RunDir
from launcher.supervision.events import EventLog, violations
from launcher.supervision.rank import Heartbeat
from launcher.supervision.slowness import Slowness
from tests.launching import latest, launch


class Ranks:
    """Ranks whose heartbeats are made up, and what is said of them."""

    def __init__(self, folder: Path, count: int) -> None:
        self.console: list[str] = []
        (folder / "logs").mkdir()
        self.run = RunDir(folder)
        console: Any = SimpleNamespace(say=self.console.append)
        self.slowness, self.now = Slowness(EventLog(self.run, console)), 0.0
        self.ranks = [SimpleNamespace(rank=rank, heartbeat=Heartbeat()) for rank in range(count)]

    def go_on(self, own: list[float], looks: int, waits: bool = True) -> None:
        """Let the ranks make 20 steps between two looks, each with its own time a step."""
        for _ in range(looks):
            for rank, seconds in zip(self.ranks, own):
                old = rank.heartbeat.counters or Counters(0, 0, 0, 0, 0, 0, 0 if waits else None, 0)
                wait = old.wait_s + 20 * (max(own) - seconds + 0.1) if old.wait_s is not None else None
                new = old._replace(steps=old.steps + 20, own_s=old.own_s + 20 * seconds, wait_s=wait)
                rank.heartbeat.counters, rank.heartbeat.train_step = new, 500 + new.steps
            self.look()

    def look(self) -> None:
        self.now += 2
        self.slowness.check(self.ranks, self.now)

    @property
    def events(self) -> list[dict]:
        if not self.run.events.exists():
            return []
        found = [json.loads(line) for line in self.run.events.read_text().splitlines()]
        assert [violations(event) for event in found] == [[]] * len(found)
        return found


def test_a_verdict_is_a_warning_and_an_event_and_its_end_another(tmp_path: Path) -> None:
    ranks = Ranks(tmp_path, 3)
    ranks.go_on([1, 1, 2], 10)
    ranks.go_on([1, 1, 1], 5)
    text = "rank 2 costs the run 48 %: own work, since step 520"
    over = "rank 2 costs the run nothing any more (own work), since step 700"
    assert ranks.console == [f"npu-launch: warning: {text}", f"npu-launch: {over}"]
    assert [(event["rank"], event["data"]) for event in ranks.events] == [
        (2, {"kind": "slow rank", "ranks": [2], "cost": 0.4762, "since": 520, "text": text}),
        (2, {"kind": "slow rank", "ranks": [2], "cost": 0, "since": 700, "text": over}),
    ]


def test_what_is_no_single_ranks_has_no_rank(tmp_path: Path) -> None:
    ranks = Ranks(tmp_path, 4)
    ranks.go_on([1, 1, 1, 1], 10)
    ranks.go_on([2, 2, 2, 2], 9)
    assert [(event["rank"], event["data"]["kind"]) for event in ranks.events] == [
        (None, "slower than before")
    ]


def test_an_event_of_several_ranks_names_them_all(tmp_path: Path) -> None:
    ranks = Ranks(tmp_path, 5)
    ranks.go_on([1, 1, 2, 1, 2], 10)
    (event,) = ranks.events
    assert event["rank"] is None and event["data"]["ranks"] == [2, 4]
    assert event["data"]["text"].startswith("ranks [2,4] cost the run 48 %")


def test_counters_are_looked_at_once_a_second_and_more_seldom_with_many_ranks(tmp_path: Path) -> None:
    ranks = Ranks(tmp_path, 1000)
    looks: list[float] = []
    ranks.slowness._compare_steps = lambda others: looks.append(ranks.now)  # type: ignore[assignment]
    for _ in range(10):
        ranks.look()
    assert looks == [2, 6, 10, 14, 18]


def test_where_waiting_is_not_told_the_log_says_so_once(tmp_path: Path) -> None:
    ranks = Ranks(tmp_path, 2)
    ranks.go_on([1, 2], 6, waits=False)
    assert ranks.console == [] and ranks.run.launcher_log.read_text().count(NOT_SPLIT) == 1


def test_a_rank_alone_waits_for_nobody(tmp_path: Path) -> None:
    ranks = Ranks(tmp_path, 1)
    ranks.go_on([1], 6, waits=False)
    assert not ranks.run.launcher_log.exists() or NOT_SPLIT not in ranks.run.launcher_log.read_text()


def test_ranks_without_counters_are_compared_by_their_steps(tmp_path: Path) -> None:
    ranks = Ranks(tmp_path, 4)
    for rank, step in zip(ranks.ranks, (40, 8, 40, 40)):
        rank.heartbeat.step = step
    ranks.look()
    ranks.look()
    text = "rank 1 is slow: step 8, where others are at 40"
    assert ranks.console == [f"npu-launch: warning: {text}"]
    assert [event["data"] for event in ranks.events] == [
        {"kind": "slow rank", "ranks": [1], "cost": 0.8, "since": 0, "text": text}
    ]


MEETS = """
import json, os, time
rank, folder = int(os.environ["RANK_ID"]), os.environ["NPU_LAUNCH_RANK_DIR"]
began, own = time.time(), 0.02 if rank == 1 else 0.01
while time.time() < began + 8:
    steps = int((time.time() - began) / 0.022)
    beat = {"step": steps + 1, "phase": "train", "time": time.time(), "steps": steps, "examples": steps,
            "tokens": 0, "input_s": 0, "own_s": steps * own, "wait_s": steps * (0.022 - own), "save_s": 0}
    with open(folder + "/heartbeat.json.tmp", "w") as stream:
        json.dump(beat, stream)
    os.replace(folder + "/heartbeat.json.tmp", folder + "/heartbeat.json")
    time.sleep(0.05)
"""


def test_a_run_names_its_slow_rank_while_it_goes_on(tmp_path: Path) -> None:
    done = launch(tmp_path, "--devices", "0-2", "--backend", "cpu", "--", "python3", "-c", MEETS)
    assert done.returncode == 0 and "warning: rank 1 costs the run 4" in done.stdout + done.stderr
    lines = [json.loads(line) for line in RunDir(latest(tmp_path)).events.read_text().splitlines()]
    (said,) = [line for line in lines if line["event"] == "straggler"]
    assert said["rank"] == 1 and said["data"]["kind"] == "slow rank" and violations(said) == []
    assert said["data"]["text"] in done.stdout + done.stderr
    assert f"slow         {said['data']['text']}" in RunDir(latest(tmp_path)).report.read_text()
    (kept,) = json.loads(RunDir(latest(tmp_path)).result.read_text())["verdicts"]
    assert kept == said["data"]
