"""Check the flags of run_squad before anything starts: files, sizes, shapes. No TensorFlow, no numpy.

`python -m squad.check --flag=value ...` prints {"findings": [{"key", "message"}], "notes": ["..."]} and
exits with 0 if there are no findings, else with 2; npu-launch runs it before it makes a run folder.
"""

from __future__ import annotations

import json
import math
import os
import sys
from functools import partial
from typing import Callable, Iterator, Mapping, Sequence

from bert import backend as backends
from bert import files
from bert.backend.npu_options import NpuOptions
from bert.checkpoints import index
from bert.train_config import HIGHEST_SCALE
from squad import engine, evaluate, model_files, null_threshold, scoring
from squad.data import squad_file
from squad.errors import DataError
from squad.flags import Finding, Parsed, SquadFlags, fields, parse, resolve_paths
from squad.model_files import Report, with_model_files
from squad.presets import statements, with_preset


def check(argv: Sequence[str], environ: Mapping[str, str]) -> Parsed:
    """Parse and check a command line; in the returned flags paths are absolute and nothing is left open."""
    typed, findings, notes = parse(argv)
    given = resolve_paths(with_preset(typed), environ)
    flags = with_model_files(given)
    # Rank 0 writes; on the hosts of the others output_dir need not exist.
    folders = partial(_folders, writes=(environ.get("RANK_ID") or "0") == "0")
    findings = findings or _problems(flags, typed, (_tasks, _required, _files, folders, _ranges, _evaluation))
    if not findings:
        report = Report()
        flags = model_files.settle(flags, given, report)
        notes += [("preset", line) for line in statements(flags, _precision(flags, environ))]
        findings = [*report.findings, *_threshold(flags), *_references(flags)]
        notes += [*report.notes, *_unused(flags)]
    launched = environ.get("NPU_LAUNCH_RANK_DIR") or environ.get("NPU_LAUNCH_CHECK")
    if not flags.output_dir and not launched:
        findings.append(("output_dir", "missing; give the folder for checkpoints and predictions"))
    return Parsed(flags, findings, notes)


def asking(argv: Sequence[str], environ: Mapping[str, str]) -> Parsed:
    """Parse and check what a model needs that is only asked: the flags of its checkpoint and of texts."""
    typed, findings, notes = parse(argv)
    given = resolve_paths(typed, environ)
    flags = with_model_files(given)
    findings = findings or _problems(flags, typed, (_required, _files, _ranges))
    report = Report()
    if not findings:
        flags = model_files.settle(flags, given, report)
        findings = list(_threshold(flags))
    return Parsed(flags, [*findings, *report.findings], [*notes, *report.notes])


def _problems(
    flags: SquadFlags, typed: SquadFlags, rules: Sequence[Callable[[SquadFlags], Iterator[Finding]]]
) -> list[Finding]:
    """List what is wrong with the flags; with a model of another kind, this alone."""
    other = model_files.other_model(flags)
    if other:
        return [("bert_config_file", other)]
    found = list(engine.problems(flags, typed.init_checkpoint))
    return found + [finding for rule in rules for finding in rule(flags)]


def _precision(flags: SquadFlags, environ: Mapping[str, str]) -> str:
    """Name the types in which this machine's device computes."""
    if backends.choose(environ.get("NPU_LAUNCH_BACKEND", "auto")) == "npu":
        return " and ".join(NpuOptions.from_flags(flags).computes_in)
    return "bf16" if flags.mixed_precision else "fp32"


def _tasks(flags: SquadFlags) -> Iterator[Finding]:
    if not (flags.do_train or flags.do_predict):
        yield "do_train", "nothing to do; give do_train=True, do_predict=True or both"
    if flags.do_predict and not flags.do_train and not flags.init_checkpoint:
        own = index.find(flags.output_dir) if os.path.isdir(flags.output_dir) else None
        there = f", such as the newest in output_dir: {flags.output_dir}" if own else ""
        yield "init_checkpoint", f"missing; give the fine-tuned checkpoint to predict with{there}"
    if flags.use_tfrecord and flags.do_train and not flags.input_files_dir:
        yield "use_tfrecord", "no cache to reuse; give its folder as input_files_dir"


