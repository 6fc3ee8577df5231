"""Time the launcher, compared with torchrun where torchrun does the same.

    python benchmarks/launch.py [--torchrun PATH] [--only help,start,failure,many,idle,capture]
                                [--gigabytes 4]

Times are of whole commands, the best of a few rounds in which the two take turns. The capture writes to
/dev/shm if there is room, so that the disk is not measured. Linux only.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Sequence

ROOT = Path(__file__).resolve().parents[1]
FAIL = "if [ $RANK_ID = 3 ]; then sleep 1; exit 9; fi; exec sleep 60"


def ours(folder: Path, ranks: int, *words: str, options: Sequence[str] = ()) -> list[str]:
    """Build the command line of npu-launch."""
    line = [sys.executable, "-m", "launcher", "--devices", f"0-{ranks - 1}", "--backend", "cpu"]
    return [*line, "--quiet", f"runs_dir={folder / 'runs'}", *options, "--", *words]


def theirs(torchrun: str, ranks: int, *words: str) -> list[str]:
    """Build the command line of torchrun."""
    return [torchrun, "--nproc-per-node", str(ranks), "--no-python", *words]


def seconds(line: Sequence[str], folder: Path) -> float:
    """Run a command; return the time from its start to its end."""
    begin = time.perf_counter()
    subprocess.run(
        line,
        cwd=str(folder),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environ(),
        check=False,
    )
    return time.perf_counter() - begin


def environ() -> dict[str, str]:
    return dict(os.environ, PYTHONPATH=str(ROOT))


def compare(ours_: Sequence[str], theirs_: Sequence[str] | None, folder: Path, rounds: int) -> list[float]:
    """Return the best time of each; the two take turns."""
    lines = [list(ours_)] + ([list(theirs_)] if theirs_ else [])
    best = [float("inf")] * len(lines)
    for _ in range(rounds):
        for number, line in enumerate(lines):
            best[number] = min(best[number], seconds(line, folder))
    return best


def show(name: str, values: list[float]) -> None:
    text = f"{name:<34} npu-launch {values[0]:.3f} s"
    if len(values) > 1:
        text += f"   torchrun {values[1]:.3f} s   {values[1] / values[0]:.1f} times"
    print(text, flush=True)


def bench_help(folder: Path, torchrun: str) -> None:
    line = [sys.executable, "-m", "launcher", "--help"]
    show("--help", compare(line, [torchrun, "--help"] if torchrun else None, folder, 5))


def bench_start(folder: Path, torchrun: str) -> None:
    peer = theirs(torchrun, 8, "sh", "-c", ":") if torchrun else None
    show("8 ranks of `sh -c :`", compare(ours(folder, 8, "sh", "-c", ":"), peer, folder, 5))


def bench_failure(folder: Path, torchrun: str) -> None:
    """Measure the time from the first failure, of rank 3 after a second, until no rank is left."""
    best = [gone_after(ours(folder, 8, "sh", "-c", FAIL), folder)]
    if torchrun:
        code = FAIL.replace("RANK_ID", "LOCAL_RANK")
        best.append(gone_after(theirs(torchrun, 8, "sh", "-c", code), folder))
    show("first failure to all 8 gone", best)


def gone_after(line: Sequence[str], folder: Path) -> float:
    """Measure the time between the failure, which the rank records, and the end of the last process."""
    best = float("inf")
    for _ in range(3):
        note = folder / "failed"
        noted = [word.replace("exit 9", f"date +%s.%N > {note}; exit 9") for word in line]
        process = subprocess.Popen(
            noted, cwd=str(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environ()
        )
        pids: list[int] = []
        while not note.exists() or not note.read_text().strip():
            pids = children(process.pid) or pids
            time.sleep(0.02)
        while any(living(pid) for pid in pids):
            time.sleep(0.002)
        best = min(best, time.time() - float(note.read_text()))
        process.wait()
        note.unlink()
    return best


def children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def living(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def bench_many(folder: Path, torchrun: str) -> None:
    """Measure 64 ranks, of which one fails as soon as it runs, until all are ended."""
    code = "if [ $RANK_ID = 63 ]; then exit 9; fi; exec sleep 60"
    peer = theirs(torchrun, 64, "sh", "-c", code.replace("RANK_ID", "LOCAL_RANK")) if torchrun else None
    show("64 ranks run and torn down", compare(ours(folder, 64, "sh", "-c", code), peer, folder, 2))


def bench_idle(folder: Path, torchrun: str) -> None:
    """Measure the share of a core that the launcher uses while 8 ranks sleep, over ten seconds."""
    for name, line in (
        ("npu-launch", ours(folder, 8, "sleep", "60")),
        ("torchrun", theirs(torchrun, 8, "sleep", "60") if torchrun else []),
    ):
        if line:
            print(f"{'idle run of 8 ranks':<34} {name} {idle(line, folder):.2f} % of a core", flush=True)


def idle(line: Sequence[str], folder: Path) -> float:
    process = subprocess.Popen(
        line, cwd=str(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environ()
    )
    try:
        time.sleep(4)
        before = on_cpu(process.pid)
        time.sleep(10)
        return (on_cpu(process.pid) - before) / 10 * 100
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def on_cpu(pid: int) -> float:
    """Sum the seconds that the threads of a process have run; the ticks in its stat are too coarse."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


