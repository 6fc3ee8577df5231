"""Equal lines of several ranks as one: `[0-7]| text`, on the console and in `npu-launch logs --collapse`."""

from __future__ import annotations

import time
from collections import deque
from typing import AbstractSet

from launcher.logs.records import Batches, LogRecord, RecordBatch, split_lines
from launcher.text import label

WINDOW = 250000000  # ns in which several ranks write the same line
MOST_HELD = 5000  # lines that wait for equal ones
_LATER_THAN_ALL = 1 << 63


class _HeldLine:
    """A line that other sources may still join."""

    __slots__ = ("labels", "number", "record", "since")

    def __init__(self, number: int, record: LogRecord, since: int) -> None:
        self.number, self.record, self.since = number, record, since
        self.labels = {record[1]}


class LineCollapser:
    """Lines that wait for equal ones of other sources, oldest first; each source's own order stays."""

    def __init__(self) -> None:
        self._queue: deque[_HeldLine] = deque()
        self._by_text: dict[bytes, _HeldLine] = {}
        self._last: dict[bytes, int] = {}  # label -> number of the line that it wrote last
        self._count = 0

    @property
    def waiting_since(self) -> int | None:
        """The `since` of the line that has waited longest."""
        return self._queue[0].since if self._queue else None

    def add(self, record: LogRecord, since: int) -> None:
        """Join a record of one line to an equal line, or hold it. `since`: ns, on the clock of `release`."""
        name = record[1]
        held = self._by_text.get(record[3])
        # A source joins only what comes after its own last line, so that its lines stay in order.
        if held is not None and name not in held.labels and held.number > self._last.get(name, -1):
            held.labels.add(name)
        else:
            self._count += 1
            held = _HeldLine(self._count, record, since)
            self._queue.append(held)
            self._by_text[record[3]] = held
        self._last[name] = held.number

    def release(
        self, before: int, out: RecordBatch, everyone: AbstractSet[bytes] | None = None
    ) -> RecordBatch:
        """Move to `out` what has waited since before a time, and lines that everyone has written."""
        queue = self._queue
        while queue and (
            queue[0].since < before
            or len(queue) > MOST_HELD
            or (everyone is not None and queue[0].labels >= everyone)
        ):
            held = queue.popleft()
            when, _, stream, text = held.record
            if self._by_text.get(text) is held:
                del self._by_text[text]
            out.append((when, joined(held.labels), stream, text))
        return out

    def release_all(self) -> RecordBatch:
        """Return all that is held."""
        return self.release(_LATER_THAN_ALL, [])


def collapsed(batches: Batches, live: bool = False) -> Batches:
    """Join equal lines that several sources write within WINDOW, at the first one's time.

    With `live` the next batch may come much later, so nothing waits longer than the window.
    """
    lines = LineCollapser()
    for batch in batches:
        out: RecordBatch = []
        for record in split_lines(batch):
            lines.release(record[0] - WINDOW, out)
            lines.add(record, record[0])
        yield lines.release(time.time_ns() - WINDOW, out) if live else out
    yield lines.release_all()


def joined(labels: AbstractSet[bytes]) -> bytes:
    """Name several sources: [0-2,5], or [a,b] where they are not ranks."""
    if len(labels) == 1:
        return next(iter(labels))
    if all(name.isdigit() for name in labels):
        return label(set(map(int, labels))).encode()
    return b"[%s]" % b",".join(sorted(labels))
