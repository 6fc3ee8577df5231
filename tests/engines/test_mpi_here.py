"""Open MPI with a host that is the head's own: mpirun's standard input does not reach its agent."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.engines
FAKE_SSH = """#!/bin/sh
while case "$1" in -*) true ;; *) false ;; esac; do shift; done
shift
export TMPDIR={folder}/tmp
exec /bin/sh -c "$*"
"""


@pytest.mark.skipif(not shutil.which("mpirun"), reason="apt-get install openmpi-bin")
@pytest.mark.parametrize("hosts", ["{here},other", "other,{here}"])
def test_the_heads_own_host_takes_part(tmp_path: Path, hosts: str) -> None:
    rsh = tmp_path / "rsh"
    rsh.write_text(FAKE_SSH.format(folder=tmp_path))
    rsh.chmod(0o755)
    (tmp_path / "tmp").mkdir()
    command = [sys.executable, "-m", "launcher", "--engine", "mpi", "run_as_root=true", "backend=cpu",
               "--hosts", hosts.format(here=os.uname().nodename), "--devices", "0-1", "--",
               "sh", "-c", "echo rank $RANK_ID of $RANK_SIZE"]  # fmt: skip
    env = dict(os.environ, OMPI_MCA_plm_rsh_agent=str(rsh), PYTHONPATH=str(Path(__file__).parents[2]))
    done = subprocess.run(
        command, cwd=str(tmp_path), env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=90
    )
    text = done.stdout.decode()
    assert done.returncode == 0, text
    assert all(f"rank {rank} of 4" in text for rank in range(4))
