"""Read the logs of a run: rank_N.log by its index (supervision/capture.py), in batches of bounded size."""

from __future__ import annotations

import os
import re
from itertools import accumulate, repeat
from pathlib import Path
from typing import IO, Callable, Iterator, List, Sequence, Tuple

from launcher import foreign
from launcher.errors import MissingFileError, ReadError, UsageError
from launcher.logs.encodings import is_gb18030
from launcher.logs.open_files import FILES
from launcher.logs.reader import LogReader
from launcher.logs.records import BATCH_BYTES, Batches, LineSplitter, RecordBatch
from launcher.run_dir import RunDir
from launcher.text import SCHEDULER, named
from launcher.text import label as label_of

INDEX_BYTES = 1 << 15  # of index read at once; an entry has some 35
LEAD = 1 << 12  # bytes of index before a place that is sought: a line may have begun there
Entry = Tuple[int, bytes, int, int]  # time in ns, stream, offset, length
Columns = Tuple[List[int], List[bytes], List[bytes], List[int]]  # the same of many; offsets in digits


def ranks(run: RunDir) -> list[int]:
    """List the ranks that have a log."""
    found = (re.match(r"rank_(\d+)\.log$", path.name) for path in run.logs.glob("rank_*.log"))
    return sorted(int(match.group(1)) for match in found if match)


def choose(run: RunDir, wanted: Sequence[int]) -> list[int]:
    """Return the ranks wanted, or all and a scheduler. UsageError: the run has no such rank."""
    there = ranks(run)
    known = there + [SCHEDULER] * os.path.lexists(str(run.log(SCHEDULER)))
    missing = sorted(set(wanted) - set(known))
    if missing:
        has = f"{there[0]}-{there[-1]}" if there else "none"
        raise UsageError(f"--rank: {run.path.name} has no log of {named(missing[0])}; it has {has}")
    return [rank for rank in known if rank in wanted] if wanted else known


def parts(run: RunDir, rank: int) -> list[str]:
    """List the endings of the parts of a log with a limit, not yet put together (launcher/logs/writer.py)."""
    name = run.index(rank).name
    return sorted(path.name[len(name) :] for path in run.logs.glob(name + ".part*"))


class RankReader(LogReader):
    """One rank's log from a place in its index on; a later call of `batches` goes on where it ended."""

    def __init__(self, run: RunDir, rank: int, label: str = "", part: str = "") -> None:
        super().__init__(Path(str(run.log(rank)) + part), (label or label_of({rank})).encode(), rank)
        self._index_path = Path(str(run.index(rank)) + part)
        self._encoding = ""  # "" until a byte beyond ASCII has come
        self._position = 0  # in the index
        self._lines: dict[bytes, LineSplitter] = {}  # by stream
        self._last = 0

    @property
    def begun(self) -> bool:
        """Tell whether there is anything to skip."""
        return self._index_path.is_file() and self.path.is_file()

    def skip_to(self, when: int) -> None:
        """Start a little before the first chunk that is not older than `when` (ns)."""
        self._start(_seek(self._index_path, lambda entry: entry[0] < when))

    def skip_to_last(self, lines: int) -> None:
        """Start a little before the last lines."""
        offset = _last_lines(self.path, lines)
        self._start(_seek(self._index_path, lambda entry: entry[2] < offset))

    def _start(self, position: int) -> None:
        with foreign.open_regular(self._index_path) as stream:
            self._position = _next_entry(stream, max(0, position - LEAD))

    def batches(self) -> Batches:
        """Yield what is there now, to its last whole line."""
        for columns in self._columns():
            batch = self._one_line_each(columns)
            if batch:
                yield self._in_utf8(batch)
                continue
            times, streams, offsets, lengths = columns
            for part in _parts(list(zip(times, streams, map(int, offsets), lengths))):
                batch = self._any(part)
                if batch:
                    yield self._in_utf8(batch)

    def _in_utf8(self, batch: RecordBatch) -> RecordBatch:
        """Turn what a rank wrote in GB18030 into UTF-8; which of them it is, its first such bytes decide."""
        if self._encoding != "gb18030":
            return batch
        return [
            (when, label, stream, text.decode("gb18030", "backslashreplace").encode())
            for when, label, stream, text in batch
        ]

    def finish(self) -> RecordBatch:
        """Return the lines that have no line end, at the time of the last chunk."""
        ends = sorted((stream, lines.finish()) for stream, lines in self._lines.items())
        return self._in_utf8([(self._last, self.label, stream, text[:-1]) for stream, text in ends if text])

    def close(self) -> None:
        """Close the files."""
        FILES.close((self, "log"))
        FILES.close((self, "index"))

    def _columns(self) -> Iterator[Columns]:
        """Read the index on, some hundred whole entries at once."""
        while True:
            try:
                # Both at once: a part may give way to a newer one at any moment.
                FILES.get((self, "log"), self.path)
                index = FILES.get((self, "index"), self._index_path)
                text = os.pread(index.fileno(), INDEX_BYTES, self._position)
            except MissingFileError:
                return
            except (ReadError, OSError) as error:
                self.problems.append(f"{error}; lines of {named(self.rank or 0)} are not shown")
                return
            text = text[: text.rfind(b"\n") + 1]
            if not text:
                return
            self._position += len(text)
            times, streams, offsets, lengths = parse_index(text)
            if times:
                times = self._forward(times)
                yield times, streams, offsets, lengths

    def _forward(self, times: list[int]) -> list[int]:
        """Keep the time where the machine's clock went back: a rank's own order is never changed."""
        if times[0] < self._last or times != sorted(times):
            times = list(accumulate((self._last, *times), max))[1:]
        self._last = times[-1]
        return times

    def _one_line_each(self, columns: Columns) -> RecordBatch:
        """Return the records where each chunk is one whole line, the common case, without a loop; else []."""
        times, streams, offsets, lengths = columns
        begin = int(offsets[0])
        size = int(offsets[-1]) + lengths[-1] - begin
        if size > BATCH_BYTES or size != sum(lengths) or any(one.waiting for one in self._lines.values()):
            return []
        data = self._read(begin, size)
        texts = data.split(b"\n")
        if texts.pop() or b"\r" in data or [len(text) + 1 for text in texts] != lengths:
            return []
        return list(zip(times, repeat(self.label), streams, texts))

    def _any(self, entries: list[Entry]) -> RecordBatch:
        begin = entries[0][2]
        data = self._read(begin, entries[-1][2] + entries[-1][3] - begin)
        batch = []
        for when, stream, offset, length in entries:
            lines = self._lines.get(stream) or self._lines.setdefault(stream, LineSplitter())
            text = lines.feed(data[offset - begin : offset - begin + length])
            if text:
                batch.append((when, self.label, stream, text[:-1]))
        return batch

    def _read(self, offset: int, length: int) -> bytes:
        log = FILES.get((self, "log"), self.path)
        log.seek(offset)
        data = log.read(length)
        if not self._encoding and not data.isascii():
            self._encoding = "gb18030" if is_gb18030(data) else "utf-8"
        return data


