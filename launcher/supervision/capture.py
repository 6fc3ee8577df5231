"""The output of ranks: its bytes unchanged in files, an index of times, lines for the console.

logs/rank_N.log holds the bytes of both streams in the order in which they arrived; logs/rank_N.index one
line a chunk: time in ns since the epoch, stream (o or e), offset, length.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Callable, Sequence

from launcher import foreign
from launcher.errors import ReadError
from launcher.logs.writer import open_log
from launcher.run_dir import RunDir
from launcher.text import named
from launcher.ui.console import Console, StreamLines

CHUNK = 1 << 18
TAIL = 1 << 14  # bytes of a rank kept in memory for the report
LAST = 3 << 16  # bytes of its log that are read when it has failed


class RankLog:
    """One rank's log files, and the unfinished lines of its streams. `limit`: bytes of the log, 0 for all."""

    def __init__(self, run: RunDir, rank: int, console: Console, limit: int = 0) -> None:
        self.rank, self._console = rank, console
        self._path = run.log(rank)
        self._files = open_log(str(self._path), str(run.index(rank)), limit)
        self._lines = {"o": StreamLines(), "e": StreamLines()}
        self.tail = b""
        self.size = 0  # bytes taken

    @property
    def last_error(self) -> str:
        """Why bytes were lost; "" when none were."""
        return self._files.last_error

    @property
    def bytes_lost(self) -> int:
        """The number of bytes that are in no file."""
        return self._files.bytes_lost

    def in_place(self) -> bool:
        """Tell whether what was written is under the log's name: nobody has removed or moved the file."""
        return self._files.in_place()

    def feed(self, stream: str, data: memoryview) -> None:
        """Store a chunk, and pass its lines to the console."""
        now = time.time()
        self._files.append(stream, data, int(now * 1e9))
        self.size += len(data)
        self.tail = bytes(data[-TAIL:]) if len(data) >= TAIL else (self.tail + data)[-TAIL:]
        if not self._console.shows(self.rank):
            return
        if self._console.flooded:
            self._console.drop(self._lines[stream].skip(bytes(data)))
            return
        for line in self._lines[stream].feed(bytes(data)):
            self._console.line(self.rank, now, line)

    def last(self) -> bytes:
        """Return the last bytes of this attempt: those of the log, where it holds them all."""
        if self.size > len(self.tail):
            with suppress(OSError, ReadError), foreign.open_regular(self._path) as stream:
                stream.seek(-min(self.size, LAST), os.SEEK_END)
                found = stream.read(LAST)
                return found if found.endswith(self.tail) else self.tail
        return self.tail

    def finish(self) -> None:
        """Print the lines that have no end yet, and close the files."""
        for lines in self._lines.values():
            for line in lines.finish():
                self._console.line(self.rank, time.time(), line)
        self._files.close()


def close_logs(run: RunDir, logs: Sequence[RankLog], announce: Callable[[str], None]) -> None:
    """Finish the logs of an attempt; announce what is not in them, or no longer where they were."""
    gone = [run.log(log.rank).name for log in logs if not log.in_place()]
    for log in logs:
        log.finish()
        if log.last_error:
            lost = f"{log.bytes_lost} bytes of its output are not in {run.log(log.rank)}"
            announce(f"{named(log.rank)}: {lost}: {log.last_error}")
    if gone and run.in_place():  # else the end of the run says so
        announce(f"warning: {', '.join(gone)}: moved or removed while the ranks wrote")


class Reader:
    """A buffer into which pipes are read, used again for every chunk."""

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
