"""Open MPI within an allocation of Slurm, as on sites whose users type mpirun there."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

import pytest

from tests.engines.slurm_cluster import Cluster, wait_for
from tests.launching import latest

pytestmark = [
    pytest.mark.engines,
    pytest.mark.skipif(not shutil.which("mpirun"), reason="apt-get install openmpi-bin"),
]
RUN = (sys.executable, "-m", "launcher", "backend=cpu", "--devices", "0-1")
SAY = ("--", "sh", "-c", "echo rank $RANK_ID of $RANK_SIZE")


RSH = """#!/bin/sh
while case "$1" in -*) true ;; *) false ;; esac; do shift; done
shift
exec /bin/sh -c "$*"
"""


def ended(slurm: Cluster, cwd: Path, *words: str) -> str:
    """Run a command as a batch job of two nodes, which must end well; give what it prints.

    Its processes come by a stand-in for ssh, and so have what Slurm has set for the batch script:
    SLURM_PROCID=0 and the name of its node. mpirun's own use of srun gives as much on a node of its own.
    """
    (cwd / "rsh").write_text(RSH)
    (cwd / "rsh").chmod(0o755)
    (cwd / "tmp").mkdir()
    allow = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    shell = {"OMPI_MCA_plm": "rsh", "OMPI_MCA_plm_rsh_agent": str(cwd / "rsh"), "TMPDIR": str(cwd / "tmp")}
    script = f"{shlex.join(words)}; echo ended $?"
    process = slurm.start(cwd, "sbatch", "--nodes=2", "--output=text", "--wrap", script, **allow, **shell)
    assert "Submitted" in process.communicate(timeout=30)[0]
    text = wait_for(lambda: _read(cwd / "text"), 60, "the job's end")
    assert text.endswith("ended 0\n"), text
    return str(text)


def _read(path: Path) -> str:
    text = path.read_text() if path.exists() else ""
    return text if "\nended " in text else ""


def logs(cwd: Path) -> list[str]:
    return [path.read_text() for path in sorted((latest(cwd) / "logs").glob("rank_*.log"))]


def test_the_engine_counts_its_own_processes(slurm: Cluster, tmp_path: Path) -> None:
    ended(slurm, tmp_path, *RUN, "--engine", "mpi", *SAY)
    assert logs(tmp_path) == [f"rank {rank} of 4\n" for rank in range(4)]


def test_processes_of_mpirun_run_one_job(slurm: Cluster, tmp_path: Path) -> None:
    ended(slurm, tmp_path, "mpirun", "--map-by", "ppr:1:node", *RUN, *SAY)
    assert logs(tmp_path) == [f"rank {rank} of 4\n" for rank in range(4)]
