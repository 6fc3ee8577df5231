"""The page of comparisons: both curves, their difference and the rates, with the table of each."""

from __future__ import annotations

import math
from typing import Iterator, Sequence

from launcher.compare.align import place_of, spots
from launcher.compare.comparison import Comparison
from launcher.compare.curve import Curve
from launcher.compare.rates import factors
from launcher.compare.table import sections, verdict_line
from launcher.page import html
from launcher.page.svg import Line, line_chart

_LARGEST = 1e100  # of a value on an axis


def render(found: Sequence[Comparison]) -> str:
    """Return one HTML document that needs no other file and no network."""
    parts = [
        {
            "names": f"{one.a.name} and {one.b.name}",
            "title": verdict_line(one),
            "outcome": one.outcome,
            "charts": [chart for chart in charts(one) if chart],
            "sections": list(sections(one)),
        }
        for one in found
    ]
    return html.render("compare.html.j2", parts=parts)


def charts(found: Comparison) -> Iterator[str]:
    """Draw the losses, their difference, and the rates in the first unit that both have."""
    a, b, aligned = found.a, found.b, found.aligned
    by = aligned.by or "examples"
    losses = [Line(side.name, spots(side.curve, by)) for side in (a, b)]
    for name in ("low", "high") if found.band else ():
        losses.append(Line(f"benchmark, {name}", [(one.place, getattr(one, name)) for one in found.band]))
    yield _drawn(losses, "loss", by)
    apart = Line(f"{b.name} - {a.name}", [(pair.place, pair.b - pair.a) for pair in aligned.pairs])
    yield _drawn([apart], f"difference of the losses, {b.name} - {a.name}", by)
    for rates in found.rates.rates[:1]:
        lines = [Line(side.name, list(_rates(side.curve, rates.unit, by))) for side in (a, b)]
        yield _drawn(lines, f"examples/s, {rates.unit}", by)


def _drawn(lines: Sequence[Line], title: str, by: str) -> str:
    """Draw lines; what is too large for an axis is marked as infinite."""
    shown = [Line(name, [(x, _drawable(y)) for x, y in points]) for name, points in lines]
    return line_chart(shown, title, x_unit=by)


def _rates(curve: Curve, unit: str, by: str) -> Iterator[tuple[float, float]]:
    """Yield the written rates of a curve by place, in a unit."""
    factor = factors(curve)[unit]
    for point in curve.points:
        place = place_of(point, curve, by)
        if place is not None and point.rate is not None:
            yield place, point.rate * factor


def _drawable(y: float | None) -> float | None:
    return y if y is None or not abs(y) > _LARGEST else math.copysign(math.inf, y)
