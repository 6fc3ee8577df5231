"""Compare whole programs that answer a question file: ours and transformers', in features per second.

    python benchmarks/answering.py [--file dev.json] [--limit 300] [--checkpoint FOLDER] [--peers PYTHON]

Ours: run_squad with TensorFlow, and with its exports onnx and onnx-int8, from start to scores.
Theirs: torch_answers.py, transformers' BertForQuestionAnswering from start to logits (without answers, in
their favour), padded to 384 as run_qa.py pads, and in sorted batches. All with the same questions, weights
and threads; each rate counts the program's own windows. Their interpreter: .venv-peers, with torch and
transformers. --checkpoint: a fine-tuned model; default: MiniLM with a new head, whose F1 says nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)
SHARED = Path(os.environ.get("NPU_LAUNCH_SHARED", str(ROOT.parent / "shared")))
_ENDED = re.compile(r"EM ([\d.]+)  F1 ([\d.]+)")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--file", type=Path, default=SHARED / "data" / "squad2" / "dev.json")
    parser.add_argument("--limit", type=int, default=300, help="questions, in whole passages; 0: all")
    parser.add_argument("--checkpoint", default="", help="folder or prefix of a fine-tuned model")
    parser.add_argument("--peers", default=str(ROOT / ".venv-peers" / "bin" / "python"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=1, help="times; the best counts")
    args = parser.parse_args()
    if not args.file.is_file():
        sys.exit(f"answering.py: {args.file}: no such file; give a SQuAD file with --file")
    with tempfile.TemporaryDirectory() as folder:
        compare(args, Path(folder))


def compare(args: argparse.Namespace, folder: Path) -> None:
    """Export the model, run each program, print a row for it."""
    os.environ.update(OMP_NUM_THREADS=str(args.threads), TF_CPP_MIN_LOG_LEVEL="2")
    questions = folder / "questions.json"
    print(f"{shorten(args.file, args.limit, questions)} questions, {args.threads} threads")
    checkpoint, extra = args.checkpoint or new_head(folder), []
    if not args.checkpoint:
        from benchmarks.inputs import pretrained

        extra = ["--config", str(pretrained() / "config.json"), "--vocab", str(pretrained() / "vocab.txt")]
    for form in ("safetensors", "onnx", "onnx-int8"):
        words = ["-m", "bert.export", checkpoint, str(folder / form), "--format", form, *extra]
        subprocess.run([sys.executable, *words], cwd=str(ROOT), check=True, stdout=subprocess.DEVNULL)
    rows = [
        ("run_squad, TensorFlow", ours(folder, "safetensors", "tensorflow")),
        ("run_squad, onnxruntime", ours(folder, "onnx", "onnxruntime")),
        ("run_squad, onnxruntime, int8", ours(folder, "onnx-int8", "onnxruntime")),
    ]
    if os.path.exists(args.peers):
        rows += [(f"transformers, {way}", theirs(folder, args.peers, way)) for way in ("padded", "sorted")]
    else:
        print(f"{args.peers}: no such file; transformers is not measured")
    timed = []
    for name, row in rows:
        seconds = min([row["run"]() for _ in range(args.repeat)])
        timed.append((name, seconds, row["features"]() / seconds, row["figures"]()))
    best = max((rate for name, _, rate, _ in timed if name.startswith("transformers")), default=0.0)
    for name, seconds, rate, figures in timed:
        against = f"{rate / best:5.2f} times transformers' best" if best else ""
        print(f"{name:<30} {rate:6.1f} features/s  {seconds:6.1f} s  {against}  {figures}")


def shorten(source: Path, limit: int, target: Path) -> int:
    """Write the first passages that hold `limit` questions; return how many they are."""
    document, taken, kept = json.loads(source.read_text()), 0, []
    for article in document["data"]:
        for paragraph in article["paragraphs"]:
            if not limit or taken < limit:
                taken += len(paragraph["qas"])
                kept.append({"title": article["title"], "paragraphs": [paragraph]})
    target.write_text(json.dumps({"version": "v2.0", "data": kept}))
    return taken


def new_head(folder: Path) -> str:
    """Save MiniLM with a head that is the same each time."""
    from benchmarks.inputs import pretrained
    from benchmarks.predict import with_head

    return with_head(pretrained(), str(folder))


def ours(folder: Path, model: str, engine: str) -> dict[str, Any]:
    """Prepare a run of run_squad."""
    words = [
        sys.executable, "squad/run_squad.py", "--do_predict", f"--predict_file={folder / 'questions.json'}",
        f"--init_checkpoint={folder / model}", f"--engine={engine}", "--version_2_with_negative",
        "--max_seq_length=384", "--doc_stride=128", f"--output_dir={folder / (engine + model)}",
    ]  # fmt: skip
    return program(words)


def theirs(folder: Path, python: str, way: str) -> dict[str, Any]:
    """Prepare a run of transformers."""
    script = str(ROOT / "benchmarks" / "torch_answers.py")
    return program([python, script, str(folder / "safetensors"), str(folder / "questions.json"), way])


def program(words: list[str]) -> dict[str, Any]:
    """Prepare a program: run() returns its seconds, features() and figures() read what it printed."""
    held: dict[str, str] = {}

    def run() -> float:
        begin = time.perf_counter()
        done = subprocess.run(words, cwd=str(ROOT), capture_output=True)
        seconds = time.perf_counter() - begin
        held["out"] = done.stdout.decode(errors="replace")
        if done.returncode:
            sys.exit(f"answering.py: {' '.join(words)}\n{held['out']}{done.stderr.decode(errors='replace')}")
        return seconds

    def features() -> int:
        found = re.search(r"(\d[\d,]*) features", held["out"])
        return int(found.group(1).replace(",", "")) if found else 0

    def figures() -> str:
        found = _ENDED.search(held["out"])
        return f"EM {found.group(1)} F1 {found.group(2)}" if found else ""

    return {"run": run, "features": features, "figures": figures}


if __name__ == "__main__":
    main()
