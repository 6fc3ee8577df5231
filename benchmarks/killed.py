"""Lay the losses of a run that is killed five times beside those of an uninterrupted one.

    python benchmarks/killed.py [--steps 60] [--kills 5] [--devices 0-1] [--train train.json]

Both run examples/squad_demo.yaml (MiniLM, the demo's questions) through npu-launch, with dropout. A rank of
the second one is killed with -9 again and again; the launcher ends the others, starts anew, and the trainer
goes on from its last checkpoint.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Dict, List

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import psutil  # noqa: E402

from benchmarks.inputs import pretrained  # noqa: E402


def start(args: argparse.Namespace, runs: Path) -> subprocess.Popen:
    """Start the launcher; every fifth step is saved."""
    command = [
        sys.executable, "-m", "launcher", "--devices", args.devices, "--quiet",
        "--max-restarts", str(args.kills), str(ROOT / "examples/squad_demo.yaml"), "runs_dir=%s" % runs,
        "train_file=%s" % Path(args.train).resolve(), "init_checkpoint=%s" % pretrained(), "dropout_rate=0.1",
        "num_train_steps=%d" % args.steps, "save_checkpoints_steps=5", "display_loss_steps=1",
        "do_predict=false",
    ]  # fmt: skip
    return subprocess.Popen(command, cwd=str(ROOT), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def losses(runs: Path) -> Dict[int, float]:
    """Give rank 0's losses by step; of a step that was made twice the later."""
    found: Dict[int, float] = {}
    path = runs / "latest/ranks/0/metrics.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        record = json.loads(line) if line.endswith("}") else {}
        if "loss" in record:
            found[record["step"]] = record["loss"]
    return found


def ranks(launcher: subprocess.Popen) -> List[psutil.Process]:
    """Find the training processes below a launcher."""
    below = psutil.Process(launcher.pid).children(recursive=True)
    return [one for one in below if "RANK_ID" in one.environ()]


def kill(launcher: subprocess.Popen, runs: Path, step: int) -> int:
    """Kill a rank once the run has come to a step; give the step that it had come to."""
    while max(losses(runs), default=0) < step:
        if launcher.poll() is not None:
            at = max(losses(runs), default=0)
            raise SystemExit("the run ended at step %d, with %s" % (at, launcher.returncode))
        time.sleep(0.05)
    victims = ranks(launcher)
    os.kill(random.choice(victims).pid, signal.SIGKILL)
    at = max(losses(runs))
    for victim in victims:
        victim.wait()
    return at


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--steps", type=int, default=60)
    options.add_argument("--kills", type=int, default=5)
    options.add_argument("--devices", default="0-1")
    options.add_argument("--train", default=str(ROOT / "build/demo/train.json"))
    args = options.parse_args()
    if not os.path.isfile(args.train):
        print("killed.py: %s: no such file; `make demo` makes it" % args.train)
        return
    random.seed(1)
    with tempfile.TemporaryDirectory() as folder:
        whole, cut = Path(folder, "whole"), Path(folder, "cut")
        if start(args, whole).wait():
            raise SystemExit("the uninterrupted run failed")
        launcher = start(args, cut)
        # Between two checkpoints, so that steps are lost and made again.
        steps = [number * args.steps // (args.kills + 1) + 3 for number in range(1, args.kills + 1)]
        kills = [kill(launcher, cut, step) for step in steps]
        if launcher.wait():
            raise SystemExit("the killed run ended with %d" % launcher.returncode)
        mine, theirs = losses(cut), losses(whole)
    print("killed after the steps %s of %d" % (", ".join(map(str, kills)), args.steps))
    print("%6s %14s %14s %12s" % ("step", "uninterrupted", "killed", "difference"))
    shown = sorted({1, args.steps, *kills, *(step + 1 for step in kills)} & set(theirs))
    for step in shown:
        print("%6d %14.6f %14.6f %12.1e" % (step, theirs[step], mine[step], abs(theirs[step] - mine[step])))
    worst = max(abs(theirs[step] - mine[step]) / theirs[step] for step in theirs)
    print("all %d steps: %.1e apart at most, relative" % (len(theirs), worst))


if __name__ == "__main__":
    main()
