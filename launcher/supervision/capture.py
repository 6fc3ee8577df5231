"""Take what the ranks write: bytes as they are into files, an index of times, lines for the console.

logs/rank_N.log holds the bytes of both streams in the order in which they arrived; logs/rank_N.index one
line a chunk: time in ns since the epoch, stream (o or e), offset, length.
"""

from __future__ import annotations

import os
import time

from launcher.logs.writer import open_files
from launcher.run_dir import RunDir
from launcher.ui.console import Console

CHUNK = 1 << 18
LONGEST_LINE = 1 << 16  # a longer one is shown in parts
TAIL = 1 << 14  # bytes of a rank kept in memory for the report


class RankLog:
    """Hold one rank's files and the unfinished lines of its streams. `limit`: bytes of the log, 0 for all."""

    def __init__(self, run: RunDir, rank: int, console: Console, limit: int = 0) -> None:
        self.rank, self._console = rank, console
        self._files = open_files(str(run.log(rank)), str(run.index(rank)), limit)
        self._lines = {"o": Lines(), "e": Lines()}
        self.tail = b""
        self.size = 0  # bytes taken

    @property
    def trouble(self) -> str:
        """Say why bytes were lost ("" when none were)."""
        return self._files.trouble

    @property
    def lost(self) -> int:
        """Count the bytes that are in no file."""
        return self._files.lost

    def feed(self, stream: str, data: memoryview) -> None:
        """Take a chunk."""
        now = time.time()
        self._files.append(stream, data, int(now * 1e9))
        self.size += len(data)
        self.tail = bytes(data[-TAIL:]) if len(data) >= TAIL else (self.tail + data)[-TAIL:]
        if not self._console.shows(self.rank):
            return
        if self._console.flooded:
            self._console.drop(self._lines[stream].skip(bytes(data)))
            return
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

    def split(self, data: bytes) -> list[bytes]:
        """Give the lines that this chunk completes; a very long one comes in parts."""
        *lines, rest = (self._partial + data).split(b"\n")
        lines = [last_state(line) for line in lines]
        rest = rest[rest.rfind(b"\r", 0, len(rest) - 1) + 1 :]  # older states of a progress bar
        while len(rest) > LONGEST_LINE:
            lines.append(rest[:LONGEST_LINE] + b" ...(split)")
            rest = rest[LONGEST_LINE:]
        self._partial = rest
        return lines

    def skip(self, data: bytes) -> int:
        """Let a chunk pass unseen; return the number of lines in it."""
        self._partial = b""
        return data.count(b"\n")

    def rest(self) -> bytes:
        """Give what has no line end."""
        rest, self._partial = self._partial, b""
        return last_state(rest)


def last_state(line: bytes) -> bytes:
    """Give what a person would see of a line that a progress bar redrew with \\r."""
    return line.rstrip(b"\r").rpartition(b"\r")[2]


class Reader:
    """Read pipes into one buffer that is used again and again."""

    def __init__(self) -> None:
        self._buffer = bytearray(CHUNK)
        self._view = memoryview(self._buffer)

    def read(self, descriptor: int) -> memoryview | None:
        """Read a chunk, valid until the next read: empty at the end, None when nothing is there now."""
        try:
            return self._view[: os.readv(descriptor, [self._buffer])]
        except BlockingIOError:
            return None
        except OSError:
            return self._view[:0]
