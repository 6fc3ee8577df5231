"""Time HF PyTorch's BertForQuestionAnswering: the peer. Needs torch, transformers; prints a line of JSON.

    python benchmarks/torch_step.py train|infer [--layers 12] [--batch 4] [--seq 384] [--steps 5] [--bf16]
    python benchmarks/torch_step.py finetune --rows ROWS.npz --model FOLDER [--batch 16] [--steps 20] [--bf16]

finetune pads each batch to its own longest row, as HF's data collator does.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from typing import Any, Dict, Iterator

import numpy as np


def parse() -> argparse.Namespace:
    """Read the options."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("what", nargs="?", default="train", choices=("train", "infer", "finetune"))
    for name, value in (("layers", 12), ("hidden", 768), ("batch", 4), ("seq", 384), ("steps", 5)):
        made.add_argument("--" + name, type=int, default=value)
    made.add_argument("--rows")
    made.add_argument("--model")
    made.add_argument("--bf16", action="store_true")
    return made.parse_args()


def random_batches(args: argparse.Namespace, torch: Any) -> Iterator[Dict[str, Any]]:
    """Yield the same full batch for ever."""
    ids = torch.randint(0, 30522, (args.batch, args.seq))
    place = torch.randint(0, args.seq, (args.batch,))
    while True:
        yield {
            "input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": ids % 2,
            "start_positions": place, "end_positions": place,
        }  # fmt: skip


def real_batches(args: argparse.Namespace, torch: Any) -> Iterator[Dict[str, Any]]:
    """Yield shuffled rows, each batch as long as its longest row."""
    rows = dict(np.load(args.rows))
    order = np.random.RandomState(0).permutation(len(rows["input_ids"]))
    lengths = rows["input_mask"].sum(1)
    names = {"input_ids": "input_ids", "attention_mask": "input_mask", "token_type_ids": "segment_ids"}
    for start in range(0, len(order) - args.batch + 1, args.batch):
        taken = order[start : start + args.batch]
        width = int(lengths[taken].max())
        batch = {mine: torch.from_numpy(rows[ours][taken, :width].astype(np.int64))
                 for mine, ours in names.items()}  # fmt: skip
        for side in ("start_positions", "end_positions"):
            batch[side] = torch.from_numpy(rows[side][taken].astype(np.int64))
        yield batch


def measure(args: argparse.Namespace) -> Dict[str, float]:
    """Run the steps; the first is left out."""
    import torch
    from transformers import BertConfig, BertForQuestionAnswering

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    if args.what == "finetune":
        model = BertForQuestionAnswering.from_pretrained(args.model)
    else:
        model = BertForQuestionAnswering(BertConfig(
            hidden_size=args.hidden, num_hidden_layers=args.layers, num_attention_heads=args.hidden // 64,
            intermediate_size=4 * args.hidden))  # fmt: skip
    training = args.what != "infer"
    model.train(training)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    batches = real_batches(args, torch) if args.what == "finetune" else random_batches(args, torch)
    cast = torch.autocast("cpu", torch.bfloat16) if args.bf16 else contextlib.nullcontext()

    def step() -> None:
        with cast, torch.set_grad_enabled(training):
            output = model(**next(batches))
        if training:
            output.loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

    step()
    times = []
    for _ in range(args.steps):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    # Real batches differ in length, so their mean counts; equal ones are measured by the best.
    seconds = sum(times) / len(times) if args.what == "finetune" else min(times)
    return {"seconds": seconds, "examples_per_second": args.batch / seconds}


def main() -> int:
    """Measure and print; 3 when torch or transformers is not there."""
    args = parse()
    try:
        print(json.dumps(measure(args)))
    except ImportError as error:
        print("not installed: %s" % error.name, file=sys.stderr)
        return 3 if len(sys.argv) > 1 else 0  # `make bench` starts every script bare
    return 0


if __name__ == "__main__":
    sys.exit(main())
