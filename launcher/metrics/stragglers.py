"""Who makes a training slow, and at what price: verdicts from the ranks' counters (docs/slow-ranks.md).

Pure. Per rank one reading is kept, however long the run is.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from statistics import median
from typing import Mapping, NamedTuple, Sequence

from launcher.metrics.windows import (
    BEFORE,
    COLLECTIVE,
    OWN,
    READING,
    SLOWER,
    WINDOW,
    Blame,
    Reading,
    Usual,
    Window,
    between,
)
from launcher.text import label

CONSECUTIVE = 3  # windows that agree before a word is said, or taken back
LASTING = 8  # ... and before the run is called slower than before: others may use the machine for a while
MOST = 6  # of these of the same kind; the others may be of another
RENEW = 0.05  # of the run's time: a price that changes by as much is said again
LEARNT = 3  # windows that tell what is usual
PRICED = 9  # windows whose median price is said
LENGTHS = 16  # kinds of row lengths that windows are compared within
CAUSES = {OWN: "own work", READING: "input", COLLECTIVE: "collective", BEFORE: "slower than before"}
NOT_SPLIT = (
    "the ranks do not tell waiting from own work: who is slow in its own work, and whether the collective "
    "is, is not known here"
)


class Verdict(NamedTuple):
    """What makes the run slow. ranks: none where it is no single rank's. cost 0: it does so no longer."""

    kind: str
    ranks: frozenset[int]
    cost: float  # of the run's time since that step
    since: int

    def is_of(self, other: Blame | Verdict) -> bool:
        """Tell whether this is about the same: a rank in common, or the same of all."""
        return bool(self.ranks & other.ranks) if self.ranks else self.kind == other.kind

    @property
    def text(self) -> str:
        """Return the line that a person reads."""
        one = len(self.ranks) == 1
        who = f"rank{'' if one else 's'} {label(set(self.ranks))}" if self.ranks else "all ranks"
        verb = "costs" if one else "cost"
        if not self.cost:
            return f"{who} {verb} the run nothing any more ({CAUSES[self.kind]}), since step {self.since}"
        return f"{who} {verb} the run {self.cost:.0%}: {CAUSES[self.kind]}, since step {self.since}".replace(
            "%:", " %:"
        )


class _History:
    """The usual window of each row length: the mean of those that were not slow."""

    def __init__(self) -> None:
        self._usual: dict[int, tuple[Usual, int]] = {}
        self._faster: dict[int, list[Usual]] = {}
        self._least: dict[int, float] = {}  # seconds that the slowest rank worked, in such windows

    def before(self, tokens: float) -> Usual | None:
        """Return what is usual, once there are enough windows."""
        usual, count = self._usual.get(_length(tokens), (None, 0))
        return usual if count >= LEARNT else None

    def work(self, tokens: float) -> float:
        """Return how long the slowest rank worked; until enough is known the least; 0: nothing is known."""
        usual, length = self.before(tokens), _length(tokens)
        near = [self._least[key] for key in (length - 1, length, length + 1) if key in self._least]
        return usual.work if usual is not None else min(near, default=0.0)

    def add(self, window: Window) -> None:
        """Take a window that nothing slowed; some that are all faster make what was before unusual."""
        length, now = _length(window.tokens), window.usual
        usual, count = self._usual.get(length, (now, 0))
        faster = self._faster.setdefault(length, [])
        self._least[length] = min(now.work, self._least.get(length, now.work))
        if now.step * SLOWER < usual.step:
            faster.append(now)
        elif now.step <= usual.bound or count < LEARNT:
            faster.clear()
            now = now._replace(spread=abs(now.step - usual.step))
            self._usual[length] = usual.mean(now, 1 / (count + 1)), count + 1
        if len(faster) == CONSECUTIVE:
            mean = Usual(*(sum(column) / CONSECUTIVE for column in zip(*faster)))
            self._usual[length] = mean, LEARNT
            faster.clear()
        if len(self._usual) > LENGTHS:
            oldest = next(iter(self._usual))
            del self._usual[oldest], self._faster[oldest], self._least[oldest]


def _length(tokens: float) -> int:
    """Return a key that windows share whose rows are equally long, within 5 %."""
    return round(math.log(tokens) / math.log(1.05)) if tokens else 0


