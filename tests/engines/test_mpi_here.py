"""Open MPI with a host that is the head's own: mpirun's standard input does not reach its agent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.engines
FAKE_SSH = """#!/bin/sh
while case "$1" in -*) true ;; *) false ;; esac; do shift; done
[ "$1" = late ] && sleep 6
shift
export TMPDIR={folder}/tmp
exec /bin/sh -c "$*"
"""


FIVE = os.environ.get("NPU_TEST_OPEN_MPI_5", str(Path(sys.prefix, "bin/mpirun")))


@pytest.fixture(params=[4, 5])
def launched(request: Any, tmp_path: Path) -> Any:
    """Give a function that runs a job on hosts that a stand-in for ssh opens here, by one Open MPI."""
    folder, fitting = "", "Open MPI" if request.param == 4 else "(Open MPI) 5"
    for path in ("/usr/bin/mpirun", "/usr/local/bin/mpirun") if request.param == 4 else (FIVE,):
        if os.access(path, os.X_OK) and fitting in subprocess.getoutput(f"{path} --version"):
            folder = os.path.dirname(path)
    if not folder:
        pytest.skip("apt-get install openmpi-bin" if request.param == 4 else "pip install -e '.[engines]'")
    rsh = tmp_path / "rsh"
    rsh.write_text(FAKE_SSH.format(folder=tmp_path))
    rsh.chmod(0o755)
    (tmp_path / "tmp").mkdir()
    agents = {"OMPI_MCA_plm_rsh_agent": str(rsh), "PRTE_MCA_plm_ssh_agent": str(rsh)}
    own = {"PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": str(Path(__file__).parents[2])}

    def run(hosts: str, program: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "launcher", "--engine", "mpi", "run_as_root=true", "backend=cpu",
                   "--hosts", hosts, "--devices", "0-1", "--", "sh", "-c", program]  # fmt: skip
        done = subprocess.run(
            command, cwd=str(tmp_path), env={**os.environ, **agents, **own},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=90,
        )  # fmt: skip
        return done.returncode, done.stdout.decode()

    return run


@pytest.mark.parametrize("hosts", ["{here},other", "other,{here}"])
def test_the_heads_own_host_takes_part(launched: Any, hosts: str) -> None:
    code, text = launched(hosts.format(here=os.uname().nodename), "echo rank $RANK_ID of $RANK_SIZE")
    assert code == 0, text
    assert all(f"rank {rank} of 4" in text for rank in range(4))


def test_the_first_failure_ends_all_hosts(launched: Any) -> None:
    code, text = launched("one,other", "[ $RANK_ID = 3 ] && { echo ' why'; exit 7; }; exec sleep 60")
    assert code == 7 and "rank 3 (host other" in text and " 3|  why\n" in text, text


@pytest.mark.parametrize("launched", [4], indirect=True)
def test_a_host_that_comes_late_is_waited_for_by_name(launched: Any) -> None:
    code, text = launched("one,late", "echo rank $RANK_ID of $RANK_SIZE")
    assert code == 0 and "rank 3 of 4" in text, text
    assert "waiting for host" in text and "late" in text.split("waiting for host")[1].splitlines()[0], text
