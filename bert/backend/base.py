"""All that the trainer knows of a device."""

from __future__ import annotations

from typing import Any, List, Sequence


class Backend:
    """Answer for a device and for the other ranks; size 1 runs the same code."""

    name = ""
    rank = 0
    size = 1

    def session_config(self) -> Any:
        """Give the tf.ConfigProto of every session."""
        raise NotImplementedError

    def all_reduce_sum(self, tensors: Sequence[Any]) -> List[Any]:
        """Sum each tensor over the ranks, in the graph; bit-equal on all of them."""
        raise NotImplementedError

    def broadcast(self, variables: Sequence[Any]) -> Any:
        """Give an operation that copies rank 0's values to all ranks."""
        raise NotImplementedError

    def barrier(self) -> None:
        """Wait for all ranks (host side)."""
        raise NotImplementedError

    def all_gather(self, value: Any) -> List[Any]:
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

    def all_finite(self, tensors: Sequence[Any], norm: Any) -> Any:
        """Say (bool) whether the summed gradients, of this norm, hold no overflow; equal on all ranks."""
        raise NotImplementedError

    def run_steps(self, session: Any, train_op: Any, count: int) -> None:
        """Run `count` training steps."""
        for _ in range(count):
            session.run(train_op)

    def close(self) -> None:
        """Release the device."""
