"""A rank's log and its index on disk. An error costs bytes, which are counted, never the rank.

With a limit the beginning stays, and the end: once the first half is full, chunks go to two files that take
turns, and at the end of the run what they hold is put behind the first half, with a line that says how much
is missing between.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from launcher.errors import ReadError
from launcher.foreign import open_regular
from launcher.logs.encodings import boundary
from launcher.run_dir import is_at

RETRY = 5.0  # seconds until a full disk is tried again


class LogWriter:
    """A log and its index, to which chunks are appended."""

    def __init__(self, log: str, index: str) -> None:
        self.paths = (log, index)
        self._log = self._index = -1
        self._retry_at = 0.0
        self.size = self.bytes_lost = 0
        self.last_error = ""
        try:
            self._open()
        except OSError as error:
            self._fail(error)

    def _open(self) -> None:
        # Without waiting for the reader of a FIFO, which another rank may have put there.
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        self._log = os.open(self.paths[0], flags, 0o600)
        self._index = os.open(self.paths[1], flags | os.O_APPEND, 0o600)
        self.size = os.lseek(self._log, 0, os.SEEK_END)

    def append(self, stream: str, data: memoryview, time_ns: int) -> None:
        """Write a chunk and its index line."""
        if self._retry_at and time.monotonic() < self._retry_at:
            self.bytes_lost += len(data)
            return
        start, written = self.size, 0
        try:
            if self._log < 0:
                self._open()
                start = self.size
            while written < len(data):
                written += os.write(self._log, data[written:])
            self._retry_at = 0.0
        except OSError as error:
            self._fail(error)
        self.bytes_lost += len(data) - written
        self.size = start + written
        if written:
            with suppress(OSError):
                os.write(self._index, b"%d %s %d %d\n" % (time_ns, stream.encode(), start, written))

    def in_place(self) -> bool:
        """Tell whether what was written is under the log's name: nobody has removed or moved the file."""
        return self._log < 0 or self.size == 0 or is_at(self._log, self.paths[0])

    def _fail(self, error: OSError) -> None:
        self.last_error = error.strerror or str(error)
        self._retry_at = time.monotonic() + RETRY

    def pause(self) -> None:
        """Close the files until something is appended again."""
        self.close()

    def close(self) -> None:
        """Close the files."""
        for descriptor in (self._log, self._index):
            if descriptor >= 0:
                with suppress(OSError):
                    os.close(descriptor)
        self._log = self._index = -1


class CappedLogWriter:
    """A log of at most `limit` bytes: the first half and, of what follows, the last quarter at least."""

    def __init__(self, log: str, index: str, limit: int) -> None:
        self._head, self._half, self._quarter = LogWriter(log, index), limit // 2, max(1, limit // 4)
        self._paths = (log, index)
        self._parts: list[LogWriter] = []  # the older one first
        self.left_out = 0

    @property
    def size(self) -> int:
        return self._head.size + self.left_out + sum(part.size for part in self._parts)

    @property
    def bytes_lost(self) -> int:
        return self._head.bytes_lost + sum(part.bytes_lost for part in self._parts)

    @property
    def last_error(self) -> str:
        return next((part.last_error for part in [self._head, *self._parts] if part.last_error), "")

    def in_place(self) -> bool:
        """Tell whether what was written is under the log's name."""
        return self._head.in_place()

    def append(self, stream: str, data: memoryview, time_ns: int) -> None:
        """Write a chunk where there is room for it; it may be cut in two."""
        room = max(0, self._half - self._head.size) if not self._parts else 0
        if room:
            cut = boundary(data, room)
            self._head.append(stream, data[:cut], time_ns)
            data = data[cut:]
        while len(data):
            part = self._part()
            room = max(1, self._quarter - part.size)
            cut = boundary(data, room) or _next_boundary(data, room)
            part.append(stream, data[:cut], time_ns)
            data = data[cut:]

    def _part(self) -> LogWriter:
        """Return the part to write to; a full one replaces the older one."""
        if not self._parts or self._parts[-1].size >= self._quarter:
            if len(self._parts) == 2:
                self.left_out += self._drop(self._parts.pop(0))
            self._parts.append(self._open_part())
        return self._parts[-1]

    def _open_part(self) -> LogWriter:
        names = [tuple(f"{path}.part{number}" for path in self._paths) for number in (0, 1)]
        taken = [part.paths for part in self._parts]
        log, index = next(pair for pair in names if pair not in taken)
        return LogWriter(log, index)

    @staticmethod
    def _drop(part: LogWriter) -> int:
        part.close()
        size = part.size
        for path in part.paths:
            with suppress(OSError):
                os.unlink(path)
        return size

    def pause(self) -> None:
        """Close the files until something is appended again."""
        for part in (self._head, *self._parts):
            part.pause()

    def close(self) -> None:
        """Put the parts behind the first half."""
        parts, self._parts = self._parts, []
        for part in parts:
            part.close()
        if self.left_out:
            text = b"\n... %d bytes left out here (max_log_bytes)\n" % self.left_out
            self._head.append("e", memoryview(text), _first_time(parts[0].paths[1]))
        for part in parts:
            self._join(part)
        self._head.close()

    def _join(self, part: LogWriter) -> None:
        with suppress(OSError, ValueError, ReadError):
            with open_regular(Path(part.paths[0])) as log, open_regular(Path(part.paths[1])) as index:
                for line in index:
                    time_ns, stream, _, length = line.split()
                    self._head.append(stream.decode(), memoryview(log.read(int(length))), int(time_ns))
            if not self._head.last_error:
                self._drop(part)


def _next_boundary(data: memoryview, at: int) -> int:
    """Return the place at or after `at`, at most the length of a character later, that cuts no character."""
    return next((place for place in range(at, min(at + 4, len(data))) if boundary(data, place) == place), at)


def _first_time(index: str) -> int:
    """Return the time of the first chunk, so that the line about what is left out is merged in its place."""
    with suppress(OSError, ValueError, IndexError, ReadError), open_regular(Path(index)) as stream:
        return int(stream.readline(100).split()[0])
    return int(time.time() * 1e9)


def open_log(log: str, index: str, limit: int = 0) -> LogWriter | CappedLogWriter:
    """Open a rank's files; 0 is no limit."""
    return CappedLogWriter(log, index, limit) if limit else LogWriter(log, index)
