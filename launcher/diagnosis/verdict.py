"""Which rank failed first, and which only suffered from it. Pure: the ends of ranks in, a verdict out.

The earliest cause wins, on the monotonic clock that all processes of a host share. A rank that reports a
collective's timeout or a lost peer is a victim when any other explanation exists.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from typing import Mapping, Sequence

from launcher.diagnosis.failure import RankEnd, RankStatus
from launcher.text import SCHEDULER

CAUSES = frozenset(
    (
        RankStatus.RAISED,
        RankStatus.EXITED,
        RankStatus.SIGNALLED,
        RankStatus.OUT_OF_MEMORY,
        RankStatus.HUNG,
        RankStatus.EXITED_EARLY,
        RankStatus.NOT_STARTED,
        RankStatus.LOST,
    )
)
_NOTICED_NS = 10**9  # by which the launcher may notice a rank's end later than the others do
_NO_MEMORY = ("MemoryError", "OutOfMemoryError", "ResourceExhaustedError")
HANG_EXIT_CODE = 124  # as timeout(1)
LOST_EXIT_CODE = 69  # EX_UNAVAILABLE of sysexits.h


def judge(
    ends: Sequence[RankEnd], teardown_ns: int | Mapping[int, int | None] | None
) -> tuple[tuple[RankEnd, ...], RankEnd | None]:
    """Classify the ends of all ranks and find the culprit (None: no rank failed).

    teardown_ns: when the ranks were asked to end, or by rank, as each host asks its own; None: never. A
    status that the launcher observed itself (HUNG, EXITED_EARLY, OUT_OF_MEMORY, NOT_STARTED, LOST) is kept.
    """
    by_rank = (
        teardown_ns
        if isinstance(teardown_ns, Mapping)
        else dict.fromkeys((end.rank for end in ends), teardown_ns)
    )
    judged = [_classify(end, by_rank.get(end.rank)) for end in ends]
    causes = [end for end in judged if end.status in CAUSES]
    own = [end for end in causes if not _is_victim(end)]
    culprit = min(own, key=lambda end: end.cause_ns) if own else _silent(judged, causes)
    if culprit is None:
        return tuple(judged), None
    judged = [_beside(end, culprit, bool(own)) for end in judged]
    return tuple(judged), judged[[end.rank for end in judged].index(culprit.rank)]


def _classify(end: RankEnd, teardown_ns: int | None) -> RankEnd:
    if end.rank == SCHEDULER and teardown_ns is None:  # every rank ended by itself: none needed it any more
        return replace(end, status=RankStatus.TERMINATED if end.code else RankStatus.FINISHED)
    if end.status is not RankStatus.FINISHED:
        return end
    before = teardown_ns is None or end.cause_ns <= teardown_ns
    if end.error and end.error.kind != "SystemExit" and before:
        memory = end.error.kind.rpartition(".")[2] in _NO_MEMORY
        return replace(end, status=RankStatus.OUT_OF_MEMORY if memory else RankStatus.RAISED)
    if teardown_ns is not None and (end.code is None or end.ended_ns > teardown_ns):
        if end.error and before and end.code != 0:  # it had asked for its end, and hung on the way
            return replace(end, status=RankStatus.EXITED, code=_asked(end.error.message) or end.code)
        return end if end.code == 0 else replace(end, status=RankStatus.TERMINATED)
    if end.code == 0:
        return end
    return replace(end, status=RankStatus.SIGNALLED if end.signal else RankStatus.EXITED)


def _asked(message: str) -> int:
    """Return the exit code that sys.exit(message) stands for; 0 for success."""
    return int(message) & 0xFF if re.fullmatch("-?[0-9]{1,9}", message) else int(message not in ("", "None"))


def _is_victim(end: RankEnd) -> bool:
    from launcher.diagnosis.victims import waits_for_others

    failed = (RankStatus.RAISED, RankStatus.EXITED, RankStatus.SIGNALLED)
    return end.status in failed and waits_for_others(end)


def _silent(judged: Sequence[RankEnd], victims: list[RankEnd]) -> RankEnd | None:
    """Choose the suspect among ranks that all waited.

    One that waited while it handled an error of its own, else a silent one that the others name, one that had
    ended before with 0, a silent one that is behind, the one that most others name, the first.
    """
    if not victims:
        return None
    from launcher.diagnosis.victims import had_own_error

    guilty = [victim for victim in victims if had_own_error(victim)]
    if guilty:
        return min(guilty, key=lambda end: end.cause_ns)
    accused = Counter(rank for victim in victims for rank in _accused(victim, judged))
    quiet = [end for end in judged if end.status is RankStatus.TERMINATED]
    named = [end for end in quiet if end.rank in accused]
    left = None if named else _first_to_leave(judged, victims)
    if left:
        return replace(left, status=RankStatus.EXITED_EARLY)
    behind = [end for end in quiet if end.step < min(victim.step for victim in victims)]
    if named or behind or len(quiet) == 1:
        suspect = min(named or behind or quiet, key=lambda end: (end.step, end.rank))
        return replace(suspect, status=RankStatus.SILENT)
    most = _most_accused(victims, accused) or _waited_elsewhere(victims)
    return most or min(victims, key=lambda end: end.cause_ns)


def _accused(victim: RankEnd, ends: Sequence[RankEnd]) -> set[int]:
    """Return the ranks that a victim names, or whose devices it names in a run on one host."""
    from launcher.diagnosis.victims import accused_devices, accused_ranks

    devices = accused_devices(victim) if len({end.host for end in ends}) == 1 else set()
    return accused_ranks(victim) | {end.rank for end in ends if end.device_id in devices}


def _first_to_leave(judged: Sequence[RankEnd], victims: Sequence[RankEnd]) -> RankEnd | None:
    """Choose the rank that ended with 0 before the others lost it in a collective."""
    from launcher.diagnosis.victims import was_left_alone

    lost = [end.cause_ns + _NOTICED_NS for end in victims if was_left_alone(end)]
    left = [end for end in judged if end.status is RankStatus.FINISHED and lost and end.ended_ns < min(lost)]
    return min(left, key=lambda end: end.ended_ns, default=None)


def _most_accused(victims: Sequence[RankEnd], accused: Mapping[int, int]) -> RankEnd | None:
    """Choose the one victim that more of the others waited for than for any other; in a ring none is."""
    count, rank = max(((count, rank) for rank, count in accused.items()), default=(0, -1))
    if list(accused.values()).count(count) > 1:
        return None
    return next((victim for victim in victims if victim.rank == rank), None)


def _waited_elsewhere(victims: Sequence[RankEnd]) -> RankEnd | None:
    """Choose the one victim that timed out in another collective than the others, which it did not join."""
    from launcher.diagnosis import hang
    from launcher.diagnosis import victims as words

    late = {end.rank: end for end in victims if end.error and words.timed_out(end)}
    found = hang.apart({rank: end.error.traceback for rank, end in late.items() if end.error})
    if found is None or len(late) < len(victims):
        return None
    rank, place = found
    said = [late[rank].detail, f"it waited elsewhere than the others: in {place}"]
    return replace(late[rank], detail="; ".join(filter(None, said)))


def _beside(end: RankEnd, culprit: RankEnd, named: bool) -> RankEnd:
    """Return the end of a rank as it reads once the culprit is known."""
    if end.rank == culprit.rank:
        return culprit
    suffers = _is_victim(end) and (named or culprit.status in (RankStatus.SILENT, RankStatus.EXITED_EARLY))
    return replace(end, status=RankStatus.VICTIM) if suffers else end


def exit_code_of(ends: Sequence[RankEnd], culprit: RankEnd) -> int:
    """Choose the exit code of the run: the culprit's own, or a substitute where it has none."""
    if culprit.status in (RankStatus.HUNG, RankStatus.EXITED_EARLY):
        return HANG_EXIT_CODE
    if culprit.status is RankStatus.LOST:
        return LOST_EXIT_CODE
    if culprit.status is RankStatus.SILENT:
        victims = [end for end in ends if end.status is RankStatus.VICTIM]
        return (min(victims, key=lambda end: end.cause_ns).exit_code if victims else 0) or 1
    no_memory = culprit.status is RankStatus.OUT_OF_MEMORY and culprit.error is not None
    if (no_memory or culprit.status is RankStatus.RAISED) and (culprit.code is None or culprit.code <= 0):
        return 1  # it hung after the exception, or exited with 0 in spite of it
    return culprit.exit_code or 1
