"""The report of a failed run, the most important line first."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING, Sequence

from launcher.diagnosis import plog
from launcher.diagnosis.exit_codes import AGAIN
from launcher.diagnosis.failure import ErrorRecord, RankEnd, RankStatus
from launcher.logs.records import last_lines
from launcher.process import signals
from launcher.run_dir import RunDir
from launcher.text import SCHEDULER, label, named, printable

if TYPE_CHECKING:
    from launcher.diagnosis.hang import StackSnapshot

LINES = 30  # last lines of the culprit's log
STACK_LINES = 60
_LAUNCHER_FRAME = re.compile(r'File "(<frozen runpy>|[^"]*/runpy\.py|[^"]*launcher/worker\.py)"')
_PORT = re.compile(r"\]:\d{1,5}\b")  # of a peer, behind its address: gloo
_SOURCE_FOLDER = re.compile(r"\[/[^\s\]]*/(?=[\w.]+:\d+\])")
# torch/distributed/rendezvous.py, and programs that read them
_TORCH_UNSET = re.compile(
    r"environment variable ([A-Z_]+) expected, but not set"
    r"|^KeyError: '(RANK|WORLD_SIZE|LOCAL_WORLD_SIZE|MASTER_ADDR|MASTER_PORT)'$",
    re.MULTILINE,
)
_VICTIM = 120  # characters of a victim's error
TRACEBACK_LINES = 200  # of each traceback


def report(
    run: RunDir, ends: Sequence[RankEnd], culprit: RankEnd, snapshot: StackSnapshot | None = None
) -> str:
    """Explain which rank failed first, why, and what happened to the others."""
    if culprit.code == AGAIN:
        return headline(culprit)
    parts = [headline(culprit)]
    known = "" if culprit.status is RankStatus.LOST else culprit.detail
    parts += ["  " + line for line in (known, _where(snapshot)) if line]
    parts += ["  " + line for line in codes(run, ends, culprit)]
    parts += ["  " + line for line in _unset(culprit)]
    parts += _tracebacks(ends, culprit) or _tail(culprit)
    parts += _stacks(snapshot)
    parts += ["  " + line for line in _others(ends, culprit)]
    parts.append(f"  log of {named(culprit.rank)}: {run.log(culprit.rank)}")
    return "\n".join(map(printable, parts))  # what a rank wrote forges no line


def headline(culprit: RankEnd) -> str:
    """Name the culprit and the cause in one line."""
    if culprit.status is RankStatus.LOST:
        return culprit.detail
    pid = f"pid {culprit.pid}, " if culprit.pid else ""
    host = f"host {culprit.host}, " if culprit.host else ""
    device = f"device {culprit.device_id}, " if culprit.rank != SCHEDULER else ""
    who = f"{named(culprit.rank)} ({host}{device}{pid}after {culprit.seconds:.1f} s)"
    if culprit.status is RankStatus.HUNG:
        return f"{who} hung"
    if culprit.code == AGAIN:
        return f"{who} ended with exit code {AGAIN}: it has saved, and is to be started again"
    return f"{who} failed first: {cause(culprit)}"


def cause(end: RankEnd) -> str:
    """Describe in a few words how a rank ended."""
    no_memory = end.status is RankStatus.OUT_OF_MEMORY
    raised = end.error is not None and end.error.kind != "SystemExit"
    if raised and (no_memory or end.status in (RankStatus.RAISED, RankStatus.VICTIM)):
        text = _one_line(end)
        return f"out of memory: {text}" if no_memory and "memory" not in text.lower() else text
    texts = {
        RankStatus.HUNG: "hung",
        RankStatus.EXITED_EARLY: "exited with 0 while other ranks waited for it",
        RankStatus.SILENT: "silent (the others waited for it until they timed out)",
        RankStatus.NOT_STARTED: "could not be started",
    }
    if end.status in texts:
        return texts[end.status]
    memory = "out of memory, " if no_memory else ""
    if end.code == -signal.SIGABRT and end.status is RankStatus.SIGNALLED:
        return f"{memory}aborted itself (SIGABRT)"
    if end.code is not None and end.code < 0:
        by = ", not by npu-launch" if end.status in (RankStatus.SIGNALLED, RankStatus.OUT_OF_MEMORY) else ""
        return f"{memory}killed by {signals.name(-end.code)}{by}"
    inside = f" (a process in it was killed by {signals.name(end.signal)})" if end.signal else ""
    return f"{memory}exit code {end.code}{inside}"


def _one_line(end: RankEnd) -> str:
    # At a failure only: its patterns take long to compile.
    from launcher.diagnosis.victims import data_error, inner_error

    if end.error is None:
        return ""
    inner = inner_error(end)
    if inner:
        return f"{printable(inner[:300])} (in a process that it started: {end.error.kind})"
    data = data_error(end)
    if data:
        return f"{printable(data[:300])} (in the data set: {end.error.kind})"
    message = printable(end.error.message.strip().split("\n")[0][:300])
    return f"{end.error.kind}: {message}" if message else end.error.kind


def _where(snapshot: StackSnapshot | None) -> str:
    return f"where the ranks were: {snapshot.summary}" if snapshot and snapshot.summary else ""


def codes(run: RunDir, ends: Sequence[RankEnd], culprit: RankEnd) -> list[str]:
    """Explain the error codes of HCCL and CANN that the ranks wrote, the culprit's first."""
    from launcher.hccl import error_codes

    lines: dict[str, list[int]] = {}
    faults: list[str] = []
    for end in sorted(ends, key=lambda end: end.rank != culprit.rank):
        error = end.error.traceback if end.error else ""
        plogs, damaged = plog.read_all(run.rank_dir(end.rank) / "plog")
        faults += [f"not read: {fault}" for fault in damaged]
        written = [text.decode("utf-8", "replace") for text in (end.tail, end.plog)]
        for found in error_codes.explain("\n".join([error, *written, *plogs])):
            if found.what_to_do not in culprit.detail:  # said above
                lines.setdefault(str(found), []).append(end.rank)
    return [f"{label(set(ranks))} {line}" for line, ranks in list(lines.items())[:8]] + _some(faults)


