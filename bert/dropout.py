"""Dropout whose random numbers depend only on the seed, the rank, the step and the place in the graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tensorflow.compat.v1 as tf

from bert.backend.base import Backend

if TYPE_CHECKING:
    from bert.interfaces import Tensor

_PLACES = 1 << 12  # the most dropouts in a graph; a BERT-large has 73


class Dropout:
    """The dropout of a graph: each call dropout(x, rate) is a place in the graph with a seed of its own.

    So a resumed run drops what the uninterrupted run would have. A recomputed layer passes its `place` again.
    """

    def __init__(self, backend: Backend, seed: int, batch: Tensor) -> None:
        """Derive seeds from the run's seed and the number, int64, of the batch among this rank's batches."""
        self._backend = backend
        self._first = (seed % (1 << 31)) * (1 << 16) + backend.rank
        self._batch = batch
        self._count = 0

    def __call__(self, x: Tensor, rate: float, place: int | None = None) -> Tensor:
        return self._backend.dropout(x, rate, self._seed(place))

    def product(self, x: Tensor, y: Tensor, rate: float, place: int | None = None) -> Tensor:
        """Drop from x, then multiply by y."""
        return self._backend.dropped_product(x, y, rate, self._seed(place))

    def _seed(self, place: int | None) -> Tensor:
        if place is None:
            place, self._count = self._count, self._count + 1
        return tf.stack([tf.constant(self._first, tf.int64), self._batch * _PLACES + place])
