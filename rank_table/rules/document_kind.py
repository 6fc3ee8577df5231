"""The kind of a document: a rank table of one of the layouts, or another kind that is called so too."""

from __future__ import annotations

import difflib
from typing import Any, Mapping

from rank_table.rules.finding import Report

Document = Mapping[str, Any]
KNOWN_KEYS = (
    "version",
    "status",
    "server_list",
    "server_count",
    "group_list",
    "node_list",
    "rank_list",
    "rank_count",
)
LISTS = {"1.0": "server_list", "1.1": "node_list", "1.2": "server_list", "2.0": "rank_list"}
# Chips whose HCCL reads a version.
READERS = {"1.0": ("910A", "A2", "A3"), "1.1": ("910A", "A2", "A3"), "1.2": ("A3",), "2.0": ("950",)}


def layout(document: Any, report: Report) -> str:
    """Return the layout to check; "" when the document is of another kind, which is reported."""
    if not isinstance(document, dict):
        report.error("kind.unknown", "", document, "not a JSON object", "give a rank table")
        return ""
    other = _other_kind(document)
    if other:
        report.error(other[0], "", None, other[1], other[2])
        return ""
    if list(document) == ["status"] and document["status"] != "completed":
        return "waiting"
    version = document.get("version")
    if version is None:
        return _without_version(document, report)
    return _with_version(document, version, report)


def _with_version(document: Document, version: Any, report: Report) -> str:
    if not isinstance(version, str):
        report.error("scalar.string", "version", version, "not a string", f'write "{str(version)[:20]}"')
        version = str(version)
    if version not in LISTS:
        todo = 'write "1.0" (910A, A2), "1.2" (A3 super pod) or "2.0" (950)'
        report.error("version.unknown", "version", version, "unknown to HCCL", todo)
        return ""
    wanted = LISTS[version]
    found = next(
        (key for key in ("rank_list", "server_list", "node_list", "group_list") if key in document), ""
    )
    if wanted not in document and found:
        right = {"rank_list": "2.0", "server_list": "1.0", "node_list": "1.1"}.get(found, "no version at all")
        message = f"has {found}, which is the layout of {right}"
        report.error(
            "version.layout", "version", version, message, "convert: npu-launch rank-table convert --to 1.0"
        )
        return ""
    _chip_reads(version, report)
    return str(version)


def _chip_reads(version: str, report: Report) -> None:
    readers = READERS[version]
    if report.chip and report.chip not in readers:
        wants = "2.0" if report.chip == "950" else "1.0"
        if version == "1.2":
            message = f"its super pods are read on A3 only; {report.chip} reads {wants}"
            note = report.error if report.chip == "950" else report.warning
            note("version.chip", "version", version, message, f"make it for {report.chip}")
            return
        message = f"{report.chip} reads only {wants}"
        report.error("version.chip", "version", version, message, f"make it for {report.chip}")
    report.narrow(*readers)


def _without_version(document: Document, report: Report) -> str:
    if "group_list" in document:
        report.narrow("910A")
        if report.chip == "950":
            report.error("version.chip", "version", None, "missing; 950 reads only 2.0", "make it for 950")
        return "lab" if "deploy_mode" in document else "cloud"
    for key, version in (("server_list", "1.0"), ("rank_list", "2.0"), ("node_list", "1.1")):
        if key in document:
            message = "missing: HCCL reads the table as the legacy template and finds no group_list"
            report.error("version.missing", "version", None, message, f'write "version": "{version}"')
            return version
    _unknown(document, report)
    return ""


def _unknown(document: Document, report: Report) -> None:
    near = [
        (key, match[0])
        for key in list(document)[:50]
        for match in [difflib.get_close_matches(key[:40], KNOWN_KEYS, 1, 0.7)]
        if match
    ]
    todo = f"did you mean {near[0][1]}?" if near else "make one: npu-launch rank-table make"
    path = near[0][0][:60] if near else ""
    report.error("kind.unknown", path, None, "no key of a rank table", todo)


def _other_kind(document: Document) -> tuple[str, str, str] | None:
    """Recognise the documents that are mistaken for rank tables: (rule, what it is, what to do)."""
    make = "make one: npu-launch rank-table make"
    if "server_group_list" in document:
        return (
            "kind.global-ranktable",
            "MindIE's global-ranktable (server_group_list), not HCCL's rank table",
            make,
        )
    if "prefill_device_list" in document or "decode_device_list" in document:
        return "kind.prefill-decode", "vllm-ascend's prefill and decode table, not HCCL's rank table", make
    if "peer_list" in document or "edge_list" in document:
        return (
            "kind.topology",
            "the topology file of an Ascend 950 (HCCL_TOPO_FILE_PATH), not a rank table",
            make,
        )
    if isinstance(document.get("hosts"), list):
        todo = "make the table from it: npu-launch rank-table make --hosts FILE"
        return "kind.inventory", "an inventory of npu-launch, not a rank table", todo
    if document.get("kind") in ("ConfigMap", "Secret") and "data" in document:
        return (
            "kind.configmap",
            "a Kubernetes object; the table is the text in its data",
            "extract data['hccl.json']",
        )
    if "pod_name" in document and isinstance(document.get("devices"), list):
        todo = "use the finished hccl.json, which has all pods"
        return "kind.annotation", "the device annotation of one pod (ascend-910-configuration)", todo
    return _by_entries(document, make)


def _by_entries(document: Document, make: str) -> tuple[str, str, str] | None:
    servers = document.get("server_list")
    first = servers[0] if isinstance(servers, list) and servers and isinstance(servers[0], dict) else {}
    if "tor_count" in document or "tor_id" in first or "tor_ip" in first:
        return "kind.tor", "the TOR switch map of Volcano (tor_id, tor_ip), not a rank table", make
    devices = _items(servers, "device")
    if devices and document.get("version") in ("1.0", "1.2") and not any("rank_id" in d for d in devices):
        return (
            "kind.local-comm-res",
            "no device has a rank_id: the local_comm_res of LLM-DataDist, which describes one process",
            make,
        )
    listed = document.get("rank_list")
    ranks = [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
    if ranks and not any("rank_id" in item for item in ranks):
        todo = "make the table on each host from it, then merge: npu-launch rank-table make --chip 950"
        return (
            "kind.rootinfo",
            "no rank has a rank_id: the root info of one host (/etc/hccl_rootinfo.json)",
            todo,
        )
    return None


def _items(servers: Any, key: str) -> tuple[Mapping[str, Any], ...]:
    known = [item for item in servers if isinstance(item, dict)] if isinstance(servers, list) else []
    lists = [item[key] for item in known if isinstance(item.get(key), list)]
    return tuple(item for items in lists for item in items if isinstance(item, dict))
