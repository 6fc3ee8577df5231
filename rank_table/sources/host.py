"""This host's NPUs, collected from every source in a fixed order; each value knows its source.

1. Devices: /dev/davinciN, else npu-smi; then ASCEND_VISIBLE_DEVICES (physical ids) hides some.
2. Logical ids: the position among the devices a process can open; ASCEND_RT_VISIBLE_DEVICES renumbers them.
3. NPU, chip, generation, health: npu-smi; the generation else from the PCI ids below /sys.
4. Addresses: /etc/hccn.conf, else hccn_tool. Super pod (A3): npu-smi. Levels (950): /etc/hccl_rootinfo.json.
"""

from __future__ import annotations

from typing import Sequence

from rank_table.inventory import Device, Host, Inventory
from rank_table.ranges import spell
from rank_table.sources import chips as view
from rank_table.sources import dev_nodes, hccn, npu_smi, rootinfo
from rank_table.sources.npu_smi import SmiChip
from rank_table.sources.server_id import own_server_id
from rank_table.sources.tools import Machine
from rank_table.sources.visible import RT_VISIBLE, parse_rt_visible, parse_visible, renumber


def discover(machine: Machine, server_id: str = "", chip: str = "", everything: bool = True) -> Inventory:
    """Ask this host for its devices; a host without NPUs has none, which is not an error.

    `chip` overrides what the sources say; `everything` also asks for health and CPU affinity.

    Raises:
        InventoryError: ASCEND_VISIBLE_DEVICES is invalid, or there is no usable server_id.
    """
    notes: list[str] = []
    seen = view.look(machine)
    chips, generation = seen.chips, seen.generation
    notes.extend(seen.problems)
    devices = _devices(machine, chips)
    if not devices:
        notes = notes or ["no /dev/davinci* on this host"]
    chip_from = "asked for" if chip else "npu-smi info" if generation else "PCI id"
    generation = chip or generation or _pci(machine, chips)
    devices = _with_chips(devices, chips, generation)
    devices = _hidden(machine, devices, notes)
    devices = _with_addresses(machine, devices, notes)
    if everything:
        devices = _with_cores(machine, devices, generation)
    super_pod = ""
    if generation == "A3" and devices:
        devices, super_pod = _with_super_pod(machine, devices, notes)
    if generation == "950" and devices:
        devices = _with_levels(machine, devices, notes)
    server, server_from, host_ip = own_server_id(machine, server_id)
    origins = {"server_id": server_from}
    if generation:
        origins["chip"] = chip_from
    if super_pod:
        origins["super_pod_id"] = "npu-smi -t spod-info"
    host = Host(server, tuple(devices), host_ip, super_pod, generation, origin=origins)
    return Inventory((host,), "this host", tuple(notes))


def present(machine: Machine) -> tuple[tuple[int, ...], str]:
    """Find out cheaply whether there are NPUs: (physical ids, source)."""
    nodes = dev_nodes.device_ids(machine)
    if nodes:
        return nodes, f"/dev/davinci{spell(nodes)}"
    ids = tuple(sorted(entry.device_id for entry in view.look(machine).chips))
    return ids, "npu-smi info" if ids else ""


def openable(machine: Machine) -> list[Device]:
    """List cheaply the devices that a process here can open, with the logical ids by which it opens them.

    Raises:
        InventoryError: ASCEND_VISIBLE_DEVICES is invalid.
    """
    ids, source = present(machine)
    return _hidden(machine, [_device(number, index, source) for index, number in enumerate(ids)], [])


def _pci(machine: Machine, chips: Sequence[SmiChip]) -> str:
    generation = dev_nodes.generation(machine)
    if not generation and chips:
        board = machine.ask("npu-smi", "info", "-t", "board", "-i", str(chips[0].npu_id))
        generation = npu_smi.parse_board(board.text)
    return generation


def _devices(machine: Machine, chips: Sequence[SmiChip]) -> list[Device]:
    nodes = dev_nodes.device_ids(machine)
    if nodes:
        return [_device(number, index, f"/dev/davinci{number}") for index, number in enumerate(nodes)]
    ids = sorted({entry.device_id for entry in chips})
    return [_device(number, index, "npu-smi info") for index, number in enumerate(ids)]


def _device(number: int, index: int, source: str) -> Device:
    return Device(
        number, index, source=source, origin={"device_id": source, "logical_id": "position of " + source}
    )


