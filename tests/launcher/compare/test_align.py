"""Curves of losses on one axis."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.compare.align import Pair, Spot, align, at, spots, step_at
from launcher.compare.curve import Curve, Point
from launcher.compare.figures import loss_figures
from launcher.compare.formats.huggingface import STATE
from launcher.compare.rates import compare_rates
from tests.launcher.compare.curves import by_step, curve


def test_runs_of_other_batches_meet_where_they_have_seen_as_many_examples() -> None:
    """Step 10 of a batch of 32 is step 40 of a batch of 8."""
    few = by_step([4.0, 3.0, 2.0], 10, global_batch=32)
    many = by_step([4.6, 4.4, 4.2, 4.0, 3.8, 3.5, 3.3, 3.0, 2.8, 2.5, 2.3, 2.0], 10, global_batch=8)
    aligned = align(few, many)
    assert aligned.by == "examples" and not aligned.problem
    assert aligned.pairs == (Pair(320, 4.0, 4.0), Pair(640, 3.0, 3.0), Pair(960, 2.0, 2.0))


def test_what_lies_between_two_points_is_on_their_line() -> None:
    aligned = align(curve([4.0, 2.0], 100), curve([5.0, 4.0, 3.0, 1.0], 50, first=75))
    assert aligned.pairs == (Pair(100, 4.0, 4.5), Pair(200, 2.0, 2.0))


@pytest.mark.parametrize("sides", ["AB", "BA"])
def test_the_means_of_hf_trainer_are_compared_with_means(sides: str) -> None:
    """Its loss is that of all steps since the line before, not of one."""
    steps = [4.0, 2.0, 3.0, 1.0, 2.0, 0.0]
    both = {"A": curve(steps, 10), "B": curve([3.0, 2.0, 1.0], 20)._replace(kind=STATE)}
    aligned = align(both[sides[0]], both[sides[1]])
    assert [(pair.place, pair.b - pair.a) for pair in aligned.pairs] == [(20, 0), (40, 0), (60, 0)]
    mean = "A" if sides == "BA" else "B"
    assert aligned.notes == (f"{mean}'s losses are means since its line before: so are the other's",)


def test_means_of_both_sides_are_compared_as_they_are() -> None:
    both = [curve([4.0, 2.0], 10, kind=STATE), curve([3.0], 20, kind=STATE)]
    assert align(*both).pairs == (Pair(20, 2.0, 3.0),)


@pytest.mark.parametrize("sides", ["AB", "BA"])
def test_the_places_are_those_of_the_sparser_curve_on_either_side(sides: str) -> None:
    both = {"A": curve([4.0, 3.0, 2.0, 1.0], 50), "B": curve([4.0, 2.0], 100)}
    assert [pair.place for pair in align(both[sides[0]], both[sides[1]]).pairs] == [100, 200]


def test_steps_are_compared_where_nobody_knows_the_batch_and_that_is_said_loudly() -> None:
    aligned = align(by_step([2.0, 1.0]), by_step([2.0, 1.0]))
    assert aligned.by == "steps" and len(aligned.pairs) == 2
    assert "ALIGNED BY STEP" in aligned.notes[0]
    assert "--global-batch A=N --global-batch B=N" in aligned.notes[0]


def test_equal_batches_that_are_known_need_no_warning() -> None:
    aligned = align(by_step([2.0, 1.0], global_batch=8), by_step([2.0, 1.0], global_batch=8))
    assert (aligned.by, aligned.notes) == ("examples", ())


NO_PLACES = Curve("x", "test", (Point(loss=1.0), Point(loss=0.5)))
NO_LOSS = Curve("x", "test", (Point(step=1, rate=3.0),), notes=("holds no loss (it is B's)", "holds no rate"))


@pytest.mark.parametrize(
    ("a", "b", "problem"),
    [
        (curve([1.0]), by_step([1.0]), "had seen at a line; give --global-batch B=N"),
        (by_step([1.0]), by_step([1.0], global_batch=8), "nothing says how many examples A had seen"),
        (NO_PLACES, NO_PLACES, "give --global-batch A=N --global-batch B=N"),
        (NO_LOSS, curve([1.0]), "A holds no loss (it is B's)"),
        (curve([1.0]), Curve("x", "test"), "B holds no loss"),
        (curve([1.0, 1.0]), curve([1.0], first=500), "no overlap: A has 100 to 200, B has 500 to 500"),
    ],
)  # fmt: skip
def test_what_cannot_be_aligned_says_why_in_one_line(a: Curve, b: Curve, problem: str) -> None:
    aligned = align(a, b)
    assert problem in aligned.problem and not aligned.pairs and "\n" not in aligned.problem


def test_points_that_are_not_aligned_are_still_counted() -> None:
    aligned = align(by_step([1.0, math.nan]), curve([1.0, 1.0, 1.0]))
    assert (len(aligned.a), len(aligned.b)) == (2, 3)


def test_of_what_a_restart_repeats_the_last_counts() -> None:
    places = [(10, 4.0), (20, 3.0), (30, 2.0), (20, 3.5)]
    points = [Point(examples=place, loss=loss) for place, loss in places]
    assert spots(Curve("x", "test", tuple(points)), "examples") == [Spot(10, 4.0), Spot(20, 3.5)]


@pytest.mark.parametrize(("place", "step"), [(80, 10), (150, 20), (1e9, 30), (-5, 10)])
def test_a_place_is_named_by_the_nearest_step(place: float, step: int) -> None:
    assert step_at(by_step([1.0] * 3, 10, global_batch=8), place, "examples") == step
    assert step_at(curve([1.0]), place, "examples") is None


@pytest.mark.parametrize(("place", "loss"), [(10, 4.0), (15, 3.0), (20, 2.0)])
def test_a_curve_is_read_at_its_points_and_between(place: float, loss: float) -> None:
    assert at([Spot(10, 4.0), Spot(20, 2.0)], place) == loss


def test_beside_a_nan_there_is_no_value_but_at_the_other_points_there_is() -> None:
    found = [Spot(10, 4.0), Spot(20, math.nan), Spot(30, 2.0)]
    assert at(found, 10) == 4.0 and at(found, 30) == 2.0
    assert math.isnan(at(found, 15)) and math.isnan(at(found, 20))


anything = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True))
points = st.builds(
    Point, step=st.one_of(st.none(), st.integers(-5, 10**30)), examples=anything, loss=anything,
    learning_rate=anything, rate=anything, time=anything,
)  # fmt: skip
curves = st.builds(
    Curve, name=st.just("x"), kind=st.just("test"), points=st.lists(points, max_size=12).map(tuple),
    ranks=st.one_of(st.none(), st.integers(0, 10**6)),
    global_batch=st.one_of(st.none(), st.integers(0, 10**6)),
    rate_is=st.sampled_from(["global", "per device", "unknown"]),
)  # fmt: skip


@given(a=curves, b=curves)
def test_no_two_logs_crash(a: Any, b: Any) -> None:
    aligned = align(a, b)
    assert bool(aligned.problem) == (not aligned.pairs)
    places = [pair.place for pair in aligned.pairs]
    assert places == sorted(set(places))
    loss_figures(aligned)
    rates = compare_rates(a, b)
    assert bool(rates.problem) == (not rates.rates)
