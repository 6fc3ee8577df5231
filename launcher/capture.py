"""Take what the ranks write: bytes as they are into files, an index of times, lines for the console.

logs/rank_N.log holds the bytes of both streams in the order in which they arrived; logs/rank_N.index one
line a chunk: time in ns since the epoch, stream (o or e), offset, length.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import List, Optional

from launcher.console import Console as Console
from launcher.console import printable
from launcher.run_dir import RunDir

CHUNK = 1 << 18
LONGEST_LINE = 1 << 16  # a longer one is shown in parts
TAIL = 1 << 14  # bytes of a rank kept in memory for the report
RETRY = 5.0  # seconds until a full disk is tried again



class RankLog:
    """Hold one rank's files and the unfinished lines of its streams."""

    def __init__(self, run: RunDir, rank: int, console: Console) -> None:
        self.rank, self._console = rank, console
        self._files = LogFiles(str(run.log(rank)), str(run.index(rank)))
        self._lines = {"o": Lines(), "e": Lines()}
        self.tail = b""

    @property
    def trouble(self) -> str:
        """Say why bytes were lost ("" when none were)."""
        return self._files.trouble

    def feed(self, stream: str, data: memoryview) -> None:
        """Take a chunk."""
        now = time.time()
        self._files.append(stream, data, now)
        self.tail = bytes(data[-TAIL:]) if len(data) >= TAIL else (self.tail + data)[-TAIL:]
        if self._console.shows(self.rank):
            for line in self._lines[stream].split(bytes(data)):
                self._console.line(self.rank, now, line)

    def finish(self) -> None:
        """Show what has no line end yet, and close the files."""
        for lines in self._lines.values():
            rest = lines.rest()
            if rest:
                self._console.line(self.rank, time.time(), rest)
        self._files.close()


class Lines:
    """Cut a stream into lines for the console, with bounded memory."""

    def __init__(self) -> None:
        self._partial = b""

    def split(self, data: bytes) -> List[bytes]:
        """Give the lines that this chunk completes; a very long one comes in parts."""
        *lines, rest = (self._partial + data).split(b"\n")
        lines = [last_state(line) for line in lines]
        rest = rest[rest.rfind(b"\r", 0, len(rest) - 1) + 1 :]  # older states of a progress bar
        while len(rest) > LONGEST_LINE:
            lines.append(rest[:LONGEST_LINE] + b" ...(split)")
            rest = rest[LONGEST_LINE:]
        self._partial = rest
        return lines

    def rest(self) -> bytes:
        """Give what has no line end."""
        rest, self._partial = self._partial, b""
        return last_state(rest)


def last_state(line: bytes) -> bytes:
    """A progress bar redraws its line with \\r: the last state is what a person would see."""
    return line.rstrip(b"\r").rpartition(b"\r")[2]


class LogFiles:
    """Append chunks to a log and its index. What fails costs bytes, which are counted, never the rank."""

    def __init__(self, log: str, index: str) -> None:
        self._paths = (log, index)
        self._log = self._index = -1
        self._offset = self.lost = 0
        self._retry_at = 0.0
        self.trouble = ""
        try:
            self._open()
        except OSError as error:
            self._fail(error)

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
        self._log = os.open(self._paths[0], flags, 0o600)
        self._index = os.open(self._paths[1], flags | os.O_APPEND, 0o600)
        self._offset = os.lseek(self._log, 0, os.SEEK_END)

    def append(self, stream: str, data: memoryview, now: float) -> None:
        """Write a chunk and its index line."""
        if self._retry_at and time.monotonic() < self._retry_at:
            self.lost += len(data)
            return
        start, written = self._offset, 0
        try:
            if self._log < 0:
                self._open()
            while written < len(data):
                written += os.write(self._log, data[written:])
            self._retry_at = 0.0
        except OSError as error:
            self._fail(error)
        self.lost += len(data) - written
        self._offset = start + written
        if written:
            with suppress(OSError):
                os.write(self._index, b"%d %s %d %d\n" % (int(now * 1e9), stream.encode(), start, written))

    def _fail(self, error: OSError) -> None:
        self.trouble = error.strerror or str(error)
        self._retry_at = time.monotonic() + RETRY

    def close(self) -> None:
        """Close the files."""
        for descriptor in (self._log, self._index):
            if descriptor >= 0:
                with suppress(OSError):
                    os.close(descriptor)
        self._log = self._index = -1


class Reader:
    """Read pipes into one buffer that is used again and again."""

    def __init__(self) -> None:
        self._buffer = bytearray(CHUNK)
        self._view = memoryview(self._buffer)

    def read(self, descriptor: int) -> Optional[memoryview]:
        """Read a chunk, valid until the next read: empty at the end, None when nothing is there now."""
        try:
            return self._view[: os.readv(descriptor, [self._buffer])]
        except BlockingIOError:
            return None
        except OSError:
            return self._view[:0]


def last_lines(tail: bytes, count: int) -> List[str]:
    """Give the last lines of a rank for the report."""
    text = tail.decode("utf-8", "backslashreplace").replace("\r", "\n")
    return [printable(line) for line in text.splitlines() if line.strip()][-count:]


