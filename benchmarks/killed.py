"""Compare the losses of a run that is killed five times with those of an uninterrupted run.

    python benchmarks/killed.py [--steps 60] [--kills 5] [--devices 0-1] [--train train.json]

Both run examples/squad_demo.yaml (MiniLM, the demo's questions) with npu-launch, with dropout. A rank of the
second run is killed with SIGKILL again and again; the launcher ends the others and restarts the job, and the
trainer continues from its last checkpoint.
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

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import psutil  # noqa: E402

from benchmarks import rows  # noqa: E402
from benchmarks.inputs import pretrained  # noqa: E402


def start(args: argparse.Namespace, runs: Path) -> subprocess.Popen:
    """Start the launcher; it saves every fifth step."""
    command = [
        sys.executable, "-m", "launcher", "--devices", args.devices, "--quiet",
        "--max-restarts", str(args.kills), str(ROOT / "examples/squad_demo.yaml"), f"runs_dir={runs}",
        f"train_file={Path(args.train).resolve()}", f"init_checkpoint={pretrained()}", "dropout_rate=0.1",
        f"num_train_steps={args.steps}", "save_checkpoints_steps=5", "display_loss_steps=1",
        "do_predict=false",
    ]  # fmt: skip
    return subprocess.Popen(command, cwd=str(ROOT), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def losses(runs: Path) -> dict[int, float]:
    """Read rank 0's losses by step; for a step that was made twice, the later one."""
    found: dict[int, float] = {}
    path = runs / "latest/ranks/0/metrics.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        record = json.loads(line) if line.endswith("}") else {}
        if "loss" in record:
            found[record["step"]] = record["loss"]
    return found


def ranks(launcher: subprocess.Popen) -> list[psutil.Process]:
    """Find the training processes started by a launcher."""
    below = psutil.Process(launcher.pid).children(recursive=True)
    return [one for one in below if "RANK_ID" in one.environ()]


def kill(launcher: subprocess.Popen, runs: Path, step: int) -> int:
    """Kill a rank once the run has reached a step; return the step that it had reached."""
    while max(losses(runs), default=0) < step:
        if launcher.poll() is not None:
            at = max(losses(runs), default=0)
            raise SystemExit(f"the run ended at step {at} with exit code {launcher.returncode}")
        time.sleep(0.05)
    victims = ranks(launcher)
    os.kill(random.choice(victims).pid, signal.SIGKILL)
    at = max(losses(runs))
    for victim in victims:
        victim.wait()
    return at


def main() -> None:
    """Measure and print."""
    options = rows.parser(__doc__, steps=60, kills=5)
    options.add_argument("--devices", default="0-1")
    options.add_argument("--train", default=str(ROOT / "build/demo/train.json"))
    args = options.parse_args()
    if not os.path.isfile(args.train):
        print(f"killed.py: {args.train}: no such file; run `make demo` to make it")
        return
    random.seed(1)
    with tempfile.TemporaryDirectory() as folder:
        whole, cut = Path(folder, "whole"), Path(folder, "cut")
        if start(args, whole).wait():
            raise SystemExit("the uninterrupted run failed")
        launcher = start(args, cut)
        # Between two checkpoints, so that steps are lost and repeated.
        steps = [number * args.steps // (args.kills + 1) + 3 for number in range(1, args.kills + 1)]
        kills = [kill(launcher, cut, step) for step in steps]
        if launcher.wait():
            raise SystemExit(f"the killed run ended with exit code {launcher.returncode}")
        mine, theirs = losses(cut), losses(whole)
    print(f"killed after the steps {', '.join(map(str, kills))} of {args.steps}")
    print(f"{'step':>6} {'uninterrupted':>14} {'killed':>14} {'difference':>12}")
    shown = sorted({1, args.steps, *kills, *(step + 1 for step in kills)} & set(theirs))
    for step in shown:
        print(f"{step:6d} {theirs[step]:14.6f} {mine[step]:14.6f} {abs(theirs[step] - mine[step]):12.1e}")
    worst = max(abs(theirs[step] - mine[step]) / theirs[step] for step in theirs)
    print(f"all {len(theirs)} steps: at most {worst:.1e} apart, relative")


if __name__ == "__main__":
    main()
