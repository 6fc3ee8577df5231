"""The collectives, with the adapter's signatures."""

from __future__ import annotations

from typing import Any, List, Sequence

from npu_simulator import ops
from npu_simulator.device import WORLD


def allreduce(tensor: Any, reduction: str, fusion: int = 1, fusion_id: int = -1, group: str = WORLD) -> Any:
    return ops.allreduce(tensor, reduction, fusion, fusion_id, group)


def allgather(tensor: Any, rank_size: int, group: str = WORLD, fusion: int = 0, fusion_id: int = -1) -> Any:
    return ops.allgather(tensor, rank_size, group, fusion, fusion_id)


def broadcast(
    tensor_list: Sequence[Any], root_rank: int, fusion: int = 2, fusion_id: int = 0, group: str = WORLD
) -> List[Any]:
    return ops.broadcast(tensor_list, root_rank, fusion, fusion_id, group)
