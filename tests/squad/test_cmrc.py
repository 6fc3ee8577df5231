"""CMRC 2018's rules: values of the official script (version 6, nltk 3.10), and the rule stated slowly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squad import cmrc
from squad.answers.nbest import Answers
from squad.answers.predictions import Predictions
from squad.cmrc import longest_run, segments
from squad.evaluate import figures, read_questions
from squad.null_threshold import search
from tests.squad.test_evaluate import document, run


@pytest.mark.parametrize(
    "text, expected",
    [
        ("  《北京》在 Linux-2.6 上 ", "北 京 在 linux2.6 上"),
        ("1,000,000元，约12.5%", "1,000,000 元 约 12.5 %"),
        ('他说"你好"和"hello"', "他 说 `` 你 好 `` 和 `` hello ''"),
        ("Windows XP. It's (very) old.", "windows xp . it 's ( very ) old ."),
        ("Mr. T. Smith don't, cannot", "mr. t. smith do n't , can not"),
        ("2007–08……", "2007 – 08……"),
        ("東京タワー と 한국어 ㄱ", "東 京 タワー と 한국어 ㄱ"),
        ("龥龦", "龥 龦"),  # U+9FA5 is the last one
        ("a...b", "a ... b"),
        ("3. 中 'shade' dogs'", "3 . 中 ' shade ' dogs '"),
        ("。，、", ""),
        ("", ""),
    ],
)
def test_answers_are_divided_as_the_official_script_does(text: str, expected: str) -> None:
    assert segments(text) == expected.split(" ") * bool(expected)


def slow_run(first: list[str], second: list[str]) -> int:
    """State the rule: the longest slice of the one that is a slice of the other."""
    held = {tuple(second[i:j]) for i in range(len(second)) for j in range(i + 1, len(second) + 1)}
    lengths = (
        j - i for i in range(len(first)) for j in range(i + 1, len(first) + 1) if tuple(first[i:j]) in held
    )
    return max(lengths, default=0)


pieces = st.lists(st.sampled_from(["北", "京", "ab", "a", "b", "\ud800"]), max_size=12)


@given(pieces, pieces)
def test_the_longest_run_is_that_of_all_slices(first: list[str], second: list[str]) -> None:
    assert longest_run(first, second) == slow_run(first, second) == longest_run(second, first)


def test_a_run_has_no_gaps_and_long_answers_take_no_time() -> None:
    assert longest_run(list("abcxdef"), list("abcydef")) == 3
    assert longest_run(list("ab" * 5000), list("ab" * 4000)) == 8000


@pytest.mark.parametrize(
    "references, predicted, exact, f1",
    [
        (["北京市"], "北京市", 1, 1),
        (["北京市"], "北京。", 0, 2 * 1 * (2 / 3) / (1 + 2 / 3)),
        (["《北京》"], "北京", 1, 1),
        (["Linux 2.6"], "linux 2.6", 1, 1),
        (["linux 2.6"], "linux  2.6", 0, 1),  # exact match counts spaces
        (["一九九八年", "1998年"], "于1998年", 0, 0.8),
        (["北京"], "", 0, 0),
        (["。"], "，", 1, 0),  # nothing is left: no run, but the same text
        ([], "", 1, 1),
        ([], "北京", 0, 0),
    ],
)
def test_scores_of_cases_made_by_hand(references: list[str], predicted: str, exact: float, f1: float) -> None:
    questions = read_questions(document({"q": references}))
    assert cmrc.score(questions, {"q": predicted}) == ({"q": exact}, {"q": pytest.approx(f1)})


def files(folder: Path, data: Any, predictions: Any) -> list[Path]:
    paths = [folder / "dev.json", folder / "predictions.json"]
    for path, value in zip(paths, (data, predictions)):
        path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return paths


OWN = [{"context_id": "C", "context_text": "北京市", "title": "t", "qas": [
    {"query_id": "a", "query_text": "哪", "answers": ["北京市", "京"]},
    {"query_id": "b", "query_text": "几", "answers": ["4.9", 4.9]},
    {"query_id": "c", "query_text": "谁", "answers": ["北"]},
]}]  # fmt: skip


@pytest.mark.parametrize("data", [OWN, document({"a": ["北京市", "京"], "b": ["4.9"], "c": ["北"]})])
def test_prints_what_the_official_script_prints(tmp_path: Path, data: Any) -> None:
    paths = files(tmp_path, data, {"a": "北京", "b": "4.9", "z": "x"})
    done = run(*paths, "--evaluation", "cmrc")
    expected = '{"AVERAGE": "46.667", "F1": "60.000", "EM": "33.333", "TOTAL": 3, "SKIP": 1, "FILE": "%s"}\n'
    assert done.stdout == expected % paths[1]
    assert "1 of 3 questions have no prediction: c" in done.stderr
    assert "1 predictions are for no question of this file: z" in done.stderr


@pytest.mark.parametrize(
    ("qas", "said"),
    [
        (None, "paragraphs[0].qas: null is not a list"),
        ([3], "paragraphs[0].qas[0].id: 3, not in a JSON object"),
        ([{"query_id": "a", "answers": [None]}], "qas[0].answers[0].text: null is not a string"),
        ([{"query_id": "a", "answers": [True]}], "qas[0].answers[0].text: True is not a string"),
        ([{"query_id": "a", "answers": "京"}], "qas[0].answers: '京' is not a list"),
    ],
)
def test_what_is_wrong_in_its_own_layout_is_named(tmp_path: Path, qas: Any, said: str) -> None:
    paths = files(tmp_path, [dict(OWN[0], qas=qas)], {"a": "北京"})
    stderr = run(*paths, "--evaluation", "cmrc", code=2).stderr
    assert said in stderr and stderr.count("\n") == 1


def test_predictions_of_another_file_and_no_answer_scores_are_refused(tmp_path: Path) -> None:
    paths = files(tmp_path, OWN, {"z": "x"})
    assert "3 of 3 questions have no prediction" in run(*paths, "--evaluation", "cmrc", code=2).stderr
    stderr = run(*paths, "--evaluation", "cmrc", "-n", paths[1], code=2).stderr
    assert "CMRC's rules know no no-answer scores" in stderr


def test_figures_of_a_run_have_the_names_of_squads() -> None:
    questions = read_questions(document({"a": ["北京市"], "b": ["京"]}, first=True))
    assert figures(questions, {"a": "北京", "b": "京"}, rules="cmrc") == {
        "exact": 50.0, "f1": pytest.approx(90.0), "total": 2, "average": pytest.approx(70.0),
    }  # fmt: skip
    questions = read_questions(document({"a": ["北京市"], "b": []}))
    made = Predictions()
    made.update({"a": "", "b": "京"})
    made.best = {"a": "北京", "b": "京"}
    result = figures(questions, made, {"a": 1.0, "b": 3.0}, 0.0, "cmrc")
    assert (result["f1"], result["HasAns_f1"], result["NoAns_f1"]) == (50.0, 0.0, 100.0)
    assert result["best_f1"] == pytest.approx(90.0)
    assert search(questions, Answers(made, {}, {"a": 1.0, "b": 3.0}), {}, "cmrc")["f1"] == 2.0
