"""hccl.manage.api: who we are, once HCCL is initialised."""

from __future__ import annotations

from npu_simulator.device import DEVICE, WORLD
from npu_simulator.refusals import refused


def _ranks(what: str, group: str) -> list[int]:
    DEVICE.need("rank_before_init", what)
    return DEVICE.need_group(group)


def get_rank_id(group: str = WORLD) -> int:
    return _ranks("get_rank_id", group).index(DEVICE.rank)


def get_rank_size(group: str = WORLD) -> int:
    return len(_ranks("get_rank_size", group))


def get_local_rank_id(group: str = WORLD) -> int:
    _ranks("get_local_rank_id", group)
    return DEVICE.local_rank


def get_local_rank_size(group: str = WORLD) -> int:
    _ranks("get_local_rank_size", group)
    return DEVICE.local_size


def get_world_rank_from_group_rank(group: str, group_rank_id: int) -> int:
    return _ranks("get_world_rank_from_group_rank", group)[group_rank_id]


def get_group_rank_from_world_rank(world_rank_id: int, group: str) -> int:
    return _ranks("get_group_rank_from_world_rank", group).index(world_rank_id)


def create_group(group: str, rank_num: int, rank_ids: list[int]) -> None:
    DEVICE.need("rank_before_init", "create_group")
    if not group or len(group) > 127 or group == WORLD or rank_num != len(set(rank_ids)):
        raise refused("group", f"group {group!r} of {rank_num} ranks {rank_ids}")
    DEVICE.groups[group] = sorted(rank_ids)


def destroy_group(group: str) -> None:
    _ranks("destroy_group", group)
    del DEVICE.groups[group]
