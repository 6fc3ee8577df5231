"""Several runs of a benchmark as one: the mean of their losses, and the band from the least to the most."""

from __future__ import annotations

import math
from typing import NamedTuple, Sequence

from launcher.compare.align import Aligned, Pair, Spot, align, at, spots
from launcher.compare.curve import Curve, Point
from launcher.compare.figures import Error, error
from launcher.compare.rates import intervals


class Band(NamedTuple):
    """The least and the most of several losses at a place."""

    place: float
    low: float
    high: float


class Benchmark(NamedTuple):
    """One curve for several runs.

    band: none where they could not be aligned. errors: of each run against the mean.
    """

    curve: Curve
    band: tuple[Band, ...] = ()
    errors: tuple[Error, ...] = ()


def benchmark(curves: Sequence[Curve], names: Sequence[str]) -> Benchmark:
    """Make one benchmark of some curves: of one alone it is that, without a band.

    Where two of them cannot be aligned, it is the first, and a note of the curve says why.
    """
    first = curves[0]
    if len(curves) == 1:
        return Benchmark(first)
    aligned = [align(first, other, (names[0], name)) for other, name in zip(curves[1:], names[1:])]
    by, problem = aligned[0].by, _problem(aligned)
    found = [] if problem else [spots(curve, by) for curve in curves]
    places = _places(found)
    if not places:
        note = f"it stands alone, no mean of several: {problem or 'no place in common'}"
        return Benchmark(first._replace(notes=(*first.notes, note)))
    rows = [(place, [at(one, place) for one in found]) for place in places]
    means = [sum(losses) / len(losses) for _, losses in rows]
    errors = [
        error([Pair(place, mean, losses[run]) for (place, losses), mean in zip(rows, means)])
        for run in range(len(curves))
    ]
    curve = _joined(curves, [_point(by, place, mean) for place, mean in zip(places, means)])
    return Benchmark(curve, tuple(_band(place, losses) for place, losses in rows), tuple(errors))


def _problem(aligned: Sequence[Aligned]) -> str:
    if any(one.by != aligned[0].by for one in aligned if not one.problem):
        return "examples are known of some runs only"
    return next((one.problem for one in aligned if one.problem), "")


def _places(found: Sequence[Sequence[Spot]]) -> list[float]:
    """Return the places of the sparsest curve in the range of all."""
    if not found:
        return []
    low, high = max(one[0].place for one in found), min(one[-1].place for one in found)
    return [spot.place for spot in min(found, key=len) if low <= spot.place <= high]


def _point(by: str, place: float, loss: float) -> Point:
    empty = Point(None, None, None, None, None, None)
    return empty._replace(loss=loss, **({"examples": place} if by == "examples" else {"step": round(place)}))


def _band(place: float, losses: Sequence[float]) -> Band:
    finite = [loss for loss in losses if math.isfinite(loss)] or [math.nan]
    return Band(place, min(finite), max(finite))


def _joined(curves: Sequence[Curve], points: Sequence[Point]) -> Curve:
    """Return a curve of such points, with the mean scores and the rates of all."""
    first = curves[0]
    alike = all((one.rate_is, one.ranks) == (first.rate_is, first.ranks) for one in curves)
    rates = [value for one in curves for value in intervals(one)] if alike else []
    shared = [name for name in first.scores if all(name in one.scores for one in curves)]
    return first._replace(
        points=(*points, *(Point(None, None, None, None, value, None) for value in rates)),
        scores={name: sum(one.scores[name] for one in curves) / len(curves) for name in shared},
        notes=tuple(dict.fromkeys(note for one in curves for note in one.notes)),
    )


def share_within(band: Sequence[Band], aligned: Aligned) -> float | None:
    """Return the share of B's places whose loss lies in the band; None where there is none."""
    low = [Spot(one.place, one.low) for one in band]
    high = [Spot(one.place, one.high) for one in band]
    inside = [
        at(low, pair.place) <= pair.b <= at(high, pair.place)
        for pair in aligned.pairs
        if band and band[0].place <= pair.place <= band[-1].place
    ]
    return sum(inside) / len(inside) if inside else None
