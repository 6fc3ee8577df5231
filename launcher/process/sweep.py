"""Find and kill the processes of a run, by marks that a process cannot easily lose; never by name."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Callable, Mapping

from launcher.process import procfs
from launcher.process.procfs import Process

_QUIET_SCANS, _LONGEST_FREEZE = 5, 2.0  # scans in a row that find nothing; seconds at most


@dataclass(frozen=True)
class ProcessMatcher:
    """The marks by which the processes of a run are known.

    run_id: in their environment, if they are this user's: anybody can write it into an environment.
    folders: the run folders that it must name then (empty: any). pipes: inodes that they hold as standard
    output or error. pids: seen before, with their start, as pids are used again. top: its descendants belong
    to the run (0: not used), except `without` and the descendants of those. host: that it must name, too, in
    a run on several, which may be one machine ("": any).
    """

    run_id: str
    pipes: frozenset[int] = frozenset()
    pids: Mapping[int, int] = field(default_factory=dict)
    top: int = 0
    without: frozenset[int] = frozenset()
    folders: frozenset[str] = frozenset()
    host: str = ""

    def find(self) -> set[int]:
        """Find the living processes of the run."""
        return self.scan({os.getpid()}, set())

    def scan(self, seen: set[int], members: set[int], on_found: Callable[[int], object] = int) -> set[int]:
        """Find members among the processes not in `seen`, and add all that were read to it.

        `on_found` is called with a pid as soon as it is known: a process that forks and exits again and again
        has another pid a moment later.
        """
        table, found = {}, set()
        tops = [*members, self.top] if self.top else [*members]
        for process in procfs.listing(seen):
            table[process.pid] = process
            if process.pid not in self.without and self._matches(process):
                tops.append(process.pid)  # also one that has ended: a child was read while it still lived
                if process.living:
                    on_found(process.pid)
                    found.add(process.pid)
        seen.update(table)
        inherited = procfs.descendants(tops, table, self.without) - found
        living = {pid for pid in inherited if table[pid].living}
        for pid in living:
            on_found(pid)
        return found | living

    def _matches(self, process: Process) -> bool:
        if self.pids.get(process.pid, -1) == process.start:
            return True
        # A process that has ended has neither an environment nor open files.
        if not process.living:
            return False
        held = self.pipes and self.pipes & procfs.outputs(process.pid)
        return bool(held) or self._says_so(process.pid)

    def _says_so(self, pid: int) -> bool:
        said = procfs.marks(pid)
        if said is None or said.run_id != self.run_id or (self.host and said.host != self.host):
            return False
        return not self.folders or bool(self.folders & {said.folder, os.path.realpath(said.folder)})


def members(run_id: str) -> set[int]:
    """Find the living processes of this user that carry a run's id in their environment."""
    return ProcessMatcher(run_id).find()


def freeze_and_kill(matcher: ProcessMatcher) -> set[int]:
    """Kill the processes of a run; return those found. They are stopped first, so that none can fork away.

    After the first scan only new pids are read, which is fast enough for a process that forks and exits again
    and again.
    """
    frozen: set[int] = set()
    seen = {os.getpid()}
    quiet = 0
    end = time.monotonic() + _LONGEST_FREEZE
    while quiet < _QUIET_SCANS and time.monotonic() < end:
        new = matcher.scan(seen, frozen, _stop)
        frozen |= new
        quiet = 0 if new else quiet + 1
    for pid in frozen:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    return frozen


def _stop(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGSTOP)
