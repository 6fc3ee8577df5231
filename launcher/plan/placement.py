"""The devices of a launch: this host's NPUs, virtual CPU devices, those of an inventory file or a table."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Callable, Mapping, Sequence

from launcher.errors import ConfigError, LauncherError, PreflightError, UsageError
from launcher.hccl.variables import visible_devices
from launcher.plan.this_host import own_server
from rank_table.errors import InventoryError, RankTableError
from rank_table.inventory import Inventory, virtual_cpu
from rank_table.ranges import spell
from rank_table.sources.tools import Machine
from rank_table.sources.visible import RT_VISIBLE
from rank_table.table import RankTable

BACKENDS = ("cpu", "npu", "auto")
THIS_HOST = "this host"  # source of an inventory that hosts have told of themselves


@dataclass(frozen=True)
class Selection:
    """The devices of a launch, the backend (cpu or npu) and the lines that say why."""

    inventory: Inventory
    backend: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Placement:
    """Which rank has which device: the rank table, its text as it is written, this host's server_id in it."""

    table: RankTable
    text: str
    server_id: str
    backend: str
    logical_ids: Mapping[tuple[str, int], int]  # (server_id, physical id) -> ASCEND_DEVICE_ID
    notes: tuple[str, ...] = ()


def choose_inventory(
    devices: tuple[int, ...],
    backend: str,
    inventory_file: str,
    machine: Machine,
    chip: str = "",
) -> Selection:
    """Choose the devices of a launch. `devices` are physical ids, on every host of an inventory file.

    `chip` (910A, A2, A3, 950) takes precedence over what the sources report.

    Raises:
        UsageError: an unknown backend, an invalid inventory file, a device that is not in it.
        PreflightError: NPUs are requested and this machine has none, or not those.
    """
    backend, note = choose_backend(backend, machine)
    try:
        if inventory_file:
            return _from_file(devices, backend, inventory_file, chip, note)
        if backend == "cpu":
            return Selection(virtual_cpu(devices), backend, note)
        return _from_machine(devices, machine, chip, note)
    except InventoryError as error:
        raise UsageError(f"{error}") from None


def choose_backend(backend: str, machine: Machine) -> tuple[str, tuple[str, ...]]:
    """Return cpu or npu, and for `auto` the line that says which and why.

    Raises:
        UsageError: an unknown backend, or NPUs of which the shell's list is one that CANN refuses.
    """
    chosen, note = _backend(backend, machine)
    problem = visible_devices(machine.environ.get(RT_VISIBLE, "")) if chosen == "npu" else ""
    if problem:
        raise ConfigError(problem, file="environment", key=RT_VISIBLE)
    return chosen, note


def _backend(backend: str, machine: Machine) -> tuple[str, tuple[str, ...]]:
    if backend not in BACKENDS:
        raise UsageError(f"backend: unknown backend {backend!r} (expected {', '.join(BACKENDS)})")
    if backend != "auto":
        return backend, ()
    from rank_table.sources import host

    ids, where = host.present(machine)
    if ids:
        return "npu", (f"backend npu: {len(ids)} NPUs here ({where})",)
    return "cpu", (
        "backend cpu: no NPU here (no /dev/davinci*, no npu-smi that lists one), so virtual devices",
    )


def _from_file(
    devices: Sequence[int], backend: str, path: str, chip: str, note: tuple[str, ...]
) -> Selection:
    inventory = read_inventory(path, devices, chip)
    return Selection(inventory, backend, note + inventory.notes)


def read_inventory(path: str, devices: Sequence[int] | None, chip: str = "") -> Inventory:
    """Read an inventory file. devices: on every host of it, None for all. UsageError: it has not got them."""
    from rank_table.sources import inventory_file

    try:
        inventory = inventory_file.read(path)
        inventory = inventory if devices is None else inventory.only(devices)
    except InventoryError as error:
        raise UsageError(str(error) if str(error).startswith(path) else f"{path}: {error}") from None
    if chip:
        inventory = replace(inventory, hosts=tuple(replace(host, chip=chip) for host in inventory.hosts))
    return inventory


