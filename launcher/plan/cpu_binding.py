"""The cores of each rank: chosen by a pure function from what `read_topology` reads."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterable, Iterator, Mapping, Sequence, Tuple

from launcher.errors import UsageError
from launcher.hccl.variables import ERROR, NOTE
from launcher.plan.cpu_quota import UNLIMITED, cpu_quota, most_cores
from rank_table.ranges import parse_lenient

MODES = ("none", "even", "numa")
Cores = Tuple[int, ...]


@dataclass(frozen=True)
class Topology:
    """The cores that this process may use, the NUMA nodes, and the cores near each device."""

    allowed: Cores
    nodes: tuple[Cores, ...] = ()
    near: Mapping[int, Cores] = field(default_factory=dict)  # by physical device id
    quota: float = UNLIMITED  # CPUs' time that the container may use


def cores_for(mode: str, local_ranks: Mapping[int, int], topology: Topology) -> dict[int, Cores]:
    """Choose the cores of each local rank (rank -> physical device id); empty when none are bound.

    even: contiguous shares of the allowed cores. numa: the allowed cores near the rank's device, shared
    evenly by the ranks near the same cores; a rank whose device has no known place (or none that is allowed)
    gets a NUMA node in turn. With fewer cores than ranks, ranks share one. A rank gets no more cores than its
    share of the container's quota keeps busy.

    Raises:
        UsageError: no such mode.
    """
    if mode not in MODES:
        raise UsageError(f"bind: unknown mode {mode!r} (expected {', '.join(MODES)})")
    ranks = sorted(local_ranks)
    if mode == "none" or not ranks or not topology.allowed:
        return {}
    most = most_cores(topology.quota, len(ranks))
    found = _even_or_near(mode, ranks, local_ranks, topology)
    return {rank: cores[:most] for rank, cores in found.items()}


def _even_or_near(
    mode: str, ranks: Sequence[int], local_ranks: Mapping[int, int], topology: Topology
) -> dict[int, Cores]:
    if mode == "even":
        return _shares(ranks, sorted(topology.allowed))
    groups: dict[Cores, list[int]] = {}
    for place, rank in enumerate(ranks):
        groups.setdefault(_near(place, len(ranks), local_ranks[rank], topology), []).append(rank)
    bound: dict[int, Cores] = {}
    for cores, mates in groups.items():
        bound.update(_shares(mates, cores))
    return bound


def _near(place: int, count: int, device: int, topology: Topology) -> Cores:
    allowed = set(topology.allowed)
    near = tuple(sorted(allowed & set(topology.near.get(device, ()))))
    if near:
        return near
    nodes = [node for node in (tuple(sorted(allowed & set(node))) for node in topology.nodes) if node]
    # Neighbours share a node: ranks 0-3 on the first of two, 4-7 on the second.
    return nodes[place * len(nodes) // count] if nodes else tuple(sorted(allowed))


def _shares(ranks: Sequence[int], cores: Sequence[int]) -> dict[int, Cores]:
    count, total = len(ranks), len(cores)
    bounds = [(index * total // count, (index + 1) * total // count) for index in range(count)]
    return {
        rank: tuple(cores[first:last]) or (cores[first % total],)
        for rank, (first, last) in zip(ranks, bounds)
    }


def rivals(env: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Yield what would bind the cores of a rank beside `bind`: (error or note, variable, what it does).

    CPU_AFFINITY_CONF is read by torch_npu/csrc/core/npu/NPUAffinityController.cpp (9e73e708a): a mode (1, 2
    or mode:1) and options. It lets be a process whose cores are limited already, unless force:1. MindSpore
    reads MS_ENABLE_NUMA and DATASET_ENABLE_NUMA; Paddle has no such variable for NPUs.
    """
    framework, value = env.get("NPU_LAUNCH_FRAMEWORK", ""), env.get("CPU_AFFINITY_CONF", "")
    modes = re.findall(r"(?:^|,)(?:mode:)?(\d+)(?=,|$)", value)
    if framework in ("torch", "none") and modes and int(modes[0]):
        if "force:1" in value:
            yield ERROR, "CPU_AFFINITY_CONF", f"{value!r}: torch_npu would undo `bind`; remove one of the two"
        else:
            what = "no effect beside `bind`, as torch_npu finds the cores limited; remove one of the two"
            yield NOTE, "CPU_AFFINITY_CONF", f"{value}: {what}"
    for name in ("MS_ENABLE_NUMA", "DATASET_ENABLE_NUMA"):
        if framework == "mindspore" and env.get(name, "").strip() == "True":
            yield NOTE, name, "MindSpore moves threads to a NUMA node of its choice, beside `bind`"


def parse_cores(text: str) -> Cores:
    """Read a kernel list of cores: `0-3,8` (also with blanks, as npu-smi may write it)."""
    return tuple(sorted(parse_lenient(text)))


def allowed_cores() -> Cores:
    """Return the cores that the kernel lets this process use, within its cpuset and taskset."""
    return tuple(sorted(os.sched_getaffinity(0)))


def read_nodes(root: str = "/") -> tuple[Cores, ...]:
    """Read the NUMA nodes that have cores from sysfs."""
    found = Path(root, "sys/devices/system/node").glob("node[0-9]*/cpulist")
    lists = sorted(found, key=lambda path: int(path.parent.name[len("node") :]))
    return tuple(filter(None, (parse_cores(path.read_text()) for path in lists)))


def read_topology(backend: str, devices: Iterable[int] = (), root: str = "/") -> Topology:
    """Read the cores near each NPU from npu-smi, else the NUMA node of its PCI address from sysfs."""
    nodes = read_nodes(root)
    near = _near_npus(devices, nodes, root) if backend == "npu" else {}
    return Topology(allowed_cores(), nodes, near, cpu_quota(root))


def _near_npus(devices: Iterable[int], nodes: Sequence[Cores], root: str) -> dict[int, Cores]:
    from rank_table.errors import InventoryError
    from rank_table.sources import host
    from rank_table.sources.tools import Machine

    machine = Machine(os.environ, root)
    near: dict[int, Cores] = {}
    slots: dict[int, int] = {}
    with suppress(InventoryError):
        found = host.discover(machine, "any").hosts[0].devices
        slots = {device.device_id: device.npu_id for device in found if device.npu_id >= 0}
        near = {device.device_id: parse_cores(device.cores) for device in found if device.cores}
    for device in sorted(set(devices) - set(near)):
        node = _node_of(machine, slots.get(device, device))
        if 0 <= node < len(nodes):
            near[device] = nodes[node]
    return near


def _node_of(machine: Any, slot: int) -> int:
    """Return the NUMA node of an NPU's PCI address; -1 if it is not known, as in virtual machines."""
    board = machine.ask("npu-smi", "info", "-t", "board", "-i", str(slot)).text
    match = re.search(r"PCIe Bus Info\s*:\s*(\S+)", board)
    text = machine.read(f"/sys/bus/pci/devices/{match.group(1).lower()}/numa_node") if match else ""
    return int(text) if text and text.strip().isdigit() else -1
