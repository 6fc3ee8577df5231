"""Bring an attempt to its end, so that nothing of it is left.

RUNNING ─► ENDING (SIGTERM sent; `grace` runs) ─► SWEEPING (SIGKILL to whatever is left) ─► DONE
"""

from __future__ import annotations

import enum
import os
import signal
import time
from typing import Sequence

from launcher.plan.model import Plan
from launcher.process import procfs, spawn, sweep
from launcher.supervision.events import Journal
from launcher.supervision.rank import Running
from launcher.supervision.run_clock import Clock
from rank_table.ranges import spell

LEFTOVER_GRACE = 2.0  # seconds for processes that ranks which ended well have left behind
GIVE_UP = 5.0  # seconds after SIGKILL: what lives on then sleeps in the kernel
LOOK = 0.02  # seconds between looks at what is left


class Phase(enum.Enum):
    """Where an attempt stands."""

    RUNNING = "running"
    ENDING = "ending"
    SWEEPING = "sweeping"
    DONE = "done"


class Ending:
    """Hold the phase of an attempt, and carry out the steps that lead to its end."""

    def __init__(self, plan: Plan, ranks: Sequence[Running], journal: Journal, clock: Clock) -> None:
        self._plan, self._ranks, self._journal, self._clock = plan, ranks, journal, clock
        self.phase = Phase.RUNNING
        self.began_ns: int | None = None  # monotonic; None: every rank ended by itself
        self.deadline = float("inf")
        self.spared: frozenset[int] = frozenset()  # children of this process that are no part of the run

    def living(self) -> list[Running]:
        """Give the ranks whose process has not ended."""
        return [rank for rank in self._ranks if rank.alive]

    def begin(self, why: str) -> None:
        """Ask every rank to end; what has not after the grace period is killed."""
        if self.phase is not Phase.RUNNING:
            return
        self.phase = Phase.ENDING
        self.began_ns = time.monotonic_ns()
        grace = self._plan.policy.grace
        self.deadline = self._clock.now() + grace
        living = [rank.rank for rank in self.living()]
        self.send(signal.SIGTERM)
        self.send(signal.SIGCONT)  # a stopped process takes SIGTERM only when it is continued
        self._journal.event("teardown", why=why, ranks=living)
        if living:
            text = "%s; ending rank%s %s (grace %g s)"
            self._journal.say(text % (why, "s" if len(living) > 1 else "", spell(living), grace))

    def hurry(self) -> None:
        """Let the current deadline be now."""
        self.deadline = self._clock.now()

    def send(self, number: int) -> None:
        """Send a signal to the process group of every rank, also of those whose leader has ended."""
        for rank in self._ranks:
            if rank.group:
                rank.group = spawn.kill_group(rank.pid, number) or rank.alive

    def advance(self, now: float) -> None:
        """Take the step that is due."""
        if self.phase is Phase.RUNNING and not self.living():
            self._all_ended(now)
        if self.phase is Phase.ENDING and (now >= self.deadline or not (self.living() or self._groups())):
            self._begin_sweep(now)
        if self.phase is Phase.SWEEPING:
            self._sweep(now)

    def _all_ended(self, now: float) -> None:
        """Go on when every rank has ended by itself: what they left behind gets a short grace."""
        self.phase = Phase.ENDING
        self.deadline = now + min(self._plan.policy.grace, LEFTOVER_GRACE)
        if self._groups():
            self.send(signal.SIGTERM)

    def _groups(self) -> bool:
        """Tell whether any rank's process group still has members."""
        for rank in self._ranks:
            if rank.group and not rank.alive:
                rank.group = spawn.kill_group(rank.pid, 0)
        return any(rank.group for rank in self._ranks)

    def _begin_sweep(self, now: float) -> None:
        self.phase = Phase.SWEEPING
        self.deadline = now + GIVE_UP
        ranks = [rank.rank for rank in self.living()]
        if ranks:
            self._journal.say("killing rank{} {}".format("s" if len(ranks) > 1 else "", spell(ranks)))
        self.send(signal.SIGKILL)

    def _sweep(self, now: float) -> None:
        found = sweep.freeze_and_kill(self._trace())
        if found:
            self._journal.event("swept", pids=sorted(found))
        if not found and not self.living():
            self.phase = Phase.DONE
        elif now >= self.deadline:
            self._give_up(found)

    def _trace(self) -> sweep.Trace:
        return sweep.Trace(self._plan.run_id, top=os.getpid(), without=self.spared)

    def _give_up(self, found: set[int]) -> None:
        pids = sorted(found | {rank.pid for rank in self.living()})
        for pid in pids:
            where = procfs.waits_in(pid)
            self._journal.say("cannot kill process %d%s" % (pid, f" (waits in {where})" if where else ""))
        self._journal.event("survivors", pids=pids)
        self.phase = Phase.DONE
