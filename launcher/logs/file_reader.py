"""Read logs that have no index, by the times in their lines.

Folders of train_N.log and the like, Ascend's plog trees, the folders of several nodes. A line without a time
belongs to the one before it, so a traceback stays whole; a file's own order is never changed.
"""

from __future__ import annotations

import os
import re
import time
from calendar import timegm
from dataclasses import dataclass
from itertools import accumulate, chain, repeat
from pathlib import Path
from typing import IO, Dict, Sequence

from launcher.logs.records import BATCH_BYTES, Batches, LineSplitter, RecordBatch

# plog: `[ERROR] HCCL(77,python):2026-03-01-10:21:35.118.204 [x.cc:1] [88]text`; ISO 8601; TensorFlow.
_DATED = re.compile(
    rb"(20\d\d[-/][01]\d[-/]\d\d[-T ][0-2]\d:[0-5]\d:[0-6]\d)(?:[.,](\d{1,9})(?:\.(\d{3}))?)?"
    rb"\s?(Z\b|[+-](?:0\d|1[0-4]):?[0-5]\d\b)?"
)
_ABSL = re.compile(rb"[IWEF]([01]\d[0-3]\d [0-2]\d:[0-5]\d:[0-6]\d)\.(\d{6})")  # no year
_SYSLOG = re.compile(rb"([A-Z][a-z]{2} [ 0-3]\d [0-2]\d:[0-5]\d:[0-6]\d)()")  # no year either
_SECOND = re.compile(rb"20\d\d[-/][01]\d[-/]\d\d[-T ][0-2]\d:[0-5]\d:[0-6]\d$")
_FORM = "%Y-%m-%d %H:%M:%S"
_HEAD = 80  # bytes in which a line's own time is looked for

_RANK = (
    re.compile(r"(?:^|[-_.])(?:rank|train|worker|workerlog|log)[-_.]?(\d+)(?=[-_.]|$)"),
    re.compile(r"^(\d+)(?=\.(?:log|out|err)$)"),
)
_PLOG = re.compile(r"(plog|device)-(\d{1,10})_\d{1,20}\.log")
_LOGS = re.compile(
    r".*\.log(\.\d+)?$|.*(rank|worker)[-_]?\d+.*\.txt$|workerlog\.\d+$|(stdout|stderr)(\.\w+)?$"
)


@dataclass(frozen=True)
class LogFile:
    """A log file: label, rank where the name tells it, path."""

    label: str
    rank: int | None
    path: Path


def discover(folder: Path, node: str = "") -> list[LogFile]:
    """Find the log files in a folder, or take the one file; labels are unique, `node` goes before them."""
    if folder.is_file():
        return [_found(folder, node)]
    walk = ((top, name) for top, _, names in os.walk(str(folder)) for name in names if _LOGS.match(name))
    found = [_found(path, node) for path in sorted(Path(top, name) for top, name in walk)]
    labels = [item.label for item in found]
    if len(set(labels)) < len(labels):  # several nodes: their folders tell them apart
        found = [_with_folder(item, folder, node) if labels.count(item.label) > 1 else item for item in found]
    return found


def _found(path: Path, node: str) -> LogFile:
    rank = _rank(path)
    plog = _PLOG.match(path.name)
    if plog and plog.group(1) == "plog":
        name = f"plog-{plog.group(2)}" if rank is None else f"{rank}/plog"
    elif plog:
        name = path.parent.name  # device-N
    else:
        name = str(rank) if rank is not None else os.path.splitext(path.name)[0]
    return LogFile("/".join(filter(None, (node, name))), rank, path)


def _rank(path: Path) -> int | None:
    for pattern in () if _PLOG.match(path.name) else _RANK:
        match = pattern.search(path.name)
        if match:
            return int(match.group(1))
    match = re.search(r"/(?:rank[-_.]?|ranks/)(\d+)/", path.as_posix())
    return int(match.group(1)) if match else None


def _with_folder(item: LogFile, folder: Path, node: str) -> LogFile:
    inner = item.path.relative_to(folder).parent.as_posix()
    own = item.label[len(node) + 1 :] if node else item.label
    stem = own if own != item.path.parent.name else ""
    if _PLOG.match(item.path.name) and not own.startswith("plog"):
        stem = os.path.splitext(item.path.name)[0]
    return LogFile("/".join(filter(None, (node, inner if inner != "." else "", stem))), item.rank, item.path)


