"""Hosts that share no disk, each with a run folder of its own: real agents in namespaces, over pipes."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launcher.process.sweep import members
from tests.launching import ROOT

TRAINING = """
import json, os, sys
rank, attempt = int(os.environ["RANK_ID"]), int(os.environ["NPU_LAUNCH_ATTEMPT"])
print("rank", rank, "of", os.environ["RANK_SIZE"], flush=True)
here = sorted(name for name in os.listdir(".") if name.startswith("model"))
open("seen.txt", "w").write(f"{attempt} {here}")
if rank == 2:
    prefix = f"model.ckpt-{5 + attempt}"
    for end in (".index", ".data"):
        with open(prefix + end, "w") as stream:
            stream.write(end * 50000)
    record = {"kind": "checkpoint", "step": 5 + attempt, "prefix": prefix,
              "files": [prefix + ".index", prefix + ".data"]}
    with open("artifacts.jsonl", "a") as stream:
        stream.write(json.dumps(record) + "\\n")
    sys.exit(7 if attempt < int(os.environ["FAILURES"]) else 0)
"""


def _may_mount() -> bool:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    command = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    return not subprocess.run(command, stderr=subprocess.DEVNULL).returncode


pytestmark = pytest.mark.skipif(not _may_mount(), reason="needs root that may mount")


def train(folder: Path, *words: str) -> Any:
    """Run the training on two hosts of two ranks each; their `runs` are tmpfs of their own."""
    (folder / "runs").mkdir()
    (folder / "train.py").write_text(TRAINING)
    (folder / "train.yaml").write_text("program: train.py\nbackend: cpu\ndevices: 0-1\ngrace: 2\n")
    pipes = str(ROOT / "tests" / "launcher" / "hosts" / "pipes.py")
    environ = {
        **os.environ, "PIPES_PRIVATE": str(folder / "runs"), "PIPES_FOLDER": str(folder),
        "MY_TOKEN": "s3cret-of-the-head",
    }  # fmt: skip
    command = [sys.executable, pipes, "run", "node1,node2", *words, "train.yaml", "gather=[seen.txt]"]
    return subprocess.run(command, cwd=str(folder), env=environ, capture_output=True, text=True, timeout=60)


def run_of(folder: Path) -> Path:
    return (folder / "runs" / "latest").resolve()


def test_checkpoints_gathered_files_and_logs_come_to_the_head(tmp_path: Path) -> None:
    done = train(tmp_path, "env.FAILURES=0")
    run = run_of(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no host shares" in done.stdout
    assert (run / "checkpoints" / "latest").read_text() == "model.ckpt-5\n"
    assert (run / "checkpoints" / "model.ckpt-5.data").read_text() == ".data" * 50000
    seen = [(run / f"gathered/rank_{rank}/seen.txt").read_text() for rank in range(4)]
    assert seen == ["0 []"] * 4
    logs = [(run / f"logs/rank_{rank}.log").read_text() for rank in (0, 3)]
    assert logs == ["rank 0 of 4\n", "rank 3 of 4\n"]
    assert not (run / "hosts").exists() and not list(run.rglob(".incoming*"))
    assert json.loads((run / "result.json").read_text())["problems"] == []
    assert members(run.name) == set()
    own = tmp_path / "disk-node2" / run.name
    assert (own / "checkpoints" / "latest").read_text() == "model.ckpt-5\n"
    assert stat.S_IMODE(own.stat().st_mode) == 0o700 and sorted(os.listdir(str(own / "ranks"))) == ["2", "3"]


def test_a_restart_finds_the_checkpoints_on_their_host_and_brings_all(tmp_path: Path) -> None:
    done = train(tmp_path, "env.FAILURES=1", "max_restarts=1")
    run = run_of(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (run / "gathered/rank_2/seen.txt").read_text() == "1 ['model.ckpt-5.data', 'model.ckpt-5.index']"
    assert (run / "checkpoints" / "latest").read_text() == "model.ckpt-6\n"
    assert (run / "checkpoints" / "model.ckpt-5.index").exists()


def test_files_of_a_failed_run_come_too_and_secrets_are_written_nowhere(tmp_path: Path) -> None:
    done = train(tmp_path, "env.FAILURES=9", "env.API_KEY=s3cret-of-the-job", "export=[MY_TOKEN]")
    run = run_of(tmp_path)
    assert done.returncode == 7, done.stdout + done.stderr
    assert (run / "checkpoints" / "latest").read_text() == "model.ckpt-5\n"
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in files if b"s3cret" in path.read_bytes()] == []
    assert "s3cret" not in done.stdout + done.stderr
