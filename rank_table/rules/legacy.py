"""The legacy template, without a version: cloud (pods) and lab (deploy_mode)."""

from __future__ import annotations

from typing import Any, Mapping

from rank_table.rules import values
from rank_table.rules.finding import Report
from rank_table.rules.v1_1 import sequence

Item = Mapping[str, Any]


def check(document: Item, report: Report, lab: bool) -> None:
    """Check groups, instances and devices."""
    groups = values.objects(report, "instance.missing", document, "group_list", "")
    if document.get("group_count") is None:
        report.error("group_count", "group_count", None, "missing", f'write "{len(groups)}"')
    values.count(report, "group_count", document, "group_count", "", len(groups), "groups")
    if lab and document.get("para_plane_nic_location") != "device":
        value = document.get("para_plane_nic_location")
        todo = 'write "para_plane_nic_location": "device"'
        report.error("lab.nic-location", "para_plane_nic_location", value, "HCCL accepts only device", todo)
    devices = [device for path, group in groups for device in _group(report, path, group, lab)]
    servers: dict[str, int] = {}
    for _, server, _, _ in devices:
        servers[server] = servers.get(server, 0) + 1
    _device_ids(report, devices)
    _addresses(report, devices, len(servers) > 1)
    if lab:
        _average(report, servers)
    else:
        report.warning(
            "doc.legacy",
            "",
            None,
            "the legacy template",
            "convert: npu-launch rank-table convert --to 1.0 FILE",
        )


def _group(report: Report, path: str, group: Item, lab: bool) -> list[tuple[str, str, Item, Any]]:
    values.name(report, "group_name.length", group, "group_name", path, 127, empty=True)
    instances = values.objects(report, "instance.missing", group, "instance_list", path)
    values.count(report, "instance_count", group, "instance_count", path, len(instances), "instances")
    found: list[tuple[str, str, Item, Any]] = []
    pods: dict[str, str] = {}
    ranks: list[tuple[str, Any, int]] = []
    for here, instance in instances:
        server = values.name(report, "server_id.length", instance, "server_id", here, 64)
        if lab:
            rank = values.number(report, "rank_id.number", instance, "rank_id", here)
            if rank is not None:
                ranks.append((here, instance.get("rank_id"), rank))
        else:
            _pod(report, instance, here, pods)
        for place, device in values.objects(report, "instance.missing", instance, "devices", here):
            number = values.number(report, "device_id.number", device, "device_id", place)
            found.append((place, server, device, number))
    if lab:
        sequence(report, "rank_id.sequence", ranks)
    _device_count(report, group, path, len(found))
    return found


def _pod(report: Report, instance: Item, path: str, pods: dict[str, str]) -> None:
    pod = values.name(report, "pod_name.unique", instance, "pod_name", path, 127)
    if pod and pod in pods:
        message = f"same as {pods[pod]}"
        report.error("pod_name.unique", path + ".pod_name", pod, message, "give every instance its own")
    pods.setdefault(pod, path)


def _device_count(report: Report, group: Item, path: str, actual: int) -> None:
    for key in ("device_count", "device_num"):
        value = group.get(key)
        if isinstance(value, str) and value.isdigit() and value != str(actual):
            todo = f'write "{actual}"'
            report.warning("device_count", values.join(path, key), value, f"there are {actual} devices", todo)


def _device_ids(report: Report, devices: list[tuple[str, str, Item, Any]]) -> None:
    seen: dict[tuple[str, int], str] = {}
    for path, server, device, number in devices:
        if number is None:
            continue
        where, value = path + ".device_id", device.get("device_id")
        if number > 7:
            todo = "write the N of /dev/davinciN; for other chips make 1.0"
            report.error("device_id.range", where, value, "the legacy template has devices 0 to 7", todo)
        if (server, number) in seen:
            message = f"same as {seen[(server, number)]}"
            report.error("device_id.unique", where, value, message, "list each device once")
        seen.setdefault((server, number), path)


def _addresses(report: Report, devices: list[tuple[str, str, Item, Any]], several: bool) -> None:
    seen: dict[str, str] = {}
    for path, _, device, _ in devices:
        found = values.addresses(report, device, "device_ip", path)
        where = path + ".device_ip"
        if several and not device.get("device_ip"):
            todo = "write the address of its network port (hccn_tool -i N -ip -g)"
            report.error("device_ip.missing", where, None, "missing, but needed with several servers", todo)
        for address in found:
            if address in seen:
                message = f"same as {seen[address]}"
                report.error("device_ip.unique", where, address, message, "write each device's own address")
            seen.setdefault(address, path)


def _average(report: Report, servers: dict[str, int]) -> None:
    counts = set(servers.values())
    if len(counts) > 1 or counts - {1, 2, 4, 8, 16}:
        message = f"{', '.join(map(str, sorted(counts)))} devices per server"
        report.error(
            "lab.average", "group_list", None, message, "use 1, 2, 4, 8 or 16, the same on every server"
        )
