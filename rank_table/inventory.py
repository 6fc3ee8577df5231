"""What devices there are: hosts and their NPUs, or virtual devices on a CPU. Stdlib only on this path."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple


class InventoryError(ValueError):
    """Say in one line what is wrong with an inventory."""


@dataclass(frozen=True)
class Device:
    """Hold one device: physical id (the N of /dev/davinciN), logical id, address of its network port."""

    device_id: int
    logical_id: int
    device_ip: str = ""
    source: str = ""


@dataclass(frozen=True)
class Host:
    """Hold a server and its devices, in the order of their physical ids."""

    server_id: str
    devices: Tuple[Device, ...]


@dataclass(frozen=True)
class Inventory:
    """Hold every host of a job; the first one is this host unless said otherwise."""

    hosts: Tuple[Host, ...]
    source: str = ""


def virtual_cpu(device_ids: Sequence[int], server_id: str = "") -> Inventory:
    """Make virtual CPU devices with the ids asked for, on this host."""
    devices = tuple(Device(number, index, source="virtual") for index, number in enumerate(device_ids))
    return Inventory((Host(server_id or socket.gethostname(), devices),), "virtual CPU devices")


def from_yaml(path: str) -> Inventory:
    """Read an inventory file.

        hosts:
          - server_id: 10.0.0.1
            devices: [{device_id: 0, device_ip: 192.168.100.1}, {device_id: 1, device_ip: ...}]

    Raises:
        InventoryError: the file cannot be read, or lacks or repeats something; the message names the place.
    """
    import yaml

    try:
        with open(path, encoding="utf-8") as stream:
            document = yaml.safe_load(stream)
    except OSError as error:
        raise InventoryError("%s: %s" % (path, error.strerror)) from None
    except yaml.YAMLError as error:
        raise InventoryError("%s: broken YAML: %s" % (path, " ".join(str(error).split()))) from None
    hosts = document.get("hosts") if isinstance(document, dict) else None
    if not isinstance(hosts, list) or not hosts:
        raise InventoryError("%s: hosts: missing; give a list of {server_id, devices}" % path)
    return Inventory(tuple(_host(host, "%s: hosts[%d]" % (path, n)) for n, host in enumerate(hosts)), path)


def _host(value: Any, place: str) -> Host:
    if not isinstance(value, dict) or not value.get("server_id") or not isinstance(value.get("devices"), list):
        raise InventoryError("%s: needs server_id and a list of devices" % place)
    devices: List[Device] = []
    seen: Dict[int, int] = {}
    for index, item in enumerate(value["devices"]):
        here = "%s.devices[%d]" % (place, index)
        item = {"device_id": item} if isinstance(item, int) else item
        number: Optional[int] = item.get("device_id") if isinstance(item, dict) else None
        if not isinstance(number, int) or number < 0:
            raise InventoryError("%s: device_id: give a number from 0" % here)
        if number in seen:
            raise InventoryError("%s: device_id: %d is also that of devices[%d]" % (here, number, seen[number]))
        seen[number] = index
        logical = item.get("logical_id", index)
        devices.append(Device(number, int(logical), str(item.get("device_ip") or ""), place))
    return Host(str(value["server_id"]), tuple(devices))
