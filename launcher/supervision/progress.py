"""How far the ranks of a run are beside each other: who hangs, who left early, who is slow.

One rank may wait for any other, on whatever host, so this looks at all ranks of a run together. Pure: it asks
no process. Times are seconds of one clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Sequence

from launcher.diagnosis.failure import RankStatus
from launcher.plan.model import Policy
from launcher.supervision.events import EventLog
from launcher.supervision.rank import Heartbeat
from launcher.supervision.slowness import Slowness

if TYPE_CHECKING:
    from typing import Protocol

    class Progress(Protocol):
        """What is known of a rank. started, active, lively: times of its start and its last signs of life."""

        heartbeat: Heartbeat
        started: float
        seconds: float  # how long it ran, once it has ended
        active: float
        lively: float
        code: int | None
        ended_ns: int

        @property
        def rank(self) -> int: ...

        @property
        def alive(self) -> bool: ...


class Incident(NamedTuple):
    """A problem of a rank while processes still live. `status` is HUNG, EXITED_EARLY or RAISED."""

    status: RankStatus
    rank: int
    detail: str


class RunProgress:
    """The comparison of all ranks of one attempt."""

    def __init__(self, policy: Policy, ranks: Sequence[Progress], events: EventLog) -> None:
        self._policy, self._ranks, self._events = policy, ranks, events
        self._slowness = Slowness(events)
        self._timed_since, self._living = 0.0, len(ranks)

    def check(self, now: float, sampled: float) -> Incident | None:
        """Return the first problem. sampled: when the ranks' use of processors was looked at last."""
        living = [rank for rank in self._ranks if rank.alive]
        with self._events.surviving("the search for slow ranks"):
            self._slowness.check(living, now)
        return self._hung(living, now) or self._silent(living, now, sampled) or self._early(living, now)

    def _hung(self, living: Sequence[Progress], now: float) -> Incident | None:
        """Find a rank whose next heartbeat is overdue."""
        limit = self._policy.hang_timeout
        if any(rank.heartbeat.in_untimed_phase for rank in living) or len(living) != self._living:
            self._timed_since, self._living = now, len(living)  # ranks that waited for that one start afresh
        if not limit or now - self._timed_since < limit:
            return None
        late = [rank for rank in living if rank.heartbeat.expects_beat and now - rank.heartbeat.seen >= limit]
        if not late:
            return None
        first = min(late, key=lambda rank: (rank.heartbeat.step, rank.heartbeat.seen))
        beat = first.heartbeat
        detail = f"no heartbeat for {now - beat.seen:.1f} s, the last in step {beat.step} ({beat.phase})"
        return Incident(RankStatus.HUNG, first.rank, detail)

    def _silent(self, living: Sequence[Progress], now: float, sampled: float) -> Incident | None:
        """Find a run whose ranks write no heartbeats, where for hang_timeout none has shown a sign of life.

        One rank may well wait for another that works, so all must be silent.
        """
        limit = self._policy.hang_timeout
        if not limit or not living or now - self._timed_since < limit:
            return None
        if any(rank.heartbeat.has_stepped or rank.heartbeat.in_untimed_phase for rank in living):
            return None
        since = {rank.rank: max(rank.active, rank.lively) for rank in living}
        silence = sampled - max(since.values())  # of a later time nothing is known yet
        if silence < limit:
            return None
        detail = (
            f"it has written nothing and used no processor for {silence:.1f} s; "
            "it writes no heartbeat, so hang_timeout goes by that"
        )
        return Incident(RankStatus.HUNG, min(since, key=lambda rank: since[rank]), detail)

    def _early(self, living: Sequence[Progress], now: float) -> Incident | None:
        """Find a rank that exited with 0 while all the others wait."""
        limit = self._policy.early_exit_grace
        gone = [rank for rank in self._ranks if rank.code == 0]
        if not limit or not gone or not living:
            return None
        first = min(gone, key=lambda rank: rank.ended_ns)
        since = max([first.started + first.seconds, *(rank.active for rank in living)])
        if now - since < limit:
            return None
        step = first.heartbeat.step
        detail = f"the others have been idle for {now - since:.1f} s since it ended, after step {step}"
        return Incident(RankStatus.EXITED_EARLY, first.rank, detail)
