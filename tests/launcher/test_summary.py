"""The closing lines of a run: what was slow, what was evaluated; the same in report.txt and result.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from launcher.diagnosis.failure import Outcome
from launcher.plan.model import Plan
from launcher.runs.gather import Gathered
from launcher.ui.summary import closing_lines, evaluated, figures, settled
from tests.launching import latest, launch


def verdict(ranks: list[int], cost: float, kind: str = "slow rank") -> dict[str, Any]:
    return {"kind": kind, "ranks": ranks, "cost": cost, "since": 5, "text": f"{ranks} {cost}\x1b[31m"}


def test_the_exact_match_of_both_versions_of_squad_is_em() -> None:
    for name in ("exact", "exact_match"):
        assert figures({name: 81.25, "f1": 88.5, "total": 9}) == "EM 81.250  F1 88.500"


def test_of_each_finding_the_last_verdict_counts() -> None:
    found = [verdict([1], 0.1), verdict([2], 0.3), verdict([1], 0.2), verdict([], 0.1, "slow input")]
    assert settled([*found, verdict([2], 0)]) == [found[2], found[3], verdict([2], 0)]


def test_an_outcome_ends_with_its_verdicts_printable_and_few() -> None:
    said = tuple(verdict([rank], 0.1) for rank in range(9))
    plan = Plan("job", "job-1", "/run", "h", "cpu", "{}", ())
    lines = closing_lines(plan, Outcome(0, (), None, "", 1, 2.0, verdicts=said), Gathered())
    assert [line for line in lines if line.startswith("slow ")] == [
        f"slow         [{rank}] 0.1" for rank in range(5, 9)
    ]


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        (
            [{"step": 9.0, "eval_exact": 58.25, "eval_f1": 61.5, "eval_NoAns_f1": 1.0}],
            "step 9: EM 58.250  F1 61.500",
        ),
        (
            [{"step": 6.0, "eval_f1": 62.0}, {"step": 9.0, "eval_f1": 61.5}],
            "step 9: F1 61.500; best F1 62.000 at step 6",
        ),
        (
            [{"step": 6.0, "eval_exact": 62.0}, {"step": 9.0, "eval_exact": 61.5, "time": 1.0}],
            "step 9: EM 61.500; best EM 62.000 at step 6",
        ),
        ([{"step": 9.0, "eval_loss": 0.5}], "step 9: loss 0.5"),
    ],
)
def test_what_was_evaluated_is_said_with_its_best(rows: list[dict[str, float]], text: str) -> None:
    assert evaluated(rows) == text


def test_figures_of_an_evaluation_are_said_once_unless_predictions_have_them() -> None:
    plan = Plan("job", "job-1", "/run", "h", "cpu", "{}", ())
    rows = [{"step": 4.0, "eval_exact": 50.0, "eval_f1": 60.0, "eval_total": 9.0}]
    metrics = {"examples_per_second": 9.5, "exact": 50.0, "f1": 60.0, "total": 9}

    def said(**gathered: Any) -> list[str]:
        lines = closing_lines(plan, Outcome(0, (), None, "", 1, 2.0), Gathered(**gathered), rows)
        return [line for line in lines if "EM" in line]

    evaluated_line = "evaluated    step 4: EM 50.000  F1 60.000"
    assert said(metrics=metrics) == [evaluated_line]
    assert said(metrics={**metrics, "f1": 61.0}) == [evaluated_line, "EM 50.000  F1 61.000"]
    predicted = said(metrics=metrics, predictions=("/run/predictions/predictions.json",))
    assert predicted == [evaluated_line, "EM 50.000  F1 60.000"]


ROWS = """
import os
with open(os.environ["NPU_LAUNCH_RANK_DIR"] + "/metrics.jsonl", "w") as stream:
    for step in (5, 10, 15):
        print('{"step": %d, "loss": 1.0}' % step, file=stream)
        print('{"step": %d, "eval_exact": %d, "eval_f1": %d}' % (step, 60 + step, 90 - step), file=stream)
"""


def test_a_run_ends_with_what_it_evaluated(tmp_path: Path) -> None:
    done = launch(tmp_path, "--devices", "0", "--backend", "cpu", "--", "python3", "-c", ROWS)
    line = "evaluated    step 15: EM 75.000  F1 75.000; best F1 85.000 at step 5"
    assert done.returncode == 0 and line in done.stdout + done.stderr
    assert line in (latest(tmp_path) / "report.txt").read_text()
    assert json.loads((latest(tmp_path) / "result.json").read_text())["verdicts"] == []
