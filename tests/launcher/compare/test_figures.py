"""Figures of two losses on one axis."""

from __future__ import annotations

import math
from typing import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.compare.align import Pair, Spot, align
from launcher.compare.figures import Parting, correlation, error, loss_figures, oddities, parting, smoothed
from tests.launcher.compare.curves import curve, falling

NAN, INF = math.nan, math.inf


def pairs(a: Sequence[float], b: Sequence[float]) -> list[Pair]:
    return [Pair(place + 1.0, *both) for place, both in enumerate(zip(a, b))]


def test_errors_are_means_over_places_and_the_level_that_of_the_means() -> None:
    found = error(pairs([1.0, 2.0, 4.0], [1.1, 1.8, 4.0]))
    assert found.places == 3
    assert found.absolute == pytest.approx(0.1)
    assert found.relative == pytest.approx((0.1 + 0.1 + 0) / 3)
    assert found.level == pytest.approx(6.9 / 7 - 1)


def test_noise_that_cancels_is_in_the_errors_and_not_in_the_level() -> None:
    found = error(pairs([1.0] * 4, [1.2, 0.8, 1.1, 0.9]))
    assert found.relative == pytest.approx(0.15) and found.level == pytest.approx(0)


@pytest.mark.parametrize(
    ("a", "b", "places", "zeros", "only"),
    [
        ([0.0, 0.0], [0.0, 1.0], 2, 2, (0, 0)),
        ([1.0, NAN, INF], [1.0, 1.0, 1.0], 3, 0, (2, 0)),
        ([1.0, 1.0], [1.0, NAN], 2, 0, (0, 1)),
        ([NAN, INF], [NAN, INF], 2, 0, (0, 0)),
        ([], [], 0, 0, (0, 0)),
    ],
)  # fmt: skip
def test_places_without_a_relative_error_are_counted(
    a: list[float], b: list[float], places: int, zeros: int, only: tuple[int, int]
) -> None:
    found = error(pairs(a, b))
    assert (found.places, found.zeros, found.only_a, found.only_b) == (places, zeros, *only)
    assert found.relative is None or found.relative == 0


@pytest.mark.parametrize(
    ("b", "first", "lasting", "left"),
    [
        ([1.0, 1.0, 1.0, 1.0], None, None, 0),
        ([1.0, 1.005, 0.995, 1.0099], None, None, 0),
        ([1.0, 1.1, 1.0, 1.0], 2, None, 0),
        ([1.0, 1.1, 1.0, 1.2], 2, 4, 1),
        ([1.1, 1.1, 1.1, 0.8], 1, 1, 4),
        ([1.0, 1.0, NAN, NAN], 3, 3, 2),
        ([1.0, 1.0, INF, 1.0], 3, None, 0),
    ],
)  # fmt: skip
def test_curves_part_at_the_first_place_beyond_and_for_good_where_it_stays_so(
    b: list[float], first: float | None, lasting: float | None, left: int
) -> None:
    assert parting(pairs([1.0] * 4, b)) == Parting(first, lasting, left)


def test_two_curves_that_are_both_nan_do_not_part() -> None:
    assert parting(pairs([1.0, NAN, INF], [1.0, NAN, INF])) == Parting(None, None, 0)
    assert parting(pairs([INF], [-INF])).first == 1


@pytest.mark.parametrize(("places", "few"), [(100, 10), (20, 3), (6, 3), (5, 2), (2, 1), (1, 0)])
def test_the_early_and_the_late_part_never_share_a_place(places: int, few: int) -> None:
    values = falling(places)
    found = loss_figures(align(curve(values), curve(values)))
    assert (found.early.places, found.late.places, found.whole.places) == (few, few, places)


def test_a_run_that_is_off_at_its_end_alone_is_off_late_alone() -> None:
    a = falling(100)
    found = loss_figures(align(curve(a), curve(falling(100, lambda place: 1.05 if place >= 90 else 1.0))))
    assert found.early.relative == 0 and found.late.relative == pytest.approx(0.05)
    assert found.parting == Parting(9100, 9100, 10)


def test_smoothed_curves_correlate_in_spite_of_noise_and_not_with_their_opposite() -> None:
    a = falling(60)
    noisy = [value * (1.1 if place % 2 else 0.9) for place, value in enumerate(a)]
    assert (correlation(pairs(a, noisy)) or 0) > 0.99
    assert (correlation(pairs(a, [5 - value for value in a])) or 0) == pytest.approx(-1)


@pytest.mark.parametrize("b", [[1.0, 1.0, 1.0], [NAN, 1.0, 2.0], [1e200, -1e200, 1e200]])
def test_a_flat_or_short_curve_has_no_correlation(b: list[float]) -> None:
    assert correlation(pairs([3.0, 2.0, 1.0], b)) is None


def test_smoothing_begins_at_the_first_value() -> None:
    assert smoothed([2.0, 2.0, 2.0]) == pytest.approx([2.0, 2.0, 2.0])


def test_a_spike_is_half_as_much_again_as_the_mean_of_the_points_before() -> None:
    def spikes(values: list[float]) -> int:
        return oddities([Spot(place, value) for place, value in enumerate(values)]).spikes

    assert spikes([1.0, 1.0, 1.0, 1.6, 1.0, 1.0]) == 1
    assert spikes([1.0, 1.0, 1.0, 1.4]) == 0
    assert spikes([1.0, 9.0, 1.0]) == 0  # nothing to be compared with yet
    assert spikes(falling(200)) == 0
    assert spikes([10.0] * 30 + [1.0] * 30 + [2.0]) == 1  # by the loss of now, not of the start
    assert spikes([-1.0] * 5 + [1.0]) == 0  # no share of a negative mean


def test_the_first_nan_is_named_by_its_place() -> None:
    found = oddities([Spot(10, 1.0), Spot(20, NAN), Spot(30, INF), Spot(40, 1.0)])
    assert (found.points, found.not_finite, found.first_not_finite) == (4, 2, 20)


@given(st.lists(st.tuples(st.floats(0.01, 100), st.floats(0.01, 100)), min_size=1, max_size=30))
def test_a_curve_beside_itself_differs_by_nothing(values: list[tuple[float, float]]) -> None:
    a = [first for first, _ in values]
    found = error(pairs(a, a))
    assert found.absolute == found.relative == 0
    both = error(pairs(a, [second for _, second in values]))
    assert both.absolute is not None and both.absolute >= 0 and both.relative is not None
