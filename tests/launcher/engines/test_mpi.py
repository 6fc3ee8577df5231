"""mpirun's command, its hosts, and what its end means; a script stands in for mpirun."""

from __future__ import annotations

import os
import signal
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from launcher.config.job import JobConfig
from launcher.engines import mpi
from launcher.engines.networks import choose
from launcher.errors import NotFoundError, UsageError

OPEN_MPI_4 = "mpirun (Open MPI) 4.1.4\n\nReport bugs to http://www.open-mpi.org/community/help/"
AGENT = ("/opt/python", "-m", "launcher", "agent")


def environ(folder: Path, version: str = OPEN_MPI_4, **more: str) -> dict[str, str]:
    for name in ("mpirun", "ssh"):
        (folder / name).write_text(f"#!/bin/sh\ncat <<'E'\n{version}\nE\n")
        (folder / name).chmod(0o755)
    return {"PATH": f"{folder}:/bin:/usr/bin", "PWD": "/", **more}


def engine(folder: Path, version: str = OPEN_MPI_4, config: Any = (), **more: str) -> mpi.Mpi:
    given = {"hosts": ["b", "a"], "interfaces": ["10.0.0.0/24"], "run_as_root": True, **dict(config)}
    return mpi.Mpi(JobConfig(**given), environ(folder, version, **more))


def settings(argv: list[str], option: str) -> dict[str, str]:
    return {argv[at + 1]: argv[at + 2] for at, word in enumerate(argv) if word == option}


def test_the_command_keeps_the_order_and_the_grace(tmp_path: Path) -> None:
    argv = engine(tmp_path, config={"grace": 7.5}).argv(AGENT, ("b", "a"))
    assert argv[0] == str(tmp_path / "mpirun") and tuple(argv[-4:]) == AGENT
    assert argv[argv.index("--host") + 1] == "b:1,a:1" and argv[argv.index("--map-by") + 1] == "seq"
    assert argv[argv.index("-n") + 1] == "2" and argv[argv.index("--stdin") + 1] == "all"
    assert argv[argv.index("--bind-to") + 1] == "none" and "--tag-output" in argv and "-x" not in argv
    assert ("--allow-run-as-root" in argv) == (os.geteuid() == 0)
    assert settings(argv, "--mca") == {
        "orte_abort_on_non_zero_status": "0", "odls_base_sigkill_timeout": "10", "plm_rsh_no_tree_spawn": "1",
        "oob_tcp_if_include": "10.0.0.0/24", "plm_rsh_args": "-o BatchMode=yes -o ConnectTimeout=20",
    }  # fmt: skip


def test_the_names_of_open_mpi_5(tmp_path: Path) -> None:
    argv = engine(tmp_path, "mpirun (Open MPI) 5.0.7").argv(AGENT, ("b", "a"))
    names = settings(argv, "--prtemca")
    assert {"prte_abort_on_non_zero_status", "plm_ssh_no_tree_spawn", "plm_ssh_args"} < set(names)
    assert "--mca" not in argv


def test_a_remote_shell_of_the_users_own_gets_no_options_of_ssh(tmp_path: Path) -> None:
    argv = engine(tmp_path, OMPI_MCA_plm_rsh_agent="/opt/ssh").argv(AGENT, ("b", "a"))
    assert "plm_rsh_args" not in argv


def test_other_programs_of_the_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"is not Open MPI's .*HYDRA.*openmpi-bin"):
        engine(tmp_path, "HYDRA build details:\n    Version: 4.0.2")
    with pytest.raises(NotFoundError, match=r"mpirun: not found in PATH; .*openmpi-bin"):
        mpi.Mpi(JobConfig(hosts=["a", "b"]), {"PATH": str(tmp_path / "empty")})


def test_root_must_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(UsageError, match=r"mpirun refuses root.*run_as_root=true"):
        engine(tmp_path, config={"run_as_root": False})
    both = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    engine(tmp_path, config={"run_as_root": False}, **both)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "--allow-run-as-root" not in engine(tmp_path).argv(AGENT, ("b", "a"))


