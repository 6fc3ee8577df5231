"""Tests and intervals for figures of several seeds, against values worked out by hand and by scipy."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any, Sequence

import numpy as np
import pytest

from squad import repeat_report, statistics
from squad.errors import DataError

FIVE = [76.1, 75.2, 77.0, 76.4, 75.3]
FOUR = [77.9, 77.1, 78.4, 76.6]


@pytest.mark.parametrize(
    "df, t", [(1, 12.706204736), (2, 4.30265273), (4, 2.776445105), (9, 2.262157163), (1000, 1.962339081)]
)  # the printed tables of Student's t
def test_quantiles_of_student_s_t(df: int, t: float) -> None:
    assert statistics.t_quantile(df) == pytest.approx(t, rel=1e-9)
    assert statistics.t_tail(t, df) == pytest.approx(0.05, rel=1e-8)


def test_a_summary_of_seeds_by_hand() -> None:
    # mean 76, sum of squares 0.01 + 0.64 + 1 + 0.16 + 0.49 = 2.3, sd sqrt(2.3/4), half 2.7764 sd / sqrt(5)
    found = statistics.summary(FIVE)
    assert found[:3] == pytest.approx((5, 76.0, 0.758287544))
    assert (found.low, found.high) == pytest.approx((75.058462, 76.941538), abs=1e-6)
    assert statistics.summary([3.5]) == (1, 3.5, None, None, None)


def test_welch_of_one_new_value_is_an_interval_of_prediction() -> None:
    found = statistics.welch(FIVE, [78.0])  # error sd sqrt(1 + 1/5) = 0.830662
    assert found.difference == pytest.approx(2.0)
    assert found.high - found.difference == pytest.approx(2.776445105 * 0.830662386)
    assert statistics.welch(FIVE, FIVE).p == 1
    with pytest.raises(ValueError):
        statistics.welch([1.0], [2.0])


def test_pairs_of_one_seed_by_hand() -> None:
    # Differences 1, 2, 3: mean 2, sd 1, t = 2 sqrt(3); with 2 degrees P(|T| > t) is 1 - t / sqrt(t^2 + 2).
    found = statistics.paired([50.0, 70.0, 90.0], [51.0, 72.0, 93.0])
    assert found.difference == 2.0 and found.p == pytest.approx(1 - math.sqrt(12 / 14))
    assert found.high - 2 == pytest.approx(4.30265273 / math.sqrt(3))
    assert statistics.welch([50.0, 70.0, 90.0], [51.0, 72.0, 93.0]).p > 0.9  # the seeds scatter by 20
    assert statistics.paired([1.0, 2.0], [2.0, 3.0]) is None  # all differ by the same
    first, second = ([100 * right / 301 for right in side] for side in ((26, 188, 290), (27, 189, 291)))
    assert len({b - a for a, b in zip(first, second)}) > 1  # by one question each, but for the last digit
    assert statistics.paired(first, second) is None


@pytest.mark.parametrize("value", [1.0, 33.3, 76.516])  # the mean of three is not always the value itself
def test_seeds_without_effect_have_no_chance_to_compare_with(value: float) -> None:
    same = [value] * 3
    assert statistics.summary(same).sd == 0
    assert statistics.welch(same, [value + 1] * 3) is None
    assert statistics.welch(same, [value]) is None
    assert statistics.welch(same, [value, value + 1]).p == pytest.approx(0.5)  # t 1, 1 degree of freedom


def test_scipy_agrees() -> None:
    stats = pytest.importorskip("scipy.stats")
    for df in (0.7, 1.5, 3.3, 40.0, 5000.0):
        assert statistics.t_quantile(df) == pytest.approx(stats.t.ppf(0.975, df), rel=1e-8)
        for t in (0.01, 1.0, 9.0):
            assert statistics.t_tail(t, df) == pytest.approx(2 * stats.t.sf(t, df), rel=1e-8)
    ours, theirs = statistics.welch(FIVE, FOUR), stats.ttest_ind(FOUR, FIVE, equal_var=False)
    assert ours.p == pytest.approx(theirs.pvalue, rel=1e-9)
    pairs, theirs = statistics.paired(FIVE[:4], FOUR), stats.ttest_rel(FOUR, FIVE[:4])
    assert pairs.p == pytest.approx(theirs.pvalue, rel=1e-9)
    exact = getattr(stats, "binomtest", None) or stats.binom_test
    for only_first, only_second in ((0, 0), (0, 5), (3, 11), (40, 61)):
        first = [True] * only_first + [False] * only_second + [True, False]
        second = [False] * only_first + [True] * only_second + [True, False]
        found = statistics.mcnemar(first, second)
        assert found[:2] == (only_first, only_second)
        theirs = exact(only_first, only_first + only_second) if only_first + only_second else 1.0
        assert found.p == pytest.approx(getattr(theirs, "pvalue", theirs))


def test_mcnemar_by_hand_and_of_many() -> None:
    # 1 against 9: 2 (C(10,0) + C(10,1)) / 2^10 = 22 / 1024
    found = statistics.mcnemar([True] + [False] * 9, [False] + [True] * 9)
    assert found == (1, 9, 22 / 1024)
    halves = [True] * 3000 + [False] * 3000  # 2^6000 is beyond float
    assert statistics.mcnemar(halves, halves[::-1]).p == 1


def test_a_question_is_right_when_more_than_half_of_the_seeds_are() -> None:
    assert statistics.majority([[1, 0], [1, 0], [0, 1]]) == [True, False]
    assert statistics.majority([[1, 0]]) == [True, False]
    with pytest.raises(ValueError, match="no majority of 2"):
        statistics.majority([[1, 1, 0, 0], [1, 0, 1, 0]])


def seeds_of_one_recipe(draw: np.random.RandomState, seeds: int, chances: np.ndarray) -> list[list[float]]:
    return [list(map(float, draw.random_sample(len(chances)) < chances)) for _ in range(seeds)]


@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_mcnemar_gives_few_false_alarms_where_it_is_given(seeds: int) -> None:
    """Both sides are one recipe: each seed answers each question rightly with the question's chance."""
    draw = np.random.RandomState(seeds)
    chances = draw.random_sample(300)
    alarms, trials = 0, 600
    for _ in range(trials):
        sides = [seeds_of_one_recipe(draw, seeds, chances) for _ in range(2)]
        alarms += repeat_report._mcnemar(sides)["mcnemar"]["p"] < 0.05
    # Exact tests stay below 5 %; three standard deviations of 600 trials are 2.7 %.
    assert 0.01 < alarms / trials < 0.05 + 0.027


