"""Pods, played by plain processes: what kills them, what they wait for, and namespaces of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import pytest

from tests.pods import UP, Pods, pods

__all__ = ["pods"]  # a fixture
pytestmark = pytest.mark.engines


def test_a_restart_starts_agents_again_in_the_same_pods(pods: Pods) -> None:
    program = "echo try $NPU_LAUNCH_ATTEMPT; exit $((1 - NPU_LAUNCH_ATTEMPT))"
    pods.start("max_restarts=1", "--", "sh", "-c", program)
    assert pods.codes() == [0, 0, 0], pods.said()
    assert (pods.run / "logs" / "rank_2.log").read_text() == "try 0\ntry 1\n"


def test_hosts_that_do_not_see_one_folder_say_so(pods: Pods) -> None:
    pods.start("host_timeout=3", "--", "true", PLACE="host{}")
    assert pods.codes() == [78, 78, 78]
    assert "job-1f-1, job-1f-2: no agent has come" in pods.said()
    assert "see different folders" in pods.said(1)


def test_a_pod_that_never_comes_is_named(pods: Pods) -> None:
    pods.start("host_timeout=3", "--", "true", only=(0, 1))
    assert pods.codes() == [78, 78]
    assert "job-1f-2: no agent has come within 3 s" in pods.said()


def test_what_is_wrong_with_the_job_ends_all_pods_with_its_code(pods: Pods) -> None:
    pods.start("rank_table_file=none/hccl.json", "--", "true")
    assert set(pods.codes()) == {2}


def test_a_signal_to_the_head_ends_all_hosts_with_grace(pods: Pods) -> None:
    pods.start("--", "sh", "-c", f"trap 'echo saved; exit 0' TERM; {UP}; sleep 60 & wait")
    pods.wait_for("ranks/2/up")
    pods.processes[0].send_signal(signal.SIGTERM)
    assert pods.codes() == [143, 143, 143]
    assert "saved" in (pods.run / "logs" / "rank_2.log").read_text()


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
