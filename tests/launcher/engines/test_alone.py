"""A job on one host gets what the site has given to it: a pod's NPUs, those of Slurm."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from launcher.config import job as configs
from launcher.engines import slurm
from launcher.engines.alone import fitted
from rank_table.sources.tools import Machine
from tests.pods import Pods, pods

__all__ = ["pods"]  # a fixture
POD = {"NPU_LAUNCH_HOST_COUNT": "1", "NPU_LAUNCH_JOB": "job-1f", "PATH": "/nowhere"}
NODE = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "node3"}


def settled(environ: dict[str, str], *words: str, root: Any = "/nowhere") -> Any:
    config, source = configs.load(None, words, {})
    return fitted(config, source, environ, Machine(environ, str(root)))


def test_a_pod_uses_the_npus_that_it_sees_and_goes_on_in_its_folder(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    for number in range(4, 8):
        (tmp_path / f"dev/davinci{number}").touch()
    config = settled(POD, "devices=0-3", root=tmp_path)
    assert (config.devices, config.run_id) == ("4-7", "job-1f")
    assert settled(POD, "devices=0-3", "backend=cpu", root=tmp_path).devices == "0-3"
    assert settled(POD, "devices=0-3", "rank_table_file=t.json", root=tmp_path).devices == "0-3"
    assert settled({**POD, "NPU_LAUNCH_RUN_DIR": "/runs/a"}, "devices=0").run_id == ""  # in a rank


def test_the_clusters_own_table_may_name_other_npus_than_their_number(tmp_path: Path) -> None:
    from launcher.plan.planner import plan_job

    table = tmp_path / "hccl.json"
    devices = [{"device_id": str(4 + n), "device_ip": f"10.1.0.{n}", "rank_id": str(n)} for n in (0, 1)]
    servers = [{"server_id": "127.0.0.1", "device": devices}]
    whole = {"status": "completed", "version": "1.0", "server_count": "1", "server_list": servers}
    table.write_text(json.dumps(whole))
    config, source = configs.load(None, [f"rank_table_file={table}", "devices=0-1", "backend=cpu"], {})
    config = fitted(config, source, POD)
    plan = plan_job(config, source, ("true",)).plan
    assert [rank.device_id for rank in plan.ranks] == [4, 5]


@pytest.mark.parametrize(
    "more, words, devices",
    [
        ({}, (), "2-5"),
        ({"SLURMD_NODENAME": "node3", "SLURM_JOB_NODELIST": "node[3-4]"}, (), "2-5"),
        ({"SLURM_JOB_NODELIST": "node[3-4]"}, (), "0"),  # engine: local, where no variable says which it is
        ({"SLURM_STEP_NPUS": "6,7"}, (), "6,7"),
        ({}, ("devices=1",), "1"),
        ({}, ("rank_table_file=t.json",), "0"),
        ({"SLURM_JOB_ID": ""}, (), "0"),
        ({"NPU_LAUNCH_RUN_DIR": "/runs/a"}, (), "0"),
    ],
)
def test_one_node_of_slurm_gives_its_npus(
    monkeypatch: pytest.MonkeyPatch, more: dict[str, str], words: tuple[str, ...], devices: str
) -> None:
    answer = "     Nodes=node3 CPU_IDs=0 Mem=0 GRES=npu:4(IDX:2-5)\n"
    monkeypatch.setattr(slurm, "_answer", lambda command: answer)
    assert settled({**NODE, **more}, *words).devices == devices


def test_one_pod_is_one_host_and_goes_on_when_it_is_created_again(pods: Pods) -> None:
    pods.count = 1
    pods.start("devices=0-1", "--", "sh", "-c", "echo rank $RANK_ID of $RANK_SIZE; exit 7")
    assert pods.codes() == [7]
    pods.start("devices=0-1", "--", "sh", "-c", "echo rank $RANK_ID of $RANK_SIZE", NPU_LAUNCH_LIFE="other")
    assert pods.codes() == [0], pods.said()
    assert (pods.run / "logs" / "rank_1.log").read_text() == "rank 1 of 2\n" * 2


def test_one_pod_ends_at_once_while_it_waits_for_its_table(pods: Pods, tmp_path: Path) -> None:
    unshare = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
    if subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("no process namespaces here (unshare --pid needs root)")
    pods.count = 1
    pods.start(f"rank_table_file={tmp_path}/hccl.json", "--", "true", before=unshare)
    pods.wait_said("waiting up to")
    first = subprocess.run(["pgrep", "-P", str(pods.processes[0].pid)], capture_output=True, text=True).stdout
    subprocess.run(["kill", f"-{signal.SIGTERM.value}", *first.split()], check=True)
    assert pods.codes() == [143], pods.said()
