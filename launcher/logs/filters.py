"""Choose lines: by stream, time, pattern and level, or the last ones."""

from __future__ import annotations

from collections import deque
from typing import Pattern

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


def matching(batches: Batches, pattern: Pattern[bytes]) -> Batches:
    """Keep the lines in which a pattern is found."""
    for batch in batches:
        found = [record for record in batch if pattern.search(record[3])]
        yield [record for record in split_lines(found) if pattern.search(record[3])]


def at_level(batches: Batches, least: int) -> Batches:
    """Keep the lines of a level or above; the lines of a traceback have the level of an error."""
    from launcher.lines.blocks import BlockReader  # costs more than a start without it should pay

    readers: dict[tuple[bytes, bytes], BlockReader] = {}
    for batch in batches:
        records = split_lines(batch)
        for source in {(record[1], record[2]) for record in records} - readers.keys():
            readers[source] = BlockReader()
            readers[source].learn([record[3] for record in records if record[1:3] == source])
        yield [record for record in records if readers[record[1], record[2]].read(record[3]).level >= least]


def tail(batches: Batches, count: int) -> RecordBatch:
    """Return the last lines of all."""
    last: deque[LogRecord] = deque(maxlen=count)
    for batch in batches:
        last.extend(split_lines(batch))
    return list(last)
