"""A short training on SQuAD, its losses, and those of one host that they must equal."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Dict

from tests.launching import ROOT, latest, launch

STEPS = 40
Losses = Dict[int, float]


def words(folder: Path, minilm: Path) -> tuple[str, ...]:
    """Make the demo's questions; return the job and its overrides, for one device on each host."""
    folder.mkdir(exist_ok=True)
    maker = [sys.executable, str(ROOT / "examples" / "make_squad_demo.py"), "--output", str(folder)]
    subprocess.run(maker, check=True, stdout=subprocess.DEVNULL)
    return (
        str(ROOT / "examples" / "squad_demo.yaml"), f"train_file={folder}/train.json", "do_predict=false",
        f"init_checkpoint={minilm}", f"num_train_steps={STEPS}", "display_loss_steps=1", "devices=0",
        "backend=cpu", "train_batch_size=4", "global_batch_size=8", "env.OMP_NUM_THREADS=1",
        "collective=grpc",
    )  # fmt: skip


def one_host(folder: Path, job: tuple[str, ...]) -> Losses:
    """Train two ranks on one host, without a break; return the losses."""
    done = launch(folder, *job, "devices=0-1", "collective=shm", timeout=300)
    assert done.returncode == 0, done.stderr
    found = losses(latest(folder))
    assert len(found) == STEPS
    return found


def losses(folder: Path) -> Losses:
    """Return the loss of each step in a run's log; of a step that was made twice, the last."""
    text = (folder / "logs" / "rank_0.log").read_text()
    return {
        int(step): float(loss) for step, loss in re.findall(rf"step (\d+)/{STEPS} .*?loss ([\d.]+)", text)
    }


def reached(folder: Path, step: int) -> bool:
    """Tell whether a run has made a step."""
    return step in (losses(folder) if (folder / "logs" / "rank_0.log").exists() else {})


def assert_equal(found: Losses, expected: Losses) -> None:
    """Hold the losses to those of one host."""
    assert sorted(found) == sorted(expected)
    worst = max(abs(found[step] - expected[step]) for step in expected)
    assert worst < 1e-4, worst
