"""The parts of a rank table, the same for every version. Stdlib only: every training process imports this."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping

# The formats of a table. The legacy templates have no version; HCCL calls both "template 2".
LAYOUTS = ("1.0", "1.1", "1.2", "2.0", "cloud", "lab")


def _nothing() -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True)
class Rank:
    """One rank: its number, its device (physical id; -1: a process of the host), its server.

    `levels` are the network levels of 2.0 as written; `extra` holds the device's other keys as written
    (ports, backup addresses, and what HCCL does not read), `instance` those of a lab table's instance.
    """

    rank_id: int
    device_id: int
    server_id: str
    device_ip: str = ""
    super_device_id: str = ""
    local_id: int = -1
    pod_name: str = ""
    group: int = 0  # index into RankTable.groups, legacy templates only
    levels: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    extra: Mapping[str, Any] = field(default_factory=_nothing, hash=False)
    instance: Mapping[str, Any] = field(default_factory=_nothing, hash=False)


@dataclass(frozen=True)
class Server:
    """A server, a node (1.1) or an instance (cloud), with its other keys as written."""

    server_id: str
    pod_name: str = ""
    extra: Mapping[str, Any] = field(default_factory=_nothing, hash=False)


@dataclass(frozen=True)
class SuperPod:
    """A super pod of 1.2 and its servers."""

    super_pod_id: str
    servers: tuple[Server, ...]
    extra: Mapping[str, Any] = field(default_factory=_nothing, hash=False)
