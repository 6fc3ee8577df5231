"""Measure how fast `npu-launch compare` reads logs, beside `grep -c`, which only counts lines with a word.

    python benchmarks/compare.py [MEGABYTES]

Three logs: lines of which one in a hundred has a loss (as of NVIDIA's BERT), lines of TPUEstimator (each has
a rate), lines that all have a loss. Each is read in a process of its own; the seconds are those of CPU of the
best of three runs, with the start of Python in it. Memory is the peak resident size of the process.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Iterator

ROOT = Path(__file__).resolve().parents[1]
ENV = dict(os.environ, PYTHONPATH=str(ROOT), LC_ALL="C")
READ = """
import pathlib, sys
from launcher.compare.formats import read
curve = read(pathlib.Path(sys.argv[1]))
print(len(curve.points))
"""
SKIPPED = b"Skipping time record for  %d  due to checkpoint-saving/warmup overhead\n"
LOSS = b"INFO:tensorflow:loss = %.7f, step = %d (41.237 sec)\n"


def sparse() -> Iterator[bytes]:
    """Yield lines of which few have a loss."""
    step = 0
    while True:
        yield SKIPPED % step if step % 100 else LOSS % (5 / (1 + step / 1e5), step)
        step += 1


def rates() -> Iterator[bytes]:
    """Yield lines of TPUEstimator."""
    while True:
        yield b"INFO:tensorflow:global_step/sec: 2.51883\n"
        yield b"INFO:tensorflow:examples/sec: 80.6026\n"


def dense() -> Iterator[bytes]:
    """Yield lines that all have a loss."""
    step = 0
    while True:
        yield LOSS % (5 / (1 + step / 1e5), step)
        step += 1


def run(command: list[str]) -> tuple[float, float]:
    """Run a command three times; return the seconds of CPU of the fastest and the most memory in MB."""
    best, most = float("inf"), 0.0
    for _ in range(3):
        with tempfile.TemporaryFile() as output:  # grep stops at the first line when it writes to /dev/null
            child = subprocess.Popen(command, env=ENV, stdout=output)
            _, _, usage = os.wait4(child.pid, 0)
            child.returncode = 0
        best = min(best, usage.ru_utime + usage.ru_stime)
        most = max(most, usage.ru_maxrss / 1024)
    return best, most


def main() -> None:
    """Print a table."""
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    print(f"{size} MB of lines          compare                      grep -c")
    with tempfile.TemporaryDirectory() as folder:
        for name, lines, word in (
            ("1 in 100 has a loss", sparse, "loss ="),
            ("each has a rate", rates, "/sec"),
            ("each has a loss", dense, "loss ="),
        ):
            path, left = Path(folder) / "x.log", size * 10**6
            with open(path, "wb") as stream:
                for line in lines():
                    stream.write(line)
                    left -= len(line)
                    if left < 0:
                        break
            own, memory = run([sys.executable, "-c", READ, str(path)])
            peer, _ = run(["grep", "-c", word, str(path)])
            print(f"{name:22} {own:6.2f} s {size / own:6.0f} MB/s {memory:6.0f} MB {peer:8.2f} s")


if __name__ == "__main__":
    main()
