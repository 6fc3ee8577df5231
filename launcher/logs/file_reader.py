"""Read logs that have no index, by the times in their lines.

A line without a time belongs to the one before it, so a traceback stays whole; a file's own order is never
changed. A prefix that names a rank gives the line to that rank. While a log is followed, what is renamed away
is read to its end, and what is cut is read anew.
"""

from __future__ import annotations

import os
import stat
import time
from itertools import accumulate, chain, repeat
from pathlib import Path
from typing import Callable, Iterator, Sequence

from launcher.errors import MissingFileError, ReadError
from launcher.lines.prefixes import SAMPLE, PrefixReader
from launcher.logs.discovery import LogFile
from launcher.logs.encodings import Decoder
from launcher.logs.open_files import FILES, is_packed
from launcher.logs.reader import LogReader
from launcher.logs.records import BATCH_BYTES, Batches, LineSplitter, RecordBatch
from launcher.logs.timestamps import TimestampReader, midnights

_MOST_WAITING = 1 << 24  # bytes of lines that wait for a first time
_MARK = 64  # bytes before the end of what was read, by which a file is known again
# How a line with a rank may begin (lines/prefixes.py) where the first lines of the file had none.
_RANKED = frozenset(
    [b"[rank", b"[Rank", b"[RANK", b"(rank", b"(Rank", b"[defa", b"[work", b"[trai", b"rank ", b"Rank "]
    + [b"%s%d" % (word, digit) for word in (b"rank", b"Rank") for digit in range(10)]
)
_SEVERAL_DAYS = 1 << 26  # bytes of a file in which the times of day are looked through


