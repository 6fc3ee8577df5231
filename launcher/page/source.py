"""What a run folder holds, read part by part: what cannot be read is named, and costs that part alone."""

from __future__ import annotations

import json
import math
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Iterator, Mapping, NamedTuple, Sequence

from launcher import foreign
from launcher.errors import MissingFileError, ReadError
from launcher.heartbeat import Counters, read_beat
from launcher.masking import secret_values
from launcher.metrics import series
from launcher.metrics.leading import leading_rank
from launcher.page.shown import shown_document
from launcher.plan.model import Plan
from launcher.run_dir import RunDir
from launcher.runs import registry
from launcher.text import label, printable

BUDGET = 48 << 20  # bytes of metrics.jsonl that are read, of all ranks together
_LATEST = 1 << 36  # seconds since the epoch that a clock can show


class Happened(NamedTuple):
    """A line of events.jsonl."""

    time: float
    event: str
    rank: int | None
    data: Mapping[str, Any]
    host: str


class RankFacts(NamedTuple):
    """What a rank wrote of its steps. own: seconds of own work per step, by the interval's last step."""

    own: Mapping[float, float]
    counters: Counters | None
    cut: bool = False  # only the end of its file was read
    rows_split: bool = True  # no row counts waiting for the others as own work

    @property
    def split(self) -> bool:
        """Whether all that it tells of own work is that alone."""
        return self.rows_split and (self.counters is None or self.counters.wait_s is not None)


class Missing(NamedTuple):
    """Why a part of the page has no data."""

    missing: str


class Source(NamedTuple):
    """A run. missing: a sentence for each file that is not there, or not as it should be, by its name."""

    run: RunDir
    state: str
    plan: Plan | None
    outline: Mapping[str, Any]  # of plan.json, whatever its version
    result: Mapping[str, Any]
    events: tuple[Happened, ...]
    leading: int | None  # the rank whose curves are shown (launcher/metrics/leading.py)
    rows: tuple[series.Row, ...]  # its rows
    evaluations: tuple[series.Row, ...]  # and what it has evaluated in between
    lost: frozenset[float]  # the steps at which its loss was written, but is no number
    ranks: Mapping[int, RankFacts]
    missing: Mapping[str, str]
    secrets: tuple[str, ...] = ()  # values that must not be shown anywhere


def read(run: RunDir, state: str = "", secrets: Sequence[str] = ()) -> Source:
    """Read a run. state, secrets: what a launcher that still runs knows better than the folder."""
    missing: dict[str, str] = {}
    plan = None
    try:
        plan = registry.read_plan(run)
    except ReadError as error:
        missing["plan.json"] = str(error)
    result = _document(run.result, missing)
    told = [value for spec in plan.ranks[:1] for value in secret_values(spec.env, spec.argv)] if plan else []
    hidden = (*secrets, *told, *secret_values(os.environ))
    events = tuple(_events(run.events, missing, hidden))
    ranks = sorted(spec.rank for spec in plan.ranks) if plan else run.ranks()
    leading, own, facts = _metrics(run, ranks, missing)
    state = state or _state(run)
    outline = {} if plan else registry.read_json(run.plan)
    kept = own.rows, own.evaluations, own.lost
    return Source(run, state, plan, outline, result, events, leading, *kept, facts, missing, hidden)


def _state(run: RunDir) -> str:
    try:
        return registry.status(run).state
    except Exception:
        return "unknown"


def _document(path: Path, missing: dict[str, str]) -> dict[str, Any]:
    try:
        return foreign.read_object(path)
    except ReadError as error:
        missing[path.name] = _said(path, error)
        return {}


def _said(path: Path, error: ReadError) -> str:
    """Say what is wrong with a file, without the path to its folder."""
    return str(error).replace(str(path.parent) + os.sep, "")


def _events(path: Path, missing: dict[str, str], secrets: Sequence[str]) -> Iterator[Happened]:
    try:
        data = foreign.read_bytes(path, foreign.DOCUMENT)
    except ReadError as error:
        missing[path.name] = _said(path, error)
        return
    unread = 0
    for line in filter(bytes.strip, data.split(b"\n")):
        found = _happened(line, secrets)
        if found:
            yield found
        unread += not found
    if unread:
        missing[path.name] = f"{path.name}: {unread} line(s) cannot be read"


def _happened(line: bytes, secrets: Sequence[str]) -> Happened | None:
    try:
        found = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not isinstance(found.get("event"), str):
        return None
    time, data, rank, host = (found.get(name) for name in ("time", "data", "rank", "host"))
    moment = as_number(time)
    if moment is None or not 0 < moment < _LATEST:
        return None
    whose = rank if type(rank) is int else None
    about = shown_document(data, secrets) if isinstance(data, dict) else {}
    return Happened(moment, printable(found["event"])[:40], whose, about, printable(as_text(host)))


def _metrics(
    run: RunDir, ranks: list[int], missing: dict[str, str]
) -> tuple[int | None, series.Series, dict[int, RankFacts]]:
    """Read what the ranks wrote of their steps; the rows of the leading one are kept whole."""
    leading, own = leading_rank(run, ranks), series.Series(())
    facts: dict[int, RankFacts] = {}
    silent: list[int] = []
    damaged: list[str] = []
    share = BUDGET // max(1, len(ranks))
    for rank in ranks:
        path = run.metrics(rank)
        try:
            big = rank != leading and os.path.getsize(str(path)) > share
            found = series.read_last(path, share) if big else series.read(path)
        except (MissingFileError, OSError):
            silent.append(rank)
            found, big = series.Series(()), False
        except ReadError as error:
            damaged.append(_said(path, error))
            found, big = series.Series(()), False
        if found.unread:
            damaged.append(f"{found.unread} line(s) of rank {rank} cannot be read")
        if rank == leading:
            own = found
        facts[rank] = RankFacts(_own(found.rows), _counters(run, rank), big, _splits(found.rows))
    if silent:
        damaged.append(f"none of rank{'s' if len(silent) > 1 else ''} {label(set(silent))}")
    if damaged or not ranks:
        missing["metrics.jsonl"] = "metrics.jsonl: " + ("; ".join(damaged[:4]) or "no rank is known")
    return leading, own, facts


def _own(rows: tuple[series.Row, ...]) -> dict[float, float]:
    return {
        row["step"]: row["own_s"] / row["interval_steps"]
        for row in rows
        if row.get("own_s", -1) >= 0 and row.get("interval_steps", 0) > 0
    }


def _splits(rows: tuple[series.Row, ...]) -> bool:
    return all("wait_s" in row for row in rows if "own_s" in row)


def _counters(run: RunDir, rank: int) -> Counters | None:
    with suppress(ReadError):
        return read_beat(run.heartbeat(rank)).counters
    return None


def as_number(value: Any) -> float | None:
    """Return a finite number, or None."""
    if type(value) not in (int, float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def as_text(value: Any) -> str:
    """Return a text, "" for what is none."""
    return value if isinstance(value, str) else ""


def records(value: Any) -> list[Mapping[str, Any]]:
    """Return the objects in a list; none when it is no list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
