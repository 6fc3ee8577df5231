"""The address of each host of a job: one at which every other host reaches it, and no loopback."""

from __future__ import annotations

import ipaddress
from typing import Iterable, Mapping, Sequence

from launcher.plan.host_facts import HostFacts, Interface
from launcher.text import some

_BRIDGES = ("docker", "virbr", "br-", "cni", "flannel", "cali", "veth", "podman", "lxc", "kube-")
LOOPBACK = "127.0.0.1"


def one_machine(facts: Sequence[HostFacts]) -> bool:
    """Tell whether the hosts are one machine: containers, or the virtual nodes of a test."""
    return len({host.boot_id for host in facts}) == 1 and facts[0].boot_id != ""


def choose(
    facts: Sequence[HostFacts], wanted: Sequence[str] = (), known: Mapping[int, str] | None = None
) -> tuple[dict[int, str], list[str]]:
    """Return the address of each host by its index, and a line for each problem.

    In this order: in a network of `wanted` (10.0.0.0/24, or the name of an interface); `known`, what a rank
    table or inventory says of a host; its name in the engine, where that is an address; in the network that
    all hosts are in; what the platform says; the first there is.
    """
    common = _common(facts)
    found = {host.index: _one(host, wanted, (known or {}).get(host.index, ""), common) for host in facts}
    same = one_machine(facts)
    problems = []
    for host in facts:
        if not found[host.index] and wanted:
            what = f"no address in {', '.join(wanted)}; it has {_list(host)}"
            problems.append(f"interfaces: {host.name}: {what}")
        elif not found[host.index] and not same:
            problems.append(f"{host.name}: no address but loopback, at which no other host reaches it")
    return {index: address or LOOPBACK for index, address in found.items()}, [
        *problems,
        *([] if same else _twice(facts, found)),
    ]


def _list(host: HostFacts) -> str:
    return ", ".join(f"{text} ({name})" for name, text in host.addresses) or "none"


def _twice(facts: Sequence[HostFacts], found: Mapping[int, str]) -> Iterable[str]:
    holders: dict[str, list[str]] = {}
    for host in facts:
        holders.setdefault(found[host.index], []).append(host.name)
    for address, names in holders.items():
        if address and len(names) > 1:
            yield f"{some(names)}: all have the address {address}; name the network in interfaces:"


def _one(host: HostFacts, wanted: Sequence[str], known: str, common: set[str]) -> str:
    """Return the address of a host; "" when there is none."""
    own = sorted(host.interfaces, key=lambda item: item[1].version)  # IPv4 first, else as listed
    if wanted:
        return next((str(item.ip) for name, item in own if _is_in(name, item, wanted)), "")
    texts = [str(item.ip) for name, item in own]
    for text in (known, host.name):
        if text in texts:
            return text
    shared = [str(item.ip) for name, item in own if str(item.network) in common]
    told = [text for text in host.aliases if text in texts]
    plain = [str(item.ip) for name, item in own if not name.startswith(_BRIDGES)]
    return next(iter((*shared, *told, *plain)), "")


def _is_in(name: str, item: Interface, wanted: Sequence[str]) -> bool:
    for text in wanted:
        try:
            if item.ip in ipaddress.ip_network(text, strict=False):
                return True
        except ValueError:
            if text == name:
                return True
    return False


def _common(facts: Sequence[HostFacts]) -> set[str]:
    """Return the networks in which every host has an address of its own."""
    members: dict[str, dict[str, set[str]]] = {}
    for host in facts:
        for name, item in host.interfaces:
            if not name.startswith(_BRIDGES):
                members.setdefault(str(item.network), {}).setdefault(host.name, set()).add(str(item.ip))
    found = set()
    for network, hosts in members.items():
        addresses = set.union(*hosts.values())
        if len(hosts) == len(facts) <= len(addresses):
            found.add(network)
    return found


def is_loopback(text: str) -> bool:
    """Tell whether a text is an address, or a name, of the host itself only."""
    if text == "localhost" or text.startswith("localhost."):
        return True
    try:
        return ipaddress.ip_address(text).is_loopback
    except ValueError:
        return False