class FileReader(LogReader):
    """One file in batches; a later call of `batches` goes on where it ended.

    `ranks`: of a file whose name tells no rank, only lines of these ranks (empty: all). `near` returns a time
    from the files beside it, for times without a year or a date. What could not be read, or was read by a
    guess, is in `problems`.
    """

    def __init__(
        self,
        file: LogFile,
        *,
        follow_links: bool = True,
        ranks: Sequence[int] = (),
        near: Callable[[], int] = lambda: 0,
    ) -> None:
        super().__init__(file.path, file.label.encode("utf-8", "backslashreplace"), file.rank)
        self.prefixes = PrefixReader()
        self._follow_links, self._ranks = follow_links, ranks
        self._lines, self._decoder = LineSplitter(), Decoder()
        self._timestamps = TimestampReader(modified(file.path), near, self._days, self._bare)
        self._last = 0
        self._before: list[bytes] = []  # lines before the first time
        self._waiting = 0  # bytes of them
        self._offset = 0
        self._identity = (0, 0)
        self._mark = b""
        self._learned = self._ranked = False
        self._stopped = False

    def batches(self) -> Batches:
        """Yield what is there now, to its last whole line."""
        if self._renewed(read=False):
            yield self._rest()
        while not self._stopped:
            data = self._read()
            if not data:
                if not self._renewed(read=True):
                    return
                yield self._rest()
                continue
            text = self._lines.feed(self._decoder.feed(data))
            if text:
                yield self._records(text)

    def finish(self) -> RecordBatch:
        """Return what has no line end, and what has no time at all: that gets the file's own."""
        batch = self._rest()
        if self._before:
            batch[:0] = self._attributed(self._give_up())
        return batch

    def close(self) -> None:
        """Close the file."""
        FILES.close(self)

    def _read(self) -> bytes:
        try:
            stream = FILES.get(self, self.path, follow=self._follow_links)
            about = os.fstat(stream.fileno())
            if self._identity != (
                about.st_dev,
                about.st_ino,
            ):  # the first time, or it was closed and exchanged
                self._identity, self._offset, self._mark = (about.st_dev, about.st_ino), 0, b""
                self.identities.add(self._identity)
            stream.seek(self._offset)
            data = stream.read(BATCH_BYTES)
        except MissingFileError:
            return b""  # renamed away, and not made anew yet
        except ReadError as error:
            return self._stop(f"{error}; it is not shown")
        except Exception as error:  # each unpacker has errors of its own
            return self._stop(
                f"{self.path}: {error or type(error).__name__}; what follows in it is not shown"
            )
        self._offset += len(data)
        self._mark = (self._mark + data)[-_MARK:] if len(data) < _MARK else data[-_MARK:]
        return data

    def _stop(self, problem: str) -> bytes:
        self.problems.append(problem)
        self._stopped = True
        FILES.close(self)
        return b""

    def _renewed(self, read: bool) -> bool:
        """Go back to the beginning where the file was cut, or exchanged and the old one `read` to its end."""
        if is_packed(self.path) or not self._offset:
            return False
        try:
            about = os.stat(str(self.path))
        except OSError:
            return False
        if not stat.S_ISREG(about.st_mode):
            return False
        exchanged = (about.st_dev, about.st_ino) != self._identity
        if exchanged and not read:
            return False
        if not exchanged and about.st_size >= self._offset and not self._rewritten():
            return False
        FILES.close(self)
        self._offset, self._identity, self._mark = 0, (0, 0), b""
        return True

    def _rewritten(self) -> bool:
        """Tell whether other bytes stand before the place to which the file was read."""
        try:
            stream = FILES.get(self, self.path, follow=self._follow_links)
            return os.pread(stream.fileno(), len(self._mark), self._offset - len(self._mark)) != self._mark
        except (ReadError, OSError):
            return False

    def _rest(self) -> RecordBatch:
        text = self._lines.feed(self._decoder.feed(b"", final=True)) + self._lines.finish()
        return self._records(text) if text else []

    def _give_up(self) -> RecordBatch:
        """Return the lines that wait for a time, at that of the file's last change."""
        if not self._last:
            self._last = modified(self.path)
            if any(line.strip() for line in self._before):
                clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self._last // 1000000000))
                self.problems.append(
                    f"{self.path}: no line has a time that can be read; shown at that of the file's last "
                    f"change, {clock}"
                )
        lines, self._before, self._waiting = self._before, [], 0
        return self._dated(lines)

    def _bare(self, line: bytes) -> bytes:
        return self.prefixes.split(line).text

    def _days(self) -> int:
        """Count the midnights in a file of times of day."""
        return midnights(self._all_lines(), self._bare)

    def _all_lines(self) -> Iterator[bytes]:
        lines, place = LineSplitter(), 0
        while place < _SEVERAL_DAYS:
            try:
                stream = FILES.get(self, self.path, follow=self._follow_links)
                stream.seek(place)
                data = stream.read(BATCH_BYTES)
            except Exception:  # _read names it
                return
            if not data:
                return
            place += len(data)
            yield from lines.feed(data).split(b"\n")

    def _records(self, text: bytes) -> RecordBatch:
        lines = text[:-1].split(b"\n")
        if not self._learned:
            self._learn(lines)
        return self._attributed(self._timed(lines))

    def _learn(self, lines: list[bytes]) -> None:
        """Look at the first lines for prefixes, and for dates beside times of day."""
        self._learned = True
        self.prefixes.learn(lines)
        self._ranked = any(self.prefixes.split(line).rank is not None for line in lines[:SAMPLE])
        self._timestamps.learn(lines[:SAMPLE])

    def _attributed(self, batch: RecordBatch) -> RecordBatch:
        """Give lines to the ranks that their prefixes name, and leave out those that nobody asked for."""
        if self._ranked:
            batch = [(when, self._owner(line), stream, line) for when, _, stream, line in batch]
        if self._ranks and self.rank is None:
            wanted = [b"%d" % rank for rank in self._ranks]
            batch = [record for record in batch if record[1].rpartition(b"/")[2] in wanted]
        return batch

    def _owner(self, line: bytes) -> bytes:
        rank = self.prefixes.split(line).rank
        if rank is None or rank == self.rank:
            return self.label
        return b"%s%d" % (self.label[: self.label.rfind(b"/") + 1], rank)

    def _timed(self, lines: list[bytes]) -> RecordBatch:
        times = self._timestamps.read_all(lines) if self._last else None
        if times is not None:  # a clock that goes back does not change the order of a file
            times = list(accumulate(chain((self._last,), times), max))[1:]
            self._last = times[-1]
            return list(zip(times, repeat(self.label), repeat(b"f"), lines))
        batch: RecordBatch = []
        self._ranked = self._ranked or not _RANKED.isdisjoint({line[:5] for line in lines})
        for line in lines:
            when = self._timestamps.read(line)
            if when > self._last:
                begins, self._last = not self._last, when
                if begins:
                    batch += self._dated(self._before)
                    self._before, self._waiting = [], 0
            if self._last:
                batch.append((self._last, self.label, b"f", line))
            else:
                self._before.append(line)
                self._waiting += len(line)
        return batch + self._give_up() if self._waiting > _MOST_WAITING else batch

    def _dated(self, lines: list[bytes]) -> RecordBatch:
        return [(self._last, self.label, b"f", line) for line in lines]


def modified(path: Path) -> int:
    """Return the time of a file's last change, in ns; 0 where there is no file."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def first_date(path: Path, follow_links: bool = True) -> int:
    """Return the first time with a date in the beginning of a file, in ns; 0 where there is none."""
    reader = FileReader(LogFile("", None, path), follow_links=follow_links)
    lines = reader._read().split(b"\n")[:SAMPLE]
    reader.close()
    return next(filter(None, map(TimestampReader(0).whole, lines)), 0)


def span_of(files: Sequence[LogFile]) -> tuple[int, int]:
    """Return the first and the last time of files; the last is that of their last change."""
    first = []
    for file in files:
        reader = FileReader(file)
        batch = next(filter(None, reader.batches()), []) or reader.finish()
        reader.close()
        first += [batch[0][0]] if batch else []
    return min(first, default=0), max((modified(file.path) for file in files), default=0)
