"""Rules that find slow ranks, run on the same traces: ours as the launcher runs it, and those of other tools.

A trace holds the seconds of each step of each rank. All rules look at the same moments, once a second as the
launcher does (NVRx looks once a minute, MindCluster each 30 s); each look gives the ranks that a rule names,
or None. Input and own work together are the others' section: short sections of their own are noisier.
"""

from __future__ import annotations

from statistics import mean, median
from typing import Iterator, NamedTuple, Optional, Sequence

from launcher.heartbeat import Counters
from launcher.metrics.stragglers import Stragglers, Verdict
from launcher.metrics.windows import Reading
from launcher.supervision.slowness import LOOK

Named = Optional[frozenset]


class Spent(NamedTuple):
    """Seconds of one step of one rank."""

    input: float
    own: float
    wait: float

    @property
    def work(self) -> float:
        return self.input + self.own


class Trace(NamedTuple):
    """ranks[rank][step]; begin: the step from which on something was injected."""

    ranks: Sequence[Sequence[Spent]]
    begin: int

    def looks(self) -> Iterator[int]:
        """Yield the steps that are done at each look."""
        now = due = 0.0
        for step, spent in enumerate(self.ranks[0]):
            now += sum(spent)
            if now >= due:
                due = now + LOOK
                yield step + 1


def ours(trace: Trace) -> list[Verdict]:
    """Give what the launcher says."""
    stragglers, said = Stragglers(), []
    sums = [[Counters(0, 0, 0, 0, 0.0, 0.0, 0.0, 0.0)] for _ in trace.ranks]
    for row, done in zip(sums, trace.ranks):
        for spent in done:
            last = row[-1]
            row.append(
                last._replace(
                    steps=last.steps + 1,
                    input_s=last.input_s + spent.input,
                    own_s=last.own_s + spent.own,
                    wait_s=last.wait_s + spent.wait,
                )
            )
    for step in trace.looks():
        verdict = stragglers.look({rank: Reading(step, row[step]) for rank, row in enumerate(sums)})
        said += [verdict] if verdict else []
    return said


def nvrx(trace: Trace) -> list[Named]:
    """NVRx d8686d9, straggler/reporting.py: medians of the interval, relative or individual score < 0.75."""
    best, found, last = [float("inf")] * len(trace.ranks), [], 0
    for step in trace.looks():
        if step - last < 16:  # steps from which it takes its interval
            continue
        medians = [median(spent.work for spent in row[last:step]) for row in trace.ranks]
        best = [min(pair) for pair in zip(best, medians)]
        slow = {rank for rank, own in enumerate(medians) if min(min(medians), best[rank]) / own < 0.75}
        found.append(frozenset(slow) if slow else None)
        last = step
    return found


def mindcluster_time(trace: Trace) -> list[Named]:
    """MindCluster 22bb3d98, slownode/timedetector: 3 values in a row beyond 1.3 x the mean of the normal."""
    found, looks = [], set(trace.looks())
    means, counts = [], []
    for row in trace.ranks:
        first = sorted(spent.work for spent in row[:20])[3:-3]
        means.append(mean(first))
        counts.append(len(first))
    beyond = [0] * len(trace.ranks)
    for step in range(20, len(trace.ranks[0])):
        for rank, row in enumerate(trace.ranks):
            value = row[step].work
            beyond[rank] = beyond[rank] + 1 if value > 1.3 * means[rank] else 0
            if not beyond[rank]:
                means[rank] += (value - means[rank]) / (counts[rank] + 1)
                counts[rank] += 1
        if step + 1 in looks:
            slow = {rank for rank, count in enumerate(beyond) if count >= 3}
            found.append(frozenset(slow) if slow else None)
    return found


def _lower(waits: dict[int, float]) -> frozenset:
    """Return the ranks that wait least in one step, by MindCluster's gap: again within the group found."""
    order = sorted(waits, key=lambda rank: waits[rank])
    if len(order) < 2:
        return frozenset()
    gaps = [waits[after] - waits[rank] for rank, after in zip(order, order[1:])]
    at = gaps.index(max(gaps)) + 1
    low, high = order[:at], order[at:]
    wide = max(gaps) * 2 >= waits[order[-1]] - waits[order[0]]
    if not wide or mean(waits[rank] for rank in high) <= 1.3 * mean(waits[rank] for rank in low):
        return frozenset()
    return _lower({rank: waits[rank] for rank in low}) or frozenset(low)


def mindcluster_space(trace: Trace) -> list[Named]:
    """MindCluster 22bb3d98, slownode/spacedetector: the same ranks wait least in the last 3 steps."""
    found: list[Named] = []
    for step in trace.looks():
        sets = [
            _lower({rank: row[at].wait for rank, row in enumerate(trace.ranks)})
            for at in range(max(0, step - 3), step)
        ]
        found.append(sets[0] if len(sets) == 3 and sets[0] and len(set(sets)) == 1 else None)
    return found


def msprof(trace: Trace) -> list[Named]:
    """msprof-analyze, cluster: computing of a profile (20 steps) more than 5 % apart: the longest is slow."""
    found: list[Named] = []
    for step in trace.looks():
        sums = [sum(spent.own for spent in row[max(0, step - 20) : step]) for row in trace.ranks]
        slow = max(sums) > 1.05 * min(sums)
        found.append(frozenset({sums.index(max(sums))}) if slow else None)
    return found


OTHERS = {
    "NVRx": nvrx,
    "MindCluster, over time": mindcluster_time,
    "MindCluster, over ranks": mindcluster_space,
    "msprof-analyze, 5 %": msprof,
}
