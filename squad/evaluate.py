"""Score predictions as the official SQuAD scripts do; also a script with their command line.

    python squad/evaluate.py DEV PREDICTIONS [--na-prob-file F] [--na-prob-thresh X] [--out-file O]
    python squad/evaluate.py DEV PREDICTIONS --evaluation cmrc

A file of SQuAD 2.0 gets the figures of evaluate-v2.0.py, one of 1.1 those of evaluate-v1.1.py; its questions
say which it is (squad/data/questions.py), and with no-answer scores the figures are those of 2.0.
`--evaluation cmrc` prints what CMRC 2018's script prints (squad/cmrc.py).
Every distinct text is normalised once, as the official scripts spend most of their time there.
Standard library only: it starts fast and runs where nothing is installed.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import re
import string
import sys
from contextlib import suppress
from functools import partial, reduce
from itertools import compress
from operator import add
from typing import Any, Callable, Dict, Iterable, Mapping, NamedTuple, Sequence

if __package__ in (None, ""):  # run as a script: packages are beside squad/, not inside it
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from squad.answers import plots
from squad.answers.checks import check_na_probs, check_predictions, difference
from squad.answers.plots import Curve
from squad.answers.predictions import Predictions
from squad.answers.thresholds import best_threshold, precision_recall
from squad.data.questions import PREDICTION, SCORING, Question, Reader, version_2
from squad.data.squad_file import load_json, load_questions
from squad.errors import DataError

_ARTICLES = frozenset(["a", "an", "the"])
_ARTICLE = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = dict.fromkeys(map(ord, string.punctuation))
SQUAD, CMRC = "squad", "cmrc"  # whose rules score answers


class Scores(NamedTuple):
    """The scores of each question, by id, in the order of the data set."""

    exact: dict[str, float]
    f1: dict[str, float]
    has_answer: dict[str, bool]


def evaluate(
    dataset: Any,
    predictions: Mapping[str, str],
    na_probs: Mapping[str, float] | None = None,
    na_prob_thresh: float = 1.0,
) -> dict[str, float]:
    """Score `predictions` (id to text) against a SQuAD document, as json.load returns it.

    With `na_probs` (id to score of "no answer"), answers whose score is above `na_prob_thresh` count as
    empty, and the best thresholds are added. All figures except the totals are percentages. DataError names
    what does not fit.
    """
    return figures(read_questions(dataset), predictions, na_probs, na_prob_thresh)


def figures(
    questions: Sequence[Question],
    predictions: Mapping[str, str],
    na_probs: Mapping[str, float] | None = None,
    na_prob_thresh: float = 1.0,
    rules: str = SQUAD,
) -> dict[str, float]:
    """Score `predictions` of questions; see `evaluate`.

    rules: with CMRC the keys are those of SQuAD 2.0 and `average`, of exact and f1.

    The best thresholds are searched over `predictions.best` where that is given, else over the predictions.
    """
    check_predictions(questions, predictions)
    if na_probs is not None:
        check_na_probs(questions, na_probs)
    return _figures(questions, predictions, na_probs, na_prob_thresh, rules)


def _figures(
    questions: Sequence[Question],
    predictions: Mapping[str, str],
    na_probs: Mapping[str, float] | None,
    na_prob_thresh: float,
    rules: str = SQUAD,
) -> dict[str, float]:
    """Score predictions that are checked already."""
    if rules == SQUAD and na_probs is None and not version_2(questions):
        scores = score(questions, predictions, True)
        return {"exact_match": percent(scores.exact.values()), "f1": percent(scores.f1.values())}
    scores = judge(questions, predictions, rules)
    result = _summary(scores, na_probs or {}, na_prob_thresh)
    if rules == CMRC:
        if all(scores.has_answer.values()):  # as in CMRC: its groups are those of SQuAD 2.0
            result = {name: result[name] for name in ("exact", "f1", "total")}
        result["average"] = (result["exact"] + result["f1"]) * 0.5
    if na_probs is not None:
        best = predictions.best if isinstance(predictions, Predictions) else predictions
        if best is not predictions:
            scores = judge(questions, best, rules)
        result.update(_best(best, na_probs, scores))
    return result


def judge(questions: Sequence[Question], predictions: Mapping[str, str], rules: str = SQUAD) -> Scores:
    """Score each question by SQuAD 2.0's or CMRC's rules, before any no-answer threshold."""
    if rules == SQUAD:
        return score(questions, predictions, False)
    from squad import cmrc  # its patterns cost a twentieth of a start

    return Scores(*cmrc.score(questions, predictions), _has_answer(questions))


def _has_answer(questions: Sequence[Question]) -> dict[str, bool]:
    return {question.id: bool(question.answers) for question in questions}


def _best(predictions: Mapping[str, str], na_probs: Mapping[str, float], scores: Scores) -> dict[str, float]:
    """Find the best exact match and F1 of all thresholds."""
    result: dict[str, float] = {}
    for key, values in (("exact", scores.exact), ("f1", scores.f1)):
        best = best_threshold(values, predictions, na_probs, scores.has_answer)
        result["best_" + key], result[f"best_{key}_thresh"] = best
    return result


def span_figures(
    questions: Sequence[Question], best: Mapping[str, str], rules: str = SQUAD
) -> dict[str, float]:
    """Score the best non-empty answers of the questions that have one: `span_f1`, per cent; {} if none has.

    It measures finding spans alone, whatever the scores of "no answer".
    """
    answerable = [question for question in questions if question.answers]
    return {"span_f1": percent(judge(answerable, best, rules).f1.values())} if answerable else {}


def unified(result: Mapping[str, float]) -> dict[str, float]:
    """Return figures of either version with exact match as `exact`; SQuAD 1.1's script says `exact_match`."""
    return {"exact" if name == "exact_match" else name: value for name, value in result.items()}


