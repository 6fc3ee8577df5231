"""Files that grow or are replaced, read again only where they have changed."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path
from typing import Callable, Generic, TypeVar

from launcher import foreign
from launcher.errors import MissingFileError, ReadError
from launcher.metrics import series
from launcher.metrics.appended import Appended

T = TypeVar("T")
MOST = 16 << 20  # bytes that one look reads of a file
LAST = 4096  # bytes in which the last row is looked for
POINTS = 512  # of a curve


class Changing(Generic[T]):
    """A file that is replaced. value: what it last held that could be read; problem: why it cannot be."""

    def __init__(self, path: Path, read: Callable[[Path], T]) -> None:
        self.path, self._read, self._stamp = path, read, (0, 0, 0)
        self.value: T | None = None
        self.problem = ""
        self.written: float | None = None  # seconds since the epoch

    def look(self) -> bool:
        """Read it if it has changed; tell whether it had."""
        stamp = stamp_of(self.path)
        if stamp == self._stamp:
            return False
        self._stamp, self.written = stamp, stamp[0] / 1e9 if stamp[1] else None
        self.problem = ""
        try:
            self.value = self._read(self.path)
        except MissingFileError:
            self.value = None
        except ReadError as error:
            self.problem = str(error)
        return True


def stamp_of(path: Path) -> tuple[int, int, int]:
    """Return what changes with every writing of a file; zeros where there is none."""
    try:
        about = os.lstat(str(path))
    except (OSError, ValueError):
        return 0, 0, 0
    return about.st_mtime_ns, about.st_ino, about.st_size


class Growing:
    """A file to which lines are appended. problem: why it cannot be read."""

    def __init__(self, path: Path) -> None:
        self._file = Appended(path, MOST, last=True)
        self.problem = ""

    def look(self) -> list[bytes]:
        """Return the whole lines that are new; of a file that was exchanged, all."""
        try:
            return self._file.lines()
        except ReadError as error:
            self.problem = str(error)
            self._file.skip()
            return []

    @property
    def torn(self) -> bool:
        """Whether a line has begun that has no end yet."""
        return self._file.torn


def last_row(path: Path) -> series.Row:
    """Read the last whole row of metrics.jsonl on the training; empty when there is none.

    ReadError: it cannot be read.
    """
    with foreign.open_regular(path) as stream:
        stream.seek(max(0, stream.seek(0, os.SEEK_END) - LAST))
        lines = stream.read(LAST).split(b"\n")[:-1]
    while lines and (series.evaluation(lines[-1]) or not lines[-1].strip()):
        lines.pop()
    found = series.record(lines[-1]) if lines else {}
    if found is None:
        raise ReadError(f"{path}: the last line is no row (expected a JSON object with step)")
    return series.numbers(found)


class Curve:
    """The losses of a run, of which at most POINTS are kept: neighbours become their mean."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, float]] = deque()  # step, loss
        self._each, self._sum, self._count = 1, 0.0, 0
        self.last: series.Row = {}
        self.best: series.Rate | None = None

    def add(self, row: series.Row) -> None:
        """Take a row; after a restart, what came from its step on is taken back."""
        while self._points and self._points[-1][0] >= row["step"]:
            self._points.pop()
        self.last = row
        rate, loss = series.rate_of(row), row.get("loss")
        if rate.value:
            self.best = max(self.best or rate, rate, key=lambda one: (one.unit == series.ALL, one.value))
        if loss is None:
            return
        self._sum, self._count = self._sum + loss, self._count + 1
        if self._count >= self._each:
            self._points.append((row["step"], self._sum / self._count))
            self._sum, self._count = 0.0, 0
        if len(self._points) >= POINTS:
            self._thin()

    def _thin(self) -> None:
        points = list(self._points)
        pairs = zip(points[::2], points[1::2])
        self._points = deque((later[0], (first[1] + later[1]) / 2) for first, later in pairs)
        self._each *= 2

    @property
    def losses(self) -> tuple[float, ...]:
        return tuple(loss for _, loss in self._points)