@pytest.mark.parametrize("counts", [(2, 1), (2, 3), (4, 5), (5, 3), (1, 3), (2, 2), (4, 4)])
def test_mcnemar_is_not_given_where_seeds_are_not_equally_many_and_odd(counts: tuple[int, int]) -> None:
    found = repeat_report._mcnemar([[[1.0, 0.0]] * count for count in counts])
    n, m = counts
    need = "it needs the same odd number of seeds on both sides, or one run on each"
    assert found == {"no_mcnemar": f"not for a majority of {n} run{'s' * (n > 1)} against {m}; {need}"}


def test_the_bootstrap_repeats_itself_and_draws_groups_as_a_whole() -> None:
    first = [[0.0, 0.0, 1.0, 1.0] * 5]
    second = [[0.0, 1.0, 1.0, 1.0] * 5]
    alone = statistics.bootstrap(first, second, list(range(20)), 500, 7)
    assert alone == statistics.bootstrap(first, second, list(range(20)), 500, 7)
    assert alone.difference == pytest.approx(0.25)
    assert 0 <= alone.low < 0.25 < alone.high and alone.p < 0.05
    # Passages of four questions differ by the same 0.25 each, so their resamples all agree.
    grouped = statistics.bootstrap(first, second, [place // 4 for place in range(20)], 500, 7)
    assert (grouped.low, grouped.high) == pytest.approx((0.25, 0.25))
    same = statistics.bootstrap(first, first, list(range(20)), 500, 7)
    assert same == (0.0, 0.0, 0.0, 1.0)


def test_the_bootstrap_sees_the_variance_of_seeds_too() -> None:
    steady = [[0.5] * 40] * 3
    wild = [[0.2] * 40, [0.6] * 40, [1.0] * 40]  # better by 0.1 in the mean, by seeds that scatter
    found = statistics.bootstrap(steady, wild, list(range(40)), 2000, 1)
    assert found.low < -0.1 and found.high > 0.3 and found.p > 0.2


def test_the_difference_that_n_seeds_see() -> None:
    five, ten = (statistics.detectable(2.0, n, n) for n in (5, 10))
    # Power of the t test of two groups of 5 and of 10 is 0.8 at 2.02 and 1.32 standard deviations.
    assert five == pytest.approx(2 * 2.05, rel=0.04)
    assert ten == pytest.approx(2 * 1.33, rel=0.04)


def test_the_difference_that_n_pairs_see() -> None:
    # Power of the t test of one group of 5 and of 10 is 0.8 at 1.68 and 1.00 standard deviations.
    assert statistics.detectable_by_pairs(2.0, 5) == pytest.approx(2 * 1.68, rel=0.04)
    assert statistics.detectable_by_pairs(2.0, 10) == pytest.approx(2 * 1.00, rel=0.04)


def dataset(folder: Path) -> Path:
    def question(key: str, text: str) -> dict[str, Any]:
        answers = [{"text": text, "answer_start": 0}] if text else []
        return {"id": key, "question": "?", "answers": answers, "is_impossible": not text}

    passages = [[("a", "red fox"), ("b", "blue")], [("c", ""), ("d", "four five")]]
    paragraphs = [
        {"context": f"red fox {n}", "qas": [question(*item) for item in p]} for n, p in enumerate(passages)
    ]
    path = folder / "dev.json"
    path.write_text(json.dumps({"version": "v2.0", "data": [{"title": "t", "paragraphs": paragraphs}]}))
    return path


def predicted(folder: Path, name: str, **texts: str) -> str:
    path = folder / (name + ".json")
    path.write_text(json.dumps(texts))
    return str(path)


def request(folder: Path, *sides: list[str], **more: Any) -> dict[str, Any]:
    return {
        "data": str(dataset(folder)), "resample": "passage", "resamples": 200, "random_seed": 0,
        "sides": [
            {"name": str(n), "runs": [{"seed": s, "predictions": p} for s, p in enumerate(side, 1)]}
            for n, side in enumerate(sides)
        ],
        **more,
    }  # fmt: skip


def test_a_report_of_two_repeats(tmp_path: Path) -> None:
    good = predicted(tmp_path, "good", a="The Red Fox", b="blue", c="", d="four")
    fair = predicted(tmp_path, "fair", a="red", b="blue", c="", d="four five")
    poor = predicted(tmp_path, "poor", a="", b="", c="x", d="five")
    found = repeat_report.report(request(tmp_path, [poor, fair], [good, good]))
    assert (found["questions"], found["left_out"], found["tests"]["groups"]) == (4, 0, 2)
    exact = [[run["exact"] for run in side["runs"]] for side in found["sides"]]
    assert exact == [[0.0, 75.0], [75.0, 75.0]]
    assert found["sides"][0]["runs"][0]["f1"] == pytest.approx(100 / 6)  # 2/3 of one question of four
    assert found["tests"]["mcnemar_by_seed"]["1"] == {"only_first": 0, "only_second": 3, "p": 0.25}
    assert found["tests"]["mcnemar_by_seed"]["2"]["p"] == 1.0
    assert "mcnemar" not in found["tests"] and "not for a majority of 2 runs" in found["tests"]["no_mcnemar"]
    assert found["tests"]["bootstrap_f1"]["difference"] > 0
    assert set(found["tests"]) >= {"welch", "detectable"}


def test_mcnemar_of_majorities_and_of_each_seed_against_one_model(tmp_path: Path) -> None:
    good = predicted(tmp_path, "good", a="The Red Fox", b="blue", c="", d="four five")
    fair = predicted(tmp_path, "fair", a="red", b="blue", c="", d="four five")
    poor = predicted(tmp_path, "poor", a="", b="", c="x", d="five")
    tests = repeat_report.report(request(tmp_path, [poor, poor, good], [good, fair, good]))["tests"]
    assert tests["mcnemar"] == {"only_first": 0, "only_second": 4, "p": 0.125}  # (poor) and (good), 2 of 3
    assert tests["mcnemar_by_seed"]["2"] == {"only_first": 0, "only_second": 3, "p": 0.25}
    assert tests["mcnemar_by_seed"]["3"]["p"] == 1.0
    for sides in ([poor], [fair, good, good]), ([good, good, fair], [poor]):
        tests = repeat_report.report(request(tmp_path, *sides))["tests"]
        assert "mcnemar" not in tests and list(tests["mcnemar_by_seed"]) == ["1", "2", "3"]
        only = [max(pair["only_first"], pair["only_second"]) for pair in tests["mcnemar_by_seed"].values()]
        assert only == ([3, 4, 4] if len(sides[0]) == 1 else [4, 4, 3])
    tests = repeat_report.report(request(tmp_path, [poor], [good]))["tests"]
    assert tests["mcnemar"] == tests["mcnemar_by_seed"]["1"]
    assert tests["mcnemar"] == {"only_first": 0, "only_second": 4, "p": 0.125}


def test_published_predictions_of_some_questions(tmp_path: Path) -> None:
    ours = predicted(tmp_path, "ours", a="red fox", b="blue", c="", d="four")
    theirs = predicted(tmp_path, "theirs", a="", b="blue", c="", zz="not in this file")
    found = repeat_report.report(request(tmp_path, [theirs], [ours]))
    assert (found["questions"], found["left_out"]) == (3, 1)
    assert "welch" not in found["tests"]  # one run on each side says nothing of seeds


def test_figures_alone_are_summarised(tmp_path: Path) -> None:
    runs = [
        {"seed": s, "predictions": None, "figures": {"exact_match": e, "f1": e}} for s, e in enumerate(FIVE)
    ]
    found = repeat_report.report({"data": "", "sides": [{"name": "a", "runs": runs}]})
    assert found["sides"][0]["summary"]["exact"]["mean"] == pytest.approx(76.0)


def of_figures(*sides: list[dict[str, float]]) -> dict[str, Any]:
    runs = [
        [{"seed": seed, "predictions": None, "figures": figures} for seed, figures in enumerate(side, 1)]
        for side in sides
    ]
    return repeat_report.report({"data": "", "sides": [{"name": "x", "runs": side} for side in runs]})


@pytest.mark.parametrize("name", ["f1", "exact", "exact_match", "accuracy"])
def test_a_figure_that_all_runs_have_is_enough(name: str) -> None:
    sides = [[{name: value, "loss": 1.0} for value in values] for values in (FIVE, FOUR)]
    found = of_figures(*sides)
    usual = name != "accuracy"
    names = ["exact" if name == "exact_match" else name] + ([] if usual else ["loss"])
    assert list(found["sides"][0]["summary"]) == list(found["tests"]["welch"]) == names
    assert found["tests"]["welch"][names[0]] == statistics.welch(FIVE, FOUR)._asdict()
    assert found["tests"]["detectable"].keys() == {names[0]}  # nothing scatters in the other
    assert found["sides"][0]["runs"][0] == {"seed": 1, **dict.fromkeys(names, 1.0), names[0]: FIVE[0]}


def test_a_figure_that_a_run_lacks_has_no_mean_and_no_test() -> None:
    half = [{"exact": 1.0, "f1": 2.0}, {"f1": 3.0}]
    found = of_figures(half, [{"exact": 1.0, "f1": 2.0}, {"exact": 2.0, "f1": 5.0}])
    assert [run.get("exact") for run in found["sides"][0]["runs"]] == [1.0, None]
    assert list(found["sides"][0]["summary"]) == ["f1"] == list(found["tests"]["welch"])
    assert list(found["sides"][1]["summary"]) == ["exact", "f1"]
    found = of_figures(half, [{"accuracy": 1.0}, {"accuracy": 2.0}])
    assert found["tests"] == {} and list(found["sides"][1]["summary"]) == ["accuracy"]
    assert of_figures([{}, {"f1": 1.0}])["sides"][0]["summary"] == {}


def test_the_same_seeds_are_compared_in_pairs_whatever_their_order() -> None:
    def of(seeds: Sequence[int], values: Sequence[float]) -> dict[str, Any]:
        runs = [{"seed": s, "predictions": None, "figures": {"f1": v}} for s, v in zip(seeds, values)]
        return {"name": "x", "runs": runs}

    first = of((1, 2, 3), (50.0, 70.0, 90.0))
    def tests(seeds: Sequence[int], values: Sequence[float]) -> dict[str, Any]:
        return repeat_report.report({"data": "", "sides": [first, of(seeds, values)]})["tests"]

    both = tests((3, 1, 2), (93.0, 51.0, 72.0))
    assert both["paired"]["f1"]["difference"] == 2.0 and both["paired"]["f1"]["p"] < 0.1
    assert both["detectable_by_pairs"]["f1"] < both["detectable"]["f1"] / 10
    for seeds in ((4, 5, 6), (1, 2, 3, 4), (1, 2)):
        assert "paired" not in tests(seeds, (51.0, 72.0, 93.0, 70.0)[: len(seeds)])
    equal = tests((1, 2, 3), (51.0, 71.0, 91.0))
    assert "paired" not in equal and equal["welch"]["f1"]["p"] > 0.9


def test_seeds_without_effect_give_a_difference_alone() -> None:
    found = of_figures([{"f1": 33.3}] * 3, [{"f1": 34.3}] * 3)["tests"]
    assert found == {"welch": {"f1": {"difference": pytest.approx(1.0)}}, "detectable": {}}


@pytest.mark.parametrize(
    "more, message",
    [({"resample": "article"}, None), ({"data": "/no/such.json"}, "no such file|No such file")],
)
def test_what_cannot_be_reported_is_named(tmp_path: Path, more: Any, message: str) -> None:
    one = predicted(tmp_path, "one", a="x")
    asked = request(tmp_path, [one], [one], **more)
    if message is None:
        assert repeat_report.report(asked)["tests"]["groups"] == 1
        return
    with pytest.raises(DataError, match=message):
        repeat_report.report(asked)


def test_predictions_that_are_none_end_the_program_with_one_line(tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text('{"a": [1]}')
    done = subprocess.run(
        [sys.executable, "-m", "squad.repeat_report"], input=json.dumps(request(tmp_path, [str(bad)])),
        capture_output=True, text=True,
        cwd=str(Path(__file__).resolve().parents[2]),
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == f"{bad}: no object of question id to text; give predictions.json\n"
