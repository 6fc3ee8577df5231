"""Slurm: what its variables and words mean, and the command that starts the agents."""

from __future__ import annotations

import os

import pytest

from launcher.engines import slurm
from launcher.engines.slurm import Slurm, explain, gres_indexes, step_of
from launcher.errors import UsageError

BATCH = {
    "SLURM_JOB_ID": "17", "SLURM_JOB_NODELIST": "node[1-4]", "SLURM_PROCID": "0", "SLURM_NTASKS": "4",
    "SLURM_CPUS_PER_TASK": "8", "SLURM_EXPORT_ENV": "NONE", "HOME": "/root",
}  # fmt: skip
STEP = {**BATCH, "SLURM_STEP_ID": "3", "SLURM_STEP_NODELIST": "node[2-3]", "SLURM_PROCID": "1"}
JOB = """JobId=17 JobName=interactive
   JOB_GRES=npu:16
     Nodes=node[1-2] CPU_IDs=0 Mem=0 GRES={}
     Nodes=node3 CPU_IDs=0-3 Mem=4000 GRES={}
   MinCPUsNode=1
"""


@pytest.fixture(autouse=True)
def silent_scontrol(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Answer for scontrol; a test puts its answer under "job"."""
    answers: dict[str, str] = {}
    monkeypatch.setattr(slurm, "_answer", lambda command: answers.get(command[-2], ""))
    return answers


@pytest.mark.parametrize(
    ("environ", "hosts", "within"),
    [
        (BATCH, "node1 node2 node3 node4", False),
        (STEP, "node2 node3", True),
        (dict(STEP, SLURM_STEP_ID="4294967290"), "node1 node2 node3 node4", False),  # salloc's own shell
    ],
)
def test_the_hosts_are_those_of_the_job_or_of_the_step(
    environ: dict[str, str], hosts: str, within: bool
) -> None:
    assert slurm.is_step(environ) is within
    assert Slurm(environ).allocation().hosts == tuple(hosts.split())


@pytest.mark.parametrize("environ", [{}, {"SLURM_JOB_ID": "17"}])
def test_outside_an_allocation_it_says_how_to_get_one(environ: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="salloc --nodes"):
        Slurm(environ).allocation()


def test_the_step_takes_no_option_from_the_job() -> None:
    engine = Slurm(BATCH)
    words = engine.argv(["npu-launch", "agent"], ["node1", "node3", "node4"])
    assert words[0] == "srun" and words[-2:] == ["npu-launch", "agent"]
    assert {"--nodes=3", "--ntasks=3", "--nodelist=node[1,3-4]", "--overlap", "--export=ALL"} <= set(words)
    assert {"--kill-on-bad-exit=0", "--wait=0", "--mpi=none"} <= set(words)
    kept = engine.environ(BATCH)
    assert kept["HOME"] == "/root" and kept["SLURM_JOB_ID"] == "17"
    assert not {"SLURM_CPUS_PER_TASK", "SLURM_EXPORT_ENV", "SLURM_NTASKS"} & set(kept)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("npu:4(IDX:3-6)", "npu:4(IDX:0-3)", {"node1": "3-6", "node2": "3-6", "node3": "0-3"}),
        ("ib:1(IDX:0),npu:Ascend-910B3:2(IDX:0,5)", "", {"node1": "0,5", "node2": "0,5"}),
        ("gpu:8(IDX:0-7),npu:1(IDX:2)", "npu:0(IDX:N/A)", {"node1": "2", "node2": "2"}),
        ("gpu:910b:8(IDX:0-7)", "(null)", {"node1": "0-7", "node2": "0-7"}),
        ("ib:1(IDX:0)", "fpga:2(IDX:0-1)", {}),
    ],
)
def test_the_npus_of_each_node_are_read_from_its_line(
    first: str, second: str, expected: dict[str, str]
) -> None:
    assert gres_indexes(JOB.format(first, second)) == expected


@pytest.mark.parametrize(
    ("answer", "variables", "devices"),
    [
        ("", {}, ()),
        ("", {"SLURM_JOB_NPUS": "0,1"}, ("0,1", "0,1")),
        (("0-1", "0-1"), {"SLURM_JOB_NPUS": "4,5", "SLURM_STEP_NPUS": "6"}, ("6", "6")),
        (("0-1", "2-3"), {"SLURM_JOB_NPUS": "0,1"}, ("0-1", "2-3")),
    ],
)
def test_a_variable_of_this_node_counts_unless_the_nodes_differ(
    silent_scontrol: dict[str, str],
    answer: tuple[str, str] | str,
    variables: dict[str, str],
    devices: tuple[str, ...],
) -> None:
    if answer:
        silent_scontrol["job"] = JOB.format(*(f"npu:2(IDX:{text})" for text in answer))
    environ = {"SLURM_JOB_ID": "17", "SLURM_JOB_NODELIST": "node[2-3]", **variables}
    assert Slurm(environ).allocation().devices == devices


def test_a_step_is_found_by_its_srun() -> None:
    here = os.uname().nodename
    steps = "".join(
        f"StepId={step} UserId=0\n   State=RUNNING\n   SrunHost:Pid={host}:{pid}\n   TresPerNode=npu:4\n\n"
        for step, host, pid in (("17.0", here, 123), ("17.1", here, 12), ("17.2", "other", 1234))
    )
    assert [step_of(pid, steps) for pid in (123, 12, 1, 1234)] == ["17.0", "17.1", "", ""]


@pytest.mark.parametrize(
    ("code", "words", "meaning", "lost"),
    [
        (0, "srun: Job step creation still disabled, retrying\n", "", ()),
        (7, "srun: error: node3: task 2: Exited with exit code 7\n", "", ()),
        (99, "srun: error: Node failure on node[2-3]\nDUE TO NODE FAILURE\n", "node failure on node[2-3]",
         ("node2", "node3")),
        (137, "slurmstepd-n1: error: *** STEP 3.2 ON n1 CANCELLED AT 2026-11-28T20:30 DUE TO TIME LIMIT ***",
         "time limit", ()),
        (1, "srun: error: Only allocated 2 nodes asked for 4\n", "not in the allocation", ()),
        (1, "srun: error: Slurm job 3 has expired\n", "allocation is over", ()),
        (2, "slurmstepd-n2: error: execve(): /no/such: No such file or directory\n", "one path", ()),
        (1, "hello\nsrun: error: a new word\n", "srun: error: a new word", ()),
        (-9, "", "SIGKILL", ()),
    ],
)  # fmt: skip
def test_words_of_srun_are_explained(code: int, words: str, meaning: str, lost: tuple[str, ...]) -> None:
    end = explain(code, words)
    assert end.lost == lost and meaning in end.text and bool(meaning) == bool(end.text)