def headline(result: Mapping[str, float]) -> tuple[float, float]:
    """Select exact match and F1 from a result of either version."""
    found = unified(result)
    return found["exact"], found["f1"]


def read_questions(dataset: Any, path: str = "", references: bool = True) -> list[Question]:
    """List the questions of a document, as `load_questions` returns it.

    Args:
        path: the file, for messages.
        references: refuse a question that can be answered and has no reference answer.

    Raises:
        DataError: a line for each fault.
    """
    reader = Reader(path, SCORING if references else PREDICTION)
    questions = [question for _, listed in reader.read(dataset) for question in listed]
    reader.finish()
    if not questions:
        where = f"{path}: " if path else ""
        raise DataError(f"{where}the data set contains no questions; give a SQuAD file")
    return questions


def normalize(text: str) -> str:
    """Lower-case a text; remove punctuation, articles and extra white space (the official rule)."""
    plain = text.isascii() and text.isprintable()
    text = text.lower().translate(_NO_PUNCTUATION)
    if plain:  # only spaces separate words, so articles are found without the regular expression
        return " ".join([word for word in text.split() if word not in _ARTICLES])
    return " ".join(_ARTICLE.sub(" ", text).split())


class _Normalized(Dict[str, str]):
    """The normalised form of each text, computed once."""

    def __missing__(self, text: str) -> str:
        value = self[text] = normalize(text)
        return value


def score(questions: Sequence[Question], predictions: Mapping[str, str], first_version: bool) -> Scores:
    """Score each question by its best reference answer, before any no-answer threshold."""
    normalized = _Normalized()
    exact: dict[str, float] = {}
    f1: dict[str, float] = {}
    for question in questions:
        key = question.id
        references = {normalized[answer.text] for answer in question.answers or ()}
        if not first_version:  # 2.0 drops references that normalise to nothing; 1.1 keeps them
            references.discard("")
        predicted = normalized[predictions[key]]
        same = predicted in references if references else not predicted
        exact[key] = int(same)
        if same:
            f1[key] = 1 if predicted or not first_version else 0
        else:
            f1[key] = max([_f1(reference, predicted) for reference in references]) if references else 0
    return Scores(exact, f1, _has_answer(questions))


def _f1(reference: str, predicted: str) -> float:
    """Compute the harmonic mean of the words' precision and recall, for two different normalised texts."""
    words, guess = reference.split(), predicted.split()
    rest, same = list(words), 0
    for word in guess:  # answers are short, so this is faster than two Counters
        if word in rest:
            rest.remove(word)
            same += 1
    if same == 0:
        return 0
    precision, recall = 1.0 * same / len(guess), 1.0 * same / len(words)
    return (2 * precision * recall) / (precision + recall)


def percent(values: Iterable[float]) -> float:
    """Average some fractions, in per cent, with the same last digits on every Python."""
    listed = list(values)
    return 100.0 * reduce(add, listed) / len(listed)  # from Python 3.12 on, sum() has other last digits


def _summary(scores: Scores, na_probs: Mapping[str, float], threshold: float) -> dict[str, float]:
    """Average over all questions, those with an answer and those without, under the official keys."""
    result: dict[str, float] = {}
    answerable = list(scores.has_answer.values())
    # A question whose no-answer score is above the threshold counts as answered with "".
    kept = [na_probs.get(key, 0.0) <= threshold for key in scores.has_answer]
    columns = {
        name: [
            value if keep else float(not can) for value, keep, can in zip(values.values(), kept, answerable)
        ]
        for name, values in (("exact", scores.exact), ("f1", scores.f1))
    }
    groups = (("", [True] * len(kept)), ("HasAns_", answerable), ("NoAns_", [not can for can in answerable]))
    for prefix, members in groups:
        if any(members):
            for name, values in columns.items():
                result[prefix + name] = percent(compress(values, members))
            result[prefix + "total"] = sum(members)
    return result


