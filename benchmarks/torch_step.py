"""Time HF PyTorch's BertForQuestionAnswering. Needs torch and transformers; prints a line of JSON.

    python benchmarks/torch_step.py train|infer [--layers 12] [--batch 4] [--seq 384] [--steps 5] [--bf16]
    python benchmarks/torch_step.py finetune --rows ROWS.npz --model FOLDER [--batch 16] [--steps 20] [--bf16]
        [--epochs 3 --rate 1e-4 --seed 0 --dev DEV.npz --logits OUT.npz]

finetune pads each batch to its own longest row, as HF's data collator does. With --epochs it trains to the
end with AdamW, warm-up and linear decay, as HF's Trainer does, and writes the logits of DEV's rows.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from typing import Any, Iterator

import numpy as np


def parse() -> argparse.Namespace:
    """Parse the options."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("what", nargs="?", default="train", choices=("train", "infer", "finetune"))
    for name, value in (("layers", 12), ("hidden", 768), ("batch", 4), ("seq", 384), ("steps", 5)):
        made.add_argument("--" + name, type=int, default=value)
    for name in ("rows", "model", "dev", "logits"):
        made.add_argument("--" + name)
    for name, kind, value in (("epochs", int, 0), ("seed", int, 0), ("rate", float, 1e-4)):
        made.add_argument("--" + name, type=kind, default=value)
    made.add_argument("--bf16", action="store_true")
    return made.parse_args()


def random_batches(args: argparse.Namespace, torch: Any) -> Iterator[dict[str, Any]]:
    """Yield the same full batch again and again."""
    ids = torch.randint(0, 30522, (args.batch, args.seq))
    place = torch.randint(0, args.seq, (args.batch,))
    while True:
        yield {
            "input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": ids % 2,
            "start_positions": place, "end_positions": place,
        }  # fmt: skip


def real_batches(args: argparse.Namespace, torch: Any) -> Iterator[dict[str, Any]]:
    """Yield shuffled rows, each batch as long as its longest row, epoch after epoch."""
    rows, random = dict(np.load(args.rows)), np.random.RandomState(args.seed)
    for _ in range(max(1, args.epochs)):
        order = random.permutation(len(rows["input_ids"]))
        for start in range(0, len(order), args.batch):
            taken = order[start : start + args.batch]
            batch = _tokens(rows, taken, torch)
            for side in ("start_positions", "end_positions"):
                batch[side] = torch.from_numpy(rows[side][taken].astype(np.int64))
            yield batch


def _tokens(rows: dict[str, np.ndarray], taken: np.ndarray, torch: Any) -> dict[str, Any]:
    width = int(rows["input_mask"][taken].sum(1).max())
    names = {"input_ids": "input_ids", "attention_mask": "input_mask", "token_type_ids": "segment_ids"}
    return {mine: torch.from_numpy(rows[ours][taken, :width].astype(np.int64))
            for mine, ours in names.items()}  # fmt: skip


def train(args: argparse.Namespace) -> dict[str, float]:
    """Train for whole epochs and write the logits [R, L] of the dev rows."""
    import torch
    from transformers import BertForQuestionAnswering, get_linear_schedule_with_warmup

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    torch.manual_seed(args.seed)
    model = BertForQuestionAnswering.from_pretrained(args.model)
    count = len(np.load(args.rows)["input_ids"])
    steps = args.epochs * -(-count // args.batch)
    optimizer = torch.optim.AdamW(decayed(model), lr=args.rate, eps=1e-6)
    schedule = get_linear_schedule_with_warmup(optimizer, steps // 10, steps)
    model.train()
    begin = time.perf_counter()
    for number, batch in enumerate(real_batches(args, torch), 1):
        loss = model(**batch).loss
        update(loss, model, optimizer, torch)
        schedule.step()
        if number % 20 == 0:
            rate = number * args.batch / (time.perf_counter() - begin)
            print(f"step {number} of {steps}, loss {loss.item():.4f}, {rate:.2f} examples/s", flush=True)
    seconds = time.perf_counter() - begin
    answer(args, model.eval(), torch)
    return {"seconds": seconds, "examples_per_second": count * args.epochs / seconds}


def update(loss: Any, model: Any, optimizer: Any, torch: Any) -> None:
    """Make one step, with the gradient clipped to norm 1."""
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()


def decayed(model: Any) -> list[dict[str, Any]]:
    """Group the parameters so that only the weights decay, as in both projects."""
    named = list(model.named_parameters())
    plain = [p for name, p in named if "LayerNorm" in name or name.endswith("bias")]
    others = [p for name, p in named if not ("LayerNorm" in name or name.endswith("bias"))]
    return [{"params": others, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}]


def answer(args: argparse.Namespace, model: Any, torch: Any) -> None:
    """Write the logits of the dev rows, -10000 where a row has no token."""
    rows = dict(np.load(args.dev))
    shape = rows["input_mask"].shape
    logits = np.full((2, *shape), -10000.0, np.float32)
    order = np.argsort(-rows["input_mask"].sum(1), kind="stable")
    for first in range(0, len(order), 8):
        taken = order[first : first + 8]
        with torch.no_grad():
            made = model(**_tokens(rows, taken, torch))
        for side, values in enumerate((made.start_logits, made.end_logits)):
            width = values.shape[1]
            inside = rows["input_mask"][taken, :width] == 1
            logits[side][taken, :width] = np.where(inside, values.numpy(), -10000.0)
    np.savez(args.logits, start=logits[0], end=logits[1])


def measure(args: argparse.Namespace) -> dict[str, float]:
    """Time the steps, without the first."""
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

    def step() -> int:
        batch = next(batches)
        with cast, torch.set_grad_enabled(training):
            output = model(**batch)
        if training:
            update(output.loss, model, optimizer, torch)
        return len(batch["input_ids"])

    step()
    times, count = [], 0
    for _ in range(args.steps):
        start = time.perf_counter()
        count += step()
        times.append(time.perf_counter() - start)
    # Real batches differ in length, so their mean counts; of equal ones the best.
    seconds = sum(times) / len(times) if args.what == "finetune" else min(times)
    return {"seconds": seconds, "examples_per_second": count / len(times) / seconds}


def main() -> int:
    """Measure and print; return 3 if torch or transformers is not installed."""
    args = parse()
    try:
        print(json.dumps(train(args) if args.epochs else measure(args)))
    except ImportError as error:
        print(f"not installed: {error.name}", file=sys.stderr)
        return 3 if len(sys.argv) > 1 else 0  # `make bench` starts every script bare
    return 0


if __name__ == "__main__":
    sys.exit(main())
