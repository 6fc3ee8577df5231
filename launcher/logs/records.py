"""The unit of all log reading, the merge by time, and the cutting of bytes into lines.

A record is whole lines of one source that share a time: (ns since the epoch, label, stream, text without
the last line end). Sources yield batches: lists of records in the order of time, of bounded size. What can be
left to C is: a record of a thousand lines costs little more than a record of one line.
"""

from __future__ import annotations

from bisect import bisect_left
from operator import itemgetter
from typing import Iterable, Iterator, List, Tuple

from launcher.logs.encodings import CONTINUED, boundary
from launcher.text import printable

LogRecord = Tuple[int, bytes, bytes, bytes]
RecordBatch = List[LogRecord]
Batches = Iterator[RecordBatch]

LONGEST_LINE = 1 << 16  # a longer one is shown in parts
BATCH_BYTES = 1 << 17  # bytes of text that a source holds at once
time_of = itemgetter(0)


def merge(sources: Iterable[Batches]) -> Batches:
    """Merge sources by time; of equal times the earlier source comes first.

    Holds one batch a source: what is not later than the end of the batch that ends first is complete.
    """
    rest: dict[int, Batches] = dict(enumerate(sources))
    heads: dict[int, RecordBatch] = {}
    while True:
        for number in [number for number in rest if not heads.get(number)]:
            heads[number] = next(filter(None, rest[number]), [])
            if not heads[number]:
                del rest[number], heads[number]
        if not heads:
            return
        horizon = min(head[-1][0] for head in heads.values())
        ready: RecordBatch = []
        for number, head in sorted(heads.items()):
            count = bisect_left(head, (horizon + 1,))
            ready += head[:count]
            heads[number] = head[count:]
        ready.sort(key=time_of)  # merges the runs of the sources; stable
        yield ready


def split_lines(batch: RecordBatch) -> RecordBatch:
    """Return a record for each line."""
    return [
        (when, label, stream, line)
        for when, label, stream, text in batch
        for line in (text.split(b"\n") if b"\n" in text else (text,))
    ]


class LineSplitter:
    """The lines of one stream; what has no line end yet waits, up to LONGEST_LINE bytes."""

    def __init__(self) -> None:
        self._partial = b""

    @property
    def waiting(self) -> bool:
        """Tell whether a line has begun and not ended."""
        return bool(self._partial)

    def feed(self, data: bytes) -> bytes:
        r"""Take a chunk; return the whole lines so far with their line ends, as a terminal would leave them.

        Of what a progress bar redraws with \r the last state is kept.
        """
        if self._partial or data[-1:] != b"\n":
            whole, end, rest = (self._partial + data).rpartition(b"\n")
            text = whole + end
            # Older states of a progress bar go; a last \r may be half a line end.
            rest = rest[rest.rfind(b"\r", 0, len(rest.rstrip(b"\r"))) + 1 :]
            while len(rest) > LONGEST_LINE:
                cut = boundary(rest, LONGEST_LINE)
                text += rest[:cut] + b" ...(split)\n"
                rest = rest[cut:]
            self._partial = rest
        else:
            text = data
        return redrawn(text) if b"\r" in text else text

    def drop(self) -> None:
        """Forget a line that has begun."""
        self._partial = b""

    def finish(self) -> bytes:
        """Return the last line, which has no line end, with one."""
        rest, self._partial = self._partial, b""
        return redrawn(rest + b"\n") if rest else b""


def redrawn(text: bytes) -> bytes:
    r"""Keep what a terminal would show last of each line that \r redraws."""
    return b"\n".join(line.rstrip(b"\r").rpartition(b"\r")[2] for line in text.split(b"\n"))


def last_lines(tail: bytes, count: int) -> list[str]:
    """Return the last lines of a rank for the report."""
    begun = tail[:4].lstrip(CONTINUED)  # the first character may be cut
    text = (begun + tail[4:]).decode("utf-8", "backslashreplace").replace("\r", "\n")
    return [printable(line) for line in text.splitlines() if line.strip()][-count:]
