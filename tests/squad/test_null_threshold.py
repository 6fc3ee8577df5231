"""The threshold of "no answer": searched, kept with the checkpoint, used by auto, never mixed with others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squad import null_threshold
from squad.answers.nbest import Answers
from squad.answers.predictions import Predictions
from squad.answers.thresholds import best_threshold, stable_threshold
from squad.data.questions import Answer, Question
from squad.evaluate import figures, judge
from squad.run_squad import main
from tests.squad.conftest import flags, make_tiny

# Each row is a question: its score without a threshold (None: it has no answer), whether its answer is a
# text, and its no-answer score.
Rows = "list[tuple[float | None, bool, float]]"


def tables(rows: Rows) -> tuple[dict[str, Any], ...]:
    """Make the four tables of a search: values, predictions, no-answer scores, has_answer."""
    named = {f"q{number}": row for number, row in enumerate(rows)}
    return (
        {key: float(not text) if value is None else value for key, (value, text, _) in named.items()},
        {key: "x" * text for key, (_, text, _) in named.items()},
        {key: odds for key, (_, _, odds) in named.items()},
        {key: value is not None for key, (value, _, _) in named.items()},
    )


def stable(rows: Rows) -> float:
    values, _, odds, has_answer = tables(rows)
    return stable_threshold(values, odds, has_answer)


def reached(rows: Rows, threshold: float) -> float:
    """State the rule: above the threshold the answer is empty, which is right where there is none."""
    total = 0.0
    for value, text, odds in rows:
        answered = text and odds <= threshold
        total += (value if answered else 0.0) if value is not None else float(not answered)
    return total


RIGHT, NONE = 1.0, None


@pytest.mark.parametrize(
    "rows, official, wanted",
    [
        ([(RIGHT, True, 1.0), (NONE, True, 4.0)], 1.0, 2.5),
        ([(RIGHT, True, 1.0), (RIGHT, True, 3.0)], 3.0, 4.0),  # all answerable: beyond the last
        ([(NONE, True, 1.0), (NONE, True, 3.0)], 0.0, 0.0),  # none answerable: before the first
        ([(NONE, True, -5.0)], 0.0, -6.0),  # where the official 0 would answer
        ([(NONE, False, 1.0), (NONE, False, 3.0)], 0.0, 2.0),  # nothing to choose: the middle of all
        ([(RIGHT, True, 2.0), (NONE, True, 2.0), (NONE, True, 2.0)], 2.0, 1.0),  # official: between equals
        ([(RIGHT, True, 0.0), (NONE, True, 1.0), (RIGHT, True, 2.0), (NONE, True, 9.0)], 0.0, 5.5),
        ([(0.5, True, -3.0), (NONE, True, -3.0)], -3.0, -4.0),
        ([(RIGHT, True, 1e30)], 1e30, 1e30),
    ],
)
def test_thresholds_of_cases_made_by_hand(rows: Rows, official: float, wanted: float) -> None:
    assert best_threshold(*tables(rows))[1] == official
    assert stable(rows) == wanted
    assert stable_threshold({}, {}, {}) == 0.0


odds = st.one_of(st.sampled_from([-1.5, 0.0, 0.5]), st.floats(-50, 50, width=32))
questions = st.tuples(st.sampled_from([None, 0.0, 0.4, 1.0]), st.booleans(), odds)


@given(st.lists(questions, min_size=1, max_size=10))
def test_no_threshold_reaches_more_than_the_stable_one(rows: Rows) -> None:
    rows = [(value if text or value is None else 0.0, text, score) for value, text, score in rows]
    threshold = stable(rows)
    scores = sorted({score for _, _, score in rows})
    every = [scores[0] - 1.0, *scores]
    assert reached(rows, threshold) == pytest.approx(max(reached(rows, each) for each in every))
    # The official search finds as much, or more than any threshold gives where scores are equal.
    official = best_threshold(*tables(rows))[0] * len(rows) / 100
    assert official >= reached(rows, threshold) - 1e-9
    if len(scores) == len(rows):
        assert official == pytest.approx(reached(rows, threshold))
    # A score that is a little off changes nothing, unless two questions are as close as that.
    if all(later - sooner > 1e-3 for sooner, later in zip(scores, scores[1:])):
        near = [(value, text, score + 1e-4) for value, text, score in rows]
        assert reached(near, threshold) == pytest.approx(reached(rows, threshold))


@pytest.mark.parametrize("rules", ["squad", "cmrc"])
@given(data=st.data())
def test_the_figures_at_the_stable_threshold_are_the_best_of_all(rules: str, data: Any) -> None:
    texts = st.sampled_from(["a red fox", "fox", "the", "!", "", "北京", "北京市"])
    drawn = data.draw(st.lists(st.tuples(texts, st.sampled_from(["", "red fox", "京"]), odds), min_size=1))
    asked = [
        Question(str(number), "", [Answer(gold, -1)] if gold else [], None, ())
        for number, (_, gold, _) in enumerate(drawn)
    ]
    best = {str(number): text for number, (text, _, _) in enumerate(drawn)}
    null_odds = {str(number): score for number, (_, _, score) in enumerate(drawn)}
    scores = judge(asked, best, rules)
    for name in ("exact", "f1"):
        every = [min(null_odds.values()) - 1, *null_odds.values()]
        reached = [figures(asked, best, null_odds, each, rules)[name] for each in every]
        threshold = stable_threshold(getattr(scores, name), null_odds, scores.has_answer)
        assert figures(asked, best, null_odds, threshold, rules)[name] == pytest.approx(max(reached))


def found(value: float, count: int, digest: str = "d") -> dict[str, Any]:
    return {"f1": value, "exact": 0.0, "questions": count, "data": {"name": "a.json", "sha256": digest}}


def test_a_stored_threshold_gives_way_to_one_of_more_questions_alone(tmp_path: Path) -> None:
    prefix = str(tmp_path / "model.ckpt-3")
    assert null_threshold.keep(prefix, found(1, 5)) == "not stored: the checkpoint has no JSON of a run"
    Path(prefix + ".json").write_text('{"step": 3}')
    for value, count, digest, said, now in (
        (1, 5, "d", "stored in model.ckpt-3.json", 1),
        (1, 5, "d", "stored in model.ckpt-3.json", 1),
        (2, 5, "d", "model.ckpt-3.json keeps 1 from a.json (5 questions)", 1),
        (2, 4, "e", "model.ckpt-3.json keeps 1 from a.json (5 questions)", 1),
        (3, 6, "e", "stored in model.ckpt-3.json in place of 1 from a.json (5 questions)", 3),
    ):
        assert null_threshold.keep(prefix, found(value, count, digest)) == said
        assert null_threshold.stored(prefix)["f1"] == now
        assert str(null_threshold.of_checkpoint(prefix)).startswith(f"threshold {now}, from a.json (")
    assert json.loads(Path(prefix + ".json").read_text())["step"] == 3


@pytest.mark.parametrize("broken", ["3", '{"f1": "x"}', '{"f1": 1, "data": {}}', '{"f1": NaN}'])
def test_what_is_no_threshold_is_none(tmp_path: Path, broken: str) -> None:
    prefix = tmp_path / "model.ckpt-3"
    Path(f"{prefix}.json").write_text(f'{{"threshold": {broken}}}')
    assert null_threshold.stored(str(prefix)) == {}


def test_the_search_takes_the_best_answers_that_are_not_empty() -> None:
    held = [Question("a", "", [Answer("x", 0)], False, ()), Question("b", "", [], True, ())]
    predictions = Predictions()
    predictions.update({"a": "", "b": ""})
    predictions.best = {"a": "x", "b": "y"}
    data = {"name": "dev.json", "sha256": "d"}
    answers = Answers(predictions, {}, {"a": 1.0, "b": 4.0})
    found = null_threshold.search(held, answers, data)
    assert found == {"f1": 2.5, "exact": 2.5, "questions": 2, "data": data}
    assert null_threshold.search(held, Answers(predictions, {}, {}), data) == {}  # SQuAD 1.1


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"null_score_diff_threshold": "nan"}, "nan is not a number"),
        ({"null_score_diff_threshold": "atuo"}, "'atuo' is not a number or auto"),
        ({"version_2_with_negative": False}, "auto is for SQuAD 2.0"),
        ({}, "auto needs an evaluation before; give eval_epochs"),
    ],
)
def test_a_threshold_that_cannot_be_used_is_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture, changes: Any, message: str
) -> None:
    wish: dict[str, Any] = {"do_train": True, "do_predict": True, "output_dir": tmp_path}
    wish.update({"null_score_diff_threshold": "auto", **changes})
    assert main(flags(make_tiny(tmp_path), **wish)) == 2
    assert f"--null_score_diff_threshold: {message}" in capsys.readouterr().err


def test_an_export_carries_its_threshold_in_its_configuration(tmp_path: Path) -> None:
    said = {"task_specific_params": {"squad": {"threshold": -1.5}}}
    (tmp_path / "config.json").write_text(json.dumps(said))
    made = found(2.0, 5)
    of_export = null_threshold.of_checkpoint(str(tmp_path))
    assert str(of_export) == "threshold -1.5, from the model's config.json"
    (tmp_path / "model.ckpt-3.json").write_text(json.dumps({"threshold": made}))
    assert null_threshold.of_checkpoint(str(tmp_path / "model.ckpt-3")).value == 2.0
