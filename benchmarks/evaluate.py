"""Time squad/evaluate.py on 11,873 questions, the size of SQuAD 2.0's development set.

    python benchmarks/evaluate.py [--dev dev.json] [--eval_script evaluate-v2.0.py]

Whole programs are timed, from start to the printed figures, without and with no-answer scores. They are
compared with the official script if it is given; else with a plain implementation of the official rules
below, question by question and reference by reference, with the import of numpy that the official script
has too.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import random
import re
import string
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("NPU_LAUNCH_SHARED", str(ROOT.parent / "shared")))
QUESTIONS = 11873


def make_dev(source: Path) -> dict[str, Any]:
    """Repeat a data set until it has QUESTIONS questions, with new ids."""
    articles = json.loads(source.read_text(encoding="utf-8"))["data"] if source.is_file() else invented()
    data: list[Any] = []
    count = 0
    while count < QUESTIONS:
        for article in articles:
            for paragraph in article["paragraphs"]:
                qas = [dict(qa, id=f"q{count + n:05d}") for n, qa in enumerate(paragraph["qas"])]
                qas = qas[: QUESTIONS - count]
                count += len(qas)
                data.append({"paragraphs": [{"context": paragraph["context"], "qas": qas}]})
    return {"version": "v2.0", "data": data}


def invented() -> list[Any]:
    """Make questions of random words if there is no data set: half have no answer, the others three."""
    draw = random.Random(1)
    words = ["the"] * 8 + ["".join(draw.choice("abcdefgh-.") for _ in range(6)) for _ in range(500)]
    qas = []
    for number in range(QUESTIONS):
        texts = [" ".join(draw.choice(words) for _ in range(draw.randint(1, 6))) for _ in range(3)]
        answers = [{"text": text, "answer_start": 0} for text in texts] if number % 2 else []
        qas.append({"id": "", "question": "?", "is_impossible": not answers, "answers": answers})
    return [{"paragraphs": [{"context": " ".join(words), "qas": qas}]}]


def make_predictions(dev: dict[str, Any]) -> tuple[dict[str, str], dict[str, float]]:
    """Answer a third correctly, a third with extra words, a third with nothing."""
    draw = random.Random(2)
    predictions, odds = {}, {}
    for article in dev["data"]:
        for qa in article["paragraphs"][0]["qas"]:
            text = qa["answers"][0]["text"] if qa["answers"] else ""
            predictions[qa["id"]] = draw.choice([text, "the other " + text, ""])
            odds[qa["id"]] = draw.gauss(0, 5)
    return predictions, odds


def plain(dev_file: str, prediction_file: str, odds_file: str = "") -> dict[str, float]:
    """Apply the official rules: each text is normalised again wherever it is needed."""
    import numpy  # noqa: F401  # as the official script does at its top

    with open(dev_file, encoding="utf-8") as one, open(prediction_file, encoding="utf-8") as two:
        dev, predictions = json.load(one)["data"], json.load(two)
    exact, f1, has_answer = {}, {}, {}
    for article in dev:
        for paragraph in article["paragraphs"]:
            for qa in paragraph["qas"]:
                references = [a["text"] for a in qa["answers"] if normal(a["text"])] or [""]
                given = predictions[qa["id"]]
                exact[qa["id"]] = max(int(normal(text) == normal(given)) for text in references)
                f1[qa["id"]] = max(overlap(text, given) for text in references)
                has_answer[qa["id"]] = bool(qa["answers"])
    odds = {}
    if odds_file:
        with open(odds_file, encoding="utf-8") as stream:
            odds = json.load(stream)
    result = {"total": len(exact)}
    for name, scores in (("exact", exact), ("f1", f1)):
        kept = [s if odds.get(k, 0.0) <= 1.0 else float(not has_answer[k]) for k, s in scores.items()]
        result[name] = 100.0 * sum(kept) / len(kept)
    if odds_file:
        for name, scores in (("exact", exact), ("f1", f1)):
            result["best_" + name] = best(scores, predictions, odds, has_answer)
    return result


def normal(text: str) -> str:
    marks = set(string.punctuation)
    kept = "".join(char for char in text.lower() if char not in marks)
    return " ".join(re.sub(re.compile(r"\b(a|an|the)\b", re.UNICODE), " ", kept).split())


def overlap(reference: str, given: str) -> float:
    left, right = normal(reference).split(), normal(given).split()
    if not left or not right:
        return int(left == right)
    same = sum((collections.Counter(left) & collections.Counter(right)).values())
    return 2.0 * same / (len(left) + len(right))


def best(scores: Any, predictions: Any, odds: Any, has_answer: Any) -> float:
    current = top = float(sum(not value for value in has_answer.values()))
    for key in sorted(odds, key=lambda k: odds[k]):
        current += scores[key] if has_answer[key] else (-1 if predictions[key] else 0)
        top = max(top, current)
    return 100.0 * top / len(scores)


def timed(command: list[str], times: int) -> tuple[float, dict[str, float]]:
    """Return the shortest wall time of several runs, and the printed figures."""
    shortest = float("inf")
    for _ in range(times):
        begin = time.perf_counter()
        out = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
        shortest = min(shortest, time.perf_counter() - begin)
    return shortest, json.loads(out)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dev", type=Path, default=SHARED / "data" / "squad2" / "dev.json")
    parser.add_argument("--eval_script", help="the official evaluate-v2.0.py")
    parser.add_argument("--times", type=int, default=5, help="runs of each; the shortest counts")
    parser.add_argument("--plain", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.plain:
        print(json.dumps(plain(*args.plain)))
        return
    with tempfile.TemporaryDirectory() as folder:
        compare(args, Path(folder))


def compare(args: argparse.Namespace, folder: Path) -> None:
    """Write the files, run both sides, print the table."""
    dev = make_dev(args.dev)
    predictions, odds = make_predictions(dev)
    files = []
    for name, value in (("dev", dev), ("predictions", predictions), ("odds", odds)):
        files.append(str(folder / (name + ".json")))
        Path(files[-1]).write_text(json.dumps(value), encoding="utf-8")
    other_name = "official script" if args.eval_script else "plain statement"
    print(f"{QUESTIONS} questions; shortest of {args.times} runs, whole programs")
    for label, option in (("exact and F1", []), ("and best thresholds", ["--na-prob-file", files[2]])):
        ours, figures = timed(
            [sys.executable, str(ROOT / "squad" / "evaluate.py"), *files[:2], *option], args.times
        )
        command = [args.eval_script, *files[:2], *option] if args.eval_script else [__file__, "--plain"]
        command += [] if args.eval_script else files[: 2 + bool(option)]
        theirs, expected = timed([sys.executable, *command], args.times)
        different = [
            name for name in expected if abs(figures.get(name, expected[name]) - expected[name]) > 1e-9
        ]
        verdict = f"figures differ: {', '.join(different)}" if different else "same figures"
        times = f"{other_name} {theirs:.3f} s   {theirs / ours:.1f} times"
        print(f"{label:<20} squad/evaluate.py {ours:.3f} s   {times}   {verdict}")


if __name__ == "__main__":
    main()
