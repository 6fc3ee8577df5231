"""Addresses of the NPUs' network ports: /etc/hccn.conf, then hccn_tool, both by physical id."""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass, field, replace
from typing import Sequence

from rank_table.ranges import spell
from rank_table.sources import words
from rank_table.sources.tools import Machine, ToolResult

CONF = "/etc/hccn.conf"
_LINE = re.compile(r"\s*([A-Za-z0-9]+?)_(\d{1,5})\s*=\s*(\S*)")  # key_N=value; # and ; begin a comment
_KEYS = ("IPv6address", "address")  # an IPv4 address wins over an IPv6 one


@dataclass
class Conf:
    """hccn.conf: physical id -> (address, key), and a line for each entry that cannot be used."""

    addresses: dict[int, tuple[str, str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def parse_conf(text: str) -> Conf:
    """Read hccn.conf, `address_N=IP` and `IPv6address_N=IP` a line; other keys are ignored.

    As for the driver, the last of several lines with one key counts. An address that no port can have, or
    that two devices share, is left out and named with its line.
    """
    conf = Conf()
    for key in _KEYS:
        _read_key(text.lstrip("\ufeff"), key, conf)
    return conf


def _read_key(text: str, wanted: str, conf: Conf) -> None:
    lines: dict[int, tuple[int, str]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        match = _LINE.match(re.split(r"[#;]", line, maxsplit=1)[0])
        if match is None or match.group(1).lower() != wanted.lower():
            continue
        device, value = int(match.group(2)), match.group(3).partition("/")[0].strip("\"'")
        if device in lines and lines[device][1] != value:
            first = f"line {lines[device][0]}: {wanted}_{device}={lines[device][1]}"
            conf.problems.append(f"{CONF}: {first}: given again in line {number}, which counts")
        lines[device] = (number, value)
    taken: dict[str, int] = {}
    for device, (number, value) in lines.items():
        problem = unusable(value)
        if not problem and value in taken:
            problem = f"also that of device {taken[value]}; give each device its own"
            conf.addresses.pop(taken[value], None)
        if problem:
            conf.problems.append(f"{CONF}: line {number}: {wanted}_{device}={value}: {problem}")
            continue
        taken[value] = device
        conf.addresses[device] = (value, f"{wanted}_{device}")


def unusable(text: str) -> str:
    """Say why a port cannot have this address; "" when it can.

    >>> unusable("0.0.0.0"), unusable("224.0.0.1"), unusable("10.0.0.1")
    ('not the address of a port', 'not the address of a port', '')
    """
    if not is_address(text):
        return "no address" if text else "empty"
    address = ipaddress.ip_address(text.partition("%")[0])
    broadcast = str(address) == "255.255.255.255"
    odd = address.is_unspecified or address.is_multicast or address.is_loopback or broadcast
    return "not the address of a port" if odd else ""


def parse_ip(text: str) -> str:
    """Read the address that `hccn_tool -i N -ip [-inet6] -g` prints; "" when there is none to use."""
    match = re.search(r"(?m)^\s*(?:ipaddr|ipv6_address)\s*:\s*(\S+)", text)
    return match.group(1) if match and not unusable(match.group(1)) else ""


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


@dataclass
class Addresses:
    """Physical id -> (address, source); lines for faults of hccn.conf, and for devices without an address."""

    found: dict[int, tuple[str, str]]
    faults: list[str]
    missing: list[str]

    def shared(self) -> dict[str, list[int]]:
        """Return each address that several devices have, from whatever source, and which have it."""
        owners: dict[str, list[int]] = {}
        for number, (address, _) in sorted(self.found.items()):
            owners.setdefault(address, []).append(number)
        return {address: of for address, of in owners.items() if len(of) > 1}

    def problems(self) -> list[str]:
        """Return a line for each problem."""
        advice = "give each device its own (hccn_tool -i N -ip -s address A netmask M)"
        twice = [f"device {spell(of)}: all have {address}; {advice}" for address, of in self.shared().items()]
        return self.faults + twice + self.missing


def addresses(machine: Machine, device_ids: Sequence[int]) -> Addresses:
    """Find the address of each device."""
    conf = parse_conf(machine.read(CONF) or "")
    found = {n: (ip, f"{CONF}: {key}") for n, (ip, key) in conf.addresses.items() if n in device_ids}
    asked, refused = _ask(machine, [number for number in device_ids if number not in found], ())
    found.update(asked)
    answered = [number for number, result in refused.items() if not (result.busy or result.late)]
    found.update(_ask(machine, answered, ("-inet6",))[0])
    reasons = {number: result.problem for number, result in refused.items() if number not in found}
    return Addresses(found, conf.problems, _named(reasons))


def _named(reasons: dict[int, str]) -> list[str]:
    """Name every device without an address, those with the same reason together."""
    groups: dict[str, list[int]] = {}
    for number, reason in reasons.items():
        groups.setdefault(reason.replace(f"-i {number} ", "-i N "), []).append(number)
    return [f"device {spell(numbers)}: {reason}" for reason, numbers in groups.items()]


def _ask(
    machine: Machine, device_ids: Sequence[int], flags: tuple[str, ...]
) -> tuple[dict[int, tuple[str, str]], dict[int, ToolResult]]:
    """Ask the tool about each device: those with an address, and the answers of the others."""
    calls = [("-i", str(number), "-ip", *flags, "-g") for number in device_ids]
    found: dict[int, tuple[str, str]] = {}
    refused: dict[int, ToolResult] = {}
    for number, call, result in zip(device_ids, calls, machine.ask_all("hccn_tool", calls)):
        address, command = parse_ip(result.text), f"hccn_tool {' '.join(call)}"
        if address:
            found[number] = (address, command)
        else:
            said = f"{command}: no address in its output: {words.explained(result.text)}"
            refused[number] = replace(result, problem=result.problem or said)
    return found, refused
