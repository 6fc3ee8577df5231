"""Time a BERT step, compared with HF PyTorch and the machine's own rate of matrix products.

    python benchmarks/train_step.py [--what train|infer] [--layers 12] [--batch 4] [--seq 384] [--steps 5]

Every row is a process of its own on --threads threads, one after the other. bf16 rows are left out if the
CPU does not support it. NPU_LAUNCH_PEER_PYTHON names a Python that has torch and transformers.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import rows

SIZES = {"layers": 12, "hidden": 768, "batch": 4, "seq": 384, "steps": 5}


def main() -> None:
    """Measure and print."""
    options = rows.parser(__doc__, threads=2, **SIZES)
    options.add_argument("--what", choices=("train", "infer"), default="train")
    args = options.parse_args()
    size: list[str] = [part for name in SIZES for part in ("--" + name, str(getattr(args, name)))]
    rate = rows.run("one_step.py", "gemm", *size, threads=args.threads)
    rows.show("matrix products alone, float32", rate, ["gflops"])
    assert rate is not None
    for precision, mine, theirs in (("float32", [], []), ("bfloat16", ["--amp"], ["--bf16"])):
        if mine and bfloat16_obstacle():
            print(f"bfloat16: not measured: {bfloat16_obstacle()}")
            continue
        own = rows.run("one_step.py", args.what, *size, *mine, threads=args.threads)
        assert own is not None
        share = "" if mine else f"{100 * own['gflops'] / rate['gflops']:.0f} % of the products' rate"
        rows.show(f"bert, {precision}", own, ["examples_per_second", "gflops", "peak_gb"], share)
        hf = rows.peer(args.what, *size, *theirs, threads=args.threads)
        ratio = (
            f"bert is {own['examples_per_second'] / hf['examples_per_second']:.2f} times that" if hf else ""
        )
        rows.show(f"HF PyTorch, {precision}", hf, ["examples_per_second"], ratio)


def bfloat16_obstacle() -> str:
    """Explain why this machine has no bfloat16."""
    from bert.backend.cpu import amp_obstacle

    return amp_obstacle()


if __name__ == "__main__":
    main()
