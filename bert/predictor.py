"""A model that is loaded once and then answers batches. TensorFlow is imported when one is opened."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Callable, Generator, Iterator, Mapping, Tuple, TypeVar

if TYPE_CHECKING:
    from bert.backend.base import Backend
    from bert.checkpoints.reader import Reading
    from bert.config import BertConfig
    from bert.interfaces import Logits, PredictBatch, Tensor

Shape = Tuple[int, int]  # rows and columns of a batch
KEYS = ("input_ids", "input_mask", "segment_ids")  # of a batch
_Batch = TypeVar("_Batch")
_Result = TypeVar("_Result")


class Predictor(ABC):
    """A loaded model: batches in, logits out. A context manager; `run` may be called from several threads."""

    padded = False  # True: whole rows and batches, as each shape is compiled separately
    at_once = 1  # batches whose computation may overlap

    @abstractmethod
    def run(self, batch: PredictBatch) -> Logits:
        """Return (start logits, end logits), float32 [B, L] each."""

    def run_all(self, batches: Iterator[PredictBatch]) -> Iterator[Logits]:
        """Yield the logits of each batch, in order."""
        return ahead(self.run, batches, self.at_once)

    @abstractmethod
    def close(self) -> None:
        """Release the model."""

    def __enter__(self) -> Predictor:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Forward:
    """The graph from a batch to its logits, over variables that may be a training's."""

    def __init__(
        self,
        config: BertConfig,
        weights: Mapping[str, Tensor],
        backend: Backend,
        gelu: str = "exact",
        shape: Shape | None = None,
    ) -> None:
        """Build it in the default graph. shape: that of every batch, for a device with static shapes."""
        import tensorflow.compat.v1 as tf

        from bert.model import Model, Operations

        held = shape if backend.static_shapes else None
        self.feeds = {key: tf.placeholder(tf.int32, held or [None, None]) for key in KEYS}
        operations = Operations(gelu=partial(backend.gelu, form=gelu))
        self.logits = Model(config, weights, operations).span_logits(self.feeds)


class SessionPredictor(Predictor):
    """A model in a session of TensorFlow."""

    def __init__(self, session: Tensor, forward: Forward, backend: Backend) -> None:
        self._session, self._logits, self._feeds = session, forward.logits, forward.feeds
        self.at_once, self.padded = backend.predictions_at_once, backend.static_shapes

    def run(self, batch: PredictBatch) -> Logits:
        given: dict[str, object] = dict(batch)
        start, end = self._session.run(self._logits, {self._feeds[key]: given[key] for key in KEYS})
        return start, end

    def close(self) -> None:
        self._session.close()


def open(  # a module's word: predictor.open
    config: BertConfig, prefix: str, backend: Backend, gelu: str = "exact", shape: Shape | None = None
) -> Predictor:
    """Load a checkpoint; the caller closes what is returned, then the backend.

    shape: that of every batch, for a device with static shapes.

    Raises:
        CheckpointError: it does not fit.
    """
    reading, broadcasts = _begin(config, prefix, backend)
    return _load(config, reading, broadcasts, backend, gelu, shape)


def predict(
    config: BertConfig, prefix: str, batches: Iterator[PredictBatch], backend: Backend, gelu: str = "exact"
) -> Generator[Logits, None, None]:
    """Yield (start logits, end logits) [B, L] of each batch, in order; rank 0's host has the checkpoint.

    Raises:
        CheckpointError: it does not fit.
    """
    reading, broadcasts = _begin(config, prefix, backend)
    first = next(batches, None)
    if first is None and not broadcasts:
        return
    shape = None if first is None else first["input_ids"].shape
    with _load(config, reading, broadcasts, backend, gelu, shape) as predictor:
        if first is not None:
            yield from predictor.run_all(itertools.chain([first], batches))


def _begin(config: BertConfig, prefix: str, backend: Backend) -> tuple[Reading, bool]:
    from bert.checkpoints import reader, sharing

    reading, broadcasts = sharing.begin(prefix, False, backend)
    if reading.reads:
        reader.check(prefix, config)
    return reading, broadcasts


def _load(
    config: BertConfig, reading: Reading, broadcasts: bool, backend: Backend, gelu: str, shape: Shape | None
) -> Predictor:
    import tensorflow.compat.v1 as tf

    from bert.checkpoints import reader
    from bert.model import create_variables

    graph = tf.Graph()
    with graph.as_default():
        weights = create_variables(config)
        forward = Forward(config, weights, backend, gelu, shape)
        session = tf.Session(graph=graph, config=backend.session_config())
        predictor = SessionPredictor(session, forward, backend)
        try:
            loaded = reader.initialize(session, weights, reading)
            if broadcasts:
                session.run(backend.broadcast(list(weights.values())))
        except BaseException:
            predictor.close()
            raise
    if loaded.missing and backend.rank == 0:
        print(*loaded.lines(), sep="\n", flush=True)
    return predictor


def ahead(run: Callable[[_Batch], _Result], batches: Iterator[_Batch], count: int) -> Iterator[_Result]:
    """Run up to `count` batches at once; yield their results in order."""
    if count == 1:
        yield from map(run, batches)
        return
    with ThreadPoolExecutor(count) as pool:
        running = deque(pool.submit(run, batch) for batch in itertools.islice(batches, count))
        while running:
            result = running.popleft().result()
            running.extend(pool.submit(run, batch) for batch in itertools.islice(batches, 1))
            yield result
