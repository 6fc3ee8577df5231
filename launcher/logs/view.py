"""Show logs: of runs and of others, merged by time, filtered, followed."""

from __future__ import annotations

import os
import re
import time
from bisect import bisect_left
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Container, Pattern, Sequence

from launcher.errors import UsageError
from launcher.logs import filters, rank_reader
from launcher.logs.collapse import collapsed
from launcher.logs.rank_reader import RankReader
from launcher.logs.reader import LogReader
from launcher.logs.records import Batches, RecordBatch, merge, time_of
from launcher.logs.timespec import parse_timespec
from launcher.run_dir import RunDir, opened
from launcher.runs import registry
from launcher.text import label

if TYPE_CHECKING:  # the readers of others' logs cost more than a look at a run should pay
    from launcher.logs.discovery import LogFile

POLL = 0.1  # seconds between looks for new lines
SETTLED = 50000000  # ns: a chunk is in its index long before it is this old


@dataclass(frozen=True)
class Query:
    """The lines to show. Times are ns since the epoch, 0: no limit; `level` as in lines/levels.py."""

    ranks: tuple[int, ...] = ()  # empty: all
    stream: str = ""  # "", "o" or "e"
    since: int = 0
    until: int = 0
    grep: str = ""
    level: int = 0
    collapse: bool = False
    tail: int | None = None
    plog: bool = False


class LogSource:
    """One thing to read: a run's folder, or a folder or file of others. `node` goes before labels."""

    def __init__(self, path: Path, node: str = "") -> None:
        self.path, self.node = path, node
        self._unread: list[str] = []  # folders
        self._told: set[str] = set()
        self._opened: list[LogReader] = []
        self._near: int | None = None
        self.run = opened(path) if registry.is_run(path) else None
        if self.run is None and not (self._files(path, Query()) or self.torch_records(Query())):
            raise UsageError(
                f"{path}: neither a run folder nor logs (*.log, *.out, rank-N.txt, plog trees) in it"
            )

    def readers(self, query: Query, known: Container[Path] = ()) -> list[LogReader]:
        """Open what the query asks for, but what is `known`."""
        if self.run is None:
            files = self._files(self.path, query)
            return [self._of_file(item, query) for item in files if item.path not in known]
        chosen = rank_reader.choose(self.run, query.ranks)
        found = [self._of_rank(self.run, rank) for rank in chosen if self.run.log(rank) not in known]
        return found + (self.plogs(query, known) if query.plog else [])

    def _of_file(self, item: LogFile, query: Query) -> LogReader:
        from launcher.logs.file_reader import FileReader

        mine = self.run is None  # what ranks wrote into a run's folder may be a link to anything
        return self._keep(FileReader(item, follow_links=mine, ranks=query.ranks, near=self._first_date))

    def _of_rank(self, run: RunDir, rank: int) -> LogReader:
        label = self.label(rank)
        # A rank that has just begun may have no index yet; one that has ended without one never will.
        if os.path.lexists(str(run.index(rank))) or self.running():
            return self._keep(RankReader(run, rank, label))
        from launcher.logs.discovery import LogFile

        return self._of_file(LogFile(label, rank, run.log(rank)), Query())  # the index was lost

    def _keep(self, reader: LogReader) -> LogReader:
        self._opened.append(reader)
        return reader

    def _first_date(self) -> int:
        """Return the first time with a date in the files of this source; 0 where there is none."""
        from launcher.logs.file_reader import first_date

        if self._near is None:
            files = self._files(self.path, Query()) if self.run is None else []
            self._near = min(filter(None, (first_date(item.path) for item in files)), default=0)
        return self._near

    def label(self, rank: int) -> str:
        """Return the label of a rank's lines."""
        return f"{self.node}/{label({rank})}" if self.node else label({rank})

    def labels(self, query: Query) -> list[str]:
        """Return the labels of what the query asks for."""
        if self.run is None:
            return [item.label for item in self._files(self.path, query)]
        plogs = [item.label for item in self._plogs(query)] if query.plog else []
        return [self.label(rank) for rank in rank_reader.choose(self.run, query.ranks)] + plogs

    def parts(self, query: Query) -> list[LogReader]:
        """Open the newest bytes of logs with a limit: of a run that goes on, or whose launcher was killed."""
        if self.run is None:
            return []
        chosen = rank_reader.choose(self.run, query.ranks)
        return [
            self._keep(RankReader(self.run, rank, self.label(rank), part))
            for rank in chosen
            for part in rank_reader.parts(self.run, rank)
        ]

    def plogs(self, query: Query, known: Container[Path] = ()) -> list[LogReader]:
        """Open what CANN wrote below the run's rank folders."""
        return [self._of_file(item, query) for item in self._plogs(query) if item.path not in known]

    def _plogs(self, query: Query) -> list[LogFile]:
        found = self._files(self.path / "ranks", query)
        return [item for item in found if re.match(r"(plog|device)-\d+_", item.path.name)]

    def _files(self, folder: Path, query: Query) -> list[LogFile]:
        from launcher.logs.discovery import discover

        found = discover(folder, self.node, self._unread)
        named = self.run is not None  # elsewhere a file without a rank may hold the lines of several
        return [
            item
            for item in found
            if not query.ranks or item.rank in query.ranks or (item.rank is None and not named)
        ]

    def torch_records(self, query: Query) -> list[LogFile]:
        """List the errors that torchrun's ranks recorded beside their logs, if this is its folder."""
        from launcher.logs.discovery import torch_records

        found = torch_records(self.path, self.node) if self.run is None else []
        return [item for item in found if not query.ranks or item.rank in query.ranks]

    def new_problems(self) -> list[str]:
        """Return what could not be read, or was read by a guess, and was not returned before."""
        found = chain(self._unread, *(reader.problems for reader in self._opened))
        new = [problem for problem in dict.fromkeys(found) if problem not in self._told]
        self._told.update(new)
        return new

    def span(self, query: Query) -> tuple[int, int]:
        """Return the first and the last time of what is there."""
        if self.run is None:
            from launcher.logs.file_reader import span_of

            return span_of(self._files(self.path, query))
        return rank_reader.span_of(self.run, rank_reader.choose(self.run, query.ranks))

    def running(self) -> bool:
        """Tell whether more will come; nothing says so of others' logs, so following these never ends."""
        return self.run is None or registry.running(self.run)


