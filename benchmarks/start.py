"""Measure the time from the start of the process to the end of the first step, in parts.

python benchmarks/start.py [--layers 12]
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from safetensors.numpy import save_file

from benchmarks import rows
from bert import names
from bert.config import BertConfig


def weights(folder: str, layers: int) -> str:
    """Write a checkpoint of BERT-base's size, as fine-tuning starts from one."""
    shape = BertConfig(30522, 768, layers, 12, 3072, type_vocab_size=2)
    random, held = np.random.default_rng(0), {}
    for name, size in names.shapes(shape).items():
        value = random.standard_normal(size, dtype=np.float32) * 0.02
        key, transposed = names.to_hf(name)
        held[key] = np.ascontiguousarray(value.T if transposed else value)
    save_file(held, os.path.join(folder, "model.safetensors"))
    return folder


def main() -> None:
    """Measure and print; with a small batch, as the step's own work is not the question."""
    args = rows.parser(__doc__, layers=12).parse_args()
    small = ["--layers", args.layers, "--batch", 1, "--seq", 8, "--steps", 1]
    with tempfile.TemporaryDirectory() as folder:
        row = rows.run("one_step.py", "train", *small, "--init", weights(folder, args.layers))
    assert row
    times = row["first_step"] / (row["import"] + row["build"])
    rows.show("start", row, ["import", "build", "first_step"], f"seconds; {times:.2f} times import and graph")


if __name__ == "__main__":
    main()
