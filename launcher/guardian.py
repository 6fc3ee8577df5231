"""A small process that outlives `kill -9` of the launcher, and then kills what is left of the run.

PDEATHSIG kills the ranks themselves; a grandchild in a session of its own it does not reach.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import time
from contextlib import suppress

from launcher import processes
from launcher.spawn import BLOCKABLE

_PR_SET_NAME = 15
_QUIET_ROUNDS = 5  # as often in a row nothing of the run must be found


class Guardian:
    """Start the watcher. It waits on a pipe that only the launcher holds open."""

    def __init__(self, run_id: str) -> None:
        reading, self._pipe = os.pipe2(os.O_CLOEXEC)
        held = signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKABLE)
        try:
            self.pid = os.fork()
            if self.pid == 0:
                _guard(reading, run_id)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
            os.close(reading)

    def dismiss(self) -> None:
        """End the watcher: the run is over, and nothing of it is left."""
        with suppress(OSError):
            os.write(self._pipe, b"q")
        os.close(self._pipe)
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def _guard(reading: int, run_id: str) -> None:
    """Be the watcher, with every signal blocked; never returns."""
    try:
        os.setsid()
        os.chdir("/")
        _keep_only(reading)
        ctypes.CDLL(None).prctl(_PR_SET_NAME, b"npu-guardian", 0, 0, 0)
        if not os.read(9, 1):
            _kill_all(run_id)
    finally:
        os._exit(0)


def _keep_only(reading: int) -> None:
    """Hold nothing of the launcher's open: whoever reads its output must see the end of it."""
    os.dup2(fcntl.fcntl(reading, fcntl.F_DUPFD, 10), 9)
    for name in os.listdir("/proc/self/fd"):
        if int(name) != 9:
            with suppress(OSError):
                os.close(int(name))
    for _ in range(3):
        os.open(os.devnull, os.O_RDWR)


def _kill_all(run_id: str) -> None:
    quiet = 0
    end = time.monotonic() + 30
    while quiet < _QUIET_ROUNDS and time.monotonic() < end:
        quiet = 0 if processes.freeze_and_kill(run_id) else quiet + 1
        time.sleep(0.05)
