"""The closing lines of a run: what was not as it should be, what came out, and where everything is."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any, Mapping, Sequence

from launcher.diagnosis.failure import Outcome
from launcher.plan.model import Plan
from launcher.runs.figures import unified
from launcher.runs.gather import Gathered
from launcher.text import printable

MOST_ALERTS, MOST_VERDICTS = 8, 4  # that are listed at the end
EVALUATED = "eval_"  # how names of figures begin that were evaluated while training
_NAMES = {"exact": "EM", "f1": "F1"}


def closing_lines(
    plan: Plan, outcome: Outcome, gathered: Gathered, evaluations: Sequence[Mapping[str, float]] = ()
) -> list[str]:
    """Return the lines that end a run, after its report. evaluations: what was evaluated while training."""
    lines = ["could not gather: " + problem for problem in gathered.problems]
    lines += ["passed over: " + note for note in gathered.notes]
    lines += [f"alert        {printable(alert['text'])}" for alert in outcome.alerts[:MOST_ALERTS]]
    if len(outcome.alerts) > MOST_ALERTS:
        lines.append(f"alert        {len(outcome.alerts) - MOST_ALERTS} more, in events.jsonl")
    found = settled(outcome.verdicts)
    lines += [f"slow         {printable(str(one['text']))}" for one in found[-MOST_VERDICTS:]]
    if evaluations:
        lines.append(f"evaluated    {evaluated(evaluations)}")
    if gathered.metrics and (gathered.predictions or not _said(gathered.metrics, evaluations)):
        lines.append(figures(gathered.metrics))
    if gathered.checkpoint:
        lines.append(f"checkpoint   {gathered.checkpoint}")
    if gathered.predictions:
        lines.append(f"predictions  {os.path.dirname(gathered.predictions[0])}")
    if not outcome.exit_code:
        lines.append(f"finished     {plan.world_size} rank(s) in {outcome.seconds:.1f} s")
    lines.append(f"run folder   {plan.run_dir}")
    lines.append(f"logs         npu-launch logs {run_word(plan)}")
    return lines


def settled(verdicts: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return of each finding its last verdict, whose price holds, in the order of these."""
    last: dict[str, Mapping[str, Any]] = {}
    for one in verdicts:
        finding = f"{one.get('kind')} {one.get('ranks', one.get('rank'))}"
        last.pop(finding, None)
        last[finding] = one
    return list(last.values())


def evaluated(evaluations: Sequence[Mapping[str, float]]) -> str:
    """Say what came out last and where it was best: `step 9: EM 58.1  F1 61.5; best F1 62.0 at step 6`.

    The parts of EM and F1 are left out: each checkpoint's JSON has them.
    """
    last = evaluations[-1]
    named = _named(last)
    whole = {name: named[name] for name in _NAMES if name in named}
    text = f"step {last['step']:.0f}: {figures(whole or named)}"
    judge = next((name for name in _NAMES if EVALUATED + name in last and name != "exact"), "exact")
    known = [row for row in evaluations if EVALUATED + judge in row]
    if len(known) > 1:
        best = max(known, key=lambda row: row[EVALUATED + judge])
        text += f"; best {_NAMES[judge]} {best[EVALUATED + judge]:.3f} at step {best['step']:.0f}"
    return text


def _named(row: Mapping[str, float]) -> dict[str, float]:
    return {name[len(EVALUATED) :]: value for name, value in row.items() if name.startswith(EVALUATED)}


def _said(metrics: Mapping[str, Any], evaluations: Sequence[Mapping[str, float]]) -> bool:
    """Tell whether the metrics of a run that has predicted nothing are those of one of its evaluations."""
    return any(figures(_named(row)) == figures(metrics) for row in evaluations)


def figures(metrics: Mapping[str, Any]) -> str:
    """Write EM and F1 with their parts: `EM 73.4  F1 76.5  HasAns EM 71.0 ...`; other metrics as they are."""
    parts = []
    for key, value in unified(metrics).items():
        group, _, name = key.rpartition("_")
        if name in _NAMES and group in ("", "HasAns", "NoAns") and isinstance(value, (int, float)):
            parts.append(" ".join(filter(None, (group, _NAMES[name], f"{value:.3f}"))))
    return "  ".join(parts or (f"{key} {value!s:.200}" for key, value in metrics.items()))


def run_word(plan: Plan) -> str:
    """Return the word by which the user names the run: short when it lies in ./runs."""
    parent, name = os.path.split(plan.run_dir)
    with suppress(FileNotFoundError):  # a rank may have removed the folder in which the launcher was started
        if parent == os.path.join(os.getcwd(), "runs"):
            return name
    return plan.run_dir
