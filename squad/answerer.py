"""A model that is loaded once and then answers questions about passages:

from squad.answerer import Answerer
with Answerer("runs/latest/checkpoints") as model:
    print(model.answer("Who wrote it?", "Ada Lovelace wrote it.").text)
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Iterator, NamedTuple, Sequence, Tuple, Union

import numpy as np

from bert import backend as backends
from bert import environment, predictor
from bert.backend.npu_options import NpuOptions
from bert.checkpoints import index
from bert.checkpoints.chosen import chosen
from bert.config import BertConfig
from bert.onnx import files as onnx_files
from squad import check, null_threshold, task
from squad.answers import nbest
from squad.answers.answer_text import AnswerText
from squad.data import batching
from squad.data.examples import Example, asked
from squad.data.features import Features, build_features
from squad.data.tokenizer import Tokenizer
from squad.errors import DataError
from squad.flags import Finding, SquadFlags

if TYPE_CHECKING:
    from bert.interfaces import Logits
    from bert.predictor import Predictor

_CHUNK = 1024  # questions whose rows are in memory together
_ALTERNATIVES = 2
Pair = Tuple[str, str]  # question, passage


class Candidate(NamedTuple):
    """A span of the passage, passage[start:end]; or no answer: "", -1, -1."""

    text: str
    start: int
    end: int
    score: float  # start logit plus end logit
    probability: float  # among the n_best_size best


class Answer(NamedTuple):
    """The answer to one question; `text` is passage[start:end], or "" for none, at -1."""

    text: str
    start: int
    end: int
    score: float
    probability: float
    null_odds: float | None  # score of "no answer" minus that of the best span; None: the model has none
    alternatives: tuple[Candidate, ...]  # the next best spans
    notes: tuple[str, ...] = ()  # what was handled differently


Result = Union[Answer, DataError]


class Settings(NamedTuple):
    """How a model is asked, from its own files and the flags."""

    flags: SquadFlags
    threshold: float
    notes: Sequence[Finding]


def settle(checkpoint: str, **flags: object) -> Settings:
    """Read how a checkpoint is asked, without TensorFlow; flags are run_squad's, and come first.

    Raises:
        DataError: the checkpoint or its files cannot be used; a line for each reason.
    """
    given = {
        "engine": _engine(checkpoint),
        **{name: value for name, value in flags.items() if value is not None},
    }
    words = [f"--{name}={value}" for name, value in given.items()]
    path = checkpoint if given["engine"] == "onnxruntime" else chosen(checkpoint)
    found, findings, notes = check.asking([f"--init_checkpoint={path}", *words], os.environ)
    if findings:
        lines = (text if name == "init_checkpoint" else f"--{name}: {text}" for name, text in findings)
        raise DataError("\n".join(lines))
    if "null_score_diff_threshold" in found.given:
        return Settings(found, null_threshold.chosen(found, found.init_checkpoint).value, notes)
    return Settings(found, task.read(found.init_checkpoint).threshold or 0.0, notes)


def _engine(checkpoint: str) -> str:
    """Choose what computes: onnxruntime where there is an .onnx file and nothing else."""
    return "onnxruntime" if onnx_files.find(checkpoint) and index.find(checkpoint) is None else "tensorflow"


class Answerer:
    """A loaded model and its device: a context manager. Loading takes seconds, an answer some hundredths."""

    def __init__(
        self,
        checkpoint: str = "",
        settings: Settings | None = None,
        many: bool = False,
        backend: str = "auto",
        **flags: object,
    ) -> None:
        """Load a checkpoint: a prefix, a folder of checkpoints or safetensors, a run folder, an .onnx file.

        backend: cpu, npu, or auto: an NPU where this machine has one and TensorFlow's adapter.
        many: onnxruntime computes one batch per core, not one batch on all cores, which is sooner there.
        flags: run_squad's, by name, where the model's own files shall not decide.

        Raises:
            DataError, CheckpointError: something of the model cannot be used.
            TrainerError: the NPU cannot be used, or another Answerer of this process has it.
        """
        self.settings = settings or settle(checkpoint, **flags)
        self.flags = self.settings.flags
        self._tokenizer = Tokenizer(self.flags.vocab_file, *self.flags.text_rules)
        lower, accents, chinese = self.flags.text_rules
        self._texts = AnswerText(self._tokenizer.vocab, lower, None, accents, chinese)
        with ExitStack() as opened:
            self._model = _load(self.flags, many, backend, opened)
            self._warm_up()
            self._opened = opened.pop_all()

    def answer(self, question: str, passage: str) -> Answer:
        """Answer one question. DataError: question or passage is empty."""
        return self.answers([(question, passage)])[0]

    def answers(self, pairs: Sequence[Pair]) -> list[Answer]:
        """Answer questions, in order. DataError: one of them, or its passage, is empty."""
        found = list(self.results(self.examples(pairs)))
        for result in found:
            if isinstance(result, DataError):
                raise result
        return [result for result in found if isinstance(result, Answer)]

    def examples(self, pairs: Sequence[Pair]) -> list[Example]:
        """Make what `results` takes."""
        rule = (self.flags.word_split, self.flags.text_rules[2])
        of_passage = {passage: asked("", "", passage, *rule) for passage in {passage for _, passage in pairs}}
        return [
            of_passage[passage]._replace(qas_id=str(number), question_text=question)
            for number, (question, passage) in enumerate(pairs)
        ]

    def results(self, examples: Sequence[Example]) -> Iterator[Result]:
        """Yield the answer of each example, or what is wrong with it, in order."""
        for first in range(0, len(examples), _CHUNK):
            yield from self._chunk(examples[first : first + _CHUNK])

    def close(self) -> None:
        """Release the model and its device."""
        self._opened.close()

    def __enter__(self) -> Answerer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _chunk(self, examples: Sequence[Example]) -> Iterator[Result]:
        flags = self.flags
        good = [example for example in examples if not _problem(example)]
        sizes = (flags.max_seq_length, flags.doc_stride, flags.max_query_length)
        features = build_features(good, self._tokenizer, *sizes, training=False)
        options = nbest.Options(
            flags.n_best_size, flags.max_answer_length, flags.version_2_with_negative, self.settings.threshold
        )
        ranked = nbest.rank(good, features, *self._logits(features), self._texts, options)
        found = zip(_windows(features, len(good)), ranked)
        for example in examples:
            problem = _problem(example)
            if problem:
                yield DataError(problem)
                continue
            windows, best = next(found)
            yield self._answer(example, best) if windows else DataError("the passage has no tokens")

    def _logits(self, features: Features) -> Logits:
        size = self.flags.predict_batch_size
        if not len(features):
            empty = np.empty((0, features.max_seq_length), np.float32)
            return empty, empty
        padded = self._model.padded
        rows = size if padded else min(size, len(features))
        return batching.logits_of(features, self._model.run_all, rows, padded)

    def _answer(self, example: Example, ranked: nbest.Ranked) -> Answer:
        entries = list(ranked.entries)
        if ranked.best is not None and ranked.best not in entries:
            entries.append(ranked.best)
        every = [_candidate(*entry, example.context) for entry in zip(entries, nbest.probabilities(entries))]
        spans = [candidate for candidate in every if candidate.text]
        none = ranked.odds is not None and ranked.odds > self.settings.threshold
        first = spans.pop(0) if spans and not none else _nothing(every)
        return Answer(*first, ranked.odds, tuple(spans[:_ALTERNATIVES]), tuple(self._notes(example)))

    def _notes(self, example: Example) -> Iterator[str]:
        """Yield that a question is too long, of which a token has at least one character."""
        most, text = self.flags.max_query_length, example.question_text
        if len(text) > most:
            count = len(self._tokenizer.encode(text))
            if count > most:
                yield f"the question has {count} tokens; its first {most} are read (max_query_length)"

    def _warm_up(self) -> None:
        """Compute something: the first batch takes ten times as long as the second."""
        rows, columns = (self.flags.predict_batch_size, self.flags.max_seq_length)
        shape = (rows, columns) if self._model.padded else (1, 8)
        ids = np.full(shape, self._tokenizer.cls_id, np.int32)
        self._model.run(
            {"input_ids": ids, "input_mask": np.ones_like(ids), "segment_ids": np.zeros_like(ids)}
        )


def _load(flags: SquadFlags, many: bool, device: str, opened: ExitStack) -> Predictor:
    if flags.engine == "onnxruntime":
        from bert.onnx import session

        at_once = environment.cores() if many else 1
        wanted = os.environ.get("NPU_LAUNCH_BACKEND", "auto") if device == "auto" else device
        provider = session.CPU if wanted == "cpu" else ""
        return opened.enter_context(session.open(flags.init_checkpoint, at_once, provider))
    config = BertConfig.from_file(flags.bert_config_file)
    options = NpuOptions.from_flags(flags)
    shape = (flags.predict_batch_size, flags.max_seq_length)
    backend = backends.create_alone(device, options, bool(flags.mixed_precision))
    opened.callback(backend.close)
    loaded = predictor.open(config, flags.init_checkpoint, backend, flags.gelu, shape)
    return opened.enter_context(loaded)


def _problem(example: Example) -> str:
    if not example.question_text.strip():
        return "the question is empty"
    return "" if example.context.strip() else "the passage is empty"


def _windows(features: Features, examples: int) -> list[int]:
    """Count the rows of each example; a passage without tokens has none."""
    owners = np.empty(0, np.int32) if features.example_index is None else features.example_index
    return [int(count) for count in np.bincount(owners, minlength=examples)]


def _candidate(entry: nbest.Entry, probability: float, passage: str) -> Candidate:
    score = entry.start_logit + entry.end_logit
    if entry.start < 0:
        return Candidate("", -1, -1, score, probability)
    return Candidate(passage[entry.start : entry.end], entry.start, entry.end, score, probability)


def _nothing(candidates: Sequence[Candidate]) -> Candidate:
    return next((found for found in candidates if not found.text), Candidate("", -1, -1, 0.0, 0.0))
