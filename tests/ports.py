"""Ports for servers that start later."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack, suppress

_given: set[int] = set()


def free_ports(count: int) -> int:
    """Find neighbouring ports that nobody uses, below those that the kernel gives away; return the first.

    One that the kernel gave could be another connection's own before its server has started.
    """
    for first in range(20000 + os.getpid() % 500 * 20, 32000):
        ports = range(first, first + count)
        if _given.isdisjoint(ports):
            with suppress(OSError), ExitStack() as sockets:
                for port in ports:
                    sockets.enter_context(socket.socket()).bind(("127.0.0.1", port))
                _given.update(ports)
                return first
    raise OSError("no free ports")
