"""PyTorch ranks on two hosts: real mpirun and sshd, each host with its own network, name and /tmp."""

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

pytestmark = needs("torch")


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


def test_ranks_on_two_hosts_train_together(hosts: ssh_hosts.Hosts, folder: Path) -> None:
    """No host can look up a name: gloo has to be told its interface, and c10d not to wait for an answer."""
    command = [
        sys.executable, "-m", "launcher", "--hosts", "node2,node1", "--devices", "0-1", "engine=mpi",
        "backend=cpu", "run_as_root=true", f"interfaces=[{hosts.network}.0/24]",
        "--", str(PROGRAMS / "ddp.py"), "--steps", "4",
    ]  # fmt: skip
    env = {**hosts.environ, "PYTHONPATH": str(ROOT), "RES_OPTIONS": "timeout:1 attempts:1"}
    done = subprocess.run(
        command, cwd=str(folder), env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120
    )
    text = done.stdout.decode()
    assert done.returncode == 0, text
    [line] = [line for line in text.splitlines() if "losses " in line]
    assert len(line.split("losses ")[1].split()) == 4
    envs = [rank.env for rank in Plan.from_json((latest(folder) / "plan.json").read_text()).ranks]
    assert [env["GROUP_RANK"] + env["LOCAL_RANK"] for env in envs] == ["00", "01", "10", "11"]
    assert {env["GLOO_SOCKET_IFNAME"] for env in envs} == {"eth0"}
    [(address, port)] = {(env["MASTER_ADDR"], env["MASTER_PORT"]) for env in envs}
    assert address == hosts.address("node2") and int(port) > 0
