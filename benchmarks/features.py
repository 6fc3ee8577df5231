"""Time the steps from SQuAD JSON to arrays for 130,000 questions, the size of SQuAD 2.0's training set.

    python benchmarks/features.py [train.json] [--vocab_file vocab.txt] [--questions 130000]

The file's articles are repeated under new ids; in the second measurement every copy spells its rare words
differently, so that there are about as many distinct words as in the real training set. Each measurement is
a process of its own, whose peak memory is shown. The third one only tokenises the same pairs with the
fast tokenizer as Hugging Face's library configures it, on a part of the questions.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from benchmarks.inputs import pretrained, train_file  # noqa: E402

SIZES = {"max_seq_length": 384, "doc_stride": 128, "max_query_length": 64}
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def repeat(articles: list[Any], questions: int, anew: bool) -> list[Any]:
    """Repeat articles until they have at least that many questions."""
    words = Counter(w for a in articles for p in a["paragraphs"] for w in p["context"].split(" "))
    rare = {word for word, times in words.items() if times <= 2}
    data: list[Any] = []
    count = copy = 0
    while count < questions:
        turned = LETTERS[copy % 26 :] + LETTERS[: copy % 26]
        table = str.maketrans(LETTERS, turned) if anew else {}
        for article in articles:
            paragraphs = [respell(p, rare, table, copy) for p in article["paragraphs"]]
            count += sum(len(p["qas"]) for p in paragraphs)
            data.append({"title": "", "paragraphs": paragraphs})
        copy += 1
    return data


def respell(paragraph: Any, rare: Any, table: dict[int, str], copy: int) -> Any:
    """Copy a paragraph; rare words of the context get other last letters, so that offsets stay."""
    words = paragraph["context"].split(" ")
    context = " ".join(w[:-2] + w[-2:].translate(table) if w in rare else w for w in words)
    qas = []
    for qa in paragraph["qas"]:
        answers = [(a["answer_start"], len(a["text"])) for a in qa["answers"]]
        cut = [{"text": context[s : s + n], "answer_start": s} for s, n in answers]
        qas.append(dict(qa, id=f"{qa['id']}-{copy}", answers=cut))
    return {"context": context, "qas": qas}


def features(path: str, vocab_file: str) -> int:
    """Build training features as run_squad does, including token maps; return the number of questions."""
    from squad.data.examples import read_squad
    from squad.data.features import build_features
    from squad.data.tokenizer import Tokenizer

    examples = read_squad(path, training=True, version_2_with_negative=True)
    build_features(examples, Tokenizer(vocab_file), training=True, **SIZES)
    return len(examples)


def library(path: str, vocab_file: str) -> int:
    """Tokenise pairs of question and passage, including windows, with the library alone."""
    from tokenizers import BertWordPieceTokenizer

    tokenizer = BertWordPieceTokenizer(vocab_file)
    tokenizer.enable_truncation(SIZES["max_seq_length"], SIZES["doc_stride"], "only_second")
    tokenizer.enable_padding(length=SIZES["max_seq_length"])
    data = json.loads(Path(path).read_text(encoding="utf-8"))["data"]
    paragraphs = [paragraph for article in data for paragraph in article["paragraphs"]]
    pairs = [(qa["question"], paragraph["context"]) for paragraph in paragraphs for qa in paragraph["qas"]]
    for start in range(0, len(pairs), 1000):
        tokenizer.encode_batch(pairs[start : start + 1000])
    return len(pairs)


def measure(what: str, path: str, vocab_file: str) -> dict[str, float]:
    """Run one measurement in a new process."""
    command = [sys.executable, __file__, path, "--vocab_file", vocab_file, "--measure", what]
    return json.loads(subprocess.check_output(command, universal_newlines=True).splitlines()[-1])


def child(what: str, path: str, vocab_file: str) -> None:
    """Measure in this process."""
    begin = time.perf_counter()
    questions = {"features": features, "library": library}[what](path, vocab_file)
    seconds = time.perf_counter() - begin
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"questions": questions, "seconds": seconds, "megabytes": memory}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", default=train_file(), help="SQuAD 2.0 training JSON")
    parser.add_argument("--vocab_file", help="default: that of the demo's weights")
    parser.add_argument("--questions", type=int, default=130000)
    parser.add_argument("--measure", choices=["features", "library"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.vocab_file = args.vocab_file or str(pretrained() / "vocab.txt")
    if args.measure:
        child(args.measure, args.file, args.vocab_file)
        return
    articles = json.loads(Path(args.file).read_text(encoding="utf-8"))["data"]
    rows = (
        ("library, tokens alone", "library", args.questions // 10, False),
        ("features, file repeated", "features", args.questions, False),
        ("features, rare words new in every copy", "features", args.questions, True),
    )
    peer = 0.0
    print(f"{len(os.sched_getaffinity(0))} cores")
    print(f"{'':<40} {'questions':>10} {'seconds':>8} {'questions/s':>12} {'times':>8} {'peak MB':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for title, what, questions, anew in rows:
            path = os.path.join(folder, "squad.json")
            document = {"version": "v2.0", "data": repeat(articles, questions, anew)}
            Path(path).write_text(json.dumps(document), encoding="utf-8")
            found = measure(what, path, args.vocab_file)
            rate = found["questions"] / found["seconds"]
            peer = peer or rate
            speed = f"{found['questions']:10.0f} {found['seconds']:8.2f} {rate:12.0f} {rate / peer:8.1f}"
            print(f"{title:<40} {speed} {found['megabytes']:8.0f}", flush=True)


if __name__ == "__main__":
    main()
