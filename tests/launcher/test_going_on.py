"""run_id: a run that has ended goes on in its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import UsageError
from launcher.run_dir import RunDir
from launcher.runs import folder, registry, slurm_jobs, submitted
from tests.launching import launch

SAY = 'echo "$NPU_LAUNCH_ATTEMPT"; echo x >>kept; exit '


def run(cwd: Path, code: int) -> Any:
    words = ("run_id=again", "--", "sh", "-c", f"cd $NPU_LAUNCH_RANK_DIR; {SAY}{code}")
    return launch(cwd, "--devices", "0-1", "--backend", "cpu", *words)


def test_a_run_goes_on_in_its_folder(tmp_path: Path) -> None:
    assert run(tmp_path, 7).returncode == 7
    done = run(tmp_path, 0)
    assert done.returncode == 0, done.stderr
    [path] = [path for path in (tmp_path / "runs").iterdir() if not path.is_symlink()]
    assert path.name == "again"
    assert (path / "logs" / "rank_1.log").read_text() == "0\n1\n"
    assert (path / "ranks" / "1" / "kept").read_text() == "x\nx\n"
    assert json.loads((path / "result.json").read_text())["exit_code"] == 0
    assert "run_id" not in (path / "train.yaml").read_text()
    assert registry.status(RunDir(path)).state == "finished"


def test_a_run_that_may_be_running_elsewhere_is_left_alone(tmp_path: Path) -> None:
    made = RunDir.create(tmp_path / "r", [0])
    made.write_json(made.path / "launcher.json", {"pid": 1, "start": 1, "host": "elsewhere"})
    with pytest.raises(UsageError, match="may still run on host elsewhere"):
        folder.reopened(made.path, [0])
    submitted.write(made, "slurm", "17", "log")  # its queue starts it once at a time
    assert folder.reopened(made.path, [0]).earlier == 0


@pytest.mark.parametrize("name", ["../x", "a/b", ".x", "x.json.d", "a" * 141])
def test_a_run_id_is_the_name_of_a_folder(tmp_path: Path, name: str) -> None:
    done = launch(tmp_path, "--backend", "cpu", f"run_id={name}", "--", "true")
    assert done.returncode == 2 and "run_id: " in done.stderr


@pytest.mark.parametrize(
    ("answer", "result", "state"),
    [
        ("PENDING (Resources)", None, "queued"),
        ("RUNNING", None, "running"),
        ("CANCELLED", None, "cancelled"),
        ("", None, "lost"),
        ("PENDING (BeginTime)", 75, "queued"),
        ("COMPLETED", 75, "failed"),
        ("", 0, "finished"),
    ],
)
def test_the_state_of_a_run_is_its_queues_until_it_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, result: int | None, state: str
) -> None:
    made = RunDir(tmp_path / "r")
    made.path.mkdir()
    submitted.write(made, "slurm", "17", "log")
    if result is not None:
        made.write_json(made.result, {"exit_code": result, "run_id": "r"})
    monkeypatch.setattr(slurm_jobs, "state", lambda job_id: answer)
    assert registry.is_run(made.path)
    found = registry.status(made)
    assert found.state == state
    assert found.exit_code == (None if state == "queued" else result)


@pytest.mark.parametrize("job_id", ["", "1; rm", "--all"])
def test_a_damaged_record_of_a_job_is_not_passed_on(tmp_path: Path, job_id: str) -> None:
    made = RunDir(tmp_path)
    submitted.write(made, "slurm", job_id, "log")
    assert "submit.json" in registry.status(made).problems[0]


def test_ranks_that_save_as_their_time_is_over_wait_for_each_other(tmp_path: Path) -> None:
    (tmp_path / "p.py").write_text(
        "import os, sys, time\n"
        "if os.environ['RANK_ID'] == '0': time.sleep(0.5); print('saved', flush=True)\n"
        "sys.exit(75)\n"
    )
    done = launch(tmp_path, "program=p.py", "--devices", "0-1", "--backend", "cpu", "--max-restarts", "2")
    assert done.returncode == 75 and "saved" in done.stdout
    assert "it has saved" in done.stdout and "Traceback" not in done.stdout and "restart 1" not in done.stdout