def _required(flags: SquadFlags) -> Iterator[Finding]:
    own = not flags.init_checkpoint or engine.has_model(flags)
    needed = [("vocab_file", own), ("bert_config_file", own)]  # they may be where the right path leads
    needed += [("train_file", flags.do_train), ("predict_file", flags.do_predict)]
    for name, wanted in needed:
        if wanted and not getattr(flags, name):
            there = model_files.missing(name, flags) if name in ("vocab_file", "bert_config_file") else ""
            yield name, f"missing; give {fields()[name].metadata['help']}{there}"


def _files(flags: SquadFlags) -> Iterator[Finding]:
    evaluated = flags.evaluates and not flags.eval_share
    wanted = {"train_file": flags.do_train, "predict_file": flags.do_predict or evaluated}
    for name, field in fields().items():
        value = getattr(flags, name)
        if field.metadata["path"] == "in" and value and wanted.get(name, True):
            problem: str | None = _unusable(value)
            if name in wanted and (not problem or os.path.isdir(value)):
                problem = squad_file.problem(value)
            if problem:
                yield name, f"{value}: {problem}"


def _folders(flags: SquadFlags, writes: bool) -> Iterator[Finding]:
    """Refuse folders that cannot be made or written to, before the work of hours."""
    for name, wanted in (("output_dir", True), ("input_files_dir", flags.do_train)):
        path = getattr(flags, name)
        above = path
        while above and not os.path.lexists(above):
            above = os.path.dirname(above)
        if not (above and wanted):
            continue
        named = path if above == path else f"{path}: {above}"
        # A folder far above tells nothing here: the disk may be that of the host where the job will run.
        near = above in (path, os.path.dirname(path))
        if not os.path.isdir(above):
            yield name, f"{named}: not a folder; give another one"
        elif writes and near and not os.access(above, os.W_OK | os.X_OK):
            yield name, f"{named}: not writable by this user; give another one"


def _unusable(path: str) -> str:
    """Say why a path is no file that can be read; "" if it is one."""
    if not os.path.exists(path):
        return "no such file"
    if not os.access(path, os.R_OK):
        return "not readable by this user"
    return files.irregular(path)


_MOST = (1 << 31) - 1  # numbers beyond it fit neither NumPy's indices nor an int32 of the graph

# iterations_per_loop is looked at by NpuOptions.
_AT_LEAST_ONE = (
    "train_batch_size", "predict_batch_size", "max_seq_length", "doc_stride", "max_query_length",
    "num_accumulation_steps", "n_best_size", "max_answer_length", "keep_checkpoints",
    "display_loss_steps", "round_steps_to", "loss_scale_good_steps", "loss_scale_bad_steps",
)  # fmt: skip

_AT_LEAST_ZERO = (
    "learning_rate", "weight_decay", "num_train_epochs", "num_train_steps", "global_batch_size",
    "max_train_samples", "max_eval_samples", "num_eval_iterations", "save_checkpoints_steps",
)  # fmt: skip


def _ranges(flags: SquadFlags) -> Iterator[Finding]:
    for least, names in ((1, _AT_LEAST_ONE), (0, _AT_LEAST_ZERO)):
        for name in names:
            problem = _outside(getattr(flags, name), least)
            if problem:
                yield name, problem
    if not 0 < flags.adam_epsilon < math.inf:
        yield "adam_epsilon", f"{flags.adam_epsilon:g} is not a number above 0; give 1e-6, Google's"
    if not 0 <= flags.warmup_proportion < 1:
        yield "warmup_proportion", f"{flags.warmup_proportion:g}: expected 0 or more, and less than 1"
    if flags.dropout_rate != -1 and not 0 <= flags.dropout_rate < 1:
        yield "dropout_rate", f"{flags.dropout_rate:g}: expected 0 or more, and less than 1; or -1"
    yield from _loss_scale(flags)
    yield from NpuOptions.from_flags(flags).problems()
    length, query = flags.max_seq_length, flags.max_query_length
    if query + 3 >= length:
        yield "max_seq_length", f"{length} leaves no room for a passage beside a question of {query} tokens"


