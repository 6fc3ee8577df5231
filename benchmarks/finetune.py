"""Fine-tune the MiniLM weights on real questions beside HF PyTorch: real examples a second.

    python benchmarks/finetune.py [train.json [MODEL_FOLDER]] [--batch 16] [--steps 30] [--full dev.json]

Both take the same rows of the same questions. bert takes them as --batching says (pack: rows hold several
features), HF pads each batch to its longest row. --full also trains for --epochs with each, on bert's side
through squad/run_squad.py, and prints EM and F1 of dev.json as squad/evaluate.py computes them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np  # noqa: E402

from benchmarks import rows  # noqa: E402
from benchmarks.inputs import pretrained, train_file  # noqa: E402
from squad.examples import read_squad  # noqa: E402
from squad.features import build_features  # noqa: E402
from squad.tokenizer import Tokenizer  # noqa: E402


def run_squad(args: argparse.Namespace, folder: str, *flags: str) -> List[Dict[str, Any]]:
    """Train through the program itself; give its progress records."""
    rank = Path(folder, "rank")
    rank.mkdir(exist_ok=True)
    command = [
        sys.executable, str(ROOT / "squad/run_squad.py"), "--vocab_file=%s" % Path(args.model, "vocab.txt"),
        "--bert_config_file=%s" % Path(args.model, "config.json"), "--init_checkpoint=%s" % args.model,
        "--do_train=true", "--train_file=%s" % args.train, "--train_batch_size=%d" % args.batch,
        "--learning_rate=%g" % args.rate, "--warmup_proportion=0.1", "--version_2_with_negative=true",
        "--batching=%s" % args.batching, "--seed=%d" % args.seed, "--output_dir=%s" % folder, *flags,
    ]  # fmt: skip
    environment = rows.environment(args.threads, NPU_LAUNCH_RANK_DIR=str(rank))
    subprocess.run(command, env=environment, check=True, stdout=sys.stderr)
    return [json.loads(line) for line in (rank / "metrics.jsonl").read_text().splitlines()]


def speed(args: argparse.Namespace) -> float:
    """Give bert's real examples a second: the mean of the records after the first."""
    every = max(1, args.steps // 5)
    with tempfile.TemporaryDirectory() as folder:
        records = run_squad(
            args, folder, "--num_train_steps=%d" % args.steps, "--display_loss_steps=%d" % every
        )
    rates = [record["examples_per_second"] for record in records][1:]
    return len(rates) / sum(1.0 / rate for rate in rates)


def peer_speed(args: argparse.Namespace) -> Dict[str, Any]:
    """Give HF's figures by precision; bfloat16 only where the processor has it."""
    tokenizer = Tokenizer(str(Path(args.model, "vocab.txt")))
    features = build_features(read_squad(args.train, True, True), tokenizer, 384, 128, 64, True)
    names = ("input_ids", "input_mask", "segment_ids", "start_positions", "end_positions")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "rows.npz")
        np.savez(path, **{name: getattr(features, name) for name in names})
        common = (
            "finetune",
            "--rows",
            path,
            "--model",
            args.model,
            "--batch",
            args.batch,
            "--steps",
            args.steps,
        )
        made = {"float32": rows.peer(*common, threads=args.threads)}
        if "avx512_bf16" in Path("/proc/cpuinfo").read_text():
            made["bfloat16"] = rows.peer(*common, "--bf16", threads=args.threads)
    return made


def full(args: argparse.Namespace) -> None:
    """Train for whole epochs; print EM and F1."""
    with tempfile.TemporaryDirectory() as folder:
        run_squad(
            args, folder, "--num_train_epochs=%g" % args.epochs, "--do_predict=true",
            "--predict_file=%s" % args.full,
        )  # fmt: skip
        [found] = list(Path(folder).rglob("predictions.json"))
        subprocess.run(
            [sys.executable, "-m", "squad.evaluate", args.full, str(found)], cwd=str(ROOT), check=True
        )


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("train", nargs="?", default=train_file())
    options.add_argument("model", nargs="?", default=None)
    for name, value in (("batch", 16), ("steps", 30), ("threads", 2), ("seed", 1)):
        options.add_argument("--" + name, type=int, default=value)
    options.add_argument("--batching", default="bucket", choices=("pad", "bucket", "pack"))
    options.add_argument("--rate", type=float, default=1e-4)
    options.add_argument("--epochs", type=float, default=3.0)
    options.add_argument("--full", metavar="dev.json", default="")
    args = options.parse_args()
    args.model = args.model or str(pretrained())
    mine = {"examples_per_second": speed(args)}
    rows.show("bert, %s, float32" % args.batching, mine, ["examples_per_second"])
    for precision, theirs in peer_speed(args).items():
        ratio = theirs and "bert is %.2f times that" % (
            mine["examples_per_second"] / theirs["examples_per_second"]
        )
        rows.show("HF PyTorch, %s" % precision, theirs, ["examples_per_second"], ratio or "")
    if args.full:
        full(args)


if __name__ == "__main__":
    main()
