"""Processes as /proc shows them (proc(5)): which they are, what they use, what they wait for."""

from __future__ import annotations

import os
import re
import sys
import time
from contextlib import suppress
from typing import AbstractSet, Iterable, Iterator, NamedTuple

TICKS = os.sysconf("SC_CLK_TCK")  # of processor time, per second
_PAGE = os.sysconf("SC_PAGE_SIZE")
_ENDED = ("Z", "X")


class Process(NamedTuple):
    """A process as /proc/PID/stat shows it: `state` is a letter, `start` and `ticks` count clock ticks."""

    pid: int
    parent: int
    state: str
    start: int  # since boot
    ticks: int = 0  # of processor time
    resident: int = 0  # bytes

    @property
    def living(self) -> bool:
        """Whether it is neither a zombie nor dead."""
        return self.state not in _ENDED


def read(pid: int) -> Process | None:
    """Read a process; None for one that is gone or may not be seen."""
    with suppress(OSError, ValueError, IndexError):
        with open(f"/proc/{pid}/stat", "rb") as stream:
            words = stream.read().rpartition(b")")[2].split()  # the name before it may hold anything
        ticks = int(words[11]) + int(words[12])
        return Process(pid, int(words[1]), words[0].decode(), int(words[19]), ticks, int(words[21]) * _PAGE)
    return None


class Identity(NamedTuple):
    """What identifies a process: its pid, and its start in ticks since boot, as pids are used again."""

    pid: int
    start: int


def identity(pid: int) -> Identity | None:
    """Identify a living process; None for one that is gone or a zombie."""
    process = read(pid)
    return Identity(pid, process.start) if process and process.living else None


def alive(who: Identity) -> bool:
    """Tell whether this very process still lives, not another one with its pid."""
    return identity(who.pid) == who


def start_of(pid: int) -> int:
    """Return the start of a process in ticks since boot, of a zombie too; 0 when it is gone."""
    process = read(pid)
    return process.start if process else 0


def processes(without: AbstractSet[int] = frozenset()) -> dict[int, Process]:
    """List every process of this machine but those in `without` (Linux; elsewhere none)."""
    return {process.pid: process for process in listing(without)}


def listing(without: AbstractSet[int]) -> Iterator[Process]:
    """Yield processes as they are read, the newest first: those may soon have other pids."""
    names = os.listdir("/proc") if sys.platform.startswith("linux") else []
    for name in reversed(names):
        if name.isdigit() and int(name) not in without:
            process = read(int(name))
            if process:
                yield process


def descendants(
    tops: Iterable[int], table: dict[int, Process], without: AbstractSet[int] = frozenset()
) -> set[int]:
    """Find the descendants of processes; those in `without` and theirs are left out."""
    children: dict[int, list[int]] = {}
    for process in table.values():
        children.setdefault(process.parent, []).append(process.pid)
    found: set[int] = set()
    queue = list(tops)
    while queue:
        for pid in children.get(queue.pop(), ()):
            if pid not in without and pid not in found:
                found.add(pid)
                queue.append(pid)
    return found


class Usage(NamedTuple):
    """What a process and its descendants use: bytes resident, ticks of processor time."""

    pids: frozenset[int] = frozenset()
    resident: int = 0
    ticks: int = 0
    available: int = 0  # bytes of the machine's memory left at that moment


def usage(top: int, available: int = 0) -> Usage:
    """Add up a process and its descendants, without a look at every process of the machine."""
    pids: set[int] = set()
    resident = ticks = 0
    queue = [top]
    while queue:
        process = read(queue.pop())
        if process is None:
            continue
        pids.add(process.pid)
        ticks += process.ticks
        resident += process.resident
        with suppress(OSError, ValueError):
            with open(f"/proc/{process.pid}/task/{process.pid}/children", "rb") as stream:
                queue += map(int, stream.read().split())
    return Usage(frozenset(pids), resident, ticks, available)


HOST = "NPU_LAUNCH_HOST"  # set for ranks of a run on several hosts, which may share a machine


class Marks(NamedTuple):
    """What the environment of a rank says of its run."""

    run_id: str
    folder: str  # as it was named at the start
    rank: int | None
    host: str = ""  # of a run on several hosts


def marks(pid: int) -> Marks | None:
    """Read to which run a process says it belongs; None for one of another user, who may say anything."""
    with suppress(OSError):
        with open(f"/proc/{pid}/environ", "rb") as stream:
            block = stream.read()
        if b"NPU_LAUNCH_RUN_ID=" in block and user_ids(pid) == {os.geteuid()}:
            said = _variables(block)
            rank = said.get("NPU_LAUNCH_RANK") or said.get("RANK_ID", "")
            number = int(rank) if re.fullmatch("-1|[0-9]{1,9}", rank) else None  # -1: the scheduler
            run_id, folder = said.get("NPU_LAUNCH_RUN_ID", ""), said.get("NPU_LAUNCH_RUN_DIR", "")
            return Marks(run_id, folder, number, said.get(HOST, ""))
    return None


def user_ids(pid: int) -> frozenset[int]:
    """Return the real, effective and saved user of a process; empty when it is gone or hidden (hidepid)."""
    with suppress(OSError, ValueError):
        with open(f"/proc/{pid}/status", "rb") as stream:
            for line in stream:
                if line.startswith(b"Uid:"):
                    return frozenset(map(int, line.split()[1:4]))
    return frozenset()


def holds_for_writing(pid: int, path: str) -> bool:
    """Tell whether a process has this very file open for writing; under which of its names, it decides."""
    with suppress(OSError):
        about = os.lstat(path)
        for name in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                link = f"/proc/{pid}/fd/{name}"
                found = os.stat(link)
                if (found.st_dev, found.st_ino) == (about.st_dev, about.st_ino) and _writes(pid, name):
                    return about.st_nlink == 1 or os.readlink(link) == path
    return False