def _outside(value: float, least: int) -> str:
    """Say why a number is none from `least` to _MOST; "" if it is one."""
    if not value < math.inf:
        return f"{value} is not a finite number"
    if value < least:
        return f"{value} is below 1" if least else f"{value} is negative"
    return f"{value!r:.40} is more than {_MOST}" if value > _MOST else ""


def _threshold(flags: SquadFlags) -> Iterator[Finding]:
    """Refuse a threshold that is no number, and auto where the checkpoint to predict with has none."""
    problem = null_threshold.problem(flags)
    if problem:
        yield "null_score_diff_threshold", problem


def _unused(flags: SquadFlags) -> Iterator[Finding]:
    """Say which flags have no effect on what is done."""
    if flags.null_score_diff_threshold is None and not flags.do_predict:
        yield "null_score_diff_threshold", "auto has no effect, as nothing is predicted; give do_predict=True"


def _evaluation(flags: SquadFlags) -> Iterator[Finding]:
    """Refuse what an evaluation while training cannot be made of, and what needs one."""
    if not flags.do_train:
        return  # a job that predicts may keep the flags of its training
    for name in ("eval_steps", "eval_epochs", "early_stopping_patience"):
        if not 0 <= getattr(flags, name) < math.inf:
            yield name, f"{getattr(flags, name)} is not 0 or more"
    if not 0 <= flags.eval_share < 1:
        advice = "give a number above 0 and below 1, such as 0.1"
        yield "eval_share", f"{flags.eval_share:g} is no share of train_file that leaves some of it; {advice}"
    if flags.eval_steps and flags.eval_epochs:
        yield "eval_epochs", f"given beside eval_steps={flags.eval_steps}; give one of them"
    for name in ("eval_share", "keep_best", "early_stopping_patience"):
        if getattr(flags, name) and not flags.evaluates:
            yield name, "needs evaluations while training; give eval_epochs=1, or eval_steps"
    if flags.evaluates and not (flags.eval_share or flags.predict_file):
        name = "eval_steps" if flags.eval_steps else "eval_epochs"
        yield name, "nothing to evaluate on; give predict_file, or eval_share=0.1 for a share of train_file"


def _references(flags: SquadFlags) -> Iterator[Finding]:
    """Refuse to evaluate on questions that do not fit; what else is wrong with their file comes later."""
    if not flags.evaluates or flags.eval_share:
        return
    path = flags.predict_file
    try:
        questions = evaluate.read_questions(squad_file.load_questions(path), path, references=False)
    except DataError:
        return
    problem = scoring.unfit(questions, flags.keep_best)
    if problem:
        yield "predict_file", f"{path}: {problem}"


def _loss_scale(flags: SquadFlags) -> Iterator[Finding]:
    """Refuse scales below 1 or beyond float32, and nan, which compares false with everything."""
    scale, first = flags.npu_bert_loss_scale or 0.0, flags.init_loss_scale_value
    if not (scale <= 0 or 1 <= scale <= HIGHEST_SCALE):
        allowed = f"-1 (off), 0 (dynamic), or 1 to {HIGHEST_SCALE:g}"
        yield "npu_bert_loss_scale", f"{scale} is not a loss scale; give {allowed}"
    if not 1 <= first <= HIGHEST_SCALE:
        yield "init_loss_scale_value", f"{first} is not a loss scale; give 1 to {HIGHEST_SCALE:g}"


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