def _repeated(blames: Sequence[Blame]) -> bool:
    """Tell whether a rank is blamed more than once: perhaps it is the culprit, and time will show."""
    named = [rank for blame in blames for rank in blame.ranks]
    return len(named) > len(set(named))


class Stragglers:
    """The verdicts of one attempt. Feed `look` now and then with readings of all ranks that keep counters."""

    def __init__(self) -> None:
        self._base: Mapping[int, Reading] = {}
        self._behind: int | None = None  # a rank that had not filled the window when looked at last
        self._history = _History()
        self._blames: deque[tuple[Blame | None, int]] = deque(maxlen=LASTING)
        self._said: Verdict | None = None
        self._costs: deque[float] = deque(maxlen=PRICED)
        self.split = True  # whether all ranks tell waiting from own work

    def look(self, readings: Mapping[int, Reading]) -> Verdict | None:
        """Take readings by rank; return what is new to say. The mapping is kept."""
        if not readings or self._base.keys() != readings.keys():
            self._base, self._behind = readings, None
            return None
        if not self._is_full(readings):
            return None
        base, self._base = self._base, readings
        window = between(base, readings)
        if window is None:
            return None
        self.split = window.split
        return self._judge(window, min(reading.step for reading in base.values()))

    def _is_full(self, readings: Mapping[int, Reading]) -> bool:
        """Tell whether every rank has made the steps of a window; mostly one rank answers that."""
        for rank in readings if self._behind is None else (self._behind, *readings):
            steps = readings[rank].counters.steps - self._base[rank].counters.steps
            if 0 <= steps < WINDOW:
                self._behind = rank
                return False
        self._behind = None
        return True

    def _judge(self, window: Window, step: int) -> Verdict | None:
        history, tokens = self._history, window.tokens
        blame = window.blame(history.before(tokens), history.work(tokens))
        if blame is None and not window.saved:
            self._history.add(window)
        self._blames.append((blame, step))
        found, said = self._agreed(), self._said
        if said is not None:
            self._costs.append(blame.cost if blame is not None and said.is_of(blame) else 0.0)
        if found is None:
            return self._taken_back()
        return self._renewed(said, found) if said is not None and said.is_of(found) else self._new(found)

    def _agreed(self) -> Verdict | None:
        """Return what the last windows have in common."""
        last = list(self._blames)[-CONSECUTIVE:]
        blames = [blame for blame, _ in last if blame is not None]
        if len(blames) < CONSECUTIVE:
            return None
        common = frozenset.intersection(*(blame.ranks for blame in blames))
        costs = {blame.kind: 0.0 for blame in blames}
        for blame in blames:
            costs[blame.kind] += blame.cost
        kind = max(costs, key=lambda kind: costs[kind])
        cost = median(blame.cost for blame in blames)
        if common or (len(costs) == 1 and kind not in (OWN, BEFORE) and not _repeated(blames)):
            return Verdict(kind, common, cost, last[0][1])
        return self._lasting()  # ranks that are slow in turn are not to blame; if their input is, the run is

    def _lasting(self) -> Verdict | None:
        """Return what all ranks have had in most of many windows, none of which was as usual."""
        blames = [blame for blame, _ in self._blames if blame is not None]
        kinds = Counter(blame.kind for blame in blames if not blame.ranks)
        if len(blames) < LASTING or not kinds:
            return None
        kind, count = kinds.most_common(1)[0]
        cost = median(blame.cost for blame in blames)
        return Verdict(kind, frozenset(), cost, self._blames[0][1]) if count >= MOST else None

    def _new(self, found: Verdict) -> Verdict:
        self._said = found
        self._costs.clear()
        blames = [blame for blame, _ in self._blames if blame is not None and found.is_of(blame)]
        self._costs.extend(blame.cost for blame in blames)
        return found

    def _renewed(self, said: Verdict, found: Verdict) -> Verdict | None:
        """Return what was said with its price of now, where that is another."""
        cost = median(self._costs)
        if abs(cost - said.cost) < RENEW:
            return None
        self._said = found._replace(cost=cost, since=said.since)
        return self._said

    def _taken_back(self) -> Verdict | None:
        """Return that what was said is over, once no window of the last ones shows it."""
        said, last = self._said, list(self._blames)[-CONSECUTIVE:]
        if said is None or any(blame is not None and said.is_of(blame) for blame, _ in last):
            return None
        self._said = None
        return said._replace(cost=0.0, since=last[0][1])
