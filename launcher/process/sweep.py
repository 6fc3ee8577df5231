"""Find and kill the processes of a run, by every trace that a process cannot easily lose; never by name."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Callable, Mapping

from launcher.process import procfs
from launcher.process.procfs import Process

_QUIET, _FREEZE = 5, 2.0  # looks in a row that find nothing; seconds at most


@dataclass(frozen=True)
class Trace:
    """Hold by what the processes of a run are known.

    run_id: in their environment. pipes: inodes that they hold as standard output or error. pids: seen at some
    time, with their start, which tells a pid that was given again. top: all that descends from it belongs to
    the run (0: nobody), but for `without` and what descends from those.
    """

    run_id: str
    pipes: frozenset[int] = frozenset()
    pids: Mapping[int, int] = field(default_factory=dict)
    top: int = 0
    without: frozenset[int] = frozenset()

    def find(self) -> set[int]:
        """Find the living processes of the run."""
        return self.arrivals({os.getpid()}, set())

    def arrivals(self, seen: set[int], members: set[int], meet: Callable[[int], object] = int) -> set[int]:
        """Find members among the processes not in `seen`; put all that were looked at there.

        `meet` is called with each at the moment that it is known: a process that hops from pid to pid is
        another one a moment later.
        """
        table, found = {}, set()
        tops = [*members, self.top] if self.top else [*members]
        for process in procfs.listing(seen):
            table[process.pid] = process
            if process.pid not in self.without and self._known(process):
                tops.append(process.pid)  # one that has ended too: a child was read when it still lived
                if process.living:
                    meet(process.pid)
                    found.add(process.pid)
        seen.update(table)
        inherited = procfs.descendants(tops, table, self.without) - found
        living = {pid for pid in inherited if table[pid].living}
        for pid in living:
            meet(pid)
        return found | living

    def _known(self, process: Process) -> bool:
        if self.pids.get(process.pid, -1) == process.start:
            return True
        # What has ended has neither an environment nor open files.
        if not process.living:
            return False
        held = self.pipes and self.pipes & procfs.outputs(process.pid)
        return bool(held) or procfs.tagged(process.pid, self.run_id)


def members(run_id: str) -> set[int]:
    """Find the living processes that carry a run's id in their environment."""
    return Trace(run_id).find()


def freeze_and_kill(trace: Trace) -> set[int]:
    """Kill the processes of a run; return those found. Frozen first, so that none can fork away.

    After the first look only new pids are looked at, which is fast enough for what hops from pid to pid.
    """
    frozen: set[int] = set()
    seen = {os.getpid()}
    quiet = 0
    end = time.monotonic() + _FREEZE
    while quiet < _QUIET and time.monotonic() < end:
        new = trace.arrivals(seen, frozen, _stop)
        frozen |= new
        quiet = 0 if new else quiet + 1
    for pid in frozen:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    return frozen


def _stop(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGSTOP)
