"""Ask a fine-tuned model: on a terminal, in JSON lines, or about all questions of a file.

    python -m squad.ask CHECKPOINT [--passage FILE] [QUESTION]
    python -m squad.ask CHECKPOINT < questions.jsonl > answers.jsonl
    python -m squad.ask CHECKPOINT --file questions.json > answers.jsonl
    python -m squad.ask CHECKPOINT --backend cpu ...                      where an NPU would be taken

CHECKPOINT is a TensorFlow prefix, a folder of checkpoints, a run's folder, a folder or file of safetensors,
or an .onnx file or its folder. How it is asked (lengths, case, threshold ...) is read from its files.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import typing
from typing import TYPE_CHECKING, Any, Callable, Optional, Sequence

from bert import environment
from bert.errors import TrainerError
from squad.asking import passages, view
from squad.errors import DataError
from squad.flag_parser import BOOLEANS
from squad.flags import SquadFlags, fields

if TYPE_CHECKING:
    from squad.answerer import Answerer

# Flags of run_squad that a model may be asked with.
FLAGS = (
    "version_2_with_negative", "null_score_diff_threshold", "max_answer_length", "n_best_size",
    "max_seq_length", "doc_stride", "max_query_length", "word_split", "do_lower_case", "strip_accents",
    "tokenize_chinese_chars", "vocab_file", "bert_config_file", "gelu", "predict_batch_size", "engine",
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; return the exit code: 1 if a question had an error, 2 if nothing could start."""
    environment.keep_descriptors()
    options = _parser().parse_intermixed_args(_with_values(sys.argv[1:] if argv is None else argv))
    for stream in (sys.stdout, sys.stderr):
        getattr(stream, "reconfigure", lambda **_: None)(errors="backslashreplace")
    try:
        return _run(options)
    except (TrainerError, DataError) as error:
        print(*(f"ask: {line}" for line in str(error).splitlines()), sep="\n", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever reads the answers has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="npu-launch ask",
        usage="npu-launch ask CHECKPOINT [--passage FILE | --file FILE] [--FLAG=VALUE ...] [QUESTION]",
        description="Ask a fine-tuned model about a passage: on a terminal, or in JSON lines.",
        epilog='JSON lines: {"question": ..., "context": ..., "id": ...} in, an answer with its place out.',
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("checkpoint", help="run, checkpoint, folder of safetensors, or .onnx file")
    add("question", nargs="?", default="", help="a question; without one, questions are read")
    add("--passage", metavar="FILE", default="", help="text to ask about; -: standard input")
    add("--file", default="", help="answer all questions of a file: SQuAD JSON, rows, CSV, parquet")
    add("--backend", choices=("auto", "cpu", "npu"), default="auto", help="device; default: an NPU, if any")
    described = fields()
    for name in FLAGS:
        add(f"--{name}", metavar="VALUE", help=described[name].metadata["help"])
    return parser


def _with_values(argv: Sequence[str]) -> list[str]:
    """Write out the value of a boolean flag, so that the word after it stays a word of its own."""
    kinds = typing.get_type_hints(SquadFlags)
    booleans = {f"--{name}" for name in FLAGS if kinds[name] in (bool, Optional[bool])}
    words, rest = [], list(argv)
    while rest:
        word = rest.pop(0)
        if word in booleans:
            word += "=" + (rest.pop(0) if rest and rest[0].lower() in BOOLEANS else "True")
        elif word.startswith("--no") and f"--{word[4:]}" in booleans:
            word = f"--{word[4:]}=False"
        words.append(word)
    return words


def _unclear(options: argparse.Namespace) -> str:
    """Say why it is not clear what is asked; "" if it is."""
    beside = [name for name in ("QUESTION", "--passage") if getattr(options, name.strip("-").lower())]
    if options.file and beside:
        return f"--file: its questions and passages are answered; leave {' and '.join(beside)} out"
    if options.passage == "-" and not options.question and not sys.stdin.isatty():
        return "--passage -: standard input is the passage, so no question is left to read; give a QUESTION"
    return ""


def _run(options: argparse.Namespace) -> int:
    unclear = _unclear(options)
    if unclear:
        raise DataError(unclear)
    from squad.answerer import Answerer, settle
    from squad.asking import lines

    given = {name: getattr(options, name) for name in FLAGS}
    piped = not sys.stdin.isatty()
    settings = settle(options.checkpoint, **given)
    passage = _passage(options, piped)

    def load(many: bool = False) -> Answerer:
        with environment.quiet():
            return Answerer(settings=settings, many=many, backend=options.backend)

    for name, text in settings.notes:
        print(f"ask: note: {name}: {text}", file=sys.stderr)
    if options.file:
        examples = lines.read_file(settings.flags, options.file)
        with load(many=True) as model:
            return 1 if lines.answer_examples(model, examples, sys.stdout.buffer) else 0
    if piped and not options.question:
        with load() as model:
            errors = lines.answer_lines(model, sys.stdin.fileno(), sys.stdout.buffer, passage or None)
            return 1 if errors else 0
    if options.question and passage:
        with load() as model:
            return _answer_one(model, options.question, passage)
    return _converse(load, passage, options.question)


def _passage(options: argparse.Namespace, piped: bool) -> str:
    """Read the passage that is given; with a question alone it may be piped in."""
    if options.passage == "-" or (piped and options.question and not options.passage and not options.file):
        return passages.from_stream(sys.stdin.buffer)
    return passages.read(options.passage) if options.passage else ""


def _answer_one(model: Any, question: str, passage: str) -> int:
    """Show the answer to a question on a terminal; write it as a JSON line elsewhere."""
    from squad.asking import lines, terminal

    [result] = model.results(model.examples([(question, passage)]))
    if not sys.stdout.isatty():
        lines.write(sys.stdout.buffer, 1, result)
    elif isinstance(result, DataError):
        print(f"ask: {result}", file=sys.stderr)
    else:
        print(*view.show(result, passage, model.settings.threshold, *terminal.looks()), sep="\n")
    return 1 if isinstance(result, DataError) else 0


def _converse(load: Callable[[], Any], passage: str, question: str) -> int:
    """Talk on the terminal; the model is loaded meanwhile."""
    from squad.asking import terminal
    from squad.asking.loading import Loading

    # Whoever started this in the background of a shell may have it ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    loading = Loading(load)
    try:
        terminal.Conversation(loading.result, terminal.line_editor(), terminal.waiting).run(passage, question)
    except KeyboardInterrupt:
        print()
        return loading.leave(130)
    return loading.leave(0)


if __name__ == "__main__":
    sys.exit(main())
