"""The super pods of 1.2: rule 11, and what the documentation adds for A3."""

from __future__ import annotations

from typing import Any, Mapping

from rank_table.rules import values
from rank_table.rules.finding import Report
from rank_table.rules.v1 import View


def super_pods(view: View, report: Report) -> None:
    """Check super_pod_list against server_list, and the super_device_ids inside each super pod."""
    if view.version != "1.2" or report.chip not in ("", "A3"):
        return  # other chips ignore them
    if view.document.get("super_pod_list") is None:
        message = "missing: HCCL treats the servers as single ones"
        report.warning("super_pod.missing", "super_pod_list", None, message, "write it, or make version 1.0")
        return
    homes: dict[str, str] = {}
    known = set(view.ids)
    seen: dict[str, str] = {}
    for path, pod in values.objects(report, "super_pod.id", view.document, "super_pod_list", ""):
        name = values.name(report, "super_pod.id", pod, "super_pod_id", path, 127)
        if name and name in seen:
            report.error(
                "super_pod.unique",
                path + ".super_pod_id",
                name,
                f"same as {seen[name]}",
                "give it another name",
            )
        seen.setdefault(name, path)
        _servers_of(report, pod, path, name or path, known, homes)
    _uncovered(view, report, homes)
    _super_device_ids(view, report, homes)
    _adjacent(view, report, homes)
    _addresses(view, report)


def _servers_of(
    report: Report, pod: Mapping[str, Any], path: str, name: str, known: set[str], homes: dict[str, str]
) -> None:
    for here, server in values.objects(report, "super_pod.server", pod, "server_list", path):
        server_id = values.text(report, server, "server_id", here)
        where = here + ".server_id"
        if not server_id or server_id not in known:
            message = "missing" if not server_id else "not a server of server_list"
            report.error("super_pod.server", where, server_id, message, "write a server_id of server_list")
        elif server_id in homes:
            message = f"also in super pod {homes[server_id]}"
            report.error("super_pod.cover", where, server_id, message, "list every server in one super pod")
        else:
            homes[server_id] = name


def _uncovered(view: View, report: Report, homes: dict[str, str]) -> None:
    for (path, _), server_id in zip(view.servers, view.ids):
        if server_id and server_id not in homes:
            message = "in no super pod (serverNum in super_pod_list and server_list are inconsistent)"
            report.error("super_pod.cover", path + ".server_id", server_id, message, "add it to a super pod")


def _super_device_ids(view: View, report: Report, homes: dict[str, str]) -> None:
    seen: dict[tuple[str, int], str] = {}
    for entry in view.entries:
        where = entry.path + ".super_device_id"
        if not entry.item.get("super_device_id"):
            todo = "write the SDID (npu-smi info -t spod-info -i NPU -c CHIP)"
            report.error("super_device_id.missing", where, None, "missing", todo)
            continue
        number = values.number(report, "super_device_id.number", entry.item, "super_device_id", entry.path)
        if number is None:
            continue
        key = (homes.get(view.ids[entry.server], ""), number)
        if key in seen:
            message = f"same as {seen[key]}, in the same super pod"
            todo = "write each device's own SDID"
            report.error("super_device_id.unique", where, entry.item["super_device_id"], message, todo)
        seen.setdefault(key, entry.path)


def _adjacent(view: View, report: Report, homes: dict[str, str]) -> None:
    closed: list[str] = []
    before: str | None = None
    for (path, _), server_id in zip(view.servers, view.ids):
        pod = homes.get(server_id)
        if pod is None or pod == before:
            continue
        if pod in closed:
            message = f"its super pod {pod} also has servers before the previous super pod"
            todo = "list the servers of a super pod one after the other"
            report.warning("doc.pods-adjacent", path, server_id, message, todo, chip="A3")
        if before is not None:
            closed.append(before)
        before = pod


def _addresses(view: View, report: Report) -> None:
    off = report.environ.get("HCCL_INTER_HCCS_DISABLE", "").upper() == "TRUE"
    if not off:  # with several super pods the parser itself asks for the addresses
        return
    for entry in view.entries:
        if not entry.ips:
            message = "missing, but needed with HCCL_INTER_HCCS_DISABLE=TRUE"
            where = entry.path + ".device_ip"
            report.warning("doc.a3-device_ip", where, None, message, "write its address", chip="A3")
