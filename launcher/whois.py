"""Who a process is: pid and start time together, since the kernel gives a pid again; and in words."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Dict, List, Optional


@dataclass(frozen=True)
class Identity:
    """Hold a process: its pid and its start, in clock ticks since boot (field 22 of /proc/PID/stat)."""

    pid: int
    start: int


def identity(pid: int) -> Optional[Identity]:
    """Give the identity of a living process; None for one that is gone or a zombie."""
    fields = _stat(pid)
    return None if fields is None or fields[0] in ("Z", "X") else Identity(pid, int(fields[19]))


def alive(who: Identity) -> bool:
    """Say whether this very process still lives, not another one with its pid."""
    return identity(who.pid) == who


def _stat(pid: int) -> Optional[List[str]]:
    try:
        with open("/proc/%d/stat" % pid, "rb") as stream:
            return stream.read().decode("ascii", "replace").rpartition(")")[2].split()
    except OSError:
        return None


def describe(pid: int) -> str:
    """Name a process for a person: pid, user, command, age."""
    fields = _stat(pid)
    if fields is None:
        return "pid %d, not visible here (another container or host)" % pid
    running = span(age(int(fields[19])))
    return "pid %d, user %s, `%s`, running for %s" % (pid, user(pid), command(pid), running)


def user(pid: int) -> str:
    """Give the name of a process's user, or its number."""
    import pwd

    try:
        number = os.stat("/proc/%d" % pid).st_uid
    except OSError:
        return "?"
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def command(pid: int, width: int = 60) -> str:
    """Give the command line of a process, shortened; of a rank, what the user wrote."""
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as stream:
            words = stream.read(4096).rstrip(b"\0").split(b"\0")
    except OSError:
        words = [b"?"]
    shown = [word for word in words[1:] if word != b"-u" and not word.endswith(b"launcher/worker.py")]
    text = b" ".join([os.path.basename(words[0]), *shown]).decode("utf-8", "backslashreplace")
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= width else text[: width - 3] + "..."


def age(start: int) -> float:
    """Give the seconds since a start in clock ticks since boot; suspended time counts."""
    since_boot = time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", 7))  # 7: Python 3.7 has no name for it
    return max(0.0, since_boot - start / os.sysconf("SC_CLK_TCK"))


def span(seconds: float) -> str:
    """Write a duration for a person.

    >>> span(5), span(125), span(7260), span(180000)
    ('5 s', '2 min 5 s', '2 h 1 min', '2 d 2 h')
    """
    whole = int(seconds)
    parts = [(whole // 86400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min"), (whole % 60, "s")]
    while len(parts) > 1 and not parts[0][0]:
        parts.pop(0)
    return " ".join("%d %s" % part for part in parts[:2])


def environ(pid: int) -> Dict[str, str]:
    """Give the environment with which a process was started; empty when it may not be read."""
    with suppress(OSError):
        with open("/proc/%d/environ" % pid, "rb") as stream:
            pairs = (item.partition(b"=") for item in stream.read().split(b"\0") if b"=" in item)
            return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}
    return {}


def pids() -> List[int]:
    """List every process that is visible here."""
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []


def open_files(pid: int) -> List[str]:
    """List the paths that a process has open; empty when that may not be seen."""
    folder = "/proc/%d/fd" % pid
    found: List[str] = []
    with suppress(OSError):
        for name in os.listdir(folder):
            with suppress(OSError):
                found.append(os.readlink(os.path.join(folder, name)))
    return found


def listener(port: int) -> str:
    """Name the process that listens on a TCP port; "" when it cannot be seen."""
    sockets = {"socket:[%s]" % inode for inode in _inodes(port)}
    for pid in pids() if sockets else ():
        if sockets.intersection(open_files(pid)):
            return describe(pid)
    return ""


def _inodes(port: int) -> List[str]:
    """Find the sockets bound to a port in the kernel's tables; fields 1 and 9: local address, inode."""
    found: List[str] = []
    for name in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            with open(name, encoding="ascii") as stream:
                rows = [line.split() for line in stream.readlines()[1:]]
            found += [row[9] for row in rows if int(row[1].rpartition(":")[2], 16) == port]
    return found


def seconds(pid: int) -> float:
    """Give the age of a process; 0 when it is gone."""
    who = identity(pid)
    return age(who.start) if who else 0.0


def memory(pid: int) -> int:
    """Give the resident memory of a process in bytes (second field of statm, in pages)."""
    try:
        with open("/proc/%d/statm" % pid, encoding="ascii") as stream:
            return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
