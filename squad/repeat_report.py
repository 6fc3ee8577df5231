"""The figures of repeated runs, and tests against others: `python -m squad.repeat_report <request >report`.

The request is JSON:

    {"data": FILE, "evaluation": "squad", "resample": "passage", "resamples": 10000, "random_seed": 0,
     "sides": [{"name": N, "runs": [{"seed": S, "predictions": FILE or null, "figures": {...}}, ...]}, ...]}

A run has a file of predictions, or figures by name, which are taken as they are: exact match (`exact` or
`exact_match`) and F1 (`f1`) as per cent where it has them, else whatever all runs have. With two sides they
are compared; the second is what is new.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Iterable, Iterator, Mapping, Sequence

from squad import cmrc, evaluate, statistics
from squad.data.questions import SCORING, Question, Reader, version_2
from squad.data.squad_file import load_json, load_questions
from squad.errors import DataError

FIGURES = ("exact", "f1")
UNITS = ("question", "passage", "article")
Rows = Mapping[str, Sequence[float]]  # the value of each question, by figure
Figures = Mapping[str, float]


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
    figures = [[_figures(run, scored) for run in side["runs"]] for side in sides]
    found["sides"] = [_side(side, runs) for side, runs in zip(sides, figures)]
    if len(sides) == 2:
        found["tests"] = _over_seeds(*figures)
        if len(figures[0]) > 1:
            found["tests"].update(_by_pairs(sides, figures))
        by_question = [_scored(side, scored) for side in sides]
        if data and all(by_question):
            found["tests"].update(_of_questions(request, data, by_question))
    return found


def _texts(path: str) -> dict[str, str]:
    """Read predictions. DataError: they are no texts by id."""
    found = load_json(path)
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise DataError(f"{path}: no object of question id to text; give predictions.json")
    return found


def _figures(run: Mapping[str, Any], scored: Mapping[str, Rows]) -> Figures:
    """Return the figures of a run: EM and F1 of its predictions, else what it has reported."""
    rows = scored.get(run.get("predictions") or "")
    if rows:
        return {name: evaluate.percent(rows[name]) for name in FIGURES}
    return evaluate.unified(run.get("figures") or {})


def _shared(runs: Sequence[Figures]) -> list[str]:
    """Name the figures that all runs have: EM and F1, and whatever else they have if it is neither."""
    names = [name for name in runs[0] if all(name in run for run in runs)] if runs else []
    return [name for name in FIGURES if name in names] or names


def _side(side: Mapping[str, Any], runs: Sequence[Figures]) -> dict[str, Any]:
    """Return the figures of each run of a side, and the summary of those that all of them have."""
    shared = _shared(runs)
    shown = [name for name in FIGURES if any(name in run for run in runs)] or shared
    listed = [
        {"seed": run["seed"], **{name: values[name] for name in shown if name in values}}
        for run, values in zip(side["runs"], runs)
    ]
    summary = {name: statistics.summary([run[name] for run in runs])._asdict() for name in shared}
    return {"name": side["name"], "runs": listed, "summary": {name: dict(s) for name, s in summary.items()}}


def _scored(side: Mapping[str, Any], scored: Mapping[str, Rows]) -> list[tuple[Any, Rows]]:
    """List (seed, values of the questions) of a side's runs that have predictions."""
    listed = [(run["seed"], scored.get(run.get("predictions") or "")) for run in side["runs"]]
    return [(seed, rows) for seed, rows in listed if rows]


def _over_seeds(first: Sequence[Figures], second: Sequence[Figures]) -> dict[str, Any]:
    """Compare the figures that all runs of both sides have; {} if either side has one run alone."""
    tests: dict[str, Any] = {}
    names, sizes = _shared([*first, *second]), (len(first), len(second))
    columns = {name: [[run[name] for run in runs] for runs in (first, second)] for name in names}
    if names and max(sizes) > 1:
        tests["welch"] = {name: _welch(*both) for name, both in columns.items()}
    if names and min(sizes) > 1:
        sds = {name: _pooled(*both) for name, both in columns.items()}
        tests["detectable"] = {name: statistics.detectable(sd, *sizes) for name, sd in sds.items() if sd}
    return tests


def _by_pairs(sides: Sequence[Mapping[str, Any]], figures: Sequence[Sequence[Figures]]) -> dict[str, Any]:
    """Compare the figures of the same seeds; {} where the sides have others, or all differences are equal."""
    first, second = (
        {run["seed"]: values for run, values in zip(side["runs"], runs)} for side, runs in zip(sides, figures)
    )
    if first.keys() != second.keys():
        return {}
    tests: dict[str, Any] = {"paired": {}, "detectable_by_pairs": {}}
    for name in _shared([*first.values(), *second.values()]):
        both = [[side[seed][name] for seed in first] for side in (first, second)]
        found = statistics.paired(*both)
        if found is not None:
            sd = statistics.summary([b - a for a, b in zip(*both)]).sd or 0.0
            tests["paired"][name] = dict(found._asdict())
            tests["detectable_by_pairs"][name] = statistics.detectable_by_pairs(sd, len(first))
    return tests if tests["paired"] else {}


def _welch(first: Sequence[float], second: Sequence[float]) -> dict[str, float]:
    """Compare two means of seeds; without interval and p if the seeds have no effect."""
    found = statistics.welch(first, second)
    return dict(found._asdict()) if found else {"difference": second[0] - first[0]}


def _pooled(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the standard deviation that two sides have in common."""
    both = [(len(values) - 1, statistics.summary(values).sd or 0.0) for values in (first, second)]
    return float((sum(df * sd**2 for df, sd in both) / sum(df for df, _ in both)) ** 0.5)


def _of_questions(
    request: Mapping[str, Any], data: Data, scored: Sequence[Sequence[tuple[Any, Rows]]]
) -> dict[str, Any]:
    f1 = [[rows["f1"] for _, rows in side] for side in scored]
    groups = data.groups(request["resample"])
    drawn = statistics.bootstrap(f1[0], f1[1], groups, request["resamples"], request["random_seed"])
    return {
        **_mcnemar([[rows["exact"] for _, rows in side] for side in scored]),
        "mcnemar_by_seed": {
            seed: statistics.mcnemar(*([value == 1 for value in rows["exact"]] for rows in pair))._asdict()
            for seed, pair in _pairs(*scored)
        },
        "bootstrap_f1": {
            name: value * (1 if name == "p" else 100) for name, value in drawn._asdict().items()
        },
        "groups": max(groups) + 1,
    }


def _mcnemar(exact: Sequence[Sequence[Sequence[float]]]) -> dict[str, Any]:
    """Compare the majorities of the seeds, or say why they cannot be compared."""
    n, m = map(len, exact)
    if n != m or n % 2 == 0:
        need = "the same odd number of seeds on both sides, or one run on each"
        return {"no_mcnemar": f"not for a majority of {n} run{'s' * (n > 1)} against {m}; it needs {need}"}
    return {"mcnemar": dict(statistics.mcnemar(*map(statistics.majority, exact))._asdict())}


def _pairs(
    first: Sequence[tuple[Any, Rows]], second: Sequence[tuple[Any, Rows]]
) -> Iterator[tuple[str, tuple[Rows, Rows]]]:
    """Yield pairs of one run on each side: of the same seed, or of each run and the other side's only one."""
    if len(second) == 1:
        yield from ((str(seed), (rows, second[0][1])) for seed, rows in first)
        return
    others = dict(first)
    for seed, rows in second:
        if len(first) == 1 or seed in others:
            yield str(seed), (first[0][1] if len(first) == 1 else others[seed], rows)


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
