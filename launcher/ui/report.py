"""The report of a failed run: what a person reads first, most important line first."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Iterator, Sequence

from launcher.diagnosis.failure import ErrorRecord, RankEnd, State
from launcher.diagnosis.hang import RollCall
from launcher.logs.records import last_lines
from launcher.process import signals
from launcher.run_dir import RunDir
from launcher.text import label, printable
from rank_table.ranges import spell

LINES = 30  # last lines of the culprit's log
STACK_LINES = 60
_PLUMBING = re.compile(r'File "(<frozen runpy>|[^"]*/runpy\.py|[^"]*launcher/worker\.py)"')
PLOG_BYTES = 1 << 16  # of the end of each plog file


def report(run: RunDir, ends: Sequence[RankEnd], culprit: RankEnd, calls: RollCall | None = None) -> str:
    """Say who failed first, why, and what became of the others."""
    parts = [headline(culprit)]
    parts += ["  " + line for line in (culprit.detail, _where(calls)) if line]
    parts += ["  " + line for line in codes(run, ends, culprit)]
    parts += _tracebacks(ends, culprit) or _tail(culprit)
    parts += _stacks(calls)
    parts += ["  " + line for line in _others(ends, culprit)]
    parts.append(f"  log of rank {culprit.rank}: {run.log(culprit.rank)}")
    return "\n".join(parts)


def headline(culprit: RankEnd) -> str:
    """Name the culprit and the cause in one line."""
    pid = f"pid {culprit.pid}, " if culprit.pid else ""
    who = f"rank {culprit.rank} (device {culprit.device_id}, {pid}after {culprit.seconds:.1f} s)"
    if culprit.state is State.HUNG:
        return f"{who} hung"
    return f"{who} failed first: {cause(culprit)}"


def cause(end: RankEnd) -> str:
    """Say in a few words how a rank ended."""
    raised = end.error and end.error.kind != "SystemExit"
    if raised and end.state in (State.RAISED, State.OUT_OF_MEMORY, State.VICTIM):
        return _one_line(end.error)
    words = {
        State.HUNG: "hung",
        State.EARLY: "exited with 0 while other ranks waited for it",
        State.SILENT: "silent (the others waited for it until they timed out)",
        State.NOT_STARTED: "could not be started",
    }
    if end.state in words:
        return words[end.state]
    memory = "out of memory, " if end.state is State.OUT_OF_MEMORY else ""
    if end.code is not None and end.code < 0:
        by = ", not by npu-launch" if end.state in (State.SIGNALLED, State.OUT_OF_MEMORY) else ""
        return f"{memory}killed by {signals.name(-end.code)}{by}"
    return f"{memory}exit code {end.code}"


def _one_line(error: ErrorRecord | None) -> str:
    if error is None:
        return ""
    message = printable(error.message.strip().split("\n")[0][:300])
    return f"{error.kind}: {message}" if message else error.kind


def _where(calls: RollCall | None) -> str:
    return f"where the ranks were: rank {calls.line}" if calls and calls.line else ""


def codes(run: RunDir, ends: Sequence[RankEnd], culprit: RankEnd) -> list[str]:
    """Explain the error codes of HCCL and CANN that the ranks wrote, the culprit's first."""
    from launcher.hccl import error_codes

    lines: dict[str, list[int]] = {}
    for end in sorted(ends, key=lambda end: end.rank != culprit.rank):
        error = end.error.traceback if end.error else ""
        texts = [error, end.tail.decode("utf-8", "replace"), *_plogs(run.rank_dir(end.rank) / "plog")]
        for found in error_codes.explain("\n".join(texts)):
            lines.setdefault(str(found), []).append(end.rank)
    return [f"{label(set(ranks))} {line}" for line, ranks in list(lines.items())[:8]]


def _plogs(folder: Path) -> Iterator[str]:
    """Read the ends of a rank's plog files."""
    for where, _, names in os.walk(str(folder)):
        for name in sorted(names):
            try:
                with open(os.path.join(where, name), "rb") as stream:
                    stream.seek(max(0, os.fstat(stream.fileno()).st_size - PLOG_BYTES))
                    yield stream.read().decode("utf-8", "replace")
            except OSError:
                continue


def _tracebacks(ends: Sequence[RankEnd], culprit: RankEnd) -> list[str]:
    """Print the culprit's traceback, once for all ranks that have the same one, then the others'."""
    shown = culprit.error or culprit.thread_error
    if shown is None:
        return []
    groups: dict[str, tuple[list[int], str]] = {}
    for end in sorted(ends, key=lambda end: (end.rank != culprit.rank, end.cause_ns)):
        error = shown if end.rank == culprit.rank else end.error
        key = normalised(error.traceback, end.rank) if error else ""
        # One that raised the same after the teardown had begun belongs to the same block.
        if error and (not groups or key in groups or end.state in (State.RAISED, State.OUT_OF_MEMORY)):
            groups.setdefault(key, ([], _heading(error)))[0].append(end.rank)
    lines: list[str] = []
    for ranks, text in list(groups.values())[:4]:
        lines += ["", f"  [{spell(sorted(ranks))}]"]
        lines += ["  " + printable(line) for line in text.rstrip().split("\n")]
    return [*lines, ""]


def _heading(error: ErrorRecord) -> str:
    return error.traceback if error.fatal else f"in thread {error.thread}:\n{error.traceback}"


def normalised(traceback: str, rank: int) -> str:
    """Take out of a traceback what differs from rank to rank."""
    text = re.sub(r"0x[0-9a-fA-F]+", "0x", traceback)
    return re.sub(rf"(?i)\b(ranks?[ /_=:]?){rank}\b", r"\1N", text)


def _tail(culprit: RankEnd) -> list[str]:
    if culprit.state is State.NOT_STARTED:
        return []
    lines = last_lines(culprit.tail, LINES)
    if not lines:
        return ["  it wrote nothing"]
    return ["", "  its last lines:", *("    " + line for line in lines), ""]


def _stacks(calls: RollCall | None) -> list[str]:
    if calls is None or not calls.stacks:
        return []
    lines = [line for line in calls.stacks if not _PLUMBING.search(line)]
    return ["  stacks:", *("  " + printable(line) for line in lines[:STACK_LINES]), ""]


def _others(ends: Sequence[RankEnd], culprit: RankEnd) -> list[str]:
    """Name the other ranks, those with the same end in one line."""
    groups: dict[str, list[int]] = {}
    for end in ends:
        if end.rank != culprit.rank:
            groups.setdefault(_other(end), []).append(end.rank)
    lines = [("ranks" if len(who) > 1 else "rank", spell(who), text) for text, who in groups.items()]
    return ["{} {}: {}".format(*line) for line in lines]


def _other(end: RankEnd) -> str:
    if end.pid == 0:
        return "not started"
    if end.state is State.FINISHED:
        return "finished"
    if end.state is State.TORN_DOWN:
        return "ended by npu-launch"
    if end.state is State.VICTIM:
        return f"victim, waited for another rank ({cause(end)})"
    return f"{end.state.value} ({cause(end)})"
