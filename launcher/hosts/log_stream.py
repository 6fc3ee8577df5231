"""The ranks' logs on their way to the head, read from this host's own files: a rank never waits for it."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import Iterator, List, NamedTuple, Sequence, Tuple

from launcher.run_dir import RunDir

BODY = 32 << 10  # bytes of one frame
TOGETHER = 20_000_000  # ns within which chunks of one stream go together, under the time of the first
_INDEX = 1 << 16  # bytes of an index that are read at once
_ENTRY = re.compile(rb"(\d{1,19}) ([oe]) (\d{1,18}) (\d{1,18})")  # of an index: time, stream, offset, length
_LONGEST = 99  # bytes of an entry

Body = Tuple[List[object], bytes]  # what a frame `log` holds


class _Chunk(NamedTuple):
    time_ns: int
    stream: str
    offset: int
    length: int


class _RankStream:
    """One rank's log from where it ends now. What is taken away from its files is left out."""

    def __init__(self, run: RunDir, rank: int) -> None:
        self._rank, self._paths = rank, (str(run.log(rank)), str(run.index(rank)))
        self._log = self._index = -1
        self._begin = (_size(self._paths[0]), _size(self._paths[1]))
        self._end, self._place = self._begin
        self._rest = b""
        self._chunks: list[_Chunk] = []  # the next one last

    def behind(self) -> int:
        """Count the bytes that are written and not sent."""
        size = os.fstat(self._log).st_size if self._log >= 0 else self._end
        return max(0, size - self._end)

    def next(self) -> Body | None:
        """Return the next body; None where there is none yet."""
        while not self._chunks:
            if not self._read_index():
                return None
        first = self._chunks.pop()
        if first.length > BODY:
            self._chunks.append(first._replace(offset=first.offset + BODY, length=first.length - BODY))
            first = first._replace(length=BODY)
        end = first.offset + first.length
        while self._chunks and self._fits(first, end, self._chunks[-1]):
            end += self._chunks.pop().length
        self._end, data = end, b""
        with suppress(OSError):
            data = os.pread(self._log, end - first.offset, first.offset)
        return [self._rank, first.stream, first.time_ns, first.offset - self._begin[0]], data

    @staticmethod
    def _fits(first: _Chunk, end: int, other: _Chunk) -> bool:
        near = other.time_ns - first.time_ns <= TOGETHER and other.stream == first.stream
        return near and other.offset == end and end + other.length - first.offset <= BODY

    def _read_index(self) -> bool:
        """Read the index on; return whether there was more of it."""
        data = b""
        with suppress(OSError):
            data = os.pread(self._index, _INDEX, self._place) if self._index >= 0 or self._open() else b""
        self._place += len(data)
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[-_LONGEST:]
        self._chunks = self._entries(lines)[::-1]
        return bool(data)

    def _entries(self, lines: Sequence[bytes]) -> list[_Chunk]:
        """Read lines of the index, which the rank itself could have written: what is in the log counts."""
        found: list[_Chunk] = []
        begin, size = self._end, os.fstat(self._log).st_size if self._log >= 0 else 0
        for match in filter(None, map(_ENTRY.fullmatch, lines)):
            offset, length = int(match[3]), int(match[4])
            if begin <= offset and length and offset + length <= size:
                found.append(_Chunk(int(match[1]), match[2].decode(), offset, length))
                begin = offset + length
        return found

    def _open(self) -> bool:
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            self._log = self._log if self._log >= 0 else os.open(self._paths[0], flags)
            self._index = os.open(self._paths[1], flags)
        except OSError:
            return False
        return True

    def close(self) -> None:
        for descriptor in (self._log, self._index):
            if descriptor >= 0:
                os.close(descriptor)
        self._log = self._index = -1


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


class LogStream:
    """The logs of a host's ranks, in turns, with at most `window` bytes that the head has not written yet."""

    def __init__(self, run: RunDir, ranks: Sequence[int], window: int) -> None:
        self._streams = [_RankStream(run, rank) for rank in ranks]
        self._window = max(window, BODY)
        self._turn = self._sent = self._acked = 0
        self.is_read = False  # at the last look nothing was left to send

    def acked(self, total: int) -> None:
        """Hear how many bytes of this host the head has written."""
        self._acked = max(self._acked, total)

    @property
    def behind(self) -> int:
        """Count the bytes that the head has not written, as far as they are written here."""
        return self._sent - self._acked + sum(stream.behind() for stream in self._streams)

    @property
    def blocked(self) -> bool:
        """Tell whether the head must write before more is sent."""
        return self._sent - self._acked >= self._window

    def bodies(self, most: int) -> Iterator[Body]:
        """Yield what may be sent now, `most` bytes or a little more, each rank in its turn."""
        idle, self.is_read = 0, False
        while most > 0 and not self.blocked and idle < len(self._streams):
            stream = self._streams[self._turn % len(self._streams)]
            self._turn += 1
            body = stream.next()
            if body is None:
                idle += 1
                continue
            idle = 0
            self._sent += len(body[1])
            most -= len(body[1])
            if body[1]:
                yield body
        self.is_read = idle >= len(self._streams)

    def close(self) -> None:
        """Close the files."""
        for stream in self._streams:
            stream.close()
