"""Lines for a person: with time and rank, equal lines of several ranks as one, never in a rank's way.

A line that several ranks write within WINDOW is shown once, as `[0-7]|`. Output that a slow terminal or pipe
does not take waits in memory up to BACKLOG; beyond it lines are left out and counted: the files have all.
"""

from __future__ import annotations

import os
import select
import stat
import time
from collections import deque
from contextlib import suppress
from typing import IO, Sequence

from launcher.text import clock, label, printable

WINDOW = 0.25  # seconds
BACKLOG = 1 << 22  # bytes
HELD = 5000  # lines that wait for equal ones of other ranks
RATE, BURST = 20000, 200000  # lines per second that are shown for long, lines at once


class _Line:
    """Hold a line that other ranks may still join."""

    __slots__ = ("number", "ranks", "since", "text", "wall")

    def __init__(self, number: int, wall: float, since: float, rank: int, text: bytes) -> None:
        self.number, self.wall, self.since, self.text = number, wall, since, text
        self.ranks: set[int] = {rank}


class Console:
    """Print lines; a closed console stops nothing. `show` names the ranks to print (empty: all)."""

    def __init__(self, out: IO[str] | None, show: tuple[int, ...] = (), quiet: bool = False) -> None:
        self._output = _Output(out)
        self._show, self._quiet = frozenset(show), quiet
        self._living: frozenset[int] = frozenset()
        self._held: deque[_Line] = deque()
        self._by_text: dict[bytes, _Line] = {}
        self._last: dict[int, int] = {}  # rank -> number of the line that it wrote last
        self._count = 0
        self._budget, self._budget_at = float(BURST), time.monotonic()

    def expect(self, ranks: Sequence[int]) -> None:
        """Say which ranks may still write: a line that all of them wrote waits for nobody."""
        self._living = frozenset(rank for rank in ranks if self.shows(rank))

    def shows(self, rank: int) -> bool:
        """Tell whether lines of this rank are printed."""
        return not self._quiet and not self._output.closed and (not self._show or rank in self._show)

    @property
    def flooded(self) -> bool:
        """Tell whether lines come faster than a person or a pipe could take them."""
        return self._budget <= 0 or self._output.full

    @property
    def descriptor(self) -> int | None:
        """Give the descriptor to wait for, when output waits to be taken."""
        return self._output.waiting

    def line(self, rank: int, wall: float, text: bytes) -> None:
        """Print one line of a rank, or hold it until the others have had time to write the same."""
        if not self.shows(rank):
            return
        self._budget -= 1
        held = self._by_text.get(text)
        # A rank joins only what comes after its own last line, so that its lines stay in order.
        if held is not None and rank not in held.ranks and held.number > self._last.get(rank, -1):
            held.ranks.add(rank)
        else:
            self._count += 1
            held = _Line(self._count, wall, time.monotonic(), rank, text)
            self._held.append(held)
            self._by_text[text] = held
        self._last[rank] = held.number

    def say(self, text: str) -> None:
        """Print the launcher's own words, after all that the ranks have written before."""
        self._release(float("inf"))
        for line in text.split("\n"):
            self._output.write(printable(line) + "\n")
        self._output.flush()

    def turn(self) -> float:
        """Print what is due; return the seconds until the next is."""
        now = time.monotonic()
        refilled = self._budget + RATE * (now - self._budget_at)
        if self._budget > 0 or refilled > RATE / 10:  # once empty, wait for enough to be worth it
            self._budget, self._budget_at = min(float(BURST), refilled), now
        self._release(time.monotonic() - WINDOW)
        self._output.flush()
        return max(0.0, self._held[0].since + WINDOW - time.monotonic()) if self._held else 3600.0

    def drop(self, lines: int) -> None:
        """Count lines that could not be shown."""
        self._output.dropped += lines

    def finish(self, patience: float = 1.0) -> None:
        """Print all that is held; wait `patience` seconds at most for a slow reader."""
        self._release(float("inf"))
        self._output.drain(patience)

    def _release(self, before: float) -> None:
        held = self._held
        while held and (held[0].since <= before or held[0].ranks >= self._living or len(held) > HELD):
            line = held.popleft()
            if self._by_text.get(line.text) is line:
                del self._by_text[line.text]
            text = line.text.decode("utf-8", "backslashreplace")
            self._output.write(f"{clock(line.wall)} {label(line.ranks)}| {printable(text)}\n")


class _Output:
    """Write to a stream without waiting for whoever reads it."""

    def __init__(self, stream: IO[str] | None) -> None:
        self.closed = stream is None
        self._stream = stream
        self._queue: deque[bytes] = deque()
        self._size = 0
        self.dropped = 0
        self._descriptor = _own_description(stream)

    @property
    def waiting(self) -> int | None:
        return self._descriptor if self._queue and not self.closed else None

    @property
    def full(self) -> bool:
        return self._size > BACKLOG

    def write(self, text: str) -> None:
        if self.closed:
            return
        if self.full:
            self.dropped += 1
            return
        if self.dropped:
            text = f"... {self.dropped} lines left out here; the files in logs/ have them\n{text}"
            self.dropped = 0
        data = text.encode("utf-8", "backslashreplace")
        self._queue.append(data)
        self._size += len(data)

    def flush(self) -> None:
        """Pass on what the reader takes now."""
        while self._queue and not self.closed:
            data = b"".join(self._queue)
            self._queue.clear()
            taken = self._pass(data[: 1 << 16])
            self._size = len(data) - taken
            if self._size:
                self._queue.append(data[taken:])
            if not taken:
                return

    def drain(self, patience: float) -> None:
        """Wait a while for the reader."""
        end = time.monotonic() + patience
        if self.dropped and not self.closed:
            dropped, self.dropped = self.dropped, 0
            self.write(f"... {dropped} lines left out here; the files in logs/ have them\n")
        self.flush()
        while self.waiting is not None and time.monotonic() < end:
            select.select([], [self.waiting], [], 0.05)
            self.flush()

    def _pass(self, data: bytes) -> int:
        try:
            if self._descriptor is None and self._stream is not None:
                self._stream.write(data.decode())
                self._stream.flush()
                return len(data)
            return os.write(self._descriptor or 0, data)
        except BlockingIOError:
            return 0
        except (OSError, ValueError):  # gone, or full: nobody reads, and nothing stops
            self.closed = True
            self._queue.clear()
            return 0


def _own_description(stream: IO[str] | None) -> int | None:
    """Open a terminal or pipe anew, so that not to block does not hold for the user's shell too."""
    if stream is None:
        return None
    try:
        stream.flush()
        descriptor = stream.fileno()
        mode = os.fstat(descriptor).st_mode
    except (OSError, ValueError, AttributeError):
        return None
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        with suppress(OSError):
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            return os.open(f"/proc/self/fd/{descriptor}", flags)
    return descriptor
