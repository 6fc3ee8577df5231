"""What the ranks did within a window of steps, and what in it made the run slow.

Pure; seconds are per step. Steps of a synchronous training are equally long on all ranks:
step = own + input + wait, and whoever comes last to the collective waits least in it, as the others
wait for it (MindCluster, slownode/spacedetector, goes by the same). Nothing
here compares waits alone: they say who was waited for, own time and input say why.
"""

from __future__ import annotations

from heapq import nlargest
from statistics import median_high, median_low
from typing import Mapping, NamedTuple, Sequence

from launcher.heartbeat import Counters

WINDOW = 20  # steps, at least
RATIO = 1.3  # own time above this x the usual is slow (MindCluster's clusterMeanDistance)
INPUT = 0.10  # of the step: waiting longer for input is slow
SLOWER = 1.10  # x as before (FALCON verifies a change by the same)
SPREADS = 3  # ... and as many times further than windows lie from each other (MindCluster's nSigma)
IN_TURN = 2.0  # x the next rank's input: ranks whose input is slow in turn come closer to each other
LEAST = 0.03  # of the step: what costs less is not worth a line

OWN, READING, COLLECTIVE, BEFORE = "slow rank", "slow input", "slow collective", "slower than before"


class Reading(NamedTuple):
    """What a rank has told: the step it is in (of the training) and its counters."""

    step: int
    counters: Counters


class Share(NamedTuple):
    """What one rank did, by step. wait: less the time in which it waited for others' saving."""

    rank: int
    tokens: float
    input: float
    own: float
    wait: float
    save: float


class Usual(NamedTuple):
    """A window in figures that windows are compared by."""

    step: float  # seconds
    own: float  # of the median rank
    wait: float  # of the rank that waits least: what the collective itself takes
    inputs: float  # of the ranks with most, added up
    late: float  # work beyond the median's, of the ranks with most, added up
    spread: float = 0.0  # seconds by which steps of such windows differ from their mean

    @property
    def work(self) -> float:
        """Return the input and own time of the rank that the others wait for."""
        return self.step - self.wait

    @property
    def bound(self) -> float:
        """Return the longest step that is still usual."""
        return max(SLOWER * self.step, self.step + SPREADS * self.spread)

    def mean(self, other: Usual, weight: float) -> Usual:
        """Move by a part of the way towards another window."""
        return Usual(*(mine + (its - mine) * weight for mine, its in zip(self, other)))


class Blame(NamedTuple):
    """What made a window slow. ranks: none where it is no single rank's."""

    kind: str
    ranks: frozenset[int]
    cost: float  # of the window's time: what would go without it


