"""Version 2.0, Ascend 950: numbers are numbers, texts are texts."""

from __future__ import annotations

import re
from typing import Any, Mapping

from rank_table.rules import values
from rank_table.rules.finding import Report
from rank_table.rules.v1_1 import sequence
from rank_table.sources.hccn import is_address

Item = Mapping[str, Any]
NET_TYPES = ("TOPO_FILE_DESC", "CLOS", "1DMESH", "2DMESH", "A3_SERVER", "A2_AX_SERVER")
BACKUP = 64  # the local_id of the spare NPU


def check(document: Item, report: Report) -> None:
    """Check the document, then every rank, then the ranks together."""
    status = document.get("status")
    if status is not None and not isinstance(status, str):
        report.error("v2.text", "status", status, "not a string", 'write "completed"')
    detour = document.get("detour")
    if detour is not None and detour not in ("true", "false", ""):
        report.error("v2.detour", "detour", detour, "Invalid detour value", 'write "true" or "false"')
    if "topo_file_path" in document:
        todo = "nothing to do if it lists every rank of the job"
        report.warning(
            "kind.rootinfo", "topo_file_path", None, "the root info of one host, used as a table", todo
        )
    ranks = values.objects(report, "v2.rank_list", document, "rank_list", "")
    if any("level" in level or "rank_addrs" in level for level in _levels(ranks)):
        todo = "write net_layer, net_instance_id, rank_addr_list, and rank_count as a number"
        report.error("kind.old-draft", "rank_list", None, "the draft of 2.0 (level, id, rank_addrs)", todo)
    _rank_count(report, document, len(ranks))
    found = [(path, item.get("rank_id"), _rank(report, path, item)) for path, item in ranks]
    sequence(report, "v2.rank_id", [(path, value, rank) for path, value, rank in found if rank is not None])
    _backups(report, ranks)
    _address_counts(report, ranks)


def _levels(ranks: list[tuple[str, Item]]) -> list[Item]:
    lists = [item.get("level_list") for _, item in ranks]
    return [
        level for levels in lists if isinstance(levels, list) for level in levels if isinstance(level, dict)
    ]


def _rank_count(report: Report, document: Item, actual: int) -> None:
    number = _number(report, "v2.rank_count", document, "rank_count", "", 1, 65536)
    if number is not None and number != actual:
        report.error("v2.rank_count", "rank_count", number, f"there are {actual} ranks", f"write {actual}")


def _number(
    report: Report, rule: str, item: Item, key: str, path: str, low: int, high: int, needed: bool = True
) -> int | None:
    value = item.get(key)
    where = values.join(path, key)
    todo = f"write a number from {low} to {high}, without quotes"
    if value is None:
        if needed:
            report.error(rule, where, None, "missing", todo)
        return None
    if type(value) is not int:
        report.error(rule, where, value, "not a JSON number", todo)
        return None
    if not low <= value <= high:
        report.error(rule, where, value, "out of range", todo)
        return None
    return value


def _rank(report: Report, path: str, item: Item) -> int | None:
    rank = _number(report, "v2.rank_id", item, "rank_id", path, 0, 0xFFFFFFFF)
    _number(report, "v2.number", item, "device_id", path, 0, 64)
    local = _number(report, "v2.number", item, "local_id", path, 0, BACKUP)
    _number(report, "v2.number", item, "replaced_local_id", path, 0, 63, needed=local == BACKUP)
    for key in ("device_port", "host_port"):
        _number(report, "port.range", item, key, path, 1, 65535, needed=False)
    control = item.get("control_plane")
    if control is not None:
        _control_plane(report, control, path + ".control_plane")
    levels = item.get("level_list")
    if not isinstance(levels, list) or len(levels) > 8:
        problem = (
            "missing"
            if levels is None
            else "not a list"
            if not isinstance(levels, list)
            else "more than 8 levels"
        )
        report.error("v2.levels", path + ".level_list", levels, problem, "write a list of up to 8 levels")
        return rank
    before = -1
    for index, level in enumerate(levels):
        before = _level(report, level, f"{path}.level_list[{index}]", before)
    return rank


def _control_plane(report: Report, control: Any, path: str) -> None:
    if not isinstance(control, dict):
        report.error("v2.address", path, control, "not an object", "write {addr_type, addr, listen_port}")
        return
    _address(report, control, path)
    _number(report, "port.range", control, "listen_port", path, 1, 65535)


def _level(report: Report, level: Any, path: str, before: int) -> int:
    if not isinstance(level, dict):
        report.error("v2.levels", path, level, "not an object", "write {net_layer, net_instance_id, ...}")
        return before
    layer = _number(report, "v2.levels", level, "net_layer", path, 0, 7)
    if layer is not None and layer <= before:
        report.error("v2.levels", path + ".net_layer", layer, "not ascending", "list layers from 0 upwards")
    _text(report, "v2.net_instance_id", level, "net_instance_id", path, 1, 1024)
    kind = level.get("net_type")
    if kind is not None and kind not in NET_TYPES:
        report.error(
            "v2.net_type", path + ".net_type", kind, "unknown", f"write one of {', '.join(NET_TYPES)}"
        )
    _address_list(report, level.get("rank_addr_list"), path + ".rank_addr_list")
    return before if layer is None else layer


