"""Measure what whoever asks a model waits for: its start, the first answer, then answers a second.

    python benchmarks/ask.py CHECKPOINT [--file dev.json] [--limit 200] [--hf PYTHON]

CHECKPOINT is a fine-tuned one, as for `npu-launch ask`. Each row is a process of its own: TensorFlow, then
onnxruntime on an export of the checkpoint if it is installed, then, with --hf, transformers on safetensors of
the same checkpoint, by the Python of a venv that has it. Seconds from the start of the process until the
model is loaded; from there to the first answer; answers a second, asked one by one, and given together.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)
SHARED = Path(os.environ.get("NPU_LAUNCH_SHARED", str(ROOT.parent / "shared")))
BATCH = 8  # of transformers, which is given questions sorted by length

# What transformers 5 leaves to its user: it has no pipeline for questions any more.
HF = """
import json, sys, time
began, folder, file = float(sys.argv[1]), sys.argv[2], sys.argv[3]
batch, length, stride = map(int, sys.argv[4:])
import torch
from transformers import AutoModelForQuestionAnswering, AutoTokenizer
words = AutoTokenizer.from_pretrained(folder)
model = AutoModelForQuestionAnswering.from_pretrained(folder).eval()
pairs = json.load(open(file))
def answers(pairs):
    given = words([q for q, _ in pairs], [c for _, c in pairs], truncation="only_second", max_length=length, stride=stride,
                  return_overflowing_tokens=True, return_offsets_mapping=True, padding=True, return_tensors="pt")
    owners, places = given.pop("overflow_to_sample_mapping"), given.pop("offset_mapping")
    with torch.no_grad():
        out = model(**given)
    best = {}
    for row, owner in enumerate(owners.tolist()):
        inside = torch.tensor([s == 1 for s in given.sequence_ids(row)])
        start, end = (side[row].masked_fill(~inside, -1e4) for side in (out.start_logits, out.end_logits))
        allowed = torch.ones(len(start), len(start)).triu().tril(29).bool()
        scores = (start[:, None] + end[None, :]).masked_fill(~allowed, -1e9)
        place = int(scores.argmax())
        first, last = place // len(start), place % len(start)
        found = (float(scores[first, last]), int(places[row][first][0]), int(places[row][last][1]))
        best[owner] = max(best.get(owner, found), found)
    return [pairs[owner][1][best[owner][1]:best[owner][2]] for owner in range(len(pairs))]
loaded = time.monotonic()
answers(pairs[:1])
first = time.monotonic()
for pair in pairs:
    answers([pair])
alone = time.monotonic()
ordered = sorted(pairs, key=lambda pair: -len(pair[1]))
for begin in range(0, len(ordered), batch):
    answers(ordered[begin:begin + batch])
done = time.monotonic()
print(json.dumps([loaded - began, first - loaded, len(pairs) / (alone - first), len(pairs) / (done - alone)]))
"""  # noqa: E501


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("--file", type=Path, default=SHARED / "data" / "squad2" / "dev.json")
    parser.add_argument("--limit", type=int, default=200, help="number of questions, spread over the file")
    parser.add_argument("--hf", metavar="PYTHON", default="", help="a Python with transformers and torch")
    parser.add_argument("--worker", nargs=2, metavar=("BEGAN", "ENGINE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not args.file.is_file():
        sys.exit(f"ask.py: {args.file}: no such file; give a SQuAD file with --file")
    if args.worker:
        print(json.dumps(ask(args.checkpoint, args.file, float(args.worker[0]), args.worker[1])))
        return
    with tempfile.TemporaryDirectory() as folder:
        compare(args, Path(folder))


def compare(args: argparse.Namespace, folder: Path) -> None:
    """Print a row for each way to ask."""
    from squad.answerer import settle
    from squad.data.examples import read_squad

    everything = read_squad(str(args.file), False, True)
    examples = everything[:: max(1, len(everything) // args.limit)][: args.limit]
    pairs = [(example.question_text, example.context) for example in examples]
    file = folder / "pairs.json"
    file.write_text(json.dumps(pairs))
    own = [sys.executable, __file__, "--file", str(file), "--worker"]
    print(f"{len(pairs)} questions; seconds to load, seconds to the first answer, answers/s alone, together")
    row("TensorFlow", lambda now: [*own, now, "tensorflow", args.checkpoint])
    if importlib.util.find_spec("onnxruntime"):
        made = export(args.checkpoint, folder / "onnx", "onnx")
        row("onnxruntime", lambda now: [*own, now, "onnxruntime", made])
    if args.hf:
        held = export(args.checkpoint, folder / "hf", "safetensors")
        flags = settle(args.checkpoint).flags
        overlap = max(0, flags.max_seq_length // 2 - flags.doc_stride // 2)
        sizes = [str(size) for size in (BATCH, flags.max_seq_length, overlap)]
        row("transformers", lambda now: [args.hf, "-c", HF, now, held, str(file), *sizes])


def export(checkpoint: str, folder: Path, form: str) -> str:
    """Export the checkpoint that `npu-launch ask` would ask; return the folder."""
    from squad.answerer import settle

    prefix = settle(checkpoint).flags.init_checkpoint
    command = [sys.executable, "-m", "bert.export", prefix, str(folder), "--format", form]
    subprocess.run(command, check=True, capture_output=True, cwd=str(ROOT))
    return str(folder)


def row(name: str, command: Any) -> None:
    """Run a process that measures itself, and print what it says."""
    words = command(str(time.monotonic()))
    done = subprocess.run(words, capture_output=True, text=True, cwd=str(ROOT))
    if done.returncode:
        sys.exit(f"ask.py: {name}: {done.stderr[-2000:]}")
    start, first, alone, together = json.loads(done.stdout.splitlines()[-1])
    print(f"{name:<14}{start:>8.2f}{first:>9.3f}{alone:>9.1f}{together:>9.1f}", flush=True)


def ask(checkpoint: str, file: Path, began: float, engine: str) -> list[float]:
    """Load a model and ask it: the four figures of a row."""
    from squad.answerer import Answerer

    pairs = [(str(question), str(context)) for question, context in json.loads(file.read_text())]
    with Answerer(checkpoint, engine=engine) as model:
        loaded = time.monotonic()
        model.answer(*pairs[0])
        first = time.monotonic()
        for pair in pairs:
            model.answer(*pair)
        alone = time.monotonic()
    with Answerer(checkpoint, engine=engine, many=True) as model:
        again = time.monotonic()
        model.answers(pairs)
        done = time.monotonic()
    return [loaded - began, first - loaded, len(pairs) / (alone - first), len(pairs) / (done - again)]


if __name__ == "__main__":
    main()
