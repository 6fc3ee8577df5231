"""What is left of a run that failed without an error in its logs: its result, the last lines of a rank."""

from __future__ import annotations

from collections import deque
from typing import Any, Collection, NamedTuple

from launcher import foreign
from launcher.errors import ReadError
from launcher.logs import rank_reader
from launcher.logs.reader import LogReader
from launcher.logs.records import LogRecord, split_lines
from launcher.logs.view import LogSource, Query
from launcher.run_dir import RunDir
from launcher.runs import registry

LAST = 10  # lines
_TAIL_BYTES = 1 << 14


class LastWords(NamedTuple):
    """How a rank ended (rank None: the launcher) and its last lines."""

    time_ns: int
    label: str
    rank: int | None
    lines: tuple[str, ...]
    path: str


def last_words(source: LogSource, query: Query, known: Collection[int]) -> list[LastWords]:
    """Return the last words of the rank at fault, or of the ranks asked for; not of those `known`."""
    if source.run is None or source.running():
        return []
    result = registry.read_json(source.run.result)
    if result and result.get("exit_code") == 0:
        return []
    there = rank_reader.choose(source.run, query.ranks)
    listed = result.get("ends")
    rows = [end for end in listed if isinstance(end, dict)] if isinstance(listed, list) else []
    ends = {str(end.get("rank")): end for end in rows}
    culprit = result.get("culprit")
    if query.ranks:
        ranks = [rank for rank in there if rank not in known and _failed(ends.get(str(rank)))]
    elif isinstance(culprit, int) and culprit in there:
        ranks = [culprit] if culprit not in known else []
    else:
        ranks = [] if known else _first_to_end(source, query, there)
    found = [
        _of_rank(source.run, source, query, rank, _described(result, ends.get(str(rank)))) for rank in ranks
    ]
    return found or ([] if known or query.ranks else [_of_launcher(source.run, _described(result, None))])


def _failed(end: Any) -> bool:
    return not isinstance(end, dict) or end.get("state") != "finished"


def _described(result: dict[str, Any], end: Any) -> list[str]:
    """Say how a rank ended, by result.json."""
    if not result:
        return ["npu-launch ended before it wrote a result that can be read"]
    if not isinstance(end, dict):
        return [f"the run ended with exit code {result.get('exit_code')}"]
    words = [f"{end.get('state')}, exit code {end.get('exit_code')}", str(end.get("detail") or "")]
    error = end.get("error")
    raised = [f"{error.get('type')}: {error.get('message')}"] if isinstance(error, dict) else []
    return [": ".join(filter(None, words)), *raised]


def _first_to_end(source: LogSource, query: Query, there: list[int]) -> list[int]:
    """Return the rank whose log ended first; none where no log has a line."""
    ends = [(_tail(source, query, rank)[-1:], rank) for rank in there]
    times = [(last[0][0], rank) for last, rank in ends if last]
    return [min(times)[1]] if times else []


def _of_rank(run: RunDir, source: LogSource, query: Query, rank: int, described: list[str]) -> LastWords:
    tail = _tail(source, query, rank)
    lines = [record[3].decode("utf-8", "backslashreplace") for record in tail]
    label = source.label(rank)
    when = tail[-1][0] if tail else _changed(run)
    return LastWords(
        when, label, rank, (*described, *(["its last lines:"] if lines else []), *lines), str(run.log(rank))
    )


def _tail(source: LogSource, query: Query, rank: int) -> list[LogRecord]:
    """Return a rank's last lines."""
    only = Query(ranks=(rank,), since=query.since, until=query.until)
    last: deque[LogRecord] = deque(maxlen=LAST)
    for reader in source.readers(only) + source.parts(only):
        last.extend(record for record in _end_of(reader) if record[3].strip())
    return list(last)


def _end_of(reader: LogReader) -> list[LogRecord]:
    if isinstance(reader, rank_reader.RankReader) and reader.begun:
        reader.skip_to_last(2 * LAST)
    last: deque[LogRecord] = deque(maxlen=2 * LAST)
    for batch in reader.whole():
        last.extend(split_lines(batch))
    return list(last)


def _of_launcher(run: RunDir, described: list[str]) -> LastWords:
    path = run.logs / "launcher.log"
    try:
        with foreign.open_regular(path) as stream:
            stream.seek(max(0, stream.seek(0, 2) - _TAIL_BYTES))
            lines = stream.read().decode("utf-8", "backslashreplace").splitlines()[-LAST:]
    except ReadError:
        lines = []
    return LastWords(
        _changed(run), "launcher", None, (*described, *lines), str(path if lines else run.result)
    )


def _changed(run: RunDir) -> int:
    try:
        return run.path.stat().st_mtime_ns
    except OSError:
        return 0
