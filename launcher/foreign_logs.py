"""Read logs that no index belongs to, by the times that their lines bear.

Folders of train_N.log and the like, Ascend's plog trees, the folders of several nodes. A line without a time
belongs to the one before it, so a traceback stays whole; a file's own order is never changed.
"""

from __future__ import annotations

import os
import re
import time
from calendar import timegm
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Dict, Iterator, List, Optional, Sequence, Tuple

from launcher.log_pieces import BLOCK_BYTES, Block, Lines

# plog: `[ERROR] HCCL(77,python):2026-03-01-10:21:35.118.204 [x.cc:1] [88]text`; ISO 8601; TensorFlow.
_DATED = re.compile(
    rb"(20\d\d[-/][01]\d[-/]\d\d[-T ][0-2]\d:[0-5]\d:[0-6]\d)(?:[.,](\d{1,9})(?:\.(\d{3}))?)?"
    rb"\s?(Z\b|[+-](?:0\d|1[0-4]):?[0-5]\d\b)?"
)
_ABSL = re.compile(rb"[IWEF]([01]\d[0-3]\d [0-2]\d:[0-5]\d:[0-6]\d)\.(\d{6})")  # no year
_SYSLOG = re.compile(rb"([A-Z][a-z]{2} [ 0-3]\d [0-2]\d:[0-5]\d:[0-6]\d)()")  # no year either
_HEAD = 80  # bytes in which a line's own time stands

_RANK = (
    re.compile(r"(?:^|[-_.])(?:rank|train|worker|workerlog|log)[-_.]?(\d+)(?=[-_.]|$)"),
    re.compile(r"^(\d+)(?=\.(?:log|out|err)$)"),
)
_PLOG = re.compile(r"(plog|device)-(\d{1,10})_\d{1,20}\.log")
_LOGS = re.compile(
    r".*\.log(\.\d+)?$|.*(rank|worker)[-_]?\d+.*\.txt$|workerlog\.\d+$|(stdout|stderr)(\.\w+)?$"
)


@dataclass(frozen=True)
class Found:
    """Hold a log file: label, rank where the name tells it, path."""

    label: str
    rank: Optional[int]
    path: Path


def discover(folder: Path, node: str = "") -> List[Found]:
    """Find the log files in a folder, or take the one file; labels are unique, `node` goes before them."""
    if folder.is_file():
        return [_found(folder, node)]
    walk = ((top, name) for top, _, names in os.walk(str(folder)) for name in names if _LOGS.match(name))
    found = [_found(path, node) for path in sorted(Path(top, name) for top, name in walk)]
    labels = [item.label for item in found]
    if len(set(labels)) < len(labels):  # several nodes: their folders tell them apart
        found = [_with_folder(item, folder, node) if labels.count(item.label) > 1 else item for item in found]
    return found


def _found(path: Path, node: str) -> Found:
    rank = _rank(path)
    plog = _PLOG.match(path.name)
    if plog and plog.group(1) == "plog":
        name = "plog-%s" % plog.group(2) if rank is None else "%d/plog" % rank
    elif plog:
        name = path.parent.name  # device-N
    else:
        name = str(rank) if rank is not None else os.path.splitext(path.name)[0]
    return Found("/".join(filter(None, (node, name))), rank, path)


def _rank(path: Path) -> Optional[int]:
    for pattern in () if _PLOG.match(path.name) else _RANK:
        match = pattern.search(path.name)
        if match:
            return int(match.group(1))
    match = re.search(r"/(?:rank[-_.]?|ranks/)(\d+)/", path.as_posix())
    return int(match.group(1)) if match else None


def _with_folder(item: Found, folder: Path, node: str) -> Found:
    inner = item.path.relative_to(folder).parent.as_posix()
    own = item.label[len(node) + 1 :] if node else item.label
    stem = own if own != item.path.parent.name else ""
    if _PLOG.match(item.path.name) and not own.startswith("plog"):
        stem = os.path.splitext(item.path.name)[0]
    return Found("/".join(filter(None, (node, inner if inner != "." else "", stem))), item.rank, item.path)


