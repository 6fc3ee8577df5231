"""Pods, played by plain processes that meet in one folder, as they do in the volume of the run folders."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Iterator, Sequence

import pytest

pytestmark = pytest.mark.engines
ROOT = Path(__file__).resolve().parents[2]
UP = "touch $NPU_LAUNCH_RANK_DIR/up"
PATIENCE = 60.0  # seconds in which everything here has ended


class Pods:
    """The pods of one job; the first `came` of them have come up."""

    def __init__(self, folder: Path, count: int = 3) -> None:
        self.folder, self.count = folder, count
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, *words: str, only: Any = None, before: Sequence[str] = (), **env: str) -> Pods:
        """Start pods with the same words. `{}` in a variable is the pod's index."""
        for index in range(self.count) if only is None else only:
            place = self.folder / env.get("PLACE", "").format(index)
            place.mkdir(exist_ok=True)
            environ = {
                **os.environ, "PYTHONPATH": str(ROOT), "NPU_LAUNCH_HOST_COUNT": str(self.count),
                "NPU_LAUNCH_JOB": "job-1f", "JOB_COMPLETION_INDEX": str(index),
                "NPU_LAUNCH_POD": f"job-1f-{index}-x2x4z", "NPU_LAUNCH_LIFE": "uid",
                **{name: value.format(index) for name, value in env.items()},
            }  # fmt: skip
            argv = [*before, sys.executable, "-m", "launcher", "backend=cpu", *words]
            with open(self.folder / f"out.{index}", "w") as out:
                self.processes[index] = subprocess.Popen(
                    argv, cwd=str(place), env=environ, stdin=subprocess.DEVNULL, stdout=out, stderr=out
                )
        return self

    def codes(self) -> list[int]:
        """Wait for the end of all; give their exit codes."""
        end = time.monotonic() + PATIENCE
        return [child.wait(max(0.1, end - time.monotonic())) for _, child in sorted(self.processes.items())]

    def said(self, index: int = 0) -> str:
        return (self.folder / f"out.{index}").read_text()

    @property
    def run(self) -> Path:
        return self.folder / "runs" / "job-1f"

    def wait_for(self, path: str) -> None:
        """Wait until a file of the run is there."""
        end = time.monotonic() + 30
        while not (self.run / path).exists():
            assert time.monotonic() < end, self.said()
            time.sleep(0.02)


@pytest.fixture
def pods(tmp_path: Path) -> Iterator[Pods]:
    """Give pods; afterwards none of their processes is left."""
    found = Pods(tmp_path)
    yield found
    for child in found.processes.values():
        child.kill()
        child.wait()
    end = time.monotonic() + 15
    while time.monotonic() < end and left(tmp_path):
        time.sleep(0.1)
    assert left(tmp_path) == []


