"""Score the answers of a run: figures, curves, the official script, and the lines that show them."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Mapping, Sequence

from bert import heartbeat
from bert.checkpoints.store import sha256
from squad import evaluate, null_threshold
from squad.answers import official_script
from squad.data.questions import Question
from squad.data.squad_file import load_questions

if TYPE_CHECKING:
    from squad.answers.nbest import Answers
    from squad.job import Job
    from squad.null_threshold import Threshold


def score_file(job: Job, answers: Answers, checkpoint: str, threshold: Threshold) -> dict[str, float]:
    """Score the answers of predict_file, also with the official script if it is given; report the figures.

    The best threshold is searched as well, and kept with the checkpoint. Returns {} for a file without
    reference answers.

    Raises:
        DataError: the script fails.
    """
    questions = read_questions(job, answers)
    if not questions:
        return {}
    figures = score(job, questions, answers, threshold.value)
    if answers.null_odds:
        _trace(job, questions, answers)
    if job.flags.eval_script:
        _compare(job, questions, figures)
    data = {"name": os.path.basename(job.flags.predict_file), "sha256": sha256(job.flags.predict_file)}
    report(job, figures, len(questions), f"at {threshold}: " if answers.null_odds else "")
    if threshold.sha256 == data["sha256"]:
        job.say("  no result: this threshold was searched on this file")
    found = null_threshold.search(questions, answers, data, job.flags.evaluation)
    if found:
        # One that auto took stays: the same command gives the same figures again.
        kept = "" if threshold.origin else "; " + null_threshold.keep(checkpoint, found)
        _report_best(job, questions, answers, found, kept)
    return figures


def read_questions(job: Job, answers: Answers) -> list[Question]:
    """List the questions of predict_file that are answered; none, and a line, if some have no reference."""
    flags = job.flags
    path = flags.predict_file
    questions = evaluate.read_questions(load_questions(path), path, references=False)
    if flags.num_eval_iterations or flags.max_eval_samples:
        questions = [question for question in questions if question.id in answers.predictions]
    unknown = sum(question.answers is None for question in questions)
    if not unknown:
        return questions
    which = "contains no" if unknown == len(questions) else f"{unknown} questions have no"
    job.say(f"{path}: {which} reference answers, so nothing is scored")
    return []


def unfit(questions: Sequence[Question], keep_best: str) -> str:
    """Say why a training cannot evaluate itself on questions, with this figure as its best; "" if it can."""
    unknown = sum(question.answers is None for question in questions)
    if not unknown:
        if keep_best == "span_f1" and not any(question.answers for question in questions):
            return "no question has an answer, so there is no span_f1; give keep_best=f1"
        return ""
    return (
        f"{unknown} of {len(questions)} questions have no reference answers, so nothing can be evaluated"
        " while training; give a file with answers, or eval_share=0.1 for a share of train_file"
    )


def score(
    job: Job, questions: Sequence[Question], answers: Answers, threshold: float = 0.0
) -> dict[str, float]:
    """Compute the official figures, per cent by the official keys, and `span_f1`.

    threshold: of "no answer", with which the answers were chosen.

    Raises:
        DataError: answers and questions are not of the same file.
    """
    odds: Mapping[str, float] | None = answers.null_odds or None
    rules = job.flags.evaluation
    # Without scores of "no answer" there is nothing that a threshold empties.
    limit = threshold if odds else 1.0
    figures = evaluate.figures(questions, answers.predictions, odds, limit, rules)
    figures.update(evaluate.span_figures(questions, answers.predictions.best, rules))
    return figures


def _trace(job: Job, questions: Sequence[Question], answers: Answers) -> None:
    """Write precision_recall.json, the official curves by name; average is in per cent."""
    scores = evaluate.judge(questions, answers.predictions, job.flags.evaluation)
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


def _compare(job: Job, questions: Sequence[Question], ours: Mapping[str, float]) -> None:
    """Run the official script on the same files and show its figures."""
    flags = job.flags
    if flags.num_eval_iterations or flags.max_eval_samples:
        job.say(f"{flags.eval_script}: not run, as only some questions are answered")
        return
    path = os.path.join(job.output_dir, "predictions.json")
    asked = flags.predict_file
    if not official_script.standard(asked):
        asked = os.path.join(job.output_dir, "questions.json")
        official_script.convert(questions, asked)
        job.say(f"{flags.eval_script}: reads {asked}, the same questions and answers in SQuAD's layout")
    theirs = official_script.run(flags.eval_script, asked, path)
    job.say(f"{flags.eval_script}: {'  '.join(f'{name} {value:.4f}' for name, value in theirs.items())}")
    for line in official_script.differences(ours, theirs):
        job.say(f"warning: the evaluations differ: {line}")


def report(job: Job, figures: Mapping[str, float], questions: int, title: str = "") -> None:
    """Print the figures, after a title, and report them to the launcher."""
    if not figures:
        return
    heartbeat.artifact({"kind": "metrics", "values": dict(figures)})
    exact, f1 = evaluate.headline(figures)
    job.say(f"{title}EM {exact:.3f}  F1 {f1:.3f}  on {questions} questions")
    for part in ("HasAns", "NoAns"):
        if part + "_f1" in figures:
            exact, f1, total = (figures[f"{part}_{name}"] for name in ("exact", "f1", "total"))
            job.say(f"  {part:<6}  EM {exact:.3f}  F1 {f1:.3f}  on {total:.0f}")
    if "HasAns_total" in figures and "span_f1" in figures:
        total = figures["HasAns_total"]
        job.say(f"  spans   F1 {figures['span_f1']:.3f}  on {total:.0f}, best answers that are not empty")


def _report_best(
    job: Job, questions: Sequence[Question], answers: Answers, found: Mapping[str, Any], kept: str
) -> None:
    """Print what the best threshold gives on the questions on which it was searched."""
    best, rules = answers.predictions.best, job.flags.evaluation
    reached = evaluate.figures(questions, best, answers.null_odds, found["f1"], rules)
    title = f"best threshold {found['f1']:.6g} (searched on these questions)"
    job.say(f"{title}: EM {reached['exact']:.3f}  F1 {reached['f1']:.3f}{kept}")
