"""Open MPI: the hosts of a job, mpirun's command, what its words mean. tests/engines runs the real one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from launcher.config.job import JobConfig
from launcher.engines import hostfile, mpi
from launcher.errors import NotFoundError, UsageError


def engine(folder: Path, version: str = "mpirun (Open MPI) 4.1.4", **keys: Any) -> mpi.Mpi:
    program = folder / "bin" / "mpirun"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\necho '{version}'\n")
    program.chmod(0o755)
    environ = {"PATH": f"{program.parent}:/bin", "MY_TOKEN": "x", **keys.pop("environ", {})}
    return mpi.Mpi(JobConfig(**{"run_as_root": True, "hosts": ["n1", "n2"], **keys}), environ)


@pytest.fixture
def hosts(tmp_path: Path) -> Any:
    def write(text: str) -> str:
        path = tmp_path / "hosts"
        path.write_text(text)
        return str(path)

    return write


@pytest.mark.parametrize(
    "text",
    [
        "node1 slots=8\nnode2 slots=8 max_slots=8\n",
        "# a comment\nnode1\n\nnode2 # another\n",
        "node1:8\nnode2:8",
    ],
)
def test_hostfiles_of_open_mpi_deepspeed_and_mpich(hosts: Any, text: str) -> None:
    assert hostfile.read(hosts(text)) == ("node1", "node2")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no hosts (expected a line for each, such as `node1 slots=8`)"),
        ("node1\nnode2 slot=8\n", ":2: 'slot=8': unknown (expected `HOST slots=N`)"),
        ("node1\n\nnode1\n", ":3: node1 is named twice (expected each host once); remove one"),
        ("user@node1\n", ":1: 'user@node1': a user; name it in ~/.ssh/config (Host, User)"),
        ("node1,node2\n", ":1: 'node1,node2': invalid host (expected a name or an address)"),
    ],
)
def test_a_line_that_is_wrong_is_named(hosts: Any, text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=r"^hostfile: ") as caught:
        hostfile.read(hosts(text))
    assert str(caught.value).endswith(problem)


def test_the_command_starts_one_agent_on_each_host_and_keeps_their_output_apart(tmp_path: Path) -> None:
    made = engine(tmp_path, grace=45.0, export=["MY_TOKEN", "UNSET"])
    words = made.argv(["python", "-m", "launcher", "agent"], ["n1", "n2"])
    text = " ".join(words)
    assert "-n 2 --host n1:1,n2:1 --map-by ppr:1:node" in text and text.endswith("python -m launcher agent")
    assert "--tag-output" in words and "--stdin all" in text
    assert "--mca odls_base_sigkill_timeout 75" in text and "--mca plm_rsh_no_tree_spawn 1" in text
    assert f"--prefix {tmp_path}" in text  # its daemons may not be in every host's PATH
    assert "-x MY_TOKEN" in text and "UNSET" not in text and "=x" not in text


def test_networks_between_the_hosts_are_those_of_the_job(tmp_path: Path) -> None:
    words = " ".join(engine(tmp_path, interfaces=["10.0.0.0/24", "eth1"]).argv([], ["n1"]))
    assert "--mca oob_tcp_if_include 10.0.0.0/24,eth1 --mca btl_tcp_if_include 10.0.0.0/24,eth1" in words


def test_in_slurm_the_daemons_are_started_over_ssh_as_the_hosts_are_named(tmp_path: Path) -> None:
    inside = engine(tmp_path, environ={"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[1-3]"})
    assert "--mca plm rsh" in " ".join(inside.argv([], ["n1"]))
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[1-3]"}
    assert engine(tmp_path, hosts=[], environ=job).allocation().hosts == ("n1", "n2", "n3")


def test_what_is_no_open_mpi_or_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"not Open MPI .--version says 'HYDRA build details:'"):
        engine(tmp_path, "HYDRA build details:")
    with pytest.raises(NotFoundError, match="no mpirun in PATH"):
        mpi.Mpi(JobConfig(hosts=["n1"]), {"PATH": "/nowhere"})
    with pytest.raises(UsageError, match="both are given"):
        engine(tmp_path, hostfile="hosts")
    with pytest.raises(UsageError, match="hosts: n1 is named twice"):
        engine(tmp_path, hosts=["n1", "n1"])
    with pytest.raises(UsageError, match="no hosts; give --hosts"):
        engine(tmp_path, hosts=[])


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone is refused")
def test_root_must_say_that_it_means_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="mpirun does not run for root"):
        engine(tmp_path, run_as_root=False)


@pytest.mark.parametrize(
    ("code", "words", "text", "lost"),
    [
        (
            205,
            "ORTE has lost communication with a remote daemon.\n\n  HNP daemon   : [[1,0],0] on node head\n"
            "  Remote daemon: [[1,0],3] on node node3\n",
            "mpirun: lost its daemon on node3",
            ("node3",),
        ),
        (
            255,
            "ssh: connect to host node4 port 22: No route to host\n-----\nORTE was unable to reliably start"
            " one or more daemons.\n",
            "a host cannot be reached over ssh: ssh: connect to host node4 port 22: No route to host",
            (),
        ),
        (1, "", "", ()),
        (-9, "", "mpirun was killed by SIGKILL", ()),
        (0, "some chatter", "", ()),
    ],
)
def test_the_words_of_mpirun(code: int, words: str, text: str, lost: tuple[str, ...]) -> None:
    assert mpi.explain(code, words) == (mpi.EngineEnd(code, text, lost))
