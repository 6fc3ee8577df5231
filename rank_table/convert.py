"""Convert a rank table to another layout, and report what the other layout cannot hold."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Mapping

from rank_table.errors import RankTableError
from rank_table.model import Rank, Server
from rank_table.table import RankTable

TARGETS = ("1.0", "1.2", "2.0", "cloud")


def convert(table: RankTable, layout: str, by_pod: bool = False) -> tuple[RankTable, list[str]]:
    """Return the table in another layout, and notes on what changes.

    A cloud table has no rank_ids: HCCL orders it by server_id as text, then by device. `by_pod` numbers it
    by the trailing number of pod_name instead, as ModelArts does.

    Raises:
        RankTableError: the table lacks what the target needs, or its ranks would change.
    """
    if layout not in TARGETS:
        raise RankTableError(f"{layout}: cannot be written (expected one of {', '.join(TARGETS)})")
    notes: list[str] = []
    if table.layout == "cloud":
        table, notes = _pods_in_order(table, by_pod)
    if layout == table.layout:
        return table, notes
    if layout == "2.0" or table.layout == "2.0":
        raise RankTableError(
            f"cannot convert {table.layout} to {layout}: only 2.0 has the network levels of a 950; "
            "make the table again on its hosts"
        )
    if layout == "1.2":
        return _to_1_2(table), notes
    if layout == "cloud":
        return _to_cloud(table), notes
    return _to_1_0(table, notes), notes


def _to_1_0(table: RankTable, notes: list[str]) -> RankTable:
    if any(rank.device_id < 0 for rank in table.ranks):
        raise RankTableError(
            "cannot convert to 1.0, which has devices only: a rank is a process of the host (device_id -1)"
        )
    if table.layout == "1.2":
        notes.append(
            "1.0 has no super pods and no super_device_id: HCCL then treats the servers as single ones"
        )
    ranks = tuple(
        replace(rank, super_device_id="", pod_name="", group=0, instance={}) for rank in table.ranks
    )
    return RankTable(ranks, "1.0", table.status or "completed", _servers(table), extra=_kept(table))


def _to_1_2(table: RankTable) -> RankTable:
    missing = next((rank for rank in table.ranks if not rank.super_device_id), None)
    if missing is not None or not table.super_pods:
        where = f"rank {missing.rank_id} has no super_device_id" if missing else "there is no super_pod_list"
        raise RankTableError(f"cannot convert to 1.2: {where}; make the table again on its hosts")
    return replace(table, layout="1.2")


def _to_cloud(table: RankTable) -> RankTable:
    order = [(rank.server_id, rank.device_id) for rank in table.ranks]
    if order != sorted(order):
        raise RankTableError(
            "cannot convert to the cloud template: it has no rank_ids, and HCCL would order by server_id as "
            "text, then by device, which is not the order of this table"
        )
    ranks = tuple(
        replace(rank, pod_name=rank.server_id, super_device_id="", instance={}) for rank in table.ranks
    )
    servers = tuple(Server(server.server_id, server.server_id, server.extra) for server in _servers(table))
    groups: tuple[Mapping[str, str], ...] = ({"group_name": "hccl_world_group"},)
    return RankTable(ranks, "cloud", table.status or "completed", servers, groups=groups)


def _servers(table: RankTable) -> tuple[Server, ...]:
    """List the servers in the order of the ranks; pods of one server become one entry."""
    extras: dict[str, Mapping[str, object]] = {}
    for server in table.server_list:
        extras.setdefault(server.server_id, server.extra)
    return tuple(Server(name, extra=extras.get(name, {})) for name in table.servers)


def _kept(table: RankTable) -> Mapping[str, object]:
    """Return the other keys of the document, unless they belong to the old layout only."""
    return table.extra if table.layout in ("1.0", "1.2") else {}


def _pods_in_order(table: RankTable, by_pod: bool) -> tuple[RankTable, list[str]]:
    ordered = sorted(table.ranks, key=lambda rank: (_pod_number(rank), rank.pod_name, rank.device_id))
    if [rank.rank_id for rank in ordered] == list(range(len(ordered))):
        return table, []
    if not by_pod:
        return table, [
            "ranks are numbered as HCCL orders the cloud template: by server_id as text, then by device; "
            "by pod name (ModelArts) the order differs: --by-pod"
        ]
    ranks = tuple(replace(rank, rank_id=index) for index, rank in enumerate(ordered))
    return replace(table, ranks=ranks), ["ranks are numbered by pod name, as ModelArts does"]


def _pod_number(rank: Rank) -> int:
    match = re.search(r"(\d{1,9})\Z", rank.pod_name)
    return int(match.group(1)) if match else -1
