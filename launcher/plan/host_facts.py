"""What a host of a job tells of itself: devices, addresses, cores, versions (checks/host_facts.py asks)."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import asdict, dataclass, field
from typing import Any, Mapping, Union

from launcher.typed_json import Value
from rank_table.inventory import Device, Host

Interface = Union[ipaddress.IPv4Interface, ipaddress.IPv6Interface]


@dataclass(frozen=True)
class HostFacts:
    """A host as its agent sees it.

    index, name: its number and name in the engine. npus: its NPUs, None where there are none; `problem` says
    why they are not known, `notes` what is missing of them. addresses: (interface, address/prefix length),
    without loopback. quota: CPUs' time, 0 for no limit. port: the first of ports.OFFERED that are free in a
    row, 0 if there are none. Versions are "" where nothing says them. tls: the
    switch by device, "on" or "off".
    """

    index: int
    name: str
    node: str  # the kernel's host name
    boot_id: str = ""  # of the kernel: hosts of one machine (containers, tests) have the same
    addresses: tuple[tuple[str, str], ...] = ()
    aliases: tuple[str, ...] = ()  # names and addresses that a platform gives to the host or pod
    npus: Host | None = None
    problem: str = ""
    notes: tuple[str, ...] = ()
    cores: tuple[int, ...] = ()
    quota: float = 0.0
    port: int = 0
    launcher: str = ""
    python: str = ""
    tensorflow: str = ""
    cann: str = ""
    driver: str = ""
    tls: Mapping[str, str] = field(default_factory=dict)

    @property
    def interfaces(self) -> list[tuple[str, Interface]]:
        """The addresses, with the networks that they are in."""
        return [(name, ipaddress.ip_interface(text)) for name, text in self.addresses]

    @property
    def names(self) -> set[str]:
        """Everything by which a rank table or an inventory may mean this host."""
        own = {self.name, self.node, *self.aliases}
        own.update(str(interface.ip) for _, interface in self.interfaces)
        if self.npus is not None:
            own.update((self.npus.server_id, self.npus.host_ip))
        return own - {""}

    @property
    def versions(self) -> dict[str, str]:
        """What this host runs with, as far as it is known."""
        names = ("launcher", "python", "tensorflow", "cann", "driver")
        return {name: getattr(self, name) for name in names if getattr(self, name)}

    def to_json(self) -> dict[str, Any]:
        """Return a JSON value that `from_json` reads."""
        value: dict[str, Any] = json.loads(json.dumps(asdict(self)))  # lists, no tuples
        return value

    @classmethod
    def from_json(cls, value: Any) -> HostFacts:
        """Read what `to_json` returned. ReadError: it is something else."""
        at = Value(value, "a host's facts").fields(cls)
        return cls(
            index=at["index"].whole(),
            name=at["name"].text(),
            node=at["node"].text(),
            boot_id=at["boot_id"].text(),
            addresses=tuple(map(_address, at["addresses"].items())),
            aliases=at["aliases"].texts(),
            npus=None if at["npus"].value is None else _host(at["npus"]),
            problem=at["problem"].text(),
            notes=at["notes"].texts(),
            cores=at["cores"].wholes(),
            quota=at["quota"].number(),
            port=at["port"].whole(),
            launcher=at["launcher"].text(),
            python=at["python"].text(),
            tensorflow=at["tensorflow"].text(),
            cann=at["cann"].text(),
            driver=at["driver"].text(),
            tls=_texts(at["tls"]),
        )


def _address(value: Value) -> tuple[str, str]:
    found = value.texts()
    try:
        ipaddress.ip_interface(found[1])
        return found[0], found[1]
    except (ValueError, IndexError):
        value.refuse("no address", "an interface and its address")


def _host(value: Value) -> Host:
    at = value.fields(Host)
    return Host(
        server_id=at["server_id"].text(),
        devices=tuple(map(_device, at["devices"].items())),
        host_ip=at["host_ip"].text(),
        super_pod_id=at["super_pod_id"].text(),
        chip=at["chip"].text(),
        pod_name=at["pod_name"].text(),
        origin=_texts(at["origin"]),
    )


def _device(value: Value) -> Device:
    at = value.fields(Device)
    return Device(
        device_id=at["device_id"].whole(),
        logical_id=at["logical_id"].whole(),
        device_ip=at["device_ip"].text(),
        source=at["source"].text(),
        npu_id=at["npu_id"].whole(),
        chip_id=at["chip_id"].whole(),
        visible_index=at["visible_index"].whole(),
        super_device_id=at["super_device_id"].text(),
        health=at["health"].text(),
        cores=at["cores"].text(),
        local_id=at["local_id"].whole(),
        levels=tuple(_level(item) for item in at["levels"].items()),
        memory=at["memory"].text(),
        holders=at["holders"].texts(),
        origin=_texts(at["origin"]),
    )


def _level(value: Value) -> Mapping[str, Any]:
    value.members()
    found: Mapping[str, Any] = value.value
    return found


def _texts(value: Value) -> dict[str, str]:
    return {name: item.text() for name, item in value.members().items()}