WRITER = """
import os, sys
rank = os.environb[b"RANK_ID"]
block = b"".join(b"rank %s line %07d " % (rank, n) + b"x" * 40 + b"\\n" for n in range(16000))
left = int(sys.argv[1])
while left > 0:
    left -= os.write(1, memoryview(block)[:left])
"""


def bench_capture(folder: Path, gigabytes: float) -> None:
    """Let 8 ranks write at full speed; compare the sizes, and measure the memory of launcher and ranks."""
    each = int(gigabytes * 1e9 / 8)
    line = ours(folder, 8, sys.executable, "-c", WRITER, str(each))
    begin = time.perf_counter()
    process = subprocess.Popen(line, cwd=str(folder), stdout=subprocess.DEVNULL, env=environ())
    _, _, used = os.wait4(process.pid, 0)
    took = time.perf_counter() - begin
    run = Path((folder / "runs" / "latest").resolve())
    sizes = [(run / "logs" / (f"rank_{rank}.log")).stat().st_size for rank in range(8)]
    lost = each * 8 - sum(sizes)
    size = sum(sizes) / 1e9
    speed = f"{size:.1f} GB in {took:.1f} s: {size / took * 1e3:.0f} MB/s"
    memory = f"{used.ru_maxrss / 1024:.0f} MB resident at most"
    print(f"{'capture of 8 ranks':<34} {speed}, {lost} bytes lost, {memory}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--torchrun", default=shutil.which("torchrun") or "")
    parser.add_argument("--only", default="help,start,failure,many,idle,capture")
    parser.add_argument("--gigabytes", type=float, default=4.0)
    args = parser.parse_args()
    probe = [args.torchrun or "false", "--help"]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        args.torchrun = ""  # a shim without a program behind it
    if not args.torchrun:
        print("no torchrun that starts: measuring npu-launch alone (--torchrun PATH)")
    steps: dict[str, Callable[[Path], Any]] = {
        "help": lambda folder: bench_help(folder, args.torchrun),
        "start": lambda folder: bench_start(folder, args.torchrun),
        "failure": lambda folder: bench_failure(folder, args.torchrun),
        "many": lambda folder: bench_many(folder, args.torchrun),
        "idle": lambda folder: bench_idle(folder, args.torchrun),
        "capture": lambda folder: bench_capture(folder, args.gigabytes),
    }
    for name in args.only.split(","):
        shm = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        room = shutil.disk_usage(shm or tempfile.gettempdir()).free > args.gigabytes * 1.5e9
        with tempfile.TemporaryDirectory(dir=shm if name == "capture" and room else None) as folder:
            steps[name](Path(folder))


if __name__ == "__main__":
    main()
