"""hccl.split.api: how gradients of fusion=1 are cut; the simulator does not fuse, so it only checks."""

from __future__ import annotations

from npu_simulator.device import WORLD


def set_split_strategy_by_idx(idxList: list[int], group: str = WORLD) -> None:
    if not idxList or sorted(set(idxList)) != idxList:
        raise ValueError("idxList must be ascending")


def set_split_strategy_by_size(dataSizeList: list[float], group: str = WORLD) -> None:
    if sum(dataSizeList) != 100:
        raise ValueError("dataSizeList must sum to 100")
