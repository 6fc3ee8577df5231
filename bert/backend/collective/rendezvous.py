"""Share one anonymous block of memory between the ranks of a host.

Rank 0 creates the memory and listens on an abstract Unix socket; the others connect and are sent the open
file. Neither the file nor the socket is in any folder, so the kernel removes both with the last process that
holds them, however it ends. Only processes of the same user are served.
"""

from __future__ import annotations

import array
import os
import socket
import struct
import tempfile
import time

FOLDER = "/dev/shm" if os.path.isdir("/dev/shm") else tempfile.gettempdir()  # noqa: S108
_RANK, _LENGTH = struct.Struct("<i"), struct.Struct("<q")
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid
_PAUSE, _GREETING = 0.02, 5.0  # seconds: between two tries; for a peer to send its rank


class CollectiveError(RuntimeError):
    """Ranks did not connect or did not arrive; the message names them."""


def free_bytes() -> int:
    """Return the free bytes of the folder of shared memory."""
    state = os.statvfs(FOLDER)
    return state.f_bavail * state.f_frsize


def share(name: str, size: int, length: int, timeout: float) -> int:
    """Create `length` bytes and send them to the ranks 1 to size - 1; return the file descriptor.

    Raises:
        CollectiveError: a rank did not connect within `timeout` seconds.
        OSError: the memory cannot be allocated.
    """
    handle = os.open(FOLDER, os.O_TMPFILE | os.O_RDWR, 0o600)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        try:
            os.posix_fallocate(handle, 0, length)  # a full /dev/shm is an error here, not a SIGBUS later
            listener.bind(_address(name))
            listener.listen(size)
            _hand_out(listener, handle, length, set(range(1, size)), timeout)
        except BaseException:
            os.close(handle)
            raise
    return handle


def _hand_out(listener: socket.socket, handle: int, length: int, missing: set[int], timeout: float) -> None:
    end = time.monotonic() + timeout
    waiting: list[socket.socket] = []
    try:
        while missing:
            listener.settimeout(max(end - time.monotonic(), 0.001))
            try:
                peer, _ = listener.accept()
            except socket.timeout:
                raise CollectiveError(missing_ranks(missing, timeout)) from None
            waiting.append(peer)
            missing.discard(_greet(peer))
        for peer in waiting:
            _send(peer, handle, length)
    finally:
        for peer in waiting:
            peer.close()


def _greet(peer: socket.socket) -> int:
    """Receive the rank of a process that has connected; -1 if it is none of this job's."""
    if not _has_same_user(peer):
        return -1
    peer.settimeout(_GREETING)
    try:
        received = peer.recv(_RANK.size)
    except OSError:
        return -1
    return int(_RANK.unpack(received)[0]) if len(received) == _RANK.size else -1


def _has_same_user(peer: socket.socket) -> bool:
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return bool(_CREDENTIALS.unpack(credentials)[1] == os.getuid())


def _send(peer: socket.socket, handle: int, length: int) -> None:
    if not _has_same_user(peer):
        return
    files = array.array("i", [handle])
    try:
        peer.sendmsg([_LENGTH.pack(length)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
    except OSError:
        pass  # it has ended since: the first barrier names it


def join(name: str, rank: int, timeout: float) -> tuple[int, int]:
    """Connect to rank 0: (file descriptor, length). CollectiveError: no rank 0 within `timeout` seconds."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as mine:
            try:
                mine.connect(_address(name))
            except ConnectionRefusedError:
                time.sleep(_PAUSE)
                continue
            mine.settimeout(max(end - time.monotonic(), 0.001))
            return _receive(mine, rank, timeout)
    raise CollectiveError(missing_ranks({0}, timeout))


def _receive(mine: socket.socket, rank: int, timeout: float) -> tuple[int, int]:
    try:
        mine.sendall(_RANK.pack(rank))
        received, extra, _, _ = mine.recvmsg(_LENGTH.size, socket.CMSG_SPACE(_RANK.size))
    except socket.timeout:
        raise CollectiveError(f"rank 0 still waits for another rank after {timeout:g} s") from None
    except OSError:  # rank 0 ended before it had read this rank's number
        extra = []
    if not extra:
        raise CollectiveError("rank 0 ended before all ranks had connected")
    files = array.array("i", extra[0][2])
    return files[0], int(_LENGTH.unpack(received)[0])


def missing_ranks(ranks: set[int], timeout: float) -> str:
    """Describe ranks that did not arrive in time."""
    return f"rank {', '.join(map(str, sorted(ranks)))} did not arrive within {timeout:g} s"


def _address(name: str) -> str:
    return f"\0npu-launch-{os.getuid()}-{name[-80:]}"  # at most 107 bytes
