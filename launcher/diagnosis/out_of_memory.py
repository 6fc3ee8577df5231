"""Evidence that the kernel, or the rank's own allocator, ran out of memory."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import Iterable

from launcher.process.procfs import Usage

_SAID = re.compile(
    rb"(?i)(std::bad_alloc|cannot allocate memory|OOM when allocating|MemoryError|out of memory|"
    rb"ResourceExhaustedError)[^\n]*"
)
_NAMED = re.compile(rb"[Kk]illed process (\d+)|oom-kill:[^\n]*,pid=(\d+)")
_MUCH, _LITTLE = 0.5, 0.1  # of the machine's memory: what a likely victim held, what was left


class MemoryEvidence:
    """Watch the kernel's own accounts: the counters of cgroups, and the kernel's log where readable."""

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
        """Count from now on the kills in the cgroups of a process."""
        for path in self._files(pid):
            if path not in self._counters:
                self._counters[path] = _kills(path)

    def _files(self, pid: object) -> Iterable[str]:
        """Name the counters of a process: version 2, then version 1."""
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
        """Say why a SIGKILL was the kernel's for lack of memory; "" when nothing points there."""
        named = self._named() & pids
        if named:
            return f"the kernel's OOM killer ended process {min(named)} (kernel log)"
        for path, before in self._counters.items():
            if _kills(path) > before:
                return f"the kernel's OOM killer ended a process of this cgroup ({path})"
        return _likely(last, self._root)

    def _named(self) -> set[int]:
        """Read the pids that the kernel's log names since this object was made."""
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
            for pair in _NAMED.findall(record):
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
    if total and last.resident > total * _MUCH and 0 < last.available < total * _LITTLE:
        text = "probably out of memory: %.1f GB resident when last seen, %.1f of %.1f GB were left"
        return text % (last.resident / 1e9, last.available / 1e9, total / 1e9)
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


def said(tail: bytes) -> str:
    """Find a rank's own words that its memory was used up."""
    match = _SAID.search(tail)
    return "it wrote: {}".format(match.group().decode("utf-8", "replace")[:200]) if match else ""
