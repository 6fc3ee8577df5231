"""What a training evaluates itself on: all ranks compute a share of the logits, rank 0 the figures."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Callable, Iterator, Mapping, Sequence

from bert import heartbeat
from bert.backend.base import Backend
from bert.checkpoints.store import sha256
from squad import evaluate, null_threshold, prediction, scoring
from squad.answers import logit_shards
from squad.data import batching
from squad.data.questions import Question
from squad.data.squad_file import load_questions
from squad.errors import DataError
from squad.job import Dataset, Job

if TYPE_CHECKING:
    import numpy as np

    from bert.interfaces import Logits, PredictBatch
    from squad.answers.nbest import Answers


class SquadEvaluation:
    """An evaluation (bert.interfaces.Evaluation) on the rows of a file's questions."""

    def __init__(self, job: Job, path: str, data: Dataset, backend: Backend) -> None:
        """Choose this rank's rows. DataError: there is nothing to evaluate on, or nothing to compare with."""
        flags = job.flags
        self.shape = (flags.predict_batch_size, flags.max_seq_length)
        self.about: Mapping[str, Any] = {}
        self._job, self._data, self._backend = job, data, backend
        self._questions = read_questions(path, data, flags.keep_best)
        self._file = {"name": os.path.basename(path), "sha256": sha256(path)}
        mode = "pad" if backend.static_shapes else "bucket"
        share = (data.features, backend.rank, backend.size, flags.predict_batch_size, mode)
        self._order, self._mode = batching.predict_order(*share, every_rank=True), mode

    def measure(
        self, run: Callable[[Iterator[PredictBatch]], Iterator[Logits]], stopped: Callable[[], bool]
    ) -> Mapping[str, float] | None:
        """Compute the figures, as bert.interfaces.Evaluation says. DataError: the model has diverged."""
        features = self._data.features
        batches = batching.batches_of(features, self._order, self._mode)
        logits = batching.collect_logits(features, self._order, run(batches))
        if stopped():
            return None
        heartbeat.beat("evaluate")  # what follows promises no next beat
        if self._backend.size > 1:
            shard = logit_shards.encode(features, *logits)
            prediction.hand_over(self._job.output_dir, shard, self._backend)
            self._backend.barrier()
        result: dict[str, Any] = {}
        if self._backend.rank == 0:
            try:
                result["figures"] = self._figures(*logits[:2])
            except DataError as error:
                result["error"] = str(error)
        result = self._backend.all_gather(result)[0]
        if "error" in result:
            raise DataError(result["error"])
        figures: dict[str, float] = result["figures"]
        return figures

    def _figures(self, start: np.ndarray, end: np.ndarray) -> dict[str, float]:
        job, data, size = self._job, self._data, self._backend.size
        if size > 1:
            start, end = logit_shards.merge(job.output_dir, size, data.features)
        threshold = job.flags.null_score_diff_threshold or 0.0
        answers = prediction.find_answers(job, data, start, end, threshold)
        found = null_threshold.search(self._questions, answers, self._file, job.flags.evaluation)
        self.about = {null_threshold.KEY: found} if found else {}
        return figures_of(job, self._questions, answers, threshold)


def figures_of(
    job: Job, questions: Sequence[Question], answers: Answers, threshold: float
) -> dict[str, float]:
    """Compute the figures of an evaluation, exact match as `exact` in both versions of SQuAD."""
    figures = evaluate.unified(scoring.score(job, questions, answers, threshold))
    return {name: value for name, value in figures.items() if not name.startswith("best_")}


def read_questions(path: str, data: Dataset, keep_best: str = "") -> list[Question]:
    """Read the references of the questions that are evaluated. DataError: some have none."""
    asked = {example.qas_id for example in data.examples}
    every = evaluate.read_questions(load_questions(path), path, references=False)
    questions = [question for question in every if question.id in asked]
    if not len(data.features):
        raise DataError(f"{path}: contains no passage with text to evaluate on; give a SQuAD file")
    problem = scoring.unfit(questions, keep_best)
    if problem:
        raise DataError(f"{path}: {problem}")
    return questions
