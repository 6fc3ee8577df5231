"""Evidence that memory ran out: what the kernel counts, logs and shows. What ranks write: memory_words.py."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import Iterable

from launcher.process.procfs import Usage

_KILLED = re.compile(rb"[Kk]illed process (\d+)|oom-kill:[^\n]*,pid=(\d+)")
_FULL, _SMALL = 0.02, 64 << 20  # of /dev/shm: a share that is nothing; bytes that Docker gives it
_LARGE, _LOW = 0.5, 0.1  # of the machine's memory: used by a likely victim; left on the machine


class MemoryEvidence:
    """What the kernel counts and logs: kills in the cgroups of ranks, and its log where that is readable."""

    def __init__(self, root: str = "/") -> None:
        self._root = root
        self._counters: dict[str, int] = {}
        self._log: int | None = None
        with suppress(OSError):
            log = os.open(os.path.join(root, "dev/kmsg"), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            self._log = log
            os.lseek(log, 0, os.SEEK_END)
        self.watch("self")

    def watch(self, pid: object) -> None:
        """Count kills in the cgroups of a process from now on."""
        for path in self._files(pid):
            if path not in self._counters:
                self._counters[path] = _kills(path)

    def _files(self, pid: object) -> Iterable[str]:
        """Yield the counter files of a process's cgroups, of version 2 or 1."""
        with suppress(OSError):
            with open(os.path.join(self._root, f"proc/{pid}/cgroup")) as stream:
                for line in stream:
                    _, controllers, path = line.rstrip("\n").split(":", 2)
                    if controllers == "":
                        yield self._at(path, "memory.events")
                    elif "memory" in controllers.split(","):
                        yield self._at("memory" + path, "memory.oom_control")

    def _at(self, path: str, name: str) -> str:
        return os.path.join(self._root, "sys/fs/cgroup", path.lstrip("/"), name)

    def killed(self, pids: set[int], last: Usage) -> str:
        """Describe the evidence that the kernel killed one for lack of memory; "" when there is none."""
        named = self._named() & pids
        if named:
            return f"the kernel's OOM killer ended process {min(named)} (kernel log)"
        for path, before in self._counters.items():
            if _kills(path) > before:
                return f"the kernel's OOM killer ended a process of this cgroup ({path})"
        return _likely(last, self._root)

    def _named(self) -> set[int]:
        """Read the pids that the kernel's log has named as killed since the last call."""
        found: set[int] = set()
        while self._log is not None:
            try:
                record = os.read(self._log, 8192)
            except BlockingIOError:
                break
            except OSError:  # EPIPE: records were overwritten before they were read
                continue
            if not record:
                break
            for pair in _KILLED.findall(record):
                found.add(int(pair[0] or pair[1]))
        return found

    def close(self) -> None:
        """Close the kernel's log."""
        if self._log is not None:
            os.close(self._log)
            self._log = None


def _kills(path: str) -> int:
    with suppress(OSError, ValueError):
        with open(path) as stream:
            for line in stream:
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    return 0


def _likely(last: Usage, root: str) -> str:
    total = memory(root).get("MemTotal", 0)
    if total and last.resident > total * _LARGE and 0 < last.available < total * _LOW:
        left = f"{last.available / 1e9:.1f} of {total / 1e9:.1f} GB were left"
        return f"probably out of memory: {last.resident / 1e9:.1f} GB resident when last checked, {left}"
    return ""


def memory(root: str = "/") -> dict[str, int]:
    """Read /proc/meminfo, in bytes."""
    found: dict[str, int] = {}
    with suppress(OSError, ValueError):
        with open(os.path.join(root, "proc/meminfo")) as stream:
            for line in stream:
                name, value = line.split(":")
                found[name] = int(value.split()[0]) * 1024
    return found


def shared_memory_full(root: str = "/") -> str:
    """Describe a /dev/shm that has no room, on which a program dies of SIGBUS; "" when it has."""
    with suppress(OSError):
        about = os.statvfs(os.path.join(root, "dev/shm"))
        total, left = about.f_blocks * about.f_frsize, about.f_bavail * about.f_frsize
        if left < total * _FULL:
            return f"no room in /dev/shm ({left / 1e6:.1f} of {total / 1e6:.0f} MB are left)"
        if 0 < total <= _SMALL:
            return f"little room in /dev/shm ({total / 1e6:.0f} MB)"
    return ""
