"""Show logs: of runs and of others, merged by time, filtered, followed."""

from __future__ import annotations

import os
import re
import time
from bisect import bisect_left
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Iterator, Pattern, Sequence, Union

from launcher.errors import UsageError
from launcher.logs import file_reader, filters, rank_reader
from launcher.logs.file_reader import FileReader
from launcher.logs.rank_reader import RankReader
from launcher.logs.records import Block, merge, time_of
from launcher.run_dir import RunDir
from launcher.runs import registry

POLL = 0.1  # seconds between looks for new lines
SETTLED = 50000000  # ns: a chunk is in its index long before it is this old

Reader = Union[RankReader, FileReader]
Blocks = Iterator[Block]


@dataclass(frozen=True)
class Query:
    """Say which lines to show. Times are ns since the epoch, 0: no limit; `level` as in log_levels."""

    ranks: tuple[int, ...] = ()  # empty: all
    stream: str = ""  # "", "o" or "e"
    since: int = 0
    until: int = 0
    grep: str = ""
    level: int = 0
    collapse: bool = False
    tail: int | None = None
    plog: bool = False


class Place:
    """Hold one thing to read: a run's folder, or a folder or file of others. `node` goes before labels."""

    def __init__(self, path: Path, node: str = "") -> None:
        self.path, self.node = path, node
        self.run = RunDir(path) if registry.is_run(path) else None
        if self.run is None and not file_reader.discover(path):
            raise UsageError(f"{path}: neither a run folder nor logs (*.log, rank-N.txt, plog trees) in it")

    def readers(self, query: Query) -> list[Reader]:
        """Open what the query asks for."""
        if self.run is None:
            return [FileReader(item) for item in self._files(self.path, query)]
        chosen = rank_reader.choose(self.run, query.ranks)
        found = [self._of_rank(self.run, rank) for rank in chosen]
        return found + (self.plogs(query) if query.plog else [])

    def _of_rank(self, run: RunDir, rank: int) -> Reader:
        label = self._label(rank)
        # A rank that has just begun may have no index yet; one that has ended without one never will.
        if run.index(rank).exists() or self.running():
            return RankReader(run, rank, label)
        return FileReader(file_reader.Found(label, rank, run.log(rank)))  # the index was lost

    def _label(self, rank: int) -> str:
        return f"{self.node}/{rank}" if self.node else str(rank)

    def parts(self, query: Query) -> list[Reader]:
        """Open the newest bytes of logs with a limit: of a run that goes on, or whose launcher was killed."""
        if self.run is None:
            return []
        chosen = rank_reader.choose(self.run, query.ranks)
        return [
            RankReader(self.run, rank, self._label(rank), part)
            for rank in chosen
            for part in rank_reader.parts(self.run, rank)
        ]

    def plogs(self, query: Query) -> list[Reader]:
        """Open what CANN wrote below the run's rank folders."""
        return [
            FileReader(item)
            for item in self._files(self.path / "ranks", query)
            if re.match(r"(plog|device)-\d+_", item.path.name)
        ]

    def _files(self, folder: Path, query: Query) -> list[file_reader.Found]:
        found = file_reader.discover(folder, self.node) if folder.exists() else []
        return [item for item in found if not query.ranks or item.rank in query.ranks]

    def bounds(self, query: Query) -> tuple[int, int]:
        """Give first and last time of what is there."""
        if self.run is None:
            return file_reader.span_of(self._files(self.path, query))
        return rank_reader.bounds(self.run, rank_reader.choose(self.run, query.ranks))

    def running(self) -> bool:
        """Say whether more will come; nothing tells it of others' logs, so following these never ends."""
        return self.run is None or registry.running(self.run)


def find(words: Sequence[str], runs_dir: str) -> list[Place]:
    """Find what the words of the command line name: runs, folders, files; none: the latest run.

    Raises:
        UsageError: there is no such thing.
    """
    paths = [_path(word, runs_dir) for word in words or ("",)]
    names = [path.name for path in paths]
    several = len(paths) > 1
    nodes = [str(path) if names.count(path.name) > 1 else path.name for path in paths]
    return [Place(path, node if several else "") for path, node in zip(paths, nodes)]


def _path(word: str, runs_dir: str) -> Path:
    path = Path(word)
    if word and path.exists() and not registry.is_run(path):
        return Path(os.path.normpath(word)) if word != "." else path.resolve()
    return registry.resolve(word, runs_dir).path


