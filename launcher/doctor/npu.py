"""Doctor's checks of the devices and their network; they say so where there is no NPU."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from pathlib import Path
from typing import Dict, Iterable, List, NamedTuple, Tuple

from launcher.doctor.machine import ERROR, OK, WARNING, Check, Finding, Machine, has_npu


def device_ids(machine: Machine) -> List[int]:
    """List the physical ids N of /dev/davinciN."""
    names = (path.name for path in Path(machine.root).glob("dev/davinci[0-9]*"))
    return sorted(int(name[len("davinci") :]) for name in names if name[len("davinci") :].isdigit())


def shorten(ids: Iterable[int]) -> str:
    """Write 0,1,2,5 as 0-2,5."""
    parts: List[List[int]] = []
    for number in sorted(ids):
        if parts and parts[-1][-1] == number - 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number])
    return ",".join("-".join(str(number) for number in part) for part in parts)


def check_devices(machine: Machine) -> Iterable[Finding]:
    """Count the devices, and name those that are ill or held by a process."""
    if not has_npu(machine):
        yield Finding("devices", OK, "no NPU here: jobs run on virtual CPU devices (--backend cpu)")
        return
    nodes, cards = device_ids(machine), read_cards(machine.ask("npu-smi", "info"))
    if not nodes:
        yield Finding(
            "devices", ERROR, "no /dev/davinciN", "load the driver; in a container pass the devices in"
        )
    if not cards:
        todo = "`npu-smi info` must work for this user (group HwHiAiUser); the driver may not be loaded"
        yield Finding("npu-smi", WARNING, "gives no table of devices", todo)
        return
    names = "%s, npu-smi shows %d: %s" % (shorten(nodes) or "none", len(cards), cards[0].name)
    yield Finding("devices", OK if len(nodes) == len(cards) else WARNING, "/dev/davinci %s" % names)
    ill = [card for card in cards if card.health != "OK"]
    for card in ill:
        todo = (
            "`npu-smi info -t health -i %d -c %d` gives the error code; leave it out of --devices"
            % card.place
        )
        yield Finding("health", ERROR, "device %d is %s" % (card.device_id, card.health), todo)
    if not ill:
        yield Finding("health", OK, "all OK")
    held = [card for card in cards if card.holders]
    for card in held:
        todo = "end the process, or choose other devices; a killed run may leave children behind"
        yield Finding("holders", WARNING, "device %d: %s" % (card.device_id, ", ".join(card.holders)), todo)
    if not held:
        yield Finding("holders", OK, "no process on any device")


class Card(NamedTuple):
    """Hold what `npu-smi info` says of one chip."""

    device_id: int
    place: Tuple[int, int]  # NPU and chip, as npu-smi counts
    name: str
    health: str
    holders: Tuple[str, ...]


def read_cards(text: str) -> List[Card]:
    """Read the table of `npu-smi info`: two rows a chip, then a row a process.

    The second row of an A3 has the physical id beside the chip; elsewhere the NPU number is that id.
    """
    cards: List[Card] = []
    first: List[str] = []
    for line in text.splitlines():
        cells = [cell.split() for cell in line.strip().strip("|").split("|")]
        head = cells[0]
        if len(cells) == 3 and _numbers(head[:1]) and not _is_bus(cells[1]):
            first = [*head, " ".join(cells[1])]
        elif len(cells) == 3 and first and _numbers(head) and _is_bus(cells[1]):
            npu = int(first[0])
            number = int(head[1]) if len(head) > 1 else npu
            cards.append(Card(number, (npu, int(head[0])), first[1], first[-1], ()))
        elif len(cells) == 4 and _numbers(head) and _numbers(cells[1]):
            place = (int(head[0]), int(head[-1]) if len(head) > 1 else 0)
            cards = [_held(card, cells) if card.place == place else card for card in cards]
    return cards


def _held(card: Card, cells: List[List[str]]) -> Card:
    return card._replace(holders=(*card.holders, "%s (pid %s)" % (" ".join(cells[2]), cells[1][0])))


def _numbers(words: List[str]) -> bool:
    return bool(words) and all(word.isdigit() for word in words)


def _is_bus(words: List[str]) -> bool:
    return bool(words) and re.match(r"[0-9A-Fa-f]{4}:[0-9A-Fa-f]{2}:|NA$", words[0]) is not None


def check_addresses(machine: Machine) -> Iterable[Finding]:
    """Every device needs its own address in its network port; HCCL reports EI0014 or a timeout else."""
    ids = device_ids(machine)
    if not ids:
        return
    found = {number: _address(machine, number) for number in ids}
    missing = [number for number, address in found.items() if not address]
    if missing:
        yield Finding(
            "device IPs",
            ERROR,
            "device %s has no IP address" % shorten(missing),
            "`hccn_tool -i %d -ip -s address A.B.C.D netmask 255.255.255.0` for each" % missing[0],
        )
    twice = [address for address, count in Counter(filter(None, found.values())).items() if count > 1]
    for address in twice:
        holders = shorten(number for number in ids if found[number] == address)
        what = "%s belongs to devices %s" % (address, holders)
        yield Finding("device IPs", ERROR, what, "give each device its own")
    if not missing and not twice:
        yield Finding("device IPs", OK, ", ".join(found[number] for number in ids))


def _address(machine: Machine, number: int) -> str:
    """Read /etc/hccn.conf where it names the device, else ask hccn_tool; "" when neither knows."""
    conf = machine.read("/etc/hccn.conf")
    match = re.search(r"^address_%d=(\S+)" % number, conf, re.M) or re.search(
        r"^ipaddr:\s*(\S+)", machine.ask("hccn_tool", "-i", str(number), "-ip", "-g"), re.M
    )
    try:
        return str(ipaddress.ip_address(match.group(1))) if match else ""
    except ValueError:
        return ""


def _states(machine: Machine, query: str, pattern: str) -> Dict[int, str]:
    """Ask hccn_tool the same of every device; devices that do not answer are left out."""
    found: Dict[int, str] = {}
    for number in device_ids(machine):
        match = re.search(pattern, machine.ask("hccn_tool", "-i", str(number), query, "-g"))
        if match:
            found[number] = match.group(1).strip()
    return found


def check_links(machine: Machine) -> Iterable[Finding]:
    """A port that is down blocks every collective over the network."""
    states = _states(machine, "-link", r"link status:\s*(\w+)")
    down = [number for number, state in states.items() if state != "UP"]
    if down:
        todo = "check cable and switch port; `hccn_tool -i %d -link_stat -g` shows the history" % down[0]
        yield Finding("links", ERROR, "not UP on device %s" % shorten(down), todo)
    elif states:
        yield Finding("links", OK, "UP on device %s" % shorten(states))
    health = _states(machine, "-net_health", r"net health status:\s*(.+)")
    ill = [number for number, state in health.items() if state not in ("Success", "Init")]
    if ill:
        what = "device %s: %s" % (shorten(ill), health[ill[0]])
        todo = "set a detection address in the same network: `hccn_tool -i N -netdetect -s address A.B.C.D`"
        yield Finding("net health", WARNING, what, todo)


def check_tls(machine: Machine) -> Iterable[Finding]:
    """The tls switch must be equal on every device of every host (EI0016)."""
    states = _states(machine, "-tls", r"tls switch\[(\d)\]")
    kinds = sorted(set(states.values()))
    groups = {kind: shorten(number for number in states if states[number] == kind) for kind in kinds}
    words = {"0": "off", "1": "on"}
    what = "; ".join("%s on device %s" % (words.get(state, state), ids) for state, ids in groups.items())
    if len(groups) > 1:
        todo = "`hccn_tool -i N -tls -s enable 0` on every device of every host"
        yield Finding("tls switch", ERROR, what, todo)
    elif groups:
        yield Finding("tls switch", OK, what + " (must be so on every host)")


CHECKS: List[Check] = [check_devices, check_addresses, check_links, check_tls]
