"""Version 1.1: hosts and devices mixed."""

from __future__ import annotations

from typing import Any, Mapping

from rank_table.rules import values
from rank_table.rules.finding import Report


def check(document: Mapping[str, Any], report: Report) -> None:
    """Check node_list, its addresses, and that the ranks are 0 to n-1."""
    if document.get("collective_id") is not None:
        values.name(report, "collective_id.length", document, "collective_id", "", 127)
    nodes: dict[str, str] = {}
    ranks: list[tuple[str, Any, int]] = []
    for path, node in values.objects(report, "node_list.missing", document, "node_list", ""):
        name = values.name(report, "ip.invalid", node, "node_addr", path, 127)
        if name and values.address(report, name, path + ".node_addr") and name in nodes:
            message = f"same as {nodes[name]}"
            report.error("node_addr.unique", path + ".node_addr", name, message, "list every node once")
        nodes.setdefault(name, path)
        for here, item in values.objects(report, "node_list.missing", node, "ranks", path):
            rank = _rank(report, here, item)
            if rank is not None:
                ranks.append((here, item.get("rank_id"), rank))
    sequence(report, "rank_id.sequence", ranks)


def _rank(report: Report, path: str, item: Mapping[str, Any]) -> int | None:
    device = values.text(report, item, "device_id", path)
    if device is None or device.strip() != "-1":  # -1: a process of the host
        values.number(report, "device_id.number", item, "device_id", path)
    values.addresses(report, item, "rank_ip", path)
    if item.get("port") not in (None, "0"):
        values.port(report, item, "port", path)
    return values.number(report, "rank_id.number", item, "rank_id", path)


def sequence(report: Report, rule: str, ranks: list[tuple[str, Any, int]]) -> None:
    """Check that the ranks of (path, value, rank) are 0 to n-1, each once."""
    seen: dict[int, str] = {}
    todo = f"number the ranks 0 to {len(ranks) - 1}, each once"
    for path, value, rank in ranks:
        where = path + ".rank_id"
        if rank >= len(ranks):
            report.error(rule, where, value, f"not less than the {len(ranks)} ranks of the table", todo)
        elif rank in seen:
            report.error(rule, where, value, f"same as {seen[rank]}", todo)
        seen.setdefault(rank, path)
