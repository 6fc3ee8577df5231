"""Choose lines: by stream, time, pattern and level, or the last ones."""

from __future__ import annotations

from collections import deque
from typing import Callable, Pattern

from launcher.logs.levels import LevelTracker
from launcher.logs.records import Batches, LogRecord, RecordBatch, split_lines


def by_stream(batches: Batches, stream: bytes) -> Batches:
    """Keep the records of one stream."""
    for batch in batches:
        yield [record for record in batch if record[2] == stream]


def by_time(batches: Batches, since: int, until: int) -> Batches:
    """Keep what lies between two times in ns (0: no limit); end when the later one is passed."""
    for batch in batches:
        if until and batch and batch[0][0] > until:
            return
        yield [record for record in batch if since <= record[0] and (not until or record[0] <= until)]


def by_line(batches: Batches, keep: Callable[[LogRecord], bool]) -> Batches:
    """Keep the lines for which `keep` holds; it gets records of one line each, in their order."""
    for batch in batches:
        yield [record for record in split_lines(batch) if keep(record)]


def matching(batches: Batches, pattern: Pattern[bytes]) -> Batches:
    """Keep the lines in which a pattern is found."""
    for batch in batches:
        found = [record for record in batch if pattern.search(record[3])]
        yield [record for record in split_lines(found) if pattern.search(record[3])]


def at_level(batches: Batches, least: int) -> Batches:
    """Keep the lines of a level or above; the lines of a traceback have the level of an error."""
    trackers: dict[tuple[bytes, bytes], LevelTracker] = {}

    def keep(record: LogRecord) -> bool:
        tracker = trackers.get(record[1:3]) or trackers.setdefault(record[1:3], LevelTracker())
        return tracker.level_of(record[3]) >= least

    return by_line(batches, keep)


def tail(batches: Batches, count: int) -> RecordBatch:
    """Return the last lines of all."""
    last: deque[LogRecord] = deque(maxlen=count)
    for batch in batches:
        last.extend(split_lines(batch))
    return list(last)
