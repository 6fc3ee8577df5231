"""The closing lines of a run: what failed first, or what came out, and where everything is."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any, Mapping

from launcher.diagnosis.failure import Outcome
from launcher.plan.model import Plan
from launcher.runs.gather import Gathered
from launcher.text import printable

MOST_ALERTS = 8  # that are listed at the end
_NAMES = {"exact": "EM", "f1": "F1"}


def closing_lines(plan: Plan, outcome: Outcome, gathered: Gathered) -> list[str]:
    """Return the lines that end a run, after its report."""
    lines = ["could not gather: " + problem for problem in gathered.problems]
    lines += ["passed over: " + note for note in gathered.notes]
    lines += [f"alert        {printable(alert['text'])}" for alert in outcome.alerts[:MOST_ALERTS]]
    if len(outcome.alerts) > MOST_ALERTS:
        lines.append(f"alert        {len(outcome.alerts) - MOST_ALERTS} more, in events.jsonl")
    if gathered.metrics:
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


def figures(metrics: Mapping[str, Any]) -> str:
    """Write EM and F1 with their parts: `EM 73.4  F1 76.5  HasAns EM 71.0 ...`; other metrics as they are."""
    parts = []
    for key, value in metrics.items():
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