def left(folder: Path) -> list[str]:
    """List the processes that were started in a folder."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            where = os.readlink(f"/proc/{pid}/cwd")
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if where.startswith(str(folder)) and words:
            found.append(f"{pid} {words!r}")
    return found


def result(pods: Pods) -> Any:
    return json.loads((pods.run / "result.json").read_text())


def test_pods_run_one_job(pods: Pods) -> None:
    pods.start("devices=0-1", "--", "sh", "-c", "echo rank $RANK_ID of $RANK_SIZE")
    assert pods.codes() == [0, 0, 0], pods.said()
    for rank in range(6):
        assert (pods.run / "logs" / f"rank_{rank}.log").read_text() == f"rank {rank} of 6\n"
        assert f"rank {rank} of 6" in pods.said()
    hosts = json.loads((pods.run / "hosts.json").read_text())
    assert [host["name"] for host in hosts] == ["job-1f-0", "job-1f-1", "job-1f-2"]
    assert [path.name for path in (pods.folder / "runs").iterdir() if "meeting" in path.name] == []


def test_every_pod_ends_with_the_code_of_the_rank_that_failed_first(pods: Pods) -> None:
    pods.start("--", "sh", "-c", "[ $RANK_ID = 1 ] && exit 7; sleep 30")
    assert pods.codes() == [7, 7, 7]
    assert "rank 1" in pods.said() and "exit code 7" in pods.said() and result(pods)["culprit"] == 1


def test_a_restart_starts_agents_again_in_the_same_pods(pods: Pods) -> None:
    program = "echo try $NPU_LAUNCH_ATTEMPT; exit $((1 - NPU_LAUNCH_ATTEMPT))"
    pods.start("max_restarts=1", "--", "sh", "-c", program)
    assert pods.codes() == [0, 0, 0], pods.said()
    assert (pods.run / "logs" / "rank_2.log").read_text() == "try 0\ntry 1\n"


def test_a_pod_that_never_comes_is_named(pods: Pods) -> None:
    pods.start("host_timeout=3", "--", "true", only=(0, 1))
    assert pods.codes() == [78, 78]
    assert "job-1f-2: no agent has come within 3 s" in pods.said()


def test_hosts_that_do_not_see_one_folder_say_so(pods: Pods) -> None:
    pods.start("host_timeout=3", "--", "true", PLACE="host{}")
    assert pods.codes() == [78, 78, 78]
    assert "job-1f-1, job-1f-2: no agent has come" in pods.said()
    assert "see different folders" in pods.said(1)


def test_what_is_wrong_with_the_job_ends_all_pods_with_its_code(pods: Pods) -> None:
    pods.start("rank_table_file=none/hccl.json", "--", "true")
    assert set(pods.codes()) == {2}


def test_a_signal_to_the_head_ends_all_hosts_with_grace(pods: Pods) -> None:
    pods.start("--", "sh", "-c", f"trap 'echo saved; exit 0' TERM; {UP}; sleep 60 & wait")
    pods.wait_for("ranks/2/up")
    pods.processes[0].send_signal(signal.SIGTERM)
    assert pods.codes() == [143, 143, 143]
    assert "saved" in (pods.run / "logs" / "rank_2.log").read_text()


def test_a_signal_to_another_pod_ends_all_hosts_too(pods: Pods) -> None:
    pods.start("--", "sh", "-c", f"trap 'echo saved; exit 0' TERM; {UP}; sleep 60 & wait")
    pods.wait_for("ranks/2/up")
    pods.processes[1].send_signal(signal.SIGTERM)
    assert pods.codes() == [143, 143, 143], pods.said()
    assert "SIGTERM on host job-1f-1" in pods.said()


def test_a_head_that_was_killed_leaves_no_process_on_any_host(pods: Pods) -> None:
    pods.start("lease=2", "--", "sh", "-c", f"{UP}; exec sleep 60")
    pods.wait_for("ranks/2/up")
    pods.processes[0].kill()
    codes = pods.codes()
    assert codes[0] == -9 and codes[1:] == [69, 69], pods.said(1)
    assert "host 0 is silent" in pods.said(1)


def test_a_pod_that_was_killed_is_a_lost_host(pods: Pods) -> None:
    pods.start("lease=2", "--", "sh", "-c", f"{UP}; exec sleep 60")
    pods.wait_for("ranks/2/up")
    pods.processes[2].kill()
    codes = pods.codes()
    assert codes[0] == codes[1] != 0
    assert "host job-1f-2 lost" in pods.said()


TABLE = {
    "status": "completed", "version": "1.0", "server_count": "3", "server_list": [
        {"server_id": f"10.0.0.{9 - index}", "device": [
            {"device_id": "0", "device_ip": f"192.168.1.{index + 1}", "rank_id": str(index)}
        ]} for index in range(3)
    ],
}  # fmt: skip


def test_pods_wait_for_the_table_of_the_cluster_and_keep_its_order(pods: Pods) -> None:
    table = pods.folder / "hccl.json"
    table.write_text('{"status":"initializing"}')
    words = (f"rank_table_file={table}", "--", "sh", "-c", "echo $RANK_ID on $XDL_IP")
    pods.start(*words, XDL_IP="10.0.0.7", only=(0,))
    pods.start(*words, XDL_IP="10.0.0.9", only=(1,))
    pods.start(*words, XDL_IP="10.0.0.8", only=(2,))
    time.sleep(1.5)
    table.write_text(json.dumps(TABLE)[:60])  # the operator truncates and writes in place
    time.sleep(1.2)
    assert not (pods.run / "logs").exists()
    table.write_text(json.dumps(TABLE))
    assert pods.codes() == [0, 0, 0], pods.said()
    logs = [(pods.run / "logs" / f"rank_{rank}.log").read_text() for rank in range(3)]
    assert logs == ["0 on 10.0.0.9\n", "1 on 10.0.0.8\n", "2 on 10.0.0.7\n"]


def test_pods_of_process_namespaces_of_their_own_end_as_containers_do(pods: Pods) -> None:
    space = ("unshare", "--pid", "--fork", "--mount-proc", "--uts", "--kill-child")
    if subprocess.run([*space, "true"], capture_output=True).returncode:
        pytest.skip("no process namespaces here (unshare --pid needs root)")
    pods.start("--", "sh", "-c", f"{UP}; (sleep 300 &); exec sleep 300", before=space)
    pods.wait_for("ranks/2/up")
    inside = subprocess.run(
        ["pgrep", "-P", str(pods.processes[1].pid)], capture_output=True, text=True
    ).stdout.split()
    os.kill(int(inside[0]), signal.SIGTERM)  # as the kubelet does to process 1
    assert pods.codes() == [143, 143, 143], pods.said()
    assert "SIGTERM on host job-1f-1" in pods.said()


def test_the_plan_of_all_pods_is_printed_by_the_head(pods: Pods) -> None:
    pods.start("devices=0-1", "--dry-run", "--json", "--", "true")
    assert pods.codes() == [0, 0, 0], pods.said()
    assert len(json.loads(pods.said())["ranks"]) == 6 and pods.said(1) == ""
    assert not pods.run.exists()


def test_pods_that_are_deleted_together_end_with_grace(pods: Pods) -> None:
    pods.start("--", "sh", "-c", f"trap 'echo saved; exit 0' TERM; {UP}; sleep 60 & wait")
    pods.wait_for("ranks/2/up")
    for child in pods.processes.values():
        child.send_signal(signal.SIGTERM)
    assert pods.codes() == [143, 143, 143], pods.said()
    for rank in range(3):
        assert (pods.run / "hosts" / f"job-1f-{rank}" / "logs" / f"rank_{rank}.log").read_text() == "saved\n"


def test_what_the_operator_sets_for_jobs_without_a_table_reaches_no_rank(pods: Pods) -> None:
    program = "env | grep -c -e ^CM_ -e ^NPU_LAUNCH_HOST_COUNT -e ^JOB_COMPLETION_INDEX; true"
    pods.start("--", "sh", "-c", program, CM_CHIEF_IP="10.0.0.{}", CM_RANK="{}", CM_WORKER_SIZE="3")
    assert pods.codes() == [0, 0, 0], pods.said()
    assert [(pods.run / "logs" / f"rank_{rank}.log").read_text() for rank in range(3)] == ["0\n"] * 3
