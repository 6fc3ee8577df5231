"""launcher.json: which process runs a run; believed only of a process that proves it.

A launcher keeps launcher.json open for writing, and flock()ed, while it runs. Anybody can write a pid into a
file, and the copy of a folder names the launcher of the original, but no other process has this very file
(device and inode) open so. A folder that was renamed keeps its files. Launchers of releases before 0.1.0 kept
events.jsonl open.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Iterator, NamedTuple

from launcher import foreign
from launcher.errors import MissingFileError, PreflightError, ReadError
from launcher.process import procfs
from launcher.run_dir import RunDir


class Launcher(NamedTuple):
    """The launcher of a run, as far as it can be seen from here.

    process: it lives on this host. where: it may run there, which cannot be seen from here. problem: why
    launcher.json is not believed. head: where the head runs whose agent it is, "" for none.
    """

    process: procfs.Identity | None = None
    where: str = ""
    problem: str = ""
    head: str = ""


@contextmanager
def recorded(run: RunDir, head: str = "") -> Iterator[None]:
    """Be recorded as the launcher of the run meanwhile. PreflightError: launcher.json cannot be written.

    head: the host of the head, when this is its agent.
    """
    path = run.record
    record = {"pid": os.getpid(), "start": procfs.start_of(os.getpid()), "host": os.uname().nodename}
    try:
        run.write_json(path, dict(record, time=time.time(), head=head))
        descriptor = os.open(str(path), os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise PreflightError(f"{path}: cannot be written: {error.strerror}") from None
    try:
        busy(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def find(run: RunDir) -> Launcher:
    """Find the launcher of a run."""
    try:
        process, host, head = _read(run)
    except MissingFileError:
        return Launcher()
    except ReadError as error:
        return Launcher(problem=str(error))
    lives = procfs.alive(process)
    if lives and _is_launcher(process.pid, run):
        return Launcher(process, head=head)
    if host != os.uname().nodename:
        return Launcher(where=f"on host {host:.100}", head=head)
    if lives:
        stranger = f"process {process.pid} is not the launcher of this run; left alone"
        return Launcher(problem=f"launcher.json: {stranger}", head=head)
    where = "in another container of this host" if _flocked(run.record) else ""
    return Launcher(where=where, head=head)


def _read(run: RunDir) -> tuple[procfs.Identity, str, str]:
    """Read the process, its host, and its head's host in launcher.json; it must be its owner's, or root's."""
    path = run.record
    value = foreign.read_json(path)
    host = value.get("host").text()
    pid, start = value.get("pid").whole(), value.get("start").whole()
    if not 0 < pid < 1 << 31 or start < 0:
        value.refuse("a number out of range", "a pid and its start")
    if _owner(path) not in (0, _owner(run.path)):
        raise ReadError(f"{path}: belongs to another user than its folder; nothing in it is believed")
    return procfs.Identity(pid, start), host, value.get("head", "").text()


def _is_launcher(pid: int, run: RunDir) -> bool:
    """Tell whether a process has the run's own file open, as its launcher has."""
    owner = _owner(run.path)
    if owner not in procfs.user_ids(pid):
        return False
    if os.geteuid() not in (0, owner):
        return True  # its descriptors are hidden; `ps` may show it, and `stop` ends runs of this user alone
    return any(procfs.holds_for_writing(pid, str(path)) for path in (run.record, run.events))


def _owner(path: Path) -> int:
    try:
        return os.lstat(str(path)).st_uid
    except OSError:
        return -1


def busy(descriptor: int, operation: int) -> bool:
    """Take a lock of flock() without waiting; tell whether another has it."""
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass  # flock() does not work here: the record decides
    return False


def _flocked(path: Path) -> bool:
    """Tell whether a launcher holds the file, in whatever container of this machine."""
    with suppress(ReadError), foreign.open_regular(path) as stream:
        return busy(stream.fileno(), fcntl.LOCK_SH)
    return False