def curves(scores: Scores, na_probs: Mapping[str, float]) -> dict[str, Curve]:
    """Compute the three official curves; none if no question has an answer."""
    if not any(scores.has_answer.values()):
        return {}
    oracle = {key: float(value) for key, value in scores.has_answer.items()}
    kinds = (("pr_exact", scores.exact), ("pr_f1", scores.f1), ("pr_oracle", oracle))
    return {name: precision_recall(values, na_probs, scores.has_answer) for name, values in kinds}


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="evaluate.py", description="Score predictions on a SQuAD file.")
    parser.add_argument("data_file", metavar="data.json", help="SQuAD file, version 2.0 or 1.1")
    parser.add_argument("pred_file", metavar="pred.json", help="predictions: question id to text")
    parser.add_argument(
        "--out-file", "-o", metavar="eval.json", help="write the figures there, not to stdout"
    )
    parser.add_argument("--na-prob-file", "-n", metavar="na_prob.json", help="no-answer score per question")
    parser.add_argument(
        "--na-prob-thresh",
        "-t",
        type=_threshold,
        default=1.0,
        help="no answer if the score is above this (1.0)",
    )
    parser.add_argument("--out-image-dir", "-p", metavar="out_images", help="folder for the plots")
    parser.add_argument(
        "--evaluation", choices=(SQUAD, CMRC), default=SQUAD, help="whose rules: SQuAD's, or CMRC 2018's"
    )
    parser.add_argument("--verbose", "-v", action="store_true", help="print on stderr what was read")
    return parser.parse_args(argv)


def _run(options: argparse.Namespace) -> None:
    document = load_questions(options.data_file)
    if options.evaluation == CMRC:
        _run_cmrc(options, document)
        return
    questions = read_questions(document, options.data_file)
    predictions = _for_file(options.pred_file, questions, check_predictions)
    na_probs = _for_file(options.na_prob_file, questions, check_na_probs) if options.na_prob_file else None
    if options.verbose:
        print(f"evaluate: {len(predictions)} predictions from {options.pred_file}", file=sys.stderr)
    result = _figures(questions, predictions, na_probs, options.na_prob_thresh)
    traced = {}
    if na_probs is not None and options.out_image_dir:
        scores = score(questions, predictions, False)
        traced = curves(scores, na_probs)
        result.update({name + "_ap": curve.average for name, curve in traced.items()})
    _show(options, result, None if "exact_match" in result else 2)
    if options.out_image_dir:
        if na_probs is None:
            raise DataError("--out-image-dir needs no-answer scores to plot; give --na-prob-file")
        plots.write(options.out_image_dir, traced, na_probs, scores.has_answer)


def _show(options: argparse.Namespace, result: Mapping[str, Any], indent: int | None) -> None:
    if options.out_file:
        with open(options.out_file, "w", encoding="utf-8") as stream:
            json.dump(result, stream)
    else:
        print(json.dumps(result, indent=indent))


def _run_cmrc(options: argparse.Namespace, document: Any) -> None:
    """Print the figures under the names and in the form of CMRC's script."""
    if options.na_prob_file or options.out_image_dir:
        raise DataError("CMRC's rules know no no-answer scores; leave --na-prob-file and --out-image-dir out")
    questions = read_questions(document, options.data_file)
    check = partial(check_predictions, complete=False)
    predictions = _for_file(options.pred_file, questions, check)
    for line in difference(questions, predictions, "prediction"):
        print(f"evaluate: {options.pred_file}: {line}", file=sys.stderr)
    made = _figures(questions, predictions, None, 1.0, CMRC)
    named = {
        name: f"{made[key]:.3f}" for name, key in (("AVERAGE", "average"), ("F1", "f1"), ("EM", "exact"))
    }
    skipped = sum(question.id not in predictions for question in questions)
    _show(options, dict(named, TOTAL=len(questions), SKIP=skipped, FILE=options.pred_file), None)


def _for_file(
    path: str, questions: Sequence[Question], check: Callable[[Sequence[Question], Any], None]
) -> Any:
    """Load and check a file of one value for each question; a message begins with its path."""
    values = load_json(path)
    try:
        check(questions, values)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    return values


def _threshold(text: str) -> float:
    """Read a number; nan would compare false with every score."""
    with suppress(ValueError):
        if not math.isnan(float(text)):
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r:.40} is not a number")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    try:
        _run(_arguments(argv))
    except DataError as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"evaluate: {error.filename or 'output'}: {error.strerror or error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    gc.disable()  # a short program with a million objects: collecting costs a quarter of its time
    sys.exit(main())