def find_sources(words: Sequence[str], runs_dir: str) -> list[LogSource]:
    """Find what the words of the command line name: runs, folders, files; none: the latest run.

    Raises:
        UsageError: there is no such thing.
    """
    paths = [_path(word, runs_dir) for word in words or ("",)]
    names = [path.name for path in paths]
    several = len(paths) > 1
    nodes = [str(path) if names.count(path.name) > 1 else path.name for path in paths]
    return [LogSource(path, node if several else "") for path, node in zip(paths, nodes)]


def _path(word: str, runs_dir: str) -> Path:
    path = Path(word)
    if word and path.exists() and not registry.is_run(path):
        return Path(os.path.normpath(word)) if word != "." else path.resolve()
    return registry.resolve(word, runs_dir).path


def with_time_range(
    query: Query, sources: Sequence[LogSource], since: str | None, until: str | None
) -> Query:
    """Put --since and --until into a query. UsageError: an invalid time."""

    def span() -> tuple[int, int]:
        spans = [source.span(query) for source in sources]
        return min((first for first, _ in spans if first), default=0), max(last for _, last in spans)

    first = parse_timespec(since, "--since", span) if since else 0
    last = parse_timespec(until, "--until", span) if until else 0
    return replace(query, since=first, until=last)


def label_width(sources: Sequence[LogSource], query: Query) -> int:
    """Return the length of the longest label, to align the lines."""
    return max((len(label) for source in sources for label in source.labels(query)), default=0)


def show(sources: Sequence[LogSource], query: Query, follow: bool) -> Batches:
    """Yield the lines that a query asks for, in the order of time."""
    if not follow:
        yield from _now(sources, query)
        return
    follower = Follower(sources, query)
    if query.tail is not None:
        yield from _filtered(follower.existing(), query)
    yield from _filtered(follower.incoming(), replace(query, tail=None), live=True)


