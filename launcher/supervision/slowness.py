"""Says which ranks make a run slow: a line on the console and an event, for one host as for several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Mapping, Sequence

from launcher.heartbeat import Counters
from launcher.supervision.events import EventLog

if TYPE_CHECKING:  # the rules are loaded when ranks keep counters, not at every start
    from launcher.metrics.stragglers import Stragglers
    from launcher.supervision.progress import Progress

LOOK = 1.0  # seconds between two looks at the counters, at least
LOOK_COST = 1 / 500  # seconds more for each rank: a look at 16,384 takes about a tenth of a second
STRAGGLE = 10  # steps before ranks without counters are compared


class Slowness:
    """The verdicts of one attempt, each said as it comes."""

    def __init__(self, events: EventLog) -> None:
        self._events = events
        self._stragglers: Stragglers | None = None
        self._next_look = 0.0
        self._behind: set[int] = set()
        self._told = False

    def check(self, living: Sequence[Progress], now: float) -> None:
        """Compare the ranks, now and then. now: seconds of one clock."""
        if now < self._next_look:
            return
        self._next_look = now + LOOK + LOOK_COST * len(living)
        told: dict[int, tuple[int, Counters]] = {}
        others = []
        for rank in living:
            beat = rank.heartbeat
            if beat.counters is not None:
                told[rank.rank] = beat.train_step, beat.counters
            elif beat.expects_beat:
                others.append(rank)
        if told or self._stragglers is not None:
            self._judge(told)
        self._compare_steps(others)

    def _judge(self, told: Mapping[int, tuple[int, Counters]]) -> None:
        from launcher.metrics.stragglers import NOT_SPLIT, Stragglers
        from launcher.metrics.windows import Reading

        self._stragglers = self._stragglers or Stragglers()
        verdict = self._stragglers.look({rank: Reading(*reading) for rank, reading in told.items()})
        if verdict is not None:
            kind, ranks, cost, since = verdict
            self._events.verdict(kind, ranks, cost, since, verdict.text)
        elif len(told) > 1 and not self._stragglers.split and not self._told:
            self._told = True
            self._events.debug(NOT_SPLIT)

    def _compare_steps(self, ranks: Sequence[Progress]) -> None:
        """Say once of a rank without counters that it has made less than half of the others' steps.

        Only ranks that do not wait for each other get so far apart: the run ends when the slowest does.
        """
        steps = sorted(rank.heartbeat.step for rank in ranks)
        usual = steps[len(steps) // 2] if len(steps) > 1 else 0
        for rank in ranks if usual >= STRAGGLE else ():
            step = rank.heartbeat.step
            if step * 2 < usual and rank.rank not in self._behind:
                self._behind.add(rank.rank)
                from launcher.metrics.windows import OWN

                text = f"rank {rank.rank} is slow: step {step}, where others are at {usual}"
                self._events.verdict(OWN, [rank.rank], 1 - step / usual, 0, text)
