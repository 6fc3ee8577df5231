"""Measure the time from process start to the end of the first step, in parts.

python benchmarks/start.py [--layers 12]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import rows


def main() -> None:
    """Measure and print; a small batch, as the step's own work is not what is asked."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--layers", type=int, default=12)
    args = options.parse_args()
    small = ["--layers", args.layers, "--batch", 1, "--seq", 8, "--steps", 1]
    row = rows.run("one_step.py", "train", *small)
    assert row
    times = row["first_step"] / (row["import"] + row["build"])
    rows.show("start", row, ["import", "build", "first_step"], "seconds; %.2f times import and graph" % times)


if __name__ == "__main__":
    main()