class FileReader:
    """Read one file in blocks; a later call of `blocks` goes on where it ended."""

    def __init__(self, found: Found) -> None:
        self.rank, self.path = found.rank, found.path
        self.label = found.label.encode("utf-8", "backslashreplace")
        self._file: Optional[IO[bytes]] = None
        self._lines = Lines()
        self._clock = Clock(_year(found.path))
        self._last = 0
        self._before: List[bytes] = []  # lines before the first time

    def blocks(self) -> Iterator[Block]:
        """Give what is there now, to its last whole line."""
        if self._file is None:
            try:
                self._file = open(str(self.path), "rb")
            except OSError:
                return
        while True:
            data = self._file.read(BLOCK_BYTES)
            if not data:
                return
            text = self._lines.feed(data)
            if text:
                yield self._pieces(text[:-1].split(b"\n"))

    def finish(self) -> Block:
        """Give what has no line end, and what has no time at all: that has the file's own."""
        text = self._lines.finish()
        block = self._pieces(text[:-1].split(b"\n")) if text else []
        if self._before:
            self._last = self._last or _modified(self.path)
            block[:0] = self._dated(self._before)
            self._before = []
        return block

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _pieces(self, lines: List[bytes]) -> Block:
        block: Block = []
        label, last, read = self.label, self._last, self._clock.read
        for line in lines:
            when = read(line)
            if when > last:
                if not last:
                    self._last = when
                    block += self._dated(self._before)
                    self._before = []
                last = when
            if last:
                block.append((last, label, b"f", line))
            else:
                self._before.append(line)
        self._last = last
        return block

    def _dated(self, lines: List[bytes]) -> Block:
        return [(self._last, self.label, b"f", line) for line in lines]


class Clock:
    """Read the time that a line bears, as ns since the epoch; 0 for none."""

    def __init__(self, year: int) -> None:
        self._year = year
        self._known: Dict[bytes, int] = {}

    def read(self, line: bytes) -> int:
        """Give a line's time. Times without a zone are local, as the machine's own."""
        match = _DATED.search(line, 0, _HEAD)
        if match:
            text, fraction, micro, zone = match.groups()
            second = self._known.get(text)
            if second is None or zone:
                second = self._second(text, b"%Y-%m-%d %H:%M:%S", zone)
        else:
            match = _ABSL.match(line) or _SYSLOG.match(line)
            if match is None:
                return 0
            (text, fraction), micro = match.groups(), b""
            second = self._known.get(text)
            if second is None:
                form = b"%m%d %H:%M:%S" if text[:1].isdigit() else b"%b %d %H:%M:%S"
                second = self._second(text, form, None)
        return second + int(((fraction or b"") + (micro or b"")).ljust(9, b"0")[:9]) if second else 0

    def _second(self, text: bytes, form: bytes, zone: Optional[bytes]) -> int:
        if form.startswith(b"%Y"):
            text_of = b"%s-%s-%s %s" % (text[:4], text[5:7], text[8:10], text[11:])
        else:
            text_of, form = b"%d %s" % (self._year, text), b"%Y " + form
        try:
            when = time.strptime(text_of.decode(), form.decode())
        except ValueError:
            return 0
        if zone:
            return (timegm(when) - _offset(zone)) * 1000000000
        if len(self._known) > 4096:
            self._known.clear()
        second = self._known[text] = int(time.mktime(when)) * 1000000000
        return second


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
    """Give the year of a file, for times that bear none."""
    return time.localtime(_modified(path) // 1000000000).tm_year


def span_of(found: Sequence[Found]) -> Tuple[int, int]:
    """Give first and last time of files; the first is read, the last is that of their last change."""
    first = []
    for item in found:
        reader = FileReader(item)
        block = next(reader.blocks(), []) or reader.finish()
        reader.close()
        first += [block[0][0]] if block else []
    return min(first, default=0), max((_modified(item.path) for item in found), default=0)
