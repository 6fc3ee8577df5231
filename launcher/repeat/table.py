"""A repeat as lines for people: each seed, the mean and its interval, and how it differs from another."""

from __future__ import annotations

from typing import Any, Iterator, Mapping, Sequence

from launcher.process import procfs
from launcher.repeat.record import FINISHED, Repeat

_NAMES = {"exact": "EM", "f1": "F1"}


def lines(repeat: Repeat, request: Mapping[str, Any], report: Mapping[str, Any]) -> Iterator[str]:
    """Yield the table of a repeat and its comparison."""
    own = report["sides"][-1]
    figures = {run["seed"]: run for run in own["runs"]}
    yield f"{'seed':>6}  {'EM':>8}  {'F1':>8}  {'time':>8}  state"
    for run in repeat.runs:
        values = figures.get(run.seed, {})
        cells = [_cell(values.get(name)) for name in _NAMES]
        state = run.state if run.exit_code in (0, None) else f"{run.state} (exit code {run.exit_code})"
        yield f"{run.seed:>6}  {'  '.join(cells)}  {procfs.span(run.seconds):>8}  {state}"
    yield from _summary(own)
    if report.get("questions"):
        whose = "no run" if report["same_questions"] else "not every run"
        left = f"; {report['left_out']} that {whose} has answered are left out" if report["left_out"] else ""
        yield f"on {report['questions']} questions of {request['data']}{left}"
    if len(report["sides"]) == 2:
        yield from _comparison(request, report)


def _cell(value: float | None) -> str:
    return f"{value:8.3f}" if value is not None else f"{'-':>8}"


def _summary(side: Mapping[str, Any]) -> Iterator[str]:
    """Yield mean, standard deviation, interval, and the best and worst seed."""
    summary = side["summary"]
    if not summary:
        return
    for title, name in (("mean", "mean"), ("sd", "sd"), ("low", "low"), ("high", "high")):
        cells = [_cell(summary[figure][name]) for figure in _NAMES]
        note = {"low": "  95 % interval of the mean", "sd": f"  of {summary['f1']['n']} seeds"}.get(title, "")
        yield f"{title:>6}  {'  '.join(cells)}{note}"
    ordered = sorted((run for run in side["runs"] if run["f1"] is not None), key=lambda run: run["f1"])
    if len(ordered) > 1:
        yield f"best seed {ordered[-1]['seed']}, worst seed {ordered[0]['seed']} by F1"


def _comparison(request: Mapping[str, Any], report: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the tests say of the difference: this minus the other."""
    other, own = report["sides"]
    tests = report["tests"]
    counts = (len(other["runs"]), len(own["runs"]))
    yield ""
    yield f"against {other['name']}: {_of(other)}; differences are this minus that"
    kind = "over seeds, Welch's t test" if min(counts) > 1 else "one run, as one more seed: t test"
    for figure, found in tests.get("welch", {}).items():
        yield f"  {_NAMES[figure]}  {_difference(found)}  {kind}"
    if "bootstrap_f1" in tests:
        yield from _of_questions(tests, request, max(counts) > 1)
    yield _verdict(tests)


def _of_questions(tests: Mapping[str, Any], request: Mapping[str, Any], several: bool) -> Iterator[str]:
    """Yield the bootstrap and McNemar's test, and what each of them takes for granted."""
    unit = request["resample"]
    drawn = f"{request['resamples']} resamples of {tests['groups']} {unit}s{' and of seeds' * several}"
    yield f"  F1  {_difference(tests['bootstrap_f1'])}  paired bootstrap, {drawn}"
    if unit == "question":
        yield "      questions of one passage are not independent; --resample passage allows for it"
    found = tests["mcnemar"]
    only = f"{found['only_second']} questions right here alone, {found['only_first']} there alone"
    by = "by the majority of seeds; " if several else ""
    yield f"  EM  {only}, p {found['p']:.3g}  McNemar's exact test ({by}takes questions as independent)"
    pairs = [f"{seed}: {pair['p']:.3g}" for seed, pair in tests["mcnemar_by_seed"].items()]
    if len(pairs) > 1:
        yield f"      its p for each seed  {'  '.join(pairs)}"


def _of(side: Mapping[str, Any]) -> str:
    count = len(side["runs"])
    means = "  ".join(f"{_NAMES[name]} {found['mean']:.3f}" for name, found in side["summary"].items())
    return f"{count} run{'s' if count > 1 else ''}, {means}"


def _difference(found: Mapping[str, float]) -> str:
    low, high = found["low"], found["high"]
    return f"{found['difference']:+.3f}  95 % interval {low:+.3f} to {high:+.3f}  p {found['p']:.3g}"


def _verdict(tests: Mapping[str, Any]) -> str:
    """Say whether the recipes are told from chance, and what these seeds could have seen."""
    if "detectable" not in tests:
        one = (
            "the seeds' variance is not known on both sides, so this is of these models, not of their recipes"
        )
        return f"  {one}; repeat both with 3 seeds or more"
    found = tests["welch"]["f1"]
    seen = f"these seeds see a difference of {tests['detectable']['f1']:.2f} F1 in 80 % of cases"
    if found["p"] < 0.05:
        return f"  told from chance: F1 {found['difference']:+.3f}, p {found['p']:.3g} ({seen})"
    return f"  not told from chance: F1 {found['difference']:+.3f}, p {found['p']:.3g} ({seen})"


def failed(repeat: Repeat) -> Sequence[int]:
    """List the seeds that have not finished."""
    return [run.seed for run in repeat.runs if run.state != FINISHED]
