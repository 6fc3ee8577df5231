"""Device nodes, /dev/davinciN with N as the physical id, and the PCI ids below /sys."""

from __future__ import annotations

import re

from rank_table.sources.npu_smi import pci_generation
from rank_table.sources.tools import Machine

PCI = "/sys/bus/pci/devices"


def device_ids(machine: Machine) -> tuple[int, ...]:
    """List the physical ids that have a node; davinci_manager and other names are not devices."""
    names = (re.match(r"davinci(\d{1,5})\Z", name) for name in machine.names("/dev"))
    return tuple(sorted(int(match.group(1)) for match in names if match))


def generation(machine: Machine) -> str:
    """Derive the generation of the host's NPUs from their PCI ids; "" when there are none or several."""
    found = set()
    for name in machine.names(PCI):
        if (machine.read(f"{PCI}/{name}/vendor") or "").strip() == "0x19e5":
            found.add(pci_generation(machine.read(f"{PCI}/{name}/device") or ""))
    found.discard("")
    return found.pop() if len(found) == 1 else ""
