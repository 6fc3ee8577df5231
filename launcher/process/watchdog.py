"""A small process that outlives `kill -9` of the launcher, and then kills what is left of the run.

PDEATHSIG kills the ranks themselves; a grandchild in a session of its own it does not reach. The watcher
finds those by the run's id in their environment, by the ranks' pipes that they hold, and by what the launcher
has told it of the processes that it saw.
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
_QUIET_ROUNDS = 5  # as often in a row nothing of the run must be found
_PIPE = 9  # the watcher's own descriptor


class Guardian:
    """Start the watcher. It waits on a pipe that only the launcher holds open."""

    def __init__(self, run_id: str) -> None:
        reading, self._pipe = os.pipe2(os.O_CLOEXEC)
        self._told: set[int] = set()
        held = signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKABLE)
        try:
            self.pid = os.fork()
            if self.pid == 0:
                _guard(reading, run_id)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
            os.close(reading)
        os.set_blocking(self._pipe, False)

    def started(self, child: Child) -> None:
        """Tell the watcher of a rank's pipes: whoever holds one belongs to the run."""
        self._tell([f"i {os.fstat(end).st_ino}" for end in (child.stdout, child.stderr)])

    def seen(self, pids: set[int]) -> None:
        """Tell the watcher of processes; those that it knows already are not told again."""
        new = pids - self._told
        self._told = set(pids)
        self._tell([f"p {pid} {procfs.start_of(pid)}" for pid in new])

    def _tell(self, lines: list[str]) -> None:
        if lines:
            with suppress(OSError):  # a watcher that is gone, or slow, must not stop the run
                os.write(self._pipe, "".join(line + "\n" for line in lines).encode())

    def dismiss(self) -> None:
        """End the watcher: the run is over, and nothing of it is left."""
        self._tell(["q"])
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
        _listen(run_id)
    finally:
        os._exit(0)


def _keep_only(reading: int) -> None:
    """Hold nothing of the launcher's open: whoever reads its output must see the end of it."""
    os.dup2(fcntl.fcntl(reading, fcntl.F_DUPFD, 10), _PIPE)
    for name in os.listdir("/proc/self/fd"):
        if int(name) != _PIPE:
            with suppress(OSError):
                os.close(int(name))
    for _ in range(3):
        os.open(os.devnull, os.O_RDWR)


def _listen(run_id: str) -> None:
    """Take down what the launcher tells; when it dies without a word of farewell, kill."""
    pids: dict[int, int] = {}
    pipes: set[int] = set()
    with os.fdopen(_PIPE, "rb", buffering=0) as stream:
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
    _kill_all(sweep.Trace(run_id, frozenset(pipes), pids))


def _kill_all(trace: sweep.Trace) -> None:
    quiet = 0
    end = time.monotonic() + 30
    while quiet < _QUIET_ROUNDS and time.monotonic() < end:
        quiet = 0 if sweep.freeze_and_kill(trace) else quiet + 1
        time.sleep(0.05)