class Window:
    """The shares of all ranks in some steps. `split`: whether they tell waiting from own work."""

    def __init__(self, shares: Sequence[Share], split: bool) -> None:
        self.shares, self.split = shares, split
        self.saved = max(share.save for share in shares)
        self.step = median_low([share.input + share.own + share.wait for share in shares])
        self.tokens = sum(share.tokens for share in shares) / len(shares)
        self._own = median_low([share.own for share in shares])
        self._input = median_low([share.input for share in shares])
        self._wait = median_high([share.wait for share in shares])
        self._rate = median_low([share.own / share.tokens if share.tokens else 0.0 for share in shares])

    @property
    def usual(self) -> Usual:
        """Return the figures that later windows are compared with."""
        work = self._own + self._input
        late = [max(0.0, share.own + share.input - work) for share in self.shares]
        wait = min(share.wait for share in self.shares)
        inputs = [share.input for share in self.shares]
        return Usual(self.step, self._own, wait, _most(inputs), _most(late))

    def blame(self, before: Usual | None, work: float = 0.0) -> Blame | None:
        """Say what costs most. before: windows of this run in which rows were as long.

        work: how long the slowest rank worked in such windows, 0: not known.
        """
        found = self._of_ranks(work) or self._of_input(before)
        if found is None and before is not None and not self.saved:
            found = self._of_collective(before) or self._of_all(before)
        return found if found is not None and found.cost >= LEAST else None

    def _usual_own(self, share: Share) -> float:
        """Return a rank's own time if it were as the median: longer rows may take longer."""
        return max(self._own, self._rate * share.tokens)

    def _of_ranks(self, work: float) -> Blame | None:
        """Find ranks that the others wait for: they wait least, and their work takes longer.

        Price (the what-if of arXiv 2505.05713, with the next slowest rank deciding instead): the step with
        these ranks as the median, 1 - ideal / step. Others that share the cores of a rank that is late work
        less than before, as long as it is: then they would work as before again.
        """
        late = {share.rank for share in self.shares if self._is_late(share)}
        if not late or len(late) * 2 > len(self.shares):
            return None
        if min(self.shares, key=lambda share: share.wait).rank not in late:
            return None
        culprits = [share for share in self.shares if share.rank in late]
        rest = [share for share in self.shares if share.rank not in late]
        others = max(map(self._work, rest))
        ideal = max(others, *(self._usual_own(share) + self._input for share in culprits))
        slowest = max(culprits, key=self._work)
        if ideal * SLOWER < work < self._work(slowest) / SLOWER:
            ideal = work
        kind = READING if self._reads_late(slowest) else OWN
        if kind == READING and slowest.input < IN_TURN * max(share.input for share in rest):
            return None
        return Blame(kind, frozenset(late), (self._work(slowest) - ideal) / self.step)

    def _work(self, share: Share) -> float:
        return share.input + share.own

    def _reads_late(self, share: Share) -> bool:
        return share.input - self._input > share.own - self._usual_own(share)

    def _is_late(self, share: Share) -> bool:
        reading, own = share.input - self._input, share.own - self._usual_own(share)
        if self._reads_late(share):
            slow = share.input > INPUT * self.step
        else:
            slow = share.own > RATIO * self._usual_own(share) > 0
        return slow and (self._wait - share.wait) * 2 >= reading + own

    def _of_input(self, before: Usual | None) -> Blame | None:
        """Find that the run as a whole waits for its input.

        Where ranks wait at the same time, it costs their mean; where each makes the others wait in turn, up
        to the sum. Earlier windows say what the collective itself takes, and so how much of the step is left.
        """
        inputs = [share.input for share in self.shares]
        cost = sum(inputs) / len(inputs)
        if before is not None and self.split:
            own = max(share.own for share in self.shares)
            spare = self.step - own - before.wait
            cost = max(cost, min(spare, _most(inputs) - before.inputs))
        return Blame(READING, frozenset(), cost / self.step) if cost > INPUT * self.step else None

    def _of_collective(self, before: Usual) -> Blame | None:
        """Find that even the rank that waits least waits longer, though nobody works longer.

        Ranks that are late in turn make everybody wait, too: their lateness explains as much.
        """
        now = self.usual
        rise = now.wait - before.wait
        explained = max(0.0, now.late - before.late) + (now.own - before.own) * min(len(self.shares), WINDOW)
        if not self.split or now.own > SLOWER * before.own or explained * 2 > rise:
            return None
        return Blame(COLLECTIVE, frozenset(), rise / self.step) if rise > INPUT * self.step else None

    def _of_all(self, before: Usual) -> Blame | None:
        if self.step <= before.bound:
            return None
        return Blame(BEFORE, frozenset(), 1 - before.step / self.step)


def _most(values: Sequence[float]) -> float:
    """Add up the largest: in WINDOW steps, at most as many ranks can have been the last."""
    return sum(nlargest(WINDOW, values))


def between(base: Mapping[int, Reading], now: Mapping[int, Reading]) -> Window | None:
    """Subtract two readings of the same ranks. None: a counter went back, so the program began anew."""
    rows = []
    for rank, (_, new) in now.items():
        old = base[rank].counters
        steps = new.steps - old.steps
        waits = new.wait_s is not None and old.wait_s is not None
        wait = (new.wait_s or 0.0) - (old.wait_s or 0.0) if waits else 0.0
        seconds = (new.input_s - old.input_s, new.own_s - old.own_s, wait, new.save_s - old.save_s)
        tokens = new.tokens - old.tokens
        if steps <= 0 or tokens < 0 or min(seconds) < 0:
            return None
        rows.append((Share(rank, tokens / steps, *(second / steps for second in seconds)), waits))
    split = all(waits for _, waits in rows)
    saving = max(share.save for share, _ in rows)
    shares = [_told(share, saving) if split else _untold(share) for share, _ in rows]
    window = Window(shares, split)
    return window if window.step > 0 else None


def _told(share: Share, saving: float) -> Share:
    """Leave out what a rank waited while another one saved."""
    return share._replace(wait=max(0.0, share.wait - (saving - share.save)))


def _untold(share: Share) -> Share:
    """Take all of own time for waiting: it is in there somewhere, and no work can be told."""
    return share._replace(own=0.0, wait=share.own + share.wait)
