"""Read a table or an inventory that a user named: in bounded time, whatever the name leads to. Stdlib only.

A pipe counts as a file, so that `rank-table check <(command)` works; a FIFO that nobody writes does not make
the reader wait for ever.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import time

PATIENCE = 2.0  # seconds for the next bytes of a FIFO
OPEN_PIPE = 60.0  # ... of a pipe that a program has opened for this one: <(ssh node7 npu-launch inventory)
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def is_pipe(path: str) -> bool:
    """Tell whether a name leads to a pipe: a FIFO, or what a shell makes of <(command)."""
    return stat.S_ISFIFO(_mode(path))


def is_device(path: str) -> bool:
    """Tell whether a name leads to a device or a socket."""
    return stat.S_IFMT(_mode(path)) in (stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK)


def _mode(path: str) -> int:
    try:
        return os.stat(path).st_mode
    except (OSError, ValueError):
        return 0


def read_bytes(path: str, limit: int) -> bytes:
    """Return the bytes of a file or a pipe, at most one more than `limit`.

    Raises:
        OSError: it cannot be read, is neither a file nor a pipe, or nobody writes into the pipe.
        ValueError: a NUL in the name.
    """
    kind = stat.S_IFMT(os.stat(path).st_mode)  # opening a device may act on it
    if kind in _KINDS:
        raise OSError(errno.EINVAL, f"{_KINDS[kind]} (expected a file)", path)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            return _read_file(descriptor, limit)
        return _read_pipe(descriptor, limit, path)
    finally:
        os.close(descriptor)


def _read_file(descriptor: int, limit: int) -> bytes:
    with open(descriptor, "rb", closefd=False) as stream:
        return stream.read(limit + 1)


def _read_pipe(descriptor: int, limit: int, path: str) -> bytes:
    patience = OPEN_PIPE if "/pipe:[" in os.path.realpath(path) else PATIENCE
    found, end = bytearray(), time.monotonic() + patience
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    while len(found) <= limit:
        left = end - time.monotonic()
        if left <= 0 or not poller.poll(left * 1000.0):
            raise OSError(errno.ETIMEDOUT, f"a pipe into which nothing was written for {patience:g} s", path)
        part = os.read(descriptor, 1 << 16)
        if not part:
            break
        found += part
        end = time.monotonic() + patience
    return bytes(found[: limit + 1])


def text(path: str, limit: int) -> str:
    """Return the text of a file or a pipe, without a byte order mark. OSError: also too long or not UTF-8."""
    data = read_bytes(path, limit)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"longer than {limit >> 20} MiB", path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise OSError(errno.EILSEQ, f"byte {error.start} is not UTF-8", path) from None


def reason(error: OSError | ValueError) -> str:
    """Say in words why a file could not be read."""
    return str(getattr(error, "strerror", None) or error)
