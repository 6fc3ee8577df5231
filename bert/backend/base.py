"""The interface of a device: all that the trainer needs of it."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Generator, Iterator, Sequence

from bert.backend.engine import Engine

if TYPE_CHECKING:
    from bert.config import BertConfig
    from bert.interfaces import Logits, LossScaleManager, PredictBatch, Tensor


class Backend(Engine):
    """A device that trains and predicts with TensorFlow."""

    fused_adam = False  # True: TensorFlow's fused Adam exists and is faster
    repeats_dropout = True  # False: its dropout has no seed, so a layer cannot be computed twice
    supports_sparse_gradients = (
        False  # True: all_reduce_sum takes and returns rows of a table, tf.IndexedSlices
    )
    steps_per_call = 1  # the most training steps that one run_steps makes on the device
    predictions_at_once = 1  # batches whose prediction may overlap
    loads_on_every_rank = False  # True: all ranks load a checkpoint, as all must run the same graphs
    waited: float | None = None  # seconds in the graph's collectives so far; None: the device does not tell

    def predict(
        self, config: BertConfig, prefix: str, batches: Iterator[PredictBatch], gelu: str = "exact"
    ) -> Generator[Logits, None, None]:
        from bert import predictor

        return predictor.predict(config, prefix, batches, self, gelu)

    @abstractmethod
    def session_config(self) -> Tensor:
        """Return the tf.ConfigProto of every session."""

    @abstractmethod
    def all_reduce_sum(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Sum each tensor over the ranks, in the graph; bit-equal on all of them."""

    @abstractmethod
    def broadcast(self, variables: Sequence[Tensor]) -> Tensor:
        """Return an operation that copies rank 0's values to all ranks."""

    def gelu(self, x: Tensor, form: str) -> Tensor:
        """Compute a form of gelu: exact, or tanh, its approximation."""
        from bert.model import GELUS

        return GELUS[form](x)

    @abstractmethod
    def dropout(self, x: Tensor, rate: float, seed: Tensor) -> Tensor:
        """Drop a share of the elements and scale the rest; which ones is a pure function of seed int64 [2].

        So a resumed run and a recomputed layer drop the same elements. A device whose own dropout has no
        such seed may ignore it; it then sets repeats_dropout to False.
        """

    def dropped_product(self, x: Tensor, y: Tensor, rate: float, seed: Tensor) -> Tensor:
        """Multiply the matrices of x, dropped as `dropout` does, by those of y."""
        import tensorflow.compat.v1 as tf

        return tf.matmul(self.dropout(x, rate, seed), y)

    @abstractmethod
    def all_finite(self, tensors: Sequence[Tensor], norm: Tensor) -> Tensor:
        """Tell (bool) whether no summed gradient, of this norm, has overflowed; equal on all ranks."""

    def gather(self, table: Tensor, ids: Tensor) -> Tensor:
        """Look up rows [len(ids), H] of a table."""
        import tensorflow.compat.v1 as tf

        return tf.gather(table, ids)

    def loss_scale_manager(
        self, scale: float, initial: float, every: tuple[int, int]
    ) -> LossScaleManager | None:
        """Return the device's own manager of the loss scale; None: the trainer uses its own.

        scale: 0 means dynamic, starting at `initial`; 1 or more is a static scale.
        every: good steps in a row after which it doubles, bad steps after which it halves.
        """
        return None

    def train_op(self, step: Tensor) -> Tensor:
        """Prepare the operation of one training step for run_steps; called once, when the graph is built."""
        return step

    def run_steps(self, session: Tensor, fetches: Any, count: int) -> Any:
        """Run 1 <= count <= steps_per_call training steps; return the values of `fetches` after the last.

        `fetches` contains what train_op returned, in any form that session.run accepts.
        """
        result = None
        for _ in range(count):
            result = session.run(fetches)
        return result
