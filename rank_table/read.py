"""Read a JSON document of any layout that HCCL reads into the parts of a rank table. Stdlib only.

It reads what HCCL would read and no more; whether HCCL would accept it is checked by rank_table.check.
"""

from __future__ import annotations

import re
from typing import Any, Iterable, Iterator, Mapping, Sequence

from rank_table.errors import RankTableError
from rank_table.model import Rank, Server, SuperPod

Document = Mapping[str, Any]
DEVICE = frozenset(("device_id", "device_ip", "rank_id", "super_device_id"))
SERVER = frozenset(("server_id", "device"))
TOP = frozenset(("version", "status", "server_count", "server_list", "super_pod_list"))
HETEROG = frozenset(("version", "status", "node_list"))
LEGACY = frozenset(("status", "group_count", "group_list"))
V2 = frozenset(("version", "status", "rank_count", "rank_list"))
V2_RANK = frozenset(("rank_id", "device_id", "local_id", "level_list", "server_id"))
CLOUD_GROUP = frozenset(("device_count", "instance_count", "instance_list"))
LAB_GROUP = frozenset(("instance_count", "instance_list"))
_NUMBER = re.compile(r"\s*\+?([0-9]{1,10})")


def layout_of(document: Document) -> str:
    """Return the layout of a document. RankTableError: HCCL reads no such layout."""
    version = document.get("version")
    if version in ("1.0", "1.1", "1.2", "2.0"):
        return str(version)
    if version is not None:
        raise RankTableError(f"version: {version!r:.80}: unknown version (expected 1.0, 1.1, 1.2 or 2.0)")
    if "group_list" in document:
        return "lab" if "deploy_mode" in document else "cloud"
    raise RankTableError("no version, and not the legacy template either (no group_list)")


def read(document: Any) -> dict[str, Any]:
    """Return the fields of the RankTable that a parsed document describes; ranks in the order of their ids.

    Raises:
        RankTableError: with the JSON path of what cannot be read.
    """
    if not isinstance(document, dict):
        raise RankTableError("not a rank table: the document is not a JSON object")
    layout = layout_of(document)
    reader = {"1.1": _read_heterog, "2.0": _read_v2, "cloud": _read_cloud, "lab": _read_lab}.get(
        layout, _read_v1
    )
    parts = reader(document)
    parts["ranks"] = tuple(sorted(parts["ranks"], key=lambda rank: int(rank.rank_id)))
    parts.update(layout=layout, status=str(document.get("status", "")))
    return parts


def rest(item: Document, known: frozenset[str]) -> Document:
    """Return the keys of an object that are not among the known ones."""
    return {key: value for key, value in item.items() if key not in known}


def number(item: Document, key: str, place: str) -> int:
    """Read a number as HCCL does: text in 1.x (leading blanks and a tail are ignored), bare in 2.0."""
    value = item.get(key)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _NUMBER.match(value) if isinstance(value, str) else None
    if match is None:
        problem = "missing" if value is None else f"{value!r:.80} is not a number"
        raise RankTableError(f"{place}.{key}: {problem}")
    return int(match.group(1))


def objects(item: Document, key: str, place: str) -> Iterator[tuple[str, Document]]:
    """Yield the objects of a list: (JSON path, object)."""
    values = item.get(key)
    here = f"{place}.{key}" if place else key
    if not isinstance(values, list):
        raise RankTableError(f"{here}: {'missing' if values is None else 'not a list'}")
    if not values and key != "level_list":  # HCCL accepts no other empty list
        raise RankTableError(f"{here}: empty")
    for index, value in enumerate(values):
        if not isinstance(value, dict):
            raise RankTableError(f"{here}[{index}]: not an object")
        yield f"{here}[{index}]", value


def text(item: Document, key: str) -> str:
    """Read an optional text."""
    value = item.get(key)
    return "" if value is None else str(value)


def _read_v1(document: Document) -> dict[str, Any]:
    servers: list[Server] = []
    ranks: list[Rank] = []
    for place, server in objects(document, "server_list", ""):
        name = text(server, "server_id")
        servers.append(Server(name, extra=rest(server, SERVER)))
        for here, device in objects(server, "device", place):
            ranks.append(
                Rank(
                    number(device, "rank_id", here),
                    number(device, "device_id", here),
                    name,
                    text(device, "device_ip"),
                    text(device, "super_device_id"),
                    extra=rest(device, DEVICE),
                )
            )
    pods = tuple(_super_pods(document)) if "super_pod_list" in document else ()
    return {"ranks": ranks, "servers_": tuple(servers), "super_pods": pods, "extra": rest(document, TOP)}