@pytest.mark.parametrize("key", ["file", "pbs", "slurm"])
def test_hosts_come_from_a_file_or_from_the_sites_allocation(tmp_path: Path, key: str) -> None:
    (tmp_path / "hosts").write_text("n1 slots=4\nn2 slots=4\n")
    config: dict[str, Any] = {"hosts": [], "hostfile": str(tmp_path / "hosts") if key == "file" else ""}
    more = {"pbs": {"PBS_NODEFILE": str(tmp_path / "hosts")}, "slurm": {"SLURM_JOB_NODELIST": "n[1-2]"}}
    found = engine(tmp_path, config=config, **more.get(key, {})).allocation()
    assert found.hosts == ("n1", "n2") and found.devices == (() if key == "slurm" else ("0-3", "0-3"))


def test_no_hosts_or_hosts_twice(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no hosts; give hosts="):
        engine(tmp_path, config={"hosts": []})
    with pytest.raises(UsageError, match="both are given"):
        engine(tmp_path, config={"hostfile": "x"})


def test_a_head_under_mpirun_hides_that_from_its_own(tmp_path: Path) -> None:
    outer = {
        "OMPI_COMM_WORLD_RANK": "0",
        "PMIX_RANK": "0",
        "OMPI_MCA_orte_x": "1",
        "OMPI_MCA_plm_rsh_agent": "s",
    }
    assert set(engine(tmp_path).environ(outer)) == {"OMPI_MCA_plm_rsh_agent"}
    assert engine(tmp_path).environ({"OMPI_MCA_orte_x": "1"}) == {"OMPI_MCA_orte_x": "1"}


@pytest.mark.parametrize(
    "hosts, expected",
    [
        ([["10.0.0.2"], ["10.0.0.3"]], ["10.0.0.0/24"]),
        ([["127.0.1.1"], ["10.0.0.3"]], ["10.0.0.0/24"]),
        ([["10.0.5.3", "10.0.0.9"], ["10.0.0.3"]], ["10.0.0.0/24"]),
        ([["10.0.1.2"], ["10.0.0.3"]], ["10.0.0.0/16"]),
        ([["192.168.7.2"], ["10.0.0.3"]], []),  # through a router: mpirun sees for itself
        ([[], ["10.0.0.3"]], []),  # a name of ~/.ssh/config
        ([["127.0.0.1"]], []),
    ],
)
def test_the_network_of_all_hosts(hosts: list[list[str]], expected: list[str]) -> None:
    networks = [IPv4Network(text) for text in ("172.17.0.0/16", "10.0.0.0/16", "10.0.0.0/24")]
    assert choose(networks, hosts) == expected


DAEMONS = "ORTE was unable to reliably start one or more daemons.\n* not finding the required libraries"


@pytest.mark.parametrize(
    "code, words, text, lost",
    [
        (0, "", "", ()),
        (255, "ssh: connect to host node9 port 22: No route to host\n" + DAEMONS,
         "mpirun: node9: No route to host", ("node9",)),
        (255, "ssh: Could not resolve hostname node9: Name or service not known\n" + DAEMONS,
         "mpirun: node9: Name or service not known", ("node9",)),
        (255, "root@node2: Permission denied (publickey).\n" + DAEMONS,
         "mpirun: node2: Permission denied (publickey).", ("node2",)),
        (255, DAEMONS, "mpirun: a host's daemon did not start, or found no way back", ()),
        (132, "Executable: /opt/python\nNode: node2\n\nwhile attempting",
         "mpirun: node2 has no /opt/python; install npu-launch at one path on all hosts", ()),
        (205, "ORTE has lost communication with a remote daemon.\n\n  HNP daemon   : [[1,0],0] on node vm\n"
         "  Remote daemon: [[1,0],3] on node node4\n\nThis is usually", "mpirun: lost node4", ("node4",)),
        (137, "mpirun noticed that process rank 2 with PID 0 on node node3 exited on signal 9 (Killed).",
         "mpirun: lost node3", ("node3",)),
        (-signal.SIGKILL, "", "mpirun was killed by SIGKILL", ()),
        (127, "[1,0]<stderr>:bash: orted: command not found",
         "mpirun: a host lacks Open MPI (orted is not in its PATH)", ()),
    ],
)  # fmt: skip
def test_what_an_end_means(code: int, words: str, text: str, lost: tuple[str, ...]) -> None:
    end = mpi.explain(code, words)
    assert (end.code, end.text, end.lost) == (code, text, lost)
