"""Axes: from values to places, and the round values that are written beside them."""

from __future__ import annotations

import math
from typing import Sequence

_LARGEST = 1e250  # what is beyond stands at the end of an axis


class Scale:
    """An axis on which the smallest value stands at `start` and the largest at `end`.

    loose: a little room beyond both, and 0 where that is near.
    """

    def __init__(
        self, values: Sequence[float], start: float, end: float, log: bool = False, loose: bool = False
    ) -> None:
        self._log = log
        ends = (min(values), max(values)) if values else (0.0, 1.0)
        low, high = (min(_LARGEST, max(-_LARGEST, end)) for end in ends)
        self._low, self._high = self._wide(low, high, loose)
        self._start, self._end = start, end

    def _wide(self, low: float, high: float, loose: bool) -> tuple[float, float]:
        """Return the ends as they are drawn (their logarithms on a log axis), never equal."""
        if self._log:
            low, high = math.log10(low), math.log10(high)
        if high - low <= max(1 / _LARGEST, 1e-9 * max(abs(low), abs(high))):
            half = max(0.5 if self._log else 0.1 * abs(low), 1e-12) if low else 0.5
            return low - half, high + half
        if not loose:
            return low, high
        if not self._log and 0 <= low < 0.35 * high:
            return 0.0, high + 0.05 * high
        return low - 0.05 * (high - low), high + 0.05 * (high - low)

    def at(self, value: float) -> float:
        """Return the place of a value."""
        if self._log:
            value = math.log10(value) if value > 0 else self._low
        share = min(1.0, max(0.0, (value - self._low) / (self._high - self._low)))
        return self._start + share * (self._end - self._start)

    def ticks(self, most: int) -> list[float]:
        """List round values on the axis, about as many as `most`."""
        if self._log and self._high - self._low >= 1:
            apart = max(1, math.ceil((self._high - self._low) / most))
            powers = range(math.ceil(self._low), math.floor(self._high) + 1, apart)
            return [10.0**power for power in powers]
        low, high = (10.0**self._low, 10.0**self._high) if self._log else (self._low, self._high)
        step = _round_step((high - low) / most)
        first = math.ceil(low / step)
        return [(first + place) * step for place in range(2 * most) if (first + place) * step <= high]


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= rough * 0.999)


def number(value: float) -> str:
    """Write a number short.

    >>> [number(value) for value in (0.123456, 12000, 3e-05, 20, float("nan"), float("inf"))]
    ['0.12346', '12,000', '3e-05', '20', 'NaN', 'infinity']
    """
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "infinity" if value > 0 else "-infinity"
    if value == int(value) and abs(value) < 1e9:
        return f"{int(value):,}"
    return f"{value:,.0f}" if 1e5 <= abs(value) < 1e9 else f"{value:.5g}"
