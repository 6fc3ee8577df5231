"""Charts as inline SVG: each value is in them, none stands for another, and whatever comes is drawn."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.page.heat import heat_map
from launcher.page.scale import Scale
from launcher.page.svg import Band, Line, line_chart

NAN = float("nan")


def titles(chart: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(chart).iter("title")]


def paths(chart: str, kind: str) -> list[str]:
    found = ElementTree.fromstring(chart).iter("path")
    return [path.get("d", "") for path in found if path.get("class", "").startswith(kind)]


def test_each_place_of_a_chart_tells_the_values_of_all_curves_there() -> None:
    chart = line_chart([Line("a", [(1, 2.5), (2, 3)]), Line("b & <i>", [(2, 12000)])], "Loss", "nats")
    assert titles(chart) == ["step 1\na: 2.5 nats", "step 2\na: 3 nats\nb & <i>: 12,000 nats"]


def test_no_point_is_left_out_when_there_are_more_than_columns() -> None:
    points = [(step, 1.0) for step in range(100_000)]
    points[77_777] = (77_777, 9.0)
    chart = line_chart([Line("loss", points)], "Loss")
    spike = [title for title in titles(chart) if "1 to 9" in title]
    assert len(spike) == 1 and spike[0].startswith("step 77,500 to 77,") and "mean 1.019" in spike[0]
    assert len(chart) < 60_000


def test_a_missing_value_breaks_the_curve_and_nan_is_marked() -> None:
    chart = line_chart([Line("a", [(1, 1), (2, 1), (3, None), (4, 1), (5, NAN), (6, 2), (7, math.inf)])], "x")
    assert len(paths(chart, "line")) == 3
    assert [title for title in titles(chart) if " at " in title] == ["a: NaN at 5", "a: infinity at 7"]
    assert "step 5\na: NaN" in titles(chart)


def test_a_chart_without_any_point_is_none_at_all() -> None:
    assert line_chart([Line("a", [])], "x") == line_chart([], "x") == heat_map([], [], [], "x") == ""
    assert heat_map(["rank 0"], ["step 1"], [[None]], "x") == ""


def test_bands_lie_where_something_happened_and_those_outside_are_left_out() -> None:
    bands = [Band(3, 3, "restart <1>"), Band(4, 99, "slow", alert=True), Band(11, 12, "outside")]
    found = titles(line_chart([Line("a", [(1, 1), (10, 2)])], "x", bands=bands))
    assert found[:2] == ["restart <1>", "slow"] and "outside" not in found


def test_log_axis_has_powers_of_ten() -> None:
    assert [round(tick, 9) for tick in Scale([1e-5, 0.2], 100, 0, log=True).ticks(5)] == pytest.approx(
        [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]
    )
    assert Scale([0, 9.3], 0, 100).ticks(5) == [0, 2, 4, 6, 8]


NUMBERS = st.floats(-1e300, 1e300) | st.sampled_from([0.0, 5e-324, NAN, math.inf, -math.inf, 1e300, 1e-300])
POINTS = st.lists(st.tuples(NUMBERS, st.none() | NUMBERS), max_size=12)


@settings(deadline=None, max_examples=150)
@given(POINTS, POINTS, st.booleans())
def test_any_numbers_are_drawn_within_the_drawing(
    one: list[tuple[float, float | None]], other: list[tuple[float, float | None]], log: bool
) -> None:
    bands = [Band(x, x, "b") for x, _ in one]
    chart = line_chart([Line("a", one), Line("b", other)], "x", log=log, bands=bands)
    if chart:
        ElementTree.fromstring(chart)
        assert not {"nan", "inf", "1e"} & set(" ".join(paths(chart, "")).split())


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.none() | NUMBERS, min_size=3, max_size=3), max_size=5))
def test_any_heat_map_is_drawn(values: list[list[float | None]]) -> None:
    columns = ["step 1", "step 2", "step 3"]
    chart = heat_map([f"rank {row}" for row in range(len(values))], columns, values, "x")
    assert not chart or ElementTree.fromstring(chart) is not None


def test_one_slow_rank_of_a_thousand_is_seen_and_the_map_stays_small() -> None:
    values = [[0.30 + 0.001 * (place % 3)] * 500 for place in range(1024)]
    values[777] = [0.45] * 500
    columns = [f"step {step}" for step in range(500)]
    chart = heat_map([f"rank {rank}" for rank in range(1024)], columns, values, "own")
    assert [row for row in titles(chart) if "0.45" in row] == ["rank 768-783: mean 0.45, most 0.45 "]
    assert len(chart) < 200_000


def test_values_that_differ_by_noise_have_no_strong_colours() -> None:
    chart = heat_map(["rank 0", "rank 1"], ["step 1"], [[0.300], [0.305]], "own")
    assert "h8" not in ElementTree.tostring(ElementTree.fromstring(chart).findall("g")[1]).decode()
