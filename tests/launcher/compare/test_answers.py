"""Predictions of two runs, and McNemar's test."""

from __future__ import annotations

import json
from math import factorial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.compare.answers import compare_answers, find, mcnemar, read_answers, read_truth, tail
from launcher.errors import ReadError


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


@pytest.mark.parametrize(("b", "c"), [(0, 0), (1, 1), (0, 5), (5, 0), (3, 12), (40, 61)])
def test_mcnemar_is_the_two_sided_binomial_test(b: int, c: int) -> None:
    total = b + c
    chances = [factorial(total) / (factorial(k) * factorial(total - k)) / 2**total for k in range(total + 1)]
    lower = sum(chances[: min(b, c) + 1])
    assert mcnemar(b, c) == pytest.approx(min(1.0, 2 * lower))


def test_many_questions_neither_overflow_nor_take_long() -> None:
    assert 0 < mcnemar(4800, 5200) < 1e-4 and mcnemar(5000, 5000) == 1


@given(st.integers(0, 40), st.integers(0, 40), st.floats(0.01, 0.99))
def test_a_tail_is_a_chance_that_grows(most: int, trials: int, chance: float) -> None:
    assert 0 <= tail(most, trials, chance) <= tail(most + 1, trials, chance) + 1e-12 <= 1 + 1e-11


TRUTH = {"q1": ("paris",), "q2": ("",), "q3": ("1863", "in 1863"), "q4": ("rome",)}


def test_answers_are_compared_as_squad_reads_them() -> None:
    a = {"q1": "Paris", "q2": "", "q3": "1863", "q4": "Rome"}
    b = {"q1": "the Paris.", "q2": "Rome", "q3": "In 1863", "q4": "Milan"}
    found = compare_answers(a, b, TRUTH)
    assert (found.questions, found.differ, found.only_a, found.only_b) == (4, 3, 2, 0)
    assert found.p == 0.5


def test_without_the_truth_differences_alone_are_counted() -> None:
    found = compare_answers({"q1": "a b", "q2": "c"}, {"q1": "b", "q2": "d", "q3": "e"})
    assert (found.questions, found.differ, found.p) == (2, 1, None)
    assert found.notes == ("1 question(s) are answered on one side alone",)


@pytest.mark.parametrize(
    ("document", "answers"),
    [
        ({"q1": "yes", "q2": ""}, {"q1": "yes", "q2": ""}),
        ({"q1": [{"text": "best", "p": 0.6}, {"text": "next"}], "q2": []}, {"q1": "best", "q2": ""}),
    ],
)  # fmt: skip
def test_predictions_and_nbest_are_read(tmp_path: Path, document: Any, answers: Any) -> None:
    assert read_answers(write(tmp_path / "p.json", document)) == answers


@pytest.mark.parametrize("document", [[], {"q1": 3}, {"q1": [{"score": 1}]}, {"q1": ["x"]}])
def test_what_is_no_file_of_predictions_is_refused(tmp_path: Path, document: Any) -> None:
    with pytest.raises(ReadError, match=r"p\.json: .*expected"):
        read_answers(write(tmp_path / "p.json", document))


def test_the_truth_of_squad_names_every_question(tmp_path: Path) -> None:
    answers = [{"text": "The Seine"}, {"text": "seine"}, {"text": "the"}]
    questions = [{"id": "q1", "answers": answers}, {"id": "q2", "answers": []}]
    path = write(tmp_path / "dev.json", {"data": [{"paragraphs": [{"context": "", "qas": questions}]}]})
    assert read_truth(path) == {"q1": ("seine",), "q2": ("",)}


@pytest.mark.parametrize("document", [{}, {"data": []}, {"data": [{"paragraphs": 3}]}])
def test_a_file_without_questions_is_refused(tmp_path: Path, document: Any) -> None:
    with pytest.raises(ReadError, match="expected"):
        read_truth(write(tmp_path / "dev.json", document))


def test_predictions_are_found_in_a_run_folder_and_beside_a_log(tmp_path: Path) -> None:
    assert find(tmp_path) is None
    nbest = write(tmp_path / "predictions" / "nbest_predictions.json", {})
    assert find(tmp_path) == nbest
    plain = write(tmp_path / "predictions" / "predictions.json", {})
    assert find(tmp_path) == plain
    assert find(tmp_path / "predictions" / "run.log") == plain
