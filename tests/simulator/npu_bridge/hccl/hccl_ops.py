"""The collectives, with the adapter's signatures."""

from __future__ import annotations

from typing import Any, Sequence

import tensorflow.compat.v1 as tf
from npu_simulator.device import WORLD
from npu_simulator.names import signature

from ..helper.helper import get_gen_ops

_ops = get_gen_ops()


def allreduce(tensor: Any, reduction: str, fusion: int = 1, fusion_id: int = -1, group: str = WORLD) -> Any:
    return _ops.hcom_all_reduce(
        input=tensor, reduction=reduction, group=group, fusion=fusion, fusion_id=fusion_id
    )


if "fusion_id" in signature("npu_bridge.hccl.hccl_ops:allgather"):

    def allgather(
        tensor: Any, rank_size: int, group: str = WORLD, fusion: int = 0, fusion_id: int = -1
    ) -> Any:
        return _ops.hcom_all_gather(
            input=tensor, group=group, fusion=fusion, fusion_id=fusion_id, rank_size=rank_size
        )

else:

    def allgather(tensor: Any, rank_size: int, group: str = WORLD) -> Any:  # type: ignore[misc]
        return _ops.hcom_all_gather(input=tensor, group=group, rank_size=rank_size)


def broadcast(
    tensor: Sequence[Any], root_rank: int, fusion: int = 2, fusion_id: int = 0, group: str = WORLD
) -> list[Any]:
    return _ops.hcom_broadcast(
        input=tensor, fusion=fusion, fusion_id=fusion_id, group=group, root_rank=root_rank
    )


def _all_reduce_gradient(operation: Any, upstream: Any) -> Any:
    return allreduce(upstream, "sum", fusion=0)


tf.RegisterGradient("HcomAllReduce")(_all_reduce_gradient)