def _with_chips(devices: Sequence[Device], chips: Sequence[SmiChip], generation: str) -> list[Device]:
    by_phy = {entry.device_id: entry for entry in chips}
    joined = []
    for device in devices:
        entry = by_phy.get(device.device_id)
        if entry is not None:
            device = device.know(
                "npu-smi info",
                npu_id=entry.npu_id,
                chip_id=entry.chip_id,
                health=entry.health,
                memory=f"{entry.used} / {entry.total} MB" if entry.total > 0 else "",
                holders=tuple(map(str, entry.processes)),
            )
        elif generation == "A3":  # two dies per NPU
            device = device.know(
                "A3: two dies per NPU", npu_id=device.device_id // 2, chip_id=device.device_id % 2
            )
        joined.append(device)
    return joined


def _hidden(machine: Machine, devices: list[Device], notes: list[str]) -> list[Device]:
    """Apply the two variables: physical ids first, then logical ids of what a process can open."""
    rt_visible = machine.environ.get(RT_VISIBLE)
    if rt_visible:
        ids, warning = parse_rt_visible(rt_visible, len(devices))
        devices = renumber(devices, ids)
        notes.extend([warning] if warning else [])
    visible = parse_visible(machine.environ.get("ASCEND_VISIBLE_DEVICES", ""))
    if visible is None:
        return devices
    kept = [device for device in devices if device.device_id in visible]
    if rt_visible is None and devices and not set(visible) <= {device.device_id for device in devices}:
        gone = sorted(set(visible) - {device.device_id for device in devices})
        notes.append(f"ASCEND_VISIBLE_DEVICES: device {spell(gone)} is not on this host")
    return kept


def _with_addresses(machine: Machine, devices: Sequence[Device], notes: list[str]) -> list[Device]:
    if not devices:
        return []
    addresses = hccn.addresses(machine, [device.device_id for device in devices])
    notes.extend(f"device_ip: {problem}" for problem in addresses.problems())
    addressed = []
    for device in devices:
        address, source = addresses.found.get(device.device_id, ("", ""))
        addressed.append(device.know(source, device_ip=address) if address else device)
    return addressed


def _with_cores(machine: Machine, devices: Sequence[Device], generation: str) -> list[Device]:
    if not devices or machine.find("npu-smi") is None:
        return list(devices)
    cores = npu_smi.parse_topo(machine.ask("npu-smi", "info", "-t", "topo").text)
    done = [device.know("npu-smi -t topo", cores=_cores_of(device, cores, generation)) for device in devices]
    asked = [device for device in done if not device.health and device.npu_id >= 0]
    calls = [("info", "-t", "health", "-i", str(d.npu_id), *_chip_option(d, generation)) for d in asked]
    health = {
        device.device_id: npu_smi.parse_health(result.text)
        for device, result in zip(asked, machine.ask_all("npu-smi", calls))
    }
    return [device.know("npu-smi -t health", health=health.get(device.device_id, "")) for device in done]


def _chip_option(device: Device, generation: str) -> tuple[str, ...]:
    """Return -c and the chip; a 950 has one chip on each NPU and refuses the option."""
    return () if generation == "950" else ("-c", str(max(0, device.chip_id)))


def _cores_of(device: Device, cores: dict[int, str], generation: str) -> str:
    """Look up the row of a device: on A3 the matrix may have a row for each die."""
    by_die = generation == "A3" and max(cores, default=-1) > max(0, device.npu_id) and len(cores) > 8
    return cores.get(device.device_id if by_die or device.npu_id < 0 else device.npu_id, "")


def _with_super_pod(
    machine: Machine, devices: Sequence[Device], notes: list[str]
) -> tuple[list[Device], str]:
    calls = [("info", "-t", "spod-info", "-i", str(d.npu_id), "-c", str(d.chip_id)) for d in devices]
    results = machine.ask_all("npu-smi", calls)
    facts = [npu_smi.parse_spod(result.text) for result in results]
    notes.extend([f"super_device_id: {r.problem}" for r in results if r.problem][:1])
    pods = sorted({fact["Super Pod ID"] for fact in facts if "Super Pod ID" in fact})
    if len(pods) > 1:
        notes.append(f"npu-smi -t spod-info: devices in several super pods: {', '.join(pods)}")
    done = [
        device.know("npu-smi -t spod-info", super_device_id=fact.get("SDID", ""))
        for device, fact in zip(devices, facts)
    ]
    return done, pods[0] if pods else ""


def _with_levels(machine: Machine, devices: Sequence[Device], notes: list[str]) -> list[Device]:
    facts, problem = rootinfo.levels(machine)
    if problem:
        notes.append(problem)
    return [device.know(rootinfo.PATH, **facts.get(device.device_id, {})) for device in devices]