def _from_machine(devices: Sequence[int], machine: Machine, chip: str, note: tuple[str, ...]) -> Selection:
    from rank_table.sources import host

    inventory = host.discover(machine, chip=chip, everything=False)
    if not inventory.hosts[0].devices:
        raise _no_npu(inventory)
    try:
        return Selection(inventory.only(devices), "npu", note + inventory.notes)
    except InventoryError as error:
        hint = "see npu-launch inventory --explain"
        raise PreflightError(f"--devices {spell(devices)}: {error} ({hint})") from None


def _no_npu(inventory: Inventory) -> PreflightError:
    why = "; ".join(inventory.notes) or "no device is visible"
    return PreflightError(
        f"backend npu: no NPU on this machine ({why}); mount the devices and the driver, "
        "give an inventory file, or use backend=cpu"
    )


def given_table(
    path: str,
    backend: str,
    machine: Machine,
    limit: float = 1800.0,
    notify: Callable[[str], None] = lambda line: None,
) -> Placement:
    """Take a finished rank table (`rank_table_file:`).

    Raises:
        UsageError, PreflightError: as of read_table, or this host is not in it.
    """
    backend, note = choose_backend(backend, machine)
    table, text = read_table(path, limit, notify)
    server = own_server(table, machine)
    return Placement(table, text, server, backend, logical_ids(table, server, backend, machine), note)


def read_table(
    path: str, limit: float = 1800.0, notify: Callable[[str], None] = lambda line: None
) -> tuple[RankTable, str]:
    """Read a rank table and its text, waiting up to `limit` seconds for its completion.

    Raises:
        UsageError: neither the file nor its folder exists, or it is not a rank table.
        PreflightError: not completed in time.
    """
    from rank_table import wait

    if not os.path.isdir(os.path.dirname(os.path.abspath(path))):
        raise UsageError(f"rank_table_file: {path}: no such file")
    try:
        return wait.wait_for(path, limit, notify)
    except wait.StillWaiting as error:
        raise PreflightError(f"rank_table_file: {error}; check the program that writes it") from None
    except RankTableError as error:
        raise UsageError(f"rank_table_file: {error}; see npu-launch rank-table check {path}") from None


def logical_ids(
    table: RankTable, server_id: str, backend: str, machine: Machine
) -> dict[tuple[str, int], int]:
    """Map the devices of a given table to logical ids: this host's by its sources, others' by position."""
    found: dict[tuple[str, int], int] = {}
    for server in table.servers:
        ids: list[int] = sorted(rank.device_id for rank in table.ranks_of(server))
        found.update({(server, device): index for index, device in enumerate(ids)})
    if backend == "npu":
        from rank_table.sources import host

        try:
            here = host.discover(machine, server_id, everything=False).hosts[0]
        except InventoryError as error:
            raise UsageError(f"{error}") from None
        found.update({(server_id, device.device_id): device.logical_id for device in here.devices})
    return found


def made_table(selection: Selection, machine: Machine, *, unread: bool = False) -> Placement:
    """Make the rank table of the chosen devices. unread: as of `rendered`."""
    hosts = selection.inventory.hosts
    table, text = rendered(selection.inventory, unread=unread)
    logical = {(host.server_id, item.device_id): item.logical_id for host in hosts for item in host.devices}
    server = own_server(table, machine)
    return Placement(table, text, server, selection.backend, logical, selection.notes)


def rendered(inventory: Inventory, *, unread: bool = False) -> tuple[RankTable, str]:
    """Make a rank table, and its text.

    unread: neither HCCL nor a framework reads it; where links are not known it has ranks and devices alone.

    Raises:
        UsageError, PreflightError: why there can be none.
    """
    from rank_table.render import render

    try:
        table = RankTable.from_hosts(inventory.hosts)
    except RankTableError as error:
        if not unread:
            raise _not_made(inventory, error) from None
        table = RankTable.from_hosts(inventory.hosts, "1.0")
    return table, render(table)


def _not_made(inventory: Inventory, error: RankTableError) -> LauncherError:
    """Say why there can be no table: an inventory file lacks something, or the hosts' own files do."""
    if inventory.source != THIS_HOST:
        return UsageError(f"{inventory.source}: {error}")
    why = [note for note in inventory.notes if "rootinfo" in note or "super_device_id" in note]
    return PreflightError("; ".join([str(error), *why]))
