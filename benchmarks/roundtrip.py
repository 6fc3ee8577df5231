"""Count the answers of a file that can be given exactly: by Google's rules for words, and by characters.

    python benchmarks/roundtrip.py dev.json ... --vocab_file vocab.txt [--cased]

Each reference answer becomes the columns that training would mark, and these become text again, as if a model
had learnt the file perfectly. What is lost is lost by any model: in google mode to answers that are found by
their text, in both to tokens that hold more than the answer.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from squad.answers.answer_text import AnswerText  # noqa: E402
from squad.answers.nbest import Options, rank  # noqa: E402
from squad.data.examples import read_squad  # noqa: E402
from squad.data.features import build_features  # noqa: E402
from squad.data.tokenizer import Tokenizer  # noqa: E402

_LONGEST = 512


def returned(path: str, tokenizer: Tokenizer, split: str) -> tuple[int, int]:
    """Count the answers that come back exactly, and all of them."""
    examples = read_squad(path, True, True, skip_bad_answers=True, several="first", word_split=split)
    features = build_features(examples, tokenizer, _LONGEST, 128, 64, training=True)
    start, end = np.full((2, *features.input_ids.shape), -9, np.float32)
    rows = np.arange(len(features))
    start[rows, features.start_positions] = end[rows, features.end_positions] = 9
    start[:, 0] = end[:, 0] = -20  # windows without the answer
    features.token_is_max_context[rows, features.start_positions] = 1
    texts = AnswerText(tokenizer.vocab, *tokenizer.rules[:1], None, *tokenizer.rules[1:])
    found = rank(examples, features, start, end, texts, Options(1, _LONGEST))
    pairs = [(e.orig_answer_text, a.entries[0].text) for e, a in zip(examples, found) if not e.is_impossible]
    return sum(answer == text for answer, text in pairs), len(pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+")
    parser.add_argument("--vocab_file", required=True)
    parser.add_argument("--cased", action="store_true")
    args = parser.parse_args()
    tokenizer = Tokenizer(args.vocab_file, not args.cased)
    for path in args.files:
        for split in ("google", "cjk"):
            begin = time.perf_counter()
            exact, count = returned(path, tokenizer, split)
            seconds = time.perf_counter() - begin
            share = 100 * exact / max(1, count)
            print(f"{path} {split:<6} {exact} of {count} ({share:.2f} %) exact, {seconds:.1f} s", flush=True)


if __name__ == "__main__":
    main()
