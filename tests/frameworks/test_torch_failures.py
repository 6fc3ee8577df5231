"""Failures of real torch ranks with gloo: the rank at fault is named, those that lost it are its victims."""

from __future__ import annotations

import json
import sys
from typing import Any, Callable

import pytest

from tests.frameworks.needs import PROGRAMS, needs

pytestmark = needs("torch")
SCRIPT = PROGRAMS / "failing.py"


def states(job: Any) -> list[str]:
    return [end["state"] for end in json.loads((job.run_dir / "result.json").read_text())["ends"]]


@pytest.mark.parametrize(
    ("how", "code", "state", "said"),
    [
        ("raise", 1, "raised", "failed first: ValueError: sample 17 has no label"),
        ("leave", 124, "exited early", "failed first: exited with 0 while other ranks waited for it"),
        ("killed", 137, "signalled", "failed first: killed by SIGKILL, not by npu-launch"),
        ("hang", 1, "silent", "failed first: silent (the others waited for it until they timed out)"),
        ("memory", 1, "out of memory", "out of memory (of the device): use a smaller batch"),
    ],
)
def test_the_rank_at_fault_is_named(
    run_job: Callable[..., Any], how: str, code: int, state: str, said: str
) -> None:
    job = run_job("--devices", "0-1", "framework=torch", "--", SCRIPT, how, code=code)
    report = job.stdout + job.stderr
    assert states(job)[1] == state and states(job)[0] in ("victim", "ended by npu-launch")
    assert said in report and "\nrank 1 (" in report


def test_a_command_whose_rank_records_its_error_is_understood_as_well(run_job: Callable[..., Any]) -> None:
    words = ("--", sys.executable, SCRIPT, "raise")
    job = run_job("--devices", "0-1", "framework=torch", *words, code=1)
    report = job.stdout + job.stderr
    assert "\nrank 1 (" in report and "failed first: ValueError: sample 17 has no label" in report
    assert states(job)[1] == "raised" and states(job)[0] in ("victim", "ended by npu-launch")


def test_the_failed_ddp_run_of_the_document_is_reported(run_job: Callable[..., Any]) -> None:
    job = run_job("--devices", "0-3", "--", PROGRAMS / "ddp_shape.py", code=1)
    report = job.stdout + job.stderr
    said = "failed first: RuntimeError: mat1 and mat2 shapes cannot be multiplied (4x7 and 8x1)"
    assert "\nrank 2 (" in report and said in report and "ddp_shape.py\", line" in report
    assert states(job)[2] == "raised"
