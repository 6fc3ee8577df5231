"""Score every checkpoint that a run has kept: answer a file's questions with each, and compare the figures.

    python -m squad.score FOLDER --predict_file FILE [--json] [--FLAG=VALUE ...]
    python -m squad.score FOLDER --train_file FILE

FOLDER is a run's folder, its output_dir, or the prefix of one checkpoint. How the model is asked (lengths,
case, threshold, whose rules ...) is read from the checkpoints' files; flags are run_squad's, and come first.
With train_file alone the questions are those that the run held back of it (eval_share).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import suppress
from typing import Any, Iterator, Mapping, NamedTuple, Sequence

from bert import backend as backends
from bert import environment, predictor
from bert.backend.base import Backend
from bert.backend.npu_options import NpuOptions
from bert.checkpoints import index, store
from bert.cluster import Cluster
from bert.config import BertConfig
from bert.errors import TrainerError
from squad import check, evaluate, held, task
from squad.data.tokenizer import Tokenizer
from squad.errors import DataError
from squad.flags import Finding, SquadFlags
from squad.held import Held
from squad.job import Dataset, Job
from squad.load import load

_COLUMNS = (
    ("EM", "exact"), ("F1", "f1"), ("HasAns EM", "HasAns_exact"), ("HasAns F1", "HasAns_f1"),
    ("NoAns", "NoAns_f1"), ("span F1", "span_f1"), ("AVERAGE", "average"),
)  # fmt: skip
_BY = ("f1", "exact", "span_f1", "average")


class Scored(NamedTuple):
    """A checkpoint and its figures, per cent."""

    prefix: str
    step: int
    figures: Mapping[str, float]
    questions: int  # on how many


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; return the exit code: 1 if a checkpoint is damaged, 2 if nothing could start."""
    environment.keep_descriptors()
    options, flags = _parser().parse_known_args(argv)
    try:
        prefixes = _kept(options.folder)
        good = [prefix for prefix in prefixes if not _damaged(prefix)]
        wanted = _wanted((good or prefixes)[-1], options)
        job, notes = _job((good or prefixes)[-1], options.predict_file or options.train_file, flags)
        _check_by(options.by, job.flags.evaluation)
        for name, text in notes:
            print(f"score: note: {name}: {text}", file=sys.stderr)
        scored = list(_scores(job, good, wanted, options.backend))
    except (TrainerError, DataError) as error:
        print(*(f"score: {line}" for line in str(error).splitlines()), sep="\n", file=sys.stderr)
        return 2
    if options.json:
        lines = [json.dumps(_document(scored, job, wanted, options.by), indent=1)]
    else:
        lines = [*table(scored, options.by), _asked(scored[0], job, wanted)] if scored else []
    if not _printed(lines):
        return 2
    return 0 if len(good) == len(prefixes) else 1


