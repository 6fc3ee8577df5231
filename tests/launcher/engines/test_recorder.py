"""provenance.json, which is written while the run goes on, so that a killed launcher leaves it."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from launcher.engines import recorder
from launcher.plan.model import Plan, RankSpec
from launcher.process import procfs
from launcher.run_dir import RunDir
from launcher.runs.registry import provenance_of


def plan(folder: Path) -> Plan:
    data = folder / "data.json"
    data.write_text("12345")
    spec = RankSpec(0, "a", 0, 0, 0, (sys.executable, "a.py", str(data)), {"PWD": str(folder)}, "/")
    return Plan("job", "id", str(folder), "a", "cpu", "{}", (spec,))


def wait_for(run: RunDir) -> None:
    end = time.monotonic() + 60
    while not run.provenance.exists() and time.monotonic() < end:
        time.sleep(0.02)


def children() -> set[str]:
    """List this process's children; other tests may have left some."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def test_it_is_written_meanwhile_and_told_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "DELAY", 0.0)
    run = RunDir(tmp_path)
    with recorder.recording(plan(tmp_path), run, time.time()) as told:
        wait_for(run)
        (tmp_path / "data.json").write_text("changed")
        (file,) = told()["files"]
    assert file["bytes"] == 5 and provenance_of(run)["files"] == [file]
    assert run.provenance.stat().st_mode & 0o777 == 0o600


def test_a_run_that_ends_before_has_nothing_told(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.provenance.write_text('{"launcher": "of the launch before"}')
    with recorder.recording(plan(tmp_path), run, time.time()) as told:
        assert told() == {}
    assert not run.provenance.exists()


def test_what_a_rank_makes_of_the_file_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunDir(tmp_path)
    with recorder.recording(plan(tmp_path), run, time.time()) as told:
        run.provenance.write_text('{"launcher": "of a rank"}')
        assert told() == {}
    monkeypatch.setattr(recorder, "DELAY", 0.0)
    run.provenance.unlink()
    with recorder.recording(plan(tmp_path), run, time.time()) as told:
        wait_for(run)
        run.provenance.write_text("[]")
        assert told()["launcher"] != "of a rank"


def test_a_file_that_cannot_be_written_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that ended before the run would hide the ended descendants of ranks."""
    monkeypatch.setattr(recorder, "DELAY", 0.0)
    run = RunDir(tmp_path)
    (run.provenance / "of a rank").mkdir(parents=True)
    before = children()
    with recorder.recording(plan(tmp_path), run, time.time()) as told:
        (own,) = children() - before
        found, end = told(), time.monotonic() + 60
        while not found and time.monotonic() < end:
            time.sleep(0.02)
            found = told()
        time.sleep(0.3)
        status = Path(f"/proc/{own}/status").read_text()
        assert found["launcher"] and "State:\tZ" not in status


def test_a_killed_launcher_leaves_the_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "DELAY", 0.0)
    reading, writing = os.pipe()
    run = RunDir(tmp_path)
    child = os.fork()
    if child == 0:
        with recorder.recording(plan(tmp_path), run, time.time()):
            os.write(writing, b".")
            time.sleep(60)
        os._exit(0)
    os.read(reading, 1)
    os.close(reading)
    os.close(writing)
    wait_for(run)
    (own,) = Path(f"/proc/{child}/task/{child}/children").read_text().split()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert json.loads(run.provenance.read_text())["launcher"]
    end = time.monotonic() + 60
    while procfs.start_of(int(own)) and time.monotonic() < end:
        time.sleep(0.02)
    assert not procfs.start_of(int(own))


def test_the_result_of_a_run_wins(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.provenance.write_text('{"launcher": "1"}')
    results = {'{"provenance": {"launcher": "2"}}': "2", '{"provenance": [1]}': "1", "{": "1"}
    for result, told in results.items():
        run.result.write_text(result)
        assert provenance_of(run) == {"launcher": told}


def test_secrets_that_a_rank_wrote_there_are_not_shown(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.provenance.write_text('{"python": "--password=hunter2222", "files": [{"token": "hunter2222"}]}')
    assert "hunter2222" not in str(provenance_of(run))
