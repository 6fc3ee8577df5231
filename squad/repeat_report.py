"""The figures of repeated runs, and tests against others: `python -m squad.repeat_report <request >report`.

The request is JSON:

    {"data": FILE, "evaluation": "squad", "resample": "passage", "resamples": 10000, "random_seed": 0,
     "sides": [{"name": N, "runs": [{"seed": S, "predictions": FILE or null, "figures": {...}}, ...]}, ...]}

A run has a file of predictions, or figures as per cent (`exact` or `exact_match`, `f1`), which are taken as
they are. With two sides they are compared; the second is what is new.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Iterable, Mapping, Sequence

from squad import cmrc, evaluate, statistics
from squad.data.questions import SCORING, Question, Reader, version_2
from squad.data.squad_file import load_json, load_questions
from squad.errors import DataError

FIGURES = ("exact", "f1")
UNITS = ("question", "passage", "article")
Rows = Mapping[str, Sequence[float]]  # the value of each question, by figure


class Data:
    """The questions of a file, and the group of each: drawn together, as they are not independent."""

    def __init__(self, path: str, evaluation: str) -> None:
        self.path, self._evaluation = path, evaluation
        reader = Reader(path, SCORING)
        self.questions: list[Question] = []
        self._contexts: list[str] = []
        for context, listed in reader.read(load_questions(path)):
            self.questions += listed
            self._contexts += [context] * len(listed)
        reader.finish()
        if not self.questions:
            raise DataError(f"{path}: the data set contains no questions; give a SQuAD file")

    def keep(self, ids: Iterable[str]) -> None:
        """Leave out the questions that not every run has answered. DataError: none is left."""
        wanted = set(ids)
        kept = [place for place, question in enumerate(self.questions) if question.id in wanted]
        self.questions = [self.questions[place] for place in kept]
        self._contexts = [self._contexts[place] for place in kept]
        if not kept:
            raise DataError(f"{self.path}: no question that every run has answered; give their predict_file")

    def rows(self, predictions: Mapping[str, str]) -> Rows:
        """Score each question."""
        if self._evaluation == "cmrc":
            exact, f1 = cmrc.score(self.questions, predictions)
        else:
            exact, f1, _ = evaluate.score(self.questions, predictions, not version_2(self.questions))
        return {
            name: [float(values[question.id]) for question in self.questions]
            for name, values in (("exact", exact), ("f1", f1))
        }

    def groups(self, unit: str) -> list[int]:
        """Number the groups of the questions. DataError: the file has no articles."""
        if unit == "article" and any(question.place[1] < 0 for question in self.questions):
            raise DataError(f"{self.path}: no articles in this layout; resample by passage or question")
        keys: list[Any] = [question.id for question in self.questions]
        if unit == "article":
            keys = [question.place[0] for question in self.questions]
        elif unit == "passage":
            keys = self._contexts
        numbers: dict[Any, int] = {}
        return [numbers.setdefault(key, len(numbers)) for key in keys]


def report(request: Mapping[str, Any]) -> dict[str, Any]:
    """Compute the report of a request. DataError: a file, or what is asked, is of no use."""
    sides = request["sides"]
    texts = {
        run["predictions"]: _texts(run["predictions"])
        for side in sides
        for run in side["runs"]
        if run.get("predictions")
    }
    found: dict[str, Any] = {}
    scored: dict[str, Rows] = {}
    data = None
    if texts and request.get("data"):
        data = Data(request["data"], request.get("evaluation", "squad"))
        total = len(data.questions)
        data.keep(set.intersection(*map(set, texts.values())))
        scored = {path: data.rows(predictions) for path, predictions in texts.items()}
        found.update(questions=len(data.questions), left_out=total - len(data.questions))
        found["same_questions"] = len(set(map(frozenset, texts.values()))) == 1
    found["sides"] = [_side(side, scored) for side in sides]
    if len(sides) == 2:
        found["tests"] = _tests(request, found["sides"], data, [_scored(side, scored) for side in sides])
    return found


def _texts(path: str) -> dict[str, str]:
    """Read predictions. DataError: they are no texts by id."""
    found = load_json(path)
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise DataError(f"{path}: no object of question id to text; give predictions.json")
    return found


def _side(side: Mapping[str, Any], scored: Mapping[str, Rows]) -> dict[str, Any]:
    """Return the figures of each run of a side, and their summary."""
    runs = []
    for run in side["runs"]:
        rows = scored.get(run.get("predictions") or "")
        given = run.get("figures") or {}
        figures: dict[str, float | None]
        if rows:
            figures = {name: evaluate.percent(rows[name]) for name in FIGURES}
        else:
            figures = {"exact": given.get("exact", given.get("exact_match")), "f1": given.get("f1")}
        runs.append({"seed": run["seed"], **figures})
    columns = {name: [run[name] for run in runs if run[name] is not None] for name in FIGURES}
    summaries = {name: statistics.summary(values)._asdict() for name, values in columns.items() if values}
    return {"name": side["name"], "runs": runs, "summary": {name: dict(s) for name, s in summaries.items()}}


def _scored(side: Mapping[str, Any], scored: Mapping[str, Rows]) -> list[tuple[Any, Rows]]:
    """List (seed, values of the questions) of a side's runs that have predictions."""
    listed = [(run["seed"], scored.get(run.get("predictions") or "")) for run in side["runs"]]
    return [(seed, rows) for seed, rows in listed if rows]


