"""Refuse predictions and no-answer scores that do not fit the questions. Standard library only."""

from __future__ import annotations

import math
from typing import Any, Mapping, Sequence

from squad.data.layouts import name, shown
from squad.data.questions import Question
from squad.errors import DataError

_SHOWN = 5  # ids named in an error message


def check_predictions(
    questions: Sequence[Question], predictions: Mapping[str, str], complete: bool = True
) -> None:
    """Refuse predictions that are not texts, exactly one for each question.

    complete: else questions may be without one, and others too many, but not all.
    """
    if not isinstance(predictions, Mapping):
        raise DataError(f"predictions are not a JSON object of question id to text, but {shown(predictions)}")
    answered = not complete and any(question.id in predictions for question in questions)
    problems = [] if answered else difference(questions, predictions, "prediction")
    wrong = [key for key, value in predictions.items() if not isinstance(value, str)]
    if wrong:
        value = shown(predictions[wrong[0]])
        problems.append(f"{len(wrong)} predictions are not strings: {_some(wrong)}; the first one is {value}")
    if problems:
        raise DataError("; ".join([*_mistaken(predictions), *problems]))


def _mistaken(given: Mapping[str, Any]) -> list[str]:
    """Name another of the program's files that was given as predictions."""
    values = list(given.values())
    if isinstance(given.get("data"), list):
        return ["this is a SQuAD file, not predictions; give the predictions second"]
    if values and all(isinstance(value, list) for value in values):
        return ["this may be nbest_predictions.json; give predictions.json"]
    if values and all(isinstance(value, (int, float)) for value in values):
        return ["this may be null_odds.json; give predictions.json, and this one as --na-prob-file"]
    return []


def check_na_probs(questions: Sequence[Question], na_probs: Mapping[str, float]) -> None:
    """Refuse no-answer scores that are not exactly one number for each question."""
    if not isinstance(na_probs, Mapping):
        raise DataError(
            f"no-answer scores are not a JSON object of question id to number, but {shown(na_probs)}"
        )
    problems = difference(questions, na_probs, "no-answer score")
    unusual = (key for key, value in na_probs.items() if type(value) is not float or not math.isfinite(value))
    wrong = [key for key in unusual if not _is_finite(na_probs[key])]
    if wrong:
        value = shown(na_probs[wrong[0]])
        problems.append(
            f"{len(wrong)} no-answer scores are not numbers: {_some(wrong)}; the first one is {value}"
        )
    if problems:
        raise DataError("; ".join(problems))


def _is_finite(value: Any) -> bool:
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number beyond float
        return False


def difference(questions: Sequence[Question], given: Mapping[str, Any], noun: str) -> list[str]:
    """Describe which questions are missing in `given`, and which entries of `given` are for no question."""
    ids = {question.id for question in questions}
    problems: list[str] = []
    if ids == given.keys():
        return problems
    missing = [question.id for question in questions if question.id not in given]
    if missing:
        problems.append(f"{len(missing)} of {len(ids)} questions have no {noun}: {_some(missing)}")
    extra = [key for key in given if key not in ids]
    if extra:
        problems.append(f"{len(extra)} {noun}s are for no question of this file: {_some(extra)}")
    return problems


def _some(keys: Sequence[str]) -> str:
    listed = ", ".join(name(str(key)) for key in keys[:_SHOWN])
    return listed + (", ..." if len(keys) > _SHOWN else "")
