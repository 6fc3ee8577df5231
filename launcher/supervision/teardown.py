"""The end of an attempt, after which no process of it is left.

RUNNING ─► ENDING (SIGTERM sent; `grace` runs) ─► SWEEPING (SIGKILL to whatever is left) ─► DONE
"""

from __future__ import annotations

import enum
import os
import signal
import time
from contextlib import suppress
from typing import Sequence

from launcher.process import procfs, spawn, sweep
from launcher.supervision.context import RunContext
from launcher.supervision.events import Event
from launcher.supervision.rank import RankProcess
from launcher.supervision.run_clock import PausableClock
from launcher.text import named

SCHEDULER_GRACE = 10.0  # seconds for the scheduler to end when no rank is left: it looks every 5 s or so
LEFTOVER_GRACE = 2.0  # seconds for what ranks have left behind that all exited with 0
GIVE_UP = 5.0  # seconds after SIGKILL: a process that still lives sleeps in the kernel
POLL = 0.02  # seconds between checks of what is left


class Phase(enum.Enum):
    """The stage of an attempt."""

    RUNNING = "running"
    ENDING = "ending"
    SWEEPING = "sweeping"
    DONE = "done"


class Teardown:
    """The phase of an attempt, and the steps that lead to its end.

    `foreign_children`: children of this process that do not belong to the run. `elsewhere`: ranks of other
    hosts may not have ended, which the scheduler serves.
    """

    def __init__(self, context: RunContext, ranks: Sequence[RankProcess], clock: PausableClock) -> None:
        self._plan, self._events, self._ranks, self._clock = context.plan, context.events, ranks, clock
        self.phase = Phase.RUNNING
        self.began_ns: int | None = None  # monotonic; None: every rank ended by itself
        self.deadline = float("inf")
        self.foreign_children: frozenset[int] = frozenset()
        self.elsewhere = False
        self._alone_at = float("inf")  # when the scheduler is to end, which no rank needs any more
        self._host = next((rank.spec.env.get(procfs.HOST, "") for rank in ranks), "")

    def living(self) -> list[RankProcess]:
        """List the ranks whose process has not ended."""
        return [rank for rank in self._ranks if rank.alive]

    def needs(self, rank: RankProcess) -> bool:
        """Tell whether the end of a process matters: that of the scheduler does while a rank is left."""
        return not rank.is_scheduler or self.elsewhere or any(not one.is_scheduler for one in self.living())

    def begin(self, why: str) -> None:
        """Ask every rank to end; those that have not after the grace period are killed."""
        if self.phase is not Phase.RUNNING:
            return
        self.phase = Phase.ENDING
        self.began_ns = time.monotonic_ns()
        grace = self._plan.policy.grace
        self.deadline = self._clock.now() + grace
        living = [rank.rank for rank in self.living()]
        self.send(signal.SIGTERM)
        self.send(signal.SIGCONT)  # a stopped process takes SIGTERM only when it is continued
        self._events.record(Event.TEARDOWN, why=why, ranks=living)
        if living:
            self._events.announce(f"{why}; ending {named(*living)} (grace {grace:g} s)")

    def expire(self) -> None:
        """Let the current deadline be now."""
        self.deadline = self._clock.now()

    def send(self, number: int) -> None:
        """Send a signal to the process group of every rank, also where its leader has ended."""
        for rank in self._ranks:
            if rank.has_group:
                rank.has_group = spawn.kill_group(rank.pid, number) or rank.alive

    def forward(self, number: int) -> None:
        """Pass a signal on to the ranks that handle it: it would kill the others."""
        for rank in self.living():
            if procfs.handles(rank.pid, number):
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(rank.pid, number)

    def advance(self, now: float) -> None:
        """Take the step that is due."""
        if self.phase is Phase.RUNNING and self._is_over(now):
            self._all_ended(now)
        if self.phase is Phase.ENDING and (now >= self.deadline or not (self.living() or self._groups())):
            self._begin_sweep(now)
        if self.phase is Phase.SWEEPING:
            self._sweep(now)

    def _is_over(self, now: float) -> bool:
        """Tell whether every rank has ended by itself, and the scheduler has or will not."""
        living = self.living()
        if not living:
            return True
        if any(map(self.needs, living)):
            return False
        self._alone_at = min(self._alone_at, now + min(self._plan.policy.grace, SCHEDULER_GRACE))
        return now >= self._alone_at

    def _all_ended(self, now: float) -> None:
        """Go on when every rank has ended by itself: what they left behind gets a short grace period."""
        self.phase = Phase.ENDING
        self.deadline = now + min(self._plan.policy.grace, LEFTOVER_GRACE)
        if self._groups():
            self.send(signal.SIGTERM)

    def _groups(self) -> bool:
        """Tell whether any rank's process group still has members."""
        for rank in self._ranks:
            if rank.has_group and not rank.alive:
                rank.has_group = spawn.kill_group(rank.pid, 0)
        return any(rank.has_group for rank in self._ranks)

    def _begin_sweep(self, now: float) -> None:
        self.phase = Phase.SWEEPING
        self.deadline = now + GIVE_UP
        ranks = [rank.rank for rank in self.living()]
        if ranks:
            self._events.announce(f"killing {named(*ranks)}")
        self.send(signal.SIGKILL)

    def _sweep(self, now: float) -> None:
        found = sweep.freeze_and_kill(
            sweep.ProcessMatcher(
                self._plan.run_id, top=os.getpid(), without=self.foreign_children, host=self._host
            )
        )
        if found:
            self._events.record(Event.SWEPT, pids=sorted(found))
        if not found and not self.living():
            self.phase = Phase.DONE
        elif now >= self.deadline:
            self._give_up(found)

    def _give_up(self, found: set[int]) -> None:
        pids = sorted(found | {rank.pid for rank in self.living()})
        for pid in pids:
            where = procfs.waits_in(pid)
            self._events.announce(f"cannot kill process {pid}" + (f" (waits in {where})" if where else ""))
        self._events.record(Event.SURVIVORS, pids=pids)
        self.phase = Phase.DONE
