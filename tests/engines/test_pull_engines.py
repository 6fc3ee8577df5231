"""`srun npu-launch` and `mpirun npu-launch`, as users type it: the tasks find each other and run one job."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.engines.slurm_cluster import Cluster
from tests.launching import ROOT, latest

pytestmark = pytest.mark.engines
RUN = (sys.executable, "-m", "launcher", "backend=cpu")
SAY = ("--", "sh", "-c", "echo rank $RANK_ID of $RANK_SIZE; exit ${CODE:-0}")


def srun(slurm: Cluster, cwd: Path, *words: str, options: tuple[str, ...] = ()) -> tuple[int, str]:
    """Start npu-launch in three tasks; give srun's code and what all of them have printed."""
    started = slurm.start(cwd, "srun", "--nodes=3", *(options or ("--ntasks-per-node=1",)), *RUN, *words)
    text = started.communicate(timeout=90)[0]
    return started.returncode, text


def logs(cwd: Path) -> list[str]:
    return [path.read_text() for path in sorted((latest(cwd) / "logs").glob("rank_*.log"))]


def test_tasks_of_srun_run_one_job(slurm: Cluster, tmp_path: Path) -> None:
    code, text = srun(slurm, tmp_path, "devices=0-1", *SAY)
    assert code == 0, text
    assert logs(tmp_path) == [f"rank {rank} of 6\n" for rank in range(6)]
    assert text.count("run folder") == 2  # said by the head alone, at the beginning and at the end


def test_srun_ends_with_the_code_of_the_rank_that_failed_first(slurm: Cluster, tmp_path: Path) -> None:
    program = "[ $RANK_ID = 2 ] && exit 9; sleep 60"
    code, text = srun(slurm, tmp_path, "--", "sh", "-c", program)
    assert code == 9 and "rank 2" in text and "failed first: exit code 9" in text


def test_several_tasks_on_a_node_are_refused_by_each(slurm: Cluster, tmp_path: Path) -> None:
    code, text = srun(slurm, tmp_path, *SAY, options=("--ntasks-per-node=2",))
    assert code == 2 and "6 times on 3 nodes (expected once on each)" in text


@pytest.fixture
def mpirun(tmp_path: Path) -> Any:
    """Give a function that runs npu-launch by mpirun on hosts that a stand-in for ssh opens on this one."""
    if not shutil.which("mpirun"):
        pytest.skip("mpirun not found: apt-get install -y --no-install-recommends openmpi-bin")
    shell = tmp_path / "rsh"
    shell.write_text(
        '#!/bin/bash\nwhile [[ "$1" == -* ]]; do shift; done\nhost=$1; shift\n'
        f'export TMPDIR={tmp_path}/tmp-$host; mkdir -p "$TMPDIR"; exec /bin/sh -c "$*"\n'
    )
    shell.chmod(0o755)
    (tmp_path / "hosts").write_text("node1 slots=2\nnode2 slots=2\nnode3 slots=2\n")

    def run(*words: str, mapping: str = "ppr:1:node", count: int = 3) -> tuple[int, str]:
        argv = [
            "mpirun", "--allow-run-as-root", "--hostfile", str(tmp_path / "hosts"), "--map-by", mapping,
            "-n", str(count), "--mca", "plm_rsh_agent", str(shell), "--mca", "plm_rsh_no_tree_spawn", "1",
        ]  # fmt: skip
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [*argv, "-x", "PYTHONPATH", *RUN, *words],
            cwd=str(tmp_path), env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=90,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    return run


def test_processes_of_mpirun_run_one_job(mpirun: Any, tmp_path: Path) -> None:
    code, text = mpirun("devices=0-1", *SAY)
    assert code == 0, text
    assert logs(tmp_path) == [f"rank {rank} of 6\n" for rank in range(6)]


def test_mpirun_ends_with_the_code_of_the_rank_that_failed_first(mpirun: Any) -> None:
    code, text = mpirun("--", "sh", "-c", "[ $RANK_ID = 2 ] && exit 9; sleep 60")
    assert code == 9 and "failed first: exit code 9" in text


def test_several_processes_on_a_host_are_refused(mpirun: Any) -> None:
    code, text = mpirun(*SAY, mapping="ppr:2:node", count=6)
    assert code == 2 and "2 times on this host (expected once on each)" in text


def test_tasks_of_srun_take_the_npus_that_slurm_gave(slurm: Cluster, tmp_path: Path) -> None:
    code, text = srun(slurm, tmp_path, *SAY, options=("--ntasks-per-node=1", "--gres=npu:2"))
    assert code == 0, text
    assert logs(tmp_path) == [f"rank {rank} of 6\n" for rank in range(6)]
