"""The duties of process 1 of a container: pass signals on, reap orphans, end as the program ends."""

from __future__ import annotations

import os
import signal
from typing import Callable

from launcher.process.spawn import BLOCKABLE

# What a terminal sends to all of its foreground, so to the child, too; by si_code it is the kernel's.
_OF_TERMINAL = frozenset((signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGWINCH))
_SI_KERNEL = 0x80  # siginfo.h


def with_init(program: Callable[[], int]) -> int:
    """Run a program; as process 1 in a child: the kernel keeps signals without a handler from process 1."""
    if os.getpid() != 1:
        return program()
    held = signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKABLE)
    child = os.fork()
    if not child:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
        return program()
    return _stand_by(child)


def _stand_by(child: int) -> int:
    """Pass on what comes until the child has ended; return its exit code, 128 + n for signal n."""
    while True:
        came = signal.sigwaitinfo(BLOCKABLE)
        if came.si_signo in _OF_TERMINAL and came.si_code == _SI_KERNEL:
            continue
        if came.si_signo != signal.SIGCHLD:
            os.kill(child, came.si_signo)
            continue
        status = _reap(child)
        if status is not None:
            return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _reap(child: int) -> int | None:
    """Reap every process that has ended; return the status of the child when it is among them."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if not pid:
            return found
        if pid == child:
            found = status
