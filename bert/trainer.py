"""The training loop: one readable loop over tf.compat.v1, the same for 1 and N ranks."""

from __future__ import annotations

import itertools
import os
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Iterator, Mapping

import numpy as np
import tensorflow.compat.v1 as tf

from bert import agreement, heartbeat, loss_scale, step
from bert.backend.base import Backend
from bert.checkpoints import reader, resume, sharing, store
from bert.checkpoints.resume import Start
from bert.config import BertConfig
from bert.errors import NotFinite, PersistentOverflow, StepsDiffer
from bert.evaluation import Evaluations, Standing
from bert.feed import Feed, Taken
from bert.predictor import Forward, SessionPredictor
from bert.progress import Progress
from bert.step import StepGraph
from bert.stopping import StopRequest, code_of
from bert.train_config import TrainConfig

if TYPE_CHECKING:
    from bert.interfaces import Batches, Evaluation, Tensor


@dataclass(frozen=True)
class TrainResult:
    """Where training ended."""

    checkpoint: str  # the newest
    step: int
    loss: float
    standing: Standing = Standing()
    best: str = ""  # the best checkpoint, which config.keep_best has kept


def train(
    model_config: BertConfig,
    config: TrainConfig,
    batches: Batches,
    backend: Backend,
    output_dir: str,
    init_checkpoint: str = "",
    rank_dir: str = "",
    origin: resume.Origin = resume.NO_ORIGIN,
    evaluation: Evaluation | None = None,
) -> TrainResult:
    """Train to config.num_train_steps; rank 0 saves into output_dir, all ranks may read it.

    evaluation: what to evaluate every config.eval_steps, and at the end.

    batches(S) yields config.num_accumulation_steps batches for each of the steps S, S + 1, ..., each batch
    with the weight of its whole step. A run that output_dir already contains is resumed.

    Raises:
        CheckpointError: before any step; a checkpoint does not fit.
        TrainerError: the loss or the gradients have diverged, or the ranks' weights differ.
        SystemExit: when a checkpoint is saved after SIGTERM (143) or SIGUSR1 (75).
    """
    start = resume.decide(output_dir, model_config, config, backend, init_checkpoint, origin)
    _say(backend, *start.notes)
    done = resume.finished(start, config)
    if done:
        _say(backend, done)
        return _result(start.prefix, start.step, start.loss, start.standing, config)
    if init_checkpoint and not start.prefix:
        reader.check(init_checkpoint, model_config)
    beside = store.write_beside(output_dir, origin.files) if backend.rank == 0 else ()
    reading = _read_start(start.prefix or init_checkpoint, bool(start.prefix), backend)
    with tf.Graph().as_default():
        tf.set_random_seed(config.seed + backend.rank)
        feed = Feed()
        first = min(start.step, config.num_train_steps - 1)  # beyond the last step there are no batches
        feeder, batch = input_pipeline(batches(first), backend.static_shapes, feed.made)
        graph = step.build(model_config, config, batch, backend)
        forward = None
        if evaluation is not None:  # in the same graph and session: of its weights there is one copy
            forward = Forward(model_config, graph.weights, backend, config.gelu, evaluation.shape)
        with tf.Session(config=backend.session_config()) as session, StopRequest() as stop:
            _set_variables(session, graph, start, backend, reading)
            session.run(feeder.initializer)
            progress = Progress(config, backend, start.step, output_dir, rank_dir)
            run = _Run(model_config, config, backend, output_dir, start, origin, beside)
            predictor = SessionPredictor(session, forward, backend) if forward else None
            evaluations = Evaluations(evaluation, predictor, config, backend, progress, stop, start.standing)
            return _Loop(session, graph, run, progress, stop, feed, evaluations).run()


def _result(prefix: str, at: int, loss: float, standing: Standing, config: TrainConfig) -> TrainResult:
    best = ""
    if config.keep_best and standing.best_step:
        best = store.prefix_of(os.path.dirname(prefix), standing.best_step)
    return TrainResult(prefix, at, loss, standing, best)


def _read_start(path: str, slots: bool, backend: Backend) -> reader.Reading:
    """Begin to read what rank 0 broadcasts in any case."""
    if backend.loads_on_every_rank:
        return sharing.begin(path, slots, backend)[0]
    return reader.Reading(path if backend.rank == 0 else "", slots)


def _say(backend: Backend, *lines: str) -> None:
    if backend.rank == 0:
        for line in lines:
            print(line, flush=True)


