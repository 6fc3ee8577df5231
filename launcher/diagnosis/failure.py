"""Who failed first, and who only suffered from it. Pure: facts in, verdicts out.

The earliest cause wins, on the monotonic clock that all processes of a host share. A rank that reports a
collective's timeout or a lost peer is a victim when any other explanation exists.
"""

from __future__ import annotations

import enum
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Sequence


class State(enum.Enum):
    """How a rank ended."""

    FINISHED = "finished"
    RAISED = "raised"
    EXITED = "exited"  # a code other than 0, and no exception known
    SIGNALLED = "signalled"
    OUT_OF_MEMORY = "out of memory"
    HUNG = "hung"
    EARLY = "ended early"  # with 0, while the others waited for it
    SILENT = "silent"  # the others timed out waiting, and it said nothing
    VICTIM = "victim"
    TORN_DOWN = "ended by us"
    NOT_STARTED = "not started"


CAUSES = frozenset(
    (
        State.RAISED,
        State.EXITED,
        State.SIGNALLED,
        State.OUT_OF_MEMORY,
        State.HUNG,
        State.EARLY,
        State.NOT_STARTED,
    )
)


@dataclass(frozen=True)
class ErrorRecord:
    """Hold what a rank's error.json says. `fatal`: the exception ended the main thread."""

    monotonic_ns: int
    kind: str
    message: str
    traceback: str
    thread: str
    fatal: bool


@dataclass(frozen=True)
class RankEnd:
    """Hold all that is known of a rank's end. `code` is -n for signal n, None when it did not end."""

    rank: int
    device_id: int
    pid: int = 0
    code: int | None = None
    seconds: float = 0.0  # from the start of the attempt
    ended_ns: int = 0  # monotonic
    state: State = State.FINISHED
    error: ErrorRecord | None = None
    thread_error: ErrorRecord | None = None  # of another thread than the main one: ended nothing by itself
    step: int = 0
    detail: str = ""  # evidence, in words
    tail: bytes = b""  # the last that it wrote

    @property
    def exit_code(self) -> int:
        """Give the code as a shell would: 128 + n for signal n."""
        return 128 - self.code if self.code is not None and self.code < 0 else self.code or 0

    @property
    def cause_ns(self) -> int:
        """Tell when its failure began."""
        return self.error.monotonic_ns if self.error else self.ended_ns

    def as_dict(self) -> dict[str, Any]:
        """Give JSON for result.json."""
        error = self.error
        return {
            "rank": self.rank,
            "device_id": self.device_id,
            "pid": self.pid,
            "state": self.state.value,
            "exit_code": self.exit_code,
            "signal": -self.code if self.code is not None and self.code < 0 else None,
            "seconds": round(self.seconds, 3),
            "step": self.step,
            "detail": self.detail,
            "error": {"type": error.kind, "message": error.message} if error else None,
        }


@dataclass(frozen=True)
class Outcome:
    """Say how a run ended; `report` is what a person reads, "" on success."""

    exit_code: int
    ends: tuple[RankEnd, ...]
    culprit: int | None
    report: str
    attempts: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Give JSON for result.json."""
        return {
            "exit_code": self.exit_code,
            "culprit": self.culprit,
            "attempts": self.attempts,
            "seconds": round(self.seconds, 3),
            "ends": [end.as_dict() for end in self.ends],
        }


def read_error(path: Path) -> ErrorRecord | None:
    """Read error.json; None when there is none, or it is no whole record."""
    try:
        with open(str(path), "rb") as stream:
            record = json.loads(stream.read(1 << 20).decode("utf-8", "replace"))
        return ErrorRecord(
            int(record["monotonic_ns"]),
            str(record["type"]),
            str(record["message"]),
            str(record["traceback"]),
            str(record.get("thread", "")),
            bool(record.get("fatal", True)),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


_LATE = r"(timed? ?out|timeout|not (arrive|come)|gave up waiting|deadline exceeded)"
_TOGETHER = (
    r"(collective|all_?_?reduce|all_?gather|barrier|broadcast|hccl|nccl|gloo|rendezvous|peer|ranks?|notify)"
)
_WAITED = re.compile(rf"(?is)\b{_LATE}\b.{{0,300}}?{_TOGETHER}|{_TOGETHER}.{{0,300}}?{_LATE}")
_ACCUSED = re.compile(r"ranks? ([\d, ]+) did not (?:come|arrive)")
_PEER_LOST = re.compile(
    r"(?i)CollectiveError|EI0002|EI0006|connection (reset|closed|aborted) by (the )?(remote )?peer"
    r"|connection reset|socket closed|broken pipe"
    r"|peer (rank |process )?(\d+ )?(is |was |has )?(gone|lost|died|failed|left)"
)


def waits_for_others(end: RankEnd) -> bool:
    """Tell whether a rank's last words are those of one whom another rank has let down."""
    if end.error and end.error.kind != "SystemExit":
        text = f"{end.error.kind}: {end.error.message}"
    elif end.code is not None and end.code >= 0:
        text = end.tail[-600:].decode("utf-8", "replace")
    else:
        return False
    return bool(_WAITED.search(text) or _PEER_LOST.search(text))


