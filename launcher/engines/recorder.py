"""provenance.json: what a run is made of, written while it runs, so that one that is killed has it, too.

A process of its own finds it out some seconds after the start, when the ranks are up, at the lowest priority:
it delays neither them nor their supervision. It then lives until the launcher lets go of it: a child that has
ended, and that other code collects, would hide the ended descendants of ranks (launcher/process/spawn.py).
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
from contextlib import contextmanager, suppress
from typing import Any, Callable, Iterator, Mapping, NoReturn

from launcher.plan.model import Plan
from launcher.process import spawn
from launcher.process.watchdog import KEPT, keep_only
from launcher.run_dir import RunDir
from launcher.runs.registry import read_json

DELAY = 5.0  # seconds after which it begins
_PR_SET_NAME = 15  # prctl(2)


@contextmanager
def recording(plan: Plan, run: RunDir, started: float) -> Iterator[Callable[[], Mapping[str, Any]]]:
    """Have it found out meanwhile; yield what tells it at the run's end, {} where that was not to be."""
    with suppress(FileNotFoundError):
        os.unlink(str(run.provenance))  # of a launch that this one goes on with
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        pid = _start(plan, run, started, reading)
    except OSError:
        pid = 0  # it is told at the end
    finally:
        os.close(reading)

    def told() -> Mapping[str, Any]:
        return read_json(run.provenance) if pid else {}

    try:
        yield told
    finally:
        os.close(writing)
        if pid:
            spawn.kill_group(pid, signal.SIGKILL)  # what it asks, too
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)  # it may not lead a group yet
                os.waitpid(pid, 0)


def _start(plan: Plan, run: RunDir, started: float, reading: int) -> int:
    held = signal.pthread_sigmask(signal.SIG_BLOCK, spawn.BLOCKABLE)
    try:
        pid = os.fork()
        if pid == 0:
            _main(plan, run, started, reading)
        return pid
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def _main(plan: Plan, run: RunDir, started: float, reading: int) -> NoReturn:
    """Find it out, with every signal blocked; stay until the launcher closes the pipe."""
    try:
        os.setsid()
        keep_only(reading)
        ctypes.CDLL(None).prctl(_PR_SET_NAME, b"npu-provenance", 0, 0, 0)
        if not _closed(DELAY):
            os.nice(19)
            from launcher.checks import provenance

            run.write_json(run.provenance, provenance.take(plan, started))
            _closed(None)
    finally:
        os._exit(0)


def _closed(seconds: float | None) -> bool:
    """Wait; tell whether the launcher has let go, or has gone."""
    return bool(select.select([KEPT], [], [], seconds)[0])
