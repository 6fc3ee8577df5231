"""What a run was made of: the commit when it began, changed files, the files that its command names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from launcher.checks import provenance
from launcher.plan.model import Plan, RankSpec


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main")
    done = subprocess.run(["git", *who, *words], cwd=str(folder), stdout=subprocess.PIPE, check=True)
    return done.stdout.decode().strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "train.py").write_text("pass\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    return tmp_path


def of(folder: Path, *argv: str, started: float = 4e9) -> dict[str, object]:
    spec = RankSpec(0, "a", 0, 0, 0, ("/opt/python", *argv), {"PWD": str(folder)}, "/")
    return provenance.take(Plan("job", "id", "/r", "a", "cpu", "{}", (spec,)), started)


def test_the_commit_is_that_of_the_start_though_another_is_there_at_the_end(repository: Path) -> None:
    first = git(repository, "rev-parse", "HEAD")
    log = repository / ".git" / "logs" / "HEAD"
    (repository / "train.py").write_text("1\n")
    git(repository, "commit", "-qam", "two")
    lines = log.read_text().splitlines()
    moment = int(lines[1].partition("\t")[0].split()[-2])
    lines[1] = lines[1].replace(f" {moment} ", f" {moment + 100} ")
    log.write_text("\n".join(lines) + "\n")
    (repository / "work").mkdir()
    assert of(repository / "work", started=moment + 50.0)["commit"] == first
    assert of(repository / "work", started=moment + 200.0)["commit"] == git(repository, "rev-parse", "HEAD")


def test_changed_files_are_counted(repository: Path) -> None:
    assert of(repository)["changed"] == "no changes"
    (repository / "train.py").write_text("2\n")
    assert of(repository)["changed"] == "1 changed file"


def test_files_of_the_command_are_told_by_size(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text("12345")
    words = (f"--train_file={tmp_path}/data.json", "--steps=5", str(tmp_path), "--x=/not/there")
    found = of(tmp_path, *words)["files"]
    assert isinstance(found, list)
    assert [(item["option"], item["bytes"]) for item in found] == [("train_file", 5), ("", 5)]


def test_outside_of_a_repository_no_commit_is_told(tmp_path: Path) -> None:
    found = of(tmp_path)
    assert "commit" not in found and "tensorflow" not in found and found["launcher"]


@pytest.mark.parametrize("log", [b"", b"\xff\x00\n\n", b"a b c\n", b"0 1 <> x +0000\n"])
def test_a_damaged_log_of_git_is_not_believed(repository: Path, log: bytes) -> None:
    (repository / ".git" / "logs" / "HEAD").write_bytes(log)
    assert "commit" not in of(repository)


def test_the_framework_of_the_ranks_python_is_told(tmp_path: Path) -> None:
    for name in ("torch-2.7.1+cpu", "torch_npu-2.7.1.post2", "mindspore-2.7.2"):
        (tmp_path / f"{name}.dist-info").mkdir()
    env = {"NPU_LAUNCH_FRAMEWORK": "torch", "PYTHONPATH": str(tmp_path), "PWD": str(tmp_path)}
    told = "torch 2.7.1+cpu, torch_npu 2.7.1.post2"
    for argv, expected in (((sys.executable, "a.py"), told), (("/bin/sh",), None)):
        spec = RankSpec(0, "a", 0, 0, 0, argv, env, "/")
        found = provenance.take(Plan("job", "id", "/r", "a", "cpu", "{}", (spec,)), 4e9)
        assert found.get("framework") == expected


def test_a_program_that_runs_as_a_module_is_hashed(tmp_path: Path) -> None:
    (tmp_path / "pkg" / "job").mkdir(parents=True)
    (tmp_path / "pkg" / "job" / "__main__.py").write_text("pass\n")
    for key in ("NPU_LAUNCH_CWD", "PYTHONPATH"):
        spec = RankSpec(0, "a", 0, 0, 0, (sys.executable, "-m", "pkg.job"), {key: str(tmp_path)}, "/")
        (file,) = provenance.take(Plan("job", "id", "/r", "a", "cpu", "{}", (spec,)), 4e9)["files"]
        assert (file["option"], file["bytes"], len(file["sha256"])) == ("-m pkg.job", 5, 64)


def test_the_shipped_trainer_is_hashed_also_where_no_path_leads_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])  # as of an editable installation
    spec = RankSpec(0, "a", 0, 0, 0, (sys.executable, "-m", "squad.run_squad"), {}, "/")
    (file,) = provenance.take(Plan("job", "id", "/r", "a", "cpu", "{}", (spec,)), 4e9)["files"]
    assert file["option"] == "-m squad.run_squad" and len(file["sha256"]) == 64


def test_another_python_is_asked_for_its_version_and_packages(tmp_path: Path) -> None:
    (tmp_path / "numpy-1.2.3.dist-info").mkdir()
    python = tmp_path / "python3"
    python.write_text(f'#!/bin/sh\necho \'[[3, 7, 5], ["", "{tmp_path}"]]\'\n')
    python.chmod(0o700)
    spec = RankSpec(0, "a", 0, 0, 0, (str(python), "a.py"), {}, "/")
    found = provenance.take(Plan("job", "id", "/r", "a", "cpu", "{}", (spec,)), 4e9)
    assert (found["python"], found["numpy"], found.get("tensorflow")) == ("3.7.5", "1.2.3", None)
