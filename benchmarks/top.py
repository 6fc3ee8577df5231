"""What `npu-launch top` costs: the share of a core at its default interval, for 8 and 64 ranks.

    python benchmarks/top.py [LOOKS]

Each rank has made a step, written a row and a line of its log since the look before. Beside it: a loop that
only reads the same files, and top(1) in batch mode. Memory after so many looks tells whether it grows.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

INTERVAL = 3.0  # seconds
WIDTH, HEIGHT = 160, 80


def made(folder: Path, ranks: int) -> Path:
    """Make the folder of a run that goes on, whose ranks are processes that sleep."""
    from tests.launcher.runs_made import finished

    run = finished(folder, ranks=ranks, steps=400)
    run.result.unlink()
    return run.path


def step(run: Path, ranks: int, number: int) -> None:
    """Let each rank write what it writes of a step."""
    beat = {"step": number, "phase": "train", "time": time.time(), "total_steps": 10**6, "steps": number}
    beat.update(examples=8 * number, tokens=0, input_s=0.1 * number, own_s=0.7 * number)
    beat.update(wait_s=0.2 * number, save_s=0.0)
    row = {"step": 5000 + number, "loss": 1 / number, "own_loss": 1 / number, "examples_per_second": 9.0}
    for rank in range(ranks):
        folder = run / "ranks" / str(rank)
        (folder / "new").write_text(json.dumps(beat))
        os.replace(str(folder / "new"), str(folder / "heartbeat.json"))
        with (folder / "metrics.jsonl").open("a") as stream:
            stream.write(json.dumps(row) + "\n")


def living(run: Path, ranks: int) -> list[subprocess.Popen[bytes]]:
    """Start processes that stand for the ranks, and name them in events.jsonl."""
    from launcher.process import procfs

    children = [subprocess.Popen(["sleep", "3600"]) for _ in range(ranks)]
    with (run / "events.jsonl").open("a") as stream:
        for rank, child in enumerate(children):
            data = {"pid": child.pid, "start": procfs.start_of(child.pid)}
            stream.write(json.dumps({"time": 1.0, "event": "started", "rank": rank, "data": data}) + "\n")
    return children


def looked(run: Path, ranks: int, looks: int) -> tuple[float, float, int]:
    """Return the CPU seconds of a look and its drawing, of bare reading, and KiB that memory grew."""
    from rich.console import Console
    from rich.live import Live

    from launcher.run_dir import RunDir
    from launcher.view.looks import RunLooks
    from launcher.view.screen import Screen, as_text
    from launcher.view.table import BLOCKS

    shown = Screen([RunLooks(RunDir(run))], BLOCKS)
    console = Console(file=open(os.devnull, "w"), force_terminal=True, width=WIDTH, height=HEIGHT)
    spent = bare = 0.0
    grown = 0
    with Live(console=console, screen=True, auto_refresh=False) as live:
        for number in range(1, looks + 1):
            step(run, ranks, number)
            before = time.process_time()
            shown.look()
            live.update(as_text(*shown.lines(WIDTH, HEIGHT)), refresh=True)
            between = time.process_time()
            for rank in range(ranks):
                json.loads((run / "ranks" / str(rank) / "heartbeat.json").read_bytes())
            bare += time.process_time() - between
            spent += between - before if number > 1 else 0
            if number == looks // 2:
                grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return spent / (looks - 1), bare / looks, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - grown


def peer(looks: int = 5) -> float | None:
    """Return the CPU seconds of a look of top(1); None where there is none."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        subprocess.run(["top", "-b", "-d", "0.2", "-n", str(looks)], stdout=subprocess.DEVNULL, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / looks


def main() -> None:
    """Print a line for each number of ranks."""
    looks = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    for ranks in (8, 64):
        with tempfile.TemporaryDirectory() as folder:
            run = made(Path(folder), ranks)
            children = living(run, ranks)
            try:
                spent, bare, grown = looked(run, ranks, looks)
                other = peer()
            finally:
                for child in children:
                    child.kill()
                    child.wait()
        beside = "not here" if other is None else f"{1000 * other:.1f} ms"
        print(f"{ranks} ranks: {1000 * spent:.1f} ms a look, {spent / INTERVAL:.2%} of a core; ", end="")
        print(f"bare reading {1000 * bare:.1f} ms; top -b {beside}; last half: +{grown} KiB of memory")


if __name__ == "__main__":
    main()
