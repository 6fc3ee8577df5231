"""A run, look after look: only what has changed is read again."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import Any, Mapping, Sequence

from launcher import foreign
from launcher.errors import ReadError
from launcher.masking import mask_text
from launcher.metrics import series
from launcher.metrics.leading import Leader
from launcher.process import procfs
from launcher.run_dir import RunDir
from launcher.runs import registry, remote
from launcher.runs.processes import ProcessTable
from launcher.runs.registry import RunStatus
from launcher.text import named, printable
from launcher.view import missing
from launcher.view.follow import Changing, Curve, Growing, stamp_of
from launcher.view.happened import Happened
from launcher.view.npu import Npus
from launcher.view.ranks import RankLooks, with_npu
from launcher.view.snapshot import RankView, RunView

STATUS_EVERY = 30.0  # seconds: a queue, and launchers on other hosts, are asked no more often


class _NoProcesses(ProcessTable):
    """Spares the look at every process of the machine: events.jsonl names the ranks' own."""

    def __init__(self) -> None:
        self._found, self._paths = {}, {}


class RunLooks:
    """What is kept of a run from one look to the next; its size does not grow with the run."""

    def __init__(self, run: RunDir, npus: Npus | None = None) -> None:
        self.run = run
        self._npus = npus
        self._happened = Happened(run)
        self._result: Changing[dict[str, Any]] = Changing(run.result, foreign.read_object)
        self._told = Changing(run.path / remote.RANKS_FILE, lambda path: remote.read_ranks(run))
        self._plan_stamp: tuple[int, int, int] | None = None
        self._ranks: list[RankLooks] = []
        self._hosts: tuple[str, ...] = ()
        self._uses_npus = False
        self._curve, self._rows = Curve(), Growing(run.metrics(0))
        self._unread = 0  # lines of that which are no rows
        self._leader = Leader(run, ())
        self._status: RunStatus | None = None
        self._status_at = 0.0
        self._plan_problem = ""

    def look(self, patience: float = 0.0) -> RunView:
        """Look at the run. patience: seconds to wait for npu-smi."""
        self._happened.look()
        self._told.look()
        changed = self._result.look()
        status = self._looked(changed)
        self._read_plan()
        ranks = self._look_at_ranks(_is_over(status))
        if self._npus and self._uses_npus and any(rank.alive for rank in self._ranks):
            self._npus.look(patience)
            chips = self._npus.chips
            living = {rank.rank for rank in self._ranks if rank.alive}
            ranks = [
                replace(rank, **with_npu(chips, rank.device)) if rank.rank in living else rank
                for rank in ranks
            ]
        self._follow_curve()
        return self._view(status, ranks)

    def _looked(self, changed: bool) -> RunStatus:
        now, status = time.monotonic(), self._status
        gone = status is not None and status.launcher is not None and not procfs.alive(status.launcher)
        if status is None or changed or gone or now > self._status_at + STATUS_EVERY:
            status = self._status = registry.status(self.run, _NoProcesses())
            self._status_at = now
        return status

    def _read_plan(self) -> None:
        """Read which ranks there are, where, when the plan has changed."""
        stamp = stamp_of(self.run.plan)
        if stamp == self._plan_stamp:
            if not self._ranks:
                self._set_ranks([RankLooks(self.run, rank, None, None) for rank in self.run.ranks()])
            return
        self._plan_stamp, self._plan_problem = stamp, ""
        try:
            plan = registry.read_plan(self.run)
        except ReadError as error:
            self._plan_problem = str(error)
            devices = self._status.devices if self._status else {}
            known = sorted({*devices, *self.run.ranks()})
            self._set_ranks([RankLooks(self.run, rank, None, devices.get(rank)) for rank in known])
            return
        hosts = {host.server_id: host.name for host in plan.hosts}
        names = [hosts.get(rank.server_id, rank.server_id) for rank in plan.ranks]
        self._hosts = tuple(printable(name) for name in dict.fromkeys(names))
        self._uses_npus = plan.backend != "cpu"
        self._set_ranks(
            [RankLooks(self.run, rank.rank, name, rank.device_id) for rank, name in zip(plan.ranks, names)]
        )

    def _set_ranks(self, ranks: list[RankLooks]) -> None:
        self._ranks = ranks
        self._leader = Leader(self.run, [rank.rank for rank in ranks])

    def _look_at_ranks(self, over: bool) -> list[RankView]:
        ends = _ends(self._result.value or {})
        told = self._told.value or {}
        return [
            rank.look(self._happened, ends.get(rank.rank, {}), told.get(rank.rank), over)
            for rank in self._ranks
        ]

    def _follow_curve(self) -> None:
        """Follow the rows of the leading rank."""
        if self._leader.look() and self._leader.rank is not None:
            self._curve, self._rows = Curve(), Growing(self.run.metrics(self._leader.rank))
            self._unread = 0
        if self._leader.rank is None:
            return
        for line in self._rows.look():
            found = series.record(line)
            if found is not None:
                self._curve.add(series.numbers(found))
            elif line.strip() and not series.evaluation(line):
                self._unread += 1

    def _view(self, status: RunStatus, ranks: Sequence[RankView]) -> RunView:
        result = self._result.value or {}
        steps = [rank.step for rank in ranks if rank.step is not None]
        step = min(steps) if steps else status.step
        beats = [rank.beat.value for rank in self._ranks if rank.beat.value]
        total = max((beat.total_steps for beat in beats), default=0) or None
        paces = [pace for pace in (rank.pace.steps() for rank in self._ranks) if pace]
        pace = min(paces) if paces and status.state == "running" else None
        left = max(0, total - step) if total is not None and step is not None else None
        rates = [rank.examples_per_second for rank in ranks if rank.examples_per_second is not None]
        row = self._curve.last
        return RunView(
            run=printable(self.run.path.name),
            path=printable(str(self.run.path)),
            state=printable(status.state),
            over=_is_over(status),
            job=printable(status.job) or None,
            hosts=self._hosts,
            attempt=_whole(result.get("attempts")) or self._happened.attempt,
            elapsed=self._elapsed(status, result),
            exit_code=status.exit_code,
            failure=self._failure(status, result),
            step=step,
            total_steps=total,
            steps_per_second=pace,
            eta=left / pace if pace and left is not None else None,
            loss=row.get("loss"),
            losses=self._curve.losses,
            examples_per_second=row.get("examples_per_second", sum(rates) if rates else None),
            best_examples_per_second=self._best(),
            straggler=self._happened.straggler,
            alerts=tuple(self._happened.alerts),
            ranks=tuple(ranks),
            missing=tuple(self._missing(status)),
        )

    def _best(self) -> float | None:
        """Return the best rate of all ranks; where rows tell one device's, that of as many as there are."""
        best = self._curve.best
        if best is None:
            return None
        return best.value * (len(self._ranks) if best.unit == series.EACH else 1)

    def _elapsed(self, status: RunStatus, result: Mapping[str, Any]) -> float | None:
        """Return how long it has run, or ran; of a launcher that was killed, until its last word."""
        seconds = result.get("seconds")
        if isinstance(seconds, (int, float)) and 0 <= seconds < 1e12:
            return float(seconds)
        began = self._happened.began or status.started
        end = self._happened.last if _is_over(status) else time.time()
        return max(0.0, end - began) if began and end else None

    def _failure(self, status: RunStatus, result: Mapping[str, Any]) -> str | None:
        if not status.exit_code:
            return None
        try:
            text = foreign.read_bytes(self.run.report).decode("utf-8", "replace").strip()
        except ReadError:
            text = ""
        rank = _whole(result.get("culprit"))
        first = text.partition("\n")[0][:300] or (f"{named(rank)} failed first" if rank is not None else "")
        return mask_text(printable(first)) or None

    def _missing(self, status: RunStatus) -> list[str]:
        """Say what is not there, or not as it should be."""
        planned, began = os.path.lexists(str(self.run.plan)), self._happened.began is not None
        if status.state == "lost" and not planned and not began and not self._ranks:
            return [printable(missing.of_nothing(self.run))]
        over = _is_over(status)
        events, unread = self._happened.problem(over), self._unread + (over and self._rows.torn)
        plan = self._plan_problem if planned or status.state != "queued" else ""
        own = [self._result.problem, plan, self._told.problem, events]
        told = [*missing.of_files(self.run, own, status.problems)]
        told += missing.of_ranks(self._ranks, self._leader.rank, unread)
        told += missing.of_end(self.run, status.state, began or bool(events), bool(self._ranks))
        told += [self._npus.problem] if self._npus and self._uses_npus else []
        return [printable(text) for text in dict.fromkeys(told) if text]


def _is_over(status: RunStatus) -> bool:
    """Tell whether nothing more is to come: a result that is damaged is an end, too."""
    ended = os.path.lexists(str(status.run.result)) and not status.where
    return status.state not in ("running", "queued", "unknown") or (status.state == "unknown" and ended)


def _ends(result: Mapping[str, Any]) -> dict[int, Mapping[str, Any]]:
    ends = result.get("ends")
    found = [end for end in ends if isinstance(end, dict)] if isinstance(ends, list) else []
    return {end["rank"]: end for end in found if type(end.get("rank")) is int}


def _whole(value: Any) -> int | None:
    return value if type(value) is int else None
