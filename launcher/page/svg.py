"""Charts as inline SVG: the page's style sheet gives the colours, titles give the values under the pointer.

A column of a chart that has more points than columns shows all of them: the band from the smallest to the
largest and the line of their means. No point is left out, none stands for its neighbours.
"""

from __future__ import annotations

import math
from html import escape
from types import MappingProxyType
from typing import Iterator, Mapping, NamedTuple, Sequence

from launcher.page.scale import Scale, number

WIDTH = 760  # of the drawing, in its own units; the page stretches it
_LEFT, _RIGHT, _HEIGHT = 66, 12, 190  # margins, height of the plot
_COLUMNS = 240  # the most that are told apart
_COLOURS = 8
_LETTER = 6.6  # width of a letter, nearly
_APART, _LONGEST = 6, 80  # of bands: units between two, characters of a text


class Line(NamedTuple):
    """A curve: (x, y) by x. None, as no value is known there: a gap; NaN and infinity are marked."""

    name: str
    points: Sequence[tuple[float, float | None]]


class Band(NamedTuple):
    """What happened from `start` to `end` on the x axis, which may be equal. alert: in warning colour."""

    start: float
    end: float
    text: str
    alert: bool = False


class _Cell(NamedTuple):
    """The points of one curve in one column."""

    column: int
    low: float
    high: float
    total: float
    points: int

    def with_value(self, y: float) -> _Cell:
        return _Cell(self.column, min(self.low, y), max(self.high, y), self.total + y, self.points + 1)

    @property
    def mean(self) -> float:
        return min(self.high, max(self.low, self.total / self.points))


class _Columns:
    """The places on the x axis that are told apart: each x, or equal parts when there are too many."""

    def __init__(self, xs: Sequence[float]) -> None:
        self.xs = sorted(set(xs))
        self.scale = Scale(self.xs, _LEFT, WIDTH - _RIGHT)
        self._places = {x: place for place, x in enumerate(self.xs)} if len(self.xs) <= _COLUMNS else {}
        self._ends: dict[int, tuple[float, float]] = {}
        for x in self.xs:
            column = self.of(x)
            self._ends[column] = (self._ends.get(column, (x, x))[0], x)

    def of(self, x: float) -> int:
        if self._places:
            return self._places[x]
        share = (self.scale.at(x) - _LEFT) / (WIDTH - _RIGHT - _LEFT)
        return min(_COLUMNS - 1, max(0, int(share * _COLUMNS)))

    def named(self, column: int) -> str:
        """Name the x, or the first and the last x, of a column."""
        first, last = self._ends[column]
        return number(first) if first == last else f"{number(first)} to {number(last)}"

    def middle(self, column: int) -> float:
        """Return where the middle of a column is drawn."""
        if self._places:
            return self.scale.at(self.xs[column])
        return _LEFT + (column + 0.5) * (WIDTH - _RIGHT - _LEFT) / _COLUMNS


class _Curve(NamedTuple):
    """A curve as it is drawn: its unbroken parts, and the places of what is no number."""

    name: str
    parts: list[list[_Cell]]
    marks: list[tuple[int, float, float]]  # column, x, NaN or infinity


def line_chart(
    series: Sequence[Line], title: str, unit: str = "", log: bool = False, bands: Sequence[Band] = (),
    x_unit: str = "step",
) -> str:  # fmt: skip
    """Draw curves over one x axis; "" when there is no point at all. log: where all values are above 0."""
    drawn = [(name, _by_x(points)) for name, points in series]
    columns = _Columns([x for _, points in drawn for x, _ in points])
    if not columns.xs:
        return ""
    curves = [_curve(name, points, columns) for name, points in drawn]
    cells = [cell for curve in curves for part in curve.parts for cell in part]
    head, top = _head(title, unit, [curve.name for curve in curves])
    ends = [end for cell in cells for end in (cell.low, cell.high)]
    y = Scale(ends, top + _HEIGHT, top, log=log and bool(ends) and min(ends) > 0, loose=True)
    body = [head, *_axes(columns.scale, y, top, x_unit), *_bands(bands, columns, top)]
    for place, curve in enumerate(curves):
        body += _drawn(curve, place, columns, y, top)
    body += _readings(curves, columns, top, unit, x_unit)
    return drawing("chart", top + _HEIGHT + 26, title, body)


def _by_x(points: Sequence[tuple[float, float | None]]) -> list[tuple[float, float | None]]:
    return sorted((point for point in points if math.isfinite(point[0])), key=lambda point: point[0])


def _curve(name: str, points: Sequence[tuple[float, float | None]], columns: _Columns) -> _Curve:
    parts: list[list[_Cell]] = [[]]
    marks = []
    for x, y in points:
        column = columns.of(x)
        if y is None or not math.isfinite(y):
            parts.append([])
            if y is not None:
                marks.append((column, x, y))
        elif parts[-1] and parts[-1][-1].column == column:
            parts[-1][-1] = parts[-1][-1].with_value(y)
        else:
            parts[-1].append(_Cell(column, y, y, y, 1))
    return _Curve(name, [part for part in parts if part], marks)


def _head(title: str, unit: str, names: Sequence[str]) -> tuple[str, int]:
    """Write the title, and the names of several curves under it; return them and where the plot begins."""
    head = [f'<text class="title" x="0" y="14">{escape(title)}']
    head.append(f'<tspan class="unit"> {escape(unit)}</tspan></text>' if unit else "</text>")
    if len(names) < 2:
        return "".join(head), 26
    x, y = 0.0, 34
    for place, name in enumerate(names):
        wide = 24 + _LETTER * len(name)
        if x and x + wide > WIDTH:
            x, y = 0.0, y + 18
        head.append(f'<path class="line s{place % _COLOURS}" d="M{x:.0f} {y - 4}h12"/>')
        head.append(f'<text x="{x + 17:.0f}" y="{y}">{escape(name)}</text>')
        x += wide + 12
    return "".join(head), y + 12


