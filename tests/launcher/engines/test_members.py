"""Which of several processes this is that came up by themselves, told from the environment alone."""

from __future__ import annotations

from typing import Any

import pytest

from launcher.config import job as configs
from launcher.engines import pull_site
from launcher.engines.pull import member
from launcher.errors import UsageError

POD = {"NPU_LAUNCH_HOST_COUNT": "3", "NPU_LAUNCH_JOB": "squad-1f"}
SLURM = {
    "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "2", "SLURM_STEP_NUM_TASKS": "3", "SLURM_PROCID": "1",
    "SLURM_STEP_NODELIST": "node[08-10]",
}  # fmt: skip
MPI = {
    "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_LOCAL_SIZE": "1",
    "PMIX_NAMESPACE": "123", "OMPI_MCA_orte_hnp_uri": "123.0;tcp://10.0.0.1:4",
}  # fmt: skip


@pytest.mark.parametrize(
    "own, index, names",
    [
        ({"JOB_COMPLETION_INDEX": "2", "NPU_LAUNCH_POD": "squad-1f-2-x8k2p"}, 2, ("0", "1", "2")),
        ({"VC_TASK_INDEX": "1"}, 1, ("host-0", "host-1", "host-2")),
        ({"VK_TASK_INDEX": "1", "NPU_LAUNCH_HOST_OFFSET": "1"}, 2, None),
        ({"NPU_LAUNCH_POD": "squad-1f-chief-0"}, 0, ("chief-0", "worker-0", "worker-1")),
        ({"NPU_LAUNCH_POD": "squad-1f-scheduler-0"}, 0, ("scheduler-0", "worker-0", "worker-1")),
        ({"NPU_LAUNCH_POD": "squad-1f-worker-1"}, 2, None),
    ],
)  # fmt: skip
def test_a_pod_knows_its_index_and_the_others_names(own: dict[str, str], index: int, names: Any) -> None:
    found = member({**POD, **own})
    assert found is not None and found.index == index and found.run_id == "squad-1f"
    assert names is None or found.names == tuple(f"squad-1f-{name}" for name in names)


def test_a_job_that_is_created_again_goes_on_but_meets_in_another_folder() -> None:
    keys = set()
    for life, tries in (("", ""), ("uid-1", "0"), ("uid-1", "1"), ("uid-2", "0")):
        environ = {**POD, "JOB_COMPLETION_INDEX": "0", "NPU_LAUNCH_LIFE": life, "NPU_LAUNCH_TRY": tries}
        found = member(environ)
        assert found is not None and found.run_id == "squad-1f"
        keys.add(found.key)
    assert len(keys) == 4


def test_a_task_of_srun_and_a_process_of_mpirun_know_it_too() -> None:
    task = member(SLURM)
    assert task is not None and (task.index, task.names) == (1, ("node08", "node09", "node10"))
    again = member({**SLURM, "SLURM_RESTART_COUNT": "1"})
    assert again is not None and again.key != task.key
    for around in ({}, SLURM):
        process = member({**around, **MPI})
        assert process is not None and (process.index, len(process.names)) == (3, 4)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {**POD, "NPU_LAUNCH_HOST_COUNT": "1", "JOB_COMPLETION_INDEX": "0"},
        {"JOB_COMPLETION_INDEX": "0"},
        {**POD, "JOB_COMPLETION_INDEX": "0", "NPU_LAUNCH_RUN_DIR": "/runs/a"},  # a rank starts a launcher
        {**SLURM, "SLURM_STEP_NUM_TASKS": "1"},
        {**SLURM, "SLURM_STEP_ID": "4294967291"},  # the script of sbatch
        {**SLURM, "SLURM_PTY_PORT": "40001"},  # the shell of srun --pty
        {**MPI, "OMPI_COMM_WORLD_SIZE": "1"},
    ],
)
def test_one_process_alone_is_no_member(environ: dict[str, str]) -> None:
    assert member(environ) is None


@pytest.mark.parametrize(
    "environ, words",
    [
        ({**SLURM, "SLURM_STEP_NUM_TASKS": "24"}, "24 times on 3 nodes .* --ntasks-per-node=1"),
        ({**MPI, "OMPI_COMM_WORLD_LOCAL_SIZE": "4"}, "4 times on this host .* ppr:1:node"),
        (POD, "nor a pod's name in NPU_LAUNCH_POD tells which host this is"),
        ({**POD, "JOB_COMPLETION_INDEX": "3"}, "this is host 3 .expected less than 3"),
    ],
)
def test_several_on_one_host_or_none_to_tell_apart_are_refused(environ: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        member(environ)


@pytest.mark.parametrize(
    "environ, written", [({**POD, "JOB_COMPLETION_INDEX": "0"}, False), (SLURM, True), (MPI, True)]
)
def test_in_pods_the_cluster_chooses_the_npus(environ: dict[str, str], written: bool) -> None:
    found = member(environ)
    config, source = configs.load(None, ["devices=0-1"], {})
    assert found is not None
    settled = pull_site.settled(found, config, source)
    assert ("devices" in source.written) is written and settled.run_id == found.run_id
    with pytest.raises(UsageError, match="stdin_rank"):
        pull_site.settled(found, configs.load(None, ["stdin_rank=0"], {})[0], source)
