"""Addresses of the NPUs' network ports: /etc/hccn.conf, then hccn_tool, both by physical id."""

from __future__ import annotations

import re
import socket
from typing import Sequence

from rank_table.sources.tools import Machine

CONF = "/etc/hccn.conf"


def parse_conf(text: str) -> dict[int, tuple[str, str]]:
    """Read hccn.conf: physical id -> (address, key). IPv4 wins over IPv6; other keys are ignored."""
    found: dict[int, tuple[str, str]] = {}
    for key in ("IPv6address", "address"):
        for number, value in re.findall(rf"(?m)^[ \t]*{key}_(\d{{1,5}})[ \t]*=[ \t]*(\S+)", text):
            if is_address(value):
                found[int(number)] = (value, f"{key}_{number}")
    return found


def parse_ip(text: str) -> str:
    """Read the address that `hccn_tool -i N -ip [-inet6] -g` prints; "" when there is none."""
    match = re.search(r"(?m)^\s*(?:ipaddr|ipv6_address)\s*:\s*(\S+)", text)
    return match.group(1) if match and is_address(match.group(1)) else ""


def is_address(text: str) -> bool:
    """Check whether a text is an IPv4 or IPv6 address; a `%interface` may follow an IPv6 address.

    >>> is_address("192.168.1.8"), is_address("fe80::1%eth0"), is_address("192.1.*.6"), is_address("-.-.-.-")
    (True, True, False, False)
    """
    family = socket.AF_INET6 if text.count(":") >= 2 else socket.AF_INET
    try:
        socket.inet_pton(family, text.split("%")[0] if family == socket.AF_INET6 else text)
    except (OSError, ValueError):
        return False
    return True


def addresses(machine: Machine, device_ids: Sequence[int]) -> tuple[dict[int, tuple[str, str]], list[str]]:
    """Find the address of each device: (physical id -> (address, source), problems)."""
    text = machine.read(CONF)
    found = {n: (ip, f"{CONF}: {key}") for n, (ip, key) in parse_conf(text or "").items() if n in device_ids}
    problems: list[str] = []
    for flags in ((), ("-inet6",)):
        missing = [number for number in device_ids if number not in found]
        if missing:
            asked, problems = _ask(machine, missing, flags)
            found.update(asked)
    return found, problems[:1]


def _ask(
    machine: Machine, device_ids: Sequence[int], flags: tuple[str, ...]
) -> tuple[dict[int, tuple[str, str]], list[str]]:
    calls = [("-i", str(number), "-ip", *flags, "-g") for number in device_ids]
    found, problems = {}, []
    for number, call, result in zip(device_ids, calls, machine.ask_all("hccn_tool", calls)):
        address, command = parse_ip(result.text), f"hccn_tool {' '.join(call)}"
        if address:
            found[number] = (address, command)
        else:
            problems.append(result.problem or f"{command}: no address in its output")
    return found, problems
