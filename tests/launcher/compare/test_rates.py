"""Examples per second in one unit."""

from __future__ import annotations

import math
from typing import Any

import pytest

from launcher.compare.curve import Curve, Point
from launcher.compare.rates import compare_rates, rate
from tests.launcher.compare.curves import with_rates

STEADY = [5.0, 100.0, 100.0, 100.0]  # the first interval holds the warm-up


def ratios(a: Curve, b: Curve) -> dict[str, float]:
    return {one.unit: one.ratio for one in compare_rates(a, b).rates}


def test_eight_devices_beside_one_are_told_apart_per_device_and_in_all() -> None:
    eight = with_rates(STEADY, rate_is="global", ranks=8)
    one = with_rates([5.0, 20.0, 20.0, 20.0], rate_is="per device", ranks=1)
    assert ratios(eight, one) == {"per device": 1.6, "all devices": 0.2}


@pytest.mark.parametrize(
    ("a", "b", "units"),
    [
        ({"rate_is": "global"}, {"rate_is": "global"}, ["all devices"]),
        ({"rate_is": "per device"}, {"rate_is": "per device", "ranks": 8}, ["per device"]),
        ({"ranks": 1}, {"rate_is": "global", "ranks": 2}, ["per device", "all devices"]),
        ({"rate_is": "global"}, {"rate_is": "per device", "ranks": 8}, ["all devices"]),
    ],
)  # fmt: skip
def test_the_units_are_those_that_both_can_be_told_in(a: Any, b: Any, units: list[str]) -> None:
    assert list(ratios(with_rates(STEADY, **a), with_rates(STEADY, **b))) == units


@pytest.mark.parametrize(
    ("a", "b", "hint"),
    [
        ({"rate_is": "global"}, {"rate_is": "per device"}, "give --ranks A=N --ranks B=N"),
        ({"ranks": 8}, {"rate_is": "global", "ranks": 8}, "A's rate is either per device or"),
    ],
)  # fmt: skip
def test_rates_without_a_common_unit_are_not_comparable_and_that_says_why(a: Any, b: Any, hint: str) -> None:
    found = compare_rates(with_rates(STEADY, **a), with_rates(STEADY, **b))
    assert not found.rates and found.problem.startswith("not comparable: ") and hint in found.problem


def test_a_rate_that_is_missing_on_a_side_is_named() -> None:
    found = compare_rates(with_rates(STEADY, ranks=1), with_rates([None, math.nan, 0.0, math.inf], ranks=1))
    assert found.problem == "B holds no rate"


def test_the_number_of_devices_is_asked_for_where_one_unit_is_lost() -> None:
    found = compare_rates(with_rates(STEADY, rate_is="global"), with_rates(STEADY, rate_is="global", ranks=8))
    assert found.notes == ("A: the number of devices is not known; give --ranks A=N",)


def test_intervals_with_a_save_are_left_out_and_counted() -> None:
    found = rate([100.0] * 18 + [20.0, 30.0])
    assert (found.median, found.p5, found.p95, found.intervals, found.slow) == (100, 100, 100, 18, 2)


def test_rates_vary_between_their_percentiles() -> None:
    found = rate([float(value) for value in range(80, 121)])
    assert (found.median, found.p5, found.p95) == (100, 82, 118)


def test_a_log_without_rates_has_those_of_its_examples_and_times() -> None:
    points = tuple(Point(examples=place * 50.0, time=1000.0 + place * 2, loss=1.0) for place in range(6))
    timed = Curve("a", "test", points, ranks=2)
    found = compare_rates(timed, with_rates(STEADY, rate_is="global", ranks=2))
    assert [(one.a.median, one.ratio) for one in found.rates] == [(12.5, 4.0), (25.0, 4.0)]


def test_clocks_that_are_set_back_and_restarts_give_no_rate() -> None:
    points = (Point(examples=10, time=5.0), Point(examples=20, time=4.0), Point(examples=5, time=9.0))
    assert compare_rates(Curve("a", "test", points), with_rates(STEADY)).problem == "A holds no rate"


def test_the_only_rate_of_a_log_counts() -> None:
    found = compare_rates(with_rates([50.0], ranks=1), with_rates([100.0], ranks=1))
    assert found.rates[0].ratio == 2


def test_a_rate_that_is_nothing_per_device_divides_by_nothing() -> None:
    found = compare_rates(*(with_rates([5e-324], rate_is="global", ranks=64) for _ in "ab"))
    assert [(one.unit, one.ratio) for one in found.rates] == [("per device", math.inf), ("all devices", 1.0)]
