"""Time rank tables of 1k to 64k devices, 8 on a server: make, load, look up every rank, check.

    python benchmarks/rank_table.py [--repeat 3] [--layout 1.0|1.2]

`make` goes from an inventory to text: numbering, rendering, parsing back, comparing. `check` goes from text
to findings. Each figure is in CPU seconds (one thread; on an idle machine equal to wall time), the least
of the repeats, in a process of its own for every size; the last column is make and check for one device in
microseconds, which is constant if both are linear.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
SIZES = (1024, 4096, 16384, 65536)
PER_SERVER = 8


def hosts(devices: int, layout: str) -> tuple[object, ...]:
    """Make hosts with addresses, and on A3 with super pods of 48 servers."""
    from rank_table.inventory import Device, Host

    made: list[Host] = []
    for server in range(devices // PER_SERVER):
        items = tuple(
            Device(
                number,
                number,
                f"192.{number}.{server >> 8}.{server & 255}",
                super_device_id=str(server % 48 << 22 | number << 16 | number) if layout == "1.2" else "",
            )
            for number in range(PER_SERVER)
        )
        address = f"10.{server >> 16}.{server >> 8 & 255}.{server & 255}"
        made.append(
            Host(address, items, super_pod_id=str(server // 48), chip="A3" if layout == "1.2" else "A2")
        )
    return tuple(made)


def least(repeat: int, work: Callable[[], object]) -> float:
    """Return the least of several times, in CPU seconds of this process."""
    times = []
    for _ in range(repeat):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def measure(devices: int, layout: str, repeat: int) -> dict[str, float]:
    """Time one size."""
    from rank_table.check import ERROR, check
    from rank_table.render import render
    from rank_table.table import RankTable

    given = hosts(devices, layout)
    text = render(RankTable.from_hosts(given, layout))  # also compiles the template
    chip = "A3" if layout == "1.2" else "A2"
    if any(finding.level == ERROR for finding in check(text, chip)):
        raise SystemExit("the table that is timed has errors")
    table = RankTable.loads(text)
    return {
        "devices": devices,
        "make": least(repeat, lambda: render(RankTable.from_hosts(given, layout))),
        "load": least(repeat, lambda: RankTable.loads(text)),
        "look up": least(
            repeat, lambda: [table.ranks_of(table.by_rank(n).server_id) for n in range(devices)]
        ),
        "check": least(repeat, lambda: check(text, chip)),
        "MB": len(text) / 1e6,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--layout", choices=("1.0", "1.2"), default="1.0")
    parser.add_argument("--only", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(options.only, options.layout, options.repeat)))
        return
    heads = ("devices", "servers", "MB", "make s", "load s", "look s", "check s")
    print(*(f"{head:>8}" for head in heads), f"{'us/device':>12}")
    for size in SIZES:
        command = [sys.executable, __file__, "--only", str(size), "--layout", options.layout]
        done = subprocess.run([*command, "--repeat", str(options.repeat)], stdout=subprocess.PIPE, check=True)
        row = json.loads(done.stdout.decode())
        each = (row["make"] + row["check"]) / size * 1e6
        seconds = " ".join(f"{row[name]:8.3f}" for name in ("make", "load", "look up", "check"))
        print(f"{size:8d} {size // PER_SERVER:8d} {row['MB']:8.2f} {seconds} {each:12.1f}")


if __name__ == "__main__":
    main()