def bounds(places: Sequence[Place], query: Query) -> tuple[int, int]:
    """Give first and last time of all that is there, in ns."""
    found = [place.bounds(query) for place in places]
    return min((first for first, _ in found if first), default=0), max(last for _, last in found)


def show(places: Sequence[Place], query: Query, follow: bool) -> Iterator[Block]:
    """Give the lines that a query asks for, in the order of time."""
    if not follow:
        yield from _now(places, query)
        return
    follower = Follower(places, query)
    if query.tail is not None:
        yield from _filtered(follower.there(), query)
    yield from _filtered(follower.coming(), replace(query, tail=None), live=True)


def _now(places: Sequence[Place], query: Query) -> Iterator[Block]:
    readers = [reader for place in places for reader in place.readers(query) + place.parts(query)]
    _skip(readers, query)
    return _filtered(merge([_whole(reader) for reader in readers]), query)


def _skip(readers: Sequence[Reader], query: Query) -> None:
    """Leave out, of logs that have an index, what cannot be asked for."""
    plain = not (query.stream or query.grep or query.level or query.collapse or query.until)
    for reader in readers:
        if isinstance(reader, RankReader) and reader.begun:
            if query.tail is not None and plain:
                reader.skip_to_last(query.tail)
            elif query.since:
                reader.skip_to(query.since)


class Follower:
    """Read on what places hold, until none of them is running."""

    def __init__(self, places: Sequence[Place], query: Query) -> None:
        self._places, self._query = places, query
        self._readers: dict[Path, Reader] = {}
        self._waiting: Block = []
        self._open()
        _skip(list(self._readers.values()), query)

    def _open(self) -> None:
        """Open what is new: the ranks of a run that has just begun come one by one."""
        for place in self._places:
            for reader in place.readers(self._query):
                self._readers.setdefault(reader.path, reader)

    def there(self) -> Iterator[Block]:
        """Give what has come since the last call.

        The launcher stamps chunks in one thread and stores each at once: what is older than SETTLED is
        complete over all ranks, so the order holds. Others' logs are not waited for.
        """
        exact = all(isinstance(reader, RankReader) for reader in self._readers.values())
        horizon = time.time_ns() - SETTLED if exact else 1 << 63
        for block in chain(merge([reader.blocks() for reader in self._readers.values()]), ([],)):
            self._waiting += block
            self._waiting.sort(key=time_of)
            count = bisect_left(self._waiting, (horizon,))
            yield self._waiting[:count]
            self._waiting = self._waiting[count:]

    def coming(self) -> Iterator[Block]:
        """Give what is there and what comes; an empty block each time that there is nothing."""
        while True:
            over = not any(place.running() for place in self._places)
            self._open()
            yield from self.there()
            if over:
                break
            time.sleep(POLL)
        yield self._waiting
        yield sorted((piece for reader in self._readers.values() for piece in reader.finish()), key=time_of)


def _whole(reader: Reader) -> Iterator[Block]:
    yield from reader.blocks()
    yield reader.finish()
    reader.close()


def _filtered(blocks: Iterator[Block], query: Query, live: bool = False) -> Iterator[Block]:
    if query.since or query.until:
        blocks = filters.by_time(blocks, query.since, query.until)
    if query.stream:
        blocks = filters.by_stream(blocks, query.stream.encode())
    if query.level:
        blocks = filters.at_level(blocks, query.level)
    if query.grep:
        blocks = filters.matching(blocks, compiled(query.grep))
    if query.collapse:
        blocks = filters.Collapse(live)(blocks)
    if query.tail is not None:
        blocks = iter([filters.tail(blocks, query.tail)])
    return blocks


def compiled(pattern: str) -> Pattern[bytes]:
    """Compile --grep. UsageError: no regular expression."""
    try:
        return re.compile(pattern.encode())
    except re.error as error:
        raise UsageError(f"--grep: {pattern!r}: {error}; quote special characters with \\") from None


def between(query: Query, places: Sequence[Place], since: str | None, until: str | None) -> Query:
    """Put --since and --until into a query. UsageError: no time."""

    def ends() -> tuple[int, int]:
        return bounds(places, query)

    first = filters.moment(since, "--since", ends) if since else 0
    last = filters.moment(until, "--until", ends) if until else 0
    return replace(query, since=first, until=last)


def label_width(places: Sequence[Place], query: Query) -> int:
    """Give the length of the longest label, to align the lines."""
    return max((len(reader.label) for place in places for reader in place.readers(query)), default=0)
