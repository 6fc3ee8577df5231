"""Evaluation, against the official script's printed output."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squad import evaluate as program
from squad.answers.predictions import Predictions
from squad.errors import DataError
from squad.evaluate import evaluate, headline, normalize

SCRIPT = Path(program.__file__)


def document(answers: dict[str, list[str]], first: bool = False) -> dict[str, Any]:
    """Make a SQuAD document of one paragraph, 2.0 or 1.1 (first): question id -> reference answers."""
    qas: list[Any] = []
    for key, texts in answers.items():
        qas.append({"id": key, "answers": [{"text": text} for text in texts]})
        if not first:
            qas[-1]["is_impossible"] = not texts
    return {"version": "v2.0", "data": [{"paragraphs": [{"qas": qas}]}]}


def run(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the script as a user does, outside any package."""
    command = [sys.executable, str(SCRIPT)] + [str(argument) for argument in arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/")
    assert done.returncode == code, done.stderr
    return done


@pytest.mark.parametrize("case", range(4))
def test_prints_exactly_what_the_official_script_prints(shared: Path, case: int) -> None:
    golden = shared / "golden" / "evaluate"
    dev = shared / "data" / "squad2" / "dev.json"
    predictions = golden / (f"predictions_{case}.json")
    odds = golden / (f"null_odds_{case}.json")
    assert run(dev, predictions).stdout == (golden / (f"official_{case}.json")).read_text()
    printed = run(dev, predictions, "--na-prob-file", odds, "--na-prob-thresh", 0.25).stdout
    assert printed == (golden / (f"official_{case}_odds.json")).read_text()


def test_writes_the_figures_to_a_file(tmp_path: Path) -> None:
    files = _files(tmp_path, {"a": ["x"]}, {"a": "x"})
    out = tmp_path / "eval.json"
    assert run(*files, "-o", out).stdout == ""
    assert json.loads(out.read_text())["exact"] == 100.0


def _files(folder: Path, answers: dict[str, list[str]], predictions: Any) -> list[Path]:
    paths = [folder / "dev.json", folder / "predictions.json"]
    for path, value in zip(paths, (document(answers), predictions)):
        path.write_text(json.dumps(value))
    return paths


@pytest.mark.parametrize(
    "text, expected",
    [
        ("The  Quick, brown-fox!", "quick brownfox"),
        ("An A the", ""),
        ("a.b", "ab"),
        ("theory", "theory"),
        ("ΑΣ «x»", "ας «x»"),
        ("it's\tthe\u00a0end", "its end"),
    ],
)
def test_normalises_by_the_official_rule(text: str, expected: str) -> None:
    assert normalize(text) == expected


def slow_scores(answers: list[str], predicted: str, first_version: bool) -> list[float]:
    """State the official rule for one question, one reference at a time."""

    def words(text: str) -> list[str]:
        kept = "".join(c for c in text.lower() if c not in "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
        return re.sub(r"\b(a|an|the)\b", " ", kept).split()

    references = [words(text) for text in answers]
    if not first_version:
        references = [reference for reference in references if reference] or [[]]
    best = [0.0, 0.0]
    for reference in references:
        guess, rest = words(predicted), list(reference)
        exact = float(guess == reference)
        same = sum(1 for word in guess if word in rest and not rest.remove(word))  # type: ignore[func-returns-value]
        f1 = 2.0 * same / (len(guess) + len(reference)) if same else 0.0
        if not first_version and not (guess and reference):
            f1 = exact
        best = [max(best[0], exact), max(best[1], f1)]
    return best


texts = st.text(alphabet="ab the.É\t_\x01", max_size=8)


@given(st.lists(texts, max_size=4), texts, st.booleans())
def test_scores_equal_the_rule_stated_slowly(answers: list[str], predicted: str, first: bool) -> None:
    if first and not answers:
        answers = ["x"]
    result = evaluate(document({"q": answers}, first), {"q": predicted})
    exact, f1 = slow_scores(answers, predicted, first)
    assert headline(result) == (pytest.approx(100 * exact), pytest.approx(100 * f1))


@given(
    st.lists(
        st.tuples(st.booleans(), st.sampled_from(["x", ""]), st.sampled_from([-1.5, 0.0, 0.5, 2.0])),
        min_size=1,
        max_size=12,
    )
)
def test_the_best_threshold_is_the_best_of_all(rows: list[Any]) -> None:
    keys = [f"q{i}" for i in range(len(rows))]
    data = document({key: ["x"] if row[0] else [] for key, row in zip(keys, rows)})
    guesses = {key: row[1] for key, row in zip(keys, rows)}
    odds = {key: row[2] for key, row in zip(keys, rows)}
    result = evaluate(data, guesses, odds)
    reached = [evaluate(data, guesses, odds, t)["exact"] for t in [-9.0, *odds.values()]]
    # The official search also looks between questions of equal odds, so it may find more.
    assert result["best_exact"] >= max(reached) - 1e-9
    if len(set(odds.values())) == len(odds):
        assert result["best_exact"] == pytest.approx(max(reached))


def test_scores_squad_1_with_the_keys_of_its_own_script() -> None:
    data = document({"a": ["cat", "the dog"], "b": ["one two"]}, first=True)
    result = evaluate(data, {"a": "dog", "b": "two"})
    assert result == {"exact_match": 50.0, "f1": pytest.approx(100 * (1 + 2 / 3) / 2)}


def test_prints_squad_1_on_one_line_as_its_own_script_does(tmp_path: Path) -> None:
    dev, predictions = _files(tmp_path, {}, {"a": "dog"})
    dev.write_text(json.dumps(document({"a": ["dog"]}, first=True)))
    assert run(dev, predictions).stdout == '{"exact_match": 100.0, "f1": 100.0}\n'


def test_leaves_out_the_group_that_has_no_question() -> None:
    assert "NoAns_total" not in evaluate(document({"a": ["x"]}), {"a": "x"})
    assert "HasAns_total" not in evaluate(document({"a": []}), {"a": ""})


@pytest.mark.parametrize(
    "predictions, message",
    [
        ({"a": "x"}, "2 of 3 questions have no prediction: b, c"),
        ({"a": "x", "b": "", "c": "", "z": ""}, "1 predictions are for no question of this file: z"),
        ({"a": "x", "b": None, "c": 3}, "2 predictions are not strings: b, c"),
        (
            {"a": 1, "z": ""},
            "2 of 3 .*: b, c; 1 predictions are for no .*: z; 1 predictions are not strings: a",
        ),
        (["x"], "not a JSON object"),
        ({"a": [{"text": "x"}]}, "^this may be nbest_predictions.json"),
        ({"a": 0.5}, "^this may be null_odds.json"),
        ({"data": []}, "^this is a SQuAD file"),
    ],
)
def test_counts_and_names_predictions_that_do_not_fit(predictions: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        evaluate(document({"a": ["x"], "b": [], "c": ["y"]}), predictions)


@pytest.mark.parametrize(
    "odds, message",
    [
        ({}, "1 of 1 questions have no no-answer score: a"),
        ({"a": "1"}, "1 no-answer scores are not numbers: a"),
        ({"a": float("nan")}, "1 no-answer scores are not numbers: a; the first one is nan"),
        ({"a": float("inf")}, "1 no-answer scores are not numbers: a"),
        ({"a": 10**400}, "1 no-answer scores are not numbers: a"),
        ({"a": True}, "1 no-answer scores are not numbers: a"),
        ({"a": 1, "b": 2}, "1 no-answer scores are for no question of this file: b"),
        (3, "not a JSON object"),
    ],
)
def test_counts_and_names_no_answer_scores_that_do_not_fit(odds: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        evaluate(document({"a": ["x"]}), {"a": "x"}, odds)


def test_a_long_list_of_missing_questions_is_cut() -> None:
    answers: dict[str, list[str]] = {f"q{i}": [] for i in range(9)}
    with pytest.raises(DataError, match=r"9 of 9 questions have no prediction: q0, q1, q2, q3, q4, \.\.\.$"):
        evaluate(document(answers), {})


def test_with_no_answer_scores_squad_1_gets_the_figures_of_2() -> None:
    data = document({"a": ["x"], "b": ["y"]}, first=True)
    result = evaluate(data, {"a": "x", "b": "y"}, {"a": 0, "b": 3}, 1)
    assert (result["exact"], result["HasAns_total"], result["best_exact"]) == (50.0, 2, 100.0)


@pytest.mark.parametrize("version", ["1.1", "v1.1", "1.3", "v2.0", 1.1, None])
def test_the_questions_say_which_version_a_file_has(version: Any) -> None:
    first, second = document({"a": ["x"]}, first=True), document({"a": ["x"], "b": []})
    first["version"] = second["version"] = version
    assert "exact_match" in evaluate(first, {"a": "x"})
    assert evaluate(second, {"a": "x", "b": ""})["NoAns_exact"] == 100.0
    for question in second["data"][0]["paragraphs"][0]["qas"]:  # only the empty answers say it
        del question["is_impossible"]
    assert evaluate(second, {"a": "x", "b": ""})["NoAns_exact"] == 100.0


def test_the_best_threshold_counts_answers_that_the_runs_own_threshold_emptied() -> None:
    data = document({"a": ["x"], "b": []})
    odds = {"a": 1.0, "b": 4.0}
    emptied = Predictions()
    emptied.update({"a": "", "b": ""})
    alone = evaluate(data, dict(emptied), odds, 0.0)  # as the official script, which knows no more
    emptied.best = {"a": "x", "b": "y"}
    result = evaluate(data, emptied, odds, 0.0)
    assert (alone["best_exact"], result["best_exact"], result["best_exact_thresh"]) == (50.0, 100.0, 1.0)
    assert {key: alone[key] for key in alone if "best" not in key} == {
        key: result[key] for key in result if "best" not in key
    }


def _without(key: str) -> Any:
    data = document({"a": ["x"], "b": ["y"]})
    del data["data"][0]["paragraphs"][0]["qas"][1][key]
    return data


@pytest.mark.parametrize(
    "data, message",
    [
        (_without("answers"), r"^data\[0\].paragraphs\[0\].qas\[1\].answers: missing .*\(question b\)$"),
        (_without("id"), r"^data\[0\].paragraphs\[0\].qas\[1\].id: missing \(the object has answers, "),
        (3, "3 is not a JSON object"),
        ({"data": 3}, "data: 3 is not a list"),
        ({"data": []}, "no questions"),
        ({"a": "x", "b": "y"}, "ids and values, as in predictions.json"),
    ],
)
def test_names_the_place_where_the_data_set_is_broken(data: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        evaluate(data, {"a": "x", "b": "y"})


def test_refuses_an_id_given_twice() -> None:
    data = document({"a": ["x"]})
    data["data"] = data["data"] * 2
    with pytest.raises(DataError, match=r"^data\[1\].*: duplicate id a, first used by data\[0\]"):
        evaluate(data, {"a": "x"})


@pytest.mark.parametrize("broken, message", [('{"a": \n"x",}', ":2:5: invalid JSON"), (None, "No such file")])
def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, broken: str | None, message: str) -> None:
    dev, predictions = _files(tmp_path, {"a": ["x"]}, {})
    predictions.unlink()
    if broken is not None:
        predictions.write_text(broken)
    stderr = run(dev, predictions, code=2).stderr
    assert stderr.startswith(f"evaluate: {predictions}")
    assert message in stderr
    assert stderr.count("\n") == 1


def test_files_of_windows_editors_and_numbers_as_ids_are_read(tmp_path: Path) -> None:
    files = _files(tmp_path, {"a": ["x"], "b": []}, {"43958": "x", "b": ""})
    text = files[0].read_text().replace('"a"', "43958")
    files[0].write_text(text, encoding="utf-8-sig")
    files[1].write_text(files[1].read_text(), encoding="utf-8-sig")
    assert json.loads(run(*files).stdout)["exact"] == 100.0


def test_a_folder_for_the_figures_and_a_threshold_of_nan_are_one_line(tmp_path: Path) -> None:
    files = _files(tmp_path, {"a": ["x"]}, {"a": "x"})
    assert run(*files, "-o", tmp_path, code=2).stderr == f"evaluate: {tmp_path}: Is a directory\n"
    for text in ("nan", "x"):
        assert f"-t: '{text}' is not a number" in run(*files, "-t", text, code=2).stderr


def test_missing_predictions_are_one_line_and_an_exit_code(tmp_path: Path) -> None:
    files = _files(tmp_path, {"a": ["x"], "b": []}, {"a": "x"})
    done = run(*files, code=2)
    assert done.stderr == f"evaluate: {files[1]}: 1 of 2 questions have no prediction: b\n"
    assert done.stdout == ""
