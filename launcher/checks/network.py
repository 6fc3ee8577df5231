"""Doctor's checks of the devices' own network: addresses, links, tls, super pod."""

from __future__ import annotations

import re
from typing import Iterable, Sequence

from launcher.checks.finding import ERROR, OK, WARNING, Finding
from launcher.checks.machine import Check, RecordingMachine
from rank_table.ranges import spell
from rank_table.sources import chips as view
from rank_table.sources import hccn
from rank_table.sources.dev_nodes import device_ids
from rank_table.sources.npu_smi import parse_spod


def check_addresses(machine: RecordingMachine) -> Iterable[Finding]:
    """Every device needs an address of its own: on 910A always, on others when a job spans servers."""
    ids = device_ids(machine)
    if not ids:
        return
    addressed = hccn.addresses(machine, ids)
    found = {number: addressed.found.get(number, ("", ""))[0] for number in ids}
    todo = "correct it: `hccn_tool -i N -ip -s address A.B.C.D netmask 255.255.255.0` writes the file"
    problems = [Finding("device IPs", WARNING, fault, todo) for fault in addressed.faults]
    problems += [*_missing(machine, found, addressed.missing), *_twice(addressed), *_stale(machine, found)]
    yield from problems
    if not problems and all(found.values()):
        yield Finding("device IPs", OK, ", ".join(found[number] for number in ids))


def _missing(machine: RecordingMachine, found: dict[int, str], reasons: Sequence[str]) -> Iterable[Finding]:
    missing = [number for number, address in found.items() if not address]
    if not missing or "hccn_tool" in machine.unresponsive_tools:  # which has a finding of its own
        return
    todo = f"`hccn_tool -i {missing[0]} -ip -s address A.B.C.D netmask 255.255.255.0` for each"
    what = f"device {spell(missing)} has no IP address"
    if view.look(machine).generation in ("A2", "A3"):  # HCCL's rule 7: on one server it may be missing
        yield Finding("device IPs", WARNING, what + "; a job on several servers needs them", todo)
    else:
        yield Finding("device IPs", ERROR, what, todo)
    for reason in reasons:
        yield Finding("device IPs", WARNING, reason, "run the command by hand")


def _twice(addressed: hccn.Addresses) -> Iterable[Finding]:
    for address, holders in addressed.shared().items():
        what = f"{address} belongs to devices {spell(holders)}"
        yield Finding("device IPs", ERROR, what, "give each device its own")


def _stale(machine: RecordingMachine, found: dict[int, str]) -> Iterable[Finding]:
    """HCCL reads the rank table's address, which comes from hccn.conf, and compares it with the port's."""
    for number, address in found.items():
        real = hccn.parse_ip(machine.output("hccn_tool", "-i", str(number), "-ip", "-g"))
        if address and real and real != address and (":" in real) == (":" in address):
            what = f"/etc/hccn.conf has {address} for device {number}, its port has {real}"
            todo = "mount the host's /etc/hccn.conf again, or set the address with hccn_tool (else EI0014)"
            yield Finding("device IPs", ERROR, what, todo)


def _states(
    machine: RecordingMachine, query: str, pattern: str, devices: Sequence[int] = ()
) -> dict[int, str]:
    """Ask hccn_tool about devices, by default all; those without an answer are left out."""
    found: dict[int, str] = {}
    for number in devices or device_ids(machine):
        match = re.search(pattern, machine.output("hccn_tool", "-i", str(number), query, "-g"))
        if match:
            found[number] = match.group(1).strip()
    return found


def check_links(machine: RecordingMachine) -> Iterable[Finding]:
    """A port that is down blocks every collective over the network."""
    states = _states(machine, "-link", r"link status:\s*(\w+)")
    down = [number for number, state in states.items() if state != "UP"]
    if down:
        todo = f"check cable and switch port; `hccn_tool -i {down[0]} -link_stat -g` shows the history"
        yield Finding("links", ERROR, f"not UP on device {spell(down)}", todo)
    elif states:
        yield Finding("links", OK, f"UP on device {spell(states)}")
    health = _states(machine, "-net_health", r"net health status:\s*(.+)")
    ill = [number for number, state in health.items() if state not in ("Success", "Init")]
    if ill:
        what = f"device {spell(ill)}: {health[ill[0]]}"
        todo = "set a detection address in the same network: `hccn_tool -i N -netdetect -s address A.B.C.D`"
        yield Finding("net health", WARNING, what, todo)
    elif health:
        yield Finding("net health", OK, "no device reports a fault")


def check_tls(machine: RecordingMachine) -> Iterable[Finding]:
    """The tls switch must be equal on every device of every host (EI0016)."""
    states = tls_switches(machine)
    kinds = sorted(set(states.values()))
    groups = {kind: spell(int(number) for number in states if states[number] == kind) for kind in kinds}
    what = "; ".join(f"{kind} on device {ids}" for kind, ids in groups.items())
    if len(groups) > 1:
        todo = "`hccn_tool -i N -tls -s enable 0` on every device of every host"
        yield Finding("tls switch", ERROR, what, todo)
    elif groups:
        yield Finding("tls switch", OK, what + " (must be the same on every host)")


def tls_switches(machine: RecordingMachine, devices: Sequence[int] = ()) -> dict[str, str]:
    """Return "on" or "off" by device, of those that answer."""
    states = _states(machine, "-tls", r"tls switch\[(\d)\]", devices)
    return {str(number): {"0": "off", "1": "on"}.get(state, state) for number, state in states.items()}


def check_super_pod(machine: RecordingMachine) -> Iterable[Finding]:
    """An A3 belongs to a super pod; a rank table of several A3 servers needs the SDID of every device."""
    seen = view.look(machine)
    chips, generation = seen.chips, seen.generation
    if generation != "A3" or not chips:
        return
    query = ("npu-smi", "info", "-t", "spod-info", "-i")
    facts = [parse_spod(machine.output(*query, str(chip.npu_id), "-c", str(chip.chip_id))) for chip in chips]
    pods = sorted({fact["Super Pod ID"] for fact in facts if "Super Pod ID" in fact})
    without = [chip.device_id for chip, fact in zip(chips, facts) if "SDID" not in fact]
    if without:
        todo = "not needed on one server; for several, `npu-smi info -t spod-info -i 0 -c 0` must work"
        yield Finding("super pod", WARNING, f"no SDID of device {spell(without)}", todo)
    elif len(pods) > 1:
        what = f"devices of one server in super pods {', '.join(pods)}"
        yield Finding("super pod", ERROR, what, "a driver fault: reboot the server, else ask the vendor")
    else:
        yield Finding("super pod", OK, f"super pod {', '.join(pods)}, {len(facts)} SDIDs")


CHECKS: list[Check] = [check_addresses, check_links, check_tls, check_super_pod]
