"""Pods, played by plain processes: one job, whatever happens to it, and what they print."""

from __future__ import annotations

import json
import signal

from tests.pods import UP, Pods, pods, result

__all__ = ["pods"]  # a fixture


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


def test_a_signal_to_another_pod_ends_all_hosts_too(pods: Pods) -> None:
    pods.start("--", "sh", "-c", f"trap 'echo saved; exit 0' TERM; {UP}; sleep 60 & wait")
    pods.wait_for("ranks/2/up")
    pods.processes[1].send_signal(signal.SIGTERM)
    assert pods.codes() == [143, 143, 143], pods.said()
    assert "SIGTERM on host job-1f-1" in pods.said()
