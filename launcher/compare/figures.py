"""Figures of two losses on one axis: how far apart they are, where they part, what is no number or spikes."""

from __future__ import annotations

import math
from typing import Iterable, NamedTuple, Sequence

from launcher.compare.align import Aligned, Pair, Spot

TOLERANCE = 0.01  # relative error of a place to look into (msprobe, train_debug_guide 1.3)
PART = 0.1  # the share of the places that is early, or late ...
FEWEST = 3  # ... and as many at least, where there are twice as many
SPIKE = 1.5  # times the running mean
RUNNING = 20  # the points before that it is the mean of; the first FEWEST have none
SMOOTHING = (
    0.9  # of the curves that are correlated: the share that stays at each place (as TensorBoard's slider)
)


class Error(NamedTuple):
    """How far B is from A over some places. None: no place is left for it.

    absolute: mean of |b - a|. relative: mean of |b - a| / |a|, where a is not 0. level: mean of b by mean of
    a, minus 1, in which noise of single places cancels. only_a, only_b: places where that one is no finite
    number and the other is.
    """

    places: int
    absolute: float | None
    relative: float | None
    level: float | None
    zeros: int
    only_a: int
    only_b: int


class Parting(NamedTuple):
    """Where the relative error is beyond the tolerance: at first, and from where on it stays so."""

    first: float | None
    lasting: float | None
    left: int  # places from the lasting one to the end


class Oddities(NamedTuple):
    """How many points of a curve are NaN or infinite, and how many spike, of how many."""

    points: int
    not_finite: int
    spikes: int
    first_not_finite: float | None


class LossFigures(NamedTuple):
    """All figures of two aligned losses."""

    whole: Error
    early: Error
    late: Error
    parting: Parting
    correlation: float | None
    a: Oddities
    b: Oddities


def loss_figures(aligned: Aligned) -> LossFigures:
    """Compute the figures; those of pairs are empty where the curves could not be aligned."""
    pairs = aligned.pairs
    few = max(min(FEWEST, len(pairs) // 2), math.ceil(len(pairs) * PART)) if len(pairs) > 1 else 0
    return LossFigures(
        error(pairs),
        error(pairs[:few]),
        error(pairs[len(pairs) - few :]),
        parting(pairs),
        correlation(pairs),
        oddities(aligned.a),
        oddities(aligned.b),
    )


def error(pairs: Sequence[Pair]) -> Error:
    """Compute the mean errors over some places."""
    finite = [pair for pair in pairs if math.isfinite(pair.a) and math.isfinite(pair.b)]
    only_a = sum(math.isfinite(pair.b) for pair in pairs) - len(finite)
    only_b = sum(math.isfinite(pair.a) for pair in pairs) - len(finite)
    relative = [abs(pair.b - pair.a) / abs(pair.a) for pair in finite if pair.a]
    level_a, level_b = mean(pair.a for pair in finite), mean(pair.b for pair in finite)
    level = (level_b - level_a) / abs(level_a) if level_a and level_b is not None else None
    absolute = mean(abs(pair.b - pair.a) for pair in finite)
    return Error(len(pairs), absolute, mean(relative), level, len(finite) - len(relative), only_a, only_b)


def mean(values: Iterable[float]) -> float | None:
    """Return the mean; None of no values, or where it is no number that JSON has."""
    listed = list(values)
    total = sum(listed) / len(listed) if listed else math.nan
    return total if math.isfinite(total) else None


def is_beyond(pair: Pair, tolerance: float = TOLERANCE) -> bool:
    """Tell whether the two differ by more than a share of A's loss, or one alone is no finite number."""
    finite = math.isfinite(pair.a), math.isfinite(pair.b)
    if not all(finite):
        return any(finite) or not (pair.a == pair.b or (math.isnan(pair.a) and math.isnan(pair.b)))
    return abs(pair.b - pair.a) > tolerance * abs(pair.a)


def parting(pairs: Sequence[Pair], tolerance: float = TOLERANCE) -> Parting:
    """Find the first place beyond the tolerance, and the first one after which every place is beyond it."""
    first = next((pair.place for pair in pairs if is_beyond(pair, tolerance)), None)
    left = 0
    for pair in reversed(pairs):
        if not is_beyond(pair, tolerance):
            break
        left += 1
    return Parting(first, pairs[len(pairs) - left].place if left else None, left)


def correlation(pairs: Sequence[Pair]) -> float | None:
    """Correlate both curves after exponential smoothing; None of fewer than three places, or a flat curve."""
    finite = [pair for pair in pairs if math.isfinite(pair.a) and math.isfinite(pair.b)]
    if len(finite) < 3:
        return None
    a, b = (_centred(smoothed(values)) for values in zip(*((pair.a, pair.b) for pair in finite)))
    power = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(y * y for y in b))
    if not 1e-12 < power < math.inf:
        return None
    return max(-1.0, min(1.0, sum(x * y for x, y in zip(a, b)) / power))


def smoothed(values: Sequence[float], keep: float = SMOOTHING) -> list[float]:
    """Smooth exponentially, without the bias to 0 of the first values."""
    total, weight = 0.0, 0.0
    found = []
    for value in values:
        total, weight = total * keep + value * (1 - keep), weight * keep + 1 - keep
        found.append(total / weight)
    return found


def _centred(values: Sequence[float]) -> list[float]:
    middle = sum(values) / len(values)
    return [value - middle for value in values]


def oddities(spots: Sequence[Spot]) -> Oddities:
    """Count what is no finite number, and what is above SPIKE times the mean of the RUNNING points before."""
    before: list[float] = []
    spikes = 0
    for spot in spots:
        if not math.isfinite(spot.loss):
            continue
        running = before[-RUNNING:]
        spikes += len(running) >= FEWEST and spot.loss > SPIKE * sum(running) / len(running) > 0
        before.append(spot.loss)
    bad = [spot.place for spot in spots if not math.isfinite(spot.loss)]
    return Oddities(len(spots), len(bad), spikes, bad[0] if bad else None)
