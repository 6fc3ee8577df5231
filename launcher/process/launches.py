"""Runs as processes of npu-launch: each ends with the program that started it, even if that is killed."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Iterable, Iterator, Sequence

from launcher.process.itself import PROGRAM
from launcher.process.signals import handled

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1  # prctl(2)
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
Launch = subprocess.Popen


def start(words: Sequence[str], log: Path | None = None, cores: Sequence[int] = ()) -> Launch[bytes]:
    """Start `npu-launch WORDS`; its output goes to the end of `log`, or where this program's goes.

    It leads a session of its own, so it gets each signal once: from here, not from the terminal too. cores:
    those that it, and so its ranks, may use. Call it from the main thread.
    """
    parent = os.getpid()

    def prepare() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # killed before the line above
            os.kill(os.getpid(), signal.SIGTERM)
        if cores:
            os.sched_setaffinity(0, cores)

    stream: IO[bytes] | None = open(log, "ab") if log else None
    try:
        return subprocess.Popen(
            [*PROGRAM, *words],
            start_new_session=True,
            preexec_fn=prepare,
            stdin=subprocess.DEVNULL if stream else None,
            stdout=stream,
            stderr=subprocess.STDOUT if stream else None,
        )
    finally:
        if stream:
            stream.close()


def end(processes: Iterable[Launch[bytes]]) -> None:
    """End runs and wait until they have ended."""
    listed = list(processes)
    for process in listed:
        process.terminate()
    for process in listed:
        process.wait()


@contextmanager
def exit_on_signals() -> Iterator[None]:
    """Have signals that end a program raise SystemExit meanwhile, so that it can end its runs first."""
    with handled(_ENDING, _raise_exit):
        yield


def _raise_exit(number: int, frame: object) -> None:
    # A second signal must not come between the runs and their end, which has its own time limit.
    for ending in _ENDING:
        signal.signal(ending, signal.SIG_IGN)
    sys.exit(128 + number)
