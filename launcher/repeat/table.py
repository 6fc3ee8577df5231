"""A repeat as lines for people: each seed, the mean and its interval, and how it differs from another."""

from __future__ import annotations

from typing import Any, Iterator, Mapping, Sequence

from launcher.process import procfs
from launcher.repeat.record import FINISHED, Repeat

_NAMES = {"exact": "EM", "f1": "F1"}
_NO_EFFECT = "the seed has no effect"


def lines(repeat: Repeat, request: Mapping[str, Any], report: Mapping[str, Any]) -> Iterator[str]:
    """Yield the table of a repeat and its comparison."""
    own = report["sides"][-1]
    figures = {run["seed"]: run for run in own["runs"]}
    names = list(dict.fromkeys(name for run in own["runs"] for name in run if name != "seed"))
    titles = [f"{_title(name):>{_width(name)}}" for name in names]
    yield "  ".join([f"{'seed':>6}", *titles, f"{'time':>8}", "state"])
    for run in repeat.runs:
        values = figures.get(run.seed, {})
        cells = [_cell(name, values.get(name)) for name in names]
        state = run.state if run.exit_code in (0, None) else f"{run.state} (exit code {run.exit_code})"
        yield "  ".join([f"{run.seed:>6}", *cells, f"{procfs.span(run.seconds):>8}", state])
    yield from _summary(own, names)
    if request.get("other_questions"):
        yield "each seed was scored on other questions: eval_share holds back articles that the seed chooses"
    if report.get("questions"):
        whose = "no run" if report["same_questions"] else "not every run"
        left = f"; {report['left_out']} that {whose} has answered are left out" if report["left_out"] else ""
        yield f"on {report['questions']} questions of {request['data']}{left}"
    if len(report["sides"]) == 2:
        yield from _comparison(request, report)


def _title(name: str) -> str:
    return _NAMES.get(name, name)


def _width(name: str) -> int:
    return max(8, len(_title(name)))


def _cell(name: str, value: float | None) -> str:
    return f"{'-' if value is None else f'{value:.3f}':>{_width(name)}}"


def _summary(side: Mapping[str, Any], names: Sequence[str]) -> Iterator[str]:
    """Yield mean, standard deviation, interval, and the best and worst seed."""
    summary = side["summary"]
    if not summary:
        yield "no figure that every run has reported, so no mean"
        return
    count = len(side["runs"])
    for row in ("mean", "sd", "low", "high"):
        cells = [_cell(name, summary[name][row] if name in summary else None) for name in names]
        of = f"  of {count} seed{'s' * (count > 1)}"
        note = {"low": "  95 % interval of the mean", "sd": of}.get(row, "")
        yield f"{row:>6}  {'  '.join(cells)}{note}"
    lacking = [_title(name) for name in names if name not in summary]
    if lacking:
        yield f"no mean of {', '.join(lacking)}: not every run has it"
    same = [_title(name) for name in summary if summary[name]["sd"] == 0]
    if same:
        yield f"{_NO_EFFECT} on {', '.join(same)}: it is the same for all of them"
    yield from _extremes(side["runs"], [name for name in _NAMES if name in summary and summary[name]["sd"]])


def _extremes(runs: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Iterator[str]:
    """Name the best and the worst seed by F1, or by EM where there is none."""
    for name in names[-1:]:
        ordered = sorted(runs, key=lambda run: float(run[name]))
        yield f"best seed {ordered[-1]['seed']}, worst seed {ordered[0]['seed']} by {_title(name)}"


def _comparison(request: Mapping[str, Any], report: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the tests say of the difference: this minus the other."""
    other, own = report["sides"]
    tests = report["tests"]
    counts = (len(other["runs"]), len(own["runs"]))
    yield ""
    yield f"against {other['name']}: {_of(other)}; differences are this minus that"
    kind = "over seeds, Welch's t test" if min(counts) > 1 else "one run, as one more seed: t test"
    for figure, found in tests.get("welch", {}).items():
        yield f"  {_title(figure)}  {_difference(found)}" + (f"  {kind}" if "p" in found else "")
    for figure, found in tests.get("paired", {}).items():
        yield f"  {_title(figure)}  {_difference(found)}  pairs of one seed: t test of their differences"
    if "bootstrap_f1" in tests:
        yield from _of_questions(tests, request, max(counts) > 1)
    yield "  " + _verdict(tests, counts)


def _of_questions(tests: Mapping[str, Any], request: Mapping[str, Any], several: bool) -> Iterator[str]:
    """Yield the bootstrap and McNemar's test, and what each of them takes for granted."""
    unit = request["resample"]
    drawn = f"{request['resamples']} resamples of {tests['groups']} {unit}s{' and of seeds' * several}"
    yield f"  F1  {_difference(tests['bootstrap_f1'])}  paired bootstrap, {drawn}"
    if unit == "question":
        yield "      questions of one passage are not independent; --resample passage allows for it"
    if "mcnemar" in tests:
        found = tests["mcnemar"]
        only = f"{found['only_second']} questions right here alone, {found['only_first']} there alone"
        by = "by the majority of seeds; " if several else ""
        yield f"  EM  {only}, p {found['p']:.3g}  McNemar's exact test ({by}takes questions as independent)"
    else:
        yield f"  EM  McNemar's exact test: {tests['no_mcnemar']}"
    pairs = [f"{seed}: {pair['p']:.3g}" for seed, pair in tests["mcnemar_by_seed"].items()]
    if several and pairs:
        yield f"      its p for each seed, one model on each side  {'  '.join(pairs)}"


def _of(side: Mapping[str, Any]) -> str:
    count = len(side["runs"])
    means = [f"{_title(name)} {found['mean']:.3f}" for name, found in side["summary"].items()]
    return ", ".join([f"{count} run{'s' if count > 1 else ''}", *(["  ".join(means)] if means else [])])


def _difference(found: Mapping[str, float]) -> str:
    if "p" not in found:
        return f"{found['difference']:+.3f}  no interval and no p: {_NO_EFFECT}"
    low, high = found["low"], found["high"]
    return f"{found['difference']:+.3f}  95 % interval {low:+.3f} to {high:+.3f}  p {found['p']:.3g}"


def _verdict(tests: Mapping[str, Any], counts: tuple[int, int]) -> str:
    """Say whether the recipes are told from chance, and what these seeds could have seen."""
    welch = tests.get("welch", {})
    if max(counts) > 1 and not welch:
        return "not compared: there is no figure that every run of both sides has"
    if min(counts) == 1:
        one = "the seeds' variance is not known on both sides, so this is of these models"
        return f"{one}, not of their recipes; repeat both with 3 seeds or more"
    name = "f1" if "f1" in welch else next(iter(welch))
    found, title = welch[name], _title(name)
    if "p" not in found:
        return f"{title} {found['difference']:+.3f} is not compared with chance: {_NO_EFFECT} on either side"
    pairs = name in tests.get("paired", {})  # then they decide: one rule, whatever the figures are
    found = tests["paired"][name] if pairs else found
    least = tests["detectable_by_pairs" if pairs else "detectable"][name]
    by = f"these {'pairs of ' * pairs}seeds see a difference of {least:.2f} {title} in 80 % of cases"
    told = "told from chance" if found["p"] < 0.05 else "not told from chance"
    return f"{told}: {title} {found['difference']:+.3f}, p {found['p']:.3g} ({by})"


def failed(repeat: Repeat) -> Sequence[int]:
    """List the seeds that have not finished."""
    return [run.seed for run in repeat.runs if run.state != FINISHED]
