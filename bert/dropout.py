"""Dropout whose random numbers depend on nothing but the seed, the rank, the step and the place."""

from __future__ import annotations

from typing import Any

import tensorflow.compat.v1 as tf

from bert.backend.base import Backend

_PLACES = 1 << 12  # dropouts in a graph; a BERT-large has 73


class Dropout:
    """Call it as dropout(x, rate) while a graph is built: every call is a place with a seed of its own.

    So a resumed run drops what the uninterrupted one would have. A recomputed layer gives its `place` again.
    """

    def __init__(self, backend: Backend, seed: int, batch: Any) -> None:
        """Take the run's seed, and the number int64 of the batch among all that this rank has read."""
        self._backend = backend
        self._first = (seed % (1 << 31)) * (1 << 16) + backend.rank
        self._batch = batch
        self._count = 0

    def __call__(self, x: Any, rate: float, place: int | None = None) -> Any:
        return self._backend.dropout(x, rate, self._seed(place))

    def product(self, x: Any, y: Any, rate: float, place: int | None = None) -> Any:
        """Drop from x, then multiply by y."""
        return self._backend.dropped_product(x, y, rate, self._seed(place))

    def _seed(self, place: int | None) -> Any:
        if place is None:
            place, self._count = self._count, self._count + 1
        return tf.stack([tf.constant(self._first, tf.int64), self._batch * _PLACES + place])
