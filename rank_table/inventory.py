"""The devices of a job: hosts and their NPUs, or virtual devices on a CPU. Stdlib only."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from typing import Any, Mapping, Sequence

from rank_table.errors import InventoryError
from rank_table.ranges import spell

CHIPS = ("910A", "A2", "A3", "950")  # generations: 910A; 910B; 910C (910_93); 950


@dataclass(frozen=True)
class Device:
    """One device in every numbering space, and what its host's sources know about it.

    `device_id` is physical (the N of /dev/davinciN, as in a rank table); `logical_id` is the value for
    ASCEND_DEVICE_ID; `visible_index` is the position in ASCEND_RT_VISIBLE_DEVICES, -1 when that is not
    set; `npu_id` and `chip_id` are npu-smi's numbers, -1 when unknown. `origin` names the
    source of each value. `levels` are the network levels of an Ascend 950, as its documents write them.
    `memory` and `holders` are what npu-smi shows at this moment, for a person to read.
    """

    device_id: int
    logical_id: int
    device_ip: str = ""
    source: str = ""
    npu_id: int = -1
    chip_id: int = -1
    visible_index: int = -1
    super_device_id: str = ""
    health: str = ""
    cores: str = ""
    local_id: int = -1
    levels: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    memory: str = field(default="", compare=False)
    holders: tuple[str, ...] = field(default=(), compare=False)
    origin: Mapping[str, str] = field(default_factory=dict, hash=False, compare=False)

    def know(self, source: str, **values: Any) -> Device:
        """Return the device with more values and their source; empty and unknown (-1) ones are left out."""
        known = {name: value for name, value in values.items() if value not in ("", -1, ())}
        return replace(self, origin=dict(self.origin, **dict.fromkeys(known, source)), **known)


@dataclass(frozen=True)
class Host:
    """A server and its devices, in the order of their ranks."""

    server_id: str
    devices: tuple[Device, ...]
    host_ip: str = ""
    super_pod_id: str = ""
    chip: str = ""
    pod_name: str = ""
    origin: Mapping[str, str] = field(default_factory=dict, hash=False, compare=False)

    def only(self, device_ids: Sequence[int]) -> Host:
        """Return the host with these devices only, in this order.

        Raises:
            InventoryError: the host lacks one; the message lists those it has.
        """
        known = {device.device_id: device for device in self.devices}
        missing = [number for number in device_ids if number not in known]
        if missing:
            raise InventoryError(
                f"no device {spell(missing)} on {self.server_id}, "
                f"which has {spell(sorted(known)) or 'none'}; use physical device ids"
            )
        return replace(self, devices=tuple(known[number] for number in device_ids))


@dataclass(frozen=True)
class Inventory:
    """Every host of a job; the first one is this host unless stated otherwise."""

    hosts: tuple[Host, ...]
    source: str = ""
    notes: tuple[str, ...] = ()  # for the user: one line each

    @property
    def chip(self) -> str:
        """The generation that all hosts share, or ""."""
        chips = {host.chip for host in self.hosts}
        return chips.pop() if len(chips) == 1 else ""

    def only(self, device_ids: Sequence[int]) -> Inventory:
        """Return the inventory with only these devices of every host. InventoryError: a host lacks one."""
        return replace(self, hosts=tuple(host.only(device_ids) for host in self.hosts))


def virtual_cpu(device_ids: Sequence[int], server_id: str = "") -> Inventory:
    """Make virtual CPU devices with these ids, on this host.

    The server_id is the kernel's host name, which is never resolved: that needs a network, and on many
    hosts it gives 127.x, the same on all of them.
    """
    devices = tuple(
        Device(number, index, source="virtual", origin={"device_id": "--devices", "logical_id": "position"})
        for index, number in enumerate(device_ids)
    )
    name = server_id or os.uname().nodename[:64] or "localhost"
    host = Host(name, devices, origin={"server_id": "host name" if not server_id else "given"})
    return Inventory((host,), "virtual CPU devices")


def natural(text: str) -> list[Any]:
    """Return a sort key by which node2 comes before node10.

    >>> sorted(["node10", "node2", "10.0.0.9", "10.0.0.10"], key=natural)
    ['10.0.0.9', '10.0.0.10', 'node2', 'node10']
    """
    parts: list[Any] = []
    for word, digits in re.findall(r"([^0-9]*)([0-9]*)", text):
        parts.append((word, int(digits[:4000]) if digits else -1))
    return parts


def merge(inventories: Sequence[Inventory], order: Sequence[str] = ()) -> Inventory:
    """Join the hosts of several inventories: in the order given, else by server_id in natural order.

    Raises:
        InventoryError: duplicate server_id, or the order names another set of servers.
    """
    hosts: dict[str, Host] = {}
    for inventory in inventories:
        for host in inventory.hosts:
            if host.server_id in hosts:
                raise InventoryError(
                    f"duplicate server_id {host.server_id}; give each host its own (inventory --server-id)"
                )
            hosts[host.server_id] = host
    wanted = list(order) or sorted(hosts, key=natural)
    if sorted(wanted) != sorted(hosts):
        odd = sorted(set(wanted) ^ set(hosts)) or ["a server twice"]
        raise InventoryError(f"the order has {', '.join(odd)}, but the servers are {', '.join(hosts)}")
    notes = tuple(note for inventory in inventories for note in inventory.notes)
    return Inventory(tuple(hosts[name] for name in wanted), f"{len(hosts)} hosts", notes)
