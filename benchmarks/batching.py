"""Time training steps with rows padded, of similar length, and packed: real examples per second.

    python benchmarks/batching.py [train.json [MODEL_FOLDER]] [--batch 8] [--steps 40]

MODEL_FOLDER contains vocab.txt, config.json (or bert_config.json) and weights. Every batching mode makes
steps of the same number of rows with the same trainer on one device; the steps before the first progress
record are left out, as TensorFlow warms up. `columns` counts all tokens computed for one example, including
padding.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from benchmarks.inputs import pretrained, train_file  # noqa: E402
from bert import backend as backends  # noqa: E402
from bert import trainer  # noqa: E402
from bert.cluster import Cluster  # noqa: E402
from bert.config import BertConfig  # noqa: E402
from bert.train_config import TrainConfig  # noqa: E402
from squad.data import batching  # noqa: E402
from squad.data.data_order import MODES  # noqa: E402
from squad.data.examples import read_squad  # noqa: E402
from squad.data.features import Features, build_features  # noqa: E402
from squad.data.tokenizer import Tokenizer  # noqa: E402

RECORDS = 5  # progress records of a run; the first one is left out


def cost(features: Features, mode: str, batch: int, steps: int) -> tuple[float, float]:
    """Count (real examples, tokens computed) per step."""
    order = batching.make_order(features, batch, 1, True, mode)
    examples = tokens = 0.0
    for made in batching.train_batches(features, order, 0, 1, 0, steps):
        examples += float(made["global_weight"])
        tokens += made["input_ids"].size
    return examples / steps, tokens / steps


def speed(features: Features, mode: str, args: argparse.Namespace, config: BertConfig) -> float:
    """Train some steps; return the real examples per second."""
    order = batching.make_order(features, args.batch, 1, True, mode)
    softmax_over = "row" if mode == "pad" else "tokens"
    shown = max(1, args.steps // RECORDS)
    settings = TrainConfig(args.steps, softmax_over=softmax_over, display_loss_steps=shown)
    backend = backends.create(Cluster.from_environ({}))
    with tempfile.TemporaryDirectory() as folder:
        try:
            trainer.train(
                config,
                settings,
                lambda start: batching.train_batches(features, order, 0, 1, start, args.steps),
                backend,
                output_dir=folder,
                init_checkpoint=args.model,
                rank_dir=folder,
            )
        finally:
            backend.close()
        lines = Path(folder, "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rates = [json.loads(line)["examples_per_second"] for line in lines][1:]
    return harmonic(rates)


def harmonic(rates: list[float]) -> float:
    """Average rates that belong to equal amounts of work."""
    return len(rates) / sum(1 / rate for rate in rates)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", default=train_file(), help="SQuAD 2.0 training JSON")
    parser.add_argument("model", nargs="?", help="folder of vocabulary, configuration and weights")
    parser.add_argument("--batch", type=int, default=8, help="rows of a step")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--modes", default=",".join(MODES))
    args = parser.parse_args()
    args.model = args.model or str(pretrained())
    folder = Path(args.model)
    names = [name for name in ("bert_config.json", "config.json") if (folder / name).is_file()]
    config = BertConfig.from_file(str(folder / names[0]))
    examples = read_squad(args.file, training=True, version_2_with_negative=True)
    features = build_features(examples, Tokenizer(str(folder / "vocab.txt")), 384, 128, 64, True, maps=False)
    results: dict[str, tuple[float, float, float]] = {}
    for mode in args.modes.split(","):
        made, tokens = cost(features, mode, args.batch, args.steps)
        results[mode] = (made, tokens / made, speed(features, mode, args, config))
    print(f"{'batching':<8} {'examples/step':>14} {'columns/example':>18} {'examples/s':>12} {'times':>8}")
    first = next(iter(results.values()))[2]
    for mode, (made, columns, rate) in results.items():
        print(f"{mode:<8} {made:14.2f} {columns:18.1f} {rate:12.2f} {rate / first:8.2f}")


if __name__ == "__main__":
    main()
