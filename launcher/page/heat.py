"""A heat map as inline SVG: a row for each rank, a column for each span of time.

Where there are too many rows for a page, several share one, which shows the largest of their values: one slow
rank among many is seen.
"""

from __future__ import annotations

import math
from html import escape
from typing import Iterator, NamedTuple, Sequence

from launcher.page.scale import number
from launcher.page.svg import WIDTH, drawing, tick

ROWS, COLUMNS, LEVELS = 64, 96, 9
_LEFT, _TOP = 96, 26
_LIKE = 1.1  # values that differ by less than this share have nearly one colour: that is noise
Values = Sequence["float | None"]


class _Row(NamedTuple):
    name: str
    values: list[float | None]


def heat_map(
    rows: Sequence[str], columns: Sequence[str], values: Sequence[Values], title: str, unit: str = ""
) -> str:
    """Draw values[row][column]; None: not known. "" when there is none."""
    spans = _parts(len(columns), COLUMNS)
    names = [_span([columns[place] for place in span]) for span in spans]
    drawn = [
        _Row(_span([rows[place] for place in group]), [_largest_mean(values, group, span) for span in spans])
        for group in _parts(len(rows), ROWS)
    ]
    known = sorted(value for row in drawn for value in row.values if value is not None)
    if not known:
        return ""
    low, high = known[len(known) // 50], known[-1 - len(known) // 50]
    high = max(high, low * _LIKE)
    tall = max(5.0, min(16.0, 260.0 / len(drawn)))
    body = [f'<text class="title" x="0" y="14">{escape(title)}']
    body.append(f'<tspan class="unit"> {escape(unit)}</tspan></text>' if unit else "</text>")
    body += _legend(low, high)
    for place, row in enumerate(drawn):
        body += _row(row, place, len(drawn), tall, low, high, unit)
    bottom = _TOP + tall * len(drawn)
    body.append(tick(_LEFT, bottom + 15, names[0]))
    if names[1:]:
        body.append(tick(WIDTH, bottom + 15, names[-1], "end"))
    data = {"left": str(_LEFT), "right": str(WIDTH), "columns": "|".join(names)}
    return drawing("heat", bottom + 22, title, body, data)


def _parts(number_of: int, most: int) -> list[range]:
    """Divide places into at most so many groups of neighbours, as equal as can be."""
    groups = min(number_of, most)
    return [range(place * number_of // groups, (place + 1) * number_of // groups) for place in range(groups)]


def _span(names: Sequence[str]) -> str:
    """Name a group by its ends.

    >>> _span(["rank 0", "rank 1", "rank 2"])
    'rank 0-2'
    """
    first, last = names[0], names[-1]
    if first == last:
        return first
    before, _, end = last.rpartition(" ")
    return f"{first}-{end}" if before and first.startswith(before + " ") else f"{first} to {last}"


def _largest_mean(values: Sequence[Values], group: Sequence[int], span: Sequence[int]) -> float | None:
    found = []
    for row in group:
        known = [v for v in (values[row][place] for place in span) if v is not None and math.isfinite(v)]
        if known:
            found.append(sum(known) / len(known))
    return max(found, default=None)


def _row(
    row: _Row, place: int, number_of: int, tall: float, low: float, high: float, unit: str
) -> Iterator[str]:
    top, wide = _TOP + tall * place, (WIDTH - _LEFT) / len(row.values)
    known = [value for value in row.values if value is not None]
    told = (
        f"mean {number(sum(known) / len(known))}, most {number(max(known))} {unit}" if known else "no value"
    )
    data = ",".join("" if value is None else f"{value:.4g}" for value in row.values)
    yield f'<g data-name="{escape(row.name)}" data-v="{data}"><title>{escape(row.name)}: {told}</title>'
    paths: dict[int, list[str]] = {}
    for column, value in enumerate(row.values):
        level = 0 if value is None else 1 + _level(value, low, high)
        paths.setdefault(level, []).append(f"M{_LEFT + column * wide:.1f} {top + tall / 2:.1f}h{wide:.1f}")
    for level, parts in sorted(paths.items()):
        kind = f"h{level - 1}" if level else "unknown"
        yield f'<path class="{kind}" stroke-width="{max(tall - 1, tall * 0.8):.1f}" d="{"".join(parts)}"/>'
    yield "</g>"
    if place % max(1, round(number_of / 16)) == 0:
        yield tick(_LEFT - 8, top + tall / 2 + 4, row.name[:14], "end")


def _level(value: float, low: float, high: float) -> int:
    share = (value - low) / (high - low) if high > low else 0.0
    return min(LEVELS - 1, max(0, int(share * LEVELS)))


def _legend(low: float, high: float) -> Iterator[str]:
    right = WIDTH - 70
    yield tick(right - LEVELS * 14 - 6, 14, f"{low:.3g}", "end")
    for level in range(LEVELS):
        x = right - (LEVELS - level) * 14
        yield f'<path class="h{level}" stroke-width="10" d="M{x} 10h14"/>'
    yield tick(right + 6, 14, f"{high:.3g}")