def _unset(culprit: RankEnd) -> list[str]:
    """Say why a rank may lack a variable of torchrun's: nothing has shown that it is PyTorch's."""
    error = culprit.error.traceback if culprit.error else ""
    found = _TORCH_UNSET.search(error + "\n" + culprit.tail.decode("utf-8", "replace"))
    if not found:
        return []
    name = found.group(1) or found.group(2)
    return [f"{name}: only ranks of PyTorch get it; say framework: torch in the job"]


def _some(lines: list[str], most: int = 4) -> list[str]:
    return lines[:most] + ([f"... and {len(lines) - most} more"] if len(lines) > most else [])


def _tracebacks(ends: Sequence[RankEnd], culprit: RankEnd) -> list[str]:
    """List the culprit's traceback, once for all ranks that have the same one, then the others'."""
    from launcher.diagnosis.victims import shown_error

    shown = shown_error(culprit)
    if shown is None:
        return []
    groups: dict[str, tuple[list[int], str]] = {}
    for end in sorted(ends, key=lambda end: (end.rank != culprit.rank, end.cause_ns)):
        error = shown if end.rank == culprit.rank else end.error
        key = normalised(error.traceback, end.rank) if error else ""
        own = end.status in (RankStatus.RAISED, RankStatus.OUT_OF_MEMORY)
        # A rank that raised the same after the teardown had begun belongs to the same block.
        if error and (own or not groups or key in groups):
            groups.setdefault(key, ([], _heading(error)))[0].append(end.rank)
    lines: list[str] = []
    for ranks, text in list(groups.values())[:4]:
        lines += ["", f"  [{label(set(ranks)).strip('[]')}]"]
        lines += ["  " + line for line in _shortened(text.rstrip().split("\n"))]
    return [*lines, ""]


def _shortened(lines: list[str]) -> list[str]:
    """Leave out the middle of a traceback that is too long for a screen."""
    half, left_out = TRACEBACK_LINES // 2, len(lines) - TRACEBACK_LINES
    return [*lines[:half], f"... {left_out} lines left out ...", *lines[-half:]] if left_out > 0 else lines


def _heading(error: ErrorRecord) -> str:
    return error.traceback if error.fatal else f"in thread {error.thread}:\n{error.traceback}"


def normalised(traceback: str, rank: int) -> str:
    """Remove from a traceback what differs from rank to rank."""
    text = re.sub(r"0x[0-9a-fA-F]+", "0x", traceback)
    return re.sub(rf"(?i)\b((?:self_)?ranks?[ /_=:]{{0,3}}){rank}\b", r"\1N", text)


def _tail(culprit: RankEnd) -> list[str]:
    if culprit.status in (RankStatus.NOT_STARTED, RankStatus.LOST):
        return []
    lines = last_lines(culprit.tail, LINES)
    if not lines:
        return ["  it wrote no output"]
    return ["", "  its last lines:", *("    " + line for line in lines), ""]


def _stacks(snapshot: StackSnapshot | None) -> list[str]:
    if snapshot is None or not snapshot.stacks:
        return []
    lines = [line for line in snapshot.stacks if not _LAUNCHER_FRAME.search(line)]
    return ["  stacks:", *("  " + line for line in lines[:STACK_LINES]), ""]


def _others(ends: Sequence[RankEnd], culprit: RankEnd) -> list[str]:
    """Describe the other ranks, those that ended alike in one line."""
    groups: dict[str, tuple[str, list[int]]] = {}
    for end in ends:
        if end.rank != culprit.rank:
            text = _other(end)
            key = _PORT.sub("]", normalised(text, end.rank))
            groups.setdefault(key, (text, []))[1].append(end.rank)
    return [f"{named(*who)}: {text}" for text, who in groups.values()]


def _shortened_cause(end: RankEnd) -> str:
    """Return the cause without the folders of a source file, as in gloo's [/a/b/pair.cc:553], and cut."""
    text = _SOURCE_FOLDER.sub("[", cause(end))
    return text if len(text) <= _VICTIM else f"{text[:_VICTIM]}..."


def _other(end: RankEnd) -> str:
    if end.status is RankStatus.LOST:
        return f"lost with host {end.host}"
    if end.pid == 0:
        return "not started"
    if end.status is RankStatus.FINISHED:
        return "finished"
    if end.status is RankStatus.TERMINATED:
        return "ended by npu-launch"
    if end.status is RankStatus.VICTIM:
        return f"victim: waited for another rank ({_shortened_cause(end)})"
    return f"{end.status.value} ({cause(end)})"
