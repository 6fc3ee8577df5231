"""Start and reap the processes of ranks.

A rank leads a session of its own. The kernel kills it when the launcher dies (PDEATHSIG). A descendant that
leaves the session (setsid, double fork) becomes a child of the launcher (subreaper), where
launcher/process/sweep.py finds it.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import resource
import signal
from contextlib import suppress
from typing import Any, Iterable, Iterator, NamedTuple, NoReturn

from launcher.errors import LauncherError, NotExecutableError, NotFoundError
from launcher.plan.model import RankSpec
from launcher.text import named

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # prctl(2)
_F_SETPIPE_SZ = 1031  # fcntl(2); in Python's fcntl from 3.10 on
PIPE_BYTES = 1 << 20
_LIBC = ctypes.CDLL(None, use_errno=True)
BLOCKABLE = set(range(1, signal.NSIG)) - {signal.SIGKILL, signal.SIGSTOP, 32, 33}  # libc keeps 32 and 33


class Child(NamedTuple):
    """A started rank; its pid is also its session and process group."""

    rank: int
    pid: int
    stdout: int
    stderr: int


def become_subreaper() -> None:
    """Adopt the orphans of this process's descendants (Linux 3.4; no effect elsewhere)."""
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def raise_descriptor_limit() -> tuple[int, int]:
    """Raise this process's limit of descriptors to the hard one; return the limits to restore for ranks."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
    return limits


class ForkedRank(NamedTuple):
    """A process that is about to execute a rank's program; see wait_for_exec."""

    spec: RankSpec
    pid: int
    pipes: tuple[tuple[int, int], ...]


def fork(spec: RankSpec, inherit_stdin: bool = False, limits: tuple[int, int] | None = None) -> ForkedRank:
    """Fork a rank. Call it from the main thread: PDEATHSIG fires when the forking thread ends.

    Raises:
        LauncherError: pipe or fork failed.
    """
    held = signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKABLE)
    pipes: list[tuple[int, int]] = []
    try:
        for _ in range(3):
            pipes.append(os.pipe2(os.O_CLOEXEC))
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            # A signal to the child must not reach the loop of the parent through the shared pipe.
            signal.set_wakeup_fd(-1)
            _child(spec, parent, [pipe[1] for pipe in pipes], inherit_stdin, limits)
    except OSError as error:
        for descriptor in (end for pipe in pipes for end in pipe):
            os.close(descriptor)
        text = f"{named(spec.rank)}: cannot start a process: {error.strerror}; see ulimit -u and ulimit -n"
        raise LauncherError(text) from None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
    for _, writing in pipes:
        os.close(writing)
    return ForkedRank(spec, pid, tuple(pipes))


def wait_for_exec(forked: ForkedRank) -> Child:
    """Wait until exec has closed the error pipe, or the child has written an error into it.

    Raises:
        NotFoundError, NotExecutableError, LauncherError: exec failed.
    """
    (out, _), (err, _), (failed, _) = forked.pipes
    with os.fdopen(failed, "rb") as stream:
        problem = stream.read()
    if problem:
        os.waitpid(forked.pid, 0)
        os.close(out)
        os.close(err)
        raise exec_error(forked.spec, json.loads(problem.decode()))
    for descriptor in (out, err):
        os.set_blocking(descriptor, False)
        widen(descriptor)
    return Child(forked.spec.rank, forked.pid, out, err)


def widen(pipe: int) -> None:
    """Let a pipe hold more; beyond fs.pipe-user-pages-soft the kernel keeps its 64 KB."""
    with suppress(OSError):
        fcntl.fcntl(pipe, _F_SETPIPE_SZ, PIPE_BYTES)


def _child(
    spec: RankSpec, parent: int, ends: list[int], inherit_stdin: bool, limits: tuple[int, int] | None
) -> NoReturn:
    """Prepare this process and execute the rank's program in it."""
    out, err, failed = ends
    path = spec.argv[0]
    try:
        os.setsid()
        die_with(parent)
        _wire(out, err, inherit_stdin)
        if limits:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        if spec.cores:
            os.sched_setaffinity(0, spec.cores)
        path = spec.cwd
        os.chdir(spec.cwd)
        path = spec.argv[0]
        reset_signals()
        os.execve(path, list(spec.argv), dict(spec.env))
    except BaseException as error:
        number = getattr(error, "errno", None) or errno.EINVAL
        os.write(failed, json.dumps({"errno": number, "path": path, "text": str(error)}).encode())
    finally:
        os._exit(127)


def die_with(parent: int) -> None:
    """Have the kernel kill this process when the parent dies; leave at once where it has died already."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died between fork and prctl
        os._exit(0)


def _wire(out: int, err: int, inherit_stdin: bool) -> None:
    if not inherit_stdin:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(out, 1)
    os.dup2(err, 2)


def reset_signals() -> None:
    """Give this process the signals of a fresh one: default actions, none blocked."""
    for number in BLOCKABLE:
        with suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def exec_error(spec: RankSpec, problem: dict[str, Any]) -> LauncherError:
    """Make the error of a program that cannot be executed, from `path`, `errno` and `text`."""
    text = f"{named(spec.rank)}: {problem['path']}: {os.strerror(problem['errno'])}"
    if problem["errno"] == errno.E2BIG:
        return NotExecutableError(text + "; shorten its environment or its arguments (128 KiB each at most)")
    if problem["errno"] == errno.EINVAL:
        text += f" ({problem['text']})"
    if problem["errno"] in (errno.ENOENT, errno.ENOTDIR):
        return NotFoundError(text + " (the file, or the interpreter in its first line)")
    if problem["errno"] in (errno.EACCES, errno.ENOEXEC):
        return NotExecutableError(text)
    return LauncherError(text)


def kill_group(pid: int, number: int) -> bool:
    """Send a signal (0: none) to a process group, its leader alive or not; return False when it is empty."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return False
    except PermissionError:  # it exists and belongs to another user
        return True
    return True


class Ended(NamedTuple):
    """A child that has ended. code: -n for signal n. peak: bytes of memory, its own or a child's of it."""

    pid: int
    code: int
    peak: int


def reaped(own: Iterable[int], foreign_children: frozenset[int]) -> Iterator[Ended]:
    """Yield the children that have ended, `foreign_children` left out."""
    while True:
        pid = _ended(os.P_ALL, 0)
        if pid is None or pid in foreign_children:
            break
        yield _collect(pid)
    if pid in foreign_children:  # other code waits for it; until then it hides the ones behind it
        for pid in own:
            if _ended(os.P_PID, pid) is not None:
                yield _collect(pid)


def _ended(kind: int, number: int) -> int | None:
    try:
        ended = os.waitid(kind, number, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return ended.si_pid if ended is not None else None


def _collect(pid: int) -> Ended:
    _, status, usage = os.wait4(pid, 0)
    code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    return Ended(pid, code, usage.ru_maxrss << 10)