def _address_list(report: Report, addresses: Any, path: str) -> None:
    if not isinstance(addresses, list) or len(addresses) > 24:
        problem = "missing" if addresses is None else "not a list of up to 24"
        report.error("v2.address", path, addresses, problem, "write a list of {addr_type, addr, ports}")
        return
    owner: dict[str, str] = {}
    for index, address in enumerate(addresses):
        here = f"{path}[{index}]"
        if not isinstance(address, dict):
            report.error("v2.address", here, address, "not an object", "write {addr_type, addr, ports}")
            continue
        _address(report, address, here)
        if address.get("plane_id") is not None:
            _text(report, "v2.text", address, "plane_id", here, 0, 1024)
        for port in _ports(report, address.get("ports"), here + ".ports"):
            where = str(address.get("addr"))[:256]
            if owner.setdefault(port, where) != where:
                message = f"also of address {owner[port][:60]}"
                report.error(
                    "v2.port-address", here + ".ports", port, message, "give a port one address of a layer"
                )


def _address(report: Report, item: Item, path: str) -> None:
    kind = item.get("addr_type")
    address = _text(report, "v2.address", item, "addr", path, 1, 256)
    if kind not in ("EID", "IPV4", "IPV6"):
        report.error(
            "v2.address", path + ".addr_type", kind, "unknown", "write EID, IPV4 or IPV6, upper case"
        )
    elif address and not _is(str(kind), address):
        message = f"not an {kind} address{values.hint(address)}"
        todo = "write 32 hex digits" if kind == "EID" else "write the address"
        report.error("v2.address", path + ".addr", address, message, todo)


def _is(kind: str, address: str) -> bool:
    if kind == "EID":
        return re.match(r"[0-9A-Fa-f]{32}\Z", address) is not None
    return is_address(address) and (address.count(":") >= 2) == (kind == "IPV6")


def _ports(report: Report, ports: Any, path: str) -> list[str]:
    good = isinstance(ports, list) and 1 <= len(ports) <= 16
    if not good or not all(isinstance(port, str) and 1 <= len(port) <= 32 for port in ports):
        problem = "missing" if ports is None else "not a list of 1 to 16 texts"
        report.error("v2.ports", path, ports, problem, 'write texts such as "0/1" (die/port)')
        return []
    if values.repeated(ports):
        report.error("v2.ports", path, ports, "duplicate port", "list each port once")
    return list(dict.fromkeys(ports))


def _text(report: Report, rule: str, item: Item, key: str, path: str, low: int, high: int) -> str:
    value = item.get(key)
    if not isinstance(value, str) or not low <= len(value) <= high:
        problem = "missing" if value is None else f"not a text of {low} to {high} characters"
        report.error(rule, values.join(path, key), value, problem, "write a text")
        return ""
    return value


def _backups(report: Report, ranks: list[tuple[str, Item]]) -> None:
    spare = [(path, item) for path, item in ranks if item.get("local_id") == BACKUP]
    for path, _ in spare[1:]:
        report.error("v2.backup", path + ".local_id", BACKUP, "a second backup NPU", "use one backup at most")
    used = {(_instance(item), item.get("local_id")): path for path, item in ranks if _local(item) is not None}
    for path, item in spare:
        replaced = item.get("replaced_local_id")
        if type(replaced) is int and (_instance(item), replaced) in used:
            message = f"the local_id that it replaces is that of {used[(_instance(item), replaced)]}"
            report.error(
                "v2.backup", path + ".replaced_local_id", replaced, message, "leave the replaced NPU out"
            )


def _local(item: Item) -> int | None:
    value = item.get("local_id")
    return value if type(value) is int else None


def _instance(item: Item) -> str:
    levels = item.get("level_list")
    first = levels[0] if isinstance(levels, list) and levels else None
    return str(first.get("net_instance_id"))[:1024] if isinstance(first, dict) else ""


def _address_counts(report: Report, ranks: list[tuple[str, Item]]) -> None:
    seen: dict[tuple[str, str], tuple[int, str]] = {}
    for path, item in ranks:
        for level in _levels([(path, item)]):
            addresses = level.get("rank_addr_list")
            if not isinstance(addresses, list):
                continue
            key = (str(level.get("net_layer"))[:20], str(level.get("net_instance_id"))[:1024])
            number, first = seen.setdefault(key, (len(addresses), path))
            if number != len(addresses):
                message = f"{len(addresses)} addresses in net instance {key[1][:60]}; {first} has {number}"
                report.error(
                    "v2.address-count", path, None, message, "give every rank of an instance the same number"
                )
