"""The probe says whether a host sees the head's disk, at once where it cannot, and leaves nothing behind."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from launcher.errors import ReadError, UsageError
from launcher.hosts import probe
from launcher.hosts.probe import Probe, answer, sees


def test_a_host_that_shares_the_folder_sees_the_token_and_nothing_stays(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    with Probe(runs) as found:
        assert sees(found.body())
        assert not sees({**found.body(), "token": "another"})
    assert not sees(found.body())
    assert os.listdir(str(runs)) == []


def test_a_file_that_appears_late_is_seen_on_a_disk_of_several_hosts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "_kind", lambda folder: "nfs4")
    body = {"path": str(tmp_path / "runs" / "token"), "token": "x"}

    def appear() -> None:
        (tmp_path / "runs").mkdir()
        (tmp_path / "runs" / "token").write_text("x")

    timer = threading.Timer(0.15, appear)
    timer.start()
    assert sees(body, patience=10)
    timer.join()


def test_a_disk_of_one_host_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_kind", lambda folder: "ext4" if folder == str(tmp_path) else "nfs")
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("waited"))
    assert not sees({"path": str(tmp_path / "runs" / "a" / "token"), "token": "x"}, patience=10)


def test_the_kind_of_a_disk_is_that_of_the_last_mount_above_it() -> None:
    assert probe._kind("/proc/self/fd") == "proc"
    assert probe._kind("/proc2") != "proc"


def test_what_a_link_leads_to_is_no_token(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("x")
    (tmp_path / "token").symlink_to(tmp_path / "real")
    assert not sees({"path": str(tmp_path / "token"), "token": "x"}, patience=0)


def test_a_token_that_a_killed_head_left_is_removed_later(tmp_path: Path) -> None:
    old, new = tmp_path / ".npu-launch-probe-1", tmp_path / ".npu-launch-probe-2"
    for path in (old, new):
        path.touch()
    os.utime(str(old), (0, 0))
    with Probe(tmp_path):
        pass
    assert os.listdir(str(tmp_path)) == [new.name]


def test_a_folder_that_cannot_be_written_to_and_a_strange_message_are_refused(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    with pytest.raises(UsageError, match="runs_dir"), Probe(tmp_path / "runs"):
        pass
    with pytest.raises(ReadError, match="probe"):
        sees(["no", "object"])


def test_the_plan_says_which_hosts_share_the_disk() -> None:
    assert answer("/runs", {"a": True, "b": True}) == "disk: /runs is shared by all 2 hosts"
    some = answer("/runs", {"a": True, "b": False})
    assert "not every host shares /runs: b has a run folder of its own" in some
    none = answer("/runs", {f"n{number}": False for number in range(20)})
    assert "no host shares /runs: n0, n1, " in none and " and 4 more have run folders" in none
