"""Ranks of each framework on two hosts: real mpirun and sshd, each with its own network, name and /tmp."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Iterator

import pytest

from launcher.plan.model import Plan
from tests.engines import ssh_hosts
from tests.frameworks.needs import PROGRAMS, needs
from tests.launching import ROOT, latest

pytestmark = pytest.mark.frameworks
MINDSPORE = """
import mindspore as ms
from mindspore import Tensor, ops
from mindspore.communication import get_group_size, get_rank, init
ms.set_context(mode=ms.PYNATIVE_MODE, device_target="CPU")
init()
total = ops.AllReduce()(Tensor([get_rank() + 1.0], ms.float32))
print("total", float(total.asnumpy()[0]), "of", get_group_size(), flush=True)
"""
PADDLE = """
import paddle
import paddle.distributed as dist
dist.init_parallel_env()
total = paddle.full([1], dist.get_rank() + 1.0)
dist.all_reduce(total)
print("total", total.item(), "of", dist.get_world_size(), flush=True)
"""


@pytest.fixture()
def folder() -> Iterator[Path]:
    """Give a folder outside /tmp, which each host has for itself."""
    made = Path(tempfile.mkdtemp(prefix="npl", dir="/var/tmp"))
    yield made
    shutil.rmtree(str(made), ignore_errors=True)


@pytest.fixture()
def hosts(folder: Path) -> Iterator[ssh_hosts.Hosts]:
    missing = ssh_hosts.missing()
    if missing:
        pytest.skip(missing)
    (folder / "net").mkdir()
    made = ssh_hosts.Hosts(folder / "net", count=2, second=True)
    try:
        made.up()
        yield made
    finally:
        made.down()


def launch_on(hosts: ssh_hosts.Hosts, folder: Path, *words: str) -> str:
    """Run npu-launch on both hosts; give what it prints."""
    command = [
        sys.executable, "-m", "launcher", "--hosts", "node2,node1", "--devices", "0-1", "engine=mpi",
        "backend=cpu", "run_as_root=true", f"interfaces=[{hosts.network}.0/24]", "grace=3", "--", *words,
    ]  # fmt: skip
    env = {**hosts.environ, "PYTHONPATH": str(ROOT), "RES_OPTIONS": "timeout:1 attempts:1"}
    done = subprocess.run(
        command, cwd=str(folder), env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120
    )
    text = done.stdout.decode()
    assert done.returncode == 0, text
    return text


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(MINDSPORE, marks=needs("mindspore"), id="mindspore"),
        pytest.param(PADDLE, marks=needs("paddle"), id="paddle"),
    ],
)
def test_ranks_on_two_hosts_meet(hosts: ssh_hosts.Hosts, folder: Path, program: str) -> None:
    (folder / "meet.py").write_text(program)
    text = launch_on(hosts, folder, "meet.py")
    logs = [latest(folder) / "logs" / f"rank_{rank}.log" for rank in range(4)]
    assert ["total 10.0 of 4" in log.read_text() for log in logs] == [True] * 4, text


@pytest.mark.parametrize("steps", [pytest.param("4", marks=needs("torch"))])
def test_ranks_on_two_hosts_train_together(hosts: ssh_hosts.Hosts, folder: Path, steps: str) -> None:
    """No host can look up a name: gloo has to be told its interface, and c10d not to wait for an answer."""
    text = launch_on(hosts, folder, str(PROGRAMS / "ddp.py"), "--steps", steps)
    [line] = [line for line in text.splitlines() if "losses " in line]
    assert len(line.split("losses ")[1].split()) == 4
    envs = [rank.env for rank in Plan.from_json((latest(folder) / "plan.json").read_text()).ranks]
    assert [env["GROUP_RANK"] + env["LOCAL_RANK"] for env in envs] == ["00", "01", "10", "11"]
    assert {env["GLOO_SOCKET_IFNAME"] for env in envs} == {"eth0"}
    [(address, port)] = {(env["MASTER_ADDR"], env["MASTER_PORT"]) for env in envs}
    assert address == hosts.address("node2") and int(port) > 0
