"""Types that several modules share: TensorFlow's values, batches, collectives, loss-scale managers.

All but `Tensor` exist for the type checker alone (Python 3.7 has neither TypedDict nor Protocol), so they are
imported under TYPE_CHECKING.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

Tensor = Any  # a tensor, variable, operation or session: TensorFlow has no types

if TYPE_CHECKING:
    from typing import Callable, Iterator, Mapping, Protocol, Sequence, TypedDict

    import numpy as np

    class PredictBatch(TypedDict):
        """What the model reads: int32 arrays of B rows and L columns."""

        input_ids: np.ndarray
        input_mask: np.ndarray
        segment_ids: np.ndarray

    class Batch(PredictBatch, total=False):
        """What a training step reads; K features a row. squad/data/batching.py says what each entry means."""

        start_positions: np.ndarray
        end_positions: np.ndarray
        example_weights: np.ndarray
        global_weight: np.float32
        position_ids: np.ndarray
        feature_ids: np.ndarray

    Batches = Callable[[int], Iterator[Batch]]
    Logits = tuple[np.ndarray, np.ndarray]  # of starts and of ends, [B, L] each

    class Evaluation(Protocol):
        """What a training evaluates itself on; the same on all ranks, which share the work."""

        shape: tuple[int, int]  # rows and columns of a batch, where the device has static shapes
        about: Mapping[str, Any]  # what rank 0 adds to the JSON of a checkpoint of what was measured last

        def measure(
            self, run: Callable[[Iterator[PredictBatch]], Iterator[Logits]], stopped: Callable[[], bool]
        ) -> Mapping[str, float] | None:
            """Compute the figures, per cent, `f1` among them; equal on all ranks, which all call it.

            run: computes the logits of this rank's batches, of which there is one at least, in order; it
            may end early. stopped: is called once, after them; if it is true, the result is None.
            """

    class Collective(Protocol):
        """What the ranks of a job do together, on the host."""

        def barrier(self) -> None:
            """Wait for all ranks."""

        def all_reduce_sum(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
            """Sum arrays of one type over the ranks."""

        def all_gather(self, value: Any) -> list[Any]:
            """Collect a JSON value of every rank, in rank order."""

    class RowCollective(Collective, Protocol):
        """A collective that also concatenates rows of a table."""

        def all_gather_rows(self, rows: np.ndarray) -> np.ndarray:
            """Concatenate the rows of all ranks in rank order."""

    class LossScaleManager(Protocol):
        """What keeps the loss scale: npu_bridge's managers and bert.loss_scale.LossScale."""

        variables: list[Tensor]  # to save and restore

        def get_loss_scale(self) -> Tensor:
            """Return the scale, a float32 tensor."""

        def update_loss_scale(self, finite: Tensor) -> Tensor:
            """Return the operation that takes notice of a step: `finite`, a bool tensor, says how it went."""
