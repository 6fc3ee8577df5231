"""Asking a model on an NPU: one process, without a launcher's environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from bert import backend as backends
from bert.errors import TrainerError
from squad.run_squad import main
from tests.adapter.ranks import SIMULATOR
from tests.launching import ROOT
from tests.squad.conftest import flags, make_tiny

PASSAGE = "mr abc was born in 1234. mr def was not."
# Two models one after another, then two at once.
TWICE = """
import sys
from squad.answerer import Answerer
from bert.errors import TrainerError
found = []
for _ in range(2):
    with Answerer(sys.argv[1], backend="npu") as model:
        found.append(model.answer("when?", sys.argv[2]).null_odds)
assert found[0] == found[1]
with Answerer(sys.argv[1], backend="npu") as model:
    try:
        Answerer(sys.argv[1], backend="npu")
    except TrainerError as error:
        print(error)
    assert model.answer("when?", sys.argv[2]).null_odds == found[0]
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_tiny(tmp_path_factory.mktemp("asked"))
    words = flags(folder, do_train=True, num_train_steps=2, output_dir=folder / "finished", gelu="tanh")
    assert main(words) == 0
    return folder


def _run(folder: Path, words: list[str], **environ: str) -> Any:
    """Run a program as a user of an Ascend host does, whose shell may have a job's variables."""
    env = {name: value for name, value in os.environ.items() if name != "JOB_ID"}
    path = os.pathsep.join((str(ROOT), str(SIMULATOR)))
    env["NPU_LAUNCH_LOCK_DIR"] = str(folder / "locks")  # its device locks nobody else's
    env.update(PYTHONPATH=path, NPU_SIMULATOR_REPORT=str(folder), TF_CPP_MIN_LOG_LEVEL="2", **environ)
    return subprocess.run(
        [sys.executable, *words], env=env, cwd=str(folder), input=PASSAGE, timeout=240,
        capture_output=True, text=True,
    )  # fmt: skip


def test_a_model_is_asked_on_one_npu_whatever_job_the_shell_is_of(tiny: Path, tmp_path: Path) -> None:
    finished = str(tiny / "finished")
    job = {"RANK_TABLE_FILE": "/none.json", "RANK_SIZE": "8", "RANK_ID": "3", "CM_CHIEF_IP": "10.0.0.1"}
    done = _run(tmp_path, ["-m", "launcher", "ask", finished, "when?", "--backend", "npu"], **job)
    assert done.returncode == 0, done.stderr
    on_cpu = _run(tmp_path, ["-m", "squad.ask", finished, "when?", "--backend=cpu"])
    assert on_cpu.returncode == 0, on_cpu.stderr
    odds = [json.loads(run.stdout.splitlines()[-1])["no_answer_score"] for run in (done, on_cpu)]
    assert odds[0] == pytest.approx(odds[1], abs=1e-4)
    report = json.loads((tmp_path / "rank_0.json").read_text())
    assert (report["size"], report["state"], report["opened"]) == (1, "closed", 1)
    assert "Gelu" in report["calls"]


def test_all_checkpoints_are_scored_on_one_npu(tiny: Path, tmp_path: Path) -> None:
    words = ["-m", "squad.score", str(tiny / "finished"), "--predict_file", str(tiny / "dev.json")]
    done = _run(tmp_path, [*words, "--backend", "npu"])
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "rank_0.json").read_text())["state"] == "closed"


def test_a_process_has_one_npu(tiny: Path, tmp_path: Path) -> None:
    done = _run(tmp_path, ["-c", TWICE, str(tiny / "finished"), PASSAGE])
    assert done.returncode == 0, done.stderr
    assert "this process has the NPU open already; close the model that uses it first" in done.stdout


@pytest.mark.parametrize("command", ["ask", "score"])
def test_an_npu_that_cannot_be_used_is_one_line(tiny: Path, tmp_path: Path, command: str) -> None:
    more = {"ask": ["when?"], "score": ["--predict_file", str(tiny / "dev.json")]}[command]
    words = ["-m", f"squad.{command}", str(tiny / "finished"), *more, "--backend=npu"]
    done = _run(tmp_path, words, ASCEND_DEVICE_ID="x")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == f"{command}: ASCEND_DEVICE_ID is 'x'; it must be a number"
    assert "Traceback" not in done.stderr


def test_a_device_that_does_not_open_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulator's always opens; what TensorFlow raises for GE's error is raised here."""

    def fail(*given: Any) -> None:
        raise tf.errors.InternalError(None, None, "GeOp init failed EJ0001: in use\n\tTraceBack ...")

    monkeypatch.setattr(backends, "create", fail)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    with pytest.raises(TrainerError, match=r"^the NPU does not open: GeOp init failed EJ0001: in use; "):
        backends.create_alone("npu")
