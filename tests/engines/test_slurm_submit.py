"""`npu-launch submit --engine slurm` with a real Slurm: the queue, the time limit, the same run again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.engines.slurm_cluster import Cluster, wait_for
from tests.launching import latest, launch

pytestmark = pytest.mark.engines
PROGRAM = """
import os, signal, sys, time
def save(number, frame):
    sys.exit({code})
signal.signal(signal.{name}, save)
print("rank", os.environ["RANK_ID"], "attempt", os.environ["NPU_LAUNCH_ATTEMPT"], flush=True)
with open("starts", "a") as stream:
    stream.write("x")
if open("starts").read() == "x":
    open("ready", "w").close()
    time.sleep(60)
"""
JOB = "job: saver\nprogram: {}\ndevices: 0-1\nbackend: cpu\ngrace: 3\nmax_restarts: 2\n"


def write_job(folder: Path, name: str = "SIGUSR1", code: int = 75) -> None:
    (folder / "it.py").write_text(PROGRAM.format(name=name, code=code))
    (folder / "train.yaml").write_text(JOB.format("it.py"))


def submit(cluster: Cluster, folder: Path, *words: str, nodes: int = 1) -> str:
    """Submit train.yaml; return the job's id."""
    options = ("--engine", "slurm", "--nodes", str(nodes), "--time", "10", "--save-before", "65")
    done = launch(folder, "submit", *options, "train.yaml", *words, env=cluster.environ)
    assert done.returncode == 0, done.stderr
    return str(done.stdout.split()[2])


def state(cluster: Cluster, folder: Path) -> str:
    rows = json.loads(launch(folder, "ps", "--json", env=cluster.environ).stdout)
    return str(rows[-1]["state"])


@pytest.mark.parametrize(
    ("name", "code"),
    [("SIGUSR1", 75), ("SIGUSR2", 0), ("SIGTERM", 143)],
    ids=["that saves and ends", "that ignores the signal", "that knows SIGTERM alone"],
)
def test_a_program_at_its_time_limit_goes_on_in_its_folder(
    slurm: Cluster, tmp_path: Path, name: str, code: int
) -> None:
    write_job(tmp_path, name, code)
    job = submit(slurm, tmp_path)
    run = latest(tmp_path)
    wait_for(lambda: all((run / "ranks" / rank / "ready").exists() for rank in "01"))
    assert state(slurm, tmp_path) == "running"
    slurm.call("scancel", "--batch", "--signal=USR1", job)
    wait_for(lambda: slurm.is_requeued(job))
    assert state(slurm, tmp_path) == "queued"
    wait_for(lambda: slurm.hurry(job) or state(slurm, tmp_path) == "finished", 100)
    assert latest(tmp_path) == run
    wait_for(lambda: "exit code 0" in (run / "slurm.log").read_text())
    log = (run / "slurm.log").read_text()
    assert "start 1 of run" in log and "start 2 of run" in log and "exit code 0" in log
    assert (run / "logs" / "rank_1.log").read_text() == "rank 1 attempt 0\nrank 1 attempt 1\n"


def test_the_queue_gets_a_job_back_so_often_and_no_more(slurm: Cluster, tmp_path: Path) -> None:
    write_job(tmp_path)
    job = submit(slurm, tmp_path, "--requeues", "0")
    run = begun(tmp_path, 2)
    slurm.call("scancel", "--batch", "--signal=USR1", job)
    wait_for(lambda: state(slurm, tmp_path) == "failed")
    wait_for(lambda: f"to go on: sbatch {run / 'job.sbatch'}" in (run / "slurm.log").read_text())
    log = (run / "slurm.log").read_text()
    assert f"job {job}: exit code 75" in log, log
    assert "not started again: its time is over" in log, log
    assert "Traceback" not in log