def _printed(lines: Sequence[str]) -> bool:
    """Print lines; say what prevents it, as a full disk."""
    try:
        print(*lines, sep="\n", end="\n" if lines else "", flush=True)
    except OSError as error:
        environment.discard(1)
        print(f"score: standard output: {error.strerror}", file=sys.stderr)
        return False
    return True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="npu-launch score",
        usage="npu-launch score RUN|FOLDER [--predict_file FILE] [--by FIGURE] [--json] [--FLAG=VALUE ...]",
        description="Score every checkpoint that a run has kept, the newest last.",
        allow_abbrev=False,
    )
    parser.add_argument("folder", help="run, folder of checkpoints, or the prefix of one")
    parser.add_argument("--predict_file", default="", help="questions with answers; default: the run's own")
    parser.add_argument(
        "--train_file",
        default="",
        help="of a run with eval_share, to score on the questions that it held back",
    )
    parser.add_argument(
        "--by", choices=_BY, default="f1", help="figure that marks the best; average: of CMRC's rules"
    )
    parser.add_argument(
        "--backend", choices=("auto", "cpu", "npu"), default="auto", help="device; default: an NPU, if any"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _kept(folder: str) -> list[str]:
    """List the checkpoints, the newest last. DataError: there are none."""
    place = index.within(folder)
    found = store.kept(place)
    if found:
        return found
    if index.find(place) is None:
        problem = "no checkpoint in it" if os.path.lexists(folder) else "no such run, folder or checkpoint"
        raise DataError(f"{folder}: {problem}; give a run, its output_dir, or a checkpoint's prefix")
    return [index.resolve(place)]


class _Share(NamedTuple):
    """What a run has held back of its train_file, as a checkpoint says it."""

    share: float
    seed: int
    digest: str


def _share_of(checkpoint: str) -> _Share | None:
    facts: Any = index.record(checkpoint)
    with suppress(LookupError, TypeError, ValueError):
        recorded = facts["data"]["eval_share"]
        return _Share(float(recorded["name"]), int(facts["config"]["seed"]), str(recorded["sha256"] or ""))
    return None


def _wanted(checkpoint: str, options: argparse.Namespace) -> Held:
    """Choose again what the run of a checkpoint held back of its train_file, unless predict_file is given.

    DataError: neither file is given, or what was held back is not of this one.
    """
    if options.predict_file:
        return held.NOTHING
    known = _share_of(checkpoint)
    if known is None or not known.digest:
        raise DataError("--predict_file: missing; give the file of questions and answers to score on")
    if not options.train_file:
        also = f"the train_file of which {known.share:g} was held back"
        raise DataError(f"--predict_file: missing; give questions with answers, or as --train_file {also}")
    found = held.choose(os.path.expanduser(options.train_file), known.share, known.seed)
    if found.digest != known.digest:
        raise DataError(
            f"{options.train_file}: not the train_file of {checkpoint}; what it held back differs"
        )
    print(f"score: {found.text}", file=sys.stderr)
    return found


def _job(checkpoint: str, path: str, words: Sequence[str]) -> tuple[Job, Sequence[Finding]]:
    """Settle how a checkpoint is asked the questions of a file. DataError: a line for each thing wrong."""
    given = [f"--init_checkpoint={checkpoint}", f"--predict_file={path}", *words]
    flags, findings, notes = check.asking([*given, "--do_predict"], os.environ)
    if findings:
        raise DataError("\n".join(f"--{name}: {text}" for name, text in findings))
    if "evaluation" not in {*flags.given, *task.recorded(checkpoint)} and index.record(checkpoint):
        text = f"scored by the rules of {flags.evaluation}, as the checkpoint does not say whose"
        notes.append(("evaluation", f"{text}; give --evaluation=cmrc for CMRC 2018's"))
    return Job(flags, Cluster(), Tokenizer(flags.vocab_file, *flags.text_rules), quiet=True), notes


def _check_by(by: str, rules: str) -> None:
    """Refuse a figure that the rules do not have, before anything is computed. DataError: it is so."""
    if by == "average" and rules != evaluate.CMRC:
        raise DataError("--by average: CMRC's rules alone have it; give --evaluation=cmrc, or --by f1")


def _damaged(prefix: str) -> str:
    """Name what is wrong with a checkpoint of ours, and say so; "" if nothing is."""
    problem = store.verify(prefix)[0] if os.path.exists(prefix + ".json") else ""
    if problem:
        print(f"score: {problem}; left out", file=sys.stderr)
    return problem


def _scores(job: Job, prefixes: Sequence[str], wanted: Held, device: str) -> Iterator[Scored]:
    """Score checkpoints one after the other, on the questions wanted or all; the questions are read once."""
    from squad import evaluation

    data = load(job, job.flags.predict_file, training=False, held=wanted)
    questions = evaluation.read_questions(job.flags.predict_file, data)
    with environment.quiet():
        amp = bool(job.flags.mixed_precision)
        backend = backends.create_alone(device, NpuOptions.from_flags(job.flags), amp)
    try:
        for prefix in prefixes:
            answers = _answers(job, data, prefix, backend)
            step = index.record(prefix).get("step")
            figures = evaluation.figures_of(job, questions, *answers)
            yield Scored(prefix, step if isinstance(step, int) else 0, figures, len(questions))
    finally:
        backend.close()


def _answers(job: Job, data: Dataset, prefix: str, backend: Backend) -> tuple[Any, float]:
    from squad import null_threshold, prediction
    from squad.data import batching

    flags: SquadFlags = job.flags
    threshold = null_threshold.chosen(flags, prefix).value
    shape = (flags.predict_batch_size, flags.max_seq_length)
    model = BertConfig.from_file(flags.bert_config_file)
    with environment.quiet():
        opened = predictor.open(model, prefix, backend, flags.gelu or model.gelu, shape)
    with opened:
        logits = batching.logits_of(data.features, opened.run_all, flags.predict_batch_size, opened.padded)
    return prediction.find_answers(job, data, *logits, threshold), threshold


def best_of(scored: Sequence[Scored], by: str) -> Scored | None:
    """Return the first of those whose figure is the highest; None: none has it."""
    having = [one for one in scored if by in one.figures]
    return max(having, key=lambda one: one.figures[by], default=None)


def table(scored: Sequence[Scored], by: str) -> Iterator[str]:
    """Format the figures as lines; the best checkpoint has a mark."""
    columns = [(title, key) for title, key in _COLUMNS if any(key in one.figures for one in scored)]
    best, name = best_of(scored, by), {key: title for title, key in _COLUMNS}[by]
    yield "  ".join([f"{'step':>8}", *(f"{title:>9}" for title, _ in columns)])
    for one in scored:
        cells = [f"{one.figures[key]:9.3f}" if key in one.figures else " " * 9 for _, key in columns]
        yield "  ".join([f"{one.step:8d}", *cells, f"best {name}" if one is best else ""]).rstrip()


def _asked(one: Scored, job: Job, wanted: Held) -> str:
    """Say on which questions the figures are."""
    flags = job.flags
    limits = ["max_eval_samples"] if flags.max_eval_samples else []
    limits += ["num_eval_iterations"] if flags.num_eval_iterations and not wanted.ids else []
    which = f", the first ones ({', '.join(limits)})" if limits else ""
    held_back = f", held back by eval_share {wanted.share:g}" if wanted.ids else ""
    return f"on {one.questions} questions of {flags.predict_file}{held_back}{which}"


def _document(scored: Sequence[Scored], job: Job, wanted: Held, by: str) -> dict[str, Any]:
    best = best_of(scored, by)
    listed = [
        {"checkpoint": one.prefix, "step": one.step, "figures": dict(one.figures), "best": one is best}
        for one in scored
    ]
    questions = scored[0].questions if scored else 0
    path = job.flags.predict_file
    asked = {"train_file": path, "eval_share": wanted.share} if wanted.ids else {"predict_file": path}
    about = {"questions": questions, "evaluation": job.flags.evaluation, "by": by}
    return {**asked, **about, "checkpoints": listed}


if __name__ == "__main__":
    sys.exit(main())
