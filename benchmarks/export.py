"""Compare what export writes with the checkpoint: size, rows per second of CPU time, differences of logits.

    python benchmarks/export.py [--checkpoint FOLDER] [--file dev.json] [--seconds 10]

On one thread and in CPU time, which other programs on the machine change less than the time of the clock: a
processor that others use is slower all the same, so compare rows of one run. A batch is the longest rows that
the file's questions make at its length. --checkpoint: a fine-tuned model, as for `npu-launch ask`; default:
MiniLM with a new head, whose logits are those of no answers.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)
os.environ.update(OMP_NUM_THREADS="1", TF_CPP_MIN_LOG_LEVEL="2")
SHARED = Path(os.environ.get("NPU_LAUNCH_SHARED", str(ROOT.parent / "shared")))
SHAPES = ((8, 160), (8, 384), (16, 96))  # rows and tokens of a batch
FORMATS = ("onnx", "onnx-int8")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--file", type=Path, default=SHARED / "data" / "squad2" / "dev.json")
    parser.add_argument("--checkpoint", default="", help="run, folder or prefix of a fine-tuned model")
    parser.add_argument("--seconds", type=float, default=10, help="of CPU time, for each figure")
    args = parser.parse_args()
    if not args.file.is_file():
        sys.exit(f"export.py: {args.file}: no such file; give a SQuAD file with --file")
    with tempfile.TemporaryDirectory() as folder:
        compare(args, folder)


def compare(args: argparse.Namespace, folder: str) -> None:
    """Export to each format, and print a row for the checkpoint and for each export."""
    from bert import backend as backends
    from bert import export, predictor
    from bert.checkpoints.chosen import chosen
    from bert.checkpoints.index import folder_of
    from bert.config import BertConfig
    from bert.onnx import files, session

    backend = backends.create_alone("cpu")
    checkpoint, source = chosen(args.checkpoint), Path(folder_of(chosen(args.checkpoint)))
    if not args.checkpoint:
        from benchmarks.inputs import pretrained
        from benchmarks.predict import with_head

        checkpoint, source = with_head(pretrained(), folder), pretrained()
    config, inputs = BertConfig.from_file(str(source / "config.json")), batches(args.file, source)
    print(f"{'':14}{'MB':>7}" + "".join(f"{f'{rows} x {columns}':>10}" for rows, columns in SHAPES)
          + "   features/s; largest and rms difference of a logit")  # fmt: skip
    with predictor.open(config, checkpoint, backend, config.gelu) as model:
        wanted = [model.run(batch) for batch in inputs]
        print(f"{'TensorFlow':21}{rates(model, inputs, args.seconds)}", flush=True)
    for form in FORMATS:
        target = os.path.join(folder, form)
        export.export(checkpoint, target, config, form, config.gelu)
        with session.open(target) as model:
            found = [model.run(batch) for batch in inputs]
            measured = rates(model, inputs, args.seconds)
        size = os.path.getsize(os.path.join(target, files.MODEL)) / 1e6
        print(f"{form:14}{size:7.1f}{measured}   {differences(wanted, found, inputs)}", flush=True)
    backend.close()


def batches(file: Path, source: Path) -> list[Any]:
    """Make a batch of each shape: the longest rows of the file's questions that are no longer than it."""
    import numpy as np

    from bert.predictor import KEYS
    from squad.data.examples import read_squad
    from squad.data.features import build_features
    from squad.data.tokenizer import Tokenizer

    made, examples = [], read_squad(str(file), False, True)
    for rows, columns in SHAPES:
        tokenizer = Tokenizer(str(source / "vocab.txt"))
        features = build_features(examples, tokenizer, columns, 128, 24, training=False)
        chosen = np.argsort(-features.lengths, kind="stable")[:rows]
        made.append({key: np.asarray(getattr(features, key)[chosen], np.int32) for key in KEYS})
    return made


def rates(model: Any, inputs: list[Any], seconds: float) -> str:
    """Measure the rows per second of CPU time for each batch."""
    cells = []
    for batch in inputs:
        model.run(batch)
        begin, runs = time.process_time(), 0
        while time.process_time() - begin < seconds:
            model.run(batch)
            runs += 1
        spent = time.process_time() - begin
        cells.append(f"{runs * len(batch['input_ids']) / spent:10.1f}")
    return "".join(cells)


def differences(wanted: list[Any], found: list[Any], inputs: list[Any]) -> str:
    """Compare the logits of the tokens that are no padding."""
    import numpy as np

    apart = np.concatenate([
        (one - other)[batch["input_mask"] > 0]
        for mine, theirs, batch in zip(wanted, found, inputs) for one, other in zip(mine, theirs)
    ])  # fmt: skip
    return f"{np.abs(apart).max():.2g}, {np.sqrt(np.mean(np.square(apart))):.2g}"


if __name__ == "__main__":
    main()