def _axes(x: Scale, y: Scale, top: int, x_unit: str) -> Iterator[str]:
    for value in y.ticks(5):
        place = y.at(value)
        yield f'<path class="grid" d="M{_LEFT} {place:.1f}H{WIDTH - _RIGHT}"/>'
        yield tick(_LEFT - 8, place + 4, number(value), "end")
    ticks = x.ticks(7)
    for value in ticks:
        place = x.at(value)
        anchor = "end" if place > WIDTH - 40 else "middle"
        last = f" {x_unit}" if value == ticks[-1] else ""
        yield f'<path class="grid" d="M{place:.1f} {top + _HEIGHT}v4"/>'
        yield tick(place, top + _HEIGHT + 18, number(value) + last, anchor)


def _bands(bands: Sequence[Band], columns: _Columns, top: int) -> Iterator[str]:
    """Draw bands; those that would lie upon another are one, which counts them."""
    first, last = columns.xs[0], columns.xs[-1]
    found: dict[tuple[int, int, bool], list[str]] = {}
    for band in bands:
        if band.start <= last and band.end >= first:
            at = (columns.scale.at(min(last, max(first, x))) for x in (band.start, band.end))
            left, right = (round(x / _APART) * _APART for x in at)
            found.setdefault((left, right, band.alert), []).append(band.text)
    for (left, right, alert), texts in found.items():
        kind = "band alert" if alert else "band"
        told = f"{texts[0]:.{_LONGEST}}" + (f" … and {len(texts) - 1} more" if texts[1:] else "")
        yield (
            f'<rect class="{kind}" x="{left - 1}" y="{top}" width="{max(2, right - left)}" '
            f'height="{_HEIGHT}"><title>{escape(told)}</title></rect>'
        )


def _drawn(curve: _Curve, place: int, columns: _Columns, y: Scale, top: int) -> Iterator[str]:
    colour = f"s{place % _COLOURS}"
    for part in curve.parts:
        xs = [columns.middle(cell.column) for cell in part]
        if any(cell.points > 1 and cell.low < cell.high for cell in part):
            there = [f"{x:.1f} {y.at(cell.high):.1f}" for x, cell in zip(xs, part)]
            back = [f"{x:.1f} {y.at(cell.low):.1f}" for x, cell in zip(xs, part)]
            yield f'<path class="range {colour}" d="M{"L".join(there + back[::-1])}Z"/>'
        line = [f"{x:.1f} {y.at(cell.mean):.1f}" for x, cell in zip(xs, part)]
        yield f'<path class="line {colour}" d="M{"L".join(line)}{"h0" if len(line) == 1 else ""}"/>'
    for column, x, value in curve.marks[:_COLUMNS]:
        middle, low = columns.middle(column), top + _HEIGHT - 8
        yield (
            f'<path class="nan" d="M{middle - 4:.1f} {low}l8 8m0 -8l-8 8"><title>{escape(curve.name)}: '
            f"{number(value)} at {number(x)}</title></path>"
        )


def _readings(curves: Sequence[_Curve], columns: _Columns, top: int, unit: str, x_unit: str) -> Iterator[str]:
    """Lay over the plot a strip for each column that holds a value, which says the values."""
    texts: dict[int, list[str]] = {}
    for curve in curves:
        for cell in (cell for part in curve.parts for cell in part):
            texts.setdefault(cell.column, []).append(_reading(curve.name, cell, unit))
        for column, _, value in curve.marks:
            texts.setdefault(column, []).append(f"{curve.name}: {number(value)}")
    places = sorted(texts)
    middles = [columns.middle(place) for place in places]
    for index, place in enumerate(places):
        left = (middles[index - 1] + middles[index]) / 2 if index else _LEFT
        right = (middles[index] + middles[index + 1]) / 2 if index + 1 < len(places) else WIDTH - _RIGHT
        lines = [f"{x_unit} {columns.named(place)}", *texts[place][:12]]
        yield (
            f'<rect class="at" data-x="{middles[index]:.1f}" x="{left:.1f}" y="{top}" '
            f'width="{max(0.1, right - left):.1f}" height="{_HEIGHT}">'
            f"<title>{escape(chr(10).join(lines))}</title></rect>"
        )


def _reading(name: str, cell: _Cell, unit: str) -> str:
    end = f" {unit}" if unit else ""
    if cell.points == 1 or cell.low == cell.high:
        return f"{name}: {number(cell.mean)}{end}"
    return f"{name}: {number(cell.low)} to {number(cell.high)}, mean {number(cell.mean)}{end}"


def tick(x: float, y: float, words: str, anchor: str = "start") -> str:
    """Write a few words at a place, of which `anchor` (start, middle, end) says the side."""
    return f'<text class="tick" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def drawing(
    kind: str, height: float, title: str, body: Sequence[str], data: Mapping[str, str] = MappingProxyType({})
) -> str:
    """Put a drawing together; `data` is for the page's script."""
    about = {"viewBox": f"0 0 {WIDTH} {height:.0f}", "role": "img", "aria-label": title}
    about.update((f"data-{name}", value) for name, value in data.items())
    words = "".join(f' {name}="{escape(value)}"' for name, value in about.items())
    return f'<svg class="{kind}"{words}>{"".join(body)}</svg>'