def parse_index(text: bytes) -> Columns:
    """Parse whole entries of an index; what a full disk cut off is left out.

    Offsets stay digits: where chunks follow each other only the first and the last are needed.
    """
    words = text.split()
    offsets = words[2::4]
    try:
        if len(words) != 4 * text.count(b"\n") or not b"".join(offsets).isdigit():
            raise ValueError
        return list(map(int, words[0::4])), words[1::4], offsets, list(map(int, words[3::4]))
    except ValueError:
        entries = [entry for line in text.splitlines() for entry in _entry(line)]
        times, streams, places, lengths = zip(*entries) if entries else ((), (), (), ())
        return list(times), list(streams), [b"%d" % place for place in places], list(lengths)


def _entry(line: bytes) -> list[Entry]:
    match = re.match(rb"(\d{15,20}) ([oe]) (\d+) (\d+)$", line)
    return [(int(match[1]), match[2], int(match[3]), int(match[4]))] if match else []


def _parts(entries: list[Entry]) -> Iterator[list[Entry]]:
    """Cut entries so that each part is one stretch of the log of at most BATCH_BYTES (or one chunk)."""
    first = 0
    for place in range(1, len(entries)):
        before, here = entries[place - 1], entries[place]
        gap = before[2] + before[3] != here[2]
        if gap or here[2] + here[3] - entries[first][2] > BATCH_BYTES:
            yield entries[first:place]
            first = place
    yield entries[first:]


def span_of(run: RunDir, chosen: Sequence[int]) -> tuple[int, int]:
    """Return the times of the first and the last chunk of ranks, in ns; 0, 0 when there is none."""
    first, last = [], []
    for rank in chosen:
        readers = [RankReader(run, rank, part=part) for part in ("", *parts(run, rank))]
        first += next(readers[0]._columns(), ([],))[0][:1]
        for reader in readers:
            last += _last_entry(reader._index_path)
    return min(first, default=0), max(last, default=0)


def _last_entry(index: Path) -> list[int]:
    try:
        with foreign.open_regular(index) as stream:
            size = stream.seek(0, 2)
            stream.seek(_next_entry(stream, max(0, size - LEAD)))
            return parse_index(stream.read())[0][-1:]
    except (ReadError, OSError):
        return []


def _seek(index: Path, before: Callable[[Entry], bool]) -> int:
    """Find the place in an index of the first entry for which `before` no longer holds, by halving."""
    with foreign.open_regular(index) as stream:
        low, high = 0, stream.seek(0, 2)
        while low < high:
            middle = _next_entry(stream, (low + high) // 2)
            entry = _entry(_line_at(stream, middle).rstrip(b"\n")) if middle < high else []
            if entry and before(entry[0]):
                low = middle + len(_line_at(stream, middle))
            else:
                high = (low + high) // 2
        return _next_entry(stream, low)


def _next_entry(stream: IO[bytes], position: int) -> int:
    """Find where the first entry begins that begins at or after a byte."""
    if position == 0:
        return 0
    stream.seek(position - 1)
    return position - 1 + len(stream.readline())


def _line_at(stream: IO[bytes], position: int) -> bytes:
    stream.seek(position)
    return stream.readline()


def _last_lines(log: Path, lines: int) -> int:
    """Find where the last lines of a file begin, reading from its end."""
    with foreign.open_regular(log) as stream:
        position = stream.seek(0, 2)
        missing = lines + 1  # line ends: the last one ends the last line
        while position > 0:
            step = min(1 << 16, position)
            position -= step
            stream.seek(position)
            ends = [match.start() for match in re.finditer(b"\n", stream.read(step))]
            if len(ends) >= missing:
                return position + ends[-missing] + 1
            missing -= len(ends)
        return 0
