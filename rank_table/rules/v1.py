"""Versions 1.0 and 1.2: HCCL's rules, in HCCL's order (docs/rank-table.md)."""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple

from rank_table.ranges import spell
from rank_table.rules import values
from rank_table.rules.finding import Report

MOST_DEVICE = {"910A": 7, "A2": 15, "A3": 15, "950": 64}
LINKED_FOURS = tuple(
    frozenset(four)
    for four in (
        (0, 1, 2, 3),
        (4, 5, 6, 7),
        (0, 1, 4, 5),
        (0, 2, 4, 6),
        (0, 3, 4, 7),
        (1, 2, 5, 6),
        (1, 3, 5, 7),
        (2, 3, 6, 7),
    )
)


class Entry(NamedTuple):
    """One device of the document; None stands for a value that cannot be read."""

    server: int
    path: str
    item: Mapping[str, Any]
    device_id: int | None
    rank_id: int | None
    ips: list[str]


class View:
    """The servers and devices of a document, read once for all rules."""

    def __init__(self, document: Mapping[str, Any], report: Report) -> None:
        self.document = document
        self.version = str(document.get("version", "1.0"))
        self.servers = values.objects(report, "server_list.missing", document, "server_list", "")
        self.ids: list[str] = []
        self.entries: list[Entry] = []
        self.by_server: list[list[Entry]] = []
        for index, (path, server) in enumerate(self.servers):
            self.ids.append(values.name(report, "server_id.length", server, "server_id", path, 64))
            mine = [
                _entry(report, index, here, item)
                for here, item in values.objects(report, "device.missing", server, "device", path)
            ]
            self.by_server.append(mine)
            self.entries.extend(mine)

    @property
    def super_pods(self) -> list[Mapping[str, Any]]:
        pods = self.document.get("super_pod_list")
        return [pod for pod in pods if isinstance(pod, dict)] if isinstance(pods, list) else []

    def host_ip(self, server: int) -> bool:
        """Check whether a server has a host_ip."""
        return bool(self.servers[server][1].get("host_ip"))

    def first(self) -> Entry | None:
        """Return the device of rank 0."""
        return next((entry for entry in self.entries if entry.rank_id == 0), None)


def _entry(report: Report, server: int, path: str, item: Mapping[str, Any]) -> Entry:
    return Entry(
        server,
        path,
        item,
        values.number(report, "device_id.number", item, "device_id", path),
        values.number(report, "rank_id.number", item, "rank_id", path),
        values.addresses(report, item, "device_ip", path),
    )


def server_count(view: View, report: Report) -> None:
    """Rule 2."""
    values.count(report, "server_count", view.document, "server_count", "", len(view.servers), "servers")
    if view.document.get("server_count") is None and view.version == "1.0":
        todo = f'write "server_count": "{len(view.servers)}"'
        report.warning("server_count", "server_count", None, "missing; the documentation requires it", todo)


def server_id_unique(view: View, report: Report) -> None:
    """Rule 4."""
    seen: dict[str, str] = {}
    for (path, _), name in zip(view.servers, view.ids):
        if name and name in seen:
            message = f"same as {seen[name]}"
            report.error(
                "server_id.unique", path + ".server_id", name, message, "give every server its own name"
            )
        seen.setdefault(name, path)


def device_id_range(view: View, report: Report) -> None:
    """Rule 5: the ids that the chip has."""
    most = max(MOST_DEVICE[chip] for chip in report.chips)
    old = MOST_DEVICE["910A"]
    for entry in view.entries:
        if entry.device_id is None or entry.device_id <= old:
            continue
        path = entry.path + ".device_id"
        todo = "write the N of /dev/davinciN, the physical id"
        if entry.device_id > most:
            message = f"{report.chip or 'the largest host'} has devices 0 to {most}"
            report.error("device_id.range", path, entry.item["device_id"], message, todo)
        else:
            report.on(
                "910A", "device_id.range", path, entry.item["device_id"], "910A has devices 0 to 7", todo
            )


def device_ip_count(view: View, report: Report) -> None:
    """Rule 6: among the devices that have addresses."""
    first = next((entry for entry in view.entries if entry.ips), None)
    for entry in view.entries if first is not None else ():
        if entry.ips and first is not None and len(entry.ips) != len(first.ips):
            message = f"{len(entry.ips)} addresses; {first.path} has {len(first.ips)}"
            report.error(
                "device_ip.count",
                entry.path + ".device_ip",
                entry.item.get("device_ip"),
                message,
                "list as many",
            )


def device_ip_missing(view: View, report: Report) -> None:
    """Rule 7."""
    roce = report.environ.get("HCCL_INTRA_ROCE_ENABLE", "").strip() == "1"
    if len(view.servers) < 2 and not roce:
        return
    if report.chips == frozenset(("A3",)) and not roce and len(view.super_pods) <= 1:
        return  # inside one super pod the devices talk over HCCS
    reason = "HCCL_INTRA_ROCE_ENABLE=1" if roce else f"{len(view.servers)} servers"
    exempt = report.chips != frozenset(("A2",))
    todo = "write the address of its network port (hccn_tool -i N -ip -g, /etc/hccn.conf)"
    for entry in view.entries:
        if not entry.item.get("device_ip") and not (exempt and view.host_ip(entry.server)):
            message = f"missing, but needed with {reason}"
            report.error("device_ip.missing", entry.path + ".device_ip", None, message, todo)