def _writes(pid: int, descriptor: str) -> bool:
    with open(f"/proc/{pid}/fdinfo/{descriptor}") as stream:
        flags = [int(line.split()[1], 8) for line in stream if line.startswith("flags:")]
    return bool(flags) and flags[0] & os.O_ACCMODE != os.O_RDONLY


def transferred(pids: Iterable[int]) -> int:
    """Add up the bytes that processes have read and written (rchar, wchar); 0 where that is hidden."""
    total = 0
    for pid in pids:
        with suppress(OSError, ValueError, IndexError):
            with open(f"/proc/{pid}/io", "rb") as stream:
                total += sum(int(line.split()[1]) for line in stream if line.startswith((b"rchar", b"wchar")))
    return total


def outputs(pid: int) -> set[int]:
    """Return the inodes of a process's standard output and error, where they are pipes."""
    found = set()
    for number in (1, 2):
        with suppress(OSError, ValueError):
            kind, _, inode = os.readlink(f"/proc/{pid}/fd/{number}").partition(":")
            if kind == "pipe":
                found.add(int(inode.strip("[]")))
    return found


def handles(pid: int, number: int) -> bool:
    """Tell whether a process catches or ignores a signal, so that sending it does not end it."""
    return _in_mask(pid, number, ("SigCgt", "SigIgn"))


def ignores(pid: int, number: int) -> bool:
    """Tell whether a process ignores a signal."""
    return _in_mask(pid, number, ("SigIgn",))


def _in_mask(pid: int, number: int, names: tuple[str, ...]) -> bool:
    with suppress(OSError, ValueError):
        with open(f"/proc/{pid}/status") as stream:
            masks = [int(line.split()[1], 16) for line in stream if line.startswith(names)]
        return any(mask >> (number - 1) & 1 for mask in masks)
    return False


def waits_in(pid: int) -> str:
    """Name the kernel function in which a process sleeps; "" when that cannot be read."""
    with suppress(OSError):
        with open(f"/proc/{pid}/wchan") as stream:
            return stream.read().strip("0\n")
    return ""


def describe(pid: int) -> str:
    """Describe a process for a person: pid, user, command, age."""
    process = read(pid)
    if process is None:
        return f"pid {pid}, not visible here (another container or host)"
    running = span(age(process.start))
    return f"pid {pid}, user {user(pid)}, `{command(pid)}`, running for {running}"


def name(pid: int) -> str:
    """Return the name that the kernel has for a process, 15 characters at most; "" when it is gone."""
    with suppress(OSError):
        with open(f"/proc/{pid}/comm", "rb") as stream:
            return stream.read().decode("utf-8", "replace").rstrip("\n")
    return ""


def user(pid: int) -> str:
    """Return the name of a process's user, or its number."""
    try:
        return user_name(os.stat(f"/proc/{pid}").st_uid)
    except OSError:
        return "?"


def user_name(number: int) -> str:
    """Return the name of a user, or its number."""
    import pwd

    try:
        return pwd.getpwuid(number).pw_name
    except (KeyError, OverflowError):
        return str(number)


def command(pid: int, width: int = 60) -> str:
    """Shorten the command line of a process; of a rank, show what the user wrote."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as stream:
            words = stream.read(4096).rstrip(b"\0").split(b"\0")
    except OSError:
        words = [b"?"]
    shown = [word for word in words[1:] if word != b"-u" and not word.endswith(b"launcher/worker.py")]
    text = b" ".join([os.path.basename(words[0]), *shown]).decode("utf-8", "backslashreplace")
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= width else text[: width - 3] + "..."


def age(start: int) -> float:
    """Compute the seconds since a start in clock ticks since boot; suspended time counts."""
    since_boot = time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", 7))  # 7: Python 3.7 has no name for it
    return max(0.0, since_boot - start / TICKS)


def span(seconds: float) -> str:
    """Format a duration for a person.

    >>> span(5), span(125), span(7260), span(180000)
    ('5 s', '2 min 5 s', '2 h 1 min', '2 d 2 h')
    """
    whole = int(seconds)
    parts = [(whole // 86400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min"), (whole % 60, "s")]
    while len(parts) > 1 and not parts[0][0]:
        parts.pop(0)
    return " ".join(f"{number} {unit}" for number, unit in parts[:2])


def _variables(block: bytes) -> dict[str, str]:
    pairs = (item.partition(b"=") for item in block.split(b"\0") if b"=" in item)
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}


def pids() -> list[int]:
    """List the pids that are visible here."""
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []


def open_files(pid: int) -> list[str]:
    """List the paths that a process has open; empty when that may not be seen."""
    folder = f"/proc/{pid}/fd"
    found: list[str] = []
    with suppress(OSError):
        for name in os.listdir(folder):
            with suppress(OSError):
                found.append(os.readlink(os.path.join(folder, name)))
    return found


def listener(port: int) -> str:
    """Describe the process that listens on a TCP port; "" when it cannot be seen."""
    sockets = {f"socket:[{inode}]" for inode in _inodes(port)}
    for pid in pids() if sockets else ():
        if sockets.intersection(open_files(pid)):
            return describe(pid)
    return ""


def _inodes(port: int) -> list[str]:
    """Find the sockets bound to a port in the kernel's tables; fields 1 and 9: local address, inode."""
    found: list[str] = []
    for name in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            with open(name, encoding="ascii") as stream:
                rows = [line.split() for line in stream.readlines()[1:]]
            found += [row[9] for row in rows if int(row[1].rpartition(":")[2], 16) == port]
    return found
