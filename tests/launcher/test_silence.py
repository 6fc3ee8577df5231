"""hang_timeout where no heartbeat comes: a run in which nobody shows a sign of life has hung."""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from launcher.diagnosis.failure import RankStatus
from launcher.process import procfs
from launcher.supervision import monitor
from launcher.supervision.progress import Incident, RunProgress
from launcher.supervision.rank import RankProcess
from launcher.supervision.rank_files import RankFiles

LIMIT = 10.0


class Run:
    """A monitor of ranks that are no processes; `ticks`, `pids` and `moved` are what /proc would show."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, count: int = 2) -> None:
        self.ticks = dict.fromkeys(range(100, 100 + count), 0)
        self.pids = {pid: frozenset((pid,)) for pid in self.ticks}
        self.moved = dict.fromkeys(self.ticks, 0)
        patch.setattr(procfs, "usage", self._usage)
        patch.setattr(procfs, "transferred", lambda pids: sum(self.moved.get(pid, 0) for pid in pids))
        self.ranks = [self._rank(folder, number) for number in range(count)]
        policy: Any = SimpleNamespace(hang_timeout=LIMIT, early_exit_grace=0.0)
        events: Any = SimpleNamespace(surviving=lambda what: nullcontext())
        context: Any = SimpleNamespace(events=events, plan=SimpleNamespace(policy=policy))
        progress = RunProgress(policy, self.ranks, events)
        self.monitor = monitor.RankMonitor(context, self.ranks, lambda pids: None, progress)
        self.now = 0.0

    def _rank(self, folder: Path, number: int) -> RankProcess:
        run: Any = SimpleNamespace(
            error=lambda rank: folder / f"{rank}.error",
            thread_error=lambda rank: folder / f"{rank}.thread",
            torch_error=lambda rank: folder / f"{rank}.torch",
            heartbeat=lambda rank: folder / f"{rank}.beat",
        )
        files = RankFiles.of(run, number, lambda rank, path, fault: None)
        rank = RankProcess(SimpleNamespace(rank=number), files)  # type: ignore[arg-type]
        rank.child = SimpleNamespace(pid=100 + number)  # type: ignore[assignment]
        rank.log = SimpleNamespace(size=0)  # type: ignore[assignment]
        return rank

    def _usage(self, pid: int, available: int = 0) -> procfs.Usage:
        return procfs.Usage(self.pids.get(pid, frozenset()), 0, self.ticks.get(pid, 0))

    def passes(self, seconds: int, change: Any = None) -> Incident | None:
        """Let time pass, a second at a time; `change` is called each time. Return the incident, if any."""
        for _ in range(seconds):
            self.now += 1.5
            if change:
                change()
            incident = self.monitor.check(self.now)
            if incident:
                return incident
        return None


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    made = Run(tmp_path, monkeypatch)
    yield made
    made.monitor.close()


def test_silence_of_all_ranks_is_a_hang_of_the_one_that_fell_silent_first(run: Run) -> None:
    def print_something() -> None:
        run.ranks[0].log.size += 9  # type: ignore[union-attr]

    assert run.passes(6, print_something) is None
    incident = run.passes(20)
    assert incident is not None and incident.status is RankStatus.HUNG and incident.rank == 1
    assert "heartbeat" in incident.detail and run.now > LIMIT + 6


def work(run: Run) -> None:
    run.ticks[100] += procfs.TICKS  # of one rank


def start_processes(run: Run) -> None:
    run.pids[101] = frozenset((101, 200 + int(run.now)))


def read_data(run: Run) -> None:
    run.moved[101] += 8 << 20


def write_output(run: Run) -> None:
    run.ranks[1].log.size += 1  # type: ignore[union-attr]


@pytest.mark.parametrize("sign", [work, start_processes, read_data, write_output])
def test_a_sign_of_life_of_one_rank_is_enough(run: Run, sign: Any) -> None:
    assert run.passes(40, lambda: sign(run)) is None
    assert run.passes(20) is not None


def test_little_work_is_what_a_rank_that_waits_does(run: Run) -> None:
    def poll() -> None:
        run.ticks[100] += 1
        run.moved[100] += 64

    assert run.passes(20, poll) is not None


@pytest.mark.parametrize("phase", ["compile", "answers"])
def test_a_phase_without_steps_may_be_silent(run: Run, tmp_path: Path, phase: str) -> None:
    (tmp_path / "0.beat").write_text(f'{{"step": 0, "phase": "{phase}", "time": 1.0}}')
    assert run.passes(40) is None


def test_a_rank_that_has_made_steps_is_judged_by_its_heartbeat(run: Run, tmp_path: Path) -> None:
    (tmp_path / "0.beat").write_text('{"step": 3, "phase": "train", "time": 1.0}')
    incident = run.passes(20, lambda: work(run))
    assert incident is not None and "no heartbeat for" in incident.detail


def test_what_is_loaded_for_a_failure_is_no_cost_of_a_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "launcher.diagnosis.victims"
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.delattr(name, raising=False)
    slow = SimpleNamespace(find_spec=lambda wanted, *_: time.sleep(0.1) if wanted == name else None)
    monkeypatch.setattr(sys, "meta_path", [slow, *sys.meta_path])
    found = Run(tmp_path, monkeypatch).passes(20)
    assert found is not None and found.status is RankStatus.HUNG and name in sys.modules
