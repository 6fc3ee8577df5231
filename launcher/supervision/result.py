"""The end of an attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from launcher.diagnosis.failure import RankEnd

if TYPE_CHECKING:  # loaded on a failure, not at every start
    from launcher.diagnosis.hang import StackSnapshot


class Result(NamedTuple):
    """How the ranks ended, and who failed first. `interrupted`: the signal that the launcher got; 0: none."""

    ends: tuple[RankEnd, ...]
    culprit: RankEnd | None
    interrupted: int
    snapshot: StackSnapshot | None
    seconds: float
    teardown_ns: int | None = None  # when the ranks were asked to end, on the monotonic clock
