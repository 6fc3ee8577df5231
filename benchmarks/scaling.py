"""Compare 2 ranks of 1 thread each with 1 rank of 1 thread: BERT-base, the same batch per rank.

    python benchmarks/scaling.py [--layers 12] [--batch 4] [--seq 384] [--steps 3] [--ranks 2]

The cores also share the memory's bandwidth and the caches, so two independent processes are measured too:
their loss is not caused by the collective.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import rows


def table(folder: str, size: int) -> str:
    """Write a rank table of one host."""
    devices = [{"device_id": str(n), "device_ip": f"127.0.0.{n + 1}", "rank_id": str(n)} for n in range(size)]
    server = {"server_id": "127.0.0.1", "device": devices}
    path = os.path.join(folder, "rank_table.json")
    with open(path, "w", encoding="utf-8") as stream:
        json.dump(
            {"version": "1.0", "server_count": "1", "server_list": [server], "status": "completed"}, stream
        )
    return path


def measure(size: int, joined: bool, options: list[str]) -> float:
    """Measure the seconds of the slowest rank's fastest step, with 1 thread per rank."""
    with tempfile.TemporaryDirectory() as folder:
        common = {"RANK_TABLE_FILE": table(folder, size), "NPU_LAUNCH_RUN_ID": uuid.uuid4().hex}
        ranks = [
            subprocess.Popen(
                [sys.executable, str(rows.HERE / "one_step.py"), "train", *options],
                env=rows.environment(1, **_place(common, number, size, joined)), stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            for number in range(size)
        ]  # fmt: skip
        answers: list[Any] = [json.loads(process.communicate()[0].splitlines()[-1]) for process in ranks]
    return float(max(answer["seconds"] for answer in answers))


def _place(common: dict[str, str], number: int, size: int, joined: bool) -> dict[str, str]:
    if not joined:
        return {}
    return {**common, "RANK_ID": str(number), "RANK_SIZE": str(size), "DEVICE_ID": str(number)}


def main() -> None:
    """Measure and print."""
    args = rows.parser(__doc__, layers=12, batch=4, seq=384, steps=3, ranks=2).parse_args()
    size = [p for n in ("layers", "batch", "seq", "steps") for p in ("--" + n, str(getattr(args, n)))]
    alone = measure(1, False, size)
    print(f"1 rank of 1 thread           {alone:7.2f} s per step", flush=True)
    for name, joined in (("independent", False), ("together", True)):
        seconds = measure(args.ranks, joined, size)
        figures = f"{seconds:4.2f} s per step, efficiency {100 * alone / seconds:.0f} %"
        print(f"{args.ranks} ranks of 1 thread, {name:<12} {figures}", flush=True)


if __name__ == "__main__":
    main()
