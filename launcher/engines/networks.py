"""The network between this host and others: bridges of containers (docker0, virbr0) make mpirun hang."""

from __future__ import annotations

import ipaddress
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Iterable, Sequence

from launcher.plan import interfaces

_AT_ONCE = 32  # names that are looked up
Network = ipaddress.IPv4Network


def common_network(hosts: Sequence[str]) -> list[str]:
    """Return the network of this host that all hosts are in, as mpirun takes it; none: mpirun sees."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = list(pool.map(_addresses, hosts))
    return choose(list(own_networks()), found)


def choose(networks: Sequence[Network], hosts: Sequence[Sequence[str]]) -> list[str]:
    """Choose the smallest network that has an address of every host; a host of loopback alone is this one."""
    elsewhere = [[ipaddress.IPv4Address(text) for text in texts] for texts in hosts]
    elsewhere = [[item for item in items if not item.is_loopback] for items in elsewhere if items]
    elsewhere = [items for items in elsewhere if items]
    if not all(hosts) or not elsewhere:
        return []
    fitting = [net for net in networks if all(any(item in net for item in items) for items in elsewhere)]
    return [str(max(fitting, key=lambda net: net.prefixlen))] if fitting else []


def own_networks() -> Iterable[Network]:
    """Yield the IPv4 networks of this host, without loopback."""
    for _, address, length in interfaces.addresses():
        if isinstance(address, ipaddress.IPv4Address) and not address.is_loopback:
            yield ipaddress.IPv4Network((int(address), length), strict=False)


def _addresses(host: str) -> list[str]:
    try:
        found = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [str(item[4][0]) for item in found]
