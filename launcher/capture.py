"""Take what the ranks write: bytes as they are into files, an index of times, lines for the console.

logs/rank_N.log holds the bytes of both streams in the order in which they arrived; logs/rank_N.index one
line a chunk: time in ns since the epoch, stream (o or e), offset, length.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import IO, Callable, Dict, List, Optional, Tuple

from launcher.run_dir import RunDir

CHUNK = 1 << 16
LONGEST_LINE = 1 << 16  # a longer one is shown in parts
TAIL = 1 << 14  # bytes of a rank kept in memory for the report

Emit = Callable[[int, float, bytes], None]  # (rank, wall time, line without its end)


class RankLog:
    """Hold one rank's files and the unfinished lines of its streams."""

    def __init__(self, run: RunDir, rank: int, emit: Emit) -> None:
        self.rank, self._emit = rank, emit
        self._log: Optional[IO[bytes]] = open(str(run.log(rank)), "ab", buffering=0)
        self._index: Optional[IO[bytes]] = open(str(run.index(rank)), "ab", buffering=0)
        self._offset = self._log.tell()
        self._partial: Dict[str, bytes] = {"o": b"", "e": b""}
        self.tail = b""
        self.trouble = ""  # why the files stopped growing

    def feed(self, stream: str, data: bytes) -> None:
        """Take a chunk."""
        now = time.time()
        self._store(stream, data, now)
        self.tail = (self.tail + data)[-TAIL:]
        text = self._partial[stream] + data.replace(b"\r\n", b"\n")
        *lines, rest = text.split(b"\n")
        for line in lines:
            self._show(line, now)
        while len(rest) > LONGEST_LINE:
            self._show(rest[:LONGEST_LINE] + b" ...(split)", now)
            rest = rest[LONGEST_LINE:]
        self._partial[stream] = rest

    def _store(self, stream: str, data: bytes, now: float) -> None:
        if self._log is None or self._index is None:
            return
        try:
            self._log.write(data)
            self._index.write(b"%d %s %d %d\n" % (int(now * 1e9), stream.encode(), self._offset, len(data)))
            self._offset += len(data)
        except OSError as error:  # a full disk must not stop the training
            self.trouble = error.strerror or str(error)
            self.close_files()

    def _show(self, line: bytes, now: float) -> None:
        # A progress bar redraws its line with \r: the last state is what a person would see.
        self._emit(self.rank, now, line.rstrip(b"\r").rpartition(b"\r")[2])

    def finish(self) -> None:
        """Show what has no line end yet, and close the files."""
        for stream, rest in self._partial.items():
            if rest:
                self._show(rest, time.time())
            self._partial[stream] = b""
        self.close_files()

    def close_files(self) -> None:
        """Close the files; later chunks are only shown."""
        for handle in (self._log, self._index):
            if handle is not None:
                with suppress(OSError):
                    handle.close()
        self._log = self._index = None


def read(descriptor: int) -> Optional[bytes]:
    """Read a chunk: b"" at the end, None when nothing is there now."""
    try:
        return os.read(descriptor, CHUNK)
    except BlockingIOError:
        return None
    except OSError:
        return b""


class Console:
    """Print lines with time and rank; a closed console stops nothing."""

    def __init__(self, out: Optional[IO[str]], show: Tuple[int, ...] = (), quiet: bool = False) -> None:
        self._out = out
        self._show, self._quiet = show, quiet

    def line(self, rank: int, wall: float, text: bytes) -> None:
        """Print one line of a rank."""
        if not self._quiet and (not self._show or rank in self._show):
            self.say("%s %d| %s" % (clock(wall), rank, text.decode("utf-8", "backslashreplace")))

    def say(self, text: str) -> None:
        """Print a line of the launcher's own."""
        if self._out is None:
            return
        try:
            self._out.write(printable(text) + "\n")
            self._out.flush()
        except (OSError, ValueError):
            self._out = None


def clock(wall: float) -> str:
    """Render a time of day with milliseconds."""
    return time.strftime("%H:%M:%S", time.localtime(wall)) + ".%03d" % (wall % 1 * 1000)


def printable(text: str) -> str:
    """Keep escape sequences of a rank from steering the terminal; colours too."""
    return "".join(c if c.isprintable() or c in "\t\n" else "\\x%02x" % ord(c) for c in text)


def last_lines(tail: bytes, count: int) -> List[str]:
    """Give the last lines of a rank for the report."""
    text = tail.decode("utf-8", "backslashreplace").replace("\r", "\n")
    return [printable(line) for line in text.splitlines() if line.strip()][-count:]
