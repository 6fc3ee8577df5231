"""Find a run's processes in /proc, by every trace that a process cannot easily lose; never by name."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import AbstractSet, Callable, Dict, FrozenSet, Iterable, Iterator, List, Mapping, Set, Tuple

_ENDED = ("Z", "X")
TICKS = os.sysconf("SC_CLK_TCK")  # of processor time, per second
_QUIET, _FREEZE = 5, 2.0  # looks in a row that find nothing; seconds at most
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Process:
    """Hold a line of /proc: `state` is the letter of proc(5), `start` ticks since boot."""

    pid: int
    parent: int
    state: str
    start: int


def processes(without: AbstractSet[int] = frozenset()) -> Dict[int, Process]:
    """List every process of this machine but those in `without` (Linux; elsewhere none)."""
    return {process.pid: process for process in _listing(without)}


def _listing(without: AbstractSet[int]) -> Iterator[Process]:
    """Give processes as they are read, the newest first: those are the ones that may soon be others."""
    names = os.listdir("/proc") if sys.platform.startswith("linux") else []
    for name in reversed(names):
        if name.isdigit() and int(name) not in without:
            with suppress(OSError, ValueError, IndexError):
                yield _process(int(name))


def _process(pid: int) -> Process:
    with open("/proc/%d/stat" % pid, "rb") as stream:
        words = stream.read().rpartition(b")")[2].split()  # the name before it may hold anything
    return Process(pid, int(words[1]), words[0].decode(), int(words[19]))


@dataclass(frozen=True)
class Usage:
    """Hold what a process and its descendants use: bytes resident, ticks of processor time."""

    pids: FrozenSet[int] = frozenset()
    resident: int = 0
    ticks: int = 0
    available: int = 0  # bytes of the machine's memory that were left at that moment


def usage(top: int, available: int = 0) -> Usage:
    """Add up a process and its descendants, without a look at every process of the machine."""
    pids: Set[int] = set()
    resident = ticks = 0
    queue = [top]
    while queue:
        pid = queue.pop()
        with suppress(OSError, ValueError, IndexError):
            with open("/proc/%d/stat" % pid, "rb") as stream:
                words = stream.read().rpartition(b")")[2].split()
            pids.add(pid)
            ticks += int(words[11]) + int(words[12])
            resident += int(words[21]) * _PAGE
            with open("/proc/%d/task/%d/children" % (pid, pid), "rb") as stream:
                queue += map(int, stream.read().split())
    return Usage(frozenset(pids), resident, ticks, available)


def start_of(pid: int) -> int:
    """Tell when a process started, in ticks since boot; 0 when it is gone. With the pid it is unique."""
    with suppress(OSError, ValueError, IndexError):
        return _process(pid).start
    return 0


def tagged(pid: int, run_id: str) -> bool:
    """Tell whether a process carries the run's id in its environment."""
    with suppress(OSError):
        with open("/proc/%d/environ" % pid, "rb") as stream:
            return b"NPU_LAUNCH_RUN_ID=" + run_id.encode() in stream.read().split(b"\0")
    return False


def below(
    tops: Iterable[int], table: Dict[int, Process], without: AbstractSet[int] = frozenset()
) -> Set[int]:
    """Give the descendants of processes; those in `without` and theirs are left out."""
    children: Dict[int, List[int]] = {}
    for process in table.values():
        children.setdefault(process.parent, []).append(process.pid)
    found: Set[int] = set()
    queue = list(tops)
    while queue:
        for pid in children.get(queue.pop(), ()):
            if pid not in without and pid not in found:
                found.add(pid)
                queue.append(pid)
    return found


@dataclass(frozen=True)
class Trace:
    """Hold by what the processes of a run are known.

    run_id: in their environment. pipes: inodes that they hold as standard output or error. pids: seen at some
    time, with their start, which tells a pid that was given again. top: all that descends from it belongs to
    the run (0: nobody), but for `without` and what descends from those.
    """

    run_id: str
    pipes: FrozenSet[int] = frozenset()
    pids: Mapping[int, int] = field(default_factory=dict)
    top: int = 0
    without: FrozenSet[int] = frozenset()

    def find(self) -> Set[int]:
        """Find the living processes of the run."""
        return self.arrivals({os.getpid()}, set())

    def arrivals(self, seen: Set[int], members: Set[int], meet: Callable[[int], object] = int) -> Set[int]:
        """Find members among the processes not in `seen`; put all that were looked at there.

        `meet` is called with each at the moment that it is known: a process that hops from pid to pid is
        another one a moment later.
        """
        table, found = {}, set()
        tops = [*members, self.top] if self.top else [*members]
        for process in _listing(seen):
            table[process.pid] = process
            if process.pid not in self.without and self._known(process):
                tops.append(process.pid)  # one that has ended too: a child was read when it still lived
                if process.state not in _ENDED:
                    meet(process.pid)
                    found.add(process.pid)
        seen.update(table)
        inherited = below(tops, table, self.without) - found
        living = {pid for pid in inherited if table[pid].state not in _ENDED}
        for pid in living:
            meet(pid)
        return found | living

    def _known(self, process: Process) -> bool:
        if self.pids.get(process.pid, -1) == process.start:
            return True
        # What has ended has neither an environment nor open files.
        return process.state not in _ENDED and (
            tagged(process.pid, self.run_id) or bool(self.pipes and self.pipes & outputs(process.pid))
        )


def outputs(pid: int) -> Set[int]:
    """Give the inodes of a process's standard output and error, where they are pipes."""
    found = set()
    for number in (1, 2):
        with suppress(OSError, ValueError):
            kind, _, inode = os.readlink("/proc/%d/fd/%d" % (pid, number)).partition(":")
            if kind == "pipe":
                found.add(int(inode.strip("[]")))
    return found


def members(run_id: str) -> Set[int]:
    """Find the living processes that carry a run's id in their environment."""
    return Trace(run_id).find()


def freeze_and_kill(trace: Trace) -> Set[int]:
    """Kill the processes of a run; return those found. Frozen first, so that none can fork away.

    After the first look only new pids are looked at, which is fast enough for what hops from pid to pid.
    """
    frozen: Set[int] = set()
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


def handles(pid: int, number: int) -> bool:
    """Tell whether a process catches or ignores a signal, so that sending it does not end it."""
    return _in_mask(pid, number, ("SigCgt", "SigIgn"))


def ignores(pid: int, number: int) -> bool:
    """Tell whether a process ignores a signal."""
    return _in_mask(pid, number, ("SigIgn",))


def _in_mask(pid: int, number: int, names: Tuple[str, ...]) -> bool:
    with suppress(OSError, ValueError):
        with open("/proc/%d/status" % pid) as stream:
            masks = [int(line.split()[1], 16) for line in stream if line.startswith(names)]
        return any(mask >> (number - 1) & 1 for mask in masks)
    return False


def waits_in(pid: int) -> str:
    """Name the kernel function in which a process sleeps ("" when that cannot be read)."""
    with suppress(OSError):
        with open("/proc/%d/wchan" % pid) as stream:
            return stream.read().strip("0\n")
    return ""
