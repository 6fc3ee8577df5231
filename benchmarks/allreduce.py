"""Time an all-reduce between the ranks of a host: shared memory beside TensorFlow's own gRPC collective.

    python benchmarks/allreduce.py [--megabytes 100] [--ranks 2,4,8] [--repeats 5] [--no-grpc]

gRPC's servers listen on every interface while they are measured.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from benchmarks import rows


def rank(kind: str, name: str, number: int, size: int, megabytes: float, repeats: int) -> None:
    """Run one rank; rank 0 prints the seconds of the fastest sum."""
    joined: Any
    if kind == "grpc":
        from bert.backend.collective.grpc import Grpc

        joined = Grpc([f"localhost:{port}" for port in name.split(",")], number)
    else:
        from bert.backend.collective.shared_memory import SharedMemory

        joined = SharedMemory(name, number, size)
    values = [np.full(int(megabytes * 250000), number + 1.0, np.float32)]
    times = []
    for _ in range(repeats + 1):
        joined.barrier()
        start = time.perf_counter()
        [total] = joined.all_reduce_sum(values)
        times.append(time.perf_counter() - start)
        assert total[0] == total[-1] == size * (size + 1) / 2
    if number == 0:
        print(min(times[1:]), flush=True)
    joined.barrier()
    os._exit(0)  # TensorFlow cannot end a server otherwise


def measure(kind: str, size: int, args: argparse.Namespace) -> float:
    """Start the ranks; return rank 0's seconds."""
    name = ",".join(map(str, free_ports(size))) if kind == "grpc" else uuid.uuid4().hex
    command = [sys.executable, __file__, "--rank", kind, name]
    ranks = [
        subprocess.Popen(
            [*command, str(number), str(size), str(args.megabytes), str(args.repeats)],
            env=rows.environment(1), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )
        for number in range(size)
    ]  # fmt: skip
    answers = [process.communicate()[0] for process in ranks]
    return float(answers[0].split()[-1])


def free_ports(count: int) -> list[int]:
    """Find ports on which no process listens."""
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind(("localhost", 0))
        return [int(one.getsockname()[1]) for one in held]
    finally:
        for one in held:
            one.close()


def main() -> None:
    """Measure and print."""
    options = rows.parser(__doc__, repeats=5)
    options.add_argument("--megabytes", type=float, default=100)
    options.add_argument("--ranks", default="2,4,8")
    options.add_argument("--no-grpc", action="store_true")
    args = options.parse_args()
    for size in map(int, args.ranks.split(",")):
        mine = measure("shared", size, args)
        print(f"{size} ranks, shared memory {mine * 1e3:8.1f} ms", flush=True)
        if not args.no_grpc:
            theirs = measure("grpc", size, args)
            times = f"{theirs / mine:.1f} times as long"
            print(f"{size} ranks, gRPC          {theirs * 1e3:8.1f} ms, {times}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--rank"]:
        kind, name, number, size, megabytes, repeats = sys.argv[2:]
        rank(kind, name, int(number), int(size), float(megabytes), int(repeats))
    else:
        main()
