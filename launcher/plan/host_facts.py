"""What a host of a job tells of itself: devices, addresses, cores, versions (checks/host_facts.py asks)."""

from __future__ import annotations

import ipaddress
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Mapping, Union

from launcher.errors import ReadError
from rank_table.inventory import Device, Host

Interface = Union[ipaddress.IPv4Interface, ipaddress.IPv6Interface]


@dataclass(frozen=True)
class HostFacts:
    """A host as its agent sees it.

    index, name: its number and name in the engine. npus: its NPUs, None where there are none; `problem` says
    why they are not known. addresses: (interface, address/prefix length), without loopback. quota: CPUs'
    time, 0 for no limit. Versions are "" where nothing says them. tls: the switch by device, "on" or "off".
    """

    index: int
    name: str
    node: str  # the kernel's host name
    boot_id: str = ""  # of the kernel: hosts of one machine (containers, tests) have the same
    addresses: tuple[tuple[str, str], ...] = ()
    aliases: tuple[str, ...] = ()  # names and addresses that a platform gives to the host or pod
    npus: Host | None = None
    problem: str = ""
    cores: tuple[int, ...] = ()
    quota: float = 0.0
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

    def to_json(self) -> dict[str, Any]:
        """Return a JSON value that `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> HostFacts:
        """Read what `to_json` returned. ReadError: it is something else."""
        try:
            known = {item.name: value[item.name] for item in fields(cls)}
            known["addresses"] = tuple((str(name), str(text)) for name, text in known["addresses"])
            known["npus"] = None if known["npus"] is None else _host(known["npus"])
            known.update((name, tuple(known[name])) for name in ("aliases", "cores"))
            facts = cls(**known)
            len(facts.names)  # each of them can be read
            return facts
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            problem = f"{type(error).__name__}: {error}"
            raise ReadError(f"a host's facts: {problem:.200} (expected those of this release)") from None


def _host(value: Mapping[str, Any]) -> Host:
    devices = tuple(_device(item) for item in value["devices"])
    return Host(**{**value, "devices": devices})


def _device(value: Mapping[str, Any]) -> Device:
    return Device(**{**value, "levels": tuple(value["levels"]), "holders": tuple(value["holders"])})
