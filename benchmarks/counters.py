"""Time what a rank's counters cost beside a step: the demo's model, and BERT-base.

    python benchmarks/counters.py [--steps 5]

A step with counters does these things more: it notes when a batch was ready and how long it waited, times its
collectives (13 buckets in BERT-base), and writes them into heartbeat.json. `beat` was there before and is
shown apart. `launcher.worker.step` is a call that need not write, as the last one did a moment ago; of
programs with short steps also the processor time of all calls is measured, those that write among them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
STEPS = {  # on a core; the rows of a step of one rank
    "the demo's model": ["--layers", "6", "--hidden", "384", "--batch", "4", "--seq", "128"],
    "BERT-base": ["--layers", "12", "--hidden", "768", "--batch", "4", "--seq", "384"],
}
COLLECTIVES, COUNT, ROUNDS = 13, 500, 5


def mean(run: Callable[[], Any]) -> float:
    """Measure the seconds of a call: the mean of many, in the best of some rounds."""
    rounds = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        for _ in range(COUNT):
            run()
        rounds.append((time.perf_counter() - begin) / COUNT)
    return min(rounds)


def parts() -> dict[str, float]:
    """Measure each thing that a step does for its counters."""
    from bert import heartbeat
    from bert.backend.cpu import CpuBackend
    from bert.cluster import Cluster
    from bert.feed import Feed
    from launcher import worker

    feed, counters, backend = Feed(), heartbeat.Counters(1000, True), CpuBackend(Cluster())
    batch = {"input_ids": np.zeros((4, 384), np.int32), "example_weights": np.ones((4, 1), np.float32)}

    def count() -> None:
        feed.made(batch)
        begin = time.monotonic()
        taken = feed.taken(1, begin, time.monotonic())
        counters.call(1, 4, taken.tokens, taken.input_s, 0.0)

    def reduce() -> None:
        for _ in range(COLLECTIVES):
            with backend._timed():
                pass

    steps = iter(range(1, 1 << 30))
    plain = mean(lambda: heartbeat.beat("train", next(steps)))
    counters.call(1, 4, 1536, 0.0, 0.0)
    return {
        "count": mean(count), "collectives": mean(reduce), "beat": plain,
        "counters in the beat": mean(lambda: json.dumps(counters.record())),
        "launcher.worker.step": mean(lambda: worker.step(next(steps), examples=4, tokens=1536)),
    }  # fmt: skip


def share_of_calls(step: float, seconds: float = 5.0) -> float:
    """Measure the share of its time that a program with such steps uses a processor for telling them."""
    from launcher import worker

    told, begin, number = 0.0, time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        end, number = time.perf_counter() + step, number + 1
        while time.perf_counter() < end:
            pass
        used = time.thread_time()
        worker.step(number, examples=4, tokens=1536)
        told += time.thread_time() - used
    return told / (time.perf_counter() - begin)


def step_of(words: list[str], steps: int) -> float:
    """Measure a step of the trainer's graph, in a process of its own."""
    line = [sys.executable, str(ROOT / "benchmarks" / "one_step.py"), "train", "--steps", str(steps), *words]
    environ = dict(os.environ, OMP_NUM_THREADS=os.environ.get("OMP_NUM_THREADS", "1"))
    done = subprocess.run(line, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    return float(json.loads(done.stdout.splitlines()[-1])["seconds"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=5)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NPU_LAUNCH_RANK_DIR"] = folder
        found = parts()
        shares = {step: share_of_calls(step) for step in (0.001, 0.01, 0.1)}
    for name, seconds in found.items():
        print(f"{name:24s} {seconds * 1e6:8.1f} us")
    for step, share in shares.items():
        print(f"launcher.worker.step after each {step * 1e3:.0f} ms: {share:.3%} of the time")
    new = found["count"] + found["collectives"] + found["counters in the beat"]
    for name, words in STEPS.items():
        seconds = step_of(words, chosen.steps)
        both = f"{new / seconds:.4%} of it, with the beat {(new + found['beat']) / seconds:.4%}"
        print(f"{name}: a step {seconds * 1e3:.1f} ms, counters {both}")


if __name__ == "__main__":
    main()
