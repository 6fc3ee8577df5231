"""Start and end processes. The only module that does.

A rank leads a session of its own; it is killed by the kernel when the launcher dies (PDEATHSIG), and what
its descendants do to escape (setsid, double fork) leads them to the launcher (subreaper), where the sweep
finds them by the run's id in their environment, never by name.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Iterator, Optional, Set, Tuple

from launcher.errors import LauncherError, NotExecutableError, NotFoundError
from launcher.plan import RankSpec

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # prctl(2)
_LIBC = ctypes.CDLL(None, use_errno=True)
_BLOCKABLE = set(range(1, signal.NSIG)) - {signal.SIGKILL, signal.SIGSTOP}


@dataclass(frozen=True)
class Child:
    """Hold a started rank: its pid is also its session and process group."""

    rank: int
    pid: int
    stdout: int
    stderr: int


def become_subreaper() -> None:
    """Adopt the orphans of this process's descendants (Linux 3.4; elsewhere nothing happens)."""
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def spawn(spec: RankSpec, inherit_stdin: bool = False) -> Child:
    """Start a rank. Call it from the main thread: PDEATHSIG fires when the forking thread ends.

    Raises:
        NotFoundError, NotExecutableError: exec failed. LauncherError: fork failed.
    """
    out, err, failed = _pipe(), _pipe(), _pipe()
    parent = os.getpid()
    try:
        pid = os.fork()
    except OSError as error:
        for descriptor in (*out, *err, *failed):
            os.close(descriptor)
        raise LauncherError("rank %d: cannot start a process: %s" % (spec.rank, error.strerror)) from None
    if pid == 0:
        _child(spec, parent, out[1], err[1], failed[1], inherit_stdin)
    for descriptor in (out[1], err[1], failed[1]):
        os.close(descriptor)
    with os.fdopen(failed[0], "rb") as stream:
        problem = stream.read()  # ends when exec closes the other side
    if problem:
        os.waitpid(pid, 0)
        os.close(out[0])
        os.close(err[0])
        raise _exec_error(spec, json.loads(problem.decode()))
    return Child(spec.rank, pid, out[0], err[0])


def _pipe() -> Tuple[int, int]:
    return os.pipe2(os.O_CLOEXEC)


def _child(spec: RankSpec, parent: int, out: int, err: int, failed: int, inherit_stdin: bool) -> None:
    """Become the rank; never returns."""
    path = spec.argv[0]
    try:
        os.setsid()
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died between fork and prctl
            os._exit(0)
        if not inherit_stdin:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(err, 2)
        for number in _BLOCKABLE:
            with suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if spec.cores:
            os.sched_setaffinity(0, spec.cores)
        path = spec.cwd
        os.chdir(spec.cwd)
        path = spec.argv[0]
        os.execve(path, list(spec.argv), dict(spec.env))
    except BaseException as error:
        number = getattr(error, "errno", None) or errno.EINVAL
        os.write(failed, json.dumps({"errno": number, "path": path, "text": str(error)}).encode())
    finally:
        os._exit(127)


def _exec_error(spec: RankSpec, problem: dict) -> LauncherError:  # type: ignore[type-arg]
    text = "rank %d: %s: %s" % (spec.rank, problem["path"], os.strerror(problem["errno"]))
    if problem["errno"] in (errno.ENOENT, errno.ENOTDIR):
        return NotFoundError(text + " (the file, or the interpreter in its first line)")
    if problem["errno"] in (errno.EACCES, errno.ENOEXEC):
        return NotExecutableError(text)
    return LauncherError(text)


def kill_group(pid: int, number: int) -> None:
    """Send a signal to a rank's process group, whether or not its leader still lives."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def members(run_id: str) -> Iterator[int]:
    """Find the living processes of a run by their environment."""
    tag = b"NPU_LAUNCH_RUN_ID=" + run_id.encode()
    own = os.getpid()
    for name in os.listdir("/proc") if sys.platform.startswith("linux") else ():
        if name.isdigit() and int(name) != own and _tagged(name, tag):
            yield int(name)


def _tagged(name: str, tag: bytes) -> bool:
    with suppress(OSError):
        with open("/proc/%s/environ" % name, "rb") as stream:
            if tag not in stream.read().split(b"\0"):
                return False
        with open("/proc/%s/stat" % name, "rb") as stream:
            return stream.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    return False


def sweep(run_id: str, rounds: int = 50) -> Set[int]:
    """Kill what is left of a run; return the pids. Freezes first, so that nothing can fork away."""
    killed: Set[int] = set()
    for _ in range(rounds):
        left = set(members(run_id))
        if not left:
            break
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in left:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)
        killed |= left
    return killed


def reap() -> Optional[Tuple[int, int]]:
    """Collect one ended child: (pid, exit code; 128 + n for signal n), None when there is none."""
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    if pid == 0:
        return None
    return pid, 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
