"""Whether one run is as good as another, by Huawei's rules."""

from __future__ import annotations

import math
from typing import Any, Callable

import pytest

from launcher.compare.align import align
from launcher.compare.baseline import benchmark, share_within
from launcher.compare.curve import Curve
from launcher.compare.figures import loss_figures
from launcher.compare.verdict import chosen, judge, outcome
from tests.launcher.compare.curves import by_step, curve, falling, with_rates


def judged(a: Curve, b: Curve, rule: str = "pretrain", **given: Any) -> dict[str, str]:
    aligned = align(a, b)
    rules = judge(rule, loss_figures(aligned), aligned.problem, (a.scores, b.scores), **given)
    return {one.name: one.outcome for one in rules}


def pretrain(factor: Callable[[int], float]) -> dict[str, str]:
    return judged(curve(falling(100)), curve(falling(100, factor)))


@pytest.mark.parametrize(
    ("factor", "early", "late"),
    [
        (lambda place: 1.009, "pass", "pass"),
        (lambda place: 1.02 if place < 10 else 1.0, "fail", "pass"),
        (lambda place: 1.02 if place >= 90 else 1.0, "pass", "fail"),
        (lambda place: 1.5 if 10 <= place < 90 else 1.0, "pass", "pass"),  # the middle is not in their rule
        (lambda place: math.nan if place == 99 else 1.0, "pass", "fail"),
    ],
)  # fmt: skip
def test_pretraining_is_judged_by_one_per_cent_early_and_late(
    factor: Callable[[int], float], early: str, late: str
) -> None:
    found = pretrain(factor)
    assert (found["loss early"], found["loss late"]) == (early, late)


@pytest.mark.parametrize(("off", "expected"), [(0.019, "pass"), (-0.019, "pass"), (0.021, "fail")])
def test_fine_tuning_is_judged_by_the_mean_absolute_error(off: float, expected: str) -> None:
    a, b = falling(50), [value + off for value in falling(50)]
    assert judged(curve(a), curve(b), "finetune")["loss of fine-tuning"] == expected


def test_both_formulas_are_in_the_figures() -> None:
    aligned = align(curve([1.0] * 10), curve([1.01] * 10))
    rules = judge("finetune", loss_figures(aligned), "", ({}, {}))
    text = "mean |B - A| / |A| 1%, mean |B - A| 0.01 over 10 places (absolute: below 0.02)"
    assert rules[0].figures == text
    (early, *_) = judge("pretrain", loss_figures(aligned), "", ({}, {}))
    assert early.figures.endswith("(relative: at most 1%)")


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [([1.0] * 20, [1.0] * 20, "pass"), ([math.nan] + [1.0] * 19, [1.0] * 19 + [math.nan], "pass"),
     ([1.0] * 20, [1.0] * 19 + [math.nan], "fail"), ([math.inf] + [1.0] * 19, [1.0] * 20, "pass")],
)  # fmt: skip
def test_nan_may_not_come_more_often(a: list[float], b: list[float], expected: str) -> None:
    assert judged(curve(a), curve(b))["NaN"] == expected


def test_nan_of_the_benchmark_alone_is_no_fault_of_the_other() -> None:
    found = judged(curve([math.nan, *falling(20)[1:]]), curve(falling(20)))
    assert found["loss early"] == found["loss late"] == "pass"


def spiky(count: int) -> list[float]:
    return [2.0 if place % 20 == 19 and place // 20 < count else 1.0 for place in range(400)]


@pytest.mark.parametrize(
    ("a", "b", "expected"), [(3, 3, "pass"), (5, 1, "pass"), (2, 4, "pass"), (0, 1, "pass"), (0, 8, "fail")]
)
def test_spikes_fail_where_they_are_more_than_chance_makes(a: int, b: int, expected: str) -> None:
    assert judged(curve(spiky(a)), curve(spiky(b)))["spikes"] == expected


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [({"exact": 73.0, "f1": 76.3}, {"exact": 73.4, "f1": 76.5}, "pass"),
     ({"exact": 73.0, "f1": 76.3}, {"exact": 72.0, "f1": 75.0}, "pass"),
     ({"exact": 73.0, "f1": 76.3}, {"exact": 70.0, "f1": 76.3}, "fail"),
     ({"f1": 76.3}, {"f1": 40.0}, "fail"),
     ({"f1": 76.3}, {"exact": 70.0}, "not judged"), ({}, {}, "not judged")],
)  # fmt: skip
def test_the_task_may_not_be_worse_by_more_than_seeds_make(a: Any, b: Any, expected: str) -> None:
    assert judged(curve([1.0], scores=a), curve([1.0], scores=b))["task"] == expected