def judge(ends: Sequence[RankEnd], teardown_ns: int | None) -> tuple[tuple[RankEnd, ...], RankEnd | None]:
    """Classify the ends and find the culprit (None: nobody failed).

    States HUNG, EARLY, OUT_OF_MEMORY and NOT_STARTED are observations of the launcher and are kept.
    """
    judged = [_classify(end, teardown_ns) for end in ends]
    causes = [end for end in judged if end.state in CAUSES]
    own = [end for end in causes if not _victim(end)]
    culprit = min(own, key=lambda end: end.cause_ns) if own else _silent(judged, causes)
    if culprit is None:
        return tuple(judged), None
    judged = [_beside(end, culprit, bool(own)) for end in judged]
    return tuple(judged), judged[[end.rank for end in judged].index(culprit.rank)]


def _classify(end: RankEnd, teardown_ns: int | None) -> RankEnd:
    if end.state is not State.FINISHED:
        return end
    before = teardown_ns is None or end.cause_ns <= teardown_ns
    if end.error and end.error.kind != "SystemExit" and before:
        memory = end.error.kind.rpartition(".")[2] in ("MemoryError", "ResourceExhaustedError")
        return replace(end, state=State.OUT_OF_MEMORY if memory else State.RAISED)
    if teardown_ns is not None and (end.code is None or end.ended_ns > teardown_ns):
        return end if end.code == 0 else replace(end, state=State.TORN_DOWN)
    if end.code == 0:
        return end
    return replace(end, state=State.SIGNALLED if (end.code or 0) < 0 else State.EXITED)


def _victim(end: RankEnd) -> bool:
    return end.state in (State.RAISED, State.EXITED) and waits_for_others(end)


def _silent(judged: Sequence[RankEnd], victims: list[RankEnd]) -> RankEnd | None:
    """Choose among ranks that all say they waited: one that said nothing and is behind, else the first."""
    if not victims:
        return None
    accused = {rank for victim in victims for rank in _accuses(victim)}
    quiet = [end for end in judged if end.state is State.TORN_DOWN]
    named = [end for end in quiet if end.rank in accused]
    behind = [end for end in quiet if end.step < min(victim.step for victim in victims)]
    if named or behind or len(quiet) == 1:
        suspect = min(named or behind or quiet, key=lambda end: (end.step, end.rank))
        return replace(suspect, state=State.SILENT)
    return min(victims, key=lambda end: end.cause_ns)


def _accuses(victim: RankEnd) -> set[int]:
    """Read which ranks a victim says it waited for."""
    found = _ACCUSED.search(victim.error.message if victim.error else victim.tail.decode("utf-8", "replace"))
    return {int(word) for word in re.findall(r"\d+", found.group(1))} if found else set()


def _beside(end: RankEnd, culprit: RankEnd, named: bool) -> RankEnd:
    """Give the state of a rank once the culprit is known."""
    if end.rank == culprit.rank:
        return culprit
    suffers = _victim(end) and (named or culprit.state is State.SILENT)
    return replace(end, state=State.VICTIM) if suffers else end


def exit_code_of(ends: Sequence[RankEnd], culprit: RankEnd) -> int:
    """Give the run's exit code: the culprit's own, and what stands for it where it has none."""
    if culprit.state in (State.HUNG, State.EARLY):
        return 124
    if culprit.state is State.SILENT:
        victims = [end for end in ends if end.state is State.VICTIM]
        return (min(victims, key=lambda end: end.cause_ns).exit_code if victims else 0) or 1
    if culprit.state is State.RAISED and (culprit.code is None or culprit.code <= 0):
        return 1  # it hung after it had raised, or ended with 0 all the same
    return culprit.exit_code or 1
