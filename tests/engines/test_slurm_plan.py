"""The plan over several nodes of a real Slurm: shown, in another order, and refused before anything runs."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

import pytest

from launcher.process.itself import PROGRAM
from tests.engines.slurm_cluster import Cluster, marked, wait_for
from tests.launching import latest

pytestmark = pytest.mark.engines
INVENTORY = "hosts:\n" + "".join(
    f"- {{server_id: node{number}, devices: [{{device_id: {number}}}]}}\n" for number in (3, 1, 2, 4)
)


class Launcher:
    """npu-launch in an allocation of all nodes; its processes carry a mark."""

    def __init__(self, cluster: Cluster, cwd: Path) -> None:
        self._cluster, self._cwd, self._mark = cluster, cwd, f"plan-{cwd}"

    def run(self, *words: str) -> tuple[int, str]:
        """Return exit code and text, when nothing of it is left."""
        allocate = ("salloc", "--quiet", "--nodes=4", sys.executable, "-m", "launcher", "backend=cpu")
        process = self._cluster.start(self._cwd, *allocate, *words, NPU_TEST_MARK=self._mark)
        text = process.communicate(timeout=60)[0]
        wait_for(lambda: not marked(self._mark), 5, "every process gone")
        return process.returncode, text


@pytest.fixture()
def launcher(slurm: Cluster, tmp_path: Path) -> Launcher:
    (tmp_path / "hosts.yaml").write_text(INVENTORY)
    return Launcher(slurm, tmp_path)


def test_a_dry_run_shows_hosts_and_the_engines_command_and_makes_nothing(
    launcher: Launcher, tmp_path: Path
) -> None:
    code, text = launcher.run("--devices", "0-1", "--dry-run", "--json", "--", "sh", "-c", "exit 7")
    plan = json.loads(text)
    assert code == 0 and plan["engine"][0] == "srun"
    assert plan["engine"][-3:] == [*PROGRAM[1:], "agent", "--engine=slurm"]
    assert [(host["index"], host["name"]) for host in plan["hosts"]] == list(
        enumerate(("node1", "node2", "node3", "node4"))
    )
    assert [rank["env"]["SLURMD_NODENAME"] for rank in plan["ranks"][::2]] == [
        host["name"] for host in plan["hosts"]
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hosts.yaml"]


def test_an_inventory_file_gives_the_order_of_the_ranks(launcher: Launcher, tmp_path: Path) -> None:
    command = ("sh", "-c", "echo $SLURMD_NODENAME $DEVICE_ID")
    code, text = launcher.run("--inventory", "hosts.yaml", "--", *command)
    assert code == 0, text
    logs = [(latest(tmp_path) / "logs" / f"rank_{rank}.log").read_text().split() for rank in range(4)]
    assert logs == [["node3", "3"], ["node1", "1"], ["node2", "2"], ["node4", "4"]]


@pytest.mark.parametrize(
    "changed,words,code,lines",
    [
        (("node4", "nodeX"), (), 2,
         ["hosts.yaml: nodeX: none of this job's hosts (node1, node2, node3, node4)",
          "hosts.yaml: node4: not in it; it has node3, node1, node2, nodeX"]),
        (("device_id: 2", "device_id: 2}, {device_id: 3"), (), 78,
         ["numbers of devices differ: node3, node1, node4: 1; node2: 2 (expected as many"]),
        (("", ""), ("--", "no-such-program"), 127, ["every host: no-such-program: no such program on PATH"]),
        (("", ""), ("stdin_rank=0",), 2, ["stdin_rank: not possible on several hosts"]),
    ],
)  # fmt: skip
def test_what_no_hosts_can_run_is_refused_in_a_line(
    launcher: Launcher, tmp_path: Path, changed: tuple[str, str], words: tuple[str, ...], code: int,
    lines: list[str],
) -> None:  # fmt: skip
    (tmp_path / "hosts.yaml").write_text(INVENTORY.replace(*changed) if changed[0] else INVENTORY)
    command = () if "--" in words else ("--", "true")
    found, text = launcher.run("--inventory", "hosts.yaml", *words, *command)
    assert found == code, text
    assert len(text.splitlines()) == len(lines)
    assert all(line in told for line, told in zip(lines, text.splitlines()))
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())


def test_what_one_host_lacks_is_told_with_its_name(launcher: Launcher) -> None:
    with socket.socket() as held:
        held.bind(("", 0))
        held.listen(1)
        port = held.getsockname()[1]
        words = (f"env.NPU_LAUNCH_GRPC_PORT={port - 2}", "--", "sh", "-c", ":", "--collective=grpc")
        code, text = launcher.run("--devices", "0", *words)
    assert code == 78 and f"preflight: collective: node3: port {port} of the collective is in use" in text
