"""Doctor's checks of the devices; on a machine without an NPU they report just that."""

from __future__ import annotations

import os
from typing import Iterable, Sequence

from launcher.checks.finding import ERROR, OK, WARNING, Finding
from launcher.checks.machine import Check, RecordingMachine, has_npu
from rank_table.ranges import spell
from rank_table.sources.dev_nodes import device_ids
from rank_table.sources.npu_smi import SmiChip, parse_info


def check_devices(machine: RecordingMachine) -> Iterable[Finding]:
    """Count the devices, and name those that are unhealthy or in use."""
    if not has_npu(machine):
        yield Finding(
            "devices", OK, "no NPU on this machine: jobs run on virtual CPU devices (--backend cpu)"
        )
        return
    nodes, (chips, generation) = device_ids(machine), parse_info(machine.output("npu-smi", "info"))
    if not nodes:
        todo = "load the driver; in a container pass the devices in"
        yield Finding("devices", ERROR, "no /dev/davinciN", todo)
    if not chips:
        todo = "`npu-smi info` must work for this user (group HwHiAiUser); the driver may not be loaded"
        yield Finding("npu-smi", WARNING, "no table of devices in its output", todo)
        return
    kind = f" ({generation})" if generation else ""
    names = f"{spell(nodes) or 'none'}, npu-smi shows {len(chips)}: {chips[0].name}{kind}"
    hidden = "a container sees only the devices passed in; choose from those"
    if len(nodes) == len(chips):
        yield Finding("devices", OK, f"/dev/davinci {names}")
    else:
        yield Finding("devices", WARNING, f"/dev/davinci {names}", hidden)
    yield from _access(machine, nodes)
    yield from _health(chips)
    yield from _holders(chips)


def _access(machine: RecordingMachine, nodes: Sequence[int]) -> Iterable[Finding]:
    """A rank opens its device node for reading and writing."""
    closed = [n for n in nodes if not os.access(machine.path(f"/dev/davinci{n}"), os.R_OK | os.W_OK)]
    if closed:
        todo = "join the group HwHiAiUser (`usermod -aG HwHiAiUser $USER`), or run as root"
        yield Finding("access", ERROR, f"device {spell(closed)} may not be opened by this user", todo)


def _health(chips: Sequence[SmiChip]) -> Iterable[Finding]:
    ill = [chip for chip in chips if chip.health != "OK"]
    for chip in ill:
        command = f"`npu-smi info -t health -i {chip.npu_id} -c {chip.chip_id}`"
        todo = f"{command} shows the error code; leave the device out of --devices"
        yield Finding("health", ERROR, f"device {chip.device_id} is {chip.health}", todo)
    if not ill:
        yield Finding("health", OK, "all OK")


def _holders(chips: Sequence[SmiChip]) -> Iterable[Finding]:
    held = [chip for chip in chips if chip.processes]
    for chip in held:
        todo = "end the process, or choose other devices; a killed run may leave child processes"
        names = ", ".join(map(str, chip.processes))
        yield Finding("holders", WARNING, f"device {chip.device_id}: {names}", todo)
    if not held:
        yield Finding("holders", OK, "no process on any device")


CHECKS: list[Check] = [check_devices]
