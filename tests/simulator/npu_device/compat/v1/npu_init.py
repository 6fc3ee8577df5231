"""What npu_bridge.npu_init has, but for the loss scale managers and optimizers, which are not there."""

from __future__ import annotations

from typing import Any, List, Sequence

from npu_simulator import loop as util  # noqa: F401
from npu_simulator import ops
from npu_simulator.device import WORLD
from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig  # noqa: F401


class npu_ops:
    dropout = staticmethod(ops.dropout)

    @staticmethod
    def initialize_system(name: Any = None) -> Any:
        return ops.system("initialize_system", name)

    @staticmethod
    def shutdown_system(name: Any = None) -> Any:
        return ops.system("shutdown_system", name)


class npu_unary_ops:
    gelu = staticmethod(ops.gelu)


class hccl_ops:
    @staticmethod
    def allreduce(
        tensor: Any, reduction: str, fusion: int = 1, fusion_id: int = -1, group: str = WORLD
    ) -> Any:
        return ops.allreduce(tensor, reduction, fusion, fusion_id, group)

    @staticmethod
    def allgather(
        tensor: Any, rank_size: int, group: str = WORLD, fusion: int = 0, fusion_id: int = -1
    ) -> Any:
        return ops.allgather(tensor, rank_size, group, fusion, fusion_id)

    @staticmethod
    def broadcast(
        tensor_list: Sequence[Any], root_rank: int, fusion: int = 2, fusion_id: int = 0, group: str = WORLD
    ) -> List[Any]:
        return ops.broadcast(tensor_list, root_rank, fusion, fusion_id, group)


def __getattr__(name: str) -> Any:
    raise AttributeError("%s: not part of the session route on TensorFlow 2" % name)