def _super_pods(document: Document) -> Iterator[SuperPod]:
    for place, pod in objects(document, "super_pod_list", ""):
        servers = tuple(
            Server(text(server, "server_id"), extra=rest(server, frozenset(("server_id",))))
            for _, server in objects(pod, "server_list", place)
        )
        extra = rest(pod, frozenset(("super_pod_id", "server_list")))
        yield SuperPod(text(pod, "super_pod_id"), servers, extra)


def _read_heterog(document: Document) -> dict[str, Any]:
    servers: list[Server] = []
    ranks: list[Rank] = []
    known = frozenset(("rank_id", "device_id", "rank_ip"))
    for place, node in objects(document, "node_list", ""):
        name = text(node, "node_addr")
        servers.append(Server(name, extra=rest(node, frozenset(("node_addr", "ranks")))))
        for here, item in objects(node, "ranks", place):
            host = text(item, "device_id").strip() == "-1"  # a process of the host
            device = -1 if host else number(item, "device_id", here)
            address = text(item, "rank_ip")
            ranks.append(Rank(number(item, "rank_id", here), device, name, address, extra=rest(item, known)))
    return {"ranks": ranks, "servers_": tuple(servers), "extra": rest(document, HETEROG)}


def _read_v2(document: Document) -> dict[str, Any]:
    ranks = [_v2_rank(item, place) for place, item in objects(document, "rank_list", "")]
    return {"ranks": ranks, "servers_": (), "extra": rest(document, V2)}


def _v2_rank(item: Document, place: str) -> Rank:
    levels = tuple(level for _, level in objects(item, "level_list", place))
    device, local = number(item, "device_id", place), number(item, "local_id", place)
    server = text(item, "server_id") or v2_server(levels, device, local)
    rank = number(item, "rank_id", place)
    return Rank(rank, device, server, local_id=local, levels=levels, extra=rest(item, V2_RANK))


def v2_server(levels: Sequence[Document], device_id: int, local_id: int) -> str:
    """Derive a name for the host of a 2.0 rank, which the format lacks.

    Devices are numbered on their host, local ids in their net instance: ranks of one instance with the
    same difference of the two are on one host. (Tables made here have server_id, which HCCL ignores.)
    """
    instance = text(levels[0], "net_instance_id") if levels else ""
    return instance if local_id == device_id else f"{instance}+{local_id - device_id}"


def _instances(document: Document) -> Iterator[tuple[int, str, Document]]:
    for index, (place, group) in enumerate(objects(document, "group_list", "")):
        for here, instance in objects(group, "instance_list", place):
            yield index, here, instance


def _read_cloud(document: Document) -> dict[str, Any]:
    """Read the cloud template, which has no rank_ids: HCCL sorts by server_id as text, then by device."""
    servers: list[Server] = []
    found: list[tuple[str, int, str, str, int, Document]] = []
    for group, place, instance in _instances(document):
        name, pod = text(instance, "server_id"), text(instance, "pod_name")
        servers.append(Server(name, pod, rest(instance, frozenset(("pod_name", "server_id", "devices")))))
        for here, device in objects(instance, "devices", place):
            found.append(
                (name, number(device, "device_id", here), pod, text(device, "device_ip"), group, device)
            )
    found.sort(key=lambda item: item[:2])
    known = frozenset(("device_id", "device_ip"))
    ranks = [
        Rank(rank, device_id, name, address, pod_name=pod, group=group, extra=rest(device, known))
        for rank, (name, device_id, pod, address, group, device) in enumerate(found)
    ]
    groups = tuple(rest(group, CLOUD_GROUP) for _, group in objects(document, "group_list", ""))
    return {"ranks": ranks, "servers_": tuple(servers), "groups": groups, "extra": rest(document, LEGACY)}


def _read_lab(document: Document) -> dict[str, Any]:
    ranks: list[Rank] = []
    known, device_known = (
        frozenset(("rank_id", "server_id", "devices")),
        frozenset(("device_id", "device_ip")),
    )
    for group, place, instance in _instances(document):
        for here, device in objects(instance, "devices", place):
            ranks.append(
                Rank(
                    number(instance, "rank_id", place),
                    number(device, "device_id", here),
                    text(instance, "server_id"),
                    text(device, "device_ip"),
                    group=group,
                    extra=rest(device, device_known),
                    instance=rest(instance, known),
                )
            )
    groups = tuple(rest(group, LAB_GROUP) for _, group in objects(document, "group_list", ""))
    return {"ranks": ranks, "servers_": _names(ranks), "groups": groups, "extra": rest(document, LEGACY)}


def _names(ranks: Iterable[Rank]) -> tuple[Server, ...]:
    return tuple(Server(name) for name in dict.fromkeys(rank.server_id for rank in ranks))
