"""The ranks: how each ended, its time per step, its memory."""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple, Sequence

from launcher.page.curves import own_words
from launcher.page.source import Missing, RankFacts, Source, as_number, as_text, records
from launcher.plan.model import RankSpec

MOST = 64  # rows
_GOOD = ("finished", "ended by npu-launch")


class RankRow(NamedTuple):
    """A rank. parts: milliseconds per step of own work, waiting, input and saving; None: not known."""

    rank: int
    host: str
    device: int | None
    state: str
    bad: bool
    exit_code: Any
    seconds: float | None
    step: float | None
    parts: tuple[float | None, ...] = ()
    peak: float | None = None  # bytes of memory


def table(source: Source) -> Any:
    """List the ranks; of many, those that failed, then those with most own work per step."""
    ends = {end["rank"]: end for end in _ends(source)}
    specs = {spec.rank: spec for spec in source.plan.ranks} if source.plan else {}
    known = sorted({*source.ranks, *specs, *ends})
    rows = [_row(rank, specs.get(rank), source.ranks.get(rank), ends.get(rank, {})) for rank in known]
    if not rows:
        return Missing("No rank is known.")
    worst = sorted(rows, key=lambda row: (not row.bad, -((row.parts[0] or 0.0) if row.parts else 0.0)))
    chosen = sorted(worst[:MOST], key=lambda row: row.rank)
    return {
        "rows": chosen,
        "left_out": len(rows) - len(chosen),
        "counted": any(row.parts for row in rows),
        "measured": any(row.peak for row in rows),
        "own": own_words(source.ranks),
        "hosts": len({row.host for row in rows}) > 1,
    }


def _row(rank: int, spec: RankSpec | None, facts: RankFacts | None, end: Mapping[str, Any]) -> RankRow:
    counters = facts.counters if facts else None
    state = as_text(end.get("state")) or "not known"
    parts: tuple[float | None, ...] = ()
    if counters and counters.steps:
        times = (counters.own_s, counters.wait_s, counters.input_s, counters.save_s)
        parts = tuple(None if part is None else 1000 * part / counters.steps for part in times)
    return RankRow(
        rank,
        spec.server_id if spec else as_text(end.get("host")),
        spec.device_id if spec else None,
        state,
        bool(end) and state not in _GOOD,
        end.get("exit_code"),
        as_number(end.get("seconds")),
        as_number(end.get("step")),
        parts,
        as_number(end.get("peak_bytes")),
    )


def memory(source: Source) -> Any:
    """Return (words, rank, bytes) of the largest, the middle and the smallest peak."""
    found = ((as_number(end.get("peak_bytes")), end["rank"]) for end in _ends(source))
    peaks = sorted((peak, rank) for peak, rank in found if peak)
    if not peaks:
        return Missing("The peak memory of the ranks was not recorded.")
    places = {"at most": -1, "median": len(peaks) // 2, "at least": 0}
    return [(words, peaks[place][1], peaks[place][0]) for words, place in places.items()]


def _ends(source: Source) -> Sequence[Mapping[str, Any]]:
    return [end for end in records(source.result.get("ends")) if type(end.get("rank")) is int]
