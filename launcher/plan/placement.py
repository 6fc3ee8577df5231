"""Which devices a launch gets: this host's NPUs, virtual CPU devices, an inventory file's, a table's."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, replace
from typing import Callable, Mapping, Sequence

from launcher.errors import PreflightError, UsageError
from rank_table.inventory import Inventory, InventoryError, virtual_cpu
from rank_table.ranges import spell
from rank_table.sources.tools import Machine
from rank_table.table import RankTable, RankTableError

BACKENDS = ("cpu", "npu", "auto")
# Keys of a server entry that may hold an address of the host or of the pod.
ADDRESS_KEYS = ("host_ip", "server_ip", "container_ip", "pod_ip")
# Variables that hold the host's or the pod's address, and the pod's name: MindCluster, ModelArts.
ADDRESS_VARIABLES = ("XDL_IP", "MINDX_SERVER_IP", "HOST_IP", "POD_IP", "MA_CURRENT_HOST_IP", "MA_CURRENT_IP")
POD_VARIABLES = ("POD_NAME", "BATCH_TASK_CURRENT_INSTANCE", "MA_CURRENT_INSTANCE_NAME")


@dataclass(frozen=True)
class Selection:
    """Hold the devices of a launch, the backend (cpu or npu) and the lines that say why."""

    inventory: Inventory
    backend: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class GivenTable:
    """Hold a finished rank table: the model, the text as it stands, and this host's name in it."""

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
    environ: Mapping[str, str],
    machine: Machine | None = None,
    chip: str = "",
) -> Selection:
    """Choose the devices of a launch. `devices` are physical ids, on every host of an inventory file.

    `chip` (910A, A2, A3, 950) overrules what the sources say of the generation.

    Raises:
        UsageError: an unknown backend, a broken inventory file, a device that is not in it.
        PreflightError: NPUs are asked for and this machine has none, or not those.
    """
    machine = machine or Machine(environ)
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
    """Give cpu or npu, and for `auto` the line that says which and why. UsageError: another word."""
    if backend not in BACKENDS:
        raise UsageError("backend: {} is none of {}".format(backend, ", ".join(BACKENDS)))
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
    from rank_table.sources import inventory_file

    try:
        inventory = inventory_file.read(path).only(devices)
    except InventoryError as error:
        raise UsageError(str(error) if str(error).startswith(path) else f"{path}: {error}") from None
    if chip:
        inventory = replace(inventory, hosts=tuple(replace(host, chip=chip) for host in inventory.hosts))
    return Selection(inventory, backend, note + inventory.notes)


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
        "name an inventory file, or take backend=cpu"
    )


def given_table(
    path: str,
    backend: str,
    environ: Mapping[str, str],
    limit: float = 1800.0,
    notify: Callable[[str], None] = lambda line: None,
    machine: Machine | None = None,
) -> GivenTable:
    """Take a finished rank table (`rank_table_file:`), waiting up to `limit` seconds for its completion.

    Raises:
        UsageError: no such file and no folder it could appear in, or no rank table.
        PreflightError: not completed in time, or this host is not in it.
    """
    from rank_table import wait

    machine = machine or Machine(environ)
    backend, note = choose_backend(backend, machine)
    if not os.path.isdir(os.path.dirname(os.path.abspath(path))):
        raise UsageError(f"rank_table_file: {path}: no such file")
    try:
        table, text = wait.wait_for(path, limit, notify)
    except wait.StillWaiting as error:
        raise PreflightError(f"rank_table_file: {error}; look at what writes it") from None
    except RankTableError as error:
        raise UsageError(f"rank_table_file: {error}; see npu-launch rank-table check {path}") from None
    server = own_server(table, machine)
    return GivenTable(table, text, server, backend, logical_ids(table, server, backend, machine), note)


def own_server(table: RankTable, machine: Machine) -> str:
    """Find this host in a table: the only server, else by pod, address, host name, or its NPUs' addresses.

    Raises:
        PreflightError: it is none of the servers.
    """
    if len(table.servers) == 1:
        return table.servers[0]
    pods = {machine.environ.get(name, "") for name in POD_VARIABLES} - {""}
    names = _names(machine)
    for entry in table.server_list:
        known = {entry.server_id} | {str(entry.extra.get(key)) for key in ADDRESS_KEYS}
        if entry.pod_name in pods or known & names:
            return entry.server_id
    found = _by_device_ip(table, machine)
    if not found:
        raise PreflightError(
            "this host is none of the table's servers ({}); its names are {}".format(
                ", ".join(table.servers[:8]), ", ".join(sorted(names))
            )
        )
    return found


def _names(machine: Machine) -> set[str]:
    """Give every name of this host: variables of the platform, addresses, the host name; no look-up."""
    import psutil

    names = {machine.environ.get(name, "") for name in ADDRESS_VARIABLES} | {socket.gethostname()}
    for addresses in psutil.net_if_addrs().values():
        names.update(item.address.split("%")[0] for item in addresses if item.family != psutil.AF_LINK)
    return {name for name in names if name and not name.startswith("127.") and name != "::1"}


def _by_device_ip(table: RankTable, machine: Machine) -> str:
    from rank_table.sources import hccn

    mine = {address for address, _ in hccn.parse_conf(machine.read(hccn.CONF) or "").values()}
    for rank in table.ranks:
        if mine & set(rank.device_ip.split(",")) - {""}:
            return rank.server_id
    return ""


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

        for device in host.discover(machine, server_id, everything=False).hosts[0].devices:
            found[(server_id, device.device_id)] = device.logical_id
    return found
