"""Fine-tune the MiniLM weights on real questions, compared with HF PyTorch: real examples per second.

    python benchmarks/finetune.py [train.json [MODEL_FOLDER]] [--batch 16] [--steps 30] [--full dev.json]

Both train on the same questions, shuffled, with --threads cores: bert runs a rank on each, HF threads. bert
batches as --batching says (pack: a row contains several features), HF pads each batch to its longest row.
--full also trains for --epochs with each, bert with --seeds seeds, and prints EM and F1 of dev.json as
squad/evaluate.py computes them, and the F1 of the best spans of the answerable questions.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np  # noqa: E402

from benchmarks import rows  # noqa: E402
from benchmarks.inputs import pretrained, train_file  # noqa: E402
from squad.answers.answer_text import AnswerText  # noqa: E402
from squad.answers.nbest import Options, find_answers  # noqa: E402
from squad.data.examples import read_squad  # noqa: E402
from squad.data.features import build_features  # noqa: E402
from squad.data.tokenizer import Tokenizer  # noqa: E402
from squad.evaluate import evaluate, read_questions, span_figures  # noqa: E402

# The settings of HF's recipe, in place of the example's own.
LIKE_HF = ("optimizer_type=adamw", "warmup_proportion=0.1", "freeze_embeddings=false", "dropout_rate=-1")


def train(args: argparse.Namespace, folder: str, *more: str) -> list[dict[str, Any]]:
    """Train with npu-launch, one core per rank; return the progress records of rank 0."""
    devices = f"0-{args.threads - 1}"
    command = [
        sys.executable, "-m", "launcher", "--devices", devices, "--quiet",
        str(ROOT / "examples/squad2_minilm.yaml"), f"runs_dir={folder}", f"init_checkpoint={args.model}",
        f"train_file={os.path.abspath(args.train)}",
        f"global_batch_size={args.batch}", f"learning_rate={args.rate:g}", f"batching={args.batching}",
        f"seed={args.seed}", *LIKE_HF, *more,
    ]  # fmt: skip
    environment = rows.environment(1)
    subprocess.run(command, cwd=str(ROOT), env=environment, check=True, stdout=sys.stderr)
    records = Path(folder, "latest/ranks/0/metrics.jsonl")
    return [json.loads(line) for line in records.read_text().splitlines()]


def speed(args: argparse.Namespace) -> float:
    """Measure bert's real examples per second: the mean of the records after the first."""
    every = max(1, args.steps // 5)
    with tempfile.TemporaryDirectory() as folder:
        short = (f"num_train_steps={args.steps}", f"display_loss_steps={every}")
        records = train(args, folder, "do_predict=false", *short)
    rates = [record["examples_per_second"] for record in records][1:]
    return len(rates) / sum(1.0 / rate for rate in rates)


def peer_rows(args: argparse.Namespace, folder: str, file: str, training: bool) -> tuple[str, Any, Any]:
    """Write the rows of a file for HF: (path, examples, features)."""
    examples = read_squad(file, training, True)
    features = build_features(examples, _tokenizer(args), 384, 128, 64, training)
    names = ["input_ids", "input_mask", "segment_ids"] + ["start_positions", "end_positions"] * training
    path = os.path.join(folder, "train.npz" if training else "dev.npz")
    np.savez(path, **{name: getattr(features, name) for name in names})
    return path, examples, features


def _tokenizer(args: argparse.Namespace) -> Tokenizer:
    return Tokenizer(str(Path(args.model, "vocab.txt")))


def peer_speed(args: argparse.Namespace) -> dict[str, Any]:
    """Measure HF's figures by precision; bfloat16 only if the processor supports it."""
    with tempfile.TemporaryDirectory() as folder:
        path = peer_rows(args, folder, args.train, True)[0]
        common = (
            "finetune", "--rows", path, "--model", args.model, "--batch", args.batch, "--steps", args.steps,
        )  # fmt: skip
        made = {"float32": rows.peer(*common, threads=args.threads)}
        if "avx512_bf16" in Path("/proc/cpuinfo").read_text():
            made["bfloat16"] = rows.peer(*common, "--bf16", threads=args.threads)
    return made


def full(args: argparse.Namespace, seed: int) -> None:
    """Train for whole epochs; print EM and F1."""
    args.seed = seed
    with tempfile.TemporaryDirectory() as folder:
        dev = f"predict_file={os.path.abspath(args.full)}"
        train(args, folder, f"num_train_epochs={args.epochs}", dev)
        found = Path(folder, "latest/predictions")
        held = [json.loads((found / (n + ".json")).read_text()) for n in ("predictions", "nbest_predictions")]
        figures(args, f"bert, seed {seed}", *held)


def peer_full(args: argparse.Namespace, seed: int) -> None:
    """Train HF for as long on the same rows; answer with the same rules, so that only the models differ."""
    with tempfile.TemporaryDirectory() as folder:
        path = peer_rows(args, folder, args.train, True)[0]
        dev, examples, features = peer_rows(args, folder, args.full, False)
        logits = os.path.join(folder, "logits.npz")
        done = rows.peer(
            "finetune", "--rows", path, "--model", args.model, "--batch", args.batch, "--epochs",
            args.epochs, "--rate", args.rate, "--seed", seed, "--dev", dev, "--logits", logits,
            threads=args.threads,
        )  # fmt: skip
        if done is None:
            return rows.show("HF PyTorch", None, [])
        held, texts = np.load(logits), AnswerText(_tokenizer(args).vocab)
        options = Options(version_2_with_negative=True)
        made = find_answers(examples, features, held["start"], held["end"], texts, options)
        figures(args, f"HF PyTorch, seed {seed}, {done['seconds']:.0f} s", made.predictions, made.nbest)


def figures(args: argparse.Namespace, name: str, answers: dict[str, str], nbest: dict[str, Any]) -> None:
    """Print the official script's figures, and F1 ignoring "no answer", to measure span extraction alone."""
    dataset = json.loads(Path(args.full).read_text(encoding="utf-8"))
    made = evaluate(dataset, answers)
    spans = {key: next((e["text"] for e in entries if e["text"]), "") for key, entries in nbest.items()}
    made.update(span_figures(read_questions(dataset), spans))
    parts = [f"{key} {made[key]:.2f}" for key in ("exact", "f1", "HasAns_f1", "NoAns_f1", "span_f1")]
    print(f"{name:<44} {'  '.join(parts)}", flush=True)


def main() -> None:
    """Measure and print."""
    options = rows.parser(__doc__, batch=16, steps=30, threads=2, seed=1, seeds=2, peer_seeds=1, epochs=3)
    options.add_argument("train", nargs="?", default=train_file())
    options.add_argument("model", nargs="?", default=None)
    options.add_argument("--batching", default="bucket", choices=("pad", "bucket", "pack"))
    options.add_argument("--rate", type=float, default=1e-4)
    options.add_argument("--full", metavar="dev.json", default="")
    args = options.parse_args()
    args.model = args.model or str(pretrained())
    mine = {"examples_per_second": speed(args)}
    rows.show(f"bert, {args.batching}, float32", mine, ["examples_per_second"])
    for precision, theirs in peer_speed(args).items():
        ratio = mine["examples_per_second"] / theirs["examples_per_second"] if theirs else 0.0
        note = f"bert is {ratio:.2f} times that" if theirs else ""
        rows.show(f"HF PyTorch, {precision}", theirs, ["examples_per_second"], note)
    for seed in range(args.seeds if args.full else 0):
        full(args, seed + 1)
    for seed in range(args.peer_seeds if args.full else 0):
        peer_full(args, seed + 1)


if __name__ == "__main__":
    main()