def _tests(
    request: Mapping[str, Any],
    sides: Sequence[Mapping[str, Any]],
    data: Data | None,
    scored: Sequence[Sequence[tuple[Any, Rows]]],
) -> dict[str, Any]:
    """Compare the second side with the first: over seeds, and over questions where they are known."""
    tests: dict[str, Any] = {}
    columns = [
        {name: [run[name] for run in side["runs"] if run[name] is not None] for name in FIGURES}
        for side in sides
    ]
    sizes = [len(column["f1"]) for column in columns]
    if min(sizes) and max(sizes) > 1:
        tests["welch"] = {
            name: statistics.welch(columns[0][name], columns[1][name])._asdict() for name in FIGURES
        }
    if min(sizes) > 1:
        tests["detectable"] = {
            name: statistics.detectable(_pooled(columns[0][name], columns[1][name]), *sizes)
            for name in FIGURES
        }
    if data and all(scored):
        tests.update(_of_questions(request, data, scored))
    return tests


def _pooled(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the standard deviation that two sides have in common."""
    both = [(len(values) - 1, statistics.summary(values).sd or 0.0) for values in (first, second)]
    return float((sum(df * sd**2 for df, sd in both) / sum(df for df, _ in both)) ** 0.5)


def _of_questions(
    request: Mapping[str, Any], data: Data, scored: Sequence[Sequence[tuple[Any, Rows]]]
) -> dict[str, Any]:
    exact = [[rows["exact"] for _, rows in side] for side in scored]
    f1 = [[rows["f1"] for _, rows in side] for side in scored]
    by_seed = [dict(side) for side in scored]
    pairs = {
        str(seed): statistics.mcnemar(*([value == 1 for value in side[seed]["exact"]] for side in by_seed))
        for seed in by_seed[0]
        if seed in by_seed[1]
    }
    groups = data.groups(request["resample"])
    drawn = statistics.bootstrap(f1[0], f1[1], groups, request["resamples"], request["random_seed"])
    return {
        "mcnemar": statistics.mcnemar(*map(statistics.majority, exact))._asdict(),
        "mcnemar_by_seed": {seed: pair._asdict() for seed, pair in pairs.items()},
        "bootstrap_f1": {
            name: value * (1 if name == "p" else 100) for name, value in drawn._asdict().items()
        },
        "groups": max(groups) + 1,
    }


def main() -> int:
    """Answer the request on stdin; return the exit code."""
    try:
        answer = report(json.load(sys.stdin))
    except DataError as error:
        print(error, file=sys.stderr)
        return 2
    except ImportError as error:
        print(f"{error.name} is not installed; pip install 'npu-launch[squad]'", file=sys.stderr)
        return 2
    json.dump(answer, sys.stdout, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
