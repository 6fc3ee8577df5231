"""Rank tables and inventories as text to read."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from rank_table.inventory import Inventory
from rank_table.table import RankTable

Row = Sequence[str]


def show(table: RankTable) -> str:
    """Write a heading and one line for each rank, server after server."""
    title = f"version {table.version}" if table.version else f"legacy template ({table.layout})"
    ranks, servers = _counted(table.world_size, "rank"), _counted(len(table.servers), "server")
    head = f"{title}, status {table.status or '-'}: {ranks} on {servers}"
    return head + "\n" + columns(_without_empty([_TITLES, *_rows(table)]))


_TITLES = ("SERVER", "RANK", "DEVICE", "ADDRESS", "SUPER POD", "SUPER DEVICE", "LOCAL ID", "POD")


def _rows(table: RankTable) -> list[Row]:
    pods: dict[str, str] = {s.server_id: pod.super_pod_id for pod in table.super_pods for s in pod.servers}
    rows: list[Row] = []
    for name in table.servers:
        for index, rank in enumerate(table.ranks_of(name)):
            rows.append(
                (
                    name if index == 0 else "",
                    str(rank.rank_id),
                    "host" if rank.device_id < 0 else str(rank.device_id),
                    rank.device_ip or _level_addresses(rank.levels),
                    pods.get(name, "") if index == 0 else "",
                    rank.super_device_id,
                    "" if rank.local_id < 0 else str(rank.local_id),
                    rank.pod_name,
                )
            )
    return rows


def _level_addresses(levels: Sequence[Mapping[str, Any]]) -> str:
    lists = [level.get("rank_addr_list") for level in levels]
    items = [item for addresses in lists if isinstance(addresses, list) for item in addresses]
    return ",".join(dict.fromkeys(str(item.get("addr", "")) for item in items if isinstance(item, dict)))


def _without_empty(rows: list[Row]) -> list[Row]:
    kept = [index for index in range(len(rows[0])) if index < 3 or any(row[index] for row in rows[1:])]
    return [tuple(row[index] for index in kept) for row in rows]


def columns(rows: Sequence[Row]) -> str:
    """Align rows; the first one has the titles."""
    rows = [[str(cell).replace("\n", "\\n") for cell in row] for row in rows]  # a name forges no line
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    return "\n".join(lines) + "\n"


def show_inventory(inventory: Inventory, numbers: Sequence[Row], explain: bool) -> str:
    """Write hosts, and their devices in every numbering space; `explain` adds the source of each value."""
    parts: list[str] = []
    first = 1
    for host in inventory.hosts:
        facts = [("chip", host.chip), ("super pod", host.super_pod_id), ("address", host.host_ip)]
        known = [f"{name} {value}" for name, value in facts if value]
        count = len(host.devices)
        parts.append(
            f"{host.server_id}: {', '.join([_counted(count, 'device') if count else 'no NPU', *known])}\n"
        )
        rows = numbers[first : first + count]
        first += count
        if rows:
            more = [
                (d.device_ip, d.super_device_id, d.health, d.cores, d.memory, ", ".join(d.holders))
                for d in host.devices
            ]
            titles = (*numbers[0], "ADDRESS", "SUPER DEVICE", "HEALTH", "CPUS", "MEMORY", "HELD BY")
            full = _without_empty([titles, *((*row, *facts_) for row, facts_ in zip(rows, more))])
            parts.append(columns(full))
        if explain:
            parts.append(_sources(host.origin, ""))
            parts.extend(_sources(device.origin, f"device {device.device_id} ") for device in host.devices)
    parts.extend(f"note: {note}\n" for note in inventory.notes)
    return "".join(parts)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _sources(origin: Mapping[str, str], prefix: str) -> str:
    return "".join(f"  {prefix}{key}: {source}\n" for key, source in origin.items() if source)