def device_ip_unique(view: View, report: Report) -> None:
    """Rule 9."""
    seen: dict[str, str] = {}
    for entry in view.entries:
        for address in entry.ips:
            if address in seen:
                message = f"same as {seen[address]} (The IP is used repeatedly)"
                todo = "write each device's own address (hccn_tool -i N -ip -g)"
                report.error("device_ip.unique", entry.path + ".device_ip", address, message, todo)
            seen.setdefault(address, entry.path)


def host_addresses(view: View, report: Report) -> None:
    """Rule 8 for servers and backups, and the ports."""
    for path, server in view.servers:
        if server.get("host_ip") is not None:
            values.addresses(report, server, "host_ip", path)
    for entry in view.entries:
        if len(entry.item) <= 3:  # no ports
            continue
        if entry.item.get("backup_device_ip") is not None:
            values.addresses(report, entry.item, "backup_device_ip", entry.path)
        for key in ("device_port", "host_port", "device_vnic_port", "backup_device_port"):
            values.port(report, entry.item, key, entry.path)


def host_ip_mode(view: View, report: Report) -> None:
    """Rule 12."""
    first = view.first()
    if first is None or first.ips or not view.host_ip(first.server):
        return
    for index, (path, _) in enumerate(view.servers):
        if not view.host_ip(index):
            message = "missing, but rank 0 uses its host_ip (hostIp config differs between ranks)"
            report.error(
                "host_ip.mode", path + ".host_ip", None, message, "write host_ip on every server or on none"
            )


def rank_id_sequence(view: View, report: Report) -> None:
    """Rule 16."""
    size = len(view.entries)
    seen: dict[int, str] = {}
    for entry in view.entries:
        if entry.rank_id is None:
            continue
        where, value = entry.path + ".rank_id", entry.item.get("rank_id")
        todo = f"number the ranks 0 to {size - 1}, each once"
        if entry.rank_id >= size:
            report.error(
                "rank_id.sequence", where, value, f"not less than the {size} ranks of the table", todo
            )
        elif entry.rank_id in seen:
            report.error("rank_id.sequence", where, value, f"same as {seen[entry.rank_id]}", todo)
        seen.setdefault(entry.rank_id, entry.path)


def ip_family(view: View, report: Report) -> None:
    """Rule 17."""
    if len(view.servers) < 2:
        return
    found = [(address, entry.path + ".device_ip") for entry in view.entries for address in entry.ips]
    hosts = [(str(s["host_ip"]), path + ".host_ip") for path, s in view.servers if s.get("host_ip")]
    for addresses in (found, hosts):
        six = [address.count(":") >= 2 for address, _ in addresses]
        if any(six) and not all(six):
            odd = six.index(not six[0])
            message = f"IPv{6 if six[odd] else 4}, but {addresses[0][1]} is IPv{6 if six[0] else 4}"
            report.error(
                "ip.family",
                addresses[odd][1],
                addresses[odd][0],
                message,
                "use one family in the whole table",
            )


def server_balance(view: View, report: Report) -> None:
    """Rule 18, 910A."""
    counts = [len(entries) for entries in view.by_server]
    for index, number in enumerate(counts):
        if number != counts[0]:
            message = f"{number} devices, but {view.servers[0][0]} has {counts[0]}"
            path = view.servers[index][0] + ".device"
            report.on("910A", "server.balance", path, None, message, "list as many on every server")


def device_id_unique(view: View, report: Report) -> None:
    """Rule 19."""
    for entries in view.by_server:
        seen: dict[int, str] = {}
        for entry in entries:
            if entry.device_id is None:
                continue
            if entry.device_id in seen:
                message = f"same as {seen[entry.device_id]}"
                todo = "list each device once; a device has one rank"
                report.error(
                    "device_id.unique", entry.path + ".device_id", entry.item["device_id"], message, todo
                )
            seen.setdefault(entry.device_id, entry.path)


def four_set(view: View, report: Report) -> None:
    """Rule 20, 910A."""
    for index, entries in enumerate(view.by_server):
        ids = _ids(entries)
        if len(entries) == 4 and len(ids) == 4 and ids not in LINKED_FOURS:
            path = view.servers[index][0] + ".device"
            message = f"devices {spell(sorted(ids))} are not linked to each other on 910A"
            report.on("910A", "device.four-set", path, None, message, "use 0-3 or 4-7")


def nic_list(view: View, report: Report) -> None:
    """Rule 21, 910A: servers of 8 devices, several of them."""
    if len(view.servers) < 2:
        return
    lists: list[tuple[int, frozenset[int]]] = [
        (index, _ids([entry for entry in entries if entry.ips]))
        for index, entries in enumerate(view.by_server)
        if len(entries) == 8
    ]
    for index, ids in lists:
        if ids != lists[0][1]:
            mine, first = (spell(sorted(devices)) or "none" for devices in (ids, lists[0][1]))
            message = f"addresses on devices {mine}, but {first} on {view.servers[lists[0][0]][0]}"
            path = view.servers[index][0] + ".device"
            report.on(
                "910A", "device.nic-list", path, None, message, "give the same devices addresses everywhere"
            )


def _ids(entries: list[Entry]) -> frozenset[int]:
    return frozenset(entry.device_id for entry in entries if entry.device_id is not None)


RULES = (
    server_count,
    server_id_unique,
    device_id_range,
    device_ip_count,
    device_ip_missing,
    device_ip_unique,
    host_addresses,
    host_ip_mode,
    rank_id_sequence,
    ip_family,
    server_balance,
    device_id_unique,
    four_set,
    nic_list,
)
