"""A training on SQuAD over two nodes of Slurm: a rank is killed, the time runs out, and nothing is lost."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from tests.engines.slurm_cluster import Cluster, marked, wait_for
from tests.engines.slurm_job import Job
from tests.launching import ROOT, latest, launch

pytestmark = pytest.mark.engines
STEPS = 40


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory, minilm: Path) -> tuple[str, ...]:
    """Make the demo's questions; return the job and its overrides."""
    import subprocess
    import sys

    folder = tmp_path_factory.mktemp("demo")
    maker = [sys.executable, str(ROOT / "examples" / "make_squad_demo.py"), "--output", str(folder)]
    subprocess.run(maker, check=True, stdout=subprocess.DEVNULL)
    return (
        str(ROOT / "examples" / "squad_demo.yaml"), f"train_file={folder}/train.json", "do_predict=false",
        f"init_checkpoint={minilm}", f"num_train_steps={STEPS}", "display_loss_steps=1", "devices=0",
        "backend=cpu", "train_batch_size=4", "global_batch_size=8", "env.OMP_NUM_THREADS=1",
        "collective=grpc",
    )  # fmt: skip


def losses(folder: Path) -> dict[int, float]:
    """Return the loss of each step in a run's log; of a step that was made twice, the last."""
    text = (folder / "logs" / "rank_0.log").read_text()
    return {
        int(step): float(loss) for step, loss in re.findall(rf"step (\d+)/{STEPS} .*?loss ([\d.]+)", text)
    }


def reached(folder: Path, step: int) -> bool:
    return step in (losses(folder) if (folder / "logs" / "rank_0.log").exists() else {})


@pytest.fixture(scope="module")
def one_host(tmp_path_factory: pytest.TempPathFactory, words: tuple[str, ...]) -> dict[int, float]:
    """Train two ranks on one host, without a break; return the losses."""
    folder = tmp_path_factory.mktemp("one")
    done = launch(folder, *words, "devices=0-1", "collective=shm", timeout=300)
    assert done.returncode == 0, done.stderr
    found = losses(latest(folder))
    assert len(found) == STEPS
    return found


def assert_equal(found: dict[int, float], expected: dict[int, float]) -> None:
    assert sorted(found) == sorted(expected)
    worst = max(abs(found[step] - expected[step]) for step in expected)
    assert worst < 1e-4, worst


def test_two_nodes_train_as_one_host_though_a_rank_is_killed(
    job: Job, slurm: Cluster, tmp_path: Path, words: tuple[str, ...], one_host: dict[int, float]
) -> None:
    job.start(*words, "save_checkpoints_steps=10", "max_restarts=1", nodes=2)
    wait_for(lambda: job.process.poll() is not None or reached(latest(tmp_path), 14), 120)
    assert job.process.poll() is None, job.end()
    [pid] = [
        pid for pid in slurm.processes_on("node2") if "squad.run_squad" in dict(marked(job.mark)).get(pid, "")
    ]
    os.kill(pid, signal.SIGKILL)
    code, text = job.end(300)
    assert code == 0, text
    assert "restart 1 of 1" in text and "rank 1" in text and "SIGKILL" in text
    assert "resuming" in text and job.result["attempts"] == 2
    assert_equal(losses(latest(tmp_path)), one_host)


def test_a_job_of_two_nodes_saves_at_its_time_limit_and_goes_on(
    slurm: Cluster, tmp_path: Path, words: tuple[str, ...], one_host: dict[int, float]
) -> None:
    options = ("--engine", "slurm", "--nodes", "2", "--time", "30")
    done = launch(tmp_path, "submit", *options, *words, env=slurm.environ)
    assert done.returncode == 0, done.stderr
    job, run = done.stdout.split()[2], latest(tmp_path)
    wait_for(lambda: reached(run, 12), 120, (run / "slurm.log").read_text)
    slurm.call("scancel", "--batch", "--signal=USR1", job)
    wait_for(lambda: slurm.is_requeued(job), 60)
    assert "exit code 75: it has saved" in (run / "slurm.log").read_text()
    slurm.call("scontrol", "update", f"job={job}", "StartTime=now")
    wait_for(lambda: (run / "result.json").exists() and reached(run, STEPS), 240)
    wait_for(lambda: "exit code 0" in (run / "slurm.log").read_text())
    assert_equal(losses(run), one_host)
