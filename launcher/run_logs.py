"""Read the logs of a run: rank_N.log by its index (launcher/capture.py), in blocks of bounded size."""

from __future__ import annotations

import re
from pathlib import Path
from typing import IO, Dict, Iterator, List, Optional, Sequence, Tuple

from launcher.errors import UsageError
from launcher.log_pieces import BLOCK_BYTES, Block, Lines
from launcher.run_dir import RunDir

INDEX_BYTES = 1 << 14  # of index read at once; an entry has some 35
Entry = Tuple[int, bytes, int, int]  # time in ns, stream, offset, length


def ranks(run: RunDir) -> List[int]:
    """List the ranks that have a log."""
    found = (re.match(r"rank_(\d+)\.log$", path.name) for path in run.logs.glob("rank_*.log"))
    return sorted(int(match.group(1)) for match in found if match)


def choose(run: RunDir, wanted: Sequence[int]) -> List[int]:
    """Give the ranks wanted, or all. UsageError: the run has no such rank."""
    there = ranks(run)
    missing = sorted(set(wanted) - set(there))
    if missing:
        has = "%d-%d" % (there[0], there[-1]) if there else "none"
        raise UsageError("--rank: %s has no log of rank %d; it has %s" % (run.path.name, missing[0], has))
    return [rank for rank in there if rank in wanted] if wanted else there


class RankReader:
    """Read one rank's log from a place in its index on; a later call of `blocks` goes on where it ended."""

    def __init__(self, run: RunDir, rank: int) -> None:
        self.rank = rank
        self._label = b"%d" % rank
        self._log_path, self._index_path = run.log(rank), run.index(rank)
        self._log: Optional[IO[bytes]] = None
        self._position = 0  # in the index
        self._lines: Dict[bytes, Lines] = {}
        self._last = 0

    def start_at(self, position: int) -> None:
        """Start at a byte of the index where an entry begins."""
        self._position = position

    def blocks(self, until: int = 0) -> Iterator[Block]:
        """Give what is there now, to its last whole line; `until` (ns, 0: no limit) ends it early."""
        for entries in self._entries():
            if until and entries[0][0] > until:
                return
            for part in _parts(entries):
                yield self._pieces(part)

    def finish(self) -> Block:
        """Give the lines that have no line end, at the time of the last chunk."""
        ends = sorted((stream, lines.finish()) for stream, lines in self._lines.items())
        return [(self._last, self._label, stream, text[:-1]) for stream, text in ends if text]

    def close(self) -> None:
        """Close the log."""
        if self._log is not None:
            self._log.close()
            self._log = None

    def _entries(self) -> Iterator[List[Entry]]:
        """Read the index on, in lists of whole entries."""
        while True:
            try:
                with open(str(self._index_path), "rb") as stream:
                    stream.seek(self._position)
                    text = stream.read(INDEX_BYTES)
            except OSError:
                return
            text = text[: text.rfind(b"\n") + 1]
            if not text:
                return
            self._position += len(text)
            yield parse_index(text)

    def _pieces(self, entries: List[Entry]) -> Block:
        begin = entries[0][2]
        data = self._read(begin, entries[-1][2] + entries[-1][3] - begin)
        label, block = self._label, []
        for when, stream, offset, length in entries:
            lines = self._lines.get(stream) or self._lines.setdefault(stream, Lines())
            text = lines.feed(data[offset - begin : offset - begin + length])
            if text:
                block.append((when, label, stream, text[:-1]))
        self._last = entries[-1][0]
        return block

    def _read(self, offset: int, length: int) -> bytes:
        if self._log is None:
            self._log = open(str(self._log_path), "rb")
        self._log.seek(offset)
        return self._log.read(length)


def parse_index(text: bytes) -> List[Entry]:
    """Read whole entries of an index."""
    words = text.split()
    return list(zip(map(int, words[0::4]), words[1::4], map(int, words[2::4]), map(int, words[3::4])))


def _parts(entries: List[Entry]) -> Iterator[List[Entry]]:
    """Cut entries so that each part is one stretch of the log of at most BLOCK_BYTES (or one chunk)."""
    first = 0
    for place in range(1, len(entries)):
        before, here = entries[place - 1], entries[place]
        gap = before[2] + before[3] != here[2]
        if gap or here[2] + here[3] - entries[first][2] > BLOCK_BYTES:
            yield entries[first:place]
            first = place
    yield entries[first:]


def seek_time(index: Path, when: int) -> int:
    """Find the place in an index of the first entry not before `when` (ns), by halving."""
    try:
        low, high = 0, index.stat().st_size
    except OSError:
        return 0
    with open(str(index), "rb") as stream:
        while low < high:
            middle = (low + high) // 2
            start, entry = _entry_from(stream, middle)
            if entry is None or entry[0] >= when:
                high = middle
            else:
                low = start + len(_line_at(stream, start))
        return low


def _entry_from(stream: IO[bytes], position: int) -> Tuple[int, Optional[Entry]]:
    """Give the first entry that begins at or after a byte, and where."""
    if position:
        stream.seek(position - 1)
        stream.readline()
    else:
        stream.seek(0)
    start = stream.tell()
    line = stream.readline()
    return start, parse_index(line)[0] if line.endswith(b"\n") else None


def _line_at(stream: IO[bytes], position: int) -> bytes:
    stream.seek(position)
    return stream.readline()
