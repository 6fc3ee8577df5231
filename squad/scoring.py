"""Score the answers of a run: figures, curves, the official script, and the lines that show them."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Mapping, Sequence

from bert import heartbeat
from squad import evaluate
from squad.answers import official_script
from squad.data.questions import Question
from squad.data.squad_file import load_json

if TYPE_CHECKING:
    from squad.answers.nbest import Answers
    from squad.job import Job


def score_file(job: Job, answers: Answers) -> dict[str, float]:
    """Score the answers of predict_file, also with the official script if it is given; report the figures.

    Returns {} for a file without reference answers.

    Raises:
        DataError: the script fails.
    """
    questions = read_questions(job, answers)
    if not questions:
        return {}
    figures = score(job, questions, answers)
    if answers.null_odds:
        _trace(job, questions, answers)
    if job.flags.eval_script:
        _compare(job, figures)
    report(job, figures, len(questions))
    return figures


def read_questions(job: Job, answers: Answers) -> list[Question]:
    """List the questions of predict_file that are answered; none, and a line, if some have no reference."""
    flags = job.flags
    questions = evaluate.read_questions(load_json(flags.predict_file), flags.predict_file, references=False)
    if flags.num_eval_iterations or flags.max_eval_samples:
        questions = [question for question in questions if question.id in answers.predictions]
    unknown = sum(question.answers is None for question in questions)
    if not unknown:
        return questions
    which = "contains no" if unknown == len(questions) else f"{unknown} questions have no"
    job.say(f"{flags.predict_file}: {which} reference answers, so nothing is scored")
    return []


def score(job: Job, questions: Sequence[Question], answers: Answers) -> dict[str, float]:
    """Compute the official figures, per cent by the official keys, and `span_f1`.

    Raises:
        DataError: answers and questions are not of the same file.
    """
    odds: Mapping[str, float] | None = answers.null_odds or None
    threshold = job.flags.null_score_diff_threshold
    figures = evaluate.figures(questions, answers.predictions, odds, threshold)
    figures.update(evaluate.span_figures(questions, answers.predictions.best))
    return figures


def _trace(job: Job, questions: Sequence[Question], answers: Answers) -> None:
    """Write precision_recall.json, the official curves by name; average is in per cent."""
    scores = evaluate.score(questions, answers.predictions, False)
    document = {
        name: {
            "precisions": [round(value, 5) for value in curve.precisions],
            "recalls": [round(value, 5) for value in curve.recalls],
            "average": curve.average,
        }
        for name, curve in evaluate.curves(scores, answers.null_odds).items()
    }
    path = os.path.join(job.output_dir, "precision_recall.json")
    try:
        with open(path, "w", encoding="utf-8") as stream:
            json.dump(document, stream)
    except OSError as error:
        job.say(f"warning: {path}: cannot be written: {error.strerror}")


def _compare(job: Job, ours: Mapping[str, float]) -> None:
    """Run the official script on the same files and show its figures."""
    flags = job.flags
    if flags.num_eval_iterations or flags.max_eval_samples:
        job.say(f"{flags.eval_script}: not run, as only some questions are answered")
        return
    path = os.path.join(job.output_dir, "predictions.json")
    theirs = official_script.run(flags.eval_script, flags.predict_file, path)
    job.say(f"{flags.eval_script}: {'  '.join(f'{name} {value:.4f}' for name, value in theirs.items())}")
    for line in official_script.differences(ours, theirs):
        job.say(f"warning: the evaluations differ: {line}")


def report(job: Job, figures: Mapping[str, float], questions: int) -> None:
    """Print the figures and report them to the launcher."""
    if not figures:
        return
    heartbeat.artifact({"kind": "metrics", "values": dict(figures)})
    exact, f1 = evaluate.headline(figures)
    job.say(f"EM {exact:.3f}  F1 {f1:.3f}  on {questions} questions")
    for part in ("HasAns", "NoAns"):
        if part + "_f1" in figures:
            exact, f1, total = (figures[f"{part}_{name}"] for name in ("exact", "f1", "total"))
            job.say(f"  {part:<6}  EM {exact:.3f}  F1 {f1:.3f}  on {total:.0f}")
