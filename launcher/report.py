"""The report of a failed run: what a person reads first, most important line first."""

from __future__ import annotations

import re
from typing import Dict, List, Sequence, Tuple

from launcher import signals
from launcher.capture import last_lines
from launcher.console import label, printable, ranges
from launcher.failure import RankEnd, State
from launcher.run_dir import RunDir

LINES = 30  # last lines of the culprit's log


def report(run: RunDir, ends: Sequence[RankEnd], culprit: RankEnd) -> str:
    """Say who failed first, why, and what became of the others."""
    parts = ["%s failed first: %s" % (_who(culprit), cause(culprit))]
    if culprit.detail:
        parts.append("  " + culprit.detail)
    parts += _tracebacks(ends, culprit) or _tail(culprit)
    parts += ["  " + line for line in _others(ends, culprit)]
    parts.append("  log of rank %d: %s" % (culprit.rank, run.log(culprit.rank)))
    return "\n".join(parts)


def _who(end: RankEnd) -> str:
    return "rank %d (device %d, pid %d, after %.1f s)" % (end.rank, end.device_id, end.pid, end.seconds)


def cause(end: RankEnd) -> str:
    """Say in a few words how a rank ended."""
    if end.error and end.state in (State.RAISED, State.OUT_OF_MEMORY, State.VICTIM):
        message = printable(end.error.message.strip().split("\n")[0][:300])
        return "%s: %s" % (end.error.kind, message) if message else end.error.kind
    if end.state is State.HUNG:
        return "hung"
    if end.state is State.EARLY:
        return "exited with 0 while other ranks waited for it"
    if end.state is State.SILENT:
        return "silent (the others waited for it until they timed out)"
    if end.state is State.NOT_STARTED:
        return "could not be started"
    if end.code is not None and end.code < 0:
        by = ", not by npu-launch" if end.state in (State.SIGNALLED, State.OUT_OF_MEMORY) else ""
        return "killed by %s%s" % (signals.name(-end.code), by)
    return "exit code %s" % end.code


def _tracebacks(ends: Sequence[RankEnd], culprit: RankEnd) -> List[str]:
    """Print the culprit's traceback, once for all ranks that have the same one, then the others'."""
    groups: Dict[str, Tuple[List[int], str]] = {}
    for end in sorted(ends, key=lambda end: (end.rank != culprit.rank, end.cause_ns)):
        if end.error and end.state in (State.RAISED, State.OUT_OF_MEMORY):
            key = normalised(end.error.traceback, end.rank)
            groups.setdefault(key, ([], end.error.traceback))[0].append(end.rank)
    if not culprit.error or not groups:
        return []
    lines = []
    for ranks, text in list(groups.values())[:4]:
        lines += ["", label(set(ranks)) if len(ranks) > 1 else "[%d]" % ranks[0]]
        lines += ["  " + printable(line) for line in text.rstrip().split("\n")]
    return [*lines, ""]


def normalised(traceback: str, rank: int) -> str:
    """Take out of a traceback what differs from rank to rank."""
    text = re.sub(r"0x[0-9a-fA-F]+", "0x", traceback)
    return re.sub(r"(?i)\b(ranks?[ /_=:]?)%d\b" % rank, r"\1N", text)


def _tail(culprit: RankEnd) -> List[str]:
    lines = last_lines(culprit.tail, LINES)
    if not lines:
        return ["  it wrote nothing"]
    return ["", "  its last lines:", *("    " + line for line in lines), ""]


def _others(ends: Sequence[RankEnd], culprit: RankEnd) -> List[str]:
    """Name the other ranks, those with the same end in one line."""
    groups: Dict[str, List[int]] = {}
    for end in ends:
        if end.rank != culprit.rank:
            groups.setdefault(_other(end), []).append(end.rank)
    lines = [("ranks" if len(who) > 1 else "rank", ranges(who), text) for text, who in groups.items()]
    return ["%s %s: %s" % line for line in lines]


def _other(end: RankEnd) -> str:
    if end.pid == 0:
        return "not started"
    if end.state is State.FINISHED:
        return "finished"
    if end.state is State.TORN_DOWN:
        return "ended by npu-launch"
    if end.state is State.VICTIM:
        return "victim, waited for another rank (%s)" % cause(end)
    return "%s (%s)" % (end.state.value, cause(end))
