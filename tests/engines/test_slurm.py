"""Runs over several nodes of a real Slurm: what works, and whatever may die on the way."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Callable

import pytest

from tests.engines.slurm_cluster import Cluster, command, wait_for
from tests.engines.slurm_job import LEASE, Job
from tests.launching import latest

pytestmark = pytest.mark.engines
LEAVE = 2  # seconds after the lease in which all must be gone
WHERE = 'echo "rank $RANK_ID of $RANK_SIZE on $SLURMD_NODENAME device $DEVICE_ID"'
SLEEP = ("sh", "-c", f"{WHERE}; exec sleep 300")


def test_every_node_runs_its_ranks_in_the_order_of_the_nodes(job: Job) -> None:
    code, text = job.run("devices=0-1", "--", "sh", "-c", WHERE)
    assert code == 0, text
    expected = {rank: f"rank {rank} of 8 on node{rank // 2 + 1} device {rank % 2}" for rank in range(8)}
    assert job.said() == expected
    assert all(line in text for line in expected.values())
    assert job.result["ranks"] == 8 and "finished     8 rank(s)" in text
    hosts = json.loads((latest(job.cwd) / "hosts.json").read_text())
    assert [(host["name"], host["ranks"], host["shared"]) for host in hosts] == [
        ("node1", "0-1", True), ("node2", "2-3", True), ("node3", "4-5", True), ("node4", "6-7", True),
    ]  # fmt: skip
    job.gone(2)


def test_the_npus_that_slurm_gave_may_differ_from_node_to_node(job: Job, slurm: Cluster) -> None:
    slurm.call("salloc", "--no-shell", "--job-name=holder", "-N1", "-w", "node2", "--gres=npu:2")
    try:
        code, text = job.run("--", "sh", "-c", WHERE, nodes=2, options=("--gres=npu:3",))
    finally:
        slurm.call("scancel", "--name=holder")
    assert code == 0, text
    devices = ["node1 device 0", "node1 device 1", "node1 device 2",
               "node2 device 2", "node2 device 3", "node2 device 4"]  # fmt: skip
    assert job.said() == {rank: f"rank {rank} of 6 on {text}" for rank, text in enumerate(devices)}


def test_an_allocation_of_one_node_is_one_host(job: Job) -> None:
    code, text = job.run("devices=0-1", "--", "sh", "-c", WHERE, nodes=1)
    assert code == 0, text
    assert not (latest(job.cwd) / "hosts.json").exists()


def test_options_of_the_batch_job_do_not_reach_the_step(job: Job) -> None:
    odd = ("env", "SLURM_CPUS_PER_TASK=3", "SRUN_CPUS_PER_TASK=2", "SLURM_EXPORT_ENV=NONE", "SLURM_NTASKS=7",
           "SLURM_LABELIO=1", "SLURM_KILL_BAD_EXIT=1")  # fmt: skip
    allocate = ("salloc", "--quiet", "--nodes=2", *odd)
    words = (sys.executable, "-m", "launcher", "backend=cpu", "devices=0", "--", "sh", "-c", WHERE)
    done = job.cluster.start(job.cwd, *allocate, *words, NPU_TEST_MARK=job.mark)
    text = done.communicate(timeout=60)[0]
    assert done.returncode == 0, text
    assert len(job.said()) == 2


CULPRIT = 'test $RANK_ID = 5 && { echo "the cause"; sleep 0.3; %s; }; sleep 300'


@pytest.mark.parametrize(("dies", "code"), [("exit 7", 7), ("kill -9 $$", 137), ("exit 200", 200)])
def test_the_first_rank_that_fails_decides_wherever_it_is(job: Job, dies: str, code: int) -> None:
    begin = time.monotonic()
    found, text = job.run("devices=0-1", "--", "sh", "-c", CULPRIT % dies)
    assert found == code, text
    assert job.culprit == 5 and "rank 5" in text and "node3" in text and "the cause" in text
    assert time.monotonic() - begin < 30
    job.gone(2)


def test_a_rank_that_ends_early_with_0_leaves_the_others_alone(job: Job) -> None:
    code, text = job.run("devices=0", "--", "sh", "-c", "sleep $RANK_ID; echo done $RANK_ID", nodes=3)
    assert code == 0, text
    assert job.said() == {0: "done 0", 1: "done 1", 2: "done 2"}


def test_a_program_that_is_missing_is_named_with_its_host(job: Job) -> None:
    code, text = job.run("devices=0-1", "--", "/no/such/program")
    assert code == 127, text
    assert "/no/such/program" in text
    job.gone(2)


def test_a_run_that_failed_is_started_again_in_the_same_allocation(job: Job) -> None:
    fails_once = 'echo "attempt $NPU_LAUNCH_ATTEMPT"; [ $NPU_LAUNCH_ATTEMPT != 0 ] || [ $RANK_ID != 3 ]'
    code, text = job.run("devices=0-1", "max_restarts=1", "--", "sh", "-c", fails_once)
    assert code == 0, text
    assert job.result["attempts"] == 2
    assert (latest(job.cwd) / "logs" / "rank_7.log").read_text() == "attempt 0\nattempt 1\n"


def test_sigterm_to_the_head_gives_the_ranks_their_grace(job: Job) -> None:
    slow = "trap 'sleep 1; echo saved; exit 0' TERM; echo ready; while :; do sleep 0.1; done"
    job.start("devices=0-1", "--", "sh", "-c", slow)
    job.begun(8)
    os.kill(job.pids("-m launcher", "lease=")[0], signal.SIGTERM)
    code, text = job.end()
    assert code == 143, text
    for rank in range(8):
        assert (latest(job.cwd) / "logs" / f"rank_{rank}.log").read_text().endswith("\nsaved\n")
    job.gone(2)


def test_scancel_of_the_job_gives_the_ranks_their_grace(job: Job) -> None:
    slow = "trap 'sleep 0.5; echo saved; exit 0' TERM; echo ready; while :; do sleep 0.1; done"
    job.start("devices=0-1", "--", "sh", "-c", slow)
    job.begun(8)
    job.cluster.call("scancel", job.cluster.call("squeue", "-h", "-o", "%i").split()[0])
    job.end()
    job.gone(LEASE + LEAVE)
    logs = [
        (latest(job.cwd) / "hosts" / f"node{rank // 2 + 1}" / "logs" / f"rank_{rank}.log")
        for rank in range(8)
    ]
    assert all(path.read_text().endswith("\nsaved\n") for path in logs)


def head(job: Job) -> list[int]:
    return job.pids("-m launcher", "lease=")[:1]


def rank(job: Job) -> list[int]:
    """Return the process of rank 5."""
    pid = int(json.loads((latest(job.cwd) / "ranks.json").read_text())["5"][1])
    return [pid] if pid in job.pids("sleep 300") else []


def srun(job: Job) -> list[int]:
    return job.pids("srun", "--overlap")


def agent(job: Job) -> list[int]:
    on_node = job.cluster.processes_on("node3")
    return [pid for pid in job.pids("__main__.py agent") if pid in on_node and "srun" not in command(pid)][:1]


def stepd(job: Job) -> list[int]:
    """Return the slurmstepd of the agent of node3, which Slurm does not miss by itself."""
    about = Path("/proc", str(agent(job)[0]), "stat").read_text()
    parent = int(about.rpartition(")")[2].split()[1])
    return [parent] if "slurmstepd" in command(parent) else []


KILLED: dict[str, tuple[Callable[[Job], list[int]], str]] = {
    "head": (head, ""),
    "rank": (rank, "rank 5"),
    "srun": (srun, ""),
    "agent": (agent, "node3"),
    "slurmstepd": (stepd, "node3"),
}


@pytest.mark.parametrize("what", list(KILLED))
def test_kill_9_leaves_nothing_on_any_node(job: Job, what: str) -> None:
    find, named = KILLED[what]
    job.start("devices=0-1", "--", *SLEEP)
    job.begun(8)
    pids = wait_for(lambda: find(job), 10, f"the process of the {what}")
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    job.gone({"agent": LEASE + LEAVE, "slurmstepd": 2 * LEASE + LEAVE}.get(what, 2 * LEAVE))
    code, text = job.end()
    assert named in text
    assert code not in (0, 125) or what == "head", text  # salloc says 0 of a command that was killed


def test_a_node_that_dies_is_the_culprit(job: Job, slurm: Cluster) -> None:
    job.start("devices=0-1", "--", *SLEEP)
    job.begun(8)
    slurm.kill_node("node3")
    try:
        code, text = job.end()
    finally:
        slurm.revive("node3")
    assert code not in (0, 125), text
    assert "node3" in text and "4-5" in text
    job.gone(LEAVE)


def test_a_slurmd_that_dies_alone_disturbs_nobody(job: Job, slurm: Cluster) -> None:
    job.start("devices=0-1", "--", "sh", "-c", f"{WHERE}; sleep 4")
    job.begun(8)
    os.kill(int((slurm.folder / "run" / "node2.pid").read_text()), signal.SIGKILL)
    try:
        code, text = job.end()
    finally:
        slurm.revive("node2")
    assert code == 0, text


def test_a_cancelled_step_is_told_so(job: Job, slurm: Cluster) -> None:
    job.start("devices=0-1", "--", *SLEEP)
    job.begun(8)
    slurm.call("scancel", slurm.call("squeue", "-s", "-h", "-o", "%i").split()[0])
    code, text = job.end()
    assert code not in (0, 125), text
    assert "cancelled" in text
    job.gone(LEASE + LEAVE)


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"SLURM_JOB_ID": "4242", "SLURM_JOB_NODELIST": "node[1-2]"}, "the allocation is over: srun: "),
        ({"SLURM_JOB_NODELIST": "node[3-5]", "SLURM_JOB_NUM_NODES": "3"}, "not in the allocation: srun: "),
    ],
)
def test_what_srun_refuses_is_one_line(job: Job, environ: dict[str, str], problem: str) -> None:
    wrong = ("env", *(f"{name}={value}" for name, value in environ.items()))
    words = (sys.executable, "-m", "launcher", "backend=cpu", "--", "true")
    done = job.cluster.start(
        job.cwd, "salloc", "--quiet", "--nodes=2", *wrong, *words, NPU_TEST_MARK=job.mark
    )
    text = done.communicate(timeout=60)[0]
    assert done.returncode == 78, text
    assert text.count("\n") == 1 and problem in text
    job.gone(2)


def test_one_node_takes_the_npus_that_slurm_gave(job: Job) -> None:
    with_npus = ("--gres=npu:3",)
    job.start("--", *SLEEP, nodes=1, options=with_npus)
    job.begun(3)
    other = Job(job.cluster, job.cwd / "other")
    other.cwd.mkdir()
    try:
        code, text = other.run("--", "sh", "-c", "echo device $DEVICE_ID", nodes=1, options=with_npus)
        assert code == 0, text
        assert sorted(other.said().values()) == ["device 3", "device 4", "device 5"]
    finally:
        other.clear()
        os.kill(job.pids("-m launcher", "lease=")[0], signal.SIGTERM)
        job.end()
