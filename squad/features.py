"""Write the features of a file of questions, to debug data.

python -m squad.features FILE --vocab_file V --output F.npz [--is_training]
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any, Sequence

import numpy as np

from bert import text_rules
from squad.data.examples import Example, read_squad
from squad.data.features import Features, build_features
from squad.data.tokenizer import Tokenizer, read_vocabulary
from squad.errors import DataError
from squad.progress import progress_bar

__all__ = ["Features", "build_features", "main", "write_npz"]
_MOST = 1 << 20  # tokens


def write_npz(path: str, examples: Sequence[Example], features: Features) -> None:
    """Write the columns of all rows; those of the answers only if the features have them."""
    ids = np.array([example.qas_id for example in examples])
    columns: dict[str, Any] = {"qas_id": ids[features.example_index]}
    for name in (
        "doc_span_index", "input_ids", "input_mask", "segment_ids", "start_positions", "end_positions",
        "is_impossible", "token_to_orig_map", "token_is_max_context",
    ):  # fmt: skip
        values = getattr(features, name)
        if values is not None:
            columns[name] = values.astype(np.int32) if name == "token_to_orig_map" else values
    with open(path, "wb") as stream:
        np.savez_compressed(stream, **columns)


def _tokens(text: str) -> int:
    """Read a number of tokens."""
    value = int(text) if text.isdecimal() and len(text) < 10 else 0
    if not 1 <= value <= _MOST:
        raise argparse.ArgumentTypeError(f"{text!r:.40} is no number of tokens; give 1 to {_MOST}")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m squad.features", description="Write features as .npz.")
    parser.add_argument("file", help="questions: SQuAD JSON, rows as JSON, CSV or parquet")
    parser.add_argument("--vocab_file", required=True)
    parser.add_argument("--output", required=True, help="the .npz file to write")
    parser.add_argument("--is_training", action="store_true", help="write the answers' positions too")
    parser.add_argument("--max_seq_length", type=_tokens, default=384)
    parser.add_argument("--doc_stride", type=_tokens, default=128)
    parser.add_argument("--max_query_length", type=_tokens, default=64)
    parser.add_argument(
        "--cased",
        action="store_true",
        help="keep case and accents; default: as the files beside the vocabulary say",
    )
    parser.add_argument("--skip_bad_answers", action="store_true")
    parser.add_argument("--train_answers", choices=("first", "all", "most"), default="")
    parser.add_argument("--word_split", choices=("google", "cjk", "auto"), default="auto")
    return parser


def _tokenizer(vocab_file: str, cased: bool) -> Tokenizer:
    """Make a tokenizer that follows the files beside the vocabulary; `cased` comes first."""
    if cased:
        return Tokenizer(vocab_file, do_lower_case=False)
    words = read_vocabulary(vocab_file)
    found = text_rules.find([os.path.dirname(os.path.abspath(vocab_file))], {}, words)
    if not found.do_lower_case:
        print(f"squad.features: note: case is kept, as said by: {found.source}", file=sys.stderr)
    lower, chinese = found.do_lower_case is not False, found.tokenize_chinese_chars is not False
    return Tokenizer(vocab_file, lower, found.strip_accents, chinese)


def _run(args: argparse.Namespace) -> None:
    tokenizer = _tokenizer(args.vocab_file, args.cased)
    examples = read_squad(
        args.file, args.is_training, True, args.skip_bad_answers, args.train_answers,
        word_split=args.word_split, divide=tokenizer.rules[2],
    )  # fmt: skip
    sizes = (args.max_seq_length, args.doc_stride, args.max_query_length)
    with progress_bar("features") as bar:
        features = build_features(examples, tokenizer, *sizes, training=args.is_training, progress=bar)
    write_npz(args.output, examples, features)
    for note in examples.notes:
        print(note, file=sys.stderr)
    asked = len({example.qas_id for example in examples})  # with several answers there are more examples
    print(f"{args.output}: {len(features)} rows of {asked} questions")


def main(argv: Sequence[str] | None = None) -> int:
    """Write the features of a file; return the exit code."""
    args = _parser().parse_args(argv)
    try:
        _run(args)
    except OSError as error:
        print(f"squad.features: {args.output}: {error.strerror or error}", file=sys.stderr)
        return 2
    except (DataError, ValueError, MemoryError) as error:
        print(f"squad.features: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
