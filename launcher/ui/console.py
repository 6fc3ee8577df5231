"""Lines for a person: with time and rank, equal lines of several ranks as one; the ranks never wait for it.

A line that several ranks write within WINDOW is shown once, as `[0-7]|`. Start-up notices of TensorFlow are
left out (notices.py). Output that a slow terminal or pipe does not take waits in memory up to BACKLOG; beyond
it lines are left out and counted: the files have all.
"""

from __future__ import annotations

import os
import select
import stat
import time
from collections import deque
from contextlib import suppress
from typing import IO, Sequence

from launcher.logs.collapse import WINDOW, LineCollapser
from launcher.logs.records import LineSplitter, RecordBatch
from launcher.text import SCHEDULER, clock, label, printable
from launcher.ui.notices import NoticeFilter

BACKLOG = 1 << 22  # bytes
RATE, BURST = 20000, 200000  # lines per second that are shown for long, lines at once


class StreamLines:
    """The lines of one stream of a rank that a person is to see, in bounded memory."""

    def __init__(self) -> None:
        self._splitter, self._notices = LineSplitter(), NoticeFilter()

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that a chunk completes; a very long one comes in parts."""
        return self._notices.apply(self._splitter.feed(data))

    def skip(self, data: bytes) -> int:
        """Let a chunk pass unseen; return the number of lines in it."""
        self._splitter.drop()
        return data.count(b"\n")

    def finish(self) -> list[bytes]:
        """Return the last line where it has no line end."""
        return [line for line in self._notices.apply(self._splitter.finish()) if line]


class Console:
    """A terminal or pipe; a closed one stops nothing. `show`: the ranks to print (empty: all)."""

    def __init__(self, out: IO[str] | None, show: tuple[int, ...] = (), quiet: bool = False) -> None:
        self._output = _Output(out)
        self._show, self._quiet = frozenset(show), quiet
        self._living: frozenset[bytes] = frozenset()  # labels of the ranks that may still write
        self._held = LineCollapser()
        self._budget, self._budget_at = float(BURST), time.monotonic()

    def expect(self, ranks: Sequence[int]) -> None:
        """Say which ranks may still write: a line that all of them wrote waits for nobody."""
        self._living = frozenset(b"%d" % rank for rank in ranks if rank != SCHEDULER and self.shows(rank))

    def shows(self, rank: int) -> bool:
        """Tell whether lines of this rank are printed."""
        return not self._quiet and not self._output.closed and (not self._show or rank in self._show)

    @property
    def flooded(self) -> bool:
        """Tell whether lines come faster than a person or a pipe could take them."""
        return self._budget <= 0 or self._output.full

    @property
    def descriptor(self) -> int | None:
        """The descriptor to wait for, when output waits to be taken."""
        return self._output.waiting

    def line(self, rank: int, wall: float, text: bytes) -> None:
        """Print one line of a rank, or hold it until the others have had time to write the same."""
        if self.shows(rank):
            self._budget -= 1
            self._held.add((int(wall * 1e9), label({rank}).encode(), b"", text), _now())

    def say(self, *lines: str) -> None:
        """Print lines of the launcher's own, after all that the ranks have written before."""
        self._print(self._held.release_all())
        for line in lines:
            self._output.write(printable(line) + "\n")
        self._output.flush()

    def turn(self) -> float:
        """Print what is due; return the seconds until the next is."""
        now = time.monotonic()
        refilled = self._budget + RATE * (now - self._budget_at)
        if self._budget > 0 or refilled > RATE / 10:  # once empty, wait for enough to be worth it
            self._budget, self._budget_at = min(float(BURST), refilled), now
        self._print(self._held.release(_now() - WINDOW, [], self._living))
        self._output.flush()
        since = self._held.waiting_since
        return 3600.0 if since is None else max(0, since + WINDOW - _now()) / 1e9

    def drop(self, lines: int) -> None:
        """Count lines that could not be shown."""
        self._output.dropped += lines

    def finish(self, patience: float = 1.0) -> None:
        """Print all that is held; wait `patience` seconds at most for a slow reader."""
        self._print(self._held.release_all())
        self._output.drain(patience)

    def close(self) -> None:
        """Print all that is held, and let go of the terminal or pipe."""
        self.finish()
        self._output.close()

    def _print(self, records: RecordBatch) -> None:
        for when, who, _, line in records:
            text = printable(line.decode("utf-8", "backslashreplace"))
            self._output.write(f"{clock(when / 1e9)} {who.decode()}| {text}\n")


def _now() -> int:
    return time.monotonic_ns()


class _Output:
    """A stream, written without waiting for whoever reads it."""

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

    def close(self) -> None:
        """Close what was opened anew."""
        self.closed = True
        with suppress(OSError, ValueError, AttributeError):
            if self._descriptor is not None and self._stream and self._descriptor != self._stream.fileno():
                os.close(self._descriptor)
        self._descriptor = None

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
    """Open a terminal or pipe anew, so that its being non-blocking does not affect the user's shell."""
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