def input_pipeline(
    batches: Iterator[Mapping[str, Any]],
    static_shapes: bool = False,
    made: Callable[[Mapping[str, Any]], None] = lambda batch: None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Make a tf.data iterator over numpy batches: (iterator to initialise, tensors by key).

    static_shapes: every batch has the shapes of the first, and the graph may rely on them.
    made: is told of each batch when it is ready, in a thread of tf.data and ahead of its step.
    """
    first = next(batches)
    keys = sorted(first)

    types = {key: tf.as_dtype(np.asarray(first[key]).dtype) for key in keys}
    shapes: dict[str, list[int | None]] = {key: list(np.shape(first[key])) for key in keys}
    if not static_shapes:
        shapes = {key: [None] * len(shape) for key, shape in shapes.items()}
    every = itertools.chain([first], batches)

    def pull(_: np.ndarray) -> list[np.ndarray]:
        batch = next(every)
        arrays = [np.asarray(batch[key], types[key].as_numpy_dtype) for key in keys]
        made(batch)
        return arrays

    def batch_of(index: Tensor) -> dict[str, Tensor]:
        tensors = dict(zip(keys, tf.numpy_function(pull, [index], [types[key] for key in keys])))
        for key in keys:
            tensors[key].set_shape(shapes[key])
        return tensors

    # Not from_generator: TensorFlow 2.21's makes malloc return memory to the kernel at once, and every step's
    # temporaries then cause page faults again (20 steps: 27 s of system time instead of 9).
    data = tf.data.Dataset.range(1 << 40).map(batch_of).prefetch(4)
    iterator = tf.data.make_initializable_iterator(data)
    return iterator, iterator.get_next()


def _set_variables(
    session: Tensor, graph: StepGraph, start: Start, backend: Backend, reading: reader.Reading
) -> None:
    """Initialise every variable: equal on all ranks, from rank 0's disk."""
    heartbeat.beat("load")
    loaded = reader.initialize(session, graph.saved, reading)
    if reading.path and not reading.slots:
        _say(backend, *loaded.lines())
    _assign(session, graph.step, start.step)
    # On all ranks, not just on the one that is asked to stop: a device numbers a session's graphs in the
    # order of their first runs, and the training graph must have the same number everywhere.
    _assign(session, graph.stop, 0.0)
    for name in sorted(set(start.scalars) & set(graph.scalars)):
        _assign(session, graph.scalars[name], start.scalars[name])
    session.run(graph.broadcast)


def _assign(session: Tensor, variable: Tensor, value: float) -> None:
    """Set a variable by its own initialiser, without adding an operation to the graph."""
    given = variable.initializer.inputs[1]
    session.run(variable.initializer, {given: np.asarray(value, given.dtype.as_numpy_dtype)})


@dataclass(frozen=True)
class _Run:
    """What one training is about: model, settings, device, output folder, and where it starts."""

    model: BertConfig
    config: TrainConfig
    backend: Backend
    output_dir: str
    start: Start
    origin: resume.Origin  # what the rows were made from, and more, for the checkpoints' JSON
    beside: tuple[str, ...]  # files of the output folder that belong to every checkpoint


class _Loop:
    """The loop over the steps; runs once."""

    def __init__(
        self,
        session: Tensor,
        graph: StepGraph,
        run: _Run,
        progress: Progress,
        stop: StopRequest,
        feed: Feed,
        evaluations: Evaluations,
    ) -> None:
        self._session, self._graph, self._progress, self._stop = session, graph, progress, stop
        self._about, self._config, self._backend = run, run.config, run.backend
        self._feed, self._taken, self._evaluations = feed, Taken(), evaluations
        self._saver = tf.train.Saver(graph.saved, max_to_keep=None)

    def run(self) -> TrainResult:
        """Train, save, and end."""
        config, start, evaluations = self._config, self._about.start, self._evaluations
        at, seen, prefix, loss = start.step, 0, start.prefix, start.loss
        if start.standing.pending and evaluations.asked:
            self._take_up(at)
        while at < config.num_train_steps and not evaluations.over:
            if self._stop.requested:
                _assign(self._session, self._graph.stop, 1.0)
            count, begin, waited = self._steps_at_once(at), time.monotonic(), self._backend.waited or 0.0
            result = self._stop.call(self._run, count)
            at += count
            self._count(count, (self._backend.waited or 0.0) - waited)
            self._progress.meter.call(time.monotonic() - begin, int(result["seen"]) - seen, count)
            seen = int(result["seen"])
            self._compare_steps(at, count, int(result["step"]))
            heartbeat.beat("train", at, self._progress.counters)
            self._check(at, result)
            self._progress.step(at, result)
            loss = float(result["loss"])
            # Summed over the ranks, so all stop at the same step.
            stopping = evaluations.step(at, float(result["stop"]) > 0)
            if stopping or self._due(at) or evaluations.saves:
                with self._progress.counters.saving():
                    prefix = self._save(at, loss)
                heartbeat.beat("save")  # with the seconds that it took
            if stopping and (at < config.num_train_steps or evaluations.standing.pending):
                self._leave(at, prefix)
        if evaluations.over:
            why = evaluations.standing.why_over(config)
            _say(self._backend, f"step {at}: the training ends early, as {why}")
        self._progress.close(at)
        return _result(prefix, at, loss, evaluations.standing, config)

    def _take_up(self, at: int) -> None:
        """Make the evaluation that was cut short where this run goes on."""
        folder, prefix = self._about.output_dir, self._about.start.prefix
        if self._evaluations.run(at, int(prefix.rpartition("-")[2])):
            self._leave(at, prefix)
        if self._backend.rank == 0:
            store.amend(prefix, self._evaluations.facts())
            store.prune(folder, self._config.keep_checkpoints, self._best)

    @property
    def _best(self) -> int:
        """The step of the checkpoint that is not to be removed; 0: none."""
        return self._evaluations.standing.best_step if self._config.keep_best else 0

    def _steps_at_once(self, at: int) -> int:
        """Count the steps of the next call: at most up to the next checkpoint or evaluation."""
        if self._graph.accumulate is not None:
            return 1
        last = self._config.num_train_steps
        every = (self._config.save_checkpoints_steps or last, self._config.eval_steps or last)
        return min(self._backend.steps_per_call, last - at, *(count - at % count for count in every))

    def _run(self, count: int) -> dict[str, Any]:
        for _ in range(self._config.num_accumulation_steps - 1):
            self._fed(1, self._session.run, self._graph.accumulate)
        result: dict[str, Any] = self._fed(
            count, self._backend.run_steps, self._session, self._graph.fetches, count
        )
        return result

    def _fed(self, batches: int, run: Callable[..., Any], *arguments: Any) -> Any:
        """Call run(*arguments), which takes so many batches, and count them."""
        begin = time.monotonic()
        result = run(*arguments)
        self._taken = self._taken.plus(self._feed.taken(batches, begin, time.monotonic()))
        return result

    def _count(self, steps: int, wait_s: float) -> None:
        taken, self._taken = self._taken, Taken()
        self._progress.counters.call(steps, taken.examples, taken.tokens, taken.input_s, wait_s)

    def _compare_steps(self, at: int, count: int, reported: int) -> None:
        """End a run whose device made more or fewer steps than requested, before anything is saved."""
        if reported != at:
            raise StepsDiffer(
                f"the device reports step {reported}, the loop counts {at} after a call of {count} steps"
                f" ({self._backend.name}); give iterations_per_loop=1, with which the device does not loop by"
                " itself"
            )

    def _due(self, at: int) -> bool:
        every = self._config.save_checkpoints_steps
        return bool(every and at % every == 0) or at == self._config.num_train_steps

    def _check(self, at: int, result: dict[str, Any]) -> None:
        """End a run that has diverged, before anything is saved."""
        loss, norm, skipped = float(result["loss"]), float(result["norm"]), int(result["skipped_in_a_row"])
        if not np.isfinite(loss):
            losses = self._stop.call(self._backend.all_gather, repr(float(result["own_loss"])))
            ranks = [str(rank) for rank, own in enumerate(losses) if not np.isfinite(float(own))]
            raise NotFinite(
                f"loss is {loss} at step {at} on rank {', '.join(ranks)}; lower the learning rate, or check"
                " the data of that step"
            )
        if self._config.npu_bert_loss_scale < 0 and not np.isfinite(norm):
            raise NotFinite(
                f"the gradients' norm is {norm} at step {at}, the loss {loss:.4g}; lower the learning rate"
            )
        if skipped >= loss_scale.MOST_OVERFLOWS:
            raise PersistentOverflow(
                f"the gradients overflowed in {skipped} steps in a row, up to step {at}, the last at loss"
                f" scale {result['scale']:g}; lower the learning rate or the (initial) loss scale"
            )

    def _save(self, at: int, loss: float) -> str:
        """Save on rank 0 what is equal on all ranks; the others wait. Return the prefix."""
        heartbeat.beat("save")
        self._compare(at)
        prefix = ""
        if self._backend.rank == 0:
            prefix = self._write(at, loss).prefix
        return str(self._stop.call(self._backend.all_gather, prefix)[0])

    def _compare(self, at: int) -> None:
        if self._backend.size > 1:
            digests = agreement.digests(reader.values(self._session, self._graph.weights))
            of_ranks = self._stop.call(self._backend.all_gather, list(digests.values()))
            agreement.compare(list(digests), of_ranks, at)

    def _write(self, at: int, loss: float) -> store.Saved:
        def write(prefix: str) -> None:
            self._saver.save(self._session, prefix, write_meta_graph=False, write_state=False)

        held = reader.values(self._session, self._graph.scalars)
        scalars = {name: float(value) for name, value in held.items()}
        about, ranks = self._about, self._backend.size
        facts = resume.facts(about.model, self._config, ranks, about.start, scalars, loss, about.origin)
        facts.update(self._evaluations.facts())
        keep = self._config.keep_checkpoints
        saved = store.save(about.output_dir, at, write, facts, keep, about.beside, self._best)
        heartbeat.artifact(saved.artifact())
        return saved

    def _leave(self, at: int, prefix: str) -> None:
        self._progress.close(at)
        name, code = code_of(self._stop.call(self._backend.all_gather, int(self._stop.requested)))
        _say(self._backend, f"{name}: saved {prefix} at step {at}; to continue, start the same command again")
        sys.exit(code)
