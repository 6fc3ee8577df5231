"""Measure the speed and memory of `npu-launch logs` merging, compared with `sort -m` and a heapq merge.

    python benchmarks/logs.py [LINES]

The same lines (8 ranks, about 100 bytes each) three times: as a run whose ranks wrote at full speed (chunks
of many lines), as a run whose ranks wrote line by line (one chunk per line, as with PYTHONUNBUFFERED), and as
8 files of lines with timestamps, which the other programs can merge. Every program is a process of its own
that writes to a file; the best of three runs counts. Memory is the peak resident size of the process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Sequence

ROOT = Path(__file__).resolve().parents[1]
RANKS = 8
BEGIN = 1790000000 * 10**9
ENV = dict(os.environ, PYTHONPATH=str(ROOT), LC_ALL="C", TZ="UTC")

HEAPQ = """
import heapq, sys
with open(sys.argv[1], "wb") as out:
    out.writelines(heapq.merge(*(open(name, "rb") for name in sys.argv[2:])))
"""


def line(rank: int, number: int) -> bytes:
    """Format the line that a rank logs at a step."""
    return b"step %8d rank %d: loss %.6f, %d examples/s, learning rate %.3e, loss scale 65536\n" % (
        number,
        rank,
        2 + number % 997 / 997,
        700 + number % 89,
        5e-5 * (1 - number % 1000 / 1000),
    )


def write_run(folder: Path, lines: int, lines_a_chunk: int) -> None:
    """Write the logs and indexes of a run; the ranks take turns, a millisecond apart."""
    (folder / "logs").mkdir(parents=True)
    (folder / "ranks").mkdir()
    for rank in range(RANKS):
        offset, name = 0, str(folder / "logs" / (f"rank_{rank}"))
        with open(name + ".log", "wb") as log, open(name + ".index", "wb") as index:
            for first in range(0, lines // RANKS, lines_a_chunk):
                last = min(first + lines_a_chunk, lines // RANKS)
                chunk = b"".join(line(rank, number) for number in range(first, last))
                index.write(b"%d o %d %d\n" % (BEGIN + first * 10**6 + rank, offset, len(chunk)))
                offset += log.write(chunk)


def write_stamped(folder: Path, lines: int) -> None:
    """Write the same lines with ISO timestamps, one file per rank."""
    folder.mkdir(parents=True)
    for rank in range(RANKS):
        with open(str(folder / (f"train_{rank}.log")), "wb") as log:
            for number in range(lines // RANKS):
                second, milli = divmod(number, 1000)
                clock = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(BEGIN // 10**9 + second))
                log.write(b"%s.%03d%03d " % (clock.encode(), milli, rank) + line(rank, number))


def run(command: Sequence[str], out: Path) -> tuple[float, float, int]:
    """Run a program with its output in a file; return seconds, seconds of CPU, and peak memory in KB."""
    with open(str(out), "wb") as stream:
        begin = time.monotonic()
        process = subprocess.Popen(command, stdout=stream, env=ENV)
        peak, pid = 0, 0
        while pid == 0:  # ru_maxrss would include the memory of this process, which forked it
            peak = max(peak, high_water(process.pid))
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            time.sleep(0.002)
        seconds = time.monotonic() - begin
    process.returncode = status
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return seconds, usage.ru_utime + usage.ru_stime, peak


def high_water(pid: int) -> int:
    """Read the peak resident memory of a process so far, in KB."""
    try:
        with open(f"/proc/{pid}/status") as status:
            return next((int(line.split()[1]) for line in status if line.startswith("VmHWM")), 0)
    except OSError:
        return 0


def measure(name: str, command: Sequence[str], out: Path, lines: int, written: Path) -> dict[str, object]:
    """Return the best of three runs; the number of lines written must be right."""
    runs = [run(command, out) for _ in range(3)]
    with open(str(written), "rb") as stream:
        count = sum(block.count(b"\n") for block in iter(lambda: stream.read(1 << 20), b""))
    if count != lines:
        raise SystemExit(f"{name}: {count} lines were written, expected {lines}")
    seconds, cpu, memory = min(runs)
    rates = {"lines_per_s": round(lines / seconds), "lines_per_cpu_s": round(lines / cpu)}
    return {"what": name, "lines": lines, **rates, "peak_mb": round(memory / 1024)}


def main() -> None:
    """Measure, and print a table and a JSON line."""
    lines = int(sys.argv[1]) if len(sys.argv) > 1 else 2000000
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as name:
        top, out = Path(name), Path(name) / "out"
        small = lines // 8
        logs = [sys.executable, "-m", "launcher", "logs"]
        for count, size in (("small", small), ("large", lines)):
            write_run(top / count / "flat", size, 600)
            write_run(top / count / "unbuffered", size, 1)
            write_stamped(top / count / "stamped", size)
            files = sorted(map(str, (top / count / "stamped").glob("*.log")))
            for title, command, written in (
                ("logs, chunks of 600 lines", [*logs, str(top / count / "flat")], out),
                ("logs, a chunk a line", [*logs, str(top / count / "unbuffered")], out),
                ("logs, others' files by their times", [*logs, str(top / count / "stamped")], out),
                ("sort -m", ["sort", "-m", *files], out),
                ("heapq.merge", [sys.executable, "-c", HEAPQ, str(top / "merged"), *files], top / "merged"),
            ):
                rows.append(measure(title, command, out, size // RANKS * RANKS, written))
    print(f"{'':<36} {'lines':>9} {'lines/s':>10} {'lines/CPU s':>12} {'peak MB':>8}")
    for row in rows:
        name, *numbers = row.values()
        print(f"{name:<36}", *(f"{number:>{width}}" for number, width in zip(numbers, (9, 10, 12, 8))))
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
