"""Examples per second of two curves in one unit: per device, and of all devices."""

from __future__ import annotations

import math
from typing import NamedTuple, Sequence

from launcher.compare.align import place_of
from launcher.compare.curve import Curve

SLOW = 0.5  # of the median: an interval below holds a save, an evaluation or another pause
UNITS = ("per device", "all devices")


class Rate(NamedTuple):
    """Examples per second over the intervals of a curve, without the first, which holds the warm-up.

    slow: intervals below SLOW of the median, which are left out, too.
    """

    median: float
    p5: float
    p95: float
    intervals: int
    slow: int


class Rates(NamedTuple):
    """The rates of both in a unit, and B's median by A's."""

    unit: str
    a: Rate
    b: Rate
    ratio: float


class RateFigures(NamedTuple):
    """The rates in every unit that both can be told in, per device first; none where `problem` says why."""

    rates: tuple[Rates, ...]
    problem: str = ""
    notes: tuple[str, ...] = ()


def compare_rates(a: Curve, b: Curve, names: tuple[str, str] = ("A", "B")) -> RateFigures:
    """Compare the rates of two curves. names: how they are called in problems and hints."""
    values = intervals(a), intervals(b)
    for name, found in zip(names, values):
        if not found:
            return RateFigures((), f"{name} holds no rate")
    scales = factors(a), factors(b)
    rates = []
    for unit in UNITS:
        if all(unit in factor for factor in scales):
            first, second = (
                rate([value * factor[unit] for value in found]) for found, factor in zip(values, scales)
            )
            ratio = second.median / first.median if first.median else math.inf  # what is tiny, by ranks
            rates.append(Rates(unit, first, second, ratio))
    missing = [name for name, factor in zip(names, scales) if len(factor) < len(UNITS)]
    hint = "give " + " ".join(f"--ranks {name}=N" for name in missing)
    if not rates:
        told = ", ".join(f"{name}'s rate is {_told(curve)}" for name, curve in zip(names, (a, b)))
        return RateFigures((), f"not comparable: {told}; {hint}")
    notes = (f"{' and '.join(missing)}: the number of devices is not known; {hint}",) if missing else ()
    return RateFigures(tuple(rates), "", notes)


def _told(curve: Curve) -> str:
    texts = {"global": "of all its devices", "per device": "per device"}
    return texts.get(curve.rate_is, "either per device or of all")


def factors(curve: Curve) -> dict[str, float]:
    """Map the units in which a curve's rate can be told to what its numbers are multiplied by."""
    ranks = float(curve.ranks or 0)
    if curve.rate_is == "global" or not _written(curve):
        return {"all devices": 1.0, **({"per device": 1 / ranks} if ranks else {})}
    if curve.rate_is == "per device":
        return {"per device": 1.0, **({"all devices": ranks} if ranks else {})}
    return {"per device": 1.0, "all devices": 1.0} if ranks == 1 else {}


def _written(curve: Curve) -> list[float]:
    return [point.rate for point in curve.points if point.rate is not None and 0 < point.rate < math.inf]


def intervals(curve: Curve) -> list[float]:
    """Return the rates of a curve in its own unit, without the first of several.

    Where none are written, they are those of all devices, from the examples and times of the points.
    """
    found = _written(curve) or _from_times(curve)
    return found[1:] if len(found) > 2 else found


def _from_times(curve: Curve) -> list[float]:
    found = []
    places = [(place_of(point, curve, "examples"), point.time) for point in curve.points]
    known = [(examples, time) for examples, time in places if examples is not None and time is not None]
    for (seen, begin), (now, end) in zip(known, known[1:]):
        if now > seen and end > begin:  # neither a restart nor a clock that was set back
            found.append((now - seen) / (end - begin))
    return [value for value in found if 0 < value < math.inf]


def rate(values: Sequence[float]) -> Rate:
    """Summarise rates, of which there is one at least."""
    ordered = sorted(values)
    least = SLOW * quantile(ordered, 0.5)
    usual = [value for value in ordered if value >= least]
    slow = len(ordered) - len(usual)
    return Rate(quantile(usual, 0.5), quantile(usual, 0.05), quantile(usual, 0.95), len(usual), slow)


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which a share of ascending values lies, between two of them on a line.

    >>> quantile([1, 2, 3, 4], 0.5)
    2.5
    """
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
