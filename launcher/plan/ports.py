"""Ports at which the ranks of a framework meet: free on this host, and away from those of others."""

from __future__ import annotations

import socket
import zlib
from contextlib import suppress

# Below Linux's range for outgoing connections (32768 on) and HCCL's (60000 on).
FIRST, LAST = 20000, 29999
OFFERED = 64  # ports in a row that a host of several offers: one for each rank that it may get


def free(run_id: str, count: int = 1) -> int:
    """Return the first of `count` free ports in a row, away from those of runs of other names; 0: none."""
    span = LAST - FIRST - count
    start = zlib.crc32(run_id.encode()) % span
    port, end = FIRST + start, FIRST + start + span
    while port < end:
        taken = _last_taken(_inside(port, span), count)
        if taken < 0:
            return _inside(port, span)
        port += taken + 1
    return 0


def _inside(port: int, span: int) -> int:
    return FIRST + (port - FIRST) % span


def _last_taken(port: int, count: int) -> int:
    """Return the place of the last port in a row that is taken; -1: all are free."""
    return next((place for place in reversed(range(count)) if not is_free(port + place)), -1)


def is_free(port: int) -> bool:
    """Tell whether a port can be listened at on every address of this host."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("", port))
        return True
    return False
