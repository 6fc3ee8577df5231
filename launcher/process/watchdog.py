"""A small process that outlives `kill -9` of the launcher, and then kills what is left of the run.

PDEATHSIG kills the ranks themselves, but not a grandchild in a session of its own. The watchdog finds those
by the run's id in their environment, by the ranks' pipes that they hold, and by the pids that the launcher
has reported.

The launcher reports lines on a pipe: `i INODE` for a pipe of a rank, `p PID START` for a process, `q` at the
end of the run.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import time
from contextlib import suppress

from launcher.process import procfs, sweep
from launcher.process.spawn import BLOCKABLE, Child

_PR_SET_NAME = 15
_QUIET_ROUNDS = 5  # searches in a row that find nothing
_LONGEST = 30.0  # seconds of killing at most
KEPT = 9  # the descriptor that the watchdog reads


class Watchdog:
    """The launcher's side of the watchdog: its process, and the pipe that only the launcher holds open."""

    def __init__(self, run_id: str, host: str = "") -> None:
        reading, self._pipe = os.pipe2(os.O_CLOEXEC)
        self._reported: set[int] = set()
        held = signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKABLE)
        try:
            self.pid = os.fork()
            if self.pid == 0:
                _main(reading, run_id, host)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
            os.close(reading)
        os.set_blocking(self._pipe, False)

    def add_rank(self, child: Child) -> None:
        """Report the pipes of a rank: a process that holds one belongs to the run."""
        self._report([f"i {os.fstat(end).st_ino}" for end in (child.stdout, child.stderr)])

    def add_pids(self, pids: set[int]) -> None:
        """Report the processes of the run that live now; only new ones are written."""
        new = pids - self._reported
        self._reported = set(pids)
        self._report([f"p {pid} {procfs.start_of(pid)}" for pid in new])

    def _report(self, lines: list[str]) -> None:
        if lines:
            with suppress(OSError):  # a watchdog that is gone or slow must not stop the run
                os.write(self._pipe, "".join(line + "\n" for line in lines).encode())

    def dismiss(self) -> None:
        """End the watchdog: the run is over, and nothing of it is left."""
        self._report(["q"])
        os.close(self._pipe)
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def _main(reading: int, run_id: str, host: str) -> None:
    """Run the watchdog, with every signal blocked; never returns."""
    try:
        os.setsid()
        os.chdir("/")
        keep_only(reading)
        ctypes.CDLL(None).prctl(_PR_SET_NAME, b"npu-watchdog", 0, 0, 0)
        _listen(run_id, host)
    finally:
        os._exit(0)


def keep_only(reading: int) -> None:
    """Close all that the launcher has open but one, which becomes KEPT: a reader of its output must see the
    end of it, and nobody may hold its locks.
    """
    os.dup2(fcntl.fcntl(reading, fcntl.F_DUPFD, 10), KEPT)
    for name in os.listdir("/proc/self/fd"):
        if int(name) != KEPT:
            with suppress(OSError):
                os.close(int(name))
    for _ in range(3):
        os.open(os.devnull, os.O_RDWR)


def _listen(run_id: str, host: str) -> None:
    """Record what the launcher reports; if its pipe closes without `q`, kill what is left of the run."""
    pids: dict[int, int] = {}
    pipes: set[int] = set()
    with os.fdopen(KEPT, "rb", buffering=0) as stream:
        rest = b""
        while True:
            data = stream.read(1 << 16)
            if not data:
                break
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                kind, *numbers = line.split()
                if kind == b"q":
                    return
                if kind == b"i":
                    pipes.add(int(numbers[0]))
                else:
                    pids[int(numbers[0])] = int(numbers[1])
    _kill_all(sweep.ProcessMatcher(run_id, frozenset(pipes), pids, host=host))


def _kill_all(matcher: sweep.ProcessMatcher) -> None:
    quiet = 0
    end = time.monotonic() + _LONGEST
    while quiet < _QUIET_ROUNDS and time.monotonic() < end:
        quiet = 0 if sweep.freeze_and_kill(matcher) else quiet + 1
        time.sleep(0.05)
