"""Doctor's checks of the devices' own network: addresses, links, tls, super pod."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from typing import Iterable

from launcher.checks.machine import ERROR, OK, WARNING, Check, Finding, Machine
from launcher.checks.npu import device_ids, generation, read_cards, shorten


def check_addresses(machine: Machine) -> Iterable[Finding]:
    """Every device needs an address of its own: 910A always, the others when a job spans servers."""
    ids = device_ids(machine)
    if not ids:
        return
    found = {number: _configured(machine, number) or _asked(machine, number) for number in ids}
    problems = [*_missing(machine, found), *_twice(found), *_stale(machine, found)]
    yield from problems
    if not problems and all(found.values()):
        yield Finding("device IPs", OK, ", ".join(found[number] for number in ids))


def _missing(machine: Machine, found: dict[int, str]) -> Iterable[Finding]:
    missing = [number for number, address in found.items() if not address]
    if not missing or "hccn_tool" in machine.silent:  # which has a finding of its own
        return
    todo = f"`hccn_tool -i {missing[0]} -ip -s address A.B.C.D netmask 255.255.255.0` for each"
    what = f"device {shorten(missing)} has no IP address"
    if generation(machine) in ("A2", "A3"):  # HCCL's rule 7: on one server it may be missing
        yield Finding("device IPs", WARNING, what + "; a job on several servers needs them", todo)
    else:
        yield Finding("device IPs", ERROR, what, todo)


def _twice(found: dict[int, str]) -> Iterable[Finding]:
    for address, count in Counter(filter(None, found.values())).items():
        if count > 1:
            holders = shorten(number for number in found if found[number] == address)
            what = f"{address} belongs to devices {holders}"
            yield Finding("device IPs", ERROR, what, "give each device its own")


def _stale(machine: Machine, found: dict[int, str]) -> Iterable[Finding]:
    """HCCL takes the rank table's address, which is made of hccn.conf, and compares it with the port's."""
    for number, address in found.items():
        real = _asked(machine, number)
        if address and real and real != address:
            what = f"/etc/hccn.conf says {address} for device {number}, its port has {real}"
            todo = "mount the host's /etc/hccn.conf anew, or set the address with hccn_tool (EI0014 else)"
            yield Finding("device IPs", ERROR, what, todo)


def _configured(machine: Machine, number: int) -> str:
    text = machine.read("/etc/hccn.conf")
    return _address(re.search(rf"^address_{number}=(\S+)", text, re.M))


def _asked(machine: Machine, number: int) -> str:
    text = machine.output("hccn_tool", "-i", str(number), "-ip", "-g")
    return _address(re.search(r"^ipaddr:\s*(\S+)", text, re.M))


def _address(match: re.Match[str] | None) -> str:
    """Give the address of a line; "" for none, or for what is none, such as -.-.-.-"""
    try:
        return str(ipaddress.ip_address(match.group(1))) if match else ""
    except ValueError:
        return ""


def _states(machine: Machine, query: str, pattern: str) -> dict[int, str]:
    """Ask hccn_tool the same of every device; devices that do not answer are left out."""
    found: dict[int, str] = {}
    for number in device_ids(machine):
        match = re.search(pattern, machine.output("hccn_tool", "-i", str(number), query, "-g"))
        if match:
            found[number] = match.group(1).strip()
    return found


def check_links(machine: Machine) -> Iterable[Finding]:
    """A port that is down blocks every collective over the network."""
    states = _states(machine, "-link", r"link status:\s*(\w+)")
    down = [number for number, state in states.items() if state != "UP"]
    if down:
        todo = f"check cable and switch port; `hccn_tool -i {down[0]} -link_stat -g` shows the history"
        yield Finding("links", ERROR, f"not UP on device {shorten(down)}", todo)
    elif states:
        yield Finding("links", OK, f"UP on device {shorten(states)}")
    health = _states(machine, "-net_health", r"net health status:\s*(.+)")
    ill = [number for number, state in health.items() if state not in ("Success", "Init")]
    if ill:
        what = f"device {shorten(ill)}: {health[ill[0]]}"
        todo = "set a detection address in the same network: `hccn_tool -i N -netdetect -s address A.B.C.D`"
        yield Finding("net health", WARNING, what, todo)
    elif health:
        yield Finding("net health", OK, "no device reports a fault")


def check_tls(machine: Machine) -> Iterable[Finding]:
    """The tls switch must be equal on every device of every host (EI0016)."""
    states = _states(machine, "-tls", r"tls switch\[(\d)\]")
    kinds = sorted(set(states.values()))
    groups = {kind: shorten(number for number in states if states[number] == kind) for kind in kinds}
    words = {"0": "off", "1": "on"}
    what = "; ".join(f"{words.get(state, state)} on device {ids}" for state, ids in groups.items())
    if len(groups) > 1:
        todo = "`hccn_tool -i N -tls -s enable 0` on every device of every host"
        yield Finding("tls switch", ERROR, what, todo)
    elif groups:
        yield Finding("tls switch", OK, what + " (must be so on every host)")


def check_super_pod(machine: Machine) -> Iterable[Finding]:
    """An A3's place in its super pod; a rank table of several A3 servers needs every device's SDID."""
    if generation(machine) != "A3":
        return
    cards = read_cards(machine.output("npu-smi", "info"))
    query = ("npu-smi", "info", "-t", "spod-info", "-i")
    texts = [machine.output(*query, str(card.place[0]), "-c", str(card.place[1])) for card in cards]
    pods = sorted({value for text in texts for value in re.findall(r"Super Pod ID\s*:\s*(\S+)", text)})
    without = [card.device_id for card, text in zip(cards, texts) if not re.search(r"SDID\s*:\s*\d+", text)]
    if without:
        todo = "fine on one server; for several, `npu-smi info -t spod-info -i 0 -c 0` must answer"
        yield Finding("super pod", WARNING, f"no SDID of device {shorten(without)}", todo)
    elif len(pods) > 1:
        what = "devices of one server in super pods {}".format(", ".join(pods))
        yield Finding("super pod", ERROR, what, "the driver is at fault; reboot the server, ask for support")
    else:
        yield Finding("super pod", OK, f"super pod {pods[0]}, {len(texts)} SDIDs")


CHECKS: list[Check] = [check_addresses, check_links, check_tls, check_super_pod]
