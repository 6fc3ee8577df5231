"""Answer the questions of a file on all ranks, write the answers, score them."""

from __future__ import annotations

import os
import time
from contextlib import closing
from typing import TYPE_CHECKING, Generator, Iterator

from bert import heartbeat
from bert.backend.engine import Engine
from bert.backend.npu_options import NpuOptions
from bert.config import BertConfig
from squad import hosts, null_threshold, scoring
from squad.answers import latency, logit_shards, nbest, spreadsheet
from squad.answers.answer_text import AnswerText
from squad.data import batching, squad_file
from squad.flags import SquadFlags
from squad.job import Dataset, Job
from squad.null_threshold import Threshold
from squad.progress import progress_bar

if TYPE_CHECKING:
    import numpy as np

    from bert.interfaces import Logits


def predict(job: Job, model: BertConfig, data: Dataset, checkpoint: str, backend: Engine) -> None:
    """Compute this rank's shard of the logits; rank 0 then merges, writes and scores the answers.

    Raises:
        DataError: shards are missing, the model has diverged, or the checkpoint has no threshold to use.
    """
    # Rank 0 alone answers; it fails before anything is computed.
    threshold = null_threshold.chosen(job.flags, checkpoint) if backend.rank == 0 else Threshold(0.0)
    logits = _shard(job, model, data, checkpoint, backend)
    hand_over(job.output_dir, logit_shards.encode(data.features, *logits), backend)
    backend.barrier()
    if backend.rank == 0:
        scoring.score_file(job, _answer(job, data, backend.size, threshold.value), checkpoint, threshold)


def hand_over(folder: str, shard: bytes, backend: Engine) -> None:
    """Put this rank's shard where rank 0 merges them: through the folder, or the ranks' connection."""
    shards = {backend.rank: shard}
    if backend.several_hosts:
        shards = dict(enumerate(hosts.collect(shard, backend)))
    for rank, content in shards.items():
        os.makedirs(folder, exist_ok=True)
        logit_shards.write_shard(folder, rank, backend.size, content)


def _shard(
    job: Job, model: BertConfig, data: Dataset, checkpoint: str, backend: Engine
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predict this rank's batches: (start [R, L], end [R, L], done [R])."""
    flags = job.flags
    # Rows of similar lengths, trimmed to the longest: the same logits in less time. A device that compiles
    # each shape separately needs whole rows.
    mode = "pad" if backend.static_shapes else "bucket"
    share = (data.features, backend.rank, backend.size, flags.predict_batch_size, mode)
    order = batching.predict_order(*share)
    outputs = backend.predict(model, checkpoint, batching.predict_batches(*share), flags.gelu)
    seconds: list[float] = []
    begin = time.monotonic()
    with closing(outputs):  # now, not when it is garbage-collected
        logits = batching.collect_logits(data.features, order, _timed(outputs, len(order), seconds))
    lines = latency.summary(
        seconds, int(logits[2].sum()), time.monotonic() - begin, flags.predict_batch_size,
        flags.max_seq_length, precision(flags, backend),
    )  # fmt: skip
    job.say("\n".join(lines))
    return logits


def precision(flags: SquadFlags, backend: Engine) -> str:
    """Name the types in which the device computes."""
    if backend.precision:
        return backend.precision
    if backend.name == "npu":
        return " and ".join(NpuOptions.from_flags(flags).computes_in)
    from bert.backend.cpu import amp_obstacle

    return "bf16" if flags.mixed_precision and not amp_obstacle() else "fp32"


def _timed(outputs: Iterator[Logits], count: int, seconds: list[float]) -> Generator[Logits, None, None]:
    """Pass the outputs on with one heartbeat each, and record how long each one took."""
    with progress_bar("predict") as bar:
        while True:
            begin = time.monotonic()
            output = next(outputs, None)
            if output is None:
                return
            seconds.append(time.monotonic() - begin)
            heartbeat.beat("predict", len(seconds))
            bar(len(seconds), count)
            yield output


def _answer(job: Job, data: Dataset, ranks: int, threshold: float) -> nbest.Answers:
    """Find the answers from the logits of all ranks, and write them."""
    heartbeat.beat("answers")
    start, end = logit_shards.merge(job.output_dir, ranks, data.features)
    result = find_answers(job, data, start, end, threshold)
    paths = nbest.write_files(job.output_dir, result, job.flags.version_2_with_negative)
    if squad_file.is_table(job.flags.predict_file):
        paths.append(spreadsheet.write(job.output_dir, data.examples, result))
    heartbeat.artifact({"kind": "predictions", "files": paths})
    return result


def find_answers(
    job: Job, data: Dataset, start: np.ndarray, end: np.ndarray, threshold: float
) -> nbest.Answers:
    """Find the answers in the logits [R, L] of all rows. DataError: the model has diverged."""
    flags = job.flags
    options = nbest.Options(
        flags.n_best_size,
        flags.max_answer_length,
        flags.version_2_with_negative,
        threshold,
    )
    lower, accents, chinese = flags.text_rules
    log = print if flags.verbose_logging else None
    texts = AnswerText(job.tokenizer.vocab, lower, log, accents, chinese)
    return nbest.find_answers(data.examples, data.features, start, end, texts, options)
