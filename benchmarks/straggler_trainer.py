"""Stop and continue a rank of a real training and show what the launcher says.

    python benchmarks/straggler_trainer.py [--steps 240] [--stopped 0.5]

Two ranks train the demo (examples/squad_demo.yaml, MiniLM) on CPU. From two fifths of the steps on, rank 1 is
stopped for a share of the time (0: never). The measured price is how much shorter steps were before.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.inputs import pretrained  # noqa: E402

PERIOD = 0.2  # seconds of a duty cycle


def start(steps: int, folder: Path) -> subprocess.Popen:
    """Start the launcher on the demo's questions."""
    maker = [sys.executable, str(ROOT / "examples/make_squad_demo.py"), "--output", str(folder)]
    subprocess.run(maker, check=True, stdout=subprocess.DEVNULL)
    words = [
        str(ROOT / "examples/squad_demo.yaml"), "devices=0-1", "backend=cpu", "do_predict=false",
        f"train_file={folder}/train.json", f"init_checkpoint={pretrained()}", f"num_train_steps={steps}",
        f"runs_dir={folder}/runs", "train_batch_size=1", "global_batch_size=2", "env.OMP_NUM_THREADS=1",
    ]  # fmt: skip
    command = [sys.executable, "-m", "launcher", "--quiet", *words]
    return subprocess.Popen(command, cwd=str(ROOT), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def beat(runs: Path) -> dict:
    """Read rank 0's heartbeat; {} where there is none yet."""
    try:
        return json.loads((runs / "latest/ranks/0/heartbeat.json").read_text())
    except (OSError, ValueError):
        return {}


def pid_of(runs: Path, rank: int) -> int:
    """Return the process of a rank, as events.jsonl has it."""
    events = map(json.loads, (runs / "latest/events.jsonl").read_text().splitlines())
    return next(one["data"]["pid"] for one in events if one["event"] == "started" and one["rank"] == rank)


def step_length(one: dict, other: dict) -> float:
    spent = [sum(beat[name] for name in ("input_s", "own_s", "wait_s")) for beat in (one, other)]
    return (spent[1] - spent[0]) / (other["steps"] - one["steps"])


def main() -> None:
    """Train, disturb, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--stopped", type=float, default=0.5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder) / "runs"
        launcher = start(args.steps, Path(folder))
        seen: list[dict] = []
        while launcher.poll() is None:
            now = beat(runs)
            seen += [now] if now.get("steps") and now not in seen[-1:] else []
            if now.get("steps", 0) < args.steps * 2 // 5 or now["steps"] > args.steps - 5 or not args.stopped:
                time.sleep(0.05)
                continue
            os.kill(pid_of(runs, 1), signal.SIGSTOP)
            time.sleep(PERIOD * args.stopped)
            os.kill(pid_of(runs, 1), signal.SIGCONT)
            time.sleep(PERIOD * (1 - args.stopped))
        middle = next(at for at, one in enumerate(seen) if one["steps"] >= args.steps * 2 // 5)
        before, since = step_length(seen[0], seen[middle]), step_length(seen[middle], seen[-1])
        print(f"steps of {before:.3f} s, then of {since:.3f} s: {1 - before / since:.0%} of the time")
        for line in (runs / "latest/events.jsonl").read_text().splitlines():
            if json.loads(line)["event"] == "straggler":
                print(json.loads(line)["data"]["text"])


if __name__ == "__main__":
    main()
