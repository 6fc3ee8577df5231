"""Whether a signal that came to ranks and launcher alike ended a run. Pure: ends in, a verdict out.

scancel, `systemctl stop` and a kill of the whole group send one signal to every process; which of them the
launcher sees first is chance. Ranks that such a signal ended, or that lost others by it, have not failed.
"""

from __future__ import annotations

from typing import Sequence

from launcher.diagnosis.failure import RankEnd, RankStatus
from launcher.diagnosis.verdict import CAUSES
from launcher.process.signals import ENDING

MOMENTS = 2.0  # seconds between the end of a rank and the launcher's signal, at most
# Seen before any signal, which explains none of them.
_OBSERVED = (RankStatus.HUNG, RankStatus.EXITED_EARLY, RankStatus.NOT_STARTED, RankStatus.LOST)


def is_interrupted(end: RankEnd) -> bool:
    """Tell whether a signal that asks a program to end has ended a rank."""
    raised = end.error is not None and end.error.kind == "KeyboardInterrupt"
    return end.status in CAUSES and end.status not in _OBSERVED and (raised or end.signal in ENDING)


def wait_until(ends: Sequence[RankEnd], culprit: RankEnd | None) -> int:
    """Return until when the launcher's own signal would explain the ends (monotonic, ns); 0: never."""
    if culprit is None or not is_interrupted(culprit):
        return 0
    return min(end.cause_ns for end in ends if is_interrupted(end)) + _ns(MOMENTS)


def explains(ends: Sequence[RankEnd], culprit: RankEnd, signal_ns: int) -> bool:
    """Tell whether the signal that the launcher got explains the culprit's end; no: it had failed before."""
    from launcher.diagnosis.victims import waits_for_others

    if culprit.status in _OBSERVED:
        return False
    if culprit.status is RankStatus.SILENT or waits_for_others(culprit):
        victims = [end for end in ends if end.status is RankStatus.VICTIM] or [culprit]
        return min(end.cause_ns for end in victims) >= signal_ns - _ns(MOMENTS)
    signs = [end.cause_ns for end in ends if is_interrupted(end)]
    first = min([signal_ns, *(sign for sign in signs if sign >= signal_ns - _ns(MOMENTS))])
    return culprit.cause_ns >= first


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
