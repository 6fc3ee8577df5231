"""The threshold of "no answer": searched on answered questions, kept with the checkpoint, used by `auto`.

PREFIX.json of a checkpoint holds it under `threshold`:
{"f1": for the best F1, "exact": for the best EM, "questions": searched on, "data": {"name", "sha256"}}.
An export's config.json holds F1's as `threshold`, and the file as `threshold_from`: {"name", "sha256",
"questions"}.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Mapping, Sequence

from bert import files
from bert.checkpoints import index, store
from bert.errors import CheckpointError
from bert.model_files import THRESHOLD_FROM, of_threshold, recorded_task
from squad import evaluate, task
from squad.answers.thresholds import stable_threshold
from squad.errors import DataError

if TYPE_CHECKING:
    from squad.answers.nbest import Answers
    from squad.data.questions import Question
    from squad.flags import SquadFlags

KEY = "threshold"  # in PREFIX.json
_ADVICE = "predict a labelled file with it first, as this stores one, or give the number"


@dataclass(frozen=True)
class Threshold:
    """A threshold to answer with, and where it comes from."""

    value: float
    origin: str = ""  # ", from dev.json (2000 questions)"; "": a flag
    sha256: str = ""  # of the file of those questions

    def __str__(self) -> str:
        return f"threshold {self.value:.6g}{self.origin}"


def chosen(flags: SquadFlags, checkpoint: str) -> Threshold:
    """Return the flag's threshold, or with auto the checkpoint's. DataError: it has none."""
    given = flags.null_score_diff_threshold
    return of_checkpoint(checkpoint) if given is None else Threshold(given)


def problem(flags: SquadFlags) -> str:
    """Say before anything starts why the flag's threshold cannot be used; "" if it can."""
    given = flags.null_score_diff_threshold
    if given is not None:
        return f"{given} is not a number" if math.isnan(given) else ""
    if not flags.do_predict:
        return ""
    if not flags.version_2_with_negative:
        return "auto is for SQuAD 2.0; give version_2_with_negative, or leave this out"
    if flags.do_train:
        return "" if flags.evaluates else "auto needs an evaluation before; give eval_epochs, or train first"
    try:
        of_checkpoint(flags.init_checkpoint)
    except DataError as error:
        return str(error)
    return ""


def of_checkpoint(checkpoint: str) -> Threshold:
    """Read the threshold that is kept with a checkpoint or export.

    Raises:
        DataError: there is none.
    """
    try:
        value = task.read(checkpoint).threshold
    except ValueError as error:
        raise DataError(f"{checkpoint}: {error}; give null_score_diff_threshold as a number") from None
    if value is None:
        raise DataError(f"{checkpoint} has no threshold for null_score_diff_threshold=auto; {_ADVICE}")
    held = recorded_task(checkpoint).get(THRESHOLD_FROM)
    if not isinstance(held, dict) or type(held.get("questions")) is not int:
        return Threshold(value, ", from the model's config.json")
    name, digest = (str(held.get(key, "")) for key in ("name", "sha256"))
    return Threshold(value, f", from {name} ({held['questions']} questions)", digest)


def stored(checkpoint: str) -> dict[str, Any]:
    """Return what PREFIX.json holds; {} if that is none or damaged."""
    held = index.record(checkpoint).get(KEY)
    if not isinstance(held, dict) or not isinstance(held.get("data"), dict):
        return {}
    numbers = all(
        type(held.get(name)) in (int, float) and math.isfinite(held[name]) for name in ("f1", "exact")
    )
    return held if numbers and type(held.get("questions")) is int else {}


def search(
    questions: Sequence[Question], answers: Answers, data: Mapping[str, Any], rules: str = "squad"
) -> dict[str, Any]:
    """Search the thresholds over the best answers that are not empty; {} without scores of "no answer".

    data: the name and sha256 of the file, as it is stored.
    """
    if not answers.null_odds or not questions:
        return {}
    best = answers.predictions.best
    scores = evaluate.judge(questions, best, rules)
    found: dict[str, Any] = {
        name: stable_threshold(values, answers.null_odds, scores.has_answer)
        for name, values in (("f1", scores.f1), ("exact", scores.exact))
    }
    return dict(found, questions=len(questions), data=dict(data))


def keep(checkpoint: str, found: Mapping[str, Any]) -> str:
    """Store what `search` found; say in a few words what the checkpoint now holds.

    One that is stored stays, unless it was searched on fewer questions.
    """
    held = stored(checkpoint)
    name = os.path.basename(checkpoint) + ".json"
    if held == found:
        return f"stored in {name}"
    if held and held["questions"] >= found["questions"]:
        return (
            f"{name} keeps {held['f1']:.6g} from {held['data'].get('name')} ({held['questions']} questions)"
        )
    if not index.record(checkpoint):
        return "not stored: the checkpoint has no JSON of a run"
    try:
        store.amend(checkpoint, {KEY: dict(found)})
    except CheckpointError as error:
        return f"not stored: {error}"
    if held:
        gone = f"{held['f1']:.6g} from {held['data'].get('name')} ({held['questions']} questions)"
        return f"stored in {name} in place of {gone}"
    return f"stored in {name}"


def put(folder: str, found: Mapping[str, Any]) -> None:
    """Write what `search` found into an export's config.json, F1's in place of the checkpoint's.

    Raises:
        OSError, ValueError: the file cannot be read or written.
    """
    path = os.path.join(folder, "config.json")
    values = files.read_object(path, 4 << 20)
    held = values.setdefault("task_specific_params", {}).setdefault("squad", {})
    held.update(of_threshold(found))
    store.write_atomic(path, json.dumps(values, indent=2, sort_keys=True) + "\n")
