"""What a look cannot show: each fault once, with its place, what is wrong, and what follows."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Iterable, Iterator, Mapping, Sequence

from launcher.run_dir import RunDir
from launcher.text import label
from launcher.view.ranks import RankLooks

_HINTS = {
    "plan.json": "hosts and devices are not known",
    "result.json": "how the run ended is in report.txt and logs/launcher.log",
    "events.jsonl": "what the launcher said is in logs/launcher.log",
    "ranks.json": "what ranks of other hosts do is not known; a head that lives writes it again",
    "heartbeat.json": "step and counters are not known until it is written again",
    "metrics.jsonl": "the curves lack what was in it",
}
_OF_RANKS = "ranks/"  # faults of files there are told with the ranks, many in one line


def of_files(run: RunDir, own: Iterable[str], others: Iterable[str]) -> Iterator[str]:
    """Name what is wrong with a run's files. others: what its status says, of the same files in part."""
    prefixes = f"{run.path}/", f"{run.path.name}: "
    told: dict[str, str] = {}
    for place, text in enumerate([*own, *others]):
        for prefix in prefixes:
            text = text[len(prefix) :] if text.startswith(prefix) else text
        where = text.partition(": ")[0]
        if text and not where.startswith(_OF_RANKS):
            told.setdefault(where if ": " in text else str(place), text)
    for where, text in told.items():
        yield _hinted(text, where)


def of_ranks(ranks: Sequence[RankLooks], leading: int | None, unread: int) -> Iterator[str]:
    """Name what ranks do not tell, and what of theirs cannot be read; equal faults in one line.

    unread: lines of the leading rank's metrics.jsonl that are no rows.
    """
    yield from _grouped({rank.rank: (rank.beat.path, rank.beat.problem) for rank in ranks})
    rows = {rank.rank: (rank.row.path, rank.row.problem) for rank in ranks}
    yield from _grouped(rows)
    if leading is not None and unread and not rows[leading][1]:
        yield _hinted(f"metrics.jsonl of rank {leading}: {unread} line(s) cannot be read", "metrics.jsonl")
    beats = {rank.rank: rank.beat.value for rank in ranks if rank.beat.value is not None}
    silent = {rank.rank for rank in ranks if rank.rank not in beats and not rank.beat.problem}
    plain = {rank for rank, beat in beats.items() if not beat.counters}
    mixed = {rank.rank for rank in ranks if rank.is_mixed} if len(ranks) > 1 else set()
    if silent:
        yield f"rank {label(silent)} wrote no heartbeat.json"
    if plain:
        yield f"rank {label(plain)} keeps no counters: own, wait, input not known"
    if mixed:
        yield f"rank {label(mixed)} does not tell waiting: OWN holds it, too"
    if ranks and leading is None and not any(problem for _, problem in rows.values()):
        there = any(rank.row.written for rank in ranks)
        yield f"no {'row of ' if there else ''}metrics.jsonl: loss not known"


def of_end(run: RunDir, state: str, has_events: bool, has_ranks: bool) -> Iterator[str]:
    """Name what the launcher of a run has not written."""
    name = run.path.name
    if state == "lost":
        text = "no result.json: its launcher ended without a word"
        yield f"{text}; npu-launch stop {name} ends what is left, npu-launch report {name} shows the rest"
    if state not in ("queued", "running", "unknown") and not has_events:
        yield "no events.jsonl: verdicts, alerts, processes not known; see logs/launcher.log"
    if state != "queued" and not has_ranks:
        yield "no rank is known"


def of_nothing(run: RunDir) -> str:
    """Name the one fault of a folder that no launcher has filled."""
    text = "nothing was written into this folder: its launcher ended before the run began"
    return f"{text}; start the job again, and remove {run.path}"


def _grouped(problems: Mapping[int, tuple[Path, str]]) -> Iterator[str]:
    """Say what is wrong with a file of each rank."""
    found: dict[tuple[str, str], set[int]] = defaultdict(set)
    for rank, (path, problem) in problems.items():
        if problem:
            found[path.name, _reason(problem, path)].add(rank)
    for (name, reason), ranks in found.items():
        yield _hinted(f"{name} of rank {label(ranks)}: {reason}", name)


def _reason(problem: str, path: Path) -> str:
    """Take the place off the text of an error."""
    for place, said in ((path, ""), (path.parent, "its folder is ")):
        if problem.startswith(f"{place}: "):
            return said + problem[len(f"{place}: ") :]
    return problem


def _hinted(text: str, where: str) -> str:
    hint = _HINTS.get(where.rpartition("/")[2])
    return f"{text}; {hint}" if hint else text