class FileReader:
    """One file in batches; a later call of `batches` goes on where it ended."""

    def __init__(self, file: LogFile) -> None:
        self.rank, self.path = file.rank, file.path
        self.label = file.label.encode("utf-8", "backslashreplace")
        self._file: IO[bytes] | None = None
        self._lines = LineSplitter()
        self._timestamps = TimestampReader(_year(file.path))
        self._last = 0
        self._before: list[bytes] = []  # lines before the first time

    def batches(self) -> Batches:
        """Yield what is there now, to its last whole line."""
        if self._file is None:
            try:
                self._file = open(str(self.path), "rb")
            except OSError:
                return
        while True:
            data = self._file.read(BATCH_BYTES)
            if not data:
                return
            text = self._lines.feed(data)
            if text:
                yield self._records(text[:-1].split(b"\n"))

    def finish(self) -> RecordBatch:
        """Return what has no line end, and what has no time at all: that gets the file's own."""
        text = self._lines.finish()
        batch = self._records(text[:-1].split(b"\n")) if text else []
        if self._before:
            self._last = self._last or _modified(self.path)
            batch[:0] = self._dated(self._before)
            self._before = []
        return batch

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _records(self, lines: list[bytes]) -> RecordBatch:
        times = self._timestamps.read_all(lines) if self._last else None
        if times is not None:  # a clock that goes back does not change the order of a file
            times = list(accumulate(chain((self._last,), times), max))[1:]
            self._last = times[-1]
            return list(zip(times, repeat(self.label), repeat(b"f"), lines))
        batch: RecordBatch = []
        for line in lines:
            when = self._timestamps.read(line)
            if when > self._last:
                begins, self._last = not self._last, when
                if begins:
                    batch += self._dated(self._before)
                    self._before = []
            if self._last:
                batch.append((self._last, self.label, b"f", line))
            else:
                self._before.append(line)
        return batch

    def _dated(self, lines: list[bytes]) -> RecordBatch:
        return [(self._last, self.label, b"f", line) for line in lines]


class _Seconds(Dict[bytes, int]):
    """The seconds that are known by their text: `2026-03-01 10:21:35` -> ns since the epoch, local."""

    def __missing__(self, text: bytes) -> int:
        if not _SECOND.match(text):
            raise KeyError(text)
        if len(self) > 4096:
            self.clear()
        return self.setdefault(
            text, _local(b"%s-%s-%s %s" % (text[:4], text[5:7], text[8:10], text[11:]), _FORM)
        )


def _local(text: bytes, form: str) -> int:
    try:
        return int(time.mktime(time.strptime(text.decode(), form))) * 1000000000
    except ValueError:
        return 0


class TimestampReader:
    """The times in lines, as ns since the epoch; 0 for none. Without a zone it is local time."""

    def __init__(self, year: int) -> None:
        self._year = year
        self._known = _Seconds()
        self._layout = (0, 0, 0)  # in the last line: begin of its date, begin and end of its fraction

    def read_all(self, lines: list[bytes]) -> list[int] | None:
        """Read lines that all have the layout of the last one; None where one has not."""
        begin, first, end = self._layout
        if not end:
            return None
        fractions = [line[first:end] for line in lines]
        digits = b"".join(fractions)
        if b"." in digits:
            fractions = [text.replace(b".", b"") for text in fractions]
            digits = b"".join(fractions)
        width = len(fractions[0])
        if not digits.isdigit() or len(digits) != width * len(lines):
            return None
        scale, known, stop = 10 ** (9 - width), self._known, begin + 19
        try:
            return [known[line[begin:stop]] + int(text) * scale for line, text in zip(lines, fractions)]
        except KeyError:
            return None

    def read(self, line: bytes) -> int:
        """Read one line."""
        match = _DATED.search(line, 0, _HEAD)
        if match is None:
            return self._without_year(line)
        text, fraction, micro, zone = match.groups()
        ends = match.start(2), match.end(3) if micro else match.end(2)
        self._layout = (match.start(1), *ends) if fraction and not zone else (0, 0, 0)
        second = self._known[text]
        if zone:
            utc = timegm(
                time.strptime(text[:10].decode().replace("/", "-") + text[11:].decode(), "%Y-%m-%d%H:%M:%S")
            )
            second = (utc - _offset(zone)) * 1000000000
        return second + _fraction(fraction, micro) if second else 0

    def _without_year(self, line: bytes) -> int:
        match = _ABSL.match(line) or _SYSLOG.match(line)
        if match is None:
            return 0
        text, fraction = match.groups()
        form = "%Y %m%d %H:%M:%S" if text[:1].isdigit() else "%Y %b %d %H:%M:%S"
        second = self._known.get(text) or self._known.setdefault(
            text, _local(b"%d %s" % (self._year, text), form)
        )
        return second + _fraction(fraction, None) if second else 0


def _fraction(fraction: bytes | None, micro: bytes | None) -> int:
    return int(((fraction or b"") + (micro or b"")).ljust(9, b"0")[:9])


def _offset(zone: bytes) -> int:
    if zone == b"Z":
        return 0
    digits = zone[1:].replace(b":", b"")
    seconds = int(digits[:2]) * 3600 + int(digits[2:]) * 60
    return seconds if zone[:1] == b"+" else -seconds


def _modified(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _year(path: Path) -> int:
    """Return the year of a file, for times without one."""
    return time.localtime(_modified(path) // 1000000000).tm_year


def span_of(files: Sequence[LogFile]) -> tuple[int, int]:
    """Return the first and the last time of files; the last is that of their last change."""
    first = []
    for file in files:
        reader = FileReader(file)
        batch = next(reader.batches(), []) or reader.finish()
        reader.close()
        first += [batch[0][0]] if batch else []
    return min(first, default=0), max((_modified(file.path) for file in files), default=0)
