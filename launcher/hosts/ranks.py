"""What the head knows of the ranks of all hosts, and the verdict over them."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Iterable, Sequence

from launcher.diagnosis.failure import RankEnd, RankStatus
from launcher.diagnosis.hang import StackSnapshot
from launcher.diagnosis.verdict import judge
from launcher.heartbeat import Counters
from launcher.hosts import ends
from launcher.hosts.fleet import Fleet, HostState
from launcher.plan.model import RankSpec
from launcher.run_dir import write_atomic
from launcher.runs.remote import RANKS_FILE
from launcher.supervision.context import RunContext
from launcher.supervision.progress import Incident, RunProgress
from launcher.supervision.rank import Heartbeat
from launcher.text import SCHEDULER

WRITE = 2.0  # seconds between two writings of what `ps` shows
_COST = 1 / 2000  # seconds more for each rank


@dataclass
class RemoteRank:
    """A rank as its agent tells of it. Times are seconds of the head's clock, ended_ns too."""

    spec: RankSpec
    host: HostState
    pid: int = 0
    code: int | None = None
    started: float = 0.0
    seconds: float = 0.0
    active: float = 0.0
    lively: float = 0.0
    ended_ns: int = 0
    heartbeat: Heartbeat = field(default_factory=Heartbeat)

    @property
    def rank(self) -> int:
        return self.spec.rank

    @property
    def alive(self) -> bool:
        return self.pid != 0 and self.code is None and self.host.ends is None and not self.host.lost

    def row(self) -> list[object]:
        """Return what RANKS_FILE has of it."""
        beat = self.heartbeat
        step = beat.train_step if beat.step or beat.phase else None
        return [self.host.name, self.pid, self.code, step, beat.phase]


class Ranks:
    """The ranks of one attempt. `snapshot`: their stacks, where they hung."""

    def __init__(self, context: RunContext, fleet: Fleet) -> None:
        self._context, self._fleet = context, fleet
        of = {rank: host for host in fleet for rank in host.ranks}
        plan = context.plan
        self._ranks = {spec.rank: RemoteRank(spec, of[spec.rank]) for spec in plan.ranks}
        self._progress = RunProgress(plan.policy, list(self._ranks.values()), context.events)
        if plan.scheduler is not None:
            self._ranks[SCHEDULER] = RemoteRank(plan.scheduler, of[plan.ranks[0].rank])
        self._failed: dict[int, RankEnd] = {}
        self._accused: dict[int, tuple[Incident, int]] = {}
        self._began = time.monotonic()
        self._write_at = 0.0
        self._changed = True
        self._expected = self._fewer = False
        self._sampled: dict[int, float] = {}
        self.snapshot: StackSnapshot | None = None
        self.teardown_ns: int | None = None

    def started(self, rank: int, pid: int) -> None:
        """Take the start of a rank."""
        found = self._ranks[rank]
        found.pid = pid
        found.started = found.active = found.lively = time.monotonic()
        self._changed = True

    def beat(self, host: HostState, rows: Iterable[Sequence[Any]], sampled: float, now: float) -> None:
        """Take what an agent tells of its ranks; ages are seconds before it was sent."""
        self._sampled[host.index] = now - sampled
        for row in rows:
            rank, alive, step, train_step, phase, has_stepped, seen, active, lively, started, code = row[:11]
            found = self._ranks.get(rank)
            if found is None or found.host is not host:
                continue
            beat = found.heartbeat
            beat.step, beat.train_step, beat.phase, beat.has_stepped = step, train_step, phase, has_stepped
            beat.seen, found.active, found.lively = now - seen, now - active, now - lively
            found.started = now - started
            if len(row) > 11:  # told only when they change
                beat.total_steps, beat.counters = row[11], Counters(*row[12]) if row[12] else None
            if not alive and found.code is None and code is not None:
                self._ended(found, code, time.monotonic_ns())
            self._changed = True

    def _ended(self, rank: RemoteRank, code: int | None, ended_ns: int) -> None:
        rank.code, rank.ended_ns = code, ended_ns
        rank.seconds = max(0.0, ended_ns / 1e9 - rank.started)

    def failed(self, end: RankEnd) -> None:
        """Take a failure."""
        self._failed[end.rank] = end
        self._ended(self._ranks[end.rank], end.code, end.ended_ns)

    def ended(self, found: Iterable[RankEnd]) -> None:
        """Take the ends of all ranks of a host."""
        for end in found:
            self._ended(self._ranks[end.rank], end.code, end.ended_ns)
        self._changed = self._fewer = True

    def is_of(self, rank: int, host: HostState) -> bool:
        """Tell whether a host has a rank, or the scheduler."""
        return rank in self._ranks and self._ranks[rank].host is host

    def is_alone(self) -> bool:
        """Tell whether the scheduler is left, and no rank of any host."""
        ranks = [rank for number, rank in self._ranks.items() if number != SCHEDULER]
        return len(ranks) < len(self._ranks) and all(
            rank.code is not None or rank.host.ends is not None for rank in ranks
        )

    def living(self) -> list[int]:
        """List the ranks that have not ended, as far as their agents have told."""
        return [rank.rank for rank in self._ranks.values() if rank.alive]

    def check(self, now: float) -> Incident | None:
        """Return the first problem of a rank among all."""
        if not self._expected:
            self._context.console.expect([*self._ranks])
            self._expected = True
        there = [host.index for host in self._fleet if host.ends is None and host.is_there]
        sampled = min((self._sampled.get(index, 0.0) for index in there), default=now)
        return self._progress.check(now, sampled)

    def accuse(self, rank: int, incident: Incident, when_ns: int) -> None:
        """Keep what was observed of a rank while it lived."""
        self._accused[rank] = (incident, when_ns)

    # The verdict.

    def judged(self) -> tuple[tuple[RankEnd, ...], RankEnd | None]:
        """Judge the ends of all ranks on one clock."""
        found = {end.rank: end for host in self._fleet for end in host.ends or ()}
        every = [self._end(rank, found) for rank in self._ranks.values()]
        return judge(every, {end.rank: self._teardown_of(end.rank) for end in every})

    def _teardown_of(self, rank: int) -> int | None:
        host = self._ranks[rank].host
        return host.teardown_ns if host.ends is not None else self.teardown_ns

    def _end(self, rank: RemoteRank, found: dict[int, RankEnd]) -> RankEnd:
        end = found.get(rank.rank) or self._failed.get(rank.rank)
        if end is None:
            host, seconds = rank.host, max(0.0, rank.host.heard - (rank.started or self._began))
            end = ends.lost_end(host, rank.spec, rank.pid, seconds, rank.heartbeat.train_step)
        if rank.rank in self._accused:
            incident, when = self._accused[rank.rank]
            end = replace(end, status=incident.status, detail=incident.detail)
            late = incident.status is RankStatus.HUNG or not end.ended_ns
            return replace(end, ended_ns=when) if late else end
        return end

    # For `ps`.

    def write(self, now: float) -> None:
        """Write now and then what `ps` shows of the ranks; tell the console which may still write."""
        if self._fewer:  # not for each host: that would cost the square of their number
            self._fewer = False
            self._context.console.expect(self.living())
        if not self._changed or now < self._write_at:
            return
        self._write_at, self._changed = now + WRITE + len(self._ranks) * _COST, False
        rows = {rank.rank: rank.row() for rank in self._ranks.values()}
        with suppress(OSError):
            write_atomic(self._context.folder.path / RANKS_FILE, json.dumps(rows).encode())