def _now(sources: Sequence[LogSource], query: Query) -> Batches:
    readers = [reader for source in sources for reader in source.readers(query) + source.parts(query)]
    _skip(readers, query)
    return _filtered(merge([reader.whole() for reader in readers]), query)


def _skip(readers: Sequence[LogReader], query: Query) -> None:
    """Leave out, of logs that have an index, what cannot be asked for."""
    plain = not (query.stream or query.grep or query.level or query.collapse or query.until)
    for reader in readers:
        if isinstance(reader, RankReader) and reader.begun:
            if query.tail is not None and plain:
                reader.skip_to_last(query.tail)
            elif query.since:
                reader.skip_to(query.since)


def _filtered(batches: Batches, query: Query, live: bool = False) -> Batches:
    if query.since or query.until:
        batches = filters.by_time(batches, query.since, query.until)
    if query.stream:
        batches = filters.by_stream(batches, query.stream.encode())
    if query.level:
        batches = filters.at_level(batches, query.level)
    if query.grep:
        batches = filters.matching(batches, _compiled(query.grep))
    if query.collapse:
        batches = collapsed(batches, live)
    if query.tail is not None:
        batches = iter([filters.tail(batches, query.tail)])
    return batches


def _compiled(pattern: str) -> Pattern[bytes]:
    try:
        return re.compile(pattern.encode())
    except re.error as error:
        raise UsageError(
            f"--grep: {pattern!r}: invalid regular expression: {error}; quote special characters with \\"
        ) from None


class _Either(Container[Path]):
    """What is in one of two collections."""

    def __init__(self, *collections: Container[Path]) -> None:
        self._collections = collections

    def __contains__(self, path: object) -> bool:
        return any(path in one for one in self._collections)


class Follower:
    """The lines of sources as they come, until none of them is running."""

    def __init__(self, sources: Sequence[LogSource], query: Query) -> None:
        self._sources, self._query = sources, query
        self._readers: dict[Path, LogReader] = {}
        self._rotated: set[Path] = set()  # read before, by another name
        self._waiting: RecordBatch = []
        self._open()
        _skip(list(self._readers.values()), query)

    def _open(self) -> None:
        """Open what is new: the ranks of a run that has just begun come one by one.

        What comes by rotation is what has been read already, by another name.
        """
        begun = bool(self._readers)
        for source in self._sources:
            for reader in source.readers(self._query, _Either(self._readers, self._rotated)):
                if begun and not isinstance(reader, RankReader) and self._was_read(reader.path):
                    self._rotated.add(reader.path)
                else:
                    self._readers[reader.path] = reader

    def _was_read(self, path: Path) -> bool:
        from launcher.logs.discovery import is_rotated

        try:
            about = os.stat(str(path))
        except OSError:
            return False
        identity = (about.st_dev, about.st_ino)
        return is_rotated(path) or any(identity in reader.identities for reader in self._readers.values())

    def existing(self) -> Batches:
        """Yield what has come since the last call.

        The launcher stamps chunks in one thread and stores each at once: what is older than SETTLED is
        complete over all ranks, so the order holds. Others' logs are not waited for.
        """
        exact = all(isinstance(reader, RankReader) for reader in self._readers.values())
        horizon = time.time_ns() - SETTLED if exact else 1 << 63
        for batch in chain(merge([reader.batches() for reader in self._readers.values()]), ([],)):
            self._waiting += batch
            self._waiting.sort(key=time_of)
            count = bisect_left(self._waiting, (horizon,))
            yield self._waiting[:count]
            self._waiting = self._waiting[count:]

    def incoming(self) -> Batches:
        """Yield what is there and what comes; an empty batch each time that there is nothing."""
        while True:
            over = not any(source.running() for source in self._sources)
            self._open()
            yield from self.existing()
            if over:
                break
            time.sleep(POLL)
        yield self._waiting
        yield sorted((record for reader in self._readers.values() for record in reader.finish()), key=time_of)
