"""npu-launch --backend npu, whole, on the simulator: the same losses, weights and answers as on CPU."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from launcher.plan.model import Plan
from tests.adapter import tiny_job
from tests.adapter.programs import losses
from tests.adapter.ranks import ROOT, SIMULATOR, reports
from tests.adapter.tiny_job import ENDS, LOOP, STEPS
from tests.launching import latest, launch

pytestmark = pytest.mark.tensorflow

class Run(NamedTuple):
    """A finished run."""

    folder: Path
    output: str
    reports: list[dict[str, Any]]

    def answers(self) -> dict[str, str]:
        return json.loads((self.folder / "predictions" / "predictions.json").read_text())

    def weights(self) -> dict[str, Any]:
        import tensorflow.compat.v1 as tf

        reader = tf.train.NewCheckpointReader(str(self.folder / "checkpoints" / (f"model.ckpt-{STEPS}")))
        return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a small BERT, data, and the inventory of a host with two NPUs that are not there."""
    folder = tmp_path_factory.mktemp("job")
    tiny_job.make(folder)
    return folder


@pytest.fixture(scope="module")
def cpu(job: Path) -> Run:
    env = {"TF_CPP_MIN_LOG_LEVEL": "0"}  # with all that TensorFlow has to say
    done = launch(job, "--backend", "cpu", "job.yaml", "gelu=tanh", env=env, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return Run(latest(job), done.stdout, [])


@pytest.fixture(scope="module")
def npu(job: Path) -> Run:
    """Train on the simulator; rank 1 dies in step 8, the run goes on from the checkpoint of step 6."""
    report = job / "report"
    report.mkdir()
    env = {
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(SIMULATOR))),
        "NPU_SIMULATOR_REPORT": str(report),
        "NPU_SIMULATOR_DEATH": "1:8",
        "NPU_LAUNCH_LOCK_DIR": str(job / "locks"),  # its devices lock nobody else's
        "POD_NAME": "left over",
        "CM_WORKER_SIZE": "8",
    }
    done = launch(
        job, "--backend", "npu", "--inventory", "inventory.yaml", "--skip-preflight", "devices,host",
        "--max-restarts", "1", "job.yaml", f"iterations_per_loop={LOOP}", "npu_bert_loss_scale=0",
        "init_loss_scale_value=65536", env=env, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return Run(latest(job), done.stdout, reports(report, 2))


def test_start_up_notices_are_in_the_log_and_not_on_the_console(cpu: Run) -> None:
    log = (cpu.folder / "logs" / "rank_0.log").read_text()
    notices = re.findall(r"^.*(?:\.cc:\d+\] |absl::InitializeLog).*$", log, re.MULTILINE)
    assert notices and not [line for line in notices if line in cpu.output]


def test_losses_equal_those_of_cpu_also_after_a_restart(cpu: Run, npu: Run) -> None:
    theirs, ours = losses(cpu.folder), losses(npu.folder)
    assert sorted(theirs) == list(range(1, STEPS + 1))
    assert sorted(ours) == ENDS  # of the loops; those at 6 and 12 were cut for a checkpoint
    for step in ours:
        assert ours[step] == pytest.approx(theirs[step], rel=1e-4), step


def test_weights_and_slots_equal_those_of_cpu(cpu: Run, npu: Run) -> None:
    import numpy as np

    theirs, ours = cpu.weights(), npu.weights()
    assert sorted(ours) == sorted(theirs)
    for name in [
        name for name in theirs if "pooler" not in name
    ]:  # not trained: as random as when it was made
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-3, atol=1e-5, err_msg=name)


def test_answers_are_identical(cpu: Run, npu: Run) -> None:
    assert npu.answers() == cpu.answers() and len(npu.answers()) > 10


def test_the_run_was_resumed_at_its_checkpoint(npu: Run) -> None:
    assert "at step 6 of 12" in (npu.folder / "logs" / "rank_0.log").read_text()
    assert json.loads((npu.folder / "result.json").read_text())["attempts"] == 2


def test_each_device_saw_loops_that_end_at_checkpoints(npu: Run) -> None:
    for report in npu.reports:  # of the second attempt
        assert report["loops"] == [4, 2] and report["state"] == "closed"
        assert report["calls"]["NPUInit"] == report["calls"]["NPUShutdown"] == 1
        assert report["calls"]["NpuGetFloatStatusV2"] == 6  # once a step
        assert report["parameters"]["iterations_per_loop"] == LOOP


def test_gelu_runs_on_the_device_in_training_and_in_prediction(npu: Run) -> None:
    calls = npu.reports[0]["calls"]
    assert (
        calls["Gelu"] > 2 * 6 and "DropOutDoMask" not in calls
    )  # two layers, six steps, then the predictions
    assert calls["HcomAllReduce"] == npu.reports[1]["calls"]["HcomAllReduce"]


def test_the_rank_table_reached_the_devices_and_misleading_variables_did_not(npu: Run) -> None:
    env = Plan.from_json((npu.folder / "plan.json").read_text()).ranks[1].env
    assert (env["RANK_ID"], env["DEVICE_ID"], env["ASCEND_DEVICE_ID"]) == ("1", "1", "1")
    assert "POD_NAME" not in env and "CM_WORKER_SIZE" not in env
    assert [report["size"] for report in npu.reports] == [2, 2]
