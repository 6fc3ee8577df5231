"""Predictions of two runs by question, and McNemar's exact test where the true answers are known."""

from __future__ import annotations

import math
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Mapping, NamedTuple

from launcher import foreign
from launcher.errors import ReadError
from launcher.typed_json import Value

LARGEST = 1 << 30  # bytes of nbest_predictions.json of a large evaluation
NAMES = ("predictions.json", "nbest_predictions.json")
FOLDERS = (".", "predictions", "ranks/0", "ranks/0/output")
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~]")

Answers = Mapping[str, str]  # by the id of the question; "" where there is none


class AnswerFigures(NamedTuple):
    """How the answers of two runs differ.

    questions: that both answered. differ: whose texts differ, normalised as by SQuAD. The rest is None
    where the true answers are not known: only_a, only_b: questions that one alone answered exactly; p: the
    chance that at least so unequal numbers come about where both are equally good (McNemar, exact).
    """

    questions: int
    differ: int
    only_a: int | None = None
    only_b: int | None = None
    p: float | None = None
    notes: tuple[str, ...] = ()


def find(place: Path) -> Path | None:
    """Find the predictions in a run folder, those of its last start, or beside a log."""
    folder = place if place.is_dir() else place.parent
    told = {path.name: path for path in _told(folder)}
    for name in NAMES:
        if name in told:
            return told[name]
    for inside in FOLDERS:
        for name in NAMES:
            if (folder / inside / name).is_file():
                return folder / inside / name
    return None


def _told(folder: Path) -> list[Path]:
    """List the files of a run that result.json names as predictions; those of earlier starts lie beside."""
    base = Path(os.path.realpath(str(folder)))
    with suppress(ReadError):
        result = foreign.read_json(folder / "result.json", foreign.DOCUMENT)
        paths = [Path(os.path.normpath(item.text())) for item in result.get("predictions", []).items()]
        return [path for path in paths if base in path.parents and path.is_file()]
    return []


def read_answers(path: Path) -> Answers:
    """Read predictions.json (id: text), or the first of each list of nbest_predictions.json. ReadError."""
    members = foreign.read_json(path, LARGEST, follow=True).members()
    return {question: _answer(value) for question, value in members.items()}


def _answer(value: Value) -> str:
    if isinstance(value.value, list):
        listed = value.items()
        return listed[0].get("text").text() if listed else ""
    return value.text()


def read_truth(path: Path) -> dict[str, tuple[str, ...]]:
    """Read the true answers of a SQuAD file, normalised; of a question that has none, "". ReadError."""
    found: dict[str, tuple[str, ...]] = {}
    for article in foreign.read_json(path, LARGEST, follow=True).get("data", []).items():
        for paragraph in article.get("paragraphs", []).items():
            for question in paragraph.get("qas", []).items():
                texts = {normalised(one.get("text").text()) for one in question.get("answers", []).items()}
                found[question.get("id").text()] = tuple(sorted(texts - {""})) or ("",)
    if not found:
        raise ReadError(f"{path}: no questions (expected a file of SQuAD)")
    return found


def normalised(text: str) -> str:
    """Normalise an answer as SQuAD's evaluation does: no case, punctuation, articles and double spaces.

    >>> normalised("The  U.S. Army")
    'us army'
    """
    return " ".join(_ARTICLES.sub(" ", _PUNCTUATION.sub("", text.lower())).split())


def compare_answers(
    a: Answers, b: Answers, truth: Mapping[str, tuple[str, ...]] | None = None
) -> AnswerFigures:
    """Compare the answers to the questions that both have."""
    shared = sorted(set(a) & set(b))
    texts = {question: (normalised(a[question]), normalised(b[question])) for question in shared}
    differ = sum(first != second for first, second in texts.values())
    only = len(set(a) ^ set(b))
    notes = [f"{only} question(s) are answered on one side alone"] if only else []
    known = [question for question in shared if truth and question in truth]
    if not truth or not known:
        return AnswerFigures(len(shared), differ, notes=tuple(notes))
    right = [tuple(text in truth[question] for text in texts[question]) for question in known]
    only_a, only_b = right.count((True, False)), right.count((False, True))
    if len(known) < len(shared):
        notes.append(f"the true answers of {len(shared) - len(known)} question(s) are not known")
    return AnswerFigures(len(shared), differ, only_a, only_b, mcnemar(only_a, only_b), tuple(notes))


def mcnemar(only_a: int, only_b: int) -> float:
    """Compute McNemar's exact test: twice the lower tail of the binomial distribution of 1/2, 1 at most.

    >>> round(mcnemar(1, 9), 4)
    0.0215
    """
    return min(1.0, 2 * tail(min(only_a, only_b), only_a + only_b, 0.5))


def tail(most: int, trials: int, chance: float) -> float:
    """Compute the chance of at most so many successes: the sum of a binomial distribution, by logarithms.

    >>> round(tail(1, 2, 0.5), 6)
    0.75
    """
    if most >= trials or chance <= 0:
        return 1.0
    if chance >= 1:
        return 0.0
    both = math.log(chance), math.log1p(-chance)
    whole = math.lgamma(trials + 1)
    terms = [
        whole - math.lgamma(k + 1) - math.lgamma(trials - k + 1) + k * both[0] + (trials - k) * both[1]
        for k in range(most + 1)
    ]
    top = max(terms, default=-math.inf)
    return min(1.0, math.exp(top) * sum(math.exp(term - top) for term in terms)) if terms else 0.0
