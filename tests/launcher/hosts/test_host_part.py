"""One host's part of a run, on a host that shares no disk with the head: ps, logs and stop know it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Iterator

import pytest

from launcher.errors import UsageError
from launcher.logs.view import Query, find_sources, show
from launcher.run_dir import HostRunDir, RunDir, opened
from launcher.runs import launcher_record, registry
from launcher.runs.stop import stop
from tests.launcher.log_makers import BEGIN, LogWriter
from tests.launching import ROOT

AGENT = """
import os, sys, time
from pathlib import Path
from launcher.run_dir import HostRunDir
from launcher.runs.launcher_record import recorded
with recorded(HostRunDir(Path(sys.argv[1]), "node2"), head="node1"):
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def part(tmp_path: Path) -> HostRunDir:
    run = HostRunDir.make(tmp_path / "runs" / "job-1", "node2", [8, 9])
    ranks = [{"rank": rank, "device_id": rank - 8} for rank in (8, 9)]
    run.write_json(run.plan, {"run_id": "job-1", "run_dir": str(run.path), "ranks": ranks})
    return run


@pytest.fixture
def agent(part: HostRunDir) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that runs the part as an agent does."""
    command = [sys.executable, "-c", AGENT, str(part.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=str(ROOT)) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        yield process
        process.kill()


def test_all_folders_of_a_part_are_the_users_alone_and_may_be_there_already(part: HostRunDir) -> None:
    again = HostRunDir.make(part.path, "node2", [8, 9])
    assert again.in_place()
    folders = [path for path in (part.path, *part.path.rglob("*")) if path.is_dir()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folders} == {0o700}


def test_a_part_is_known_by_what_it_lacks(part: HostRunDir) -> None:
    found = opened(part.path)
    assert isinstance(found, HostRunDir) and found.record == part.record
    (part.path / "plan.json").touch()  # of the whole run
    assert type(opened(part.path)) is RunDir


def test_ps_shows_the_ranks_of_this_host_and_that_its_agent_has_ended(part: HostRunDir) -> None:
    runs_dir = str(part.path.parent)
    assert [run.path for run in registry.all_runs(runs_dir)] == [part.path]
    found = registry.status(registry.resolve("job", runs_dir))
    assert (found.state, dict(found.devices), found.problems) == ("ended", {8: 0, 9: 1}, ())


def test_stop_ends_the_part_and_tells_where_the_head_is(
    part: HostRunDir, agent: subprocess.Popen[bytes]
) -> None:
    run = registry.resolve(str(part.path))
    found = registry.status(run)
    assert found.state == "running" and found.launcher and found.launcher.pid == agent.pid
    assert stop(run, timeout=20) == "job-1: stopped on this host; its head is on host node1"
    assert agent.wait(20) == -15
    assert stop(run) == "job-1: no process of it is running on this host; its head is on host node1"


def test_stop_on_another_host_that_shares_the_disk_tells_where_the_head_is(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "job-1", [0])
    document = {"pid": 1, "start": 1, "host": "node1", "time": 0}
    run.record.write_text(json.dumps(document))
    with pytest.raises(UsageError, match="job-1 is running on host node1; stop it there"):
        stop(run)


def test_a_record_of_an_earlier_release_says_nothing_of_a_head(part: HostRunDir) -> None:
    part.record.write_text(json.dumps({"pid": 1 << 22, "start": 1, "host": os.uname().nodename}))
    assert launcher_record.find(part) == launcher_record.Launcher()


def test_logs_are_those_of_the_host(part: HostRunDir) -> None:
    part.logs.mkdir(exist_ok=True)
    for rank in (8, 9):
        writer = LogWriter(str(part.log(rank)), str(part.index(rank)))
        writer.append("o", memoryview(b"rank %d\n" % rank), BEGIN + rank)
        writer.close()
    sources = find_sources([str(part.path)], "runs")
    records = [record for batch in show(sources, Query(), False) for record in batch]
    assert [b"rank 8" in str(record).encode() for record in records] == [True, False]
    assert sources[0].labels(Query()) == ["8", "9"]


@pytest.mark.parametrize("name", ["node-1.site", "../../etc", "a/b", "..", ".", "", "a\nb", "ö", "_x"])
def test_the_folder_of_a_host_is_in_the_run_folder_whatever_its_name(tmp_path: Path, name: str) -> None:
    run = HostRunDir.make(tmp_path / "job-1", name, [8])
    assert run.own.resolve().parent == (tmp_path / "job-1" / "hosts").resolve()
    assert HostRunDir(run.path, run.own.name).own == run.own
