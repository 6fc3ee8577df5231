"""Check the flags of run_squad before anything starts: files, sizes, shapes. No TensorFlow, no numpy.

`python -m squad.check --flag=value ...` prints {"findings": [{"key", "message"}], "notes": ["..."]} and
exits with 0 if there are no findings, else with 2; npu-launch runs it before it makes a run folder.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from typing import Any, Callable, Iterator, Mapping, Sequence

from bert import names
from bert.backend.npu_options import NpuOptions
from bert.checkpoints import absent, index
from bert.config import BertConfig
from bert.train_config import HIGHEST_SCALE
from squad.flags import Finding, Parsed, SquadFlags, fields, parse, resolve_paths


def check(argv: Sequence[str], environ: Mapping[str, str]) -> Parsed:
    """Parse and check a command line; in the returned flags every path is absolute and filled in."""
    flags, findings, notes = parse(argv)
    flags = with_model_files(resolve_paths(flags, environ))
    if not findings:
        for rule in (_tasks, _required, _files, _ranges):
            findings.extend(rule(flags))
    if not findings:
        findings.extend(_model(flags))
    launched = environ.get("NPU_LAUNCH_RANK_DIR") or environ.get("NPU_LAUNCH_CHECK")
    if not flags.output_dir and not launched:
        findings.append(("output_dir", "missing; give the folder for checkpoints and predictions"))
    return Parsed(flags, findings, notes)


def with_model_files(flags: SquadFlags) -> SquadFlags:
    """Take configuration and vocabulary from the init_checkpoint's folder unless they are given."""
    folder = flags.init_checkpoint
    folder = folder if os.path.isdir(folder) else os.path.dirname(folder)
    changes: dict[str, Any] = {}
    for flag, candidates in (
        ("bert_config_file", ("bert_config.json", "config.json")),
        ("vocab_file", ("vocab.txt",)),
    ):
        found = [p for p in (os.path.join(folder, name) for name in candidates) if os.path.isfile(p)]
        if folder and found and not getattr(flags, flag):
            changes[flag] = found[0]
    return dataclasses.replace(flags, **changes)


def _tasks(flags: SquadFlags) -> Iterator[Finding]:
    if not (flags.do_train or flags.do_predict):
        yield "do_train", "nothing to do; give do_train=True, do_predict=True or both"
    if flags.do_predict and not flags.do_train and not flags.init_checkpoint:
        yield "init_checkpoint", "missing; give the fine-tuned checkpoint to predict with"
    if flags.use_tfrecord and flags.do_train and not flags.input_files_dir:
        yield "use_tfrecord", "no cache to reuse; give its folder as input_files_dir"


def _required(flags: SquadFlags) -> Iterator[Finding]:
    needed = [("vocab_file", True), ("bert_config_file", True)]
    needed += [("train_file", flags.do_train), ("predict_file", flags.do_predict)]
    for name, wanted in needed:
        if wanted and not getattr(flags, name):
            yield name, f"missing; give {fields()[name].metadata['help']}"


def _files(flags: SquadFlags) -> Iterator[Finding]:
    wanted = {"train_file": flags.do_train, "predict_file": flags.do_predict}
    for name, field in fields().items():
        value = getattr(flags, name)
        if field.metadata["path"] == "in" and value and wanted.get(name, True):
            if not os.path.isfile(value):
                yield name, f"{value}: no such file"
            elif not os.access(value, os.R_OK):
                yield name, f"{value}: not readable by this user"
    path = flags.init_checkpoint
    if path and index.find(path) is None:
        yield "init_checkpoint", f"{path}: {absent.explain(path)}"


_AT_LEAST_ONE = (
    "train_batch_size", "predict_batch_size", "max_seq_length", "doc_stride", "max_query_length",
    "num_accumulation_steps", "n_best_size", "max_answer_length", "keep_checkpoints",
    "display_loss_steps", "iterations_per_loop",
)  # fmt: skip


def _ranges(flags: SquadFlags) -> Iterator[Finding]:
    for name in _AT_LEAST_ONE:
        if getattr(flags, name) < 1:
            yield name, f"{getattr(flags, name)} is below 1"
    for name in ("learning_rate", "num_train_epochs", "num_train_steps", "global_batch_size"):
        if getattr(flags, name) < 0:
            yield name, f"{getattr(flags, name)} is negative"
    if not 0 <= flags.warmup_proportion < 1:
        yield "warmup_proportion", f"{flags.warmup_proportion} is outside 0 to 1"
    if flags.dropout_rate != -1 and not 0 <= flags.dropout_rate < 1:
        yield "dropout_rate", f"{flags.dropout_rate} is outside 0 to 1, and not -1"
    yield from _loss_scale(flags)
    yield from NpuOptions.from_flags(flags).problems()
    length, query = flags.max_seq_length, flags.max_query_length
    if query + 3 >= length:
        yield "max_seq_length", f"{length} leaves no room for a passage beside a question of {query} tokens"


def _loss_scale(flags: SquadFlags) -> Iterator[Finding]:
    """Refuse scales below 1 or beyond float32, and nan, which compares false with everything."""
    scale, first = flags.npu_bert_loss_scale or 0.0, flags.init_loss_scale_value
    if not (scale <= 0 or 1 <= scale <= HIGHEST_SCALE):
        allowed = f"-1 (off), 0 (dynamic), or 1 to {HIGHEST_SCALE:g}"
        yield "npu_bert_loss_scale", f"{scale} is not a loss scale; give {allowed}"
    if not 1 <= first <= HIGHEST_SCALE:
        yield "init_loss_scale_value", f"{first} is not a loss scale; give 1 to {HIGHEST_SCALE:g}"


def _model(flags: SquadFlags) -> Iterator[Finding]:
    """Compare vocabulary, configuration and checkpoint with each other."""
    try:
        config = BertConfig.from_file(flags.bert_config_file)
    except (ValueError, KeyError, TypeError) as error:
        yield "bert_config_file", f"{flags.bert_config_file}: {error}"
        return
    with open(flags.vocab_file, "rb") as stream:
        entries = sum(1 for _ in stream)
    if entries != config.vocab_size:
        yield (
            "vocab_file",
            f"{flags.vocab_file} has {entries} entries, {flags.bert_config_file} says vocab_size"
            f" {config.vocab_size}; give files of the same model",
        )
    length, positions = flags.max_seq_length, config.max_position_embeddings
    if length > positions:
        yield "max_seq_length", f"{length} is more than the model's {positions} positions"
    if flags.init_checkpoint:
        yield from _shapes(flags.init_checkpoint, config)


def _shapes(path: str, config: BertConfig) -> Iterator[Finding]:
    try:
        held = names.to_google(index.describe(path))
    except (OSError, ValueError) as error:
        yield "init_checkpoint", f"{path}: {error}"
        return
    for problem in names.differences(held, config):
        yield "init_checkpoint", f"{path}: {problem}"


def main(argv: Sequence[str] | None = None, write: Callable[[str], object] = sys.stdout.write) -> int:
    """Print the findings as JSON; return the exit code."""
    environ = dict(os.environ, NPU_LAUNCH_CHECK="1")
    _, findings, notes = check(sys.argv[1:] if argv is None else argv, environ)
    answer = {
        "findings": [{"key": key, "message": message} for key, message in findings],
        "notes": [f"{key}: {message}" for key, message in notes],
    }
    write(json.dumps(answer) + "\n")
    return 2 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
