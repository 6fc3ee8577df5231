"""Which devices a launch gets, and on what: NPUs of this host, of an inventory file, or virtual CPU devices."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Mapping, Optional, Sequence, Tuple

from launcher.errors import PreflightError, UsageError
from rank_table.inventory import Inventory, InventoryError, spell, virtual_cpu
from rank_table.sources.tools import Machine

BACKENDS = ("cpu", "npu", "auto")


@dataclass(frozen=True)
class Selection:
    """Hold the devices of a launch, the backend (cpu or npu) and the lines that say why."""

    inventory: Inventory
    backend: str
    notes: Tuple[str, ...] = ()


def choose_inventory(
    devices: Tuple[int, ...],
    backend: str,
    inventory_file: str,
    environ: Mapping[str, str],
    machine: Optional[Machine] = None,
) -> Selection:
    """Choose the devices of a launch. `devices` are physical ids, on every host of an inventory file.

    Raises:
        UsageError: an unknown backend, a broken inventory file, a device that is not there.
        PreflightError: NPUs are asked for and this machine has none.
    """
    if backend not in BACKENDS:
        raise UsageError("backend: %s is none of %s" % (backend, ", ".join(BACKENDS)))
    machine = machine or Machine(environ)
    try:
        if inventory_file:
            return _from_file(devices, backend, inventory_file, machine)
        return _from_machine(devices, backend, machine)
    except InventoryError as error:
        raise UsageError("%s" % error) from None


def _from_file(devices: Sequence[int], backend: str, path: str, machine: Machine) -> Selection:
    from rank_table.sources import inventory_file

    inventory = inventory_file.read(path).only(devices)
    notes = inventory.notes
    if backend == "auto":
        backend, reason = _auto(machine)
        notes += ("backend %s: %s; devices from %s" % (backend, reason, path),)
    return Selection(inventory, backend, notes)


def _from_machine(devices: Sequence[int], backend: str, machine: Machine) -> Selection:
    reason = ""
    if backend == "auto":
        backend, reason = _auto(machine)
    note = ("backend %s: %s" % (backend, reason),) if reason else ()
    if backend == "cpu":
        return Selection(virtual_cpu(devices), "cpu", note)
    from rank_table.sources import host

    inventory = host.discover(machine, everything=False)
    if not inventory.hosts[0].devices:
        raise _no_npu(inventory)
    return Selection(_only(inventory, devices), "npu", note + inventory.notes)


def _only(inventory: Inventory, devices: Sequence[int]) -> Inventory:
    """Keep the devices asked for; those that the runtime hides are not there for a launch."""
    try:
        return inventory.only(devices)
    except InventoryError as error:
        raise PreflightError(
            "--devices %s: %s (see npu-launch inventory --explain)" % (spell(devices), error)
        ) from None


def _no_npu(inventory: Inventory) -> PreflightError:
    why = "; ".join(inventory.notes) or "no device is visible"
    return PreflightError(
        "backend npu: no NPU on this machine (%s); mount the devices and the driver, "
        "name an inventory file, or take backend=cpu" % why
    )


def _auto(machine: Machine) -> Tuple[str, str]:
    """Choose the backend: (cpu or npu, why)."""
    from rank_table.sources import host

    ids, where = host.present(machine)
    if ids:
        return "npu", "%d NPUs here (%s)" % (len(ids), where)
    return "cpu", "no NPU here (no /dev/davinci*, no npu-smi that lists one), so virtual devices"


def rename(selection: Selection, server_id: str) -> Selection:
    """Give this host another server_id."""
    first = replace(selection.inventory.hosts[0], server_id=server_id)
    return replace(
        selection, inventory=replace(selection.inventory, hosts=(first, *selection.inventory.hosts[1:]))
    )
