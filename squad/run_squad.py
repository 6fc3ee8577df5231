"""Fine-tune, predict and evaluate BERT on SQuAD. npu-launch starts this program once per device.

Started by hand it is one process on one device: `python squad/run_squad.py --vocab_file=... --do_train ...`.
It learns its rank and its peers only from the environment (bert/cluster.py).
"""

from __future__ import annotations

import os
import sys
from typing import Sequence

if __name__ == "__main__" and not __package__:
    # When it runs a file, Python looks for modules in squad/ instead of beside it.
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from bert import backend as backends
from bert import environment, heartbeat, stopping
from bert.backend.npu_options import NpuOptions
from bert.cluster import Cluster
from bert.config import BertConfig
from bert.errors import CheckpointError, TrainerError
from squad import held as held_back
from squad import hosts
from squad.check import check
from squad.data.tokenizer import Tokenizer
from squad.errors import DataError
from squad.flags import SquadFlags, usage
from squad.job import Dataset, Job
from squad.load import Source, load, warn_of_overlap, with_word_split


def main(argv: Sequence[str] | None = None) -> int:
    """Run the flags of a command line; return the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if "--help" in argv:
        print(usage())
        return 0
    flags, findings, notes = check(argv, os.environ)
    for key, message in findings:
        print(f"run_squad: --{key}: {message}", file=sys.stderr)
    if findings:
        return 2
    try:
        cluster = Cluster.from_environ(os.environ)
        for key, message in notes if cluster.rank == 0 else ():
            if key == "preset":  # what is trained, rather than something to correct
                print(f"preset {message}", flush=True)
            else:
                print(f"run_squad: note: --{key}: {message}", file=sys.stderr, flush=True)
        run(flags, cluster)
    except (DataError, CheckpointError) as error:
        print(f"run_squad: {error}", file=sys.stderr)
        return 2
    except TrainerError as error:
        print(f"run_squad: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if not error.filename:
            raise  # of a connection; where it failed tells more
        print(f"run_squad: {error.filename}: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0


def run(flags: SquadFlags, cluster: Cluster) -> None:
    """Do what the flags say. Data is loaded before the device is opened, as HCCL's timeout starts then.

    Raises:
        DataError: something in the user's files is wrong.
        TrainerError: a checkpoint does not fit, or training has diverged.
    """
    job = Job(flags, cluster, Tokenizer(flags.vocab_file, *flags.text_rules))
    if cluster.rank == 0:
        os.makedirs(job.output_dir, exist_ok=True)  # what cannot be made is said before the work
    heartbeat.beat("features")
    first = Source(flags.train_file if flags.do_train else flags.predict_file)
    job = with_word_split(job, first)
    held = held_back.NOTHING
    if flags.evaluates and flags.eval_share:
        held = held_back.choose(flags.train_file, flags.eval_share, flags.seed, first.look())
        job.say(held.text)
    train_set = load(job, flags.train_file, True, held, first) if flags.do_train else None
    wanted = flags.do_predict or (flags.evaluates and not held.ids)
    dev_set = load(job, flags.predict_file, False, source=first) if wanted else None  # empty after training's
    eval_set = load(job, flags.train_file, training=False, held=held) if held.ids else dev_set
    if train_set and dev_set:
        warn_of_overlap(job, train_set, dev_set)
    if flags.engine == "onnxruntime" and dev_set is not None:
        _answer_by_onnxruntime(job, dev_set)
        return
    device = backends.choose(cluster.backend)
    environment.prepare(os.environ, device)
    from squad import prediction, training  # imports TensorFlow
    from squad.evaluation import SquadEvaluation

    if flags.do_train:
        job = training.with_gelu(job, device)
    model = BertConfig.from_file(flags.bert_config_file).with_dropout(flags.dropout_rate)
    model = model.with_gelu(job.flags.gelu or model.gelu)
    options = NpuOptions.from_flags(flags)
    amp = bool(flags.mixed_precision)
    backend = backends.create(cluster, device, options, amp, flags.collective)
    try:
        if cluster.several_hosts:
            hosts.compare(job, backend, train_set, dev_set, eval_set)
        checkpoint = flags.init_checkpoint
        if train_set is not None:
            asked = None
            if flags.evaluates and eval_set is not None:
                path = flags.train_file if held.ids else flags.predict_file
                asked = SquadEvaluation(job, path, eval_set, backend)
            checkpoint = training.train(job, model, train_set, backend, asked, held)
        else:
            _compare_checkpoints(backend.all_gather(os.path.basename(checkpoint)))
        if flags.do_predict and dev_set is not None:
            prediction.predict(job, model, dev_set, checkpoint, backend)
    finally:
        backend.close()


def _answer_by_onnxruntime(job: Job, dev_set: Dataset) -> None:
    """Answer without TensorFlow, whose import takes longer than some question files."""
    from bert.onnx.engine import OnnxEngine
    from squad import prediction

    path = job.flags.init_checkpoint
    engine = OnnxEngine(job.cluster, path, job.flags.collective)
    try:
        if job.cluster.several_hosts:
            hosts.compare(job, engine, None, dev_set)
        prediction.predict(job, BertConfig.from_file(job.flags.bert_config_file), dev_set, path, engine)
    finally:
        engine.close()


def _compare_checkpoints(names: Sequence[str]) -> None:
    """Refuse to predict if ranks found different checkpoints in a folder to which a run still saves."""
    if len(set(names)) > 1:
        found = ", ".join(sorted(set(names)))
        raise CheckpointError(f"--init_checkpoint: the ranks found {found}; give the prefix of one of them")


if __name__ == "__main__":
    stopping.leave_on_usr1()
    sys.exit(main())
