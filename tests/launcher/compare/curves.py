"""Curves for the tests of comparing."""

from __future__ import annotations

from typing import Any, Callable, Sequence

from launcher.compare.curve import Curve, Point


def curve(
    losses: Sequence[float | None], every: float = 100, first: float | None = None, **about: Any
) -> Curve:
    """Make a curve whose losses stand `every` examples apart, the first at `first`."""
    begin = every if first is None else first
    points = [Point(examples=begin + every * place, loss=loss) for place, loss in enumerate(losses)]
    return Curve("a.log", about.pop("kind", "test"), tuple(points), **about)


def by_step(losses: Sequence[float], every: int = 100, **about: Any) -> Curve:
    """Make a curve that knows its steps alone."""
    points = [Point(step=every * (place + 1), loss=loss) for place, loss in enumerate(losses)]
    return Curve("b.log", "test", tuple(points), **about)


def with_rates(rates: Sequence[float | None], **about: Any) -> Curve:
    """Make a curve of rates."""
    points = [Point(step=place + 1, loss=1.0, rate=rate) for place, rate in enumerate(rates)]
    return Curve("c.log", "test", tuple(points), **about)


def falling(places: int, factor: Callable[[int], float] = lambda place: 1.0) -> list[float]:
    """List losses that fall from 4 to 1, each times a factor."""
    return [(1 + 3 * 0.97**place) * factor(place) for place in range(places)]
