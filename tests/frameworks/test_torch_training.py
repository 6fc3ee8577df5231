"""PyTorch ranks beside torchrun's: the same losses, also over a rank's death; what @record wrote is read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable

from tests.frameworks.needs import PROGRAMS, needs

pytestmark = needs("torch")
# Rank 1 says why it fails, and takes its time to end; rank 0, which loses its connection, has ended by then.
RECORDED = """
import os, time
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.errors import record

@record
def main():
    dist.init_process_group("gloo")
    dist.barrier()
    if dist.get_rank() == 1:
        raise ValueError("no such vocabulary")
    dist.barrier()

try:
    main()
finally:
    if os.environ["RANK"] == "1":
        dist.destroy_process_group()
        time.sleep(10)
"""


def losses(text: str) -> list[str]:
    [line] = [line for line in text.splitlines() if "losses " in line]
    return line.split("losses ")[1].split()


def test_a_killed_rank_is_found_and_the_job_ends_with_torchrun_s_losses(
    tmp_path: Path, run_job: Callable[..., Any]
) -> None:
    command = [str(PROGRAMS / "ddp.py"), "--lr", "0.05"]
    done = run_job("--devices", "0-3", "max_restarts=1", "grace=5", "--", *command, "--kill", 2)
    assert "framework torch: " in done.stdout
    assert "rank 2 (device 2, " in done.stdout and "failed first: killed by SIGKILL" in done.stdout
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=4"]
    (tmp_path / "theirs").mkdir()
    other = subprocess.run(
        [*torchrun, *command], cwd=str(tmp_path / "theirs"), stdout=subprocess.PIPE, check=True, timeout=90
    )
    assert losses(done.stdout) == losses(other.stdout.decode()) and len(losses(done.stdout)) == 8


def test_what_record_wrote_tells_the_culprit_from_the_rank_that_ended_first(
    tmp_path: Path, run_job: Callable[..., Any]
) -> None:
    (tmp_path / "train.py").write_text(RECORDED)
    done = run_job("--devices", "0-1", "framework=torch", "--", sys.executable, "train.py", code=1)
    result = json.loads((done.run_dir / "result.json").read_text())
    first, culprit = result["ends"]
    assert result["culprit"] == 1 and culprit["error"]["message"] == "no such vocabulary"
    assert (first["state"], first["exit_code"]) == ("victim", 1) and first["seconds"] < culprit["seconds"]
