"""provenance.json: what a run is made of, written while it runs, so that one that is killed has it, too.

A process of its own finds it out some seconds after the start, when the ranks are up, at the lowest priority:
it delays neither them nor their supervision. It then lives until the launcher lets go of it: a child that has
ended, and that other code collects, would hide the ended descendants of ranks (launcher/process/spawn.py).
The launcher gets it over a socket: what a rank, or a full disk, makes of the file is not the run's result.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import socket
from contextlib import contextmanager, suppress
from typing import Any, Callable, Iterator, Mapping, NoReturn

from launcher.plan.model import Plan
from launcher.process import spawn
from launcher.process.watchdog import KEPT, keep_only
from launcher.run_dir import RunDir

DELAY = 5.0  # seconds after which it begins
_PR_SET_NAME = 15  # prctl(2)


@contextmanager
def recording(plan: Plan, run: RunDir, started: float) -> Iterator[Callable[[], Mapping[str, Any]]]:
    """Have it found out meanwhile; yield what tells it at the run's end, {} where that was not to be."""
    with suppress(OSError):
        os.unlink(str(run.provenance))  # of a launch that this one goes on with
    own, other = socket.socketpair()
    try:
        pid = _start(plan, run, started, other)
    except OSError:
        pid = 0  # it is told at the end
    finally:
        other.close()
    try:
        yield lambda: _received(own)
    finally:
        own.close()
        if pid:
            spawn.kill_group(pid, signal.SIGKILL)  # what it asks, too
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)  # it may not lead a group yet
                os.waitpid(pid, 0)


def _received(own: socket.socket) -> Mapping[str, Any]:
    """Return what has come, {} as long as that is not the whole; never wait."""
    own.setblocking(False)
    data = b""
    with suppress(OSError):
        while not data.endswith(b"\n"):
            more = own.recv(1 << 16)
            if not more:
                break
            data += more
    return dict(json.loads(data.decode())) if data.endswith(b"\n") else {}


def _start(plan: Plan, run: RunDir, started: float, other: socket.socket) -> int:
    held = signal.pthread_sigmask(signal.SIG_BLOCK, spawn.BLOCKABLE)
    try:
        pid = os.fork()
        if pid == 0:
            _main(plan, run, started, other)
        return pid
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def _main(plan: Plan, run: RunDir, started: float, other: socket.socket) -> NoReturn:
    """Find it out, with every signal blocked; stay until the launcher closes the socket, whatever fails."""
    try:
        os.setsid()
        keep_only(other.detach())
        ctypes.CDLL(None).prctl(_PR_SET_NAME, b"npu-provenance", 0, 0, 0)
        if not _closed(DELAY):
            with suppress(Exception):
                _tell(plan, run, started)
            _closed(None)
    finally:
        os._exit(0)


def _tell(plan: Plan, run: RunDir, started: float) -> None:
    """Find it out; tell the launcher, then write the file."""
    os.nice(19)
    from launcher.checks import provenance

    found = provenance.take(plan, started)
    with suppress(OSError), socket.socket(fileno=os.dup(KEPT)) as to_launcher:
        to_launcher.sendall(json.dumps(found).encode() + b"\n")
    run.write_json(run.provenance, found)


def _closed(seconds: float | None) -> bool:
    """Wait; tell whether the launcher has let go, or has gone."""
    return bool(select.select([KEPT], [], [], seconds)[0])
