"""Two curves of losses on one axis: examples seen, as steps of other batch sizes train more or less.

Where the points of the two lie at other places, those of the sparser curve are kept and the other is read
between its points, along straight lines.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from typing import NamedTuple, Sequence

from launcher.compare.curve import Curve, Point
from launcher.compare.formats.huggingface import CONSOLE, FACTORY, STATE

MEANS = frozenset([CONSOLE, STATE, FACTORY])  # kinds whose loss is the mean since the line before


class Spot(NamedTuple):
    """A loss, which may be NaN or infinite, and its place on the axis."""

    place: float
    loss: float


class Pair(NamedTuple):
    """The losses of both curves at one place."""

    place: float
    a: float
    b: float


class Aligned(NamedTuple):
    """Two curves on one axis.

    by: "examples" or "steps". pairs: places ascending; none where `problem` says why. a, b: the spots of each
    curve within the range that both have; all of them where they cannot be aligned.
    """

    by: str
    pairs: tuple[Pair, ...]
    a: tuple[Spot, ...]
    b: tuple[Spot, ...]
    problem: str = ""
    notes: tuple[str, ...] = ()


def align(a: Curve, b: Curve, names: tuple[str, str] = ("A", "B")) -> Aligned:
    """Bring two curves onto one axis. names: how the two are called in problems, notes and hints."""
    for name, curve in zip(names, (a, b)):
        if not any(point.loss is not None for point in curve.points):
            told = [note for note in curve.notes if note.startswith("holds no loss")]
            return _apart(a, b, f"{name} {told[0] if told else 'holds no loss'}")
    by, problem, notes = _axis(a, b, names)
    if problem:
        return _apart(a, b, problem)
    first, second = spots(a, by), spots(b, by)
    if not first or not second:
        return _apart(a, b, f"{names[0] if not first else names[1]} says at no line how far it was")
    low, high = max(first[0].place, second[0].place), min(first[-1].place, second[-1].place)
    if low > high:
        return _apart(a, b, f"no overlap: {_range(names[0], first)}, {_range(names[1], second)} {by}", by)
    inside = _within(first, low, high), _within(second, low, high)
    a_leads = len(inside[0]) <= len(inside[1])
    sparse, dense = (inside[0], second) if a_leads else (inside[1], first)
    if (a.kind in MEANS, b.kind in MEANS) == (a_leads, not a_leads):
        notes += (
            f"{names[0 if a_leads else 1]}'s losses are means since its line before: so are the other's",
        )
        other = means(dense, sparse)
    else:
        other = [at(dense, spot.place) for spot in sparse]
    pairs = [
        Pair(spot.place, spot.loss, value) if a_leads else Pair(spot.place, value, spot.loss)
        for spot, value in zip(sparse, other)
    ]
    problem = "" if pairs else "no place in common"
    return Aligned(by, tuple(pairs), tuple(inside[0]), tuple(inside[1]), problem, notes)


def _apart(a: Curve, b: Curve, problem: str, by: str = "") -> Aligned:
    return Aligned(by, (), tuple(_in_order(a)), tuple(_in_order(b)), problem)


def _in_order(curve: Curve) -> list[Spot]:
    losses = [point.loss for point in curve.points if point.loss is not None]
    return [Spot(float(place), loss) for place, loss in enumerate(losses)]


def _range(name: str, found: Sequence[Spot]) -> str:
    return f"{name} has {found[0].place:.0f} to {found[-1].place:.0f}"


def _axis(a: Curve, b: Curve, names: tuple[str, str]) -> tuple[str, str, tuple[str, ...]]:
    """Choose the axis; return it, or a problem that says which hint is needed, and notes."""
    unknown = [name for name, curve in zip(names, (a, b)) if not _counts_examples(curve)]
    if not unknown:
        return "examples", "", ()
    if not all(any(point.step is not None for point in curve.points) for curve in (a, b)):
        return "", _needed(unknown), ()
    if len(unknown) == 1:
        return "", _needed(unknown), ()
    hints = " ".join(f"--global-batch {name}=N" for name in names)
    note = (
        f"ALIGNED BY STEP: nothing says how many examples a step of {names[0]} or {names[1]} sees; "
        f"unless both see equally many, the figures of the loss are wrong. Give {hints}"
    )
    return "steps", "", (note,)


def _needed(unknown: Sequence[str]) -> str:
    hints = " ".join(f"--global-batch {name}=N" for name in unknown)
    return f"nothing says how many examples {' and '.join(unknown)} had seen at a line; give {hints}"


def _counts_examples(curve: Curve) -> bool:
    return any(
        point.loss is not None and place_of(point, curve, "examples") is not None for point in curve.points
    )


def place_of(point: Point, curve: Curve, by: str) -> float | None:
    """Return the place of a point on an axis, finite; None where nothing says it."""
    if by == "steps":
        place = None if point.step is None else float(point.step)
    elif point.examples is not None:
        place = float(point.examples)
    elif point.step is not None and curve.global_batch:
        place = float(point.step) * curve.global_batch
    else:
        place = None
    return place if place is not None and abs(place) < 1e300 else None


def step_at(curve: Curve, place: float, by: str) -> int | None:
    """Return the step of the point of a curve that is nearest to a place; None where steps are not known."""
    near: tuple[float, int] | None = None
    for point in curve.points:
        own = place_of(point, curve, by)
        if own is not None and point.step is not None and (near is None or abs(own - place) < near[0]):
            near = abs(own - place), point.step
    return near[1] if near else None


def spots(curve: Curve, by: str) -> list[Spot]:
    """Return the losses of a curve, places ascending: of what a restart repeats, the last counts."""
    found: list[Spot] = []
    for point in curve.points:
        place = place_of(point, curve, by)
        if point.loss is None or place is None:
            continue
        while found and found[-1].place >= place:
            found.pop()
        found.append(Spot(place, float(point.loss)))
    return found


def _within(found: Sequence[Spot], low: float, high: float) -> list[Spot]:
    return [spot for spot in found if low <= spot.place <= high]


def means(dense: Sequence[Spot], sparse: Sequence[Spot]) -> list[float]:
    """Average a curve from each place of another, exclusive, to the next; where it has no point, read it."""
    ends = [bisect_right(dense, (spot.place, math.inf)) for spot in sparse]
    apart = sparse[1].place - sparse[0].place if len(sparse) > 1 else 0.0
    starts = [bisect_right(dense, (spot.place - apart, math.inf)) for spot in sparse[:1]] + ends
    losses = [[spot.loss for spot in dense[start:end]] for start, end in zip(starts, ends)]
    return [sum(own) / len(own) if own else at(dense, spot.place) for own, spot in zip(losses, sparse)]


def at(found: Sequence[Spot], place: float) -> float:
    """Read a curve at a place within its range, between two points along a straight line."""
    index = bisect_left(found, Spot(place, float("-inf")))
    right = found[min(index, len(found) - 1)]
    if right.place <= place or index == 0:
        return right.loss
    left = found[index - 1]
    share = (place - left.place) / (right.place - left.place)
    return left.loss * (1 - share) + right.loss * share
