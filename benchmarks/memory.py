"""Measure the peak memory of a training step, without and with --gradient_checkpointing.

    python benchmarks/memory.py [--layers 12] [--batch 4] [--seq 384]

The weights, their gradients and two moments take 16 bytes per parameter; a process with a batch of one row of
eight tokens shows the memory without activations.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import rows


def main() -> None:
    """Measure and print."""
    args = rows.parser(__doc__, layers=12, batch=4, seq=384).parse_args()
    layers, shape = ["--layers", args.layers], ["--batch", args.batch, "--seq", args.seq]
    common = ["one_step.py", "train", "--steps", 2, *layers]
    empty = rows.run(*common, "--batch", 1, "--seq", 8)
    whole, small = (rows.run(*common, *shape, *more) for more in ([], ["--gradient_checkpointing"]))
    assert empty and whole and small
    base = empty["peak_gb"]
    rows.show("without activations", empty, ["peak_gb"])
    for name, row in (("a step", whole), ("a step, --gradient_checkpointing", small)):
        rows.show(name, row, ["peak_gb", "seconds"], f"activations {row['peak_gb'] - base:.2f} GB")


if __name__ == "__main__":
    main()
