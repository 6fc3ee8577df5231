"""Doctor's checks of the devices; on a machine without an NPU they report just that."""

from __future__ import annotations

import os
from typing import Iterable, Sequence

from launcher.checks import device_state
from launcher.checks.finding import ERROR, OK, WARNING, Finding
from launcher.checks.machine import Check, RecordingMachine, has_npu
from rank_table.ranges import spell
from rank_table.sources import chips as view
from rank_table.sources.dev_nodes import device_ids
from rank_table.sources.npu_smi import SmiChip


def check_devices(machine: RecordingMachine) -> Iterable[Finding]:
    """Count the devices, and name those that are unhealthy or in use."""
    if not has_npu(machine):
        yield Finding(
            "devices", OK, "no NPU on this machine: jobs run on virtual CPU devices (--backend cpu)"
        )
        return
    nodes, seen = device_ids(machine), view.look(machine)
    if not nodes:
        todo = "load the driver; in a container pass the devices in"
        yield Finding("devices", ERROR, "no /dev/davinciN", todo)
    yield from _access(machine, nodes)
    todo = "`npu-smi info` must work for this user (group HwHiAiUser), with the driver loaded"
    yield from (Finding("npu-smi", WARNING, problem, todo) for problem in seen.problems)
    if not seen.known:
        return
    yield _counted(nodes, seen)
    yield from _health(seen.chips)
    yield from _holders(seen.chips)


def _counted(nodes: Sequence[int], seen: view.View) -> Finding:
    """Compare the device nodes with the devices that npu-smi shows."""
    kind = f" ({seen.generation})" if seen.generation else ""
    names = f"{spell(nodes) or 'none'}, npu-smi shows {len(seen.chips)}: {seen.chips[0].name}{kind}"
    shown = sorted(chip.device_id for chip in seen.chips)
    if shown == list(nodes):
        return Finding("devices", OK, f"/dev/davinci {names}")
    todo = "a container sees only the devices passed in; choose from those"
    return Finding("devices", WARNING, f"/dev/davinci {names}, as device {spell(shown)}", todo)


def _access(machine: RecordingMachine, nodes: Sequence[int]) -> Iterable[Finding]:
    """A rank opens its device node for reading and writing."""
    closed = [n for n in nodes if not os.access(machine.path(f"/dev/davinci{n}"), os.R_OK | os.W_OK)]
    if closed:
        todo = "join the group HwHiAiUser (`usermod -aG HwHiAiUser $USER`), or run as root"
        yield Finding("access", ERROR, f"device {spell(closed)} may not be opened by this user", todo)


def _health(chips: Sequence[SmiChip]) -> Iterable[Finding]:
    ill = list(device_state.health(chips))
    yield from (Finding("health", *problem) for problem in ill)
    if not ill:
        yield Finding("health", OK, "all OK")


def _holders(chips: Sequence[SmiChip]) -> Iterable[Finding]:
    held = [chip for chip in chips if chip.processes]
    for chip in held:
        todo = "end the process, or choose other devices; a killed run may leave child processes"
        what = f"device {chip.device_id}: {', '.join(map(str, chip.processes))}"
        if chip.total > 0:
            what += f"; {chip.used:,} of {chip.total:,} MB of its memory are taken"
        yield Finding("holders", WARNING, what, todo)
    lost = list(device_state.memory(chips))
    yield from (Finding("memory", *problem) for problem in lost)
    if not held:
        yield Finding("holders", OK, "no process on any device")


CHECKS: list[Check] = [check_devices]