def test_stop_ends_a_job_that_waits_and_one_that_runs(slurm: Cluster, tmp_path: Path) -> None:
    write_job(tmp_path)
    submit(slurm, tmp_path, "--sbatch=--begin=now+1hour")
    assert state(slurm, tmp_path) == "queued"
    again = launch(tmp_path, "submit", "--engine", "slurm", "train.yaml", f"run_id={latest(tmp_path).name}",
                   env=slurm.environ)  # fmt: skip
    assert again.returncode == 2 and "in the queue as job" in again.stderr
    assert "cancelled" in launch(tmp_path, "stop", "latest", env=slurm.environ).stdout
    wait_for(lambda: state(slurm, tmp_path) == "cancelled")
    submit(slurm, tmp_path)
    wait_for((latest(tmp_path) / "ranks" / "1" / "ready").exists)
    assert "stopped" in launch(tmp_path, "stop", "latest", env=slurm.environ).stdout
    wait_for(lambda: not slurm.call("squeue", "-h", "-o", "%i"))


@pytest.mark.parametrize(
    ("words", "problem"),
    [(["--partition", "nowhere"], "invalid partition"), (["--gres", "gpu:1"], "Invalid generic resource")],
)
def test_what_slurm_refuses_leaves_nothing(
    slurm: Cluster, tmp_path: Path, words: list[str], problem: str
) -> None:
    write_job(tmp_path)
    done = launch(tmp_path, "submit", "--engine", "slurm", *words, "train.yaml", env=slurm.environ)
    assert done.returncode == 78 and problem in done.stderr
    assert not list((tmp_path / "runs").iterdir())


def test_a_job_that_can_never_start_is_said_so_at_once(slurm: Cluster, tmp_path: Path) -> None:
    write_job(tmp_path)
    done = launch(tmp_path, "submit", "--engine", "slurm", "--nodes", "9", "train.yaml", env=slurm.environ)
    assert "warning: PENDING (Partition" in done.stdout
    launch(tmp_path, "stop", "latest", env=slurm.environ)
    wait_for(lambda: state(slurm, tmp_path) == "cancelled")


def begun(folder: Path, ranks: int) -> Path:
    """Wait until the ranks have begun; return the run's folder."""
    run = latest(folder)
    wait_for(lambda: all((run / "ranks" / str(rank) / "ready").exists() for rank in range(ranks)))
    return run


SAVES = """
import os, signal, sys, time
def save(number, frame):
    signal.signal(number, signal.SIG_IGN)
    time.sleep(1)
    print("saved", number, flush=True)
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
open("ready", "w").close()
time.sleep(60)
"""


def test_scancel_leaves_the_ranks_of_all_nodes_time_to_save(slurm: Cluster, tmp_path: Path) -> None:
    write_job(tmp_path)
    (tmp_path / "it.py").write_text(SAVES)
    job = submit(slurm, tmp_path, nodes=2)
    run = begun(tmp_path, 4)
    slurm.call("scancel", job)
    wait_for(lambda: f"job {job}: exit code 143" in (run / "slurm.log").read_text())
    assert [(run / f"logs/rank_{rank}.log").read_text() for rank in range(4)] == ["saved 15\n"] * 4


def test_a_preempted_job_goes_back_in_the_queue(slurm: Cluster, tmp_path: Path) -> None:
    write_job(tmp_path)
    (tmp_path / "it.py").write_text(SAVES)
    job = submit(slurm, tmp_path, nodes=2)
    run = begun(tmp_path, 4)
    urgent = ("--partition=urgent", "--nodes=4", "--exclusive", "--output=/dev/null", "--wrap", "true")
    slurm.call("sbatch", *urgent)
    wait_for(lambda: slurm.is_requeued(job))
    assert [(run / f"logs/rank_{rank}.log").read_text() for rank in range(4)] == ["saved 15\n"] * 4
    assert "put back in the queue" in (run / "slurm.log").read_text()


def test_slurm_itself_asks_a_job_to_save_before_its_end(slurm: Cluster, tmp_path: Path) -> None:
    write_job(tmp_path)
    job = submit(slurm, tmp_path)
    begun(tmp_path, 2)
    slurm.call("scontrol", "update", f"job={job}", "EndTime=now+60")
    wait_for(lambda: slurm.is_requeued(job), 60)
    assert "the ranks are to save and end" in (latest(tmp_path) / "slurm.log").read_text()
