"""Runs side by side against one alone: what two one-device runs at once, each on its core, lose.

    python benchmarks/repeat.py [--steps 60] [--rounds 3]

Each run trains the demo's model. The rate is that of training, in examples per second, without the first
record; alone it is the mean of one run on the first core and one on the second.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import rows  # noqa: E402
from benchmarks.inputs import pretrained  # noqa: E402


def rates(args: Any, data: Path, seeds: str, devices: str, cores: list[int]) -> list[float]:
    """Repeat a training on some cores; return the rate of each seed."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "launcher", "repeat", "--seeds", seeds, "--devices", devices, "--each", "1",
            str(ROOT / "examples/squad_demo.yaml"), f"train_file={data}/train.json", "do_predict=false",
            f"init_checkpoint={pretrained()}", f"num_train_steps={args.steps}", f"runs_dir={folder}",
            f"display_loss_steps={max(1, args.steps // 6)}",
        ]  # fmt: skip
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, cores)  # the processes that are started have it, too
        try:
            subprocess.run(
                command, cwd=str(ROOT), env=rows.environment(1), check=True, capture_output=True, text=True
            )
        finally:
            os.sched_setaffinity(0, before)
        return [rate(path) for path in sorted(Path(folder).glob("repeat-*/seed-*/ranks/0/metrics.jsonl"))]


def rate(path: Path) -> float:
    """Return the harmonic mean of a run's records after the first."""
    records = [json.loads(line) for line in path.read_text().splitlines()]
    found = [record["examples_per_second"] for record in records if "examples_per_second" in record][1:]
    return len(found) / sum(1.0 / value for value in found)


def main() -> None:
    """Measure in turn, alone and side by side, and print the medians."""
    args = rows.parser(__doc__, steps=60, rounds=3).parse_args()
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        raise SystemExit("two cores are needed")
    alone, beside = [], []
    with tempfile.TemporaryDirectory() as data:
        make = [sys.executable, str(ROOT / "examples/make_squad_demo.py"), "--output", data]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
        for _ in range(args.rounds):
            single = [rates(args, Path(data), "1", "0", [core])[0] for core in cores]
            alone.append(sum(single) / 2)
            both = rates(args, Path(data), "1-2", "0-1", cores)
            beside.append(sum(both) / 2)
            print(f"alone {alone[-1]:.2f}, side by side {beside[-1]:.2f} examples/s and core", flush=True)
    first, second = (sorted(values)[len(values) // 2] for values in (alone, beside))
    print(f"median: alone {first:.2f}, side by side {second:.2f}: {100 * (1 - second / first):+.1f} % lost")


if __name__ == "__main__":
    main()