def test_logs_of_nothing_are_not_judged_and_fail_nothing() -> None:
    found = judged(Curve("a", "test"), Curve("b", "test"))
    assert set(found.values()) == {"not judged"}


@pytest.mark.parametrize("places", [1, 2])
def test_one_place_in_common_is_too_few(places: int) -> None:
    found = judged(curve([1.0] * places), curve([5.0] * places))
    assert found["loss early"] == ("not judged" if places == 1 else "fail")


def test_nan_from_the_start_fails_by_its_own_rule() -> None:
    found = judged(curve(falling(20)), curve([math.nan] * 20))
    assert found["NaN"] == found["loss early"] == found["loss late"] == "fail"


@pytest.mark.parametrize(
    ("wanted", "scores", "rule"),
    [("", {}, "pretrain"), ("", {"f1": 76.0}, "finetune"), ("pretrain", {"f1": 76.0}, "pretrain")],
)
def test_the_rule_follows_the_scores_unless_one_is_asked_for(wanted: str, scores: Any, rule: str) -> None:
    assert chosen(wanted, {}, scores)[0] == rule


def test_a_verdict_needs_a_rule_on_the_loss_or_the_task() -> None:
    def verdict(a: Curve, b: Curve) -> str:
        aligned = align(a, b)
        return outcome(judge("pretrain", loss_figures(aligned), aligned.problem, (a.scores, b.scores)))

    assert verdict(curve(falling(20)), curve(falling(20))) == "pass"
    assert verdict(curve([1.0] * 9), by_step([1.0] * 9)) == "not judged"  # NaN and spikes alone pass
    assert verdict(curve([1.0] * 9), curve([2.0] * 9)) == "fail"


def runs(*factors: float) -> list[Curve]:
    return [curve(falling(40, lambda place, by=factor: by)) for factor in factors]  # type: ignore[misc]


@pytest.mark.parametrize(
    ("factors", "expected"),
    [((1.0,), "not judged"), ((1.0, 1.0), "not judged"), ((0.995, 1.0, 1.005), "pass"),
     ((0.9, 1.0, 1.1), "not judged")],
)  # fmt: skip
def test_three_runs_that_agree_are_a_benchmark(factors: tuple[float, ...], expected: str) -> None:
    made = benchmark(runs(*factors), "ABC")
    found = judged(made.curve, curve(falling(40)), benchmark=made.errors)
    assert found["benchmark"] == expected and found["loss early"] == "pass"


def test_a_benchmark_of_several_runs_is_their_mean_with_a_band() -> None:
    made = benchmark(runs(0.9, 1.0, 1.1), "ABC")
    assert [point.loss for point in made.curve.points] == pytest.approx(falling(40))
    assert made.band[0].low == pytest.approx(3.6) and made.band[0].high == pytest.approx(4.4)
    assert share_within(made.band, align(made.curve, runs(1.05)[0])) == 1
    assert share_within(made.band, align(made.curve, runs(1.2)[0])) == 0


def test_runs_of_a_benchmark_that_cannot_be_aligned_leave_the_first_alone() -> None:
    made = benchmark([curve([1.0, 1.0]), by_step([1.0, 1.0])], "AB")
    assert not made.band and made.curve.points == curve([1.0, 1.0]).points
    assert "give --global-batch B=N" in made.curve.notes[-1]


def test_a_benchmark_has_the_mean_scores_and_the_rates_of_all() -> None:
    one, two = (with_rates([1.0, rate, rate], rate_is="global", ranks=2, scores={"f1": f1}, global_batch=8)
                for rate, f1 in ((10.0, 70.0), (20.0, 80.0)))  # fmt: skip
    made = benchmark([one, two], "AB").curve
    assert made.scores == {"f1": 75.0}
    assert sorted(point.rate for point in made.points if point.rate) == [10.0, 10.0, 20.0, 20.0]


def test_nan_in_one_run_of_a_benchmark_is_in_the_mean_and_not_in_the_band() -> None:
    made = benchmark([curve([1.0, math.nan, 1.0]), curve([1.0, 2.0, 1.0])], "AB")
    assert math.isnan(made.curve.points[1].loss or 0) and made.band[1][1:] == (2.0, 2.0)
