"""Find a run's processes in /proc: by the run's id in their environment, by descent from the launcher."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Dict, FrozenSet, List, Set

_ENDED = ("Z", "X")
TICKS = os.sysconf("SC_CLK_TCK")  # of processor time, per second
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Process:
    """Hold a line of /proc: `state` is the letter of proc(5), `start` ticks since boot."""

    pid: int
    parent: int
    state: str
    start: int


def processes() -> Dict[int, Process]:
    """List every process of this machine (Linux; elsewhere none)."""
    found = {}
    for name in os.listdir("/proc") if sys.platform.startswith("linux") else ():
        if name.isdigit():
            with suppress(OSError, ValueError, IndexError):
                found[int(name)] = _process(int(name))
    return found


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


def below(top: int, table: Dict[int, Process], without: FrozenSet[int] = frozenset()) -> Set[int]:
    """Give the descendants of a process; those in `without` and theirs are left out."""
    children: Dict[int, List[int]] = {}
    for process in table.values():
        children.setdefault(process.parent, []).append(process.pid)
    found: Set[int] = set()
    queue = [top]
    while queue:
        for pid in children.get(queue.pop(), ()):
            if pid not in without and pid not in found:
                found.add(pid)
                queue.append(pid)
    return found


def members(run_id: str, without: FrozenSet[int] = frozenset(), top: int = 0) -> Set[int]:
    """Find the living processes of a run: tagged ones, and what descends from `top` (0: nobody)."""
    table = processes()
    found = {pid for pid in table if pid != os.getpid() and tagged(pid, run_id)}
    if top:
        found |= below(top, table, without)
    return {pid for pid in found - without if pid in table and table[pid].state not in _ENDED}


def freeze_and_kill(run_id: str, without: FrozenSet[int] = frozenset(), top: int = 0) -> Set[int]:
    """Kill the processes of a run; return those found. Frozen first, so that none can fork away."""
    frozen: Set[int] = set()
    for _ in range(20):
        new = members(run_id, without, top) - frozen
        if not new:
            break
        _send(new, signal.SIGSTOP)
        frozen |= new
    _send(frozen, signal.SIGKILL)
    return frozen


def _send(pids: Set[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def handles(pid: int, number: int) -> bool:
    """Tell whether a process catches or ignores a signal, so that sending it does not end it."""
    with suppress(OSError, ValueError):
        with open("/proc/%d/status" % pid) as stream:
            masks = [int(line.split()[1], 16) for line in stream if line.startswith(("SigCgt", "SigIgn"))]
        return any(mask >> (number - 1) & 1 for mask in masks)
    return False


def waits_in(pid: int) -> str:
    """Name the kernel function in which a process sleeps ("" when that cannot be read)."""
    with suppress(OSError):
        with open("/proc/%d/wchan" % pid) as stream:
            return stream.read().strip("0\n")
    return ""
