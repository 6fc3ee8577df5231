"""The ranks' logs of all hosts in the head's run folder, their times on the head's clock."""

from __future__ import annotations

import resource
from collections import OrderedDict
from typing import Any, Callable, NamedTuple

from launcher.logs.writer import CappedLogWriter, LogWriter, open_log
from launcher.run_dir import RunDir
from launcher.text import named
from launcher.typed_json import Value
from launcher.ui.console import Console, StreamLines

_MOST_OPEN = 1024  # logs; each has two files


class Header(NamedTuple):
    """What stands before a chunk: rank, stream, time on the host's wall clock, place in the rank's log."""

    rank: int
    stream: str
    time_ns: int
    offset: int


def header(value: Any) -> Header:
    """Read the header of a `log` frame. ReadError: it is none."""
    found = Value(value, "log")
    if len(found.items()) != 4:
        found.refuse("no header", "rank, stream, time, place")
    rank, stream, time_ns, offset = found.items()
    if stream.text() not in ("o", "e"):
        stream.refuse("no stream", "o or e")
    return Header(rank.whole(), stream.text(), time_ns.whole(), offset.whole())


class MergedLogs:
    """The logs of an attempt; those written to least recently are closed meanwhile.

    limit: bytes of each log, 0 for all. on_gap: gets a rank and the number of bytes that did not come.
    """

    def __init__(self, run: RunDir, console: Console, limit: int, on_gap: Callable[[int, int], None]) -> None:
        self._run, self._console, self._limit, self._on_gap = run, console, limit, on_gap
        self._files: dict[int, LogWriter | CappedLogWriter] = {}
        self._open: OrderedDict[int, None] = OrderedDict()
        self._most = _most_open()
        self._lines: dict[tuple[int, str], StreamLines] = {}
        self._next: dict[int, int] = {}

    def write(self, head: Header, data: bytes, ahead_ns: int) -> None:
        """Write a chunk of a host whose clock is ahead by so much, and pass its lines to the console."""
        expected = self._next.get(head.rank, head.offset)
        if head.offset > expected:
            self._on_gap(head.rank, head.offset - expected)
        self._next[head.rank] = head.offset + len(data)
        time_ns = head.time_ns - ahead_ns
        self._file(head.rank).append(head.stream, memoryview(data), time_ns)
        self._show(head, data, time_ns / 1e9)

    def _file(self, rank: int) -> LogWriter | CappedLogWriter:
        found = self._files.get(rank)
        if found is None:
            paths = str(self._run.log(rank)), str(self._run.index(rank))
            found = self._files[rank] = open_log(*paths, self._limit)
        self._open[rank] = None
        self._open.move_to_end(rank)
        while len(self._open) > self._most:
            self._files[self._open.popitem(last=False)[0]].pause()
        return found

    def _show(self, head: Header, data: bytes, wall: float) -> None:
        if not self._console.shows(head.rank):
            return
        lines = self._lines.get((head.rank, head.stream))
        if lines is None:
            lines = self._lines[head.rank, head.stream] = StreamLines()
        if self._console.flooded:
            self._console.drop(lines.skip(data))
            return
        for line in lines.feed(data):
            self._console.line(head.rank, wall, line)

    def close(self, wall: float) -> list[str]:
        """Print the lines that have no end, at that time, and close; return what could not be written."""
        for (rank, _), lines in self._lines.items():
            for line in lines.finish():
                self._console.line(rank, wall, line)
        problems = []
        for rank, files in self._files.items():
            files.close()
            if files.last_error:
                lost = f"{files.bytes_lost} bytes of its output are not in {self._run.log(rank)}"
                problems.append(f"{named(rank)}: {lost}: {files.last_error}")
        return problems


def _most_open() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_OPEN if soft <= 0 else max(4, min(_MOST_OPEN, soft // 4))
