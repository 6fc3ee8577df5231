"""Let one process build what a folder lacks while the others wait, also on a disk that several hosts share.

flock(2) decides. On one host the kernel releases it with the process that held it; of another host that is
not certain (NFS before version 4 keeps the locks of a host that is gone, some disks keep locks on each host),
so the builder also touches the file, and a process on another host waits only as long as it does.
"""

from __future__ import annotations

import fcntl
import os
import socket
import threading
import time
from contextlib import contextmanager
from typing import IO, Callable, Iterator

HOST = socket.gethostname()
_BEAT, _SILENCE = 5.0, 60.0  # seconds between two touches; without one until the builder counts as gone
_POLL = 0.2  # seconds
_LOOK = 0.02  # seconds, more than another process holds the lock only to see that nobody does


def is_held(path: str) -> bool:
    """Tell whether a process holds the lock."""
    with open(path, "a") as stream:
        return not _try(stream)


@contextmanager
def locked(path: str, say: Callable[[str], None]) -> Iterator[str]:
    """Hold the lock; yield the process waited for, as "process 12 on node3", or "".

    Raises:
        OSError: the disk has no locks.
    """
    with open(path, "a+") as stream:
        waited_for = ""
        if not _try_twice(stream):
            waited_for = _wait(stream, path, say)
        if _try(stream):
            stream.seek(0)
            stream.truncate()
            stream.write(f"{os.getpid()} {HOST}")
            stream.flush()
        over = threading.Event()
        threading.Thread(target=_beat, args=(path, over), daemon=True).start()
        try:
            yield waited_for
        finally:
            over.set()


def _try(stream: IO[str]) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _try_twice(stream: IO[str]) -> bool:
    """Try again where `is_held` of another process may have had it."""
    if _try(stream):
        return True
    time.sleep(_LOOK)
    return _try(stream)


def _wait(stream: IO[str], path: str, say: Callable[[str], None]) -> str:
    stream.seek(0)
    process, _, host = stream.read().strip().partition(" ")
    owner = f"process {process or '?'}" + (f" on {host}" if host not in ("", HOST) else "")
    say(f"waiting for {owner}")
    if host in ("", HOST):
        fcntl.flock(stream, fcntl.LOCK_EX)
    elif not _outlasts(stream, path):
        say(f"{owner} has shown no sign for {_SILENCE:g} s; not waiting any longer")
    return owner


def _outlasts(stream: IO[str], path: str) -> bool:
    """Wait for the lock; False: its owner is silent."""
    seen, since = -1, time.monotonic()
    while not _try(stream):
        with open(path) as again:  # opened anew: NFS then asks the server for the time
            touched = os.fstat(again.fileno()).st_mtime_ns
        if touched != seen:
            seen, since = touched, time.monotonic()
        elif time.monotonic() - since > _SILENCE:
            return False
        time.sleep(_POLL)
    return True


def _beat(path: str, over: threading.Event) -> None:
    while not over.wait(_BEAT):
        os.utime(path)
