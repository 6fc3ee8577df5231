"""Time PyTorch ranks under npu-launch and under torchrun: how soon they meet, how soon a failure ends them.

    python benchmarks/frameworks.py [--python .venv-frameworks/bin/python] [--ranks 8] [--pairs 5]

Each run starts the ranks, which meet over gloo and exchange tensors for a second; then rank 3 dies. The two
launchers take turns. A launcher's own share of the start is the time until the last rank runs its first line,
before it imports torch; npu-launch's own share of the failure, by events.jsonl, from the failure until it has
sent SIGTERM to the last rank. The first line says whether the machine was idle.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Sequence

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import rows

ROOT = Path(__file__).resolve().parents[1]
HAS_TORCH = ROOT / ".venv-frameworks" / "bin" / "python"
PARTS = (
    "own share of the start",
    "command to last rank met",
    "failure to all ranks gone",
    "failure to the command's end",
)
OWN_SHARE = "own share of the failure"
RANK = """
import os, time

def note(what):
    with open(f"{what}-{os.environ['RANK']}", "w") as stream:
        stream.write(f"{time.time()} {os.getpid()}")

note("begun")
import torch
import torch.distributed as dist
torch.set_num_threads(1)
dist.init_process_group("gloo")
note("met")
while True:
    dist.all_reduce(torch.ones(1000))
    time.sleep(0.05)
    if dist.get_rank() == 3 and time.time() > float(open("met-3").read().split()[0]) + 1:
        note("failed")
        os._exit(9)
"""


def ours(python: str, ranks: int) -> list[str]:
    """Build the command line of npu-launch."""
    return [python, "-m", "launcher", "--devices", f"0-{ranks - 1}", "--backend", "cpu", "--", "rank.py"]


def theirs(python: str, ranks: int) -> list[str]:
    """Build the command line of torchrun."""
    return [python, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), "rank.py"]


def measure(line: Sequence[str]) -> list[float]:
    """Run the ranks until they are gone; return the seconds of PARTS, and of OWN_SHARE where it is known."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "rank.py").write_text(RANK)
        start = time.time()
        process = subprocess.Popen(
            line, cwd=name, env=dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1"),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        while not (folder / "failed-3").exists():
            if process.poll() is not None:
                sys.exit(f"{' '.join(line)}: ended with {process.returncode} before the ranks had met")
            time.sleep(0.01)
        pids = [int(text.split()[1]) for text in notes(folder, "met")]
        while any(Path("/proc", str(pid)).exists() for pid in pids):
            time.sleep(0.002)
        gone = time.time()
        process.wait()
        end = time.time()
        begun, met, failed = (
            max(float(text.split()[0]) for text in notes(folder, what)) for what in ("begun", "met", "failed")
        )
        asked = asked_to_end(folder)
    return [begun - start, met - start, gone - failed, end - failed, *[when - failed for when in asked]]


def asked_to_end(folder: Path) -> list[float]:
    """Read when npu-launch had sent SIGTERM to the ranks; of torchrun nothing says so."""
    events = (json.loads(line) for path in folder.glob("runs/*/events.jsonl") for line in path.open())
    return [event["time"] for event in events if event["event"] == "teardown"]


def notes(folder: Path, what: str) -> list[str]:
    """Read what the ranks have noted."""
    return [path.read_text() for path in folder.glob(what + "-*")]


def main() -> None:
    """Measure in pairs, and print the medians and the median of the pairs' ratios."""
    parser = rows.parser(__doc__, ranks=8, pairs=5)
    parser.add_argument("--python", default=str(HAS_TORCH if HAS_TORCH.exists() else rows.PEER))
    args = parser.parse_args()
    if subprocess.run([args.python, "-c", "import torch"], stderr=subprocess.DEVNULL, check=False).returncode:
        print(f"left out: no torch for {args.python} (make test-frameworks installs it, or give --python)")
        return
    load = os.getloadavg()[0]
    pairs = []
    for _ in range(args.pairs):
        pairs.append([measure(make(args.python, args.ranks)) for make in (ours, theirs)])
    cores = len(os.sched_getaffinity(0))
    busy = "idle" if load < cores / 5 else "busy, not for the document"
    print(f"{args.ranks} ranks on {cores} cores, medians of {args.pairs} pairs; load {load:.1f}: {busy}")
    for number, part in enumerate(PARTS):
        mine, other = ([pair[side][number] for pair in pairs] for side in (0, 1))
        ratio = statistics.median(b / a for a, b in zip(mine, other))
        seconds = f"npu-launch {statistics.median(mine):.2f} s   torchrun {statistics.median(other):.2f} s"
        print(f"{part:<28} {seconds}   {ratio:.2f} times")
    shares = [pair[0][len(PARTS)] for pair in pairs]
    print(f"{OWN_SHARE:<28} npu-launch {statistics.median(shares):.3f} s")


if __name__ == "__main__":
    main()
