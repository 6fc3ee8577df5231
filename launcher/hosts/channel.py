"""The agent's end of the way to the head: the standard input and output that the engine gives it."""

from __future__ import annotations

import fcntl
import os
from abc import ABC, abstractmethod
from collections import deque
from contextlib import suppress
from typing import Any

from launcher.hosts.frames import ALL, LINE, Decoder, Frame, encode
from launcher.process import procfs

_CHUNK, _CHUNKS = 1 << 16, 16  # bytes of a read, reads in one turn
BLOCKED, IDLE = 0.1, 3600.0  # seconds until what is full is tried again, writable or not; until the next turn
_AT_ONCE = 64  # buffers of one writev(2)


class AgentChannel(ABC):
    """The way to the head. Nothing in it waits."""

    index: int
    line = LINE  # bytes of a line that comes to the head whole

    @abstractmethod
    def fileno(self) -> int | None:
        """Return the descriptor that is readable when there is something to receive; None: turns tell."""

    @abstractmethod
    def receive(self) -> list[Frame]:
        """Return the frames that have come for this host or for all."""

    @abstractmethod
    def send(self, kind: str, body: Any = None) -> None:
        """Take a frame for the head."""

    @abstractmethod
    def turn(self) -> float:
        """Write what was sent; return the seconds until the next turn."""

    @property
    def pending(self) -> int:
        """Count the bytes that wait to be written."""
        return 0

    @property
    def full(self) -> int | None:
        """Return the descriptor that takes no more at present; None: each takes more, or turns tell."""
        return None

    @property
    def closed(self) -> bool:
        """Tell whether the head, or the engine in between, has closed it."""
        return False


WORDS_FIFO = "NPU_LAUNCH_WORDS"  # names the FIFO of an agent that the engine's standard input does not reach
_MPIRUNS = ("mpirun", "orterun", "prterun", "mpiexec")


def _words() -> int:
    """Open what the head's words come through: standard input, or beside it for a child of mpirun itself.

    On other hosts the daemon of mpirun is the parent; the name of the FIFO means nothing there.
    """
    path = os.environ.pop(WORDS_FIFO, "")
    if path and procfs.name(os.getppid()) in _MPIRUNS:
        with suppress(OSError):
            return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    return os.dup(0)


class StdioChannel(AgentChannel):
    """Standard input and output. From now on this process's own output goes to standard error."""

    def __init__(self, index: int) -> None:
        self.index = index
        self._in, self._out = _words(), os.dup(1)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(2, 1)
        os.close(null)
        for descriptor in (self._in, self._out):
            os.set_blocking(descriptor, False)
            fcntl.fcntl(descriptor, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
        self._decoder = Decoder()
        self._queue: deque[bytes | memoryview] = deque()
        self._pending, self._closed, self._full = 0, False, False

    def fileno(self) -> int | None:
        return None if self._closed else self._in  # at its end it would be readable for ever

    @property
    def full(self) -> int | None:
        return self._out if self._full else None

    @property
    def pending(self) -> int:
        return self._pending

    @property
    def closed(self) -> bool:
        return self._closed

    def receive(self) -> list[Frame]:
        frames: list[Frame] = []
        for _ in range(_CHUNKS):
            try:
                data = os.read(self._in, _CHUNK)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                self._closed = True
                break
            frames += self._decoder.feed(data)
        return [frame for frame in frames if frame.host in (ALL, self.index)]

    def send(self, kind: str, body: Any = None) -> None:
        lines = encode(Frame(self.index, kind, body), self.line)
        self._queue.extend(lines)
        self._pending += sum(map(len, lines))

    def turn(self) -> float:
        self._full = False
        while self._queue:
            some = [self._queue[place] for place in range(min(_AT_ONCE, len(self._queue)))]
            try:
                written = os.writev(self._out, some)
            except BlockingIOError:
                self._full = True
                return BLOCKED
            except OSError:  # nobody reads any more
                self._queue.clear()
                self._pending, self._closed = 0, True
                break
            self._pending -= written
            self._drop(written)
        return IDLE

    def _drop(self, written: int) -> None:
        """Take away what was written."""
        while written:
            first = self._queue.popleft()
            if len(first) > written:
                self._queue.appendleft(memoryview(first)[written:])
                return
            written -= len(first)

    def close(self) -> None:
        """Close both ends."""
        for descriptor in (self._in, self._out):
            with suppress(OSError):
                os.close(descriptor)
