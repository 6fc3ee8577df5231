"""All that the trainer knows of a device."""

from __future__ import annotations

from typing import Any, Sequence


class Backend:
    """Answer for a device and for the other ranks; size 1 runs the same code."""

    name = ""
    rank = 0
    size = 1
    fused_adam = False  # True: TensorFlow's fused Adam is there and is faster
    repeats_dropout = True  # False: its dropout has no seed, so a layer cannot be computed twice
    supports_sparse_gradients = False  # True: all_reduce_sum takes rows of a table (tf.IndexedSlices), and gives such back
    static_shapes = False  # True: every batch must have the shapes of the first, and the graph says them
    steps_per_call = 1  # the most training steps that one run_steps makes on the device
    predictions_at_once = 1  # batches whose prediction may overlap
    loads_on_every_rank = False  # True: a checkpoint is loaded by all ranks, as all must run the same graphs

    def session_config(self) -> Any:
        """Give the tf.ConfigProto of every session."""
        raise NotImplementedError

    def all_reduce_sum(self, tensors: Sequence[Any]) -> list[Any]:
        """Sum each tensor over the ranks, in the graph; bit-equal on all of them."""
        raise NotImplementedError

    def broadcast(self, variables: Sequence[Any]) -> Any:
        """Give an operation that copies rank 0's values to all ranks."""
        raise NotImplementedError

    def barrier(self) -> None:
        """Wait for all ranks (host side)."""
        raise NotImplementedError

    def all_gather(self, value: Any) -> list[Any]:
        """Collect a JSON value of every rank (host side)."""
        raise NotImplementedError

    def gelu(self, x: Any) -> Any:
        """Give the exact gelu of a tensor."""
        raise NotImplementedError

    def dropout(self, x: Any, rate: float, seed: Any) -> Any:
        """Drop a share of the elements and scale the rest; which ones is a pure function of seed int64 [2].

        So a resumed run and a recomputed layer drop the same elements. A device whose own dropout has no
        such seed may ignore it, and says so.
        """
        raise NotImplementedError

    def dropped_product(self, x: Any, y: Any, rate: float, seed: Any) -> Any:
        """Multiply the matrices of x, dropped as `dropout` does, by those of y."""
        import tensorflow.compat.v1 as tf

        return tf.matmul(self.dropout(x, rate, seed), y)

    def all_finite(self, tensors: Sequence[Any], norm: Any) -> Any:
        """Say (bool) whether the summed gradients, of this norm, hold no overflow; equal on all ranks."""
        raise NotImplementedError

    def gather(self, table: Any, ids: Any) -> Any:
        """Look rows [len(ids), H] of a table up."""
        import tensorflow.compat.v1 as tf

        return tf.gather(table, ids)

    def loss_scale_manager(self, scale: float, initial: float) -> Any | None:
        """Give the device's own manager of the loss scale; None: the trainer uses its own.

        scale: 0 dynamic from `initial` on, 1 or more that value. A manager has get_loss_scale() -> float32
        tensor, update_loss_scale(finite bool tensor) -> operation, and variables, a list to save and restore.
        """
        return None

    def train_op(self, step: Any) -> Any:
        """Prepare the operation of one training step for run_steps; call it once, when the graph is built."""
        return step

    def run_steps(self, session: Any, fetches: Any, count: int) -> Any:
        """Run 1 <= count <= steps_per_call training steps; give the values of `fetches` after the last.

        `fetches` holds what train_op gave, as session.run takes it.
        """
        result = None
        for _ in range(count):
            result = session.run(fetches)
        return result

    def close(self) -> None:
        """Release the device."""
