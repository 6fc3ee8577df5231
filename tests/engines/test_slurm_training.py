"""A training on SQuAD over two nodes of Slurm: a rank is killed, the time runs out, and nothing is lost."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.engines import training
from tests.engines.slurm_cluster import Cluster, marked, wait_for
from tests.engines.slurm_job import Job
from tests.engines.training import STEPS, Losses, assert_equal, losses, reached
from tests.launching import latest, launch

pytestmark = [pytest.mark.engines, pytest.mark.slow]


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory, minilm: Path) -> tuple[str, ...]:
    return training.words(tmp_path_factory.mktemp("demo"), minilm)


@pytest.fixture(scope="module")
def one_host(tmp_path_factory: pytest.TempPathFactory, words: tuple[str, ...]) -> Losses:
    return training.one_host(tmp_path_factory.mktemp("one"), words)


def test_two_nodes_train_as_one_host_though_a_rank_is_killed(
    job: Job, slurm: Cluster, tmp_path: Path, words: tuple[str, ...], one_host: Losses
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
    slurm: Cluster, tmp_path: Path, words: tuple[str, ...], one_host: Losses
) -> None:
    options = ("--engine", "slurm", "--nodes", "2", "--time", "30")
    done = launch(tmp_path, "submit", *options, *words, env=slurm.environ)
    assert done.returncode == 0, done.stderr
    job, run = done.stdout.split()[2], latest(tmp_path)
    wait_for(lambda: reached(run, 12), 120, (run / "slurm.log").read_text)
    slurm.call("scancel", "--batch", "--signal=USR1", job)
    wait_for(lambda: slurm.is_requeued(job), 60)
    assert "exit code 75: it has saved" in (run / "slurm.log").read_text()
    wait_for(lambda: slurm.hurry(job) or ((run / "result.json").exists() and reached(run, STEPS)), 240)
    wait_for(lambda: "exit code 0" in (run / "slurm.log").read_text())
    assert_equal(losses(run), one_host)
